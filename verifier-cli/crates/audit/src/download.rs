//! From a static log to prepared entries in log order: fetched, read, hashed and judged by many at once, in chunks,
//! with a bounded number of them under way.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use taglog_proto::tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle};
use tokio::task::{JoinError, spawn, spawn_blocking};

use super::{
    batch::{ParsedEntries, admit_rosters},
    signatures::WitnessKeys,
};
use taglog_log_client::static_log::{StaticError, StaticLog};

/// Entry bundles in one chunk, whose signatures are judged together: as many as are verified as one.
const BUNDLES: u64 = 16;
/// Chunks that are fetched at once.
const FETCHED: usize = 4;
/// Files of one chunk that are fetched at once.
const FILES: usize = 16;

/// Entries that come next in the log.
pub(super) struct Chunk {
    pub entries: ParsedEntries,
    /// The log index of the first entry whose hash is not what the hash tile has, if there is one.
    pub false_hash: Option<u64>,
}

/// Entry bundles with the hash tiles beside them, as they were served.
struct FetchedBundles {
    first: u64,
    bundles: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many entries of the first bundle are before those that are wanted.
    skip: usize,
}

/// The tile of this kind at this index in a tree of `size` leaves; a partial one if need be.
pub(super) fn tile_path(kind: TileKind, index: u64, size: u64) -> TilePath {
    let level = if let TileKind::Hashes(level) = kind { level } else { 0 };
    let width = ((size >> (8 * level)) - FULL_WIDTH * index).min(FULL_WIDTH);
    TilePath { kind, index, width: width as u16 }
}

/// The entries from `from` to `size` in order. The stream ends with the first chunk that cannot be had.
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
        // In log order, so that every signature meets the keys of the rosters before it.
        let work = ended(fetched).map(|fetched| {
            fetched.admit_rosters(&mut keys);
            let keys = Arc::clone(&keys);
            spawn_blocking(move || fetched.parse(&keys))
        });
        async { ended(work?.await) }
    });
    // No more than there are cores: the thread that takes them is the slower part, and must not wait for one.
    parsed.buffered(cores)
}

/// The outcome of a task. One that has panicked or was given up has none.
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
    /// The entries that are wanted. [`StaticLog`] has checked that the bundles can be read.
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
