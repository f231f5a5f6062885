//! Why the ledger cannot be used.

use taglog_state::{FailureKind, OpenError};
use thiserror::Error;

/// Why the ledger cannot be used.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// The state directory is in use, or the file cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// It belongs to another log.
    #[error("the state belongs to the log {0}: give each log a state directory of its own")]
    OtherLog(String),
    /// What is in the file does not hold together.
    #[error(
        "the monitor's ledger is damaged: {0}; move monitor.sqlite away to begin a new one (it knows no old alerts)"
    )]
    Damaged(String),
    /// The disk is full.
    #[error("no room for the monitor's ledger: free disk space")]
    Full,
    /// The database failed in another way.
    #[error("the monitor's ledger cannot be read or written: {0}")]
    Database(String),
}

impl From<OpenError> for LedgerError {
    fn from(error: OpenError) -> LedgerError {
        match error {
            OpenError::Damaged { why, .. } => LedgerError::Damaged(why),
            OpenError::Full { .. } => LedgerError::Full,
            error => LedgerError::Open(error),
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> LedgerError {
        match FailureKind::of(&error) {
            FailureKind::Full => LedgerError::Full,
            FailureKind::Damaged => LedgerError::Damaged(error.to_string()),
            FailureKind::Other => LedgerError::Database(error.to_string()),
        }
    }
}

/// What was read is not what this program writes.
pub(super) fn damaged(what: impl std::fmt::Display) -> LedgerError {
    LedgerError::Damaged(what.to_string())
}
