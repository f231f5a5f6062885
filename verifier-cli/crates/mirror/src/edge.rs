//! The right edge of a tree: the partial tile of each level, which together lead to the root.

use taglog_proto::{
    checkpoint::Checkpoint,
    merkle::{Frontier, Hash, leaf_hash},
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle},
};

use super::MirrorError;
use taglog_log_client::{
    static_log::StaticLog,
    tile_nodes::{hashes, perfect_root},
};

/// The partial tiles of a tree, proven by its signed root.
#[derive(Debug)]
pub struct Edge {
    size: u64,
    /// The hashes of each level's partial tile, from the leaves up; none where all tiles are full.
    levels: Vec<Vec<Hash>>,
    /// The partial entry bundle; empty where there is none.
    bundle: Vec<u8>,
}

impl Edge {
    /// Fetches the edge of the tree that a checkpoint is of, and proves it.
    ///
    /// # Errors
    /// [`MirrorError::Static`]; [`MirrorError::Untrue`] when what is served does not lead to the root.
    pub async fn fetch(log: &StaticLog, checkpoint: &Checkpoint) -> Result<Edge, MirrorError> {
        let mut edge = Edge { size: checkpoint.size, levels: Vec::new(), bundle: Vec::new() };
        for level in 0..=top_level(checkpoint.size) {
            let hashes = match edge.path(level) {
                None => Vec::new(),
                Some(path) if level == 0 => {
                    edge.bundle = log.tile(&TilePath { kind: TileKind::Entries, ..path }).await?;
                    leaf_hashes(&edge.bundle)
                }
                Some(path) => hashes(&log.tile(&path).await?),
            };
            edge.levels.push(hashes);
        }
        if edge.root() == Some(checkpoint.root) {
            return Ok(edge);
        }
        Err(MirrorError::Untrue { what: format!("the right edge of {} entries at {}", edge.size, log.location()) })
    }

    /// The number of leaves of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The highest level that has tiles. All its nodes are in the edge.
    pub fn top(&self) -> u8 {
        top_level(self.size)
    }

    /// The hashes of a level's partial tile; none above the top.
    pub fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// The partial tiles and their bytes, the entry bundle first.
    pub fn tiles(&self) -> Vec<(TilePath, Vec<u8>)> {
        let bundle = self.path(0).map(|path| (TilePath { kind: TileKind::Entries, ..path }, self.bundle.clone()));
        let tiles = (0..=self.top()).filter_map(|level| Some((self.path(level)?, bytes(self.level(level)))));
        bundle.into_iter().chain(tiles).collect()
    }

    /// The partial tile of a level, if that has one.
    fn path(&self, level: u8) -> Option<TilePath> {
        let (index, width) = (nodes(self.size, level) / FULL_WIDTH, (nodes(self.size, level) % FULL_WIDTH) as u16);
        (width > 0).then_some(TilePath { kind: TileKind::Hashes(level), index, width })
    }

    /// The maximal perfect subtrees, the largest first, are what the binary digits of each width say.
    fn root(&self) -> Option<Hash> {
        let mut subtrees = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = &hashes[..];
            while !rest.is_empty() {
                let (subtree, right) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(perfect_root(subtree));
                rest = right;
            }
        }
        Frontier::from_parts(self.size, subtrees).map(|frontier| frontier.root())
    }
}

/// The number of nodes of a level of tiles.
pub fn nodes(size: u64, level: u8) -> u64 {
    size.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

/// The highest level of tiles that has nodes.
fn top_level(size: u64) -> u8 {
    (size.max(1).ilog2() / 8) as u8
}

/// The leaf hashes of the entries of a bundle; none when it is malformed.
pub fn leaf_hashes(bundle: &[u8]) -> Vec<Hash> {
    let entries = decode_bundle(bundle, FULL_WIDTH as usize).unwrap_or_default();
    entries.into_iter().map(leaf_hash).collect()
}

/// A tile of these hashes.
pub fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
