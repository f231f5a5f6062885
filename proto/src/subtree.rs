//! Subtrees of the append-only tree, and the proof that one is part of a whole tree
//! (draft-ietf-plants-merkle-tree-certs-03, sections 4.1 and 4.4).
//!
//! A subtree is the leaves `[start, end)` where `start` is a multiple of the smallest power of two
//! that is at least `end − start`. Its root is that of RFC 6962 over these leaves alone. The first
//! `end` leaves are a subtree too (start 0), and the proof for it is RFC 6962's consistency proof.

use crate::merkle::{Hash, NodeReader, ProofError, node_hash, split_point, subtree_root};

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
    ///
    /// # Errors
    /// What the reader says.
    pub fn root<R: NodeReader>(self, reader: &R) -> Result<Hash, R::Error> {
        subtree_root(reader, self.start, self.end)
    }
}

/// SUBTREE_PROOF(start, end, D[0:size]) of section 4.4.1: that the subtree is part of the tree of `size` leaves.
///
/// # Errors
/// [`ProofError::SizesOutOfRange`] when the subtree ends after the tree (inner), or what the reader says (outer).
pub fn subtree_proof<R: NodeReader>(
    reader: &R,
    subtree: Subtree,
    size: u64,
) -> Result<Result<Vec<Hash>, ProofError>, R::Error> {
    let Subtree { start, end } = subtree;
    if end > size {
        return Ok(Err(ProofError::SizesOutOfRange { from: end, to: size }));
    }
    let mut proof = Vec::new();
    let (mut left, mut right) = (0, size);
    // False once the subtree's left part is in the proof: then what is left of it is not known to the verifier.
    let mut whole = true;
    // What is left of the subtree within [left, right) begins where both do, or at its own start.
    while (start.max(left), end) != (left, right) {
        let middle = left + split_point(right - left);
        if end <= middle {
            proof.push(subtree_root(reader, middle, right)?);
            right = middle;
        } else {
            whole &= start >= middle;
            proof.push(subtree_root(reader, left, middle)?);
            left = middle;
        }
    }
    if !whole {
        proof.push(subtree_root(reader, left, right)?);
    }
    proof.reverse();
    Ok(Ok(proof))
}

/// Checks a subtree consistency proof by the algorithm of section 4.4.3.
///
/// # Errors
/// The subtree ends after the tree, the proof has the wrong length, or leads to other roots.
pub fn verify_subtree(subtree: Subtree, size: u64, proof: &[Hash], hash: &Hash, root: &Hash) -> Result<(), ProofError> {
    let Subtree { start, end } = subtree;
    if end > size {
        return Err(ProofError::SizesOutOfRange { from: end, to: size });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    let mut edge = Edge { first: start, last: end - 1, tree: size - 1 };
    // Up to the largest node at the subtree's right edge that is a node of the whole tree as well.
    while edge.first != edge.last && (edge.last == edge.tree || edge.last & 1 == 1) {
        edge.up();
    }
    let (seed, rest) = match proof.split_first() {
        _ if edge.first == edge.last => (hash, proof),
        Some((seed, rest)) => (seed, rest),
        None => return Err(wrong_length),
    };
    let (mut part, mut whole) = (*seed, *seed);
    for sibling in rest {
        if edge.tree == 0 {
            return Err(wrong_length);
        }
        if edge.last & 1 == 1 || edge.last == edge.tree {
            if edge.first < edge.last {
                part = node_hash(sibling, &part);
            }
            whole = node_hash(sibling, &whole);
            while edge.last & 1 == 0 && edge.last != 0 {
                edge.up();
            }
        } else {
            whole = node_hash(&whole, sibling);
        }
        edge.up();
    }
    if edge.tree != 0 {
        return Err(wrong_length);
    }
    if part == *hash && whole == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// Where the walk from the subtree's last leaf to the root is, all on one level: the subtree's first node, its last,
/// and the whole tree's last.
struct Edge {
    first: u64,
    last: u64,
    tree: u64,
}

impl Edge {
    fn up(&mut self) {
        self.first >>= 1;
        self.last >>= 1;
        self.tree >>= 1;
    }
}
