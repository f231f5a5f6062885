//! Images found in files, and why a file or a name could not be used.

use std::{fmt, ops::Range, path::Path};

use taglog_proto::name::{Image, Reference, Tag};
use thiserror::Error;

pub use taglog_base::place::{Excluded, LeftOut, Place};
use taglog_base::text::one_line;

/// An image that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImage {
    /// Where its name is written; the first line for a frontend that a build argument names.
    pub place: Place,
    /// The name as written, variables and all.
    pub written: String,
    /// What it means, with the defaults that the file gives to its variables.
    pub reference: Reference,
    /// The bytes of the file that are the whole name as one literal, so that others can be put in their place; `None`
    /// if it is made of variables, written with escapes, or not in the file at all.
    pub span: Option<Range<usize>>,
}

impl FoundImage {
    /// What to look up: without a tag it is `latest`, as Docker has it.
    ///
    /// # Errors
    /// [`DigestOnly`].
    pub fn image(&self) -> Result<Image, DigestOnly> {
        let Reference { repository, tag, digest } = &self.reference;
        let latest = || Tag::parse("latest").ok().filter(|_| digest.is_none());
        let tag = tag.clone().or_else(latest).ok_or(DigestOnly)?;
        Ok(Image { repository: repository.clone(), tag })
    }
}

/// A reference without a tag: what it means cannot change, and the log knows nothing to check it against.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("named by its digest alone: it has no tag that could be moved, or that a log has a history of")]
pub struct DigestOnly;

/// What files name, in the order of the files and their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// The images.
    pub images: Vec<FoundImage>,
    /// What was left out. A caller that promises to cover every image must not ignore it.
    pub left_out: Vec<LeftOut>,
    /// Images that are not asked about, since the files themselves say so: the name that a build gives to its result.
    pub excluded: Vec<Excluded>,
}

impl ScanResult {
    pub(crate) fn add(&mut self, other: ScanResult) {
        self.images.extend(other.images);
        self.left_out.extend(other.left_out);
        self.excluded.extend(other.excluded);
    }
}

/// Why a file could not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct SourceError {
    /// Where.
    pub place: Place,
    /// Why.
    pub problem: SourceProblem,
}

/// What is wrong with a file. Each message says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceProblem {
    /// The operating system says no.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// Over [`MAX_FILE`](crate::MAX_FILE).
    #[error("the file is over the limit of 4 MiB: split it, and name the parts that name images")]
    TooLarge,
    /// Not UTF-8.
    #[error("the file is not UTF-8 text: convert it first")]
    NotText,
    /// The syntax is broken, or the file goes beyond a limit that bounds memory and time.
    #[error("the file is not understood: {0}")]
    SyntaxError(String),
    /// `{{ … }}` stands where a value should.
    #[error("a template that is not rendered ('{{{{'): render it first, as with 'helm template … | taglog … -f -'")]
    Template,
    /// None of the kinds of files that are understood.
    #[error(
        "no kind of file that is understood: want a Dockerfile, a Compose file, Kubernetes manifests, a GitHub \
         Actions workflow or a GitLab CI pipeline"
    )]
    UnknownKind,
}

/// Where and how the syntax of a file is broken.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

pub(crate) fn unreadable(path: &Path, error: &impl fmt::Display) -> SourceError {
    let place = Place { file: path.display().to_string(), line: 1 };
    SourceError { place, problem: SourceProblem::Unreadable(one_line(&error.to_string())) }
}
