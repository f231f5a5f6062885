//! Errors of the auditor itself, and of the entries that are pushed into it.

use std::path::PathBuf;

use taglog_base::directory_lock::LockError;
use taglog_proto::{audit::Violation, entry::EntryError};
use taglog_state::OpenError;
use thiserror::Error;

use super::{batch::MAX_BATCH, trie::TooLarge};
use taglog_base::text::path_line;

/// A local failure of the auditor. None of these is misbehaviour of the log.
#[derive(Debug, Error)]
pub enum AuditorError {
    /// A file operation failed.
    #[error("{path}: {reason}", path = path_line(.path))]
    File {
        path: PathBuf,
        /// The system's error message.
        reason: String,
    },
    #[error("the auditor's database: {0}; is the disk full?")]
    Database(#[from] rusqlite::Error),
    /// The system could not start a thread.
    #[error("the system cannot start another thread for the auditor: {0}")]
    Thread(std::io::Error),
    /// The thread that writes to the database panicked.
    #[error("the auditor can no longer write to its database: start it again")]
    Writer,
    /// Another auditor uses the directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state was written by a newer version, or cannot be opened for another reason.
    #[error("{0}; 'taglog audit --full' replaces a state that cannot be opened")]
    Open(OpenError),
    /// The state cannot be read or contradicts itself.
    #[error("{path} is damaged ({what}): move it away, and the next audit starts from the first entry", path = path_line(.path))]
    Damaged {
        path: PathBuf,
        /// The part that is damaged.
        what: String,
    },
    /// The state belongs to another log.
    #[error("{path} is the state of another log, {of}: give another --state", path = path_line(.path))]
    OtherLog {
        path: PathBuf,
        /// The vkey of the log that the state belongs to.
        of: String,
    },
    /// The directory has no state yet.
    #[error("nothing was audited in {0} yet: run 'taglog audit' first")]
    NotAudited(PathBuf),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The batch that begins at this log index has more than [`MAX_BATCH`] entries.
    #[error(
        "the batch from entry {0} on has over {MAX_BATCH} entries, which is more than this auditor holds in memory"
    )]
    BatchTooLong(u64),
}

impl From<OpenError> for AuditorError {
    fn from(error: OpenError) -> AuditorError {
        match error {
            OpenError::Lock(error) => AuditorError::Lock(error),
            OpenError::Damaged { path, why } => AuditorError::Damaged { path, what: why },
            error => AuditorError::Open(error),
        }
    }
}

/// Why entries were not taken.
#[derive(Debug, Error)]
pub enum PushError {
    /// The log broke a rule: its own entries prove misbehaviour.
    #[error("entry {index}: {violation}")]
    Violation {
        /// The log index of the entry.
        index: u64,
        violation: Violation,
    },
    /// An entry of an unknown kind, which needs a newer version of taglog. Not misbehaviour.
    #[error("cannot audit past entry {index}, upgrade: {kind}")]
    UnknownKind {
        /// The log index of the entry.
        index: u64,
        kind: EntryError,
    },
    #[error(transparent)]
    Auditor(#[from] AuditorError),
}
