//! The Merkle tree of entries: its right edge, and the tiles of leaf hashes from which every other node is computed.

use taglog_proto::{
    merkle::{Frontier, Hash},
    tile::FULL_WIDTH,
};

use super::rows::TileRow;
use taglog_log_client::tile_nodes::perfect_root;

/// Levels of the tree within one tile.
const TILE_LEVELS: u8 = 8;

/// The tree of entries. The leaf hashes of full tiles are in the store, not in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    frontier: Frontier,
    /// The root of each full tile: the nodes of level 8.
    roots: Vec<Hash>,
    /// The leaf hashes after the last full tile.
    open: Vec<Hash>,
    /// Index and leaf hashes of the full tiles that the next commit writes.
    pending: Vec<(u64, Vec<Hash>)>,
}

impl Tree {
    /// Restores a tree from the roots of all full tiles and the leaf hashes after them; `None` if there are too many of the
    /// latter.
    pub fn from_parts(roots: Vec<Hash>, open: Vec<Hash>) -> Option<Tree> {
        if open.len() as u64 >= FULL_WIDTH {
            return None;
        }
        let mut tiles = Frontier::default();
        roots.iter().for_each(|root| tiles.append(*root, |_, _, _| {}));
        let mut nodes = tiles.nodes().to_vec();
        let mut rest = Frontier::default();
        open.iter().for_each(|leaf| rest.append(*leaf, |_, _, _| {}));
        nodes.extend_from_slice(rest.nodes());
        let size = FULL_WIDTH * tiles.size() + rest.size();
        Some(Tree { frontier: Frontier::from_parts(size, nodes)?, roots, open, pending: Vec::new() })
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// How many full tiles the next commit writes.
    pub fn uncommitted(&self) -> usize {
        self.pending.len()
    }

    /// What a commit writes: the full tiles since the last one, and the leaf hashes after them.
    pub fn take_rows(&mut self) -> Vec<TileRow> {
        let full = std::mem::take(&mut self.pending);
        let rows = full.into_iter().map(|(index, hashes)| TileRow { index, hashes, root: self.tile_root(index) });
        let mut rows: Vec<TileRow> = rows.collect();
        if !self.open.is_empty() {
            rows.push(TileRow { index: self.roots.len() as u64, hashes: self.open.clone(), root: None });
        }
        rows
    }

    pub fn append(&mut self, leaf: Hash) {
        let (open, mut root) = (&mut self.open, None);
        self.frontier.append(leaf, |level, _, hash| {
            if level == TILE_LEVELS {
                root = Some(hash);
            }
        });
        open.push(leaf);
        if let Some(root) = root {
            self.pending.push((self.roots.len() as u64, std::mem::take(open)));
            self.roots.push(root);
        }
    }

    /// The root of the full tile at this index.
    fn tile_root(&self, index: u64) -> Option<Hash> {
        self.roots.get(usize::try_from(index).ok()?).copied()
    }

    /// A node of level 8 or above; `None` if the tree does not have it.
    pub fn high_node(&self, level: u8, index: u64) -> Option<Hash> {
        let span = 1_u64.checked_shl(u32::from(level.checked_sub(TILE_LEVELS)?))?;
        let start = usize::try_from(index.checked_mul(span)?).ok()?;
        let end = start.checked_add(usize::try_from(span).ok()?)?;
        Some(perfect_root(self.roots.get(start..end)?))
    }

    /// The leaf hashes of a tile that no commit has written yet.
    pub fn recent_tile(&self, index: u64) -> Option<&[Hash]> {
        if index == self.roots.len() as u64 {
            return Some(&self.open);
        }
        self.pending.iter().find(|(pending, _)| *pending == index).map(|(_, hashes)| &hashes[..])
    }
}
