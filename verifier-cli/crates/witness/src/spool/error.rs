//! Why the spool cannot be used.

use std::path::PathBuf;

use taglog_base::directory_lock::LockError;
use taglog_base::text::path_line;
use taglog_state::{FailureKind, OpenError};
use thiserror::Error;

/// Why the spool cannot be used.
#[derive(Clone, Debug, Error)]
pub enum SpoolError {
    /// A file operation failed.
    #[error("{path}: {reason}", path = path_line(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The state directory is in use, or the file cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// It belongs to another key.
    #[error("the spool belongs to witness {0}: give each witness a state directory of its own")]
    OtherWitness(String),
    /// What is in the file does not hold together.
    #[error("the spool is damaged: {0}")]
    Damaged(String),
    /// The disk is full, or the spool has reached its limit.
    #[error("no room in the spool: free disk space or raise spool-limit-mib; nothing is signed until then")]
    Full,
    /// The database failed in another way.
    #[error("the spool cannot be read or written: {0}")]
    Database(String),
    /// The spool's thread has ended.
    #[error("the spool is closed")]
    Closed,
}

impl From<OpenError> for SpoolError {
    fn from(error: OpenError) -> SpoolError {
        match error {
            OpenError::Damaged { why, .. } => SpoolError::Damaged(why),
            OpenError::Full { .. } => SpoolError::Full,
            error => SpoolError::Open(error),
        }
    }
}

impl From<LockError> for SpoolError {
    fn from(error: LockError) -> SpoolError {
        SpoolError::Open(error.into())
    }
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> SpoolError {
        match FailureKind::of(&error) {
            FailureKind::Full => SpoolError::Full,
            FailureKind::Damaged => SpoolError::Damaged(error.to_string()),
            FailureKind::Other => SpoolError::Database(error.to_string()),
        }
    }
}
