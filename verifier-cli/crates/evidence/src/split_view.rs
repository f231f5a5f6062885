//! Split views: checks whether two signed checkpoints belong to one append-only log, and builds the evidence if not.

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

/// How two checkpoints of a log relate to each other.
#[derive(Debug)]
pub enum Comparison {
    /// The same size and root.
    Same,
    /// The smaller one is a prefix of the larger.
    Consistent,
    /// The log signed two different histories.
    Split(Box<Split>),
}

/// Proof that the log signed two different histories.
#[derive(Debug)]
pub struct Split {
    /// Evidence that was checked to prove misbehaviour.
    pub evidence: Evidence,
    /// What the evidence proves, in one sentence.
    pub accusation: String,
}

/// Why two checkpoints could not be compared. None of these is proof of misbehaviour.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A checkpoint that the log did not sign.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tiles of the larger checkpoint could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// The tiles are damaged or belong to another tree, so they prove nothing.
    #[error("the tiles at {location} do not lead to the root that the log signed for {size} entries")]
    Untrue {
        /// Where the tiles were read.
        location: String,
        /// The size of the larger checkpoint.
        size: u64,
    },
}

/// Verifies two checkpoints with the log's key and compares them. `tiles` serves the tree of the larger one.
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

/// A split, if the evidence proves misbehaviour.
fn split(evidence: Evidence, log: &VerifierKey) -> Option<Comparison> {
    let (evidence, accusation) = with_accusation(evidence, log)?;
    Some(Comparison::Split(Box::new(Split { evidence, accusation })))
}
