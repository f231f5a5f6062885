//! The prefix tree of the tag index in memory, node by node, with every value kept: what an auditor rebuilds for
//! each seal. The definition is [`taglog_proto::prefix_tree`]'s, and tests hold the two against each other.

use taglog_proto::{
    merkle::Hash,
    prefix_tree::{KEY_BITS, Key, Leaf, PrefixProof, SearchResult, bit, parent_value},
};

/// A child of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Missing,
    Leaf(u32),
    Parent(u32),
}

#[derive(Clone, Debug)]
struct Parent {
    value: Hash,
    children: [Child; 2],
}

#[derive(Clone, Debug)]
struct StoredLeaf {
    leaf: Leaf,
    value: Hash,
}

/// More nodes than fit the address of one: over two billion names.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the tag index has more names than this auditor can hold")]
pub struct TooLarge;

/// What an update has changed, to take it back.
#[derive(Clone, Debug, Default)]
struct Undo {
    parents: Vec<(u32, Parent)>,
    leaves: Vec<(u32, StoredLeaf)>,
    lengths: (usize, usize),
}

/// A prefix tree. Keys are only ever added or given a new commitment.
#[derive(Clone, Debug)]
pub struct Trie {
    /// The first is the root.
    parents: Vec<Parent>,
    leaves: Vec<StoredLeaf>,
    undo: Undo,
}

impl Default for Trie {
    fn default() -> Trie {
        let value = parent_value(&Hash::ZERO, &Hash::ZERO);
        let root = Parent { value, children: [Child::Missing; 2] };
        Trie { parents: vec![root], leaves: Vec::new(), undo: Undo::default() }
    }
}

impl Trie {
    /// The root.
    pub fn root(&self) -> Hash {
        self.parents[0].value
    }

    /// Adds keys, or gives them new commitments, all at once and each at most once: each parent on the way is
    /// hashed once.
    ///
    /// # Errors
    /// [`TooLarge`]; nothing is changed then.
    pub fn update(&mut self, mut leaves: Vec<Leaf>) -> Result<(), TooLarge> {
        if u32::try_from(self.parents.len() + KEY_BITS * leaves.len()).is_err() {
            return Err(TooLarge);
        }
        self.undo.parents.clear();
        self.undo.leaves.clear();
        self.undo.lengths = (self.parents.len(), self.leaves.len());
        leaves.sort_unstable_by_key(|leaf| leaf.key);
        if !leaves.is_empty() {
            self.update_parent(0, 0, &leaves);
        }
        Ok(())
    }

    /// Takes back the last update.
    pub fn undo(&mut self) {
        let Undo { parents, leaves, lengths } = std::mem::take(&mut self.undo);
        self.parents.truncate(lengths.0);
        self.leaves.truncate(lengths.1);
        for (place, parent) in parents.into_iter().rev() {
            self.parents[place as usize] = parent;
        }
        for (place, leaf) in leaves.into_iter().rev() {
            self.leaves[place as usize] = leaf;
        }
        self.undo.lengths = lengths;
    }

    /// Updates the parent at this place and depth, through which all of `leaves` (sorted, not empty) go.
    fn update_parent(&mut self, place: u32, depth: usize, leaves: &[Leaf]) {
        if (place as usize) < self.undo.lengths.0 {
            self.undo.parents.push((place, self.parents[place as usize].clone()));
        }
        let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, depth)));
        for (side, group) in [left, right].into_iter().enumerate() {
            if !group.is_empty() {
                let child = self.parents[place as usize].children[side];
                let child = self.update_child(child, depth + 1, group);
                self.parents[place as usize].children[side] = child;
            }
        }
        let [left, right] = self.parents[place as usize].children;
        self.parents[place as usize].value = parent_value(&self.value(left), &self.value(right));
    }

    /// Updates what stands at this depth, on the way of all of `leaves`.
    fn update_child(&mut self, child: Child, depth: usize, leaves: &[Leaf]) -> Child {
        match (child, leaves) {
            (Child::Parent(place), _) => {
                self.update_parent(place, depth, leaves);
                child
            }
            (Child::Missing, [only]) => self.add_leaf(*only),
            (Child::Leaf(place), [only]) if self.leaves[place as usize].leaf.key == only.key => {
                let new = StoredLeaf { leaf: *only, value: only.value() };
                let old = std::mem::replace(&mut self.leaves[place as usize], new);
                self.undo.leaves.push((place, old));
                child
            }
            _ => self.add_parent(child, depth, leaves),
        }
    }

    fn add_leaf(&mut self, leaf: Leaf) -> Child {
        self.leaves.push(StoredLeaf { leaf, value: leaf.value() });
        // `update` has seen to it that the numbers fit.
        Child::Leaf((self.leaves.len() - 1) as u32)
    }

    /// A parent in the place of a leaf or of nothing, with the leaf below it, one level down.
    fn add_parent(&mut self, child: Child, depth: usize, leaves: &[Leaf]) -> Child {
        let mut children = [Child::Missing; 2];
        if let Child::Leaf(place) = child {
            children[usize::from(bit(&self.leaves[place as usize].leaf.key, depth))] = child;
        }
        self.parents.push(Parent { value: Hash::ZERO, children });
        let place = (self.parents.len() - 1) as u32;
        self.update_parent(place, depth, leaves);
        Child::Parent(place)
    }

    fn value(&self, child: Child) -> Hash {
        match child {
            Child::Missing => Hash::ZERO,
            Child::Leaf(place) => self.leaves[place as usize].value,
            Child::Parent(place) => self.parents[place as usize].value,
        }
    }

    /// Searches for `key` and proves what is there.
    pub fn prove(&self, key: &Key) -> PrefixProof {
        let (mut place, mut depth, mut copath) = (0_u32, 0, Vec::new());
        let result = loop {
            let side = usize::from(bit(key, depth));
            let children = self.parents[place as usize].children;
            copath.push(self.value(children[1 - side]));
            match children[side] {
                Child::Missing => break SearchResult::NonInclusionParent,
                Child::Leaf(found) => {
                    let leaf = self.leaves[found as usize].leaf;
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
        fn it_is_the_tree_that_the_log_keeps(
            batches in prop::collection::vec(prop::collection::btree_map(keys(), any::<[u8; 32]>().prop_map(Hash), 0..12), 1..6),
            absent in prop::collection::vec(keys(), 0..8),
        ) {
            let (mut stored, mut trie, mut all) = (Pages::default(), Trie::default(), Vec::new());
            for batch in batches {
                let changes = update(&stored, &batch).unwrap();
                stored.0.extend(changes.pages);
                let leaves: Vec<Leaf> = batch.iter().map(|(key, new)| Leaf { key: *key, commitment: *new }).collect();
                let before = trie.root();
                trie.update(leaves.iter().map(|leaf| Leaf { commitment: Hash([7; 32]), ..*leaf }).collect()).unwrap();
                trie.undo();
                prop_assert_eq!(trie.root(), before);
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
