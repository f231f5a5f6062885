//! Why an auditor cannot work, and what ends the audit of entries.

use std::path::PathBuf;

use taglog_base::directory_lock::LockError;
use taglog_proto::{audit::Violation, entry::EntryError};
use taglog_state::OpenError;
use thiserror::Error;

use super::{batch::MAX_BATCH, trie::TooLarge};

/// Why an auditor cannot work. None of it is the log's misbehaviour.
#[derive(Debug, Error)]
pub enum AuditorError {
    /// A file or directory that cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The database failed.
    #[error("the auditor's database: {0}; is the disk full?")]
    Database(#[from] rusqlite::Error),
    /// There are too many threads on the system.
    #[error("the system gives this auditor no thread: {0}")]
    Thread(std::io::Error),
    /// The thread that writes to the database has ended early.
    #[error("the auditor can no longer write to its database: start it again")]
    Writer,
    /// Another auditor holds the directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state is of a newer version, or cannot be opened for another reason.
    #[error("{0}; 'taglog audit --full' replaces a state that cannot be opened")]
    Open(OpenError),
    /// A state that cannot be read, or does not fit itself.
    #[error("{path} is damaged ({what}): move it away, and taglog audits the log anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The state of another log.
    #[error("{path} is the state of another log, {of}: give another --state")]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// The vkey in it.
        of: String,
    },
    /// There is no state yet.
    #[error("nothing was audited in {0} yet: run 'taglog audit' first")]
    NotAudited(PathBuf),
    /// More names than can be held.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A batch that is longer than this auditor can hold.
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

/// What ends a push.
#[derive(Debug, Error)]
pub enum PushError {
    /// The log broke a rule: it is convicted by its own entries.
    #[error("entry {index}: {violation}")]
    Violation {
        /// The index of the entry.
        index: u64,
        /// The rule.
        violation: Violation,
    },
    /// An entry of a kind that a later version knows. Not misbehaviour.
    #[error("cannot audit past entry {index}, upgrade: {kind}")]
    UnknownKind {
        /// The index of the entry.
        index: u64,
        /// Its kind.
        kind: EntryError,
    },
    /// The auditor's own trouble.
    #[error(transparent)]
    Auditor(#[from] AuditorError),
}
