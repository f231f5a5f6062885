//! How many tags have been looked at for the first time: for a person who watches it happen, and as a metric.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use taglog_base::progress::SharedProgress;

/// Counts the first look at every tag, over all registries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FirstLooks {
    progress: SharedProgress,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How many tags of each registry are watched.
    tags: BTreeMap<String, usize>,
    looked: usize,
}

impl FirstLooks {
    /// Reports to `progress`, in tags.
    pub fn new(progress: SharedProgress) -> FirstLooks {
        FirstLooks { progress, counts: Arc::default() }
    }

    /// So many tags of a registry are watched.
    pub fn set_tags(&self, registry: &str, count: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.tags.insert(registry.to_owned(), count);
        self.progress.set_total(counts.total() as u64);
        // Far fewer tags than a float can count.
        metrics::gauge!("taglog_witness_tags", "registry" => registry.to_owned()).set(count as f64);
    }

    /// A tag was looked at for the first time.
    pub fn looked(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.looked += 1;
        self.progress.advance(1);
        if counts.looked >= counts.total() {
            self.progress.finish();
        }
    }
}

impl Counts {
    fn total(&self) -> usize {
        self.tags.values().sum()
    }
}
