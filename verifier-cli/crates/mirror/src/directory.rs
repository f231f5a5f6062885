//! The directory of a copy: files are written atomically, by one process at a time.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use taglog_base::directory_lock::{DirectoryLock, LockFile};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    note::VerifierKey,
    tile::{FULL_WIDTH, TilePath},
};

use super::{MirrorError, file_error};
use taglog_log_client::memory::Memory;

/// The subdirectory for files that are not part of the log: the lock, temporary files, evidence.
const OWN: &str = ".taglog-mirror";
const LOCK: LockFile = LockFile {
    name: ".taglog-mirror/lock",
    program: "'taglog mirror'",
    remedy: "wait for it, or name another directory",
};
const CHECKPOINT: &str = "checkpoint";
/// The file mode: a web server that runs as another user must be able to read the copy.
const READABLE: u32 = 0o644;

/// A copy's directory, locked against other processes.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Directories with changed entries that were not synced to disk yet.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    _lock: DirectoryLock,
}

impl Directory {
    /// Opens the directory, creates it if it does not exist, and removes temporary files.
    ///
    /// # Errors
    /// [`MirrorError::Lock`], [`MirrorError::File`].
    pub fn open(path: &Path) -> Result<Directory, MirrorError> {
        let own = path.join(OWN);
        let lock = LOCK.acquire(path)?;
        let writing = own.join("writing");
        match fs::remove_dir_all(&writing) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(file_error(writing)(error)),
            _ => fs::create_dir(&writing).map_err(file_error(&writing))?,
        }
        Ok(Directory { path: path.to_owned(), unsynced: Mutex::default(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store for evidence.
    pub fn memory(&self) -> Memory {
        Memory::new(self.path.join(OWN))
    }

    /// Whether a tile exists; its content is not checked.
    pub fn has(&self, tile: &TilePath) -> bool {
        self.path.join(name(tile)).is_file()
    }

    /// Writes a tile, unless it exists with the same content.
    ///
    /// # Errors
    /// [`MirrorError::File`].
    pub fn put(&self, tile: &TilePath, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.path.join(name(tile));
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        self.write(&path, bytes)
    }

    /// Makes all written tiles durable, and then replaces the checkpoint.
    ///
    /// # Errors
    /// [`MirrorError::File`].
    pub fn publish(&self, checkpoint: &[u8]) -> Result<(), MirrorError> {
        self.sync()?;
        self.write(&self.path.join(CHECKPOINT), checkpoint)?;
        self.sync()
    }

    /// Writes and syncs a temporary file, and then renames it to its final name.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), MirrorError> {
        let parent = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        let write = || -> std::io::Result<()> {
            let mut builder = tempfile::Builder::new();
            let builder = builder.permissions(Permissions::from_mode(READABLE));
            let mut file = builder.tempfile_in(self.path.join(OWN).join("writing"))?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(file_error(path))?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.extend(parent.ancestors().take_while(|above| above.starts_with(&self.path)).map(Path::to_owned));
        Ok(())
    }

    /// Syncs all directories with changed entries.
    fn sync(&self) -> Result<(), MirrorError> {
        let unsynced = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        for directory in unsynced {
            File::open(&directory).and_then(|opened| opened.sync_all()).map_err(file_error(&directory))?;
        }
        Ok(())
    }

    /// Removes the partial tiles at the index of a full tile.
    ///
    /// # Errors
    /// [`MirrorError::File`].
    pub fn remove_partials(&self, tile: &TilePath) -> Result<(), MirrorError> {
        let full = self.path.join(name(&TilePath { width: FULL_WIDTH as u16, ..*tile }));
        let mut partials = full.clone().into_os_string();
        partials.push(".p");
        match fs::remove_dir_all(&partials) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(partials)(error)),
            _ => Ok(()),
        }
    }
}

fn name(tile: &TilePath) -> String {
    format!("tile/{tile}")
}

/// The checkpoint of a copy.
#[derive(Clone, Debug)]
pub struct OwnCheckpoint {
    /// The bytes as served by the log, with all signature lines.
    pub bytes: Vec<u8>,
    /// The parsed checkpoint, whose signature by the log was verified.
    pub signed: SignedCheckpoint,
}

/// Reads the checkpoint of the copy in a directory; `None` if there is no copy yet.
///
/// # Errors
/// [`MirrorError::OwnCheckpoint`] if it is damaged or not signed by this log; [`MirrorError::File`].
pub fn own_checkpoint(directory: &Path, log: &VerifierKey) -> Result<Option<OwnCheckpoint>, MirrorError> {
    let path = directory.join(CHECKPOINT);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path)(error)),
    };
    let signed = SignedCheckpoint::parse(&bytes).and_then(|signed| signed.verify(log).map(|_| ()).map(|()| signed));
    let signed = signed.map_err(|error| MirrorError::OwnCheckpoint { path, why: error.to_string() })?;
    Ok(Some(OwnCheckpoint { bytes, signed }))
}
