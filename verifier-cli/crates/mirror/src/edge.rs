//! The right edge of a tree: the partial tiles of all levels, from which the root can be computed.

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

/// The partial tiles of a tree, verified against its signed root.
#[derive(Debug)]
pub struct Edge {
    size: u64,
    /// The hashes in the partial tile of each level, from the leaves up; empty for a level without partial tile.
    levels: Vec<Vec<Hash>>,
    /// The partial entry bundle; empty if there is none.
    bundle: Vec<u8>,
}

impl Edge {
    /// Fetches the edge of a checkpoint's tree and verifies it.
    ///
    /// # Errors
    /// [`MirrorError::Static`]; [`MirrorError::Untrue`] if the served tiles do not have the signed root.
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

    /// The highest level of tiles. All its nodes are in the edge.
    pub fn top(&self) -> u8 {
        top_level(self.size)
    }

    /// The hashes in the partial tile of a level; empty above the top level.
    pub fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Paths and bytes of the partial tiles, the entry bundle first.
    pub fn tiles(&self) -> Vec<(TilePath, Vec<u8>)> {
        let bundle = self.path(0).map(|path| (TilePath { kind: TileKind::Entries, ..path }, self.bundle.clone()));
        let tiles = (0..=self.top()).filter_map(|level| Some((self.path(level)?, bytes(self.level(level)))));
        bundle.into_iter().chain(tiles).collect()
    }

    /// The path of the partial tile of a level, if it has one.
    fn path(&self, level: u8) -> Option<TilePath> {
        let (index, width) = (nodes(self.size, level) / FULL_WIDTH, (nodes(self.size, level) % FULL_WIDTH) as u16);
        (width > 0).then_some(TilePath { kind: TileKind::Hashes(level), index, width })
    }

    /// The root. The binary digits of the width of each partial tile give the sizes of the maximal perfect subtrees.
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

/// The number of hashes in a level of tiles (every eighth level of the tree) in a tree of `size` leaves.
pub fn nodes(size: u64, level: u8) -> u64 {
    size.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

/// The highest level of tiles that has hashes.
fn top_level(size: u64) -> u8 {
    (size.max(1).ilog2() / 8) as u8
}

/// The leaf hashes of the entries in a bundle; empty if it is malformed.
pub fn leaf_hashes(bundle: &[u8]) -> Vec<Hash> {
    let entries = decode_bundle(bundle, FULL_WIDTH as usize).unwrap_or_default();
    entries.into_iter().map(leaf_hash).collect()
}

/// The bytes of a tile with these hashes.
pub fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
