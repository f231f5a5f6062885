//! Updates the copy to the checkpoint that the log has published.

use std::{path::Path, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use taglog_base::progress::SharedProgress;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    merkle::Hash,
    name::KeyId,
    policy::Quorate,
    tile::{FULL_WIDTH, TileKind, TilePath},
    time::Timestamp,
};

use super::{
    MirrorError,
    directory::{Directory, OwnCheckpoint, own_checkpoint},
    edge::{Edge, bytes, leaf_hashes, nodes},
    file_error, on_a_thread,
};
use taglog_base::text::path_line;
use taglog_evidence::split_view::{Comparison, compare};
use taglog_log_client::{
    lookup::MISBEHAVIOUR,
    static_log::{StaticError, StaticLog},
    tile_nodes::{hashes, perfect_root},
    trust::Trust,
};

/// How many bundles are fetched concurrently. Each is at most 16 MiB; those of an honest log are about a hundredth of that.
const PARALLEL: usize = 16;

/// A copy and the log that it is updated from.
#[derive(Debug)]
pub struct Mirror {
    trust: Trust,
    log: StaticLog,
    /// Read access to the copy.
    copy: StaticLog,
    directory: Arc<Directory>,
    progress: SharedProgress,
    /// Whether this process has checked the existence of every file of the copy.
    all_files_checked: bool,
}

/// The result of an update.
#[derive(Clone, Debug)]
pub struct MirrorUpdate {
    /// The checkpoint of the copy after the update.
    pub checkpoint: OwnCheckpoint,
    /// The number of entries of the copy before the update.
    pub before: u64,
}

impl Mirror {
    /// Opens the copy in `directory` of the log that `trust` names; its data is read from `log`. `progress` counts entries.
    ///
    /// # Errors
    /// [`MirrorError::Lock`], [`MirrorError::File`]; [`MirrorError::OwnCheckpoint`] if the directory has a copy of another
    /// log.
    pub fn open(
        trust: Trust,
        log: StaticLog,
        directory: &Path,
        progress: SharedProgress,
    ) -> Result<Mirror, MirrorError> {
        let directory = Arc::new(Directory::open(directory)?);
        own_checkpoint(directory.path(), &trust.log)?;
        let copy = copy_in(directory.path())?;
        Ok(Mirror { trust, log, copy, directory, progress, all_files_checked: false })
    }

    /// The checkpoint of the copy; `None` if there is no copy yet.
    ///
    /// # Errors
    /// [`MirrorError::OwnCheckpoint`], [`MirrorError::File`].
    pub fn checkpoint(&self) -> Result<Option<OwnCheckpoint>, MirrorError> {
        own_checkpoint(self.directory.path(), &self.trust.log)
    }

    /// Fetches, verifies and writes new entries and tiles, and then the checkpoint. Files of an interrupted update are reused.
    ///
    /// # Errors
    /// The checkpoint of the copy is unchanged.
    pub async fn update(&mut self) -> Result<MirrorUpdate, MirrorError> {
        let before = self.checkpoint()?;
        let new = self.fetch_checkpoint().await?;
        let size_before = before.as_ref().map_or(0, |before| before.signed.unverified().size);
        if let Some(before) = &before {
            self.check_growth(before, &new).await?;
        }
        let quorate = self.trust.check(&new.signed)?;
        let edge = Edge::fetch(&self.log, new.signed.unverified()).await?;
        // The first update checks every tile: files may be missing, or left over from an interrupted update.
        let from = if self.all_files_checked { size_before } else { 0 };
        self.progress.start(from, edge.size());
        self.copy_full_tiles(&edge, from).await?;
        let (directory, published) = (Arc::clone(&self.directory), new.clone());
        let changed = before.as_ref().is_none_or(|before| self.replaces(before, &new, &quorate));
        on_a_thread(move || {
            edge.tiles().iter().try_for_each(|(path, bytes)| directory.put(path, bytes))?;
            if changed {
                directory.publish(&published.bytes)?;
            }
            remove_old_edge(&directory, size_before, edge.size())
        })
        .await?;
        self.progress.finish();
        self.all_files_checked = true;
        let checkpoint = before.filter(|_| !changed).unwrap_or(new);
        Ok(MirrorUpdate { checkpoint, before: size_before })
    }

