//! Errors of the alert store.

use taglog_state::{FailureKind, OpenError};
use thiserror::Error;

/// Why the alert store cannot be used.
#[derive(Clone, Debug, Error)]
pub enum AlertStoreError {
    /// The state directory is in use, or the file cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    #[error("the state belongs to the log {0}; give each log a state directory of its own")]
    OtherLog(String),
    /// The content of the file is inconsistent.
    #[error(
        "the monitor's alert store is damaged: {0}; move monitor.sqlite away, and the monitor creates a new one \
         without the old alerts"
    )]
    Damaged(String),
    #[error("no room for the monitor's alert store; free disk space")]
    Full,
    /// The database failed in another way.
    #[error("the monitor's alert store cannot be read or written: {0}")]
    Database(String),
}

impl From<OpenError> for AlertStoreError {
    fn from(error: OpenError) -> AlertStoreError {
        match error {
            OpenError::Damaged { why, .. } => AlertStoreError::Damaged(why),
            OpenError::Full { .. } => AlertStoreError::Full,
            error => AlertStoreError::Open(error),
        }
    }
}

impl From<rusqlite::Error> for AlertStoreError {
    fn from(error: rusqlite::Error) -> AlertStoreError {
        match FailureKind::of(&error) {
            FailureKind::Full => AlertStoreError::Full,
            FailureKind::Damaged => AlertStoreError::Damaged(error.to_string()),
            FailureKind::Other => AlertStoreError::Database(error.to_string()),
        }
    }
}

/// The error for stored data that this program cannot have written.
pub(super) fn damaged(what: impl std::fmt::Display) -> AlertStoreError {
    AlertStoreError::Damaged(what.to_string())
}
