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

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::merkle::Hash;

/// The length of a key in bits, and the greatest depth of a leaf.
pub const KEY_BITS: usize = 256;
/// Children of a page.
const SLOTS: usize = 16;
/// Pages on the way to the deepest leaf.
const MAX_PAGE_DEPTH: usize = KEY_BITS / 4;

/// A key: the SHA-256 of a name.
pub type Key = [u8; 32];

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

fn nibble(key: &Key, page_depth: usize) -> usize {
    let byte = key[page_depth / 2];
    usize::from(if page_depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

/// Whether two keys have the same first `bits` bits.
fn share_prefix(a: &Key, b: &Key, bits: usize) -> bool {
    (0..bits).all(|depth| bit(a, depth) == bit(b, depth))
}

/// Where a page stands: `nibbles` times four bits, all further bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PagePath {
    nibbles: u8,
    prefix: Key,
}

impl PagePath {
    /// The page at the root.
    pub const ROOT: PagePath = PagePath { nibbles: 0, prefix: [0; 32] };

    /// The page at this depth (in nibbles, 0 to 63) on the way to `key`.
    fn towards(key: &Key, nibbles: usize) -> PagePath {
        let mut prefix = [0; 32];
        prefix[..nibbles / 2].copy_from_slice(&key[..nibbles / 2]);
        if nibbles % 2 == 1 {
            prefix[nibbles / 2] = key[nibbles / 2] & 0xf0;
        }
        // Below 64, so the cast keeps it.
        PagePath { nibbles: nibbles as u8, prefix }
    }

    /// A short unique spelling for storage: the depth in nibbles, then the bytes of the prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = usize::from(self.nibbles).div_ceil(2);
        [&[self.nibbles][..], &self.prefix[..length]].concat()
    }
}

/// One child of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot {
    /// Nothing below.
    #[default]
    Empty,
    /// Exactly one leaf below.
    Leaf(Leaf),
    /// A page of two or more leaves, with its top's value.
    Subtree(Hash),
}

impl Slot {
    fn value(&self) -> Hash {
        match self {
            Slot::Empty => Hash::ZERO,
            Slot::Leaf(leaf) => leaf.value(),
            Slot::Subtree(hash) => *hash,
        }
    }
}

/// Four levels of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    slots: [Slot; SLOTS],
}

/// A page in storage that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a page of the tag index is corrupt")]
pub struct CorruptPage;

impl Page {
    /// The value of the node over `count` slots from `start`; a lone leaf rises to it.
    fn node(&self, start: usize, count: usize) -> Hash {
        let slots = &self.slots[start..start + count];
        let mut filled = slots.iter().filter(|slot| **slot != Slot::Empty);
        match (filled.next(), filled.next()) {
            (None, _) => Hash::ZERO,
            (Some(only @ Slot::Leaf(_)), None) => only.value(),
            _ if count == 1 => slots[0].value(),
            _ => self.parent(start, count),
        }
    }

    fn parent(&self, start: usize, count: usize) -> Hash {
        let half = count / 2;
        parent_value(&self.node(start, half), &self.node(start + half, half))
    }

    /// The value of the page's top, which is a parent: at the root by rule, elsewhere because a
    /// page below another has two leaves or more.
    fn top(&self) -> Hash {
        self.parent(0, SLOTS)
    }

