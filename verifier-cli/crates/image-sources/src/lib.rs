//! Finds the images that files name: Dockerfiles, Compose files, Kubernetes manifests, GitHub Actions workflows and

#![warn(missing_docs)]
//! actions, GitLab CI pipelines.
//!
//! Nothing is run, fetched or looked up in the environment: the answer follows from the files alone. What
//! cannot be told from them (a variable without a default, a name that breaks the rules) is left out with a
//! note that says where and why, never guessed.

mod compose;
mod crd;
mod dockerfile;
mod github;
mod gitlab;
mod heredoc;
mod kubernetes;
mod reading;
mod variables;
mod walk;
mod yaml;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use taglog_proto::name::{Image, Reference, Tag};
use thiserror::Error;

pub use self::crd::{CrdPath, CrdPathError};
use self::{reading::Reading, walk::Kind};
use taglog_log_client::printable;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Where in the files something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, or as the walk found it; `-` is standard input.
    pub file: String,
    /// The line, from 1 on; 1 for what concerns the whole file.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", printable(&self.file), self.line)
    }
}

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

/// What the reader of the files says, beyond what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Values for the variables (`ARG`) of Dockerfiles, as `docker build --build-arg` takes them.
    pub build_args: BTreeMap<String, String>,
    /// Where custom kinds of Kubernetes objects name images.
    pub crd_paths: Vec<CrdPath>,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
    /// What it names.
    pub found: Found,
}

/// Something that would name an image, if only it could be told which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub place: Place,
    /// Why it is left out; one printable line.
    pub reason: String,
}

/// What files name, in the order of the files and their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The images.
    pub images: Vec<FoundImage>,
    /// What was left out. A caller that promises to cover every image must not ignore it.
    pub left_out: Vec<LeftOut>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.images.extend(other.images);
        self.left_out.extend(other.left_out);
    }
}

/// Why a file could not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct SourceError {
    /// Where.
    pub place: Place,
    /// Why.
    pub problem: Problem,
}

/// What is wrong with a file. Each message says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// The operating system says no.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// Over [`MAX_FILE`].
    #[error("the file is over the limit of 4 MiB: split it, and name the parts that name images")]
    TooLarge,
    /// Not UTF-8.
    #[error("the file is not UTF-8 text: convert it first")]
    NotText,
    /// The syntax is broken, or the file goes beyond a limit that bounds memory and time.
    #[error("the file is not understood: {0}")]
    Broken(String),
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
struct Broken {
    line: usize,
    reason: String,
}

/// Reads the images that `paths` name: files, directories, and `-` for standard input.
///
/// A file named here must be of one of the kinds, told apart by name, then by content. A directory is walked without
/// its hidden directories (but `.github` and `.gitlab`), `node_modules` and symbolic links; of its files those are
/// taken whose names look like one of the kinds. There, YAML that is something else is passed over, and a file that
/// cannot be used is a note in [`Found::left_out`].
///
/// # Errors
/// The first file that was named and cannot be used.
pub fn read(paths: &[PathBuf]) -> Result<Found, SourceError> {
    read_with(paths, &Options::default())
}

/// As [`read`], with more said about the files.
///
/// # Errors
/// As [`read`].
pub fn read_with(paths: &[PathBuf], options: &Options) -> Result<Found, SourceError> {
    let mut found = Found::default();
    let left_out = read_each(paths, options, |file| found.add(file.found))?;
    found.left_out.extend(left_out);
    Ok(found)
}

