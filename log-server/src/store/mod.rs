//! Stores the log and commits batches atomically.
//!
//! The interface is small: [`Store::commit`] takes everything that one batch changes, and [`Store::view`] is a snapshot
//! of the last commit, unchanged by later ones. Nothing outside this module depends on the database engine.

mod codec;
mod rocks;

use std::collections::BTreeSet;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::Statement,
    index::IndexChanges,
    merkle::Hash,
    name::{Digest, Image, WitnessId},
};
use thiserror::Error;

pub use rocks::{Store, View};

/// Why the store failed. The messages are for the operator, not for clients.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("RocksDB: {0}")]
    Engine(#[from] rocksdb::Error),
    /// A record that must exist.
    #[error("the store has no {0}; it is damaged; restore it from a backup")]
    Missing(String),
    /// A record that cannot be decoded.
    #[error("the store's {0} cannot be decoded; it is damaged; restore it from a backup")]
    Corrupt(String),
    /// The format of the store, and the one that this version reads.
    #[error("the store has format {0:?}, but this version reads {1:?}; use the version that wrote it")]
    Version(String, &'static str),
}

/// Everything that one batch changes, committed in one transaction.
pub struct Commit<'a> {
    /// The index of the first entry.
    pub first: u64,
    /// The entries' bytes, the seal last.
    pub entries: &'a [Vec<u8>],
    /// Completed nodes of the tree: level, index, hash.
    pub nodes: &'a [(u8, u64, Hash)],
    /// The statements among the entries, for deduplication: key and log index.
    pub statements: &'a [(StatementKey, u64)],
    /// The changes to the tag index.
    pub index: &'a IndexChanges,
    /// Tags that this batch's sightings show to be retagged: log index and image.
    pub retags: &'a [(u64, Image)],
    /// Witnesses admitted by a roster in this batch, with their public keys.
    pub admitted: &'a [(WitnessId, [u8; 32])],
    /// The signed checkpoint over everything up to the seal.
    pub checkpoint: &'a SignedCheckpoint,
}

/// Identifies a statement: the first 16 bytes of SHA-256 over the witness id, a newline and the text of the note. The
/// signature is not included, because a witness can make many signatures of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatementKey([u8; 16]);

impl StatementKey {
    pub fn of(statement: &Statement) -> StatementKey {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::new_with_prefix(statement.witness().to_string());
        let hash = hash.chain_update("\n").chain_update(statement.text()).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        StatementKey(key)
    }
}

/// A raw manifest to store, and the digests that it names.
pub struct KeptManifest<'a> {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes as the registry served them.
    pub bytes: &'a [u8],
    /// Platform manifests and configurations that it names.
    pub names: BTreeSet<Digest>,
}
