//! Finds the images that files name: Dockerfiles, Compose files, Kubernetes manifests, and the files of CI systems and
//! tools (verifier-cli/docs/FILES.md).
//!
//! Nothing is run, fetched or looked up in the environment: the result follows from the files alone, and for Compose files
//! also from `.env` and from the Dockerfiles of builds with arguments, where they name them. What cannot be determined from them
//! (a variable without a default, a file of a kind that is not read) is left out with a note that says where and why. It is
//! never guessed, and never passed over.

#![warn(missing_docs)]

mod compose;
mod crd;
mod dockerfile;
mod exceptions;
mod formats;
mod github;
mod gitlab;
mod kind;
mod kubernetes;
mod model;
mod scan;
mod variables;
mod walk;
mod yaml;
mod yaml_number;

use std::rc::Rc;
use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::{
    crd::{CrdPath, CrdPathError},
    exceptions::Exceptions,
    model::{DigestOnly, Excluded, FoundImage, LeftOut, Place, ScanResult, Skipped, SourceError, SourceProblem},
};
use self::{
    exceptions::{exclude, excluded_file},
    formats::Tool,
    kind::{FileFormat, NameKind},
    model::unreadable,
    scan::FileScan,
    yaml::Node,
};
use taglog_base::text::one_line;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 64 << 20;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What is known about the files beyond what is in them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Values for the variables (`ARG`) of Dockerfiles, as `docker build --build-arg` takes them.
    pub build_args: BTreeMap<String, String>,
    /// Where custom kinds of Kubernetes objects name images.
    pub crd_paths: Vec<CrdPath>,
    /// Whether the names that Compose services give to their own builds count as images to check.
    pub check_built: bool,
    /// Whether it is accepted that a directory, a file or an input names no image.
    pub allow_empty: bool,
    /// What is deliberately not checked.
    pub exceptions: Option<Arc<dyn Exceptions>>,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// All of it; nothing if an exception says that it is not read.
    pub bytes: Vec<u8>,
    /// What it names.
    pub found: ScanResult,
}

/// Reads the images that `paths` name: files, directories, and `-` for standard input.
///
/// A file named here must be of one of the kinds, recognised by name, then by content. Of a directory, those files are
/// read whose names stand for one of the kinds, hidden ones and those of symbolic links included, but not what is in
/// `.git`, `node_modules` and `vendor`, nor what a `.gitignore` names and git does not track ([`ScanResult::skipped`]).
/// There, YAML and JSON that is something else is passed over, and a file that cannot be used is a note in
/// [`ScanResult::left_out`].
///
/// # Errors
/// The first file that was named and cannot be used, and the first path in which nothing was found, unless it is a
/// Dockerfile that builds on no image.
pub fn read(paths: &[PathBuf]) -> Result<ScanResult, SourceError> {
    read_with(paths, &Options::default())
}

/// As [`read`], with more said about the files.
///
/// # Errors
/// As [`read`].
pub fn read_with(paths: &[PathBuf], options: &Options) -> Result<ScanResult, SourceError> {
    let mut found = ScanResult::default();
    let besides = read_each(paths, options, |file| found.add(file.found))?;
    found.add(besides);
    Ok(found)
}

/// As [`read_with`], but file by file, with the bytes of each: what is found in a file is given to `each` at once. A file
/// that is named twice, or as itself and within a directory, is one file. What belongs to no file that was read comes back
/// at the end: what was left out because a file in a directory cannot be used, and what was skipped.
///
/// # Errors
/// As [`read`].
pub fn read_each(
    paths: &[PathBuf],
    options: &Options,
    each: impl FnMut(SourceFile),
) -> Result<ScanResult, SourceError> {
    let mut input = Input { options, each, seen: HashSet::new(), is_empty: true, besides: ScanResult::default() };
    for path in paths {
        input.read(path)?;
    }
    exclude(&mut input.besides, options.exceptions.as_deref());
    Ok(input.besides)
}

fn nothing_found(path: &Path, skipped: &[Skipped]) -> SourceError {
    let place = Place { file: path.display().to_string(), line: 1 };
    let example = skipped.iter().find(|skipped| skipped.reason != walk::VERSION_CONTROL_DATA);
    let example = example.map(|example| match skipped.len() {
        1 => example.to_string(),
        count => format!("{example}; {count} skipped in all"),
    });
    SourceError { place, problem: SourceProblem::NothingFound(example) }
}

/// What is read, and what was found so far.
struct Input<'o, F> {
    options: &'o Options,
    each: F,
    /// The files that were read, however they are named, and as what.
    seen: HashSet<(PathBuf, NameKind)>,
    /// Whether nothing was found so far in what one path names.
    is_empty: bool,
    /// What belongs to no file that was read.
    besides: ScanResult,
}

