//! The append-only Merkle tree of RFC 6962 section 2.1, with SHA-256.
//!
//! Hashes in, hashes out: no storage and no network. A tree is seen through [`NodeReader`], which
//! gives the roots of *perfect* subtrees: node `(level, index)` is the root over the leaves
//! `[index · 2^level, (index + 1) · 2^level)`.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::encoding::{from_base64_array, to_base64, to_text, write_base64};

/// A SHA-256 hash: a leaf, a node or a root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// 32 zero bytes: a missing child in the prefix tree.
    pub const ZERO: Hash = Hash([0; 32]);

    /// The hash of `bytes`, without a prefix.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// The hash of a value's text, without a prefix.
    pub fn of_text(value: &impl fmt::Display) -> Hash {
        /// Records with several witnesses fit; longer ones cost a few more allocations.
        const USUAL: usize = 1024;
        Hash::of(to_text(value, USUAL).as_bytes())
    }

    /// Parses the base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Hash> {
        from_base64_array(text).map(Hash)
    }

    /// The base64 of the 32 bytes: 44 characters.
    pub fn to_base64(&self) -> String {
        to_base64(&self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.to_base64())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_base64(&self.0, f)
    }
}

/// Why a proof, or a request for one, was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProofError {
    /// The index is not below the size.
    #[error("index {index} is not below the tree size {size}")]
    IndexOutOfRange {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The older size is zero or above the newer.
    #[error("no consistency proof from size {from} to size {to}: want 1 ≤ from ≤ to")]
    SizesOutOfRange {
        /// The older size.
        from: u64,
        /// The newer size.
        to: u64,
    },
    /// Too many or too few hashes for this index and size.
    #[error("the proof has {got} hashes, which does not fit this index and size")]
    WrongLength {
        /// How many hashes the proof has.
        got: usize,
    },
    /// The proof does not lead to the root.
    #[error("the proof does not lead to the signed root")]
    WrongRoot,
    /// Indices that repeat or do not increase, or none at all.
    #[error("the indices of a multiproof must be at least one, at most 4096, and strictly increasing")]
    BadIndices,
}

/// The root of the tree without leaves: SHA-256 of nothing (RFC 6962 section 2.1).
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// SHA-256(0x00 || data) (RFC 6962 section 2.1).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(Sha256::new_with_prefix([0]).chain_update(data).finalize().into())
}

/// SHA-256(0x01 || left || right) (RFC 6962 section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash::of(&bytes)
}

/// Gives the roots of perfect subtrees of a tree.
pub trait NodeReader {
    /// What can go wrong in reading.
    type Error;

    /// The root over the leaves `[index · 2^level, (index + 1) · 2^level)`.
    ///
    /// # Errors
    /// When the node is not there or cannot be read.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The right edge of a growing tree: the roots of its maximal perfect subtrees, the largest first.
///
/// `size` leaves have exactly as many such subtrees as `size` has one bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// A frontier from its parts; `None` unless there is one node for each one bit of `size`.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Frontier> {
        (nodes.len() == size.count_ones() as usize).then_some(Frontier { size, nodes })
    }

    /// Reads the right edge of a tree of `size` leaves.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read<R: NodeReader>(reader: &R, size: u64) -> Result<Frontier, R::Error> {
        let nodes = perfect_subtrees(0, size).map(|(level, index)| reader.node(level, index));
        Ok(Frontier { size, nodes: nodes.collect::<Result<_, _>>()? })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the maximal perfect subtrees, the largest first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Adds a leaf and tells `completed` of every perfect subtree that it completes, the leaf itself
    /// (level 0) first: level, index, root.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(u8, u64, Hash)) {
        let (mut level, mut index, mut hash) = (0, self.size, leaf);
        completed(level, index, hash);
        // Each one bit at the low end of the size is a perfect subtree that now gets its sibling.
        while index & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            index >>= 1;
            completed(level, index, hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        edge_root(&self.nodes)
    }
}