    async fn fetch_checkpoint(&self) -> Result<OwnCheckpoint, MirrorError> {
        let bytes = self.log.checkpoint().await?;
        let signed = SignedCheckpoint::parse(&bytes)?;
        signed.verify(&self.trust.log)?;
        Ok(OwnCheckpoint { bytes, signed })
    }

    /// Whether a trusted checkpoint replaces the copy's. A larger one does. One of the same size does only if it keeps all
    /// signatures, since readers may need each of them, and if no cosignature that the trust file's keys can verify is older
    /// than before: a replayed or damaged checkpoint must not make the copy older.
    fn replaces(&self, before: &OwnCheckpoint, new: &OwnCheckpoint, quorate: &Quorate) -> bool {
        if before.signed.unverified().size < new.signed.unverified().size {
            return true;
        }
        // The trust file may require more signatures now than when the copy was made.
        let Ok(old) = self.trust.check(&before.signed) else { return true };
        let is_kept = |(name, time): &(String, Timestamp)| {
            quorate.cosignatures.iter().any(|(other, newer)| other == name && newer >= time)
        };
        before.bytes != new.bytes
            && signers(before).iter().all(|signer| signers(new).contains(signer))
            && old.cosignatures.iter().all(is_kept)
    }

    /// Checks that the copy's checkpoint is a prefix of the new one. If not, keeps evidence.
    async fn check_growth(&self, before: &OwnCheckpoint, new: &OwnCheckpoint) -> Result<(), MirrorError> {
        let (old_size, new_size) = (before.signed.unverified().size, new.signed.unverified().size);
        let larger = if new_size > old_size { &self.log } else { &self.copy };
        match compare(&self.trust.log, &before.signed, &new.signed, larger).await? {
            Comparison::Split(split) => Err(self.misbehaved(split.accusation, &split.evidence.to_json())?),
            Comparison::Consistent if new_size < old_size => {
                let accusation = format!("it has shrunk from {old_size} entries to {new_size}");
                let kept = json!({
                    "type": MISBEHAVIOUR,
                    "error": accusation,
                    "remembered": before.signed.to_string(),
                    "checkpoint": new.signed.to_string(),
                });
                Err(self.misbehaved(accusation, &kept.to_string())?)
            }
            Comparison::Same | Comparison::Consistent => Ok(()),
        }
    }

    fn misbehaved(&self, accusation: String, evidence: &str) -> Result<MirrorError, MirrorError> {
        let path = self.directory.memory().keep_evidence("misbehaviour", evidence.as_bytes())?;
        Ok(MirrorError::Misbehaved { accusation, kept: format!("what shows it is kept in {}", path_line(&path)) })
    }

    /// Copies full tiles from the top level down, so that each tile is verified against a node that was verified before. Of
    /// levels 1 and 0, only one run is in memory: a tile of level 1 and the bundles below it.
    async fn copy_full_tiles(&self, edge: &Edge, from: u64) -> Result<(), MirrorError> {
        let mut roots = if edge.top() >= 2 { edge.level(edge.top()).to_vec() } else { Vec::new() };
        for level in (2..edge.top()).rev() {
            let mut below = Vec::new();
            for (index, root) in (0..).zip(&roots) {
                below.extend(self.hash_tile(level, index, root).await?);
            }
            below.extend(edge.level(level));
            roots = below;
        }
        let first_run = nodes(from, 2);
        for (run, root) in (0..).zip(&roots).skip_while(|(run, _)| *run < first_run) {
            let bundles = self.hash_tile(1, run, root).await?;
            self.copy_run(run * FULL_WIDTH, &bundles, from).await?;
        }
        self.copy_run(roots.len() as u64 * FULL_WIDTH, edge.level(1), from).await
    }

