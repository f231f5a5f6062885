//! Why a state file cannot be opened, and what a failed SQLite call means to a program that keeps state.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use taglog_base::directory_lock::LockError;
use taglog_base::text::path_line;
use thiserror::Error;

/// Why state cannot be opened. Nothing was changed.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// The directory is in use, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A later version of taglog wrote the file.
    #[error(
        "{path} was written by a newer version of taglog (its tables are of version {version}, this program knows \
         {known}): use that version",
        path = path_line(.path)
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        version: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A sound SQLite file with other tables.
    #[error("{path} does not belong here ({why}): move it away, or name another directory", path = path_line(.path))]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// What shows that.
        why: String,
    },
    /// The file is no SQLite database, or its parts contradict each other.
    #[error("{path} is damaged: {why}", path = path_line(.path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no room for the file.
    #[error("no room for {path}: free disk space", path = path_line(.path))]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// SQLite failed in another way.
    #[error("{path} cannot be opened: {reason}", path = path_line(.path))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's message.
        reason: String,
    },
}

impl OpenError {
    /// The error of an SQLite call on this file.
    pub(crate) fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        move |error| match FailureKind::of(&error) {
            FailureKind::Full => OpenError::Full { path: path.clone() },
            FailureKind::Damaged => OpenError::Damaged { path: path.clone(), why: error.to_string() },
            FailureKind::Other => OpenError::Sqlite { path: path.clone(), reason: error.to_string() },
        }
    }

    /// Whether another process works on this state.
    pub fn is_in_use(&self) -> bool {
        matches!(self, OpenError::Lock(error) if error.is_in_use())
    }
}

/// What a failed SQLite call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The disk is full, or the file has reached its limit.
    Full,
    /// The file is damaged.
    Damaged,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// The kind of this error.
    pub fn of(error: &rusqlite::Error) -> FailureKind {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => FailureKind::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => FailureKind::Damaged,
            // What these programs write, they can read: another value was not written by them.
            _ if is_bad_value(error) => FailureKind::Damaged,
            _ => FailureKind::Other,
        }
    }
}

fn is_bad_value(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}