/// The root of a tree whose right edge these nodes are: [`Frontier::nodes`].
pub fn edge_root(nodes: &[Hash]) -> Hash {
    fold_right(nodes).unwrap_or_else(empty_root)
}

/// Joins the roots of adjacent subtrees, the largest first, as RFC 6962 does: from the right.
pub(crate) fn fold_right(nodes: &[Hash]) -> Option<Hash> {
    nodes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right))
}

/// The maximal perfect subtrees of the leaves `[start, end)`, left to right, as (level, index).
///
/// `start` must be a multiple of the largest power of two below `end − start`, as RFC 6962's
/// subtrees are.
fn perfect_subtrees(start: u64, end: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let rest = end.checked_sub(next).filter(|n| *n > 0)?;
        let level = rest.ilog2();
        let subtree = (level as u8, next >> level);
        next += 1 << level;
        Some(subtree)
    })
}

/// The root over the leaves `[start, end)` of a subtree in the sense of RFC 6962 (not empty).
pub(crate) fn subtree_root<R: NodeReader>(reader: &R, start: u64, end: u64) -> Result<Hash, R::Error> {
    let nodes: Vec<Hash> =
        perfect_subtrees(start, end).map(|(level, index)| reader.node(level, index)).collect::<Result<_, _>>()?;
    Ok(fold_right(&nodes).unwrap_or_else(empty_root))
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// What the reader says.
pub fn root<R: NodeReader>(reader: &R, size: u64) -> Result<Hash, R::Error> {
    subtree_root(reader, 0, size)
}

/// The largest power of two below `n`, for n ≥ 2: where RFC 6962 splits a tree.
pub(crate) fn split_point(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// PATH(index, D[0:size]) of RFC 6962 section 2.1.1, from the leaf's sibling up.
///
/// # Errors
/// [`ProofError::IndexOutOfRange`] (inner), or what the reader says (outer).
pub fn inclusion_proof<R: NodeReader>(
    reader: &R,
    index: u64,
    size: u64,
) -> Result<Result<Vec<Hash>, ProofError>, R::Error> {
    if index >= size {
        return Ok(Err(ProofError::IndexOutOfRange { index, size }));
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            proof.push(subtree_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree_root(reader, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(Ok(proof))
}

/// PROOF(from, D[0:to]) of RFC 6962 section 2.1.2; empty when the sizes are equal.
///
/// # Errors
/// [`ProofError::SizesOutOfRange`] (inner), or what the reader says (outer).
pub fn consistency_proof<R: NodeReader>(
    reader: &R,
    from: u64,
    to: u64,
) -> Result<Result<Vec<Hash>, ProofError>, R::Error> {
    if from == 0 || from > to {
        return Ok(Err(ProofError::SizesOutOfRange { from, to }));
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, to);
    // SUBPROOF: `whole` is its flag b, true as long as the old tree is a left edge of this subtree.
    let mut whole = true;
    while from != end {
        let middle = start + split_point(end - start);
        if from <= middle {
            proof.push(subtree_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree_root(reader, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree_root(reader, start, end)?);
    }
    proof.reverse();
    Ok(Ok(proof))
}

/// Checks an inclusion proof by the algorithm of RFC 9162 section 2.1.3.2.
///
/// # Errors
/// The index is out of range, the proof has the wrong length, or leads elsewhere.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// Checks a consistency proof by the algorithm of RFC 9162 section 2.1.4.2.
///
/// # Errors
/// The sizes are out of range, the proof has the wrong length, or leads to other roots.
pub fn verify_consistency(
    from: u64,
    to: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    if from == 0 || from > to {
        return Err(ProofError::SizesOutOfRange { from, to });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    if from == to {
        let same = proof.is_empty() && old_root == new_root;
        return if same { Ok(()) } else { Err(ProofError::WrongRoot) };
    }
    // A perfect old tree is itself the first node of the proof, and is not repeated in it.
    let (first, rest) = match proof.split_first() {
        _ if from.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (first, rest),
        None => return Err(wrong_length),
    };
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if old == *old_root && new == *new_root { Ok(()) } else { Err(ProofError::WrongRoot) }
}