    /// The full hash tile with this root: from the copy if it is intact there, otherwise from the log.
    async fn hash_tile(&self, level: u8, index: u64, root: &Hash) -> Result<Vec<Hash>, MirrorError> {
        let path = full(TileKind::Hashes(level), index);
        if let Ok(tile) = self.copy.tile(&path).await
            && perfect_root(&hashes(&tile)) == *root
        {
            return Ok(hashes(&tile));
        }
        let tile = self.log.tile(&path).await?;
        let hashes = hashes(&tile);
        if perfect_root(&hashes) != *root {
            return Err(self.untrue(&path));
        }
        let directory = Arc::clone(&self.directory);
        on_a_thread(move || directory.put(&path, &tile)).await?;
        Ok(hashes)
    }

    /// Copies full bundles from the index `first` on. `roots` are the roots that they must have.
    async fn copy_run(&self, first: u64, roots: &[Hash], from: u64) -> Result<(), MirrorError> {
        let bundles = (first..).zip(roots).filter(|(index, _)| *index >= nodes(from, 1));
        let bundles = bundles.map(|(index, root)| self.copy_bundle(index, *root));
        stream::iter(bundles).buffer_unordered(PARALLEL).try_collect::<()>().await
    }

    /// Copies a full bundle, and then writes the tile of its leaf hashes, whose presence shows that the bundle was verified.
    async fn copy_bundle(&self, index: u64, root: Hash) -> Result<(), MirrorError> {
        let (path, leaves) = (full(TileKind::Entries, index), full(TileKind::Hashes(0), index));
        let is_there = match self.copy.tile(&leaves).await {
            Ok(tile) => perfect_root(&hashes(&tile)) == root && self.directory.has(&path),
            Err(_) => false,
        };
        if !is_there {
            let bundle = self.log.tile(&path).await?;
            let (directory, untrue) = (Arc::clone(&self.directory), self.untrue(&path));
            on_a_thread(move || {
                let hashes = leaf_hashes(&bundle);
                if perfect_root(&hashes) != root {
                    return Err(untrue);
                }
                directory.put(&path, &bundle)?;
                directory.put(&leaves, &bytes(&hashes))
            })
            .await?;
        }
        self.progress.advance(FULL_WIDTH);
        Ok(())
    }

    fn untrue(&self, path: &TilePath) -> MirrorError {
        MirrorError::Untrue { what: format!("{}/tile/{path}", self.log.location()) }
    }
}

/// Read access to the copy in a directory.
pub(super) fn copy_in(directory: &Path) -> Result<StaticLog, MirrorError> {
    let location = directory.to_str().ok_or(StaticError::Location(directory.display().to_string()))?;
    // An absolute path cannot be mistaken for a URL.
    let absolute = std::path::absolute(location).map_err(file_error(directory))?;
    let timeout = std::time::Duration::ZERO;
    Ok(StaticLog::open(&absolute.display().to_string(), timeout)?)
}

/// The path of a full tile.
pub(super) fn full(kind: TileKind, index: u64) -> TilePath {
    TilePath { kind, index, width: FULL_WIDTH as u16 }
}

/// Key names and ids of the signature lines of a checkpoint.
fn signers(checkpoint: &OwnCheckpoint) -> Vec<(&str, KeyId)> {
    checkpoint.signed.note().signatures.iter().map(|line| (line.name.as_str(), line.key_id)).collect()
}

/// Removes the partial tiles of the previous size for which the copy now has full tiles.
fn remove_old_edge(directory: &Directory, before: u64, size: u64) -> Result<(), MirrorError> {
    for level in (0..8).filter(|_| before > 0) {
        let index = nodes(before, level) / FULL_WIDTH;
        if index < nodes(size, level) / FULL_WIDTH {
            directory.remove_partials(&full(TileKind::Hashes(level), index))?;
        }
    }
    let index = before / FULL_WIDTH;
    if before > 0 && index < size / FULL_WIDTH {
        directory.remove_partials(&full(TileKind::Entries, index))?;
    }
    Ok(())
}
