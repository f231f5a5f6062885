//! Files replaced whole or not at all.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use thiserror::Error;

use taglog_log_client::printable;

/// A file, what it held when it was read, and what it is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is; a symbolic link stays one, and what it leads to is replaced.
    pub path: PathBuf,
    /// What it must still hold.
    pub before: Vec<u8>,
    /// What it is to hold.
    pub after: Vec<u8>,
}

/// Why files were not replaced.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Someone else wrote to it meanwhile.
    #[error("{}: the file has changed since it was read; nothing is written: run again", shown(.0))]
    Changed(PathBuf),
    /// The new file cannot be prepared beside the old one.
    #[error("{}: {error}; nothing is written", shown(.path))]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A new file is ready, but cannot take the place of the old one.
    #[error("{}: {error}; {done} of {all} files are rewritten, each of them whole: run again", shown(.path))]
    Replace {
        /// The file that could not be replaced.
        path: PathBuf,
        /// Why.
        error: io::Error,
        /// How many were replaced before it.
        done: usize,
        /// How many there are.
        all: usize,
    },
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// A new file beside the one whose place it is to take.
struct Prepared {
    target: PathBuf,
    file: NamedTempFile,
}

/// Replaces every file, or none: all new files are written and synced beside the old ones before the first takes an old
/// one's place. Mode and owner are kept. A crash leaves each file either as it was or as it is to be.
///
/// # Errors
/// [`WriteError`].
pub fn replace_all(changes: &[Change]) -> Result<(), WriteError> {
    let prepared = changes.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
    for (done, Prepared { target, file }) in prepared.into_iter().enumerate() {
        let replaced = file.persist(&target).map_err(|error| error.error).and_then(|_| sync_directory(&target));
        replaced.map_err(|error| WriteError::Replace { path: target, error, done, all: changes.len() })?;
    }
    Ok(())
}

fn prepare(change: &Change) -> Result<Prepared, WriteError> {
    let failed = |error| WriteError::Prepare { path: change.path.clone(), error };
    let target = fs::canonicalize(&change.path).map_err(failed)?;
    let metadata = fs::metadata(&target).map_err(failed)?;
    let file = new_file(&target, &metadata, &change.after).map_err(failed)?;
    // Last, to leave others no time to write in between.
    if fs::read(&target).map_err(failed)? != change.before {
        return Err(WriteError::Changed(change.path.clone()));
    }
    Ok(Prepared { target, file })
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

    fn change(path: PathBuf, before: &str, after: &str) -> Change {
        Change { path, before: before.as_bytes().to_vec(), after: after.as_bytes().to_vec() }
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
    fn all_or_none() {
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
