//! A verified copy of a static log in a directory that any web server can serve.
//!
//! ```text
//! checkpoint ─► consistent with the copy? ─► trusted? ─► edge ─► root ─► upper tiles ─► bundles, run by run ─► checkpoint
//!               (else evidence)              (all keys,  (partial tiles)  each verified by the one above        written last
//!                                             quorum)
//! ```
//!
//! Two histories under the log's Ed25519 signature are reported as misbehaviour, whether or not the log's ML-DSA-44 key and
//! cosigners signed them. A checkpoint that lacks a signature or the quorum that the trust file requires never replaces the
//! copy's.
//!
//! Every file is verified against the signed root before it gets its final name: the root follows from the edge, and each full
//! tile hashes to a node that was verified before. Hash tiles of level 0 are not fetched, but computed from the entries.
//!
//! - [`directory`] writes files atomically.
//! - [`edge`] is the right edge of a tree, from which its root follows.
//! - [`update`] updates the copy; [`check`] verifies it without the log.
//! - [`serve`] serves it over HTTP as c2sp.org/tlog-tiles requires.

pub mod check;
pub mod directory;
pub mod edge;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod update;

use std::path::PathBuf;
use taglog_base::text::path_line;

use taglog_base::directory_lock::LockError;
use taglog_proto::checkpoint::CheckpointError;
use thiserror::Error;

use taglog_evidence::split_view::CompareError;
use taglog_log_client::{memory::MemoryError, static_log::StaticError, trust::InsufficientTrust};

/// Why a copy was not brought up to date. The copy stays as it was.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// A file operation failed.
    #[error("{path}: {error}", path = path_line(.path))]
    File { path: PathBuf, error: std::io::Error },
    /// Another process updates this copy, or its directory cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The copy's own checkpoint is damaged or belongs to another log.
    #[error("{path}: {why}; to make a copy of this log, give an empty directory", path = path_line(.path))]
    OwnCheckpoint { path: PathBuf, why: String },
    /// The log could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// The served checkpoint is malformed or not signed by this log.
    #[error("what is served as the checkpoint is not a checkpoint of this log: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The log signed the checkpoint, but the trust file requires more signatures.
    #[error(transparent)]
    InsufficientTrust(#[from] InsufficientTrust),
    /// Served data does not match the signed root: it was damaged in transit, or comes from another log.
    #[error("{what} is not what the log has signed")]
    Untrue {
        /// The tile or the right edge, and where it was read.
        what: String,
    },
    /// The checkpoints could not be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The log has shrunk or forked.
    #[error("THE LOG MISBEHAVES: {accusation}; {kept}")]
    Misbehaved {
        /// What the log did, in one sentence.
        accusation: String,
        /// Where the evidence was kept.
        kept: String,
    },
    /// Evidence could not be written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A thread panicked.
    #[error("an internal task failed: {0}")]
    Died(String),
}

/// Converts the error of a file operation on this path.
fn file_error(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> MirrorError {
    let path = path.into();
    move |error| MirrorError::File { path, error }
}

/// Runs blocking work, such as disk access or hashing, on a separate thread.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| MirrorError::Died(error.to_string()))?
}
