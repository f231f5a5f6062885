//! Opens a data directory, and checks what it holds against what the log has signed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use taglog_proto::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    entry::{Entry, Roster, Seal},
    merkle::{Frontier, leaf_hash},
    note::{NoteError, SigningKey},
    prefix_tree,
    tag_proof::LookupSource,
    tile::FULL_WIDTH,
};
use thiserror::Error;

use crate::{
    config::COMMENTED,
    sequencer::LogState,
    store::{Store, StoreError, View},
};

/// The configuration file within a data directory.
pub const CONFIG_FILE: &str = "taglog-server.toml";
const KEY_FILE: &str = "key";
const LOCK_FILE: &str = "lock";
const STORE_DIRECTORY: &str = "db";

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum StartupError {
    /// A file operation failed.
    #[error("{path}: {error}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// `init` on a directory that is in use.
    #[error("{0} exists already: 'taglog-server init' makes a new data directory only")]
    Exists(PathBuf),
    /// A second server on one directory.
    #[error("another taglog-server runs on {0}: two servers on one log would fork it")]
    Locked(PathBuf),
    /// The key file can be read by others.
    #[error("{0} can be read by others: run 'chmod 600' on it")]
    KeyExposed(PathBuf),
    /// The key file holds no key.
    #[error("{path}: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: NoteError,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last checkpoint is not by this key.
    #[error("the stored checkpoint is not this log's: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The store does not hold what the log has signed.
    #[error("the store does not match the signed checkpoint: {0}. Nothing is served. Restore a backup that is whole")]
    Mismatch(String),
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> StartupError {
    let path = path.to_owned();
    move |error| StartupError::File { path, error }
}

/// A new data directory: configuration, key with mode 0600. Returns the log's vkey.
///
/// # Errors
/// [`StartupError::Exists`], [`StartupError::Key`] for a bad origin, [`StartupError::File`].
pub fn init(directory: &Path, origin: &str) -> Result<String, StartupError> {
    let key_path = directory.join(KEY_FILE);
    let mut seed = [0; 32];
    let no_randomness = |error: getrandom::Error| file_error(&key_path)(std::io::Error::other(error));
    getrandom::fill(&mut seed).map_err(no_randomness)?;
    let key = SigningKey::from_seed(origin, &seed);
    let key = key.map_err(|error| StartupError::Key { path: key_path.clone(), error })?;

    fs::create_dir_all(directory).map_err(file_error(directory))?;
    let config_path = directory.join(CONFIG_FILE);
    if let Some(existing) = [&config_path, &key_path].into_iter().find(|path| path.exists()) {
        return Err(StartupError::Exists(existing.clone()));
    }
    write_new(&config_path, COMMENTED, 0o644)?;
    // The key comes last: a directory with a key is complete.
    write_new(&key_path, &format!("{}\n", key.to_secret_string()), 0o600)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(file_error(directory))?;
    Ok(key.verifier_key().to_string())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), StartupError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(file_error(path))
}

/// A data directory that this process alone uses.
pub struct DataDirectory {
    /// The log's key.
    pub key: SigningKey,
    /// The store.
    pub store: Store,
    /// Held until the process ends.
    _lock: File,
}

impl DataDirectory {
    /// Locks the directory, reads the key and opens the store.
    ///
    /// # Errors
    /// [`StartupError`].
    pub fn open(directory: &Path) -> Result<DataDirectory, StartupError> {
        let key = read_key(&directory.join(KEY_FILE))?;
        let lock = lock(&directory.join(LOCK_FILE), directory)?;
        let store = Store::open(&directory.join(STORE_DIRECTORY))?;
        Ok(DataDirectory { key, store, _lock: lock })
    }
}

fn read_key(path: &Path) -> Result<SigningKey, StartupError> {
    let metadata = fs::metadata(path).map_err(file_error(path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(StartupError::KeyExposed(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(file_error(path))?;
    text.trim_end().parse().map_err(|error| StartupError::Key { path: path.to_owned(), error })
}

fn lock(path: &Path, directory: &Path) -> Result<File, StartupError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(file_error(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartupError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(path)(error)),
    }
}

/// What a store holds, after it was found to be what the log signed.
pub struct Recovered {
    /// Where the sequencer goes on.
    pub state: LogState,
    /// The last checkpoint, its seal and the roster in force, unless the log is empty.
    pub last: Option<(SignedCheckpoint, Seal, Roster)>,
}

/// Re-checks the right edge of the tree, the last seal, the roster that it names and the index root
/// against the signed checkpoint.
///
/// # Errors
/// [`StartupError::Mismatch`] when anything differs; then nothing may be served or sealed.
pub fn recover(view: &View, key: &SigningKey) -> Result<Recovered, StartupError> {
    let Some(signed) = view.checkpoint()? else {
        return match view.entries(0, 1)?.is_empty() {
            true => Ok(Recovered { state: LogState::default(), last: None }),
            false => Err(StartupError::Mismatch("there are entries, but no checkpoint".to_owned())),
        };
    };
    let checkpoint = signed.verify(key.verifier_key())?;
    let frontier = Frontier::read(view, checkpoint.size)?;
    if frontier.root() != checkpoint.root {
        return Err(StartupError::Mismatch("the right edge of the tree leads to another root".to_owned()));
    }
    check_last_tile(view, checkpoint.size)?;
    let seal = read_seal(view, checkpoint.size - 1)?;
    let roster = read_roster(view, seal.roster)?;
    if prefix_tree::root(view)? != seal.index {
        return Err(StartupError::Mismatch("the tag index has another root than the seal says".to_owned()));
    }
    let last = Some((signed.clone(), seal, roster.clone()));
    let state = LogState { frontier, seal: Some(seal), roster: Some((seal.roster, roster)) };
    Ok(Recovered { state, last })
}

/// The entries of the last, partial tile hash to the leaves of the tree, and there are none beyond.
fn check_last_tile(view: &View, size: u64) -> Result<(), StartupError> {
    let start = (size - 1) / FULL_WIDTH * FULL_WIDTH;
    let entries = view.entries(start, FULL_WIDTH as usize + 1)?;
    if entries.len() as u64 != size - start {
        return Err(StartupError::Mismatch(format!("there are entries beyond size {size}, or missing before it")));
    }
    let leaves = view.nodes(0, start, FULL_WIDTH as usize)?;
    let hashes: Vec<u8> = entries.iter().flat_map(|entry| leaf_hash(entry).0).collect();
    if hashes != leaves {
        return Err(StartupError::Mismatch("the last entries do not hash to the leaves of the tree".to_owned()));
    }
    Ok(())
}

fn read_seal(view: &View, index: u64) -> Result<Seal, StartupError> {
    match Entry::parse(&view.entry(index)?) {
        Ok(Entry::Seal(seal)) if seal.size == index => Ok(seal),
        _ => Err(StartupError::Mismatch(format!("entry {index} is not the seal of its checkpoint"))),
    }
}

fn read_roster(view: &View, index: u64) -> Result<Roster, StartupError> {
    match Entry::parse(&view.entry(index)?) {
        Ok(Entry::Roster(roster)) => Ok(roster),
        _ => Err(StartupError::Mismatch(format!("entry {index} is not the roster that the seal names"))),
    }
}