impl<F: FnMut(SourceFile)> Input<'_, F> {
    /// Reads what one path names. A path that names no image at all was probably not meant.
    fn read(&mut self, path: &Path) -> Result<(), SourceError> {
        self.is_empty = true;
        let skipped_before = self.besides.skipped.len();
        if path == Path::new("-") {
            self.add_named(read_from(&mut io::stdin().lock(), path, self.options)?);
        } else if path.is_dir() {
            self.read_directory(path);
        } else {
            self.add_named(read_file(path, self.options)?);
        }
        if self.is_empty && !self.options.allow_empty {
            return Err(nothing_found(path, self.besides.skipped.get(skipped_before..).unwrap_or_default()));
        }
        Ok(())
    }

    /// Adds a file that was named itself. A Dockerfile says all with `FROM scratch`: it builds on no image.
    fn add_named(&mut self, file: SourceFile) {
        self.is_empty = !kind::is_dockerfile(&file.path, &file.bytes);
        self.add(file);
    }

    /// Gives a file to the caller, once.
    fn add(&mut self, file: SourceFile) {
        self.is_empty &= file.found.is_empty();
        let real = std::fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
        // A link can have a name of another kind than its target, and an exception is for one of the names.
        let is_read = !file.bytes.is_empty();
        if !is_read || self.seen.insert((real, kind::kind_of_name(&file.path))) {
            (self.each)(file);
        }
    }

    fn read_directory(&mut self, directory: &Path) {
        let walk::Listing { files, left_out, skipped } = walk::list(directory);
        self.is_empty &= left_out.is_empty();
        self.besides.left_out.extend(left_out);
        self.besides.skipped.extend(skipped);
        for path in files {
            match read_file(&path, self.options) {
                Ok(file) => self.add(file),
                Err(SourceError { place, problem: SourceProblem::UnknownKind | SourceProblem::NotRead(_) }) => {
                    let reason = "no kind of file that is read, and nothing in it looks like an image";
                    self.besides.skipped.push(Skipped { path: place.file, reason });
                }
                Err(SourceError { place, problem }) => {
                    self.is_empty = false;
                    self.besides.left_out.push(LeftOut { place, reason: one_line(&problem.to_string()) });
                }
            }
        }
    }
}

fn read_file(path: &Path, options: &Options) -> Result<SourceFile, SourceError> {
    if let Some(found) = excluded_file(path, options.exceptions.as_deref()) {
        return Ok(SourceFile { path: path.to_owned(), bytes: Vec::new(), found });
    }
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

/// Finds the images in the content of one file. Where its name does not decide the kind, the content does.
///
/// # Errors
/// A file that cannot be used.
pub fn read_bytes(path: &Path, bytes: &[u8], options: &Options) -> Result<ScanResult, SourceError> {
    if let Some(found) = excluded_file(path, options.exceptions.as_deref()) {
        return Ok(found);
    }
    let file = path.display().to_string();
    let whole = |problem| SourceError { place: Place { file: file.clone(), line: 1 }, problem };
    let named = kind::kind_of_name(path);
    // A picture, an archive or a disk that only has such a name.
    let name_is_ambiguous = matches!(named, NameKind::PerhapsDockerfile | NameKind::Format(FileFormat::Quadlet));
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole(if name_is_ambiguous { SourceProblem::UnknownKind } else { SourceProblem::TooLarge }));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text),
        Err(_) if name_is_ambiguous => return Err(whole(SourceProblem::UnknownKind)),
        Err(_) => return Err(whole(SourceProblem::NotText)),
    };
    let mut scan = FileScan::new(file.clone(), text, bytes.len() - text.len());
    let format = match named {
        NameKind::Format(format) => format,
        NameKind::Unknown => kind::format_by_content(text),
        NameKind::PerhapsDockerfile if kind::begins_as_dockerfile(text) => FileFormat::Dockerfile,
        NameKind::PerhapsDockerfile => kind::other_format(path).ok_or_else(|| whole(SourceProblem::UnknownKind))?,
    };
    match format {
        FileFormat::Dockerfile => {
            dockerfile::read(text, &options.build_args, &mut scan).map_err(|error| error.read_as("a Dockerfile"))?
        }
        FileFormat::Quadlet => formats::quadlet::read(text, &mut scan)?,
        FileFormat::NotRead(kind) => formats::read_not_read(kind, text, &mut scan)?,
        FileFormat::Json if !(formats::may_name_images(text) || kubernetes::may_name_images(path, text)) => {
            return Err(whole(SourceProblem::UnknownKind));
        }
        FileFormat::Tool(Tool::DevContainer) => {
            read_yaml(path, &formats::without_comments(text), format, options, &mut scan)
                .map_err(|error| error.read_as("a devcontainer.json"))?;
        }
        format => {
            let is_empty = text.split(['\n', '\r']).all(|line| line.trim().is_empty() || line.starts_with('#'));
            if !(is_empty && options.allow_empty) {
                read_yaml(path, text, format, options, &mut scan).map_err(|error| error.read_as("YAML"))?;
            }
        }
    }
    let mut found = scan.finish();
    exclude(&mut found, options.exceptions.as_deref());
    Ok(found)
}

