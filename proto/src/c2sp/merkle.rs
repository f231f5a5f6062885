//! The append-only Merkle tree of RFC 6962 section 2.1, with SHA-256.
//!
//! Hashes in, hashes out: no storage and no network. A tree is seen through [`NodeReader`], which
//! gives the roots of *perfect* subtrees: node `(level, index)` is the root over the leaves
//! `[index · 2^level, (index + 1) · 2^level)`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::c2sp::{
    OperationError,
    encoding::{from_base64_array, to_base64, to_text, write_base64},
};

/// A SHA-256 hash: a leaf, a node or a root. In JSON it is the base64 of its 32 bytes.
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

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::from_base64(&text).ok_or_else(|| serde::de::Error::custom("want the base64 of 32 bytes"))
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
pub fn root<R: NodeReader>(reader: &R, size: u64) -> Result<Hash, R::Error> {
    subtree_root(reader, 0, size)
}

/// The largest power of two below `n`, for n ≥ 2: where RFC 6962 splits a tree.
pub(crate) fn split_point(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Why no proof could be made.
pub type ProveError<R> = OperationError<ProofError, <R as NodeReader>::Error>;

/// PATH(index, D[0:size]) of RFC 6962 section 2.1.1, from the leaf's sibling up.
///
/// # Errors
/// [`ProofError::IndexOutOfRange`] as a refusal.
pub fn inclusion_proof<R: NodeReader>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, ProveError<R>> {
    if index >= size {
        return Err(OperationError::Refused(ProofError::IndexOutOfRange { index, size }));
    }
    let root = |start, end| subtree_root(reader, start, end).map_err(OperationError::Reader);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            proof.push(root(middle, end)?);
            end = middle;
        } else {
            proof.push(root(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// PROOF(from, D[0:to]) of RFC 6962 section 2.1.2; empty when the sizes are equal.
///
/// # Errors
/// [`ProofError::SizesOutOfRange`] as a refusal.
pub fn consistency_proof<R: NodeReader>(reader: &R, from: u64, to: u64) -> Result<Vec<Hash>, ProveError<R>> {
    if from == 0 || from > to {
        return Err(OperationError::Refused(ProofError::SizesOutOfRange { from, to }));
    }
    let root = |start, end| subtree_root(reader, start, end).map_err(OperationError::Reader);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, to);
    // SUBPROOF: `whole` is its flag b, true as long as the old tree is a left edge of this subtree.
    let mut whole = true;
    while from != end {
        let middle = start + split_point(end - start);
        if from <= middle {
            proof.push(root(middle, end)?);
            end = middle;
        } else {
            proof.push(root(start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(root(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks an inclusion proof by the algorithm of RFC 9162 section 2.1.3.2, with its names and step numbers:
/// `leaf` is its `hash`, `index` its `leaf_index`, `size` its `tree_size`, `proof` its `inclusion_path`, `root` its
/// `root_hash`, and `fn_` its `fn`, which is a keyword here.
///
/// # Errors
/// The index is out of range, the proof has the wrong length, or leads elsewhere.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    // 1. leaf_index >= tree_size: fail.
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    // 2. fn is leaf_index, sn is tree_size - 1.
    let (mut fn_, mut sn) = (index, size - 1);
    // 3. r is hash.
    let mut r = *leaf;
    // 4. For each value p in the inclusion_path:
    for p in proof {
        // a. sn is 0: fail.
        if sn == 0 {
            return Err(wrong_length);
        }
        if fn_ & 1 == 1 || fn_ == sn {
            // b. LSB(fn) is set, or fn = sn: p is to the left. Then, if LSB(fn) is not set, shift until it is, or
            //    fn is 0.
            r = node_hash(p, &r);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            r = node_hash(&r, p);
        }
        // c. Shift once more.
        fn_ >>= 1;
        sn >>= 1;
    }
    // 5. sn is 0, and r is root_hash.
    if sn != 0 {
        return Err(wrong_length);
    }
    if r == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// Checks that the tree of `to` leaves with `new_root` begins with the tree of `from` leaves with `old_root`: RFC 9162
/// section 2.1.4.2, with `from` as its `first` and `to` as its `second`.
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
    verify_range(0, from, to, proof, old_root, new_root)
}

/// Checks a subtree consistency proof by the algorithm of draft-ietf-plants-merkle-tree-certs-03 section 4.4.3, with
/// its names and step numbers: `fn_` is its `fn`, which is a keyword here. `[start, end)` must be a subtree.
///
/// With `start` 0 this is RFC 9162 section 2.1.4.2, whose `fn` and `sn` are `sn` and `tn` here. Its step 3, which puts
/// `first_hash` before a proof from a power of two, is step 5 here: `fn` reaches `sn` exactly then.
pub(crate) fn verify_range(
    start: u64,
    end: u64,
    n: u64,
    proof: &[Hash],
    hash: &Hash,
    root: &Hash,
) -> Result<(), ProofError> {
    // 1. [start, end) is a valid subtree (the callers' to check), and end <= n.
    if end > n {
        return Err(ProofError::SizesOutOfRange { from: end, to: n });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    // 2. fn is start, sn is end - 1, tn is n - 1: the subtree's first leaf, its last, and the tree's last. They go
    //    up together: the nodes on one level, from the leaves to the root.
    let (mut fn_, mut sn, mut tn) = (start, end - 1, n - 1);
    // 3. If sn is tn, shift until fn is sn.
    // 4. Otherwise shift until fn is sn or LSB(sn) is not set.
    while fn_ != sn && (sn == tn || sn & 1 == 1) {
        (fn_, sn, tn) = (fn_ >> 1, sn >> 1, tn >> 1);
    }
    let (seed, path) = match proof.split_first() {
        // 5. If fn is sn, fr and sr are node_hash.
        _ if fn_ == sn => (hash, proof),
        // 6. Otherwise they are the first value of the proof, which is removed.
        Some((first, rest)) => (first, rest),
        None => return Err(wrong_length),
    };
    let (mut fr, mut sr) = (*seed, *seed);
    // 7. For each value c in what is left of the proof:
    for c in path {
        // 7.1. tn is 0: fail.
        if tn == 0 {
            return Err(wrong_length);
        }
        if sn & 1 == 1 || sn == tn {
            // 7.2. LSB(sn) is set, or sn is tn: c is to the left, within the subtree if fn < sn. Then shift until
            //      LSB(sn) is set, or sn is 0.
            if fn_ < sn {
                fr = node_hash(c, &fr);
            }
            sr = node_hash(c, &sr);
            while sn & 1 == 0 && sn != 0 {
                (fn_, sn, tn) = (fn_ >> 1, sn >> 1, tn >> 1);
            }
        } else {
            // 7.3. Otherwise c is to the right, and after the subtree.
            sr = node_hash(&sr, c);
        }
        // 7.4. Shift once more.
        (fn_, sn, tn) = (fn_ >> 1, sn >> 1, tn >> 1);
    }
    // 8. tn is 0, fr is node_hash, and sr is root_hash.
    if tn != 0 {
        return Err(wrong_length);
    }
    if fr == *hash && sr == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}
