//! One pass: brings the copy up to what the log has published.

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
use taglog_evidence::split_view::{Comparison, compare};
use taglog_log_client::{
    lookup::MISBEHAVIOUR,
    static_log::{StaticError, StaticLog},
    tile_nodes::{hashes, perfect_root},
    trust::Trust,
};

/// How many bundles are fetched at once. Each is at most 16 MiB; those of an honest log are a hundredth of that.
const PARALLEL: usize = 16;

/// A copy and the log that it is of.
#[derive(Debug)]
pub struct Mirror {
    trust: Trust,
    log: StaticLog,
    /// The copy, as its readers see it.
    copy: StaticLog,
    directory: Arc<Directory>,
    progress: SharedProgress,
    /// Whether all files that the copy must have were seen by this process.
    all_files_checked: bool,
}

/// What a pass has come to.
#[derive(Clone, Debug)]
pub struct MirrorUpdate {
    /// The checkpoint of the copy.
    pub checkpoint: OwnCheckpoint,
    /// The size of the copy before.
    pub before: u64,
}

impl Mirror {
    /// The copy in `directory` of the log that is trusted so far, which is read from `log`. `progress` counts entries.
    ///
    /// # Errors
    /// [`MirrorError::Lock`], [`MirrorError::File`]; [`MirrorError::OwnCheckpoint`] when the directory has a copy of
    /// another log.
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

    /// The checkpoint of the copy; `None` when there is no copy yet.
    ///
    /// # Errors
    /// [`MirrorError::OwnCheckpoint`], [`MirrorError::File`].
    pub fn checkpoint(&self) -> Result<Option<OwnCheckpoint>, MirrorError> {
        own_checkpoint(self.directory.path(), &self.trust.log)
    }

    /// Fetches, proves and writes what is new. After an interruption, what is there is used.
    ///
    /// # Errors
    /// [`MirrorError`]; what the copy's readers see has not changed then.
    pub async fn pass(&mut self) -> Result<MirrorUpdate, MirrorError> {
        let before = self.checkpoint()?;
        let new = self.fetch_checkpoint().await?;
        let size_before = before.as_ref().map_or(0, |before| before.signed.unverified().size);
        if let Some(before) = &before {
            self.check_growth(before, &new).await?;
        }
        let quorate = self.trust.check(&new.signed)?;
        let edge = Edge::fetch(&self.log, new.signed.unverified()).await?;
        // The first pass looks at every tile: files may have been lost, or be there from a pass that was cut short.
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

    /// Whether a trusted checkpoint takes the place of the copy's: a larger one does. One of the same size does when it
    /// only adds signatures, since readers may need each of them, and when no cosignature that the trust file's keys can
    /// check is older than before: what is replayed or damaged must not make the copy staler.
    fn replaces(&self, before: &OwnCheckpoint, new: &OwnCheckpoint, quorate: &Quorate) -> bool {
        if before.signed.unverified().size < new.signed.unverified().size {
            return true;
        }
        // The trust file may ask for more than when the copy was made.
        let Ok(old) = self.trust.check(&before.signed) else { return true };
        let is_kept = |(name, time): &(String, Timestamp)| {
            quorate.cosignatures.iter().any(|(other, newer)| other == name && newer >= time)
        };
        before.bytes != new.bytes
            && signers(before).iter().all(|signer| signers(new).contains(signer))
            && old.cosignatures.iter().all(is_kept)
    }

    /// The copy's checkpoint must be a prefix of the new one.
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
        Ok(MirrorError::Misbehaved { accusation, kept: format!("what shows it is kept in {}", path.display()) })
    }

    /// From the top down, so that each tile is proven by a node that is proven already. Of level 1 and below, only
    /// one run is in memory: a tile of level 1 and the bundles under it.
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

    /// A full tile of hashes that has this root: the one there is, or else the log's.
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

    /// Full bundles from the index `first` on, with the roots that they must have.
    async fn copy_run(&self, first: u64, roots: &[Hash], from: u64) -> Result<(), MirrorError> {
        let bundles = (first..).zip(roots).filter(|(index, _)| *index >= nodes(from, 1));
        let bundles = bundles.map(|(index, root)| self.copy_bundle(index, *root));
        stream::iter(bundles).buffer_unordered(PARALLEL).try_collect::<()>().await
    }

    /// A full bundle, and the tile of its leaf hashes, which is written after it.
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

/// The copy in a directory, as its readers see it.
pub(super) fn copy_in(directory: &Path) -> Result<StaticLog, MirrorError> {
    let location = directory.to_str().ok_or(StaticError::Location(directory.display().to_string()))?;
    // A relative path that looks like an address is no address.
    let absolute = std::path::absolute(location).map_err(file_error(directory))?;
    let timeout = std::time::Duration::ZERO;
    Ok(StaticLog::open(&absolute.display().to_string(), timeout)?)
}

/// The full tile of a kind at an index.
pub(super) fn full(kind: TileKind, index: u64) -> TilePath {
    TilePath { kind, index, width: FULL_WIDTH as u16 }
}

/// Whose signature lines a checkpoint has.
fn signers(checkpoint: &OwnCheckpoint) -> Vec<(&str, KeyId)> {
    checkpoint.signed.note().signatures.iter().map(|line| (line.name.as_str(), line.key_id)).collect()
}

/// Removes the partial tiles of the size before whose full tiles are there now.
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
