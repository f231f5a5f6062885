//! The witness's secret key, read from its file.

use std::path::{Path, PathBuf};

use taglog_base::text::path_line;
use taglog_proto::{
    name::{NameError, WitnessName},
    note::{NoteError, SigningKey},
};
use thiserror::Error;

/// Why a key cannot be used.
#[derive(Debug, Error)]
#[error("{path}: {why}; 'taglog keygen NAME --key FILE' makes a witness's key", path = path_line(.path))]
pub struct KeyError {
    path: PathBuf,
    why: KeyErrorReason,
}

#[derive(Debug, Error)]
enum KeyErrorReason {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Key(#[from] NoteError),
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Reads a witness's secret key, as `taglog keygen` writes it.
///
/// # Errors
/// [`KeyError`]; also when the key's name is no witness name, so that whatever is signed with it is well-formed.
pub fn read_key(path: &Path) -> Result<SigningKey, KeyError> {
    read(path).map_err(|why| KeyError { path: path.to_owned(), why })
}

fn read(path: &Path) -> Result<SigningKey, KeyErrorReason> {
    let key: SigningKey = std::fs::read_to_string(path)?.trim_end().parse()?;
    WitnessName::parse(key.verifier_key().name())?;
    Ok(key)
}
