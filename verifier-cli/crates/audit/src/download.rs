//! Downloads the entries of a static log and parses, hashes and verifies them in parallel. Entries come out in chunks in log
//! order; the number of chunks in flight is bounded.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use taglog_proto::tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle};
use tokio::task::{JoinError, spawn, spawn_blocking};

use super::{
    batch::{ParsedEntries, admit_rosters},
    signatures::WitnessKeys,
};
use taglog_log_client::static_log::{StaticError, StaticLog};

/// Entry bundles per chunk: as many entries as one batch verification of signatures takes.
const BUNDLES: u64 = 16;
/// Chunks that are fetched concurrently.
const FETCHED: usize = 4;
/// Files of one chunk that are fetched concurrently.
const FILES: usize = 16;

/// Consecutive entries of the log.
pub(super) struct Chunk {
    pub entries: ParsedEntries,
    /// The log index of the first entry whose hash differs from the served hash tile.
    pub false_hash: Option<u64>,
}

/// Entry bundles and the hash tiles of the same entries, as served.
struct FetchedBundles {
    /// The log index of the first entry of the first bundle.
    first: u64,
    /// Pairs of entry bundle and hash tile.
    bundles: Vec<(Vec<u8>, Vec<u8>)>,
    /// The number of entries at the start of the first bundle that were not requested.
    skip: usize,
}

/// The path of a tile in a tree of `size` leaves, with the width that the tile has at that size.
pub(super) fn tile_path(kind: TileKind, index: u64, size: u64) -> TilePath {
    let level = if let TileKind::Hashes(level) = kind { level } else { 0 };
    let width = ((size >> (8 * level)) - FULL_WIDTH * index).min(FULL_WIDTH);
    TilePath { kind, index, width: width as u16 }
}

/// The entries from `from` to `size` in order. A chunk that cannot be fetched is an error in its place.
pub(super) fn chunks(
    log: &StaticLog,
    from: u64,
    size: u64,
    keys: WitnessKeys,
) -> impl Stream<Item = Result<Chunk, StaticError>> + use<> {
    let step = BUNDLES * FULL_WIDTH;
    let log = log.clone();
    let fetched = stream::iter(from / step..size.div_ceil(step)).map(move |chunk| {
        let log = log.clone();
        spawn(async move { fetch(&log, chunk * step, from, size).await })
    });
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut keys = Arc::new(keys);
    let parsed = fetched.buffered(FETCHED).map(move |fetched| {
        // Runs in log order, so that the keys of all earlier rosters are known to each chunk.
        let work = ended(fetched).map(|fetched| {
            fetched.admit_rosters(&mut keys);
            let keys = Arc::clone(&keys);
            spawn_blocking(move || fetched.parse(&keys))
        });
        async { ended(work?.await) }
    });
    // One per core: the auditor's thread is the bottleneck and must never wait for parsed entries.
    parsed.buffered(cores)
}

/// The result of a task; a task that panicked or was cancelled counts as an unavailable log.
fn ended<T>(outcome: Result<Result<T, StaticError>, JoinError>) -> Result<T, StaticError> {
    outcome.unwrap_or_else(|error| {
        let (what, reason) = ("the log".to_owned(), error.to_string());
        Err(StaticError::Unavailable { what, reason, wait: None })
    })
}

async fn fetch(log: &StaticLog, start: u64, from: u64, size: u64) -> Result<FetchedBundles, StaticError> {
    let first = start.max(from) / FULL_WIDTH;
    let last = (start + BUNDLES * FULL_WIDTH).min(size).div_ceil(FULL_WIDTH);
    let files = stream::iter(first..last).flat_map(|index| {
        stream::iter([TileKind::Entries, TileKind::Hashes(0)].map(|kind| tile_path(kind, index, size)))
    });
    let mut files = files.map(|path| async move { log.tile(&path).await }).buffered(FILES);
    let mut bundles = Vec::new();
    while let Some(bundle) = files.next().await {
        let tile = files.next().await;
        bundles.push((bundle?, tile.transpose()?.unwrap_or_default()));
    }
    let first = first * FULL_WIDTH;
    Ok(FetchedBundles { first, bundles, skip: from.saturating_sub(first) as usize })
}

impl FetchedBundles {
    /// The requested entries. [`StaticLog`] has already checked that the bundles parse.
    fn entries(&self) -> Vec<&[u8]> {
        let bundles = self.bundles.iter();
        let all = bundles.flat_map(|(bundle, _)| decode_bundle(bundle, FULL_WIDTH as usize).unwrap_or_default());
        all.skip(self.skip).collect()
    }

    fn admit_rosters(&self, keys: &mut Arc<WitnessKeys>) {
        let entries = self.entries();
        if entries.iter().any(|entry| entry.starts_with(b"taglog/roster@v1\n")) {
            admit_rosters(Arc::make_mut(keys), &entries);
        }
    }

    fn parse(self, keys: &WitnessKeys) -> Result<Chunk, StaticError> {
        let entries = ParsedEntries::new(&self.entries(), keys);
        let served = self.bundles.iter().flat_map(|(_, tile)| tile.as_chunks::<32>().0).skip(self.skip);
        let wrong = entries.leaves().iter().zip(served).position(|(leaf, served)| leaf.0 != *served);
        let false_hash = wrong.map(|place| self.first + (self.skip + place) as u64);
        Ok(Chunk { entries, false_hash })
    }
}
