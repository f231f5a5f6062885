//! Creates and opens data directories, and checks the store against the last signed checkpoint.

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
    config::TEMPLATE,
    keys::LogKeys,
    sequencer::LogState,
    snapshot::Snapshot,
    store::{Store, StoreError, View},
};
use taglog_base::text::path_line;

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
    #[error("{path}: {error}", path = path_line(.path))]
    File { path: PathBuf, error: std::io::Error },
    #[error("{0} exists already; 'taglog-server init' only creates new data directories; choose another directory")]
    Exists(PathBuf),
    /// A second server on one directory, or one that cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{0} can be read by others; a secret key must be readable by its owner only; run 'chmod 600' on it")]
    KeyExposed(PathBuf),
    #[error("{path}: {error}", path = path_line(.path))]
    Key { path: PathBuf, error: NoteError },
    /// The ML-DSA-44 key file has a key of another algorithm, or of another name.
    #[error("{0} must hold an ML-DSA-44 key whose name is the log's origin")]
    WrongKey(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last checkpoint is not signed by the log's key.
    #[error("the stored checkpoint is not signed by this log's key: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "the store does not match the signed checkpoint: {0}; the server does not start on damaged data; restore a \
         complete backup"
    )]
    Mismatch(String),
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> StartupError {
    let path = path.to_owned();
    move |error| StartupError::File { path, error }
}

/// Creates a data directory: configuration and keys with mode 0600, with an ML-DSA-44 key if `ml_dsa`. Returns the
/// log's vkeys, Ed25519 first.
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
    write_new(&config_path, TEMPLATE, 0o644)?;
    if let Some(key) = &keys.ml_dsa {
        write_new(&ml_dsa_path, &format!("{}\n", key.to_secret_string()), 0o600)?;
    }
    // This key is written last: a directory that has it is complete.
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

/// An open data directory, locked against other processes.
pub struct DataDirectory {
    pub keys: LogKeys,
    pub store: Store,
    /// Held until the process ends.
    pub lock: DirectoryLock,
}

impl DataDirectory {
    /// Locks the directory, reads the keys and opens the store.
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
    let is_valid = |key: &CosignerSigningKey| {
        key.key().algorithm() == Algorithm::MlDsa44 && key.key().name() == ed25519.verifier_key().name()
    };
    if ml_dsa.as_ref().is_some_and(|key| !is_valid(key)) {
        return Err(StartupError::WrongKey(path));
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

/// The contents of a store that matches the signed checkpoint.
pub struct RecoveredLog {
    /// The state from which the sequencer continues.
    pub state: LogState,
    /// The last commit; `None` for an empty log.
    pub last: Option<Snapshot>,
}

/// Checks the right edge of the tree, the last seal, the roster that it names and the root of the tag index against the
/// signed checkpoint.
///
/// # Errors
/// [`StartupError::Mismatch`] if anything differs; then nothing may be served or sealed.
pub fn recover(view: View, key: &VerifierKey) -> Result<RecoveredLog, StartupError> {
    let has_entries = !view.entries(0, 1)?.is_empty();
    let Some(last) = Snapshot::read(view, None)? else {
        return match has_entries {
            false => Ok(RecoveredLog { state: LogState::default(), last: None }),
            true => Err(StartupError::Mismatch("there are entries, but no checkpoint".to_owned())),
        };
    };
    let checkpoint = last.checkpoint.verify(key)?;
    let frontier = Frontier::read(&last.view, checkpoint.size)?;
    if frontier.root() != checkpoint.root {
        return Err(StartupError::Mismatch("the right edge of the tree has another root".to_owned()));
    }
    check_last_tile(&last.view, checkpoint.size)?;
    if prefix_tree::root(&last.view)? != last.seal.index {
        return Err(StartupError::Mismatch("the tag index has another root than the seal".to_owned()));
    }
    let roster = Some((last.seal.roster, Roster::clone(&last.roster)));
    let state = LogState { frontier, seal: Some(last.seal), roster };
    Ok(RecoveredLog { state, last: Some(last) })
}

/// Checks that the entries of the last, partial tile hash to the leaves of the tree, and that none follow.
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
