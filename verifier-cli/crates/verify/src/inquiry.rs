//! What is read beyond the images asked about, once a tag has moved or a platform's manifest is in question: raw
//! manifests and configurations, and what is logged of base images. All of it can be saved, and answer again offline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taglog_proto::{
    name::{Digest, Image, Repository},
    tag_proof::ImageReport,
};

use super::{
    ask::{Log, Parts},
    cache::Cache,
    rules::Rules,
};
use crate::rebuilt::{BaseSightings, Kind, ManifestSource, Manifests, Missing, sighted};
use taglog_log_client::lookup::{LogLookup, LookupError, look_up};

/// The most bytes of documents that are kept for saving. Beyond it, a saved verification has fewer of them, and so fewer
/// explanations.
const MOST_KEPT: usize = 24 << 20;

/// Documents by their digests.
pub type Documents = BTreeMap<Digest, Arc<[u8]>>;

/// What was read so far. Shared by all inquiries of one verification: documents prove themselves, whichever log they are
/// read for; what is logged of a base counts in the log that says it.
#[derive(Default)]
pub(super) struct Record {
    documents: Mutex<Documents>,
    bases: Mutex<Vec<LogLookup>>,
    /// One for each log that misbehaved, by its origin.
    alarms: Mutex<BTreeMap<String, String>>,
}

/// One half-done write is impossible under these locks, so a thread that panicked elsewhere spoils nothing.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// A record that has these documents already.
    pub(super) fn of(documents: Documents) -> Record {
        Record { documents: Mutex::new(documents), ..Record::default() }
    }

    /// What was read, and what logs did that they must not do.
    pub(super) fn close(self) -> (Documents, Vec<LogLookup>, Vec<String>) {
        let documents = self.documents.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bases = self.bases.into_inner().unwrap_or_else(PoisonError::into_inner);
        let alarms = self.alarms.into_inner().unwrap_or_else(PoisonError::into_inner);
        (documents, bases, alarms.into_values().collect())
    }

    fn keep(&self, digest: Digest, bytes: &[u8]) {
        let mut documents = open(&self.documents);
        let kept: usize = documents.values().map(|document| document.len()).sum();
        if kept + bytes.len() <= MOST_KEPT {
            documents.insert(digest, bytes.into());
        }
    }
}

/// What one log holds of an image, and the way to look further for its sake.
pub(super) struct Inquiry<'a> {
    rules: &'a Rules,
    /// What the log answered.
    pub(super) looked: &'a LogLookup,
    /// What was found out before.
    pub(super) cache: &'a Cache,
    record: &'a Record,
    /// Log and registries; `None` where only what was saved may answer.
    live: Option<Live<'a>>,
}

/// Who can be asked.
struct Live<'a> {
    parts: &'a Parts,
    log: &'a Log,
    manifests: Manifests,
}

impl<'a> Inquiry<'a> {
    /// Asks nobody.
    pub(super) fn saved(rules: &'a Rules, looked: &'a LogLookup, cache: &'a Cache, record: &'a Record) -> Self {
        Inquiry { rules, looked, cache, record, live: None }
    }

    /// Asks this log and the registries for what is not on record. What the log calls `logged` is asked for at `asked`.
    pub(super) fn asking(self, parts: &'a Parts, log: &'a Log, logged: &Repository, asked: &Repository) -> Self {
        let manifests = Manifests::new(Some(log.client.clone()), Some(parts.registry.clone()));
        let manifests = manifests.through(logged.clone(), asked.clone());
        Inquiry { live: Some(Live { parts, log, manifests }), ..self }
    }

    fn on_record(&self, base: &Image) -> Option<Result<Vec<Digest>, Missing>> {
        let demands = self.rules.policy.demands(base).in_log(&self.looked.log);
        let digests = |report: &ImageReport| sighted(report, &demands);
        let bases = open(&self.record.bases);
        let of_this_log = bases.iter().filter(|looked| looked.log == self.looked.log);
        [self.looked].into_iter().chain(of_this_log).find_map(|looked| looked.report(base)).map(digests)
    }
}

impl ManifestSource for Inquiry<'_> {
    async fn get(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Vec<u8>, Missing> {
        if let Some(known) = open(&self.record.documents).get(digest) {
            return Ok(known.to_vec());
        }
        let Some(live) = &self.live else { return Err(Missing("it was not saved".to_owned())) };
        let bytes = live.manifests.get(repository, digest, kind).await?;
        if !digest.matches(&bytes) {
            return Err(Missing("what was sent does not hash to that".to_owned()));
        }
        self.record.keep(*digest, &bytes);
        Ok(bytes)
    }
}

impl BaseSightings for Inquiry<'_> {
    async fn sighted(&self, base: &Image) -> Result<Vec<Digest>, Missing> {
        let base = self.rules.policy.logged_name(base);
        if let Some(known) = self.on_record(&base) {
            return known;
        }
        let Some(Live { parts, log, .. }) = &self.live else {
            return Err(Missing(format!("what is logged of the base {base} was not saved")));
        };
        match look_up(&log.client, &log.trust, std::slice::from_ref(&base), self.looked.newest()).await {
            Ok(looked) => {
                open(&self.record.bases).push(looked);
                self.on_record(&base).unwrap_or_else(|| Ok(Vec::new()))
            }
            Err(LookupError::Misbehaved(misbehaviour)) => {
                let alarm = || parts.memory.alarm(&log.trust.log, &misbehaviour.error, &misbehaviour.evidence);
                open(&self.record.alarms).entry(self.looked.log.clone()).or_insert_with(alarm);
                Err(Missing(misbehaviour.to_string()))
            }
            Err(error) => Err(Missing(format!("the base {base} cannot be looked up: {error}"))),
        }
    }
}
