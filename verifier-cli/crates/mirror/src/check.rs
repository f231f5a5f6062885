//! Verifies a copy on disk without contacting the log.

use std::{path::Path, thread::available_parallelism};

use futures_util::{StreamExt as _, stream};
use taglog_base::progress::SharedProgress;
use taglog_proto::{
    merkle::Hash,
    tile::{FULL_WIDTH, TileKind, TilePath},
};

use super::{
    MirrorError,
    directory::own_checkpoint,
    edge::{Edge, leaf_hashes, nodes},
    update::{copy_in, full},
};
use taglog_log_client::{
    static_log::StaticLog,
    tile_nodes::{hashes, perfect_root},
    trust::Trust,
};

/// The result of the verification of a copy.
#[derive(Debug)]
pub struct CopyCheck {
    /// The number of entries of the copy.
    pub size: u64,
    /// The names of missing or damaged tiles, relative to the directory. Tiles below a damaged hash tile are not listed: without
    /// it they cannot be checked.
    pub damaged: Vec<String>,
}

struct Check {
    copy: StaticLog,
    progress: SharedProgress,
}

/// Verifies every tile and every entry of the copy in a directory against the signed root. `None` if the directory has no copy.
/// `progress` counts entries.
///
/// # Errors
/// [`MirrorError::OwnCheckpoint`], [`MirrorError::InsufficientTrust`], [`MirrorError::File`].
pub async fn check(
    directory: &Path,
    trust: &Trust,
    progress: SharedProgress,
) -> Result<Option<CopyCheck>, MirrorError> {
    let Some(checkpoint) = own_checkpoint(directory, &trust.log)? else { return Ok(None) };
    trust.check(&checkpoint.signed)?;
    let checkpoint = checkpoint.signed.unverified();
    let check = Check { copy: copy_in(directory)?, progress };
    check.progress.start(0, checkpoint.size);
    let damaged = match Edge::fetch(&check.copy, checkpoint).await {
        Ok(edge) => check.below(&edge).await,
        Err(MirrorError::Untrue { .. } | MirrorError::Static(_)) => check.partial_tiles(checkpoint.size),
        Err(error) => return Err(error),
    };
    check.progress.finish();
    Ok(Some(CopyCheck { size: checkpoint.size, damaged }))
}

impl Check {
    /// Checks everything that the edge proves, from the top level down. Returns the damaged tiles.
    async fn below(&self, edge: &Edge) -> Vec<String> {
        let mut damaged = self.edge_tiles(edge).await;
        // Nodes of a damaged tile are unknown (`None`), so what is below them cannot be checked.
        let mut roots: Vec<Option<Hash>> = edge.level(edge.top()).iter().copied().map(Some).collect();
        for level in (1..edge.top()).rev() {
            let mut below = Vec::new();
            for (index, root) in (0..).zip(&roots) {
                let Some(root) = root else {
                    below.extend([None; FULL_WIDTH as usize]);
                    continue;
                };
                let path = full(TileKind::Hashes(level), index);
                match self.tile_with_root(&path, root).await {
                    Some(hashes) => below.extend(hashes.into_iter().map(Some)),
                    None => {
                        damaged.push(name(&path));
                        below.extend([None; FULL_WIDTH as usize]);
                    }
                }
            }
            below.extend(edge.level(level).iter().copied().map(Some));
            roots = below;
        }
        if edge.top() > 0 {
            damaged.extend(self.bundles(&roots).await);
        }
        damaged
    }

    /// Checks the files of the partial tiles: the edge itself may have been cut out of full tiles.
    async fn edge_tiles(&self, edge: &Edge) -> Vec<String> {
        let mut damaged = Vec::new();
        for (path, bytes) in edge.tiles() {
            if self.copy.tile(&path).await.ok().as_ref() != Some(&bytes) {
                damaged.push(name(&path));
            }
        }
        damaged
    }

    async fn tile_with_root(&self, path: &TilePath, root: &Hash) -> Option<Vec<Hash>> {
        let tile = hashes(&self.copy.tile(path).await.ok()?);
        (perfect_root(&tile) == *root).then_some(tile)
    }

    /// Checks all full entry bundles and the tiles of their leaf hashes.
    async fn bundles(&self, roots: &[Option<Hash>]) -> Vec<String> {
        let known = (0..).zip(roots).filter_map(|(index, root)| Some((index, (*root)?)));
        let bundles = known.map(|(index, root)| self.bundle(index, root));
        let cores = available_parallelism().map_or(1, usize::from);
        stream::iter(bundles).buffered(2 * cores).flat_map(stream::iter).collect().await
    }

    async fn bundle(&self, index: u64, root: Hash) -> Vec<String> {
        let (path, leaves) = (full(TileKind::Entries, index), full(TileKind::Hashes(0), index));
        let mut damaged = Vec::new();
        if self.tile_with_root(&leaves, &root).await.is_none() {
            damaged.push(name(&leaves));
        }
        let bundle = self.copy.tile(&path).await.ok();
        let is_true = move || bundle.is_some_and(|bundle| perfect_root(&leaf_hashes(&bundle)) == root);
        if !tokio::task::spawn_blocking(is_true).await.unwrap_or(false) {
            damaged.push(name(&path));
        }
        self.progress.advance(FULL_WIDTH);
        damaged
    }

    /// The names of all partial tiles: if the edge does not lead to the root, any of them may be damaged.
    fn partial_tiles(&self, size: u64) -> Vec<String> {
        let width = |level| (nodes(size, level) % FULL_WIDTH) as u16;
        let partial = |kind, level| TilePath { kind, index: nodes(size, level) / FULL_WIDTH, width: width(level) };
        let levels = (0..8).filter(|level| width(*level) > 0).map(|level| partial(TileKind::Hashes(level), level));
        let bundle = (width(0) > 0).then(|| partial(TileKind::Entries, 0));
        bundle.into_iter().chain(levels).map(|path| name(&path)).collect()
    }
}

fn name(path: &TilePath) -> String {
    format!("tile/{path}")
}
