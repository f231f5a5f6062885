//! Split views: whether two signed checkpoints can be of one log that only ever appends, and the evidence if not.

use taglog_proto::{
    OperationError,
    checkpoint::{CheckpointError, SignedCheckpoint},
    evidence::{Evidence, Inconsistency},
    merkle::{consistency_proof, verify_consistency},
    note::VerifierKey,
};
use thiserror::Error;

use taglog_audit::evidence::{fork, with_accusation};
use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    tile_nodes::TileNodes,
};

/// What two checkpoints of a log are to each other.
#[derive(Debug)]
pub enum Comparison {
    /// One size, one root.
    Same,
    /// The smaller one is a prefix of the larger.
    Consistent,
    /// The log has signed two histories.
    Split(Box<Split>),
}

/// Two histories under one key.
#[derive(Debug)]
pub struct Split {
    /// It convicts: that was checked.
    pub evidence: Evidence,
    /// What it says, in one sentence.
    pub accusation: String,
}

/// Why two checkpoints could not be compared. None of these is proof of misbehaviour.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A checkpoint that the log did not sign.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tiles of the larger one could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// The tiles are damaged or of another tree, so they show nothing.
    #[error("the tiles at {location} do not lead to the root that the log signed for {size} entries")]
    Untrue {
        /// Where the tiles are.
        location: String,
        /// The size of the larger checkpoint.
        size: u64,
    },
}

/// Compares two checkpoints under the log's key. `tiles` has the tree of the larger one.
///
/// # Errors
/// [`CompareError`].
pub async fn compare(
    log: &VerifierKey,
    a: &SignedCheckpoint,
    b: &SignedCheckpoint,
    tiles: &StaticLog,
) -> Result<Comparison, CompareError> {
    let (old, new) = if a.unverified().size <= b.unverified().size { (a, b) } else { (b, a) };
    let (m, n) = (old.verify(log)?.clone(), new.verify(log)?.clone());
    if m == n {
        return Ok(Comparison::Same);
    }
    let untrue = || CompareError::Untrue { location: tiles.location(), size: n.size };
    if m.size == n.size {
        return split(fork(a, b), log).ok_or_else(untrue);
    }
    let mut nodes = TileNodes::new(tiles, n.size);
    let proof = nodes.run(|tiles| OperationError::unless_refused(consistency_proof(tiles, m.size, n.size))).await?;
    if proof.is_some_and(|proof| verify_consistency(m.size, n.size, &proof, &m.root, &n.root).is_ok()) {
        return Ok(Comparison::Consistent);
    }
    let inconsistency = nodes.run(|tiles| Inconsistency::collect(old, new, tiles)).await?;
    split(Evidence::Inconsistency(inconsistency), log).ok_or_else(untrue)
}

/// Only what convicts is evidence.
fn split(evidence: Evidence, log: &VerifierKey) -> Option<Comparison> {
    let (evidence, accusation) = with_accusation(evidence, log)?;
    Some(Comparison::Split(Box::new(Split { evidence, accusation })))
}
