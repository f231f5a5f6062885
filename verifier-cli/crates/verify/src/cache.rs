//! The cache of a long-running verifier: verified answers of one log by image, and comparisons of moves by image and
//! checkpoint. Bounded in number and time.

use std::{
    collections::HashMap,
    hash::Hash as StdHash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use taglog_proto::{merkle::Hash, name::Image};

use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::MoveComparison;

/// The most entries of either kind. If the cache is full of entries that have not expired, it is cleared.
const MAX_ENTRIES: usize = 20_000;

/// Values, each with the time at which it was stored.
type Entries<K, V> = HashMap<K, (Instant, V)>;

pub(super) struct Cache {
    keep: Duration,
    parts: Mutex<Entries<Image, Arc<CosignedLookup>>>,
    comparisons: Mutex<Entries<(Image, Hash), Vec<MoveComparison>>>,
}

impl Cache {
    /// A cache with this lifetime of entries; with zero it stores nothing.
    pub(super) fn new(keep: Duration) -> Cache {
        Cache { keep, parts: Mutex::default(), comparisons: Mutex::default() }
    }

    /// The cached answers that contain these images, and the images that are not cached.
    pub(super) fn parts(&self, images: &[Image]) -> (Vec<Arc<CosignedLookup>>, Vec<Image>) {
        let entries = lock(&self.parts);
        let mut cached: Vec<Arc<CosignedLookup>> = Vec::new();
        let mut missing = Vec::new();
        for image in images {
            match entries.get(image).filter(|(since, _)| since.elapsed() < self.keep) {
                Some((_, part)) if cached.iter().any(|other| Arc::ptr_eq(other, part)) => {}
                Some((_, part)) => cached.push(Arc::clone(part)),
                None => missing.push(image.clone()),
            }
        }
        (cached, missing)
    }

    /// Stores these answers for the images that they contain.
    pub(super) fn keep_parts(&self, parts: &[Arc<CosignedLookup>]) {
        let images = |part: &Arc<CosignedLookup>| {
            part.lookup.images.iter().map(|report| report.image.clone()).collect::<Vec<_>>()
        };
        for part in parts {
            self.insert(&self.parts, images(part).into_iter().map(|image| (image, Arc::clone(part))));
        }
    }

    /// The comparisons of an image's moves as of the checkpoint with this root.
    pub(super) fn comparisons(&self, image: &Image, root: &Hash) -> Option<Vec<MoveComparison>> {
        let entries = lock(&self.comparisons);
        let (since, comparisons) = entries.get(&(image.clone(), *root))?;
        (since.elapsed() < self.keep).then(|| comparisons.clone())
    }

    pub(super) fn keep_comparisons(&self, image: &Image, root: Hash, comparisons: &[MoveComparison]) {
        self.insert(&self.comparisons, [((image.clone(), root), comparisons.to_vec())]);
    }

    fn insert<K: Eq + StdHash, V>(&self, entries: &Mutex<Entries<K, V>>, more: impl IntoIterator<Item = (K, V)>) {
        if self.keep.is_zero() {
            return;
        }
        let (mut entries, now) = (lock(entries), Instant::now());
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (since, _)| since.elapsed() < self.keep);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.extend(more.into_iter().map(|(key, value)| (key, (now, value))));
    }
}

/// Nothing panics in the middle of a write under these locks, so a poisoned lock still holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
