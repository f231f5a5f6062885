//! Where the evaluation of an image in one log gets further data from, if the tag has moved or the digest may be a
//! platform's manifest: raw manifests and configurations, and the sightings of base images. All that was read is
//! recorded, so that it can be saved and used offline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taglog_proto::{
    name::{Digest, Image, Repository},
    tag_proof::ImageReport,
};

use super::{
    cache::Cache,
    dependencies::{Dependencies, TrustedLog},
    options::VerificationOptions,
};
use crate::rebuilt::{BaseSightings, DocumentKind, ManifestSource, RemoteDocuments, Unavailable, base_digests};
use taglog_log_client::lookup::{LogLookup, LookupError, look_up};

/// The most bytes of documents that are recorded. Documents beyond it are not saved, so offline they explain no moves.
const MAX_RECORDED: usize = 24 << 20;

/// Documents by their digests.
pub type Documents = BTreeMap<Digest, Arc<[u8]>>;

/// Records what one verification has read, for all logs. Documents are verified by their digests, whichever log they
/// are read for. The look-up of a base counts for the log that answered it only.
#[derive(Default)]
pub(super) struct Recorder {
    documents: Mutex<Documents>,
    bases: Mutex<Vec<LogLookup>>,
    /// One for each log that misbehaved, by origin.
    alarms: Mutex<BTreeMap<String, String>>,
}

/// Nothing panics in the middle of a write under these locks, so a poisoned lock still holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// A recorder that already holds these documents.
    pub(super) fn with_documents(documents: Documents) -> Recorder {
        Recorder { documents: Mutex::new(documents), ..Recorder::default() }
    }

    /// The documents, the look-ups of base images, and the alarms about logs that misbehaved.
    pub(super) fn into_parts(self) -> (Documents, Vec<LogLookup>, Vec<String>) {
        let documents = self.documents.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bases = self.bases.into_inner().unwrap_or_else(PoisonError::into_inner);
        let alarms = self.alarms.into_inner().unwrap_or_else(PoisonError::into_inner);
        (documents, bases, alarms.into_values().collect())
    }

    fn record(&self, digest: Digest, bytes: &[u8]) {
        let mut documents = lock(&self.documents);
        let recorded: usize = documents.values().map(|document| document.len()).sum();
        if recorded + bytes.len() <= MAX_RECORDED {
            documents.insert(digest, bytes.into());
        }
    }
}

/// The answer of one log about an image, and sources of further data.
pub(super) struct LogSource<'a> {
    options: &'a VerificationOptions,
    pub(super) lookup: &'a LogLookup,
    /// Comparisons of earlier verifications.
    pub(super) cache: &'a Cache,
    recorder: &'a Recorder,
    /// The log and the registries; `None` offline.
    network: Option<NetworkSources<'a>>,
}

struct NetworkSources<'a> {
    dependencies: &'a Dependencies,
    log: &'a TrustedLog,
    documents: RemoteDocuments,
}

impl<'a> LogSource<'a> {
    /// A source of recorded data only, without network.
    pub(super) fn recorded(
        options: &'a VerificationOptions,
        lookup: &'a LogLookup,
        cache: &'a Cache,
        recorder: &'a Recorder,
    ) -> Self {
        LogSource { options, lookup, cache, recorder, network: None }
    }

    /// Also asks this log and the registries. Documents of the repository `logged` are requested from `requested`,
    /// which may be a mirror.
    pub(super) fn with_network(
        self,
        dependencies: &'a Dependencies,
        log: &'a TrustedLog,
        logged: &Repository,
        requested: &Repository,
    ) -> Self {
        let documents = RemoteDocuments::new(Some(log.client.clone()), Some(dependencies.registry.clone()));
        let documents = documents.with_mirror(logged.clone(), requested.clone());
        LogSource { network: Some(NetworkSources { dependencies, log, documents }), ..self }
    }

    /// The digests of a base image, if this log has been asked about it.
    fn recorded_digests(&self, base: &Image) -> Option<Result<Vec<Digest>, Unavailable>> {
        let demands = self.options.policy.demands(base).in_log(&self.lookup.log);
        let digests = |report: &ImageReport| base_digests(report, &demands);
        let bases = lock(&self.recorder.bases);
        let of_this_log = bases.iter().filter(|lookup| lookup.log == self.lookup.log);
        [self.lookup].into_iter().chain(of_this_log).find_map(|lookup| lookup.report(base)).map(digests)
    }
}

impl ManifestSource for LogSource<'_> {
    async fn get(&self, repository: &Repository, digest: &Digest, kind: DocumentKind) -> Result<Vec<u8>, Unavailable> {
        if let Some(recorded) = lock(&self.recorder.documents).get(digest) {
            return Ok(recorded.to_vec());
        }
        let Some(network) = &self.network else {
            return Err(Unavailable("the proof file does not contain it".to_owned()));
        };
        let bytes = network.documents.get(repository, digest, kind).await?;
        if !digest.matches(&bytes) {
            return Err(Unavailable("the received document has another digest".to_owned()));
        }
        self.recorder.record(*digest, &bytes);
        Ok(bytes)
    }
}

impl BaseSightings for LogSource<'_> {
    async fn sighted(&self, base: &Image) -> Result<Vec<Digest>, Unavailable> {
        let base = self.options.policy.logged_name(base);
        if let Some(recorded) = self.recorded_digests(&base) {
            return recorded;
        }
        let Some(NetworkSources { dependencies, log, .. }) = &self.network else {
            return Err(Unavailable(format!("the proof file has no proof of the base image {base}")));
        };
        match look_up(&log.client, &log.trust, std::slice::from_ref(&base), self.lookup.newest()).await {
            Ok(lookup) => {
                lock(&self.recorder.bases).push(lookup);
                self.recorded_digests(&base).unwrap_or_else(|| Ok(Vec::new()))
            }
            Err(LookupError::Misbehaved(misbehaviour)) => {
                let alarm = || dependencies.memory.alarm(&log.trust.log, &misbehaviour.error, &misbehaviour.evidence);
                lock(&self.recorder.alarms).entry(self.lookup.log.clone()).or_insert_with(alarm);
                Err(Unavailable(misbehaviour.to_string()))
            }
            Err(error) => Err(Unavailable(format!("the base image {base} cannot be looked up: {error}"))),
        }
    }
}