/// Reads every document of a YAML stream that is one of ours, in each way in which the stream can be read.
fn read_yaml(
    path: &Path,
    text: &str,
    named: FileFormat,
    options: &Options,
    scan: &mut FileScan<'_>,
) -> Result<(), SourceError> {
    let readings = yaml::parse(text).map_err(|broken| match yaml::template_line(text) {
        Some(line) => scan.error(line, SourceProblem::Template),
        None => scan.broken(broken),
    })?;
    let mut understood = false;
    for documents in &readings {
        understood |= read_documents(path, documents, named, options, scan)?;
    }
    if understood { Ok(()) } else { Err(scan.error(1, SourceProblem::UnknownKind)) }
}

/// Whether one of the documents is understood. A document says itself which it is; the name of the file only decides about
/// what says nothing, and adds its reader where a document has keys of that tool as well.
fn read_documents(
    path: &Path,
    documents: &[Rc<Node>],
    named: FileFormat,
    options: &Options,
    scan: &mut FileScan<'_>,
) -> Result<bool, SourceError> {
    let inputs = gitlab::declared_inputs(documents.iter().map(AsRef::as_ref));
    let mut understood = false;
    for document in documents {
        let by_content = read_by_content(path, document, named, inputs, options, scan)?;
        let by_name = read_by_name(document, by_content, named, inputs, options, scan)?;
        understood |= by_content != Claim::None || by_name || formats::note_unknown(document, scan);
    }
    Ok(understood)
}

/// How sure it is what a document is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It says what it is.
    Certain,
    /// It has the keys of a kind, which files of tools may have too.
    Likely,
    /// It says nothing.
    None,
}

/// Reads a document as what it says that it is.
fn read_by_content(
    path: &Path,
    document: &Node,
    named: FileFormat,
    inputs: Option<&Node>,
    options: &Options,
    scan: &mut FileScan<'_>,
) -> Result<Claim, SourceError> {
    if kubernetes::is_kustomization(path, document) {
        kubernetes::read_kustomization(path, document, scan)?;
    } else if let Some(tool) = tool_of(document) {
        tool.read(document, scan)?;
    } else if kubernetes::is_manifest(document) {
        kubernetes::read(document, &options.crd_paths, scan)?;
    } else if kubernetes::is_json_patch(document) {
        kubernetes::read_json_patch(document, scan)?;
    } else if github::is_workflow(document) {
        github::read_workflow(document, scan)?;
    } else if github::is_action(document) {
        github::read_action(document, scan)?;
    } else {
        // The values of a chart are recognised by the name of their file, which may have the name of another kind in it.
        let is_named = match named {
            FileFormat::Compose => compose::is_compose(document),
            FileFormat::Pipeline => gitlab::is_pipeline(document),
            _ => false,
        };
        if !is_named && kubernetes::is_helm_values(path, document) {
            kubernetes::read_values(path, document, scan)?;
        } else if compose::is_compose(document) {
            compose::read(document, options, scan)?;
        } else if gitlab::is_pipeline(document) {
            gitlab::read(document, inputs, scan)?;
        } else {
            return Ok(Claim::None);
        }
        return Ok(Claim::Likely);
    }
    Ok(Claim::Certain)
}

/// The tool of a document; an object of Kubernetes may have the keys of other tools.
fn tool_of(document: &Node) -> Option<Tool> {
    Tool::of_document(document).filter(|tool| *tool == Tool::Skaffold || !kubernetes::is_manifest(document))
}

/// Reads a document as what the name of its file stands for; whether it does. One in which nothing is found then is
/// searched for what looks like an image: the name may mislead.
fn read_by_name(
    document: &Node,
    by_content: Claim,
    named: FileFormat,
    inputs: Option<&Node>,
    options: &Options,
    scan: &mut FileScan<'_>,
) -> Result<bool, SourceError> {
    let tool = if let FileFormat::Tool(tool) = named { Some(tool) } else { None };
    let counts = match by_content {
        Claim::Certain => is_also(document, named),
        Claim::Likely => tool.is_some_and(|tool| tool.has_own_key(document)),
        Claim::None => document.is_mapping(),
    };
    if !counts {
        return Ok(false);
    }
    let before = scan.count();
    match named {
        FileFormat::Tool(tool) => return tool.read(document, scan).map(|()| true),
        FileFormat::Compose => compose::read(document, options, scan)?,
        FileFormat::Pipeline => gitlab::read(document, inputs, scan)?,
        _ => return Ok(false),
    }
    if scan.count() == before {
        formats::note_unknown(document, scan);
    }
    Ok(true)
}

/// Whether a document that says what it is has the keys of the kind, too, that its file has the name of: a job of a
/// pipeline may be called as a key of another tool.
fn is_also(document: &Node, named: FileFormat) -> bool {
    let has_its_keys = match named {
        FileFormat::Compose => compose::is_compose(document),
        FileFormat::Pipeline => gitlab::is_pipeline(document),
        _ => false,
    };
    has_its_keys && !kubernetes::is_manifest(document)
}

#[cfg(test)]
mod spans;
#[cfg(test)]
pub(crate) mod tests;
