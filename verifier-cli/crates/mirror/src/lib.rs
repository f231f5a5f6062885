//! A verified copy of a static log in a directory that any web server can serve.
//!
//! ```text
//! checkpoint ─► consistent with the copy? ─► trusted? ─► edge ─► root ─► upper tiles ─► bundles, run by run ─► checkpoint
//!               (else evidence)              (all keys,  (partial tiles)  each proven by the one above          last
//!                                             quorum)
//! ```
//!
//! Two histories under the log's Ed25519 signature are an alarm, whoever else has signed them. But nothing replaces what
//! is in the copy that the trust file's readers would not believe: a checkpoint without the log's ML-DSA-44 signature, or
//! without the quorum, where the trust file asks for them.
//!
//! Everything is proven by the signed root before it gets its name: the edge leads to the root, and each full tile
//! hashes to a node that is proven already. Hash tiles of level 0 are not even asked for: they follow from entries.
//!
//! - [`directory`] writes files so that they are whole or not there;
//! - [`edge`] is the right edge of a tree, which leads to its root;
//! - [`pass`] brings the copy up to the log; [`check`] verifies the copy alone;
//! - [`serve`] answers for it as tlog-tiles demands.

pub mod check;
pub mod directory;
pub mod edge;
pub mod pass;
pub mod serve;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use taglog_base::directory_lock::LockError;
use taglog_proto::checkpoint::CheckpointError;
use thiserror::Error;

use taglog_evidence::split_view::CompareError;
use taglog_log_client::{memory::MemoryError, static_log::StaticError, trust::InsufficientTrust};

/// Why a copy was not brought up to date. The copy stays as it was.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// A file operation failed.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another process keeps this copy, or its directory cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The copy's own checkpoint is damaged or another log's.
    #[error("{path}: {why}; if it shall become the copy of this log, give an empty directory")]
    OwnCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// What is served as a checkpoint is none of this log.
    #[error("what is served as checkpoint is none of this log: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The log has signed it, and the trust file asks for more.
    #[error(transparent)]
    InsufficientTrust(#[from] InsufficientTrust),
    /// What is served is not what the log has signed: damaged on the way, or not the log at all.
    #[error("{what} is not what the log has signed")]
    Untrue {
        /// The tile, or the right edge.
        what: String,
    },
    /// The checkpoints could not be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The log has shrunk or forked.
    #[error("THE LOG MISBEHAVES: {accusation}; {kept}")]
    Misbehaved {
        /// Of what, in one sentence.
        accusation: String,
        /// Where what shows it is.
        kept: String,
    },
    /// What shows misbehaviour could not be kept.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A thread has died.
    #[error("a part of the program has died: {0}")]
    Died(String),
}

/// The error of a file operation on this path.
fn file_error(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> MirrorError {
    let path = path.into();
    move |error| MirrorError::File { path, error }
}

/// Runs work that waits for the disk or takes the processor for a while.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| MirrorError::Died(error.to_string()))?
}
