//! The prefix tree under the tag index: a verifiable map from 32-byte keys to commitments
//! (draft-ietf-keytrans-protocol, "Prefix Tree", without the VRF; SPEC.md section 5).
//!
//! - leaf value = SHA-256(0x02 || key || commitment)
//! - parent value = SHA-256(0x03 || left || right); a missing child is 32 zero bytes
//! - the root is always a parent; a leaf sits at the shallowest depth, from 1 on, at which its
//!   prefix is unique
//!
//! Keys are only ever added or given a new commitment, so a leaf may move down but never up.
//!
//! Storage holds [`Page`]s of four levels: a page at depth 4·n has sixteen slots, one for each next
//! four bits. What lies between a page's top and its slots is computed from the slots.

mod pages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::pages::{CorruptPage, IndexReader, Page, PagePath, PageReader, Slot, TreeChanges, prove, root, update};
use crate::c2sp::merkle::Hash;
pub use crate::formats::record::Key;

/// The length of a key in bits, and the greatest depth of a leaf.
pub const KEY_BITS: usize = 256;

/// A key with what is committed to under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-256 of the name.
    pub key: Key,
    /// SHA-256 of the record.
    pub commitment: Hash,
}

impl Leaf {
    /// SHA-256(0x02 || key || commitment).
    pub fn value(&self) -> Hash {
        hash_pair(2, &self.key, &self.commitment.0)
    }
}

/// SHA-256(0x03 || left || right).
pub fn parent_value(left: &Hash, right: &Hash) -> Hash {
    hash_pair(3, &left.0, &right.0)
}

fn hash_pair(prefix: u8, left: &[u8; 32], right: &[u8; 32]) -> Hash {
    let mut bytes = [prefix; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Hash(Sha256::digest(bytes).into())
}

/// The root of the tree without leaves: a parent of two missing children.
pub fn empty_root() -> Hash {
    parent_value(&Hash::ZERO, &Hash::ZERO)
}

/// Bit `depth` of a key, counted from the most significant; 1 is the right child.
pub fn bit(key: &Key, depth: usize) -> bool {
    key[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// Whether two keys have the same first `bits` bits.
fn share_prefix(a: &Key, b: &Key, bits: usize) -> bool {
    (0..bits).all(|depth| bit(a, depth) == bit(b, depth))
}

/// What a search for a key ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchResult {
    /// At the key's own leaf.
    Inclusion,
    /// At another key's leaf, on the key's path.
    NonInclusionLeaf(Leaf),
    /// At a missing child.
    NonInclusionParent,
}

/// A proof of what a tree holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixProof {
    /// What the search ended at.
    pub result: SearchResult,
    /// The siblings from the end of the search up to the root's child; as many as its depth.
    pub copath: Vec<Hash>,
}

/// Why a prefix proof was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PrefixError {
    /// The depth is not 1 to 256.
    #[error("prefix proof of depth {0}: want 1 to 256")]
    Depth(usize),
    /// The other leaf is not on the key's path, or is the key's own.
    #[error("prefix proof: the other leaf does not stand where the key would")]
    OtherLeaf,
    /// A leaf deeper than its prefix needs, next to nothing.
    #[error("prefix proof: the lowest sibling is missing, so the search would have ended higher")]
    TooDeep,
    /// The proof leads to another root.
    #[error("prefix proof does not lead to the index root")]
    WrongRoot,
    /// Proofs for one tree that contradict each other.
    #[error("the prefix proofs do not belong to one tree")]
    Contradiction,
}

impl PrefixProof {
    /// Checks that a tree with this root holds `commitment` under `key`, or nothing for `None`.
    /// The caller computes `key` from its own request, never from the answer.
    ///
    /// # Errors
    /// [`PrefixError`]. A proof of presence does not prove absence, nor the other way round.
    pub fn verify(&self, key: &Key, commitment: Option<&Hash>, root: &Hash) -> Result<(), PrefixError> {
        let start = match (self.result, commitment) {
            (SearchResult::Inclusion, Some(commitment)) => Leaf { key: *key, commitment: *commitment }.value(),
            (SearchResult::NonInclusionLeaf(leaf), None) => leaf.value(),
            (SearchResult::NonInclusionParent, None) => Hash::ZERO,
            _ => return Err(PrefixError::WrongRoot),
        };
        self.check_shape(key)?;
        let value = self.copath.iter().zip((0..self.copath.len()).rev()).fold(start, |value, (sibling, depth)| {
            if bit(key, depth) { parent_value(sibling, &value) } else { parent_value(&value, sibling) }
        });
        if value == *root { Ok(()) } else { Err(PrefixError::WrongRoot) }
    }

