//! Finds the images that files name: Dockerfiles, Compose files, Kubernetes manifests.
//!
//! Nothing is run, fetched or looked up in the environment: the answer follows from the files alone. What
//! cannot be told from them (a variable without a default, a name that breaks the rules) is left out with a
//! note that says where and why, never guessed.

mod compose;
mod dockerfile;
mod heredoc;
mod kubernetes;
mod reading;
mod variables;
mod walk;
mod yaml;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use taglog_proto::name::Reference;
use thiserror::Error;

use self::{reading::Reading, walk::Kind};
use crate::client::printable;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 4 << 20;

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
    /// Where its name is written.
    pub place: Place,
    /// The name as written, variables and all.
    pub written: String,
    /// What it means, with the defaults that the file gives to its variables.
    pub reference: Reference,
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
    #[error("no kind of file that is understood: want a Dockerfile, a Compose file or Kubernetes manifests")]
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
/// A file named here must be a Dockerfile, a Compose file or Kubernetes manifests, told apart by name, then by
/// content. A directory is walked without its hidden directories, `node_modules` and symbolic links; of its
/// files those are taken whose names look like one of the kinds. There, YAML that is something else is passed
/// over, and a file that cannot be used is a note in [`Found::left_out`].
///
/// # Errors
/// The first file that was named and cannot be used.
pub fn read(paths: &[PathBuf]) -> Result<Found, SourceError> {
    let mut found = Found::default();
    for path in paths {
        if path == Path::new("-") {
            found.add(read_from(&mut io::stdin().lock(), "-".to_owned(), None)?);
        } else if path.is_dir() {
            read_directory(path, &mut found);
        } else {
            found.add(read_file(path)?);
        }
    }
    Ok(found)
}

fn read_directory(directory: &Path, found: &mut Found) {
    for entry in walk::candidates(directory) {
        match entry.and_then(|path| read_file(&path)) {
            Ok(more) => found.add(more),
            Err(SourceError { problem: Problem::UnknownKind, .. }) => {}
            Err(SourceError { place, problem }) => {
                found.left_out.push(LeftOut { place, reason: printable(&problem.to_string()) });
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Found, SourceError> {
    let name = path.display().to_string();
    let mut file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    read_from(&mut file, name, walk::kind_by_name(path))
}

fn unreadable(file: &str, error: &impl fmt::Display) -> SourceError {
    let place = Place { file: file.to_owned(), line: 1 };
    SourceError { place, problem: Problem::Unreadable(printable(&error.to_string())) }
}

/// Reads one file. A kind that its name does not tell is told by its content.
fn read_from(input: &mut impl Read, file: String, kind: Option<Kind>) -> Result<Found, SourceError> {
    let mut bytes = Vec::new();
    input.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&file, &error))?;
    let mut reading = Reading::new(file);
    if bytes.len() as u64 > MAX_FILE {
        return Err(reading.error(1, Problem::TooLarge));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| reading.error(1, Problem::NotText))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match kind.unwrap_or_else(|| walk::kind_by_content(text)) {
        Kind::Dockerfile => dockerfile::read(text, &mut reading)?,
        Kind::Compose => read_yaml(text, true, &mut reading)?,
        Kind::Yaml => read_yaml(text, false, &mut reading)?,
    }
    Ok(reading.finish())
}

/// Reads every document of a YAML stream that is one of ours. A document says itself which it is; that the file
/// has a Compose file's name only decides about what says nothing.
fn read_yaml(text: &str, named_compose: bool, reading: &mut Reading) -> Result<(), SourceError> {
    let documents = yaml::parse(text).map_err(|broken| match yaml::template_line(text) {
        Some(line) => reading.error(line, Problem::Template),
        None => reading.broken(broken),
    })?;
    let mut understood = false;
    for document in &documents {
        if kubernetes::is_manifest(document) {
            kubernetes::read(document, reading)?;
        } else if compose::is_compose(document) || (named_compose && document.is_mapping()) {
            compose::read(document, reading)?;
        } else {
            continue;
        }
        understood = true;
    }
    if understood { Ok(()) } else { Err(reading.error(1, Problem::UnknownKind)) }
}

#[cfg(test)]
mod tests;
