//! Replaces files atomically.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use thiserror::Error;

use taglog_base::text::one_line;

/// A file with its old and new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// A symbolic link is kept, and its target replaced.
    pub path: PathBuf,
    /// The content that was read, which the file must still have.
    pub before: Vec<u8>,
    /// The new content.
    pub after: Vec<u8>,
}

/// Why files were not replaced.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file was changed since it was read.
    #[error("{}: the file has changed since it was read; nothing is written: run again", shown(.0))]
    Changed(PathBuf),
    /// The new file cannot be staged beside the old one.
    #[error("{}: {error}; nothing is written", shown(.path))]
    Stage { path: PathBuf, error: io::Error },
    /// The old file cannot be replaced by the new one.
    #[error("{}: {error}; {done} of {all} files are rewritten, each of them whole: run again", shown(.path))]
    Replace {
        path: PathBuf,
        error: io::Error,
        /// The number of files that were replaced before it.
        done: usize,
        /// The number of all files.
        all: usize,
    },
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A new file beside the one that it is to replace.
struct StagedFile {
    target: PathBuf,
    file: NamedTempFile,
}

/// Replaces every file, or none: all new files are written and synced beside the old ones before the first is replaced.
/// Mode and owner are kept. After a crash each file has its old or its new content.
pub fn replace_all(changes: &[FileChange]) -> Result<(), WriteError> {
    let staged = changes.iter().map(stage).collect::<Result<Vec<_>, _>>()?;
    for (done, StagedFile { target, file }) in staged.into_iter().enumerate() {
        let replaced = file.persist(&target).map_err(|error| error.error).and_then(|_| sync_directory(&target));
        replaced.map_err(|error| WriteError::Replace { path: target, error, done, all: changes.len() })?;
    }
    Ok(())
}

fn stage(change: &FileChange) -> Result<StagedFile, WriteError> {
    let failed = |error| WriteError::Stage { path: change.path.clone(), error };
    let target = fs::canonicalize(&change.path).map_err(failed)?;
    let metadata = fs::metadata(&target).map_err(failed)?;
    let file = new_file(&target, &metadata, &change.after).map_err(failed)?;
    // Last, to leave as little time as possible for a concurrent write.
    if fs::read(&target).map_err(failed)? != change.before {
        return Err(WriteError::Changed(change.path.clone()));
    }
    Ok(StagedFile { target, file })
}

fn new_file(target: &Path, metadata: &Metadata, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".taglog-pin-").tempfile_in(directory(target))?;
    file.write_all(content)?;
    keep_owner(file.path(), metadata)?;
    file.as_file().set_permissions(metadata.permissions())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn directory(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("/"))
}

#[cfg(unix)]
fn keep_owner(new: &Path, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let made = fs::metadata(new)?;
    let changed = |made: u32, old: u32| (made != old).then_some(old);
    let (user, group) = (changed(made.uid(), old.uid()), changed(made.gid(), old.gid()));
    if user.is_none() && group.is_none() { Ok(()) } else { chown(new, user, group) }
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync_directory(target: &Path) -> io::Result<()> {
    File::open(directory(target))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn change(path: PathBuf, before: &str, after: &str) -> FileChange {
        FileChange { path, before: before.as_bytes().to_vec(), after: after.as_bytes().to_vec() }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn mode_and_links_are_kept() {
        let tree = tempfile::tempdir().unwrap();
        let (real, link) = (tree.path().join("real"), tree.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o754)).unwrap();
        symlink("real", &link).unwrap();
        replace_all(&[change(link.clone(), "old", "new")]).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o754);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(tree.path()), ["link", "real"]);
    }

    #[test]
    fn all_files_are_replaced_or_none() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        fs::write(path("a"), "a").unwrap();
        fs::write(path("b"), "changed").unwrap();
        let first = change(path("a"), "a", "A");
        for second in [change(path("b"), "b", "B"), change(path("none"), "", "B")] {
            let error = replace_all(&[first.clone(), second]).unwrap_err().to_string();
            assert!(error.contains("nothing is written"), "{error}");
            assert_eq!(fs::read_to_string(path("a")).unwrap(), "a");
            assert_eq!(names(tree.path()), ["a", "b"]);
        }
        replace_all(&[first, change(path("b"), "changed", "B")]).unwrap();
        assert_eq!(fs::read_to_string(path("a")).unwrap() + &fs::read_to_string(path("b")).unwrap(), "AB");
    }
}
