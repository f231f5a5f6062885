//! Finds the images that files name: Dockerfiles, Compose files, Kubernetes manifests, GitHub Actions workflows and
//! actions, GitLab CI pipelines.
//!
//! Nothing is run, fetched or looked up in the environment: the answer follows from the files alone, and for Compose files
//! also from `.env` and from the Dockerfiles of builds with arguments, where they name them. What cannot be told (a variable
//! without a default, a name that breaks the rules) is left out with a note that says where and why, never guessed.

#![warn(missing_docs)]

mod compose;
mod crd;
mod dockerfile;
mod github;
mod gitlab;
mod heredoc;
mod kubernetes;
mod model;
mod scan;
mod variables;
mod walk;
mod yaml;
mod yaml_number;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use self::{
    crd::{CrdPath, CrdPathError},
    model::{DigestOnly, Excluded, FoundImage, LeftOut, Place, ScanResult, SourceError, SourceProblem},
};
use self::{model::unreadable, scan::FileScan, walk::FileFormat};
use taglog_base::text::one_line;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What the reader of the files says, beyond what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Values for the variables (`ARG`) of Dockerfiles, as `docker build --build-arg` takes them.
    pub build_args: BTreeMap<String, String>,
    /// Where custom kinds of Kubernetes objects name images.
    pub crd_paths: Vec<CrdPath>,
    /// Whether the names that Compose services give to their own builds count as images to check.
    pub check_built: bool,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
    /// What it names.
    pub found: ScanResult,
}

/// Reads the images that `paths` name: files, directories, and `-` for standard input.
///
/// A file named here must be of one of the kinds, told apart by name, then by content. A directory is walked without
/// its hidden directories (but `.github` and `.gitlab`), `node_modules` and symbolic links; of its files those are
/// taken whose names look like one of the kinds. There, YAML that is something else is passed over, and a file that
/// cannot be used is a note in [`ScanResult::left_out`].
///
/// # Errors
/// The first file that was named and cannot be used.
pub fn read(paths: &[PathBuf]) -> Result<ScanResult, SourceError> {
    read_with(paths, &Options::default())
}

/// As [`read`], with more said about the files.
///
/// # Errors
/// As [`read`].
pub fn read_with(paths: &[PathBuf], options: &Options) -> Result<ScanResult, SourceError> {
    let mut found = ScanResult::default();
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
            Err(SourceError { problem: SourceProblem::UnknownKind, .. }) => {}
            Err(SourceError { place, problem }) => {
                left_out.push(LeftOut { place, reason: one_line(&problem.to_string()) });
            }
        }
    }
}

fn read_file(path: &Path, options: &Options) -> Result<SourceFile, SourceError> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    read_from(&mut file, path, options)
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
pub fn read_bytes(path: &Path, bytes: &[u8], options: &Options) -> Result<ScanResult, SourceError> {
    let file = path.display().to_string();
    let whole = |problem| SourceError { place: Place { file: file.clone(), line: 1 }, problem };
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole(SourceProblem::TooLarge));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| whole(SourceProblem::NotText))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut scan = FileScan::new(file.clone(), text, bytes.len() - text.len());
    match walk::format_by_name(path).unwrap_or_else(|| walk::format_by_content(text)) {
        FileFormat::Dockerfile => dockerfile::read(text, &options.build_args, &mut scan)?,
        kind => read_yaml(text, kind, options, &mut scan)?,
    }
    Ok(scan.finish())
}

/// Reads every document of a YAML stream that is one of ours. A document says itself which it is; that the file has the
/// name of a Compose file or of a pipeline only decides about what says nothing.
fn read_yaml(text: &str, named: FileFormat, options: &Options, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let documents = yaml::parse(text).map_err(|broken| match yaml::template_line(text) {
        Some(line) => scan.error(line, SourceProblem::Template),
        None => scan.broken(broken),
    })?;
    let mut understood = false;
    for document in &documents {
        if kubernetes::is_manifest(document) {
            kubernetes::read(document, &options.crd_paths, scan)?;
        } else if compose::is_compose(document) || (named == FileFormat::Compose && document.is_mapping()) {
            compose::read(document, options, scan)?;
        } else if github::is_workflow(document) {
            github::read_workflow(document, scan)?;
        } else if github::is_action(document) {
            github::read_action(document, scan)?;
        } else if gitlab::is_pipeline(document) || (named == FileFormat::Pipeline && document.is_mapping()) {
            let inputs = gitlab::declared_inputs(documents.iter().map(AsRef::as_ref));
            gitlab::read(document, inputs, scan)?;
        } else {
            continue;
        }
        understood = true;
    }
    if understood { Ok(()) } else { Err(scan.error(1, SourceProblem::UnknownKind)) }
}

#[cfg(test)]
mod spans;
#[cfg(test)]
pub(crate) mod tests;