    fn check_shape(&self, key: &Key) -> Result<(), PrefixError> {
        let depth = self.copath.len();
        if !(1..=KEY_BITS).contains(&depth) {
            return Err(PrefixError::Depth(depth));
        }
        if let SearchResult::NonInclusionLeaf(leaf) = self.result
            && (leaf.key == *key || !share_prefix(&leaf.key, key, depth))
        {
            return Err(PrefixError::OtherLeaf);
        }
        if depth > 1 && self.copath[0] == Hash::ZERO {
            return Err(PrefixError::TooDeep);
        }
        Ok(())
    }
}

/// One key of an update that is checked without the tree: its proof under the old root, what it
/// held, and what it shall hold.
#[derive(Clone, Debug)]
pub struct ProvenUpdate {
    /// The key.
    pub key: Key,
    /// The commitment under the old root, or `None`.
    pub old: Option<Hash>,
    /// The proof of that.
    pub proof: PrefixProof,
    /// The commitment to set.
    pub new: Hash,
}

/// Computes the root after an update from the root before it and proofs alone, so that anyone can
/// check a seal without holding the tree.
///
/// # Errors
/// [`PrefixError`] when a proof does not verify under `old_root` or proofs contradict each other.
pub fn updated_root(old_root: &Hash, updates: &[ProvenUpdate]) -> Result<Hash, PrefixError> {
    for update in updates {
        update.proof.verify(&update.key, update.old.as_ref(), old_root)?;
    }
    let mut sorted: Vec<&ProvenUpdate> = updates.iter().collect();
    sorted.sort_by_key(|update| update.key);
    if sorted.windows(2).any(|pair| pair[0].key == pair[1].key) {
        return Err(PrefixError::Contradiction);
    }
    if sorted.is_empty() { Ok(*old_root) } else { updated_node(&sorted, 0) }
}

/// The new value of the node at `depth` that all of `updates` (sorted, not empty) pass through.
fn updated_node(updates: &[&ProvenUpdate], depth: usize) -> Result<Hash, PrefixError> {
    let ends_here = updates.iter().filter(|update| update.proof.copath.len() == depth).count();
    if ends_here == updates.len() {
        return updated_end(updates, depth);
    }
    if ends_here > 0 {
        return Err(PrefixError::Contradiction);
    }
    let (left, right) = updates.split_at(updates.partition_point(|update| !bit(&update.key, depth)));
    let child = |inside: &[&ProvenUpdate], other: &[&ProvenUpdate]| match (inside.first(), other.first()) {
        (Some(_), _) => updated_node(inside, depth + 1),
        // The copath runs from the end up, so the sibling at depth + 1 is that far from its end.
        (None, Some(neighbour)) => Ok(neighbour.proof.copath[neighbour.proof.copath.len() - 1 - depth]),
        (None, None) => Err(PrefixError::Contradiction),
    };
    Ok(parent_value(&child(left, right)?, &child(right, left)?))
}

/// The new value where the searches of all of `updates` ended in the old tree.
fn updated_end(updates: &[&ProvenUpdate], depth: usize) -> Result<Hash, PrefixError> {
    let mut leaves: BTreeMap<Key, Hash> = BTreeMap::new();
    for update in updates {
        if let SearchResult::NonInclusionLeaf(leaf) = update.proof.result {
            leaves.insert(leaf.key, leaf.commitment);
        }
    }
    for update in updates {
        leaves.insert(update.key, update.new);
    }
    let leaves: Vec<Leaf> = leaves.into_iter().map(|(key, commitment)| Leaf { key, commitment }).collect();
    Ok(node_of_leaves(&leaves, depth))
}

/// The value of the node at `depth` (from 1 on) over exactly these leaves, sorted by key.
fn node_of_leaves(leaves: &[Leaf], depth: usize) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [only] => only.value(),
        _ => {
            let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, depth)));
            parent_value(&node_of_leaves(left, depth + 1), &node_of_leaves(right, depth + 1))
        }
    }
}
