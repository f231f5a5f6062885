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
    /// What the walk of a directory passed over.
    pub skipped: Vec<Skipped>,
}

/// A file or a directory that the walk of a directory passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The path as the walk found it.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: skipped: {}", one_line(&self.path), self.reason)
    }
}

impl ScanResult {
    /// Whether nothing at all was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.left_out.is_empty() && self.excluded.is_empty()
    }

    pub(crate) fn add(&mut self, other: ScanResult) {
        self.images.extend(other.images);
        self.left_out.extend(other.left_out);
        self.excluded.extend(other.excluded);
        self.skipped.extend(other.skipped);
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
    #[error("the file is over the limit of {} MiB: split it, and name the parts that name images", crate::MAX_FILE >> 20)]
    TooLarge,
    /// Not UTF-8.
    #[error(
        "the file is not UTF-8 text: convert it first, as with 'iconv -f latin1 -t utf-8 FILE > NEW' if it is Latin-1"
    )]
    NotText,
    /// The syntax is broken, or the file goes beyond a limit that bounds memory and time.
    #[error("the file is not understood: {0}")]
    SyntaxError(String),
    /// `{{ … }}` stands where a value should.
    #[error("a template that is not rendered ('{{{{'): render it first, as with 'helm template … | taglog … -f -'")]
    Template,
    /// None of the kinds of files that are understood.
    #[error(
        "no kind of file that is read: want a Dockerfile, a Compose file, Kubernetes manifests, or the file of a CI system \
         or a tool that verifier-cli/docs/FILES.md lists"
    )]
    UnknownKind,
    /// A kind that is recognised and not read, and no line of the file seems to name an image.
    #[error("{0}, a kind that is not read: no image was found in it")]
    NotRead(&'static str),
    /// There is no file of a kind that is read, or none of the files names an image. With an example of what was skipped.
    #[error(
        "no image was found: correct the path, or accept that with --allow-empty{}",
        .0.as_ref().map(|skipped| format!(" ({skipped})")).unwrap_or_default()
    )]
    NothingFound(Option<String>),
}

impl SourceError {
    /// The same, saying what kind of file it was taken for where its syntax is not that of the kind.
    pub(crate) fn read_as(self, kind: &str) -> SourceError {
        match self.problem {
            SourceProblem::SyntaxError(reason) => {
                SourceError { problem: SourceProblem::SyntaxError(format!("read as {kind}: {reason}")), ..self }
            }
            problem => SourceError { problem, ..self },
        }
    }
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
