//! Opens a data directory, and checks what it holds against what the log has signed.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use taglog_base::directory_lock::{DirectoryLock, LockError, LockFile};
use taglog_proto::{
    checkpoint::CheckpointError,
    cosignature::{Algorithm, CosignerSigningKey},
    entry::Roster,
    merkle::{Frontier, leaf_hash},
    note::{NoteError, SigningKey, VerifierKey},
    prefix_tree,
    tile::FULL_WIDTH,
};
use thiserror::Error;

use crate::{
    config::COMMENTED,
    keys::LogKeys,
    sequencer::LogState,
    snapshot::Snapshot,
    store::{Store, StoreError, View},
};

/// The configuration file within a data directory.
pub const CONFIG_FILE: &str = "taglog-server.toml";
const KEY_FILE: &str = "key";
const ML_DSA_KEY_FILE: &str = "key-ml-dsa";
const LOCK: LockFile = LockFile {
    name: "lock",
    program: "taglog-server",
    remedy: "stop that one first, because two servers on one log would fork it",
};
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
    /// A second server on one directory, or one that cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
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
    /// The ML-DSA-44 key file holds another kind of key, or one of another name.
    #[error("{0} must hold an ML-DSA-44 key whose name is the log's origin")]
    OtherKey(PathBuf),
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

/// A new data directory: configuration, keys with mode 0600, one for ML-DSA-44 if wanted. Returns
/// the log's vkeys, Ed25519 first.
///
/// # Errors
/// [`StartupError::Exists`], [`StartupError::Key`] for a bad origin, [`StartupError::File`].
pub fn init(directory: &Path, origin: &str, ml_dsa: bool) -> Result<Vec<String>, StartupError> {
    let [config_path, key_path, ml_dsa_path] =
        [CONFIG_FILE, KEY_FILE, ML_DSA_KEY_FILE].map(|file| directory.join(file));
    let bad_key = |error| StartupError::Key { path: key_path.clone(), error };
    let ed25519 = SigningKey::from_seed(origin, &random_seed(&key_path)?).map_err(bad_key)?;
    let ml_dsa = match ml_dsa {
        true => Some(CosignerSigningKey::from_seed(origin, Algorithm::MlDsa44, &random_seed(&ml_dsa_path)?)),
        false => None,
    };
    let keys = LogKeys { ed25519, ml_dsa: ml_dsa.transpose().map_err(bad_key)? };

    fs::create_dir_all(directory).map_err(file_error(directory))?;
    if let Some(existing) = [&config_path, &key_path, &ml_dsa_path].into_iter().find(|path| path.exists()) {
        return Err(StartupError::Exists(existing.clone()));
    }
    write_new(&config_path, COMMENTED, 0o644)?;
    if let Some(key) = &keys.ml_dsa {
        write_new(&ml_dsa_path, &format!("{}\n", key.to_secret_string()), 0o600)?;
    }
    // This key comes last: a directory with it is complete.
    write_new(&key_path, &format!("{}\n", keys.ed25519.to_secret_string()), 0o600)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(file_error(directory))?;
    Ok(keys.vkeys())
}

fn random_seed(path: &Path) -> Result<[u8; 32], StartupError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| file_error(path)(std::io::Error::other(error)))?;
    Ok(seed)
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
    /// The log's keys.
    pub keys: LogKeys,
    /// The store.
    pub store: Store,
    /// Held until the process ends.
    pub lock: DirectoryLock,
}

impl DataDirectory {
    /// Locks the directory, reads the keys and opens the store.
    ///
    /// # Errors
    /// [`StartupError`].
    pub fn open(directory: &Path) -> Result<DataDirectory, StartupError> {
        let keys = read_keys(directory)?;
        let lock = LOCK.acquire(directory)?;
        let store = Store::open(&directory.join(STORE_DIRECTORY))?;
        Ok(DataDirectory { keys, store, lock })
    }
}

fn read_keys(directory: &Path) -> Result<LogKeys, StartupError> {
    let ed25519: SigningKey = read_key(&directory.join(KEY_FILE))?;
    let path = directory.join(ML_DSA_KEY_FILE);
    let ml_dsa: Option<CosignerSigningKey> = if path.exists() { Some(read_key(&path)?) } else { None };
    let fits = |key: &CosignerSigningKey| {
        key.key().algorithm() == Algorithm::MlDsa44 && key.key().name() == ed25519.verifier_key().name()
    };
    if ml_dsa.as_ref().is_some_and(|key| !fits(key)) {
        return Err(StartupError::OtherKey(path));
    }
    Ok(LogKeys { ed25519, ml_dsa })
}

fn read_key<K: FromStr<Err = NoteError>>(path: &Path) -> Result<K, StartupError> {
    let metadata = fs::metadata(path).map_err(file_error(path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(StartupError::KeyExposed(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(file_error(path))?;
    text.trim_end().parse().map_err(|error| StartupError::Key { path: path.to_owned(), error })
}

/// What a store holds, after it was found to be what the log signed.
pub struct Recovered {
    /// Where the sequencer goes on.
    pub state: LogState,
    /// The last commit, unless the log is empty.
    pub last: Option<Snapshot>,
}

/// Re-checks the right edge of the tree, the last seal, the roster that it names and the index root
/// against the signed checkpoint.
///
/// # Errors
/// [`StartupError::Mismatch`] when anything differs; then nothing may be served or sealed.
pub fn recover(view: View, key: &VerifierKey) -> Result<Recovered, StartupError> {
    let has_entries = !view.entries(0, 1)?.is_empty();
    let Some(last) = Snapshot::read(view, None)? else {
        return match has_entries {
            false => Ok(Recovered { state: LogState::default(), last: None }),
            true => Err(StartupError::Mismatch("there are entries, but no checkpoint".to_owned())),
        };
    };
    let checkpoint = last.checkpoint.verify(key)?;
    let frontier = Frontier::read(&last.view, checkpoint.size)?;
    if frontier.root() != checkpoint.root {
        return Err(StartupError::Mismatch("the right edge of the tree leads to another root".to_owned()));
    }
    check_last_tile(&last.view, checkpoint.size)?;
    if prefix_tree::root(&last.view)? != last.seal.index {
        return Err(StartupError::Mismatch("the tag index has another root than the seal says".to_owned()));
    }
    let roster = Some((last.seal.roster, Roster::clone(&last.roster)));
    let state = LogState { frontier, seal: Some(last.seal), roster };
    Ok(Recovered { state, last: Some(last) })
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
