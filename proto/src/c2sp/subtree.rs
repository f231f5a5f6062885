//! Subtrees of the append-only tree, and the proof that one is part of a whole tree
//! (draft-ietf-plants-merkle-tree-certs-03, sections 4.1 and 4.4).
//!
//! A subtree is the leaves `[start, end)` where `start` is a multiple of the smallest power of two
//! that is at least `end − start`. Its root is that of RFC 6962 over these leaves alone. The first
//! `end` leaves are a subtree too (start 0), and the proof for it is RFC 6962's consistency proof.

use crate::c2sp::{
    OperationError,
    merkle::{Hash, NodeReader, ProofError, ProveError, split_point, subtree_root, verify_range},
};

/// The leaves `[start, end)`, checked to be a subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subtree {
    start: u64,
    end: u64,
}

impl Subtree {
    /// The subtree over `[start, end)`; `None` when that is none.
    pub fn new(start: u64, end: u64) -> Option<Subtree> {
        let width = end.checked_sub(start).filter(|width| *width > 0)?;
        let step = width.checked_next_power_of_two()?;
        start.is_multiple_of(step).then_some(Subtree { start, end })
    }

    /// The index of its first leaf.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The index after its last leaf.
    pub fn end(self) -> u64 {
        self.end
    }

    /// The root over its leaves.
    pub fn root<R: NodeReader>(self, reader: &R) -> Result<Hash, R::Error> {
        subtree_root(reader, self.start, self.end)
    }
}

/// SUBTREE_PROOF(start, end, D[0:size]) of section 4.4.1: that the subtree is part of the tree of `size` leaves.
///
/// # Errors
/// [`ProofError::SizesOutOfRange`] as a refusal when the subtree ends after the tree.
pub fn subtree_proof<R: NodeReader>(reader: &R, subtree: Subtree, size: u64) -> Result<Vec<Hash>, ProveError<R>> {
    let Subtree { start, end } = subtree;
    if end > size {
        return Err(OperationError::Refused(ProofError::SizesOutOfRange { from: end, to: size }));
    }
    let root = |start, end| subtree_root(reader, start, end).map_err(OperationError::Reader);
    let mut proof = Vec::new();
    let (mut left, mut right) = (0, size);
    // False once the subtree's left part is in the proof: then what is left of it is not known to the verifier.
    let mut whole = true;
    // What is left of the subtree within [left, right) begins where both do, or at its own start.
    while (start.max(left), end) != (left, right) {
        let middle = left + split_point(right - left);
        if end <= middle {
            proof.push(root(middle, right)?);
            right = middle;
        } else {
            whole &= start >= middle;
            proof.push(root(left, middle)?);
            left = middle;
        }
    }
    if !whole {
        proof.push(root(left, right)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks a subtree consistency proof by the algorithm of section 4.4.3.
///
/// # Errors
/// The subtree ends after the tree, the proof has the wrong length, or leads to other roots.
pub fn verify_subtree(subtree: Subtree, size: u64, proof: &[Hash], hash: &Hash, root: &Hash) -> Result<(), ProofError> {
    verify_range(subtree.start, subtree.end, size, proof, hash, root)
}
