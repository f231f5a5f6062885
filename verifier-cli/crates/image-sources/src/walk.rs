//! Which files are looked into, and as what.

use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::model::{SourceError, unreadable};

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A Dockerfile or Containerfile.
    Dockerfile,
    /// YAML with the name of a Compose file.
    Compose,
    /// YAML with the name of a GitLab CI pipeline, or of a part of one.
    Pipeline,
    /// YAML whose documents must say what they are.
    Yaml,
}

/// The kind of file that a name stands for.
pub fn format_by_name(path: &Path) -> Option<FileFormat> {
    let name = path.file_name()?.to_string_lossy();
    let lower = name.to_ascii_lowercase();
    if is_dockerfile(&name, &lower) {
        return Some(FileFormat::Dockerfile);
    }
    if !(lower.ends_with(".yaml") || lower.ends_with(".yml")) {
        return None;
    }
    Some(if lower.starts_with("compose") || lower.starts_with("docker-compose") {
        FileFormat::Compose
    } else if lower.ends_with(".gitlab-ci.yml") || lower.ends_with(".gitlab-ci.yaml") {
        FileFormat::Pipeline
    } else {
        FileFormat::Yaml
    })
}

/// `Dockerfile`, `Dockerfile.dev`, `app.Dockerfile`; `dockerfile`, but not `dockerfile.go`, which is no such file.
fn is_dockerfile(name: &str, lower: &str) -> bool {
    let prefixed = name.starts_with("Dockerfile") || name.starts_with("Containerfile");
    let whole = lower == "dockerfile" || lower == "containerfile";
    let suffixed = lower.ends_with(".dockerfile") || lower.ends_with(".containerfile");
    (prefixed && !lower.ends_with(".dockerignore")) || whole || suffixed
}

/// A Dockerfile begins with FROM or ARG, which no YAML of ours does.
pub fn format_by_content(text: &str) -> FileFormat {
    let significant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = text.lines().map(str::trim).find(significant).and_then(|line| line.split_whitespace().next());
    let dockerfile = first.is_some_and(|word| word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("arg"));
    if dockerfile { FileFormat::Dockerfile } else { FileFormat::Yaml }
}

/// The files below a directory whose names stand for one of the kinds, sorted by name.
pub fn candidates(directory: &Path) -> impl Iterator<Item = Result<PathBuf, SourceError>> {
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter().filter_entry(is_walked);
    entries.filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() && format_by_name(entry.path()).is_some() => {
            Some(Ok(entry.into_path()))
        }
        Ok(_) => None,
        Err(error) => {
            let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
            Some(Err(unreadable(error.path().unwrap_or(Path::new("")), &reason)))
        }
    })
}

/// Hidden directories that hold pipelines.
const PIPELINES: [&str; 2] = [".github", ".gitlab"];

/// The directory that was named is walked whatever its name is (as `.`).
fn is_walked(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let hidden = name.starts_with('.') && !PIPELINES.contains(&name.as_ref());
    let skipped = entry.file_type().is_dir() && (hidden || name == "node_modules");
    entry.depth() == 0 || !skipped
}
