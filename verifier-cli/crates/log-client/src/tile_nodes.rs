//! The nodes of a static log's tree, from tiles that are fetched on demand and cached.
//!
//! Nothing is verified here: results must lead to a signed root.

use std::collections::HashMap;

use taglog_proto::{
    merkle::{Hash, NodeReader, node_hash},
    tile::{FULL_WIDTH, TileKind, TilePath},
};

use super::static_log::{StaticError, StaticLog};

/// Levels of the tree in one tile.
const HEIGHT: u8 = 8;

/// The tree of `size` leaves of a static log.
#[derive(Clone, Debug)]
pub struct TileNodes {
    log: StaticLog,
    tiles: Tiles,
}

/// The cached tiles.
#[derive(Clone, Debug)]
pub struct Tiles {
    size: u64,
    tiles: HashMap<TilePath, Vec<Hash>>,
}

/// Why a node is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileNodeError {
    /// This tile must be fetched first.
    Needs(TilePath),
    /// The tree has no such node.
    NoSuchNode,
}

impl TileNodes {
    /// The tree of the first `size` leaves. Fetches nothing.
    pub fn new(log: &StaticLog, size: u64) -> TileNodes {
        TileNodes { log: log.clone(), tiles: Tiles::new(size) }
    }

    /// Runs `work` repeatedly until all tiles that it needs are cached. Which nodes it reads must not depend on their hashes.
    ///
    /// # Errors
    /// [`StaticError`].
    pub async fn run<T>(&mut self, work: impl Fn(&Tiles) -> Result<T, TileNodeError>) -> Result<T, StaticError> {
        loop {
            match work(&self.tiles) {
                Ok(done) => return Ok(done),
                Err(TileNodeError::Needs(path)) => {
                    self.tiles.fetch(&self.log, path).await?;
                }
                Err(TileNodeError::NoSuchNode) => {
                    let what = format!("a node of the tree of {} entries", self.tiles.size);
                    return Err(StaticError::NotFound { what });
                }
            }
        }
    }
}

impl Tiles {
    /// An empty cache for a tree of `size` leaves.
    pub fn new(size: u64) -> Tiles {
        Tiles { size, tiles: HashMap::new() }
    }

    /// The number of cached tiles.
    pub fn count(&self) -> usize {
        self.tiles.len()
    }

    /// Fetches a tile.
    ///
    /// # Errors
    /// [`StaticError`].
    pub async fn fetch(&mut self, log: &StaticLog, path: TilePath) -> Result<(), StaticError> {
        let tile = log.tile(&path).await?;
        self.tiles.insert(path, hashes(&tile));
        Ok(())
    }
}

impl NodeReader for Tiles {
    type Error = TileNodeError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, TileNodeError> {
        let (tile_level, above) = (level / HEIGHT, level % HEIGHT);
        let first = index.checked_mul(1 << above).ok_or(TileNodeError::NoSuchNode)?;
        let (tile, offset) = (first / FULL_WIDTH, (first % FULL_WIDTH) as usize);
        let nodes = self.size.checked_shr(u32::from(tile_level * HEIGHT)).unwrap_or(0);
        let width = nodes.saturating_sub(tile * FULL_WIDTH).min(FULL_WIDTH) as usize;
        let end = offset + (1 << above);
        if end > width {
            return Err(TileNodeError::NoSuchNode);
        }
        let path = TilePath { kind: TileKind::Hashes(tile_level), index: tile, width: width as u16 };
        let hashes = self.tiles.get(&path).ok_or(TileNodeError::Needs(path))?;
        hashes.get(offset..end).map(perfect_root).ok_or(TileNodeError::NoSuchNode)
    }
}

/// The hashes of a tile.
pub fn hashes(tile: &[u8]) -> Vec<Hash> {
    tile.as_chunks().0.iter().map(|bytes| Hash(*bytes)).collect()
}

/// The root of a perfect subtree with these leaf hashes, whose number is a power of two. No caller passes an empty slice; its
/// result would match no root.
pub fn perfect_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::ZERO,
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&perfect_root(left), &perfect_root(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taglog_proto::{
        OperationError,
        merkle::{Frontier, consistency_proof, leaf_hash, root, verify_consistency},
    };

    use super::*;

    /// Writes the tiles of a tree of `size` leaves.
    fn write_tiles(directory: &std::path::Path, size: u64) {
        let mut levels: Vec<Vec<Hash>> = vec![Vec::new(); 4];
        let mut frontier = Frontier::default();
        for i in 0..size {
            frontier.append(leaf_hash(&i.to_be_bytes()), |level, _, hash| {
                if level % HEIGHT == 0 {
                    levels[usize::from(level / HEIGHT)].push(hash);
                }
            });
        }
        for (level, hashes) in (0..).zip(&levels) {
            for (index, tile) in (0..).zip(hashes.chunks(FULL_WIDTH as usize)) {
                let path = TilePath { kind: TileKind::Hashes(level), index, width: tile.len() as u16 };
                let file = directory.join(format!("tile/{path}"));
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, tile.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>()).unwrap();
            }
        }
    }

    fn true_root(size: u64) -> Hash {
        let mut frontier = Frontier::default();
        (0..size).for_each(|i| frontier.append(leaf_hash(&i.to_be_bytes()), |_, _, _| {}));
        frontier.root()
    }

    #[tokio::test]
    async fn roots_and_proofs_of_all_shapes() {
        for size in [1, 2, 255, 256, 257, 511, 600, 65_536, 65_537, 66_000] {
            let directory = tempfile::tempdir().unwrap();
            write_tiles(directory.path(), size);
            let log = StaticLog::open(directory.path().to_str().unwrap(), Duration::from_secs(5)).unwrap();
            let mut nodes = TileNodes::new(&log, size);
            assert_eq!(nodes.run(|tiles| root(tiles, size)).await.unwrap(), true_root(size), "{size}");
            for from in [1, 2, 200, 256, 300, 65_535].into_iter().filter(|from| *from < size) {
                let proof = nodes
                    .run(|tiles| OperationError::unless_refused(consistency_proof(tiles, from, size)))
                    .await
                    .unwrap()
                    .unwrap();
                verify_consistency(from, size, &proof, &true_root(from), &true_root(size)).unwrap();
            }
            assert!(nodes.run(|tiles| tiles.node(0, size)).await.is_err());
            assert!(nodes.run(|tiles| tiles.node(63, u64::MAX)).await.is_err());
        }
    }
}
