//! The prefix tree of the tag index in memory, with the value of every node, which an auditor updates for each seal.
//! [`taglog_proto::prefix_tree`] defines the tree; tests compare the two implementations.

use taglog_proto::{
    merkle::Hash,
    prefix_tree::{KEY_BITS, Key, Leaf, PrefixProof, SearchResult, bit, empty_root, parent_value},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Missing,
    Leaf(u32),
    Parent(u32),
}

/// An inner node. It has the values of its children itself, which saves two memory accesses per step.
#[derive(Clone, Copy, Debug)]
struct Parent {
    children: [Child; 2],
    values: [Hash; 2],
}

/// The tree has more nodes than a 32-bit number can address.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the tag index has more names than this auditor can hold")]
pub struct TooLarge;

/// A prefix tree. Keys are only ever added or given a new commitment.
#[derive(Clone, Debug)]
pub struct Trie {
    root: Hash,
    /// The first one is the root.
    parents: Vec<Parent>,
    leaves: Vec<Leaf>,
}

impl Default for Trie {
    fn default() -> Trie {
        let root = Parent { children: [Child::Missing; 2], values: [Hash::ZERO; 2] };
        Trie { root: empty_root(), parents: vec![root], leaves: Vec::new() }
    }
}

impl Trie {
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Adds keys or changes their commitments; `leaves` must not have a key twice. Hashes each affected parent once.
    ///
    /// # Errors
    /// The tree is unchanged.
    pub fn update(&mut self, mut leaves: Vec<Leaf>) -> Result<(), TooLarge> {
        if u32::try_from(self.parents.len() + KEY_BITS * leaves.len()).is_err() {
            return Err(TooLarge);
        }
        leaves.sort_unstable_by_key(|leaf| leaf.key);
        if !leaves.is_empty() {
            self.root = self.update_parent(0, 0, &leaves);
        }
        Ok(())
    }

    /// Updates the parent at this place and depth with `leaves`, which are sorted, not empty and all below it. Returns its value.
    fn update_parent(&mut self, place: u32, depth: usize, leaves: &[Leaf]) -> Hash {
        let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, depth)));
        for (side, group) in [left, right].into_iter().enumerate() {
            if !group.is_empty() {
                let Parent { children, values } = self.parents[place as usize];
                let (child, value) = self.update_child(children[side], values[side], depth + 1, group);
                let parent = &mut self.parents[place as usize];
                (parent.children[side], parent.values[side]) = (child, value);
            }
        }
        let [left, right] = &self.parents[place as usize].values;
        parent_value(left, right)
    }

    /// Updates the child with this value at this depth with `leaves`, which are all below it. Returns the new child and value.
    fn update_child(&mut self, child: Child, value: Hash, depth: usize, leaves: &[Leaf]) -> (Child, Hash) {
        match (child, leaves) {
            (Child::Parent(place), _) => (child, self.update_parent(place, depth, leaves)),
            (Child::Missing, [only]) => (self.add_leaf(*only), only.value()),
            (Child::Leaf(place), [only]) if self.leaves[place as usize].key == only.key => {
                self.leaves[place as usize] = *only;
                (child, only.value())
            }
            _ => self.add_parent(child, value, depth, leaves),
        }
    }

    fn add_leaf(&mut self, leaf: Leaf) -> Child {
        self.leaves.push(leaf);
        // Fits: checked by `update`.
        Child::Leaf((self.leaves.len() - 1) as u32)
    }

    /// Puts a parent in the place of a leaf or of a missing child, and the leaf one level below it.
    fn add_parent(&mut self, child: Child, value: Hash, depth: usize, leaves: &[Leaf]) -> (Child, Hash) {
        let mut parent = Parent { children: [Child::Missing; 2], values: [Hash::ZERO; 2] };
        if let Child::Leaf(place) = child {
            let side = usize::from(bit(&self.leaves[place as usize].key, depth));
            (parent.children[side], parent.values[side]) = (child, value);
        }
        self.parents.push(parent);
        let place = (self.parents.len() - 1) as u32;
        let value = self.update_parent(place, depth, leaves);
        (Child::Parent(place), value)
    }

    /// Searches for `key` and proves the result.
    pub fn prove(&self, key: &Key) -> PrefixProof {
        let (mut place, mut depth, mut copath) = (0_u32, 0, Vec::new());
        let result = loop {
            let side = usize::from(bit(key, depth));
            let Parent { children, values } = self.parents[place as usize];
            copath.push(values[1 - side]);
            match children[side] {
                Child::Missing => break SearchResult::NonInclusionParent,
                Child::Leaf(found) => {
                    let leaf = self.leaves[found as usize];
                    break if leaf.key == *key {
                        SearchResult::Inclusion
                    } else {
                        SearchResult::NonInclusionLeaf(leaf)
                    };
                }
                Child::Parent(below) => (place, depth) = (below, depth + 1),
            }
        };
        copath.reverse();
        PrefixProof { result, copath }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use proptest::prelude::*;
    use taglog_proto::prefix_tree::{Page, PagePath, PageReader, prove, update};

    use super::*;

    #[derive(Default)]
    struct Pages(BTreeMap<PagePath, Page>);

    impl PageReader for Pages {
        type Error = Infallible;
        fn page(&self, path: &PagePath) -> Result<Page, Infallible> {
            Ok(self.0.get(path).cloned().unwrap_or_default())
        }
    }

    /// Keys that share long prefixes, as an attacker could grind them (to a degree).
    fn keys() -> impl Strategy<Value = Key> {
        (any::<u8>(), 0usize..40, any::<[u8; 8]>()).prop_map(|(first, shared, rest)| {
            let mut key = [if first < 200 { 0xa5 } else { first }; 32];
            let at = shared.min(24);
            key[at..at + 8].copy_from_slice(&rest);
            key
        })
    }

    proptest! {
        #[test]
        fn trie_and_stored_tree_have_the_same_roots_and_proofs(
            batches in prop::collection::vec(prop::collection::btree_map(keys(), any::<[u8; 32]>().prop_map(Hash), 0..12), 1..6),
            absent in prop::collection::vec(keys(), 0..8),
        ) {
            let (mut stored, mut trie, mut all) = (Pages::default(), Trie::default(), Vec::new());
            for batch in batches {
                let changes = update(&stored, &batch).unwrap();
                stored.0.extend(changes.pages);
                let leaves: Vec<Leaf> = batch.iter().map(|(key, new)| Leaf { key: *key, commitment: *new }).collect();
                trie.update(leaves).unwrap();
                prop_assert_eq!(trie.root(), changes.root);
                all.extend(batch.into_keys());
            }
            for key in all.iter().chain(&absent) {
                prop_assert_eq!(trie.prove(key), prove(&stored, key).unwrap());
            }
        }
    }
}
