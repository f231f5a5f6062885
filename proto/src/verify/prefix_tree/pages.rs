//! How the tree is stored, updated and searched: pages of four levels. A verifier needs none of this.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{KEY_BITS, Key, Leaf, PrefixProof, SearchResult, parent_value};
use crate::{c2sp::merkle::Hash, formats::record::RecordReader};

/// Children of a page.
const SLOTS: usize = 16;
/// Pages on the way to the deepest leaf.
const MAX_PAGE_DEPTH: usize = KEY_BITS / 4;

/// The four bits of a key that choose the slot of a page at this depth (in nibbles).
fn nibble(key: &Key, page_depth: usize) -> usize {
    let byte = key[page_depth / 2];
    usize::from(if page_depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

/// The position of a page in the tree: `nibbles` times four bits, all further bits zero.
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

    /// A short unique key for storage: the depth in nibbles, then the bytes of the prefix.
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
pub fn root<R: PageReader>(reader: &R) -> Result<Hash, R::Error> {
    Ok(reader.page(&PagePath::ROOT)?.top())
}

/// Searches for `key` and proves what is there.
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
/// Gives the whole index as of the last seal: records, and the pages of the tree over them.
pub trait IndexReader: RecordReader + PageReader<Error = <Self as RecordReader>::Error> {}

impl<T: RecordReader + PageReader<Error = <T as RecordReader>::Error>> IndexReader for T {}

#[cfg(test)]
mod tests {
    use super::*;

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
}
