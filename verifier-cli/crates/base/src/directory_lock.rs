//! Locks that keep a directory for one process.
//!
//! The lock is the operating system's lock on an open file, not the file: it ends with the process that holds it, however
//! that ends. The file stays behind and means nothing.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::text::path_line;
use thiserror::Error;

/// Why a directory cannot be locked.
#[derive(Clone, Debug, Error)]
pub enum LockError {
    /// Another process, or another part of this one, holds the lock.
    #[error("{directory} is in use by another {program}: {remedy}", directory = path_line(.directory))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// What holds it: [`LockFile::program`].
        program: &'static str,
        /// What to do: [`LockFile::remedy`].
        remedy: &'static str,
    },
    /// The directory or the lock file cannot be made or opened.
    #[error("{path}: {reason}", path = path_line(.path))]
    File {
        /// The directory or file.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
}

impl LockError {
    fn file(path: &Path, error: &io::Error) -> LockError {
        LockError::File { path: path.to_owned(), reason: error.to_string() }
    }

    /// Whether the directory is locked, as opposed to one that cannot be.
    pub fn is_in_use(&self) -> bool {
        matches!(self, LockError::InUse { .. })
    }
}

/// How programs of one kind lock their directories.
#[derive(Clone, Copy, Debug)]
pub struct LockFile {
    /// The name of the lock file, relative to the directory.
    pub name: &'static str,
    /// What works on such a directory, as in "in use by another auditor".
    pub program: &'static str,
    /// What a user does who finds the directory in use.
    pub remedy: &'static str,
}

impl LockFile {
    /// Locks the directory, which is made if it is not there, or says that it is in use.
    pub fn acquire(&self, directory: &Path) -> Result<DirectoryLock, LockError> {
        let (path, file) = open(directory, self.name)?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock { file }),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::InUse { directory: directory.to_owned(), program: self.program, remedy: self.remedy })
            }
            Err(TryLockError::Error(error)) => Err(LockError::file(&path, &error)),
        }
    }
}

/// A locked directory. The lock is released when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Locks the directory, which is made if it is not there; waits for whoever holds the lock. For locks that are held
    /// for moments.
    pub fn wait(directory: &Path, name: &str) -> Result<DirectoryLock, LockError> {
        let (path, file) = open(directory, name)?;
        file.lock().map_err(|error| LockError::file(&path, &error))?;
        Ok(DirectoryLock { file })
    }

    /// The lock file, open for reading and writing from its start. Its content means nothing to the lock.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

/// Opens the lock file and leaves its content alone.
fn open(directory: &Path, name: &str) -> Result<(PathBuf, File), LockError> {
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    fs::create_dir_all(parent).map_err(|error| LockError::file(parent, &error))?;
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.map_err(|error| LockError::file(&path, &error))?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader, Read as _},
        os::unix::fs::PermissionsExt as _,
        process::{Child, Command, Stdio},
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    const LOCK: LockFile = LockFile { name: "test.lock", program: "test", remedy: "wait for it" };

    /// Tells [`holds_a_lock_for_another_process`] which directory to lock.
    const DIRECTORY: &str = "TAGLOG_TEST_DIRECTORY_LOCK";
    const HELD: &str = "the lock is held";

    #[test]
    fn a_second_handle_is_refused_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let first = LOCK.acquire(directory.path()).unwrap();
        let error = LOCK.acquire(directory.path()).unwrap_err();
        assert!(error.is_in_use());
        let expected = format!("{} is in use by another test: wait for it", directory.path().display());
        assert_eq!(error.to_string(), expected);
        let other = LockFile { name: "other.lock", ..LOCK };
        other.acquire(directory.path()).expect("another file is another lock");
        drop(first);
        LOCK.acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        let _lock = LockFile { name: ".own/lock", ..LOCK }.acquire(&below).unwrap();
        assert!(below.join(".own/lock").is_file());
    }

    #[test]
    fn the_content_of_the_lock_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LOCK.name), "content").unwrap();
        let mut lock = LOCK.acquire(directory.path()).unwrap();
        let mut content = String::new();
        lock.file().read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    /// Does nothing unless [`start_holder`] runs it, in a process of its own.
    #[test]
    fn holds_a_lock_for_another_process() {
        let Some(directory) = env::var_os(DIRECTORY) else { return };
        let _lock = LOCK.acquire(Path::new(&directory)).unwrap();
        println!("{HELD}");
        thread::sleep(Duration::from_secs(600));
    }

    fn start_holder(directory: &Path) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "directory_lock::tests::holds_a_lock_for_another_process"]);
        let mut child = command.env(DIRECTORY, directory).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(HELD)), "the other process has not locked it");
        child
    }

    #[test]
    fn a_killed_process_leaves_a_file_but_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let mut holder = start_holder(directory.path());
        assert!(LOCK.acquire(directory.path()).unwrap_err().is_in_use());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(directory.path().join(LOCK.name).exists());
        LOCK.acquire(directory.path()).unwrap();
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let is_about = |error: LockError, path: &Path| {
            assert!(matches!(&error, LockError::File { path: named, .. } if named == path), "{error}");
        };
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        is_about(LOCK.acquire(&file).unwrap_err(), &file);
        is_about(DirectoryLock::wait(&file, LOCK.name).unwrap_err(), &file);
        let lock_file = directory.path().join(LOCK.name);
        fs::create_dir(&lock_file).unwrap();
        is_about(LOCK.acquire(directory.path()).unwrap_err(), &lock_file);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(directory.path().join("probe"), "").is_ok() {
            // The superuser may write everywhere.
            return;
        }
        let error = LOCK.acquire(directory.path()).unwrap_err();
        assert!(!error.is_in_use() && error.to_string().contains(LOCK.name), "{error}");
    }

    /// Threads that compete for the lock, with and without waiting: never are there two holders.
    #[test]
    fn there_is_one_holder_at_a_time() {
        const THREADS: usize = 8;
        let directory = tempfile::tempdir().unwrap();
        let (holders, acquired, start) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(THREADS));
        let hold = |_lock: DirectoryLock| {
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two holders");
            acquired.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            holders.fetch_sub(1, Ordering::SeqCst);
        };
        let compete = |waits: bool| {
            start.wait();
            for _ in 0..200 {
                if waits {
                    hold(DirectoryLock::wait(directory.path(), LOCK.name).unwrap());
                } else {
                    match LOCK.acquire(directory.path()) {
                        Ok(lock) => hold(lock),
                        Err(error) => assert!(error.is_in_use(), "{error}"),
                    }
                }
            }
        };
        thread::scope(|scope| {
            for number in 0..THREADS {
                let compete = &compete;
                scope.spawn(move || compete(number % 2 == 0));
            }
        });
        assert!(acquired.into_inner() >= THREADS / 2 * 200);
    }
}
