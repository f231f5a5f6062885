//! Two checkpoints that contradict each other.

use serde::{Deserialize, Serialize};

use super::{EvidenceError, signed};
use crate::c2sp::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    merkle::{Frontier, Hash, NodeReader, ProofError, fold_right, subtree_root},
    note::VerifierKey,
};

/// Fork at equal sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Two signed checkpoints.
    pub checkpoints: [String; 2],
}

/// Fork at sizes m < n.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inconsistency {
    /// The signed checkpoint of size m.
    pub old: String,
    /// The signed checkpoint of size n.
    pub new: String,
    /// The roots of the maximal perfect subtrees of the entries [0, m) in the tree of n, largest
    /// first: one for each one bit of m.
    pub prefix: Vec<Hash>,
    /// The other nodes that lead to the root of n, left to right.
    pub rest: Vec<Hash>,
}

impl Fork {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let [a, b] = [signed(&self.checkpoints[0], log)?, signed(&self.checkpoints[1], log)?];
        if a.size != b.size {
            return Err(EvidenceError::ProvesNothing("the checkpoints have different sizes"));
        }
        if a.root == b.root {
            return Err(EvidenceError::ProvesNothing("the checkpoints have the same root"));
        }
        Ok(format!("{} signed two different roots for size {}", log.name(), a.size))
    }
}

impl Inconsistency {
    /// Collects the nodes of the newer tree that show that the older is no prefix of it.
    ///
    /// # Errors
    /// What the reader, which gives the nodes of the newer tree, says.
    pub fn collect<R: NodeReader>(
        old: &SignedCheckpoint,
        new: &SignedCheckpoint,
        reader: &R,
    ) -> Result<Inconsistency, R::Error> {
        let (m, n) = (old.unverified().size, new.unverified().size);
        Ok(Inconsistency {
            old: old.to_string(),
            new: new.to_string(),
            prefix: Frontier::read(reader, m)?.nodes().to_vec(),
            rest: rest_nodes(reader, m, n)?,
        })
    }

    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let (old, new) = (signed(&self.old, log)?, signed(&self.new, log)?);
        if old.size >= new.size {
            return Err(EvidenceError::ProvesNothing("the first checkpoint is not the smaller one"));
        }
        check_fold(&self.prefix, old.size, &self.rest, &new)?;
        if fold_right(&self.prefix) == Some(old.root) {
            return Err(EvidenceError::ProvesNothing("the older checkpoint is a prefix of the newer"));
        }
        Ok(format!("{}'s checkpoint of size {} is no prefix of the one of size {}", log.name(), old.size, new.size))
    }
}

/// The subtrees to the right of the first `from` leaves in the tree of `size`, left to right: the
/// fewest that, with the perfect subtrees before `from`, lead to the root.
fn rest_subtrees(from: u64, size: u64) -> Vec<(u64, u64)> {
    let mut right = Vec::new();
    let (mut start, mut end) = (0, size);
    while end > from && end - start > 1 && start < from {
        let middle = start + (1 << (end - start - 1).ilog2());
        if middle >= from {
            right.push((middle, end));
            end = middle;
        } else {
            start = middle;
        }
    }
    right.reverse();
    right
}

/// The roots of the subtrees to the right of the first `from` leaves in the tree of `size`, left to right: `rest` of
/// evidence.
pub fn rest_nodes<R: NodeReader>(reader: &R, from: u64, size: u64) -> Result<Vec<Hash>, R::Error> {
    rest_subtrees(from, size).into_iter().map(|(start, end)| subtree_root(reader, start, end)).collect()
}

/// Checks that the perfect subtrees before `from` and the nodes after it lead to the root.
pub(super) fn check_fold(
    prefix: &[Hash],
    from: u64,
    rest: &[Hash],
    checkpoint: &Checkpoint,
) -> Result<(), EvidenceError> {
    if prefix.len() != from.count_ones() as usize || rest.len() != rest_subtrees(from, checkpoint.size).len() {
        return Err(ProofError::WrongLength { got: prefix.len() + rest.len() }.into());
    }
    let (mut prefix, mut rest) = (prefix.iter(), rest.iter());
    let root = fold(0, checkpoint.size, from, &mut prefix, &mut rest);
    if root == Some(checkpoint.root) { Ok(()) } else { Err(ProofError::WrongRoot.into()) }
}

/// The root of [start, end) from subtrees before and after `from`, taken left to right.
fn fold<'a>(
    start: u64,
    end: u64,
    from: u64,
    prefix: &mut impl Iterator<Item = &'a Hash>,
    rest: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    // The whole tree may end at `from`; then its perfect subtrees are joined like any others.
    let one_subtree = (end - start).is_power_of_two();
    if end <= from && one_subtree {
        return prefix.next().copied();
    }
    if start >= from {
        return rest.next().copied();
    }
    let middle = start + (1 << (end - start - 1).ilog2());
    let left = fold(start, middle, from, prefix, rest)?;
    let right = fold(middle, end, from, prefix, rest)?;
    Some(crate::c2sp::merkle::node_hash(&left, &right))
}
