//! What a verifier that runs for long need not ask again: answers of the log by image, and what manifests told by image
//! and checkpoint. Bounded in number and time.

use std::{
    collections::HashMap,
    hash::Hash as StdHash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use taglog_proto::{merkle::Hash, name::Image};

use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::Finding;

/// The most images that are kept of either kind; beyond that, all are forgotten.
const MOST: usize = 20_000;

/// Values, and since when they are kept.
type Kept<K, V> = HashMap<K, (Instant, V)>;

/// Verified answers of the log, each under the checkpoint that it came with, and findings under a checkpoint.
pub(super) struct Cache {
    keep: Duration,
    parts: Mutex<Kept<Image, Arc<CosignedLookup>>>,
    findings: Mutex<Kept<(Image, Hash), Vec<Finding>>>,
}

impl Cache {
    /// A cache that keeps everything for so long; zero keeps nothing.
    pub(super) fn new(keep: Duration) -> Cache {
        Cache { keep, parts: Mutex::default(), findings: Mutex::default() }
    }

    /// The answers that hold these images, and the images that none holds.
    pub(super) fn parts(&self, images: &[Image]) -> (Vec<Arc<CosignedLookup>>, Vec<Image>) {
        let kept = open(&self.parts);
        let mut known: Vec<Arc<CosignedLookup>> = Vec::new();
        let mut missing = Vec::new();
        for image in images {
            match kept.get(image).filter(|(since, _)| since.elapsed() < self.keep) {
                Some((_, part)) if known.iter().any(|other| Arc::ptr_eq(other, part)) => {}
                Some((_, part)) => known.push(Arc::clone(part)),
                None => missing.push(image.clone()),
            }
        }
        (known, missing)
    }

    /// Keeps these answers for the images that they hold.
    pub(super) fn keep_parts(&self, parts: &[Arc<CosignedLookup>]) {
        let images = |part: &Arc<CosignedLookup>| {
            part.lookup.images.iter().map(|report| report.image.clone()).collect::<Vec<_>>()
        };
        for part in parts {
            self.insert(&self.parts, images(part).into_iter().map(|image| (image, Arc::clone(part))));
        }
    }

    /// What was found out about an image's moves as of a checkpoint.
    pub(super) fn findings(&self, image: &Image, root: &Hash) -> Option<Vec<Finding>> {
        let kept = open(&self.findings);
        let (since, findings) = kept.get(&(image.clone(), *root))?;
        (since.elapsed() < self.keep).then(|| findings.clone())
    }

    /// Keeps what was found out about an image's moves.
    pub(super) fn keep_findings(&self, image: &Image, root: Hash, findings: &[Finding]) {
        self.insert(&self.findings, [((image.clone(), root), findings.to_vec())]);
    }

    fn insert<K: Eq + StdHash, V>(&self, kept: &Mutex<Kept<K, V>>, more: impl IntoIterator<Item = (K, V)>) {
        if self.keep.is_zero() {
            return;
        }
        let (mut kept, now) = (open(kept), Instant::now());
        if kept.len() >= MOST {
            kept.retain(|_, (since, _)| since.elapsed() < self.keep);
        }
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.extend(more.into_iter().map(|(key, value)| (key, (now, value))));
    }
}

/// A thread that panicked left whole entries behind: the map is used as it is.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