/// As [`read_with`], but file by file, with the bytes of each: what is found in a file is given to `each` at once. A file
/// that is named twice, or as itself and within a directory, is one file. What was left out because a file in a directory
/// cannot be used comes back at the end.
///
/// # Errors
/// As [`read`].
pub fn read_each(
    paths: &[PathBuf],
    options: &Options,
    mut each: impl FnMut(SourceFile),
) -> Result<Vec<LeftOut>, SourceError> {
    let mut left_out = Vec::new();
    let mut seen = HashSet::new();
    let mut each = |file: SourceFile| {
        if seen.insert(same_file(&file.path)) {
            each(file);
        }
    };
    for path in paths {
        if path == Path::new("-") {
            each(read_from(&mut io::stdin().lock(), path, options)?);
        } else if path.is_dir() {
            read_directory(path, options, &mut each, &mut left_out);
        } else {
            each(read_file(path, options)?);
        }
    }
    Ok(left_out)
}

/// By which a file is known however it is named.
fn same_file(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn read_directory(directory: &Path, options: &Options, each: &mut impl FnMut(SourceFile), left_out: &mut Vec<LeftOut>) {
    for entry in walk::candidates(directory) {
        match entry.and_then(|path| read_file(&path, options)) {
            Ok(file) => each(file),
            Err(SourceError { problem: Problem::UnknownKind, .. }) => {}
            Err(SourceError { place, problem }) => {
                left_out.push(LeftOut { place, reason: printable(&problem.to_string()) });
            }
        }
    }
}

fn read_file(path: &Path, options: &Options) -> Result<SourceFile, SourceError> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    read_from(&mut file, path, options)
}

fn unreadable(path: &Path, error: &impl fmt::Display) -> SourceError {
    let place = Place { file: path.display().to_string(), line: 1 };
    SourceError { place, problem: Problem::Unreadable(printable(&error.to_string())) }
}

/// Reads one file, no more of it than the limit.
fn read_from(input: &mut impl Read, path: &Path, options: &Options) -> Result<SourceFile, SourceError> {
    let mut bytes = Vec::new();
    input.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    let found = read_bytes(path, &bytes, options)?;
    Ok(SourceFile { path: path.to_owned(), bytes, found })
}

/// Finds the images in the content of one file. A kind that its name does not tell is told by the content.
///
/// # Errors
/// A file that cannot be used.
pub fn read_bytes(path: &Path, bytes: &[u8], options: &Options) -> Result<Found, SourceError> {
    let file = path.display().to_string();
    let whole = |problem| SourceError { place: Place { file: file.clone(), line: 1 }, problem };
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole(Problem::TooLarge));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| whole(Problem::NotText))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reading = Reading::new(file.clone(), text, bytes.len() - text.len());
    match walk::kind_by_name(path).unwrap_or_else(|| walk::kind_by_content(text)) {
        Kind::Dockerfile => dockerfile::read(text, &options.build_args, &mut reading)?,
        kind => read_yaml(text, kind, options, &mut reading)?,
    }
    Ok(reading.finish())
}

/// Reads every document of a YAML stream that is one of ours. A document says itself which it is; that the file has the
/// name of a Compose file or of a pipeline only decides about what says nothing.
fn read_yaml(text: &str, named: Kind, options: &Options, reading: &mut Reading<'_>) -> Result<(), SourceError> {
    let documents = yaml::parse(text).map_err(|broken| match yaml::template_line(text) {
        Some(line) => reading.error(line, Problem::Template),
        None => reading.broken(broken),
    })?;
    let mut understood = false;
    for document in &documents {
        if kubernetes::is_manifest(document) {
            kubernetes::read(document, &options.crd_paths, reading)?;
        } else if compose::is_compose(document) || (named == Kind::Compose && document.is_mapping()) {
            compose::read(document, reading)?;
        } else if github::is_workflow(document) {
            github::read_workflow(document, reading)?;
        } else if github::is_action(document) {
            github::read_action(document, reading)?;
        } else if gitlab::is_pipeline(document) || (named == Kind::Pipeline && document.is_mapping()) {
            gitlab::read(document, reading)?;
        } else {
            continue;
        }
        understood = true;
    }
    if understood { Ok(()) } else { Err(reading.error(1, Problem::UnknownKind)) }
}

#[cfg(test)]
mod spans;
#[cfg(test)]
pub(crate) mod tests;