    /// The stored form: for each slot a byte 0, 1 or 2, then nothing, key and commitment, or hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        for slot in &self.slots {
            match slot {
                Slot::Empty => bytes.push(0),
                Slot::Leaf(leaf) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&leaf.key);
                    bytes.extend_from_slice(&leaf.commitment.0);
                }
                Slot::Subtree(hash) => {
                    bytes.push(2);
                    bytes.extend_from_slice(&hash.0);
                }
            }
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`CorruptPage`] for anything that [`Page::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Page, CorruptPage> {
        let mut rest = bytes;
        let mut page = Page::default();
        for slot in &mut page.slots {
            let (tag, after) = rest.split_first().ok_or(CorruptPage)?;
            let (read, after) = match tag {
                0 => (Slot::Empty, after),
                1 => {
                    let (key, after) = after.split_first_chunk().ok_or(CorruptPage)?;
                    let (commitment, after) = after.split_first_chunk().ok_or(CorruptPage)?;
                    (Slot::Leaf(Leaf { key: *key, commitment: Hash(*commitment) }), after)
                }
                2 => {
                    let (hash, after) = after.split_first_chunk().ok_or(CorruptPage)?;
                    (Slot::Subtree(Hash(*hash)), after)
                }
                _ => return Err(CorruptPage),
            };
            (*slot, rest) = (read, after);
        }
        if rest.is_empty() { Ok(page) } else { Err(CorruptPage) }
    }
}

/// Gives the pages of a tree.
pub trait PageReader {
    /// What can go wrong in reading.
    type Error;

    /// The page at this path. Only pages that exist are asked for, and [`PagePath::ROOT`], which
    /// is the default page in an empty tree.
    ///
    /// # Errors
    /// When storage fails, and when a page other than the root's is missing.
    fn page(&self, path: &PagePath) -> Result<Page, Self::Error>;
}

/// The pages that a batch changes, and the new root.
#[derive(Clone, Debug)]
pub struct TreeChanges {
    /// The root after the batch.
    pub root: Hash,
    /// Changed pages.
    pub pages: BTreeMap<PagePath, Page>,
}

/// Adds leaves, or gives keys new commitments, all at once. Each changed page is hashed once.
///
/// # Errors
/// What the reader says.
pub fn update<R: PageReader>(reader: &R, leaves: &BTreeMap<Key, Hash>) -> Result<TreeChanges, R::Error> {
    let leaves: Vec<Leaf> =
        leaves.iter().map(|(key, commitment)| Leaf { key: *key, commitment: *commitment }).collect();
    let mut pages = BTreeMap::new();
    let root = match leaves.first() {
        Some(_) => update_page(reader, 0, reader.page(&PagePath::ROOT)?, &leaves, &mut pages)?,
        None => root(reader)?,
    };
    Ok(TreeChanges { root, pages })
}

/// Updates `page`, which stands at `depth` nibbles where all of `leaves` (sorted, not empty) lead.
fn update_page<R: PageReader>(
    reader: &R,
    depth: usize,
    mut page: Page,
    leaves: &[Leaf],
    changed: &mut BTreeMap<PagePath, Page>,
) -> Result<Hash, R::Error> {
    for group in leaves.chunk_by(|a, b| nibble(&a.key, depth) == nibble(&b.key, depth)) {
        let slot = &mut page.slots[nibble(&group[0].key, depth)];
        *slot = update_slot(reader, depth, *slot, group, changed)?;
    }
    let top = page.top();
    changed.insert(PagePath::towards(&leaves[0].key, depth), page);
    Ok(top)
}

fn update_slot<R: PageReader>(
    reader: &R,
    depth: usize,
    slot: Slot,
    group: &[Leaf],
    changed: &mut BTreeMap<PagePath, Page>,
) -> Result<Slot, R::Error> {
    let mut all = group.to_vec();
    if let Slot::Leaf(old) = slot
        && let Err(place) = all.binary_search_by_key(&old.key, |leaf| leaf.key)
    {
        all.insert(place, old);
    }
    if let ([only], Slot::Empty | Slot::Leaf(_)) = (&all[..], slot) {
        return Ok(Slot::Leaf(*only));
    }
    // Two keys are distinct, so they part before the last nibble: the depth stays below 64.
    let below = match slot {
        Slot::Subtree(_) => reader.page(&PagePath::towards(&all[0].key, depth + 1))?,
        Slot::Empty | Slot::Leaf(_) => Page::default(),
    };
    update_page(reader, depth + 1, below, &all, changed).map(Slot::Subtree)
}

/// The root of a stored tree.
///
/// # Errors
/// What the reader says.
pub fn root<R: PageReader>(reader: &R) -> Result<Hash, R::Error> {
    Ok(reader.page(&PagePath::ROOT)?.top())
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

/// Searches for `key` and proves what is there.
///
/// # Errors
/// What the reader says.
pub fn prove<R: PageReader>(reader: &R, key: &Key) -> Result<PrefixProof, R::Error> {
    let mut copath = Vec::new();
    for depth in 0..MAX_PAGE_DEPTH {
        let page = reader.page(&PagePath::towards(key, depth))?;
        if let Some(result) = search_page(&page, key, depth, &mut copath) {
            copath.reverse();
            return Ok(PrefixProof { result, copath });
        }
    }
    // A slot of the last page is no subtree: two keys that share 256 bits are one key.
    copath.reverse();
    Ok(PrefixProof { result: SearchResult::NonInclusionParent, copath })
}

/// Walks down one page, adding siblings from the top; `None` when the search goes on below it.
fn search_page(page: &Page, key: &Key, depth: usize, copath: &mut Vec<Hash>) -> Option<SearchResult> {
    let (mut start, mut count) = (0, SLOTS);
    let slot = nibble(key, depth);
    while count > 1 {
        let half = count / 2;
        let (here, sibling) = if slot < start + half { (start, start + half) } else { (start + half, start) };
        copath.push(page.node(sibling, half));
        (start, count) = (here, half);

        let mut filled = page.slots[start..start + count].iter().filter(|slot| **slot != Slot::Empty);
        match (filled.next(), filled.next()) {
            (None, _) => return Some(SearchResult::NonInclusionParent),
            (Some(Slot::Leaf(leaf)), None) if leaf.key == *key => return Some(SearchResult::Inclusion),
            (Some(Slot::Leaf(leaf)), None) => return Some(SearchResult::NonInclusionLeaf(*leaf)),
            _ => {}
        }
    }
    None
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

/// The root over exactly these leaves: the definition, in a few lines, to test the rest against.
#[cfg(test)]
pub(crate) fn reference_root(leaves: &BTreeMap<Key, Hash>) -> Hash {
    let leaves: Vec<Leaf> =
        leaves.iter().map(|(key, commitment)| Leaf { key: *key, commitment: *commitment }).collect();
    let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, 0)));
    parent_value(&node_of_leaves(left, 1), &node_of_leaves(right, 1))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Pages(BTreeMap<PagePath, Page>);

    impl PageReader for Pages {
        type Error = Infallible;
        fn page(&self, path: &PagePath) -> Result<Page, Infallible> {
            let stored = self.0.get(path).map(|page| Page::from_bytes(&page.to_bytes()).unwrap());
            assert!(stored.is_some() || *path == PagePath::ROOT, "asked for a page that does not exist");
            Ok(stored.unwrap_or_default())
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
        fn batches_give_the_tree_of_the_definition(
            batches in prop::collection::vec(prop::collection::btree_map(keys(), any::<[u8; 32]>().prop_map(Hash), 0..12), 1..6),
            absent in prop::collection::vec(keys(), 0..8),
        ) {
            let mut stored = Pages::default();
            let mut all = BTreeMap::new();
            let mut root_now = empty_root();
            for batch in batches {
                let updates: Vec<ProvenUpdate> = batch.iter().map(|(key, new)| ProvenUpdate {
                    key: *key, old: all.get(key).copied(), proof: prove(&stored, key).unwrap(), new: *new,
                }).collect();
                let changes = update(&stored, &batch).unwrap();
                prop_assert_eq!(updated_root(&root_now, &updates), Ok(changes.root));
                stored.0.extend(changes.pages);
                all.extend(batch);
                root_now = changes.root;
                prop_assert_eq!(root_now, reference_root(&all));
                prop_assert_eq!(root(&stored).unwrap(), root_now);
            }
            for key in all.keys().chain(&absent) {
                let proof = prove(&stored, key).unwrap();
                prop_assert_eq!(proof.verify(key, all.get(key), &root_now), Ok(()));
                let lie = if all.contains_key(key) { None } else { Some(Hash::ZERO) };
                prop_assert!(proof.verify(key, lie.as_ref(), &root_now).is_err());
                for i in 0..proof.copath.len() {
                    let mut changed = proof.clone();
                    changed.copath[i].0[7] ^= 1;
                    prop_assert!(changed.verify(key, all.get(key), &root_now).is_err());
                    let mut shorter = proof.clone();
                    shorter.copath.remove(i);
                    prop_assert!(shorter.verify(key, all.get(key), &root_now).is_err());
                }
            }
        }
    }

    #[test]
    fn corrupt_pages_are_refused() {
        let page =
            Page { slots: std::array::from_fn(|i| if i % 2 == 0 { Slot::Subtree(Hash::ZERO) } else { Slot::Empty }) };
        let bytes = page.to_bytes();
        assert_eq!(Page::from_bytes(&bytes), Ok(page));
        assert_eq!(Page::from_bytes(&bytes[..bytes.len() - 1]), Err(CorruptPage));
        assert_eq!(Page::from_bytes(&[&bytes[..], &[0]].concat()), Err(CorruptPage));
        assert_eq!(Page::from_bytes(&[&[3], &bytes[1..]].concat()), Err(CorruptPage));
    }

    #[test]
    fn proofs_of_impossible_shape() {
        let key = [0; 32];
        let proof = |copath| PrefixProof { result: SearchResult::NonInclusionParent, copath };
        assert_eq!(proof(vec![]).verify(&key, None, &Hash::ZERO), Err(PrefixError::Depth(0)));
        assert_eq!(proof(vec![Hash::ZERO; 257]).verify(&key, None, &Hash::ZERO), Err(PrefixError::Depth(257)));
        assert_eq!(proof(vec![Hash::ZERO; 2]).verify(&key, None, &Hash::ZERO), Err(PrefixError::TooDeep));
        assert_eq!(proof(vec![Hash::ZERO]).verify(&key, None, &empty_root()), Ok(()));
        let own = SearchResult::NonInclusionLeaf(Leaf { key, commitment: Hash::ZERO });
        let own = PrefixProof { result: own, copath: vec![Hash::ZERO] };
        assert_eq!(own.verify(&key, None, &Hash::ZERO), Err(PrefixError::OtherLeaf));
    }
}
