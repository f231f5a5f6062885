//! Progress of the first poll of all tags: for the progress bar and as a metric.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use taglog_base::progress::SharedProgress;

/// Counts the first poll of every tag, over all registries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FirstPolls {
    progress: SharedProgress,
    counts: Arc<Mutex<PollCounts>>,
}

#[derive(Debug, Default)]
struct PollCounts {
    /// Watched tags by registry.
    tags: BTreeMap<String, usize>,
    polled: usize,
}

impl FirstPolls {
    /// Reports to `progress`, in tags.
    pub fn new(progress: SharedProgress) -> FirstPolls {
        FirstPolls { progress, counts: Arc::default() }
    }

    /// Sets the number of watched tags of a registry.
    pub fn set_tags(&self, registry: &str, count: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.tags.insert(registry.to_owned(), count);
        self.progress.set_total(counts.total() as u64);
        // Far fewer tags than a float can count.
        metrics::gauge!("taglog_witness_tags", "registry" => registry.to_owned()).set(count as f64);
    }

    /// Counts a first poll.
    pub fn polled(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.polled += 1;
        self.progress.advance(1);
        if counts.polled >= counts.total() {
            self.progress.finish();
        }
    }
}

impl PollCounts {
    fn total(&self) -> usize {
        self.tags.values().sum()
    }
}
