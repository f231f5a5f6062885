//! The online verifier: one look-up in each log, the registries in parallel, a verdict for each image.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use taglog_base::progress::{SharedProgress, Silent};
use taglog_proto::{
    name::{Digest, Image},
    time::Timestamp,
};
use thiserror::Error;

use super::{
    ImageQuery, ImageResult, UnresolvedImage, Verification,
    cache::Cache,
    dependencies::{Dependencies, TrustedLog},
    evaluate::ImageEvaluator,
    log_source::{LogSource, Recorder},
    options::EvaluationTime,
    served::{self, Served},
};
use taglog_log_client::{
    ClientError,
    lookup::{LogLookup, LookupError, look_up},
    memory::{Memory, MemoryError},
    trust::{InsufficientTrust, Trust},
};
use taglog_policy::{AmbiguousUntil, Ignore};

/// The number of images that are evaluated, and read manifests, at the same time.
const PARALLEL: usize = 8;

/// Why a verification or a look-up failed.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// What each misbehaving log did, and where the evidence is kept; one or more.
    #[error("{}", .0.join("; "))]
    Misbehaved(Vec<String>),
    /// The remembered checkpoint of a log cannot be used.
    #[error("log {log}: {error}")]
    Memory {
        /// The log's origin.
        log: String,
        /// Why the checkpoint cannot be used.
        error: MemoryError,
    },
    /// Several logs failed, each with one of the other errors.
    #[error("{}", joined(.0))]
    Several(Vec<VerifyError>),
    /// A log could not be asked.
    #[error("log {log}: {error}")]
    Client {
        /// The log's origin.
        log: String,
        /// Why the log could not be asked.
        error: ClientError,
    },
    /// A checkpoint of the log lacks the quorum of cosignatures.
    #[error("log {log}: {error}")]
    InsufficientTrust {
        /// The log's origin.
        log: String,
        /// Which cosignatures are missing.
        error: InsufficientTrust,
    },
}

fn joined(errors: &[VerifyError]) -> String {
    errors.iter().map(VerifyError::to_string).collect::<Vec<_>>().join("; ")
}

/// Verifies images. Cheap to clone: clones share connections, log-ins, memory and cache.
#[derive(Clone)]
pub struct Verifier {
    dependencies: Arc<Dependencies>,
    /// One for each log.
    caches: Arc<Vec<Cache>>,
    progress: SharedProgress,
}

impl Verifier {
    /// A verifier without a cache. Sends nothing.
    ///
    /// # Errors
    /// The policy does not say to which log an `until` belongs.
    pub fn new(dependencies: Dependencies) -> Result<Verifier, AmbiguousUntil> {
        dependencies.options.policy.check_until(dependencies.logs.iter().map(|log| log.trust.origin()))?;
        let dependencies = Arc::new(dependencies);
        let verifier = Verifier { dependencies, caches: Arc::default(), progress: Silent::shared() };
        Ok(verifier.with_cache(Duration::ZERO))
    }

    /// This verifier with a cache of its own for the logs' answers, which are used for as long as `keep`. `max-age`
    /// still applies to the checkpoint that was verified.
    pub fn with_cache(self, keep: Duration) -> Verifier {
        let caches = self.dependencies.logs.iter().map(|_| Cache::new(keep)).collect();
        Verifier { caches: Arc::new(caches), ..self }
    }

    /// This verifier, reporting to `progress` how many registries have answered.
    pub fn with_progress(self, progress: SharedProgress) -> Verifier {
        Verifier { progress, ..self }
    }

    /// Verifies all queries with one look-up in each log. A misbehaving log is not an error: it decides the verdict on
    /// every image.
    ///
    /// # Errors
    /// [`VerifyError`], except [`VerifyError::Misbehaved`].
    pub async fn verify(&self, queries: Vec<ImageQuery>) -> Result<Verification, VerifyError> {
        if queries.is_empty() {
            return Ok(Verification::default());
        }
        let logged = self.logged_names(&queries);
        let (lookups, served) = tokio::join!(
            self.look_up(&logged),
            served::resolve_all(&self.dependencies.registry, self.images_to_resolve(&queries), self.progress.as_ref())
        );
        let lookups = match lookups {
            Err(VerifyError::Misbehaved(alarms)) => return Ok(self.misbehaved(queries, alarms)),
            lookups => lookups?,
        };
        let (recorder, now) = (Recorder::default(), Timestamp::from_system_time(SystemTime::now()));
        // Boxed: the compiler cannot prove otherwise that these futures are `Send`.
        let evaluate = |query| self.evaluate(&lookups, &recorder, &served, query, now).boxed();
        let evaluations: Vec<BoxFuture<'_, Result<ImageResult, UnresolvedImage>>> =
            queries.iter().cloned().map(evaluate).collect();
        let results: Vec<_> = stream::iter(evaluations).buffered(PARALLEL).collect().await;
        let (documents, bases, alarms) = recorder.into_parts();
        if !alarms.is_empty() {
            return Ok(self.misbehaved(queries, alarms));
        }
        let mut verification = Verification { lookups, bases, documents, ..Verification::default() };
        for result in results {
            match result {
                Ok(result) => verification.results.push(result),
                Err(unresolved) => verification.unresolved.push(unresolved),
            }
        }
        Ok(verification)
    }

    /// Looks images up by their names in the log, with one request for each log. Returns the verified answers in the
    /// order of the logs. Registries are not asked.
    ///
    /// # Errors
    /// [`VerifyError`]; misbehaviour of one log takes precedence over the failure of another.
    pub async fn look_up(&self, logged: &[Image]) -> Result<Vec<LogLookup>, VerifyError> {
        let logs = self.dependencies.logs.iter().zip(&*self.caches);
        let requests = logs.map(|(log, cache)| self.look_up_in(log, cache, logged));
        let (mut lookups, mut alarms, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for lookup in join_all(requests).await {
            match lookup {
                Ok(lookup) => lookups.push(lookup),
                Err(VerifyError::Misbehaved(more)) => alarms.extend(more),
                Err(error) => errors.push(error),
            }
        }
        match (errors.pop(), &errors[..]) {
            _ if !alarms.is_empty() => Err(VerifyError::Misbehaved(alarms)),
            (None, _) => Ok(lookups),
            (Some(only), []) => Err(only),
            (Some(last), _) => {
                errors.push(last);
                Err(VerifyError::Several(errors))
            }
        }
    }

    /// The exception that policy makes for an image at present.
    pub fn ignored(&self, image: &Image) -> Option<Ignore> {
        self.dependencies.options.policy.ignored(image, Timestamp::from_system_time(SystemTime::now()))
    }

    /// The images whose registries must be asked, each once.
    fn images_to_resolve(&self, queries: &[ImageQuery]) -> Vec<Image> {
        if self.dependencies.options.settled {
            return Vec::new();
        }
        let without_digest = queries.iter().filter(|query| query.digest.is_none());
        without_digest.map(|query| query.image.clone()).collect::<BTreeSet<Image>>().into_iter().collect()
    }

    /// The names of the images in the log, each once.
    fn logged_names(&self, queries: &[ImageQuery]) -> Vec<Image> {
        let mut names = BTreeSet::new();
        let logged = queries.iter().map(|query| self.dependencies.options.policy.logged_name(&query.image));
        logged.filter(|image| names.insert(image.clone())).collect()
    }

    async fn look_up_in(&self, log: &TrustedLog, cache: &Cache, logged: &[Image]) -> Result<LogLookup, VerifyError> {
        let (memory, TrustedLog { client, trust }) = (&self.dependencies.memory, log);
        let (cached, missing) = cache.parts(logged);
        if missing.is_empty() {
            return Ok(LogLookup { log: trust.origin().to_owned(), proofs: Vec::new(), parts: cached });
        }
        let unusable = |error| VerifyError::Memory { log: trust.origin().to_owned(), error };
        let remembered = memory.load(&trust.log).map_err(unusable)?;
        let lookup = look_up(client, trust, &missing, remembered.as_ref()).await;
        let mut lookup = lookup.map_err(|error| verify_error(error, trust, memory))?;
        if let Some(newest) = lookup.newest() {
            memory.advance(&trust.log, remembered.as_ref(), newest).map_err(unusable)?;
        }
        cache.keep_parts(&lookup.parts);
        lookup.parts.extend(cached);
        Ok(lookup)
    }

    async fn evaluate(
        &self,
        lookups: &[LogLookup],
        recorder: &Recorder,
        served: &Served,
        query: ImageQuery,
        now: Timestamp,
    ) -> Result<ImageResult, UnresolvedImage> {
        let Dependencies { logs, options, .. } = &*self.dependencies;
        let digest = match options.settled {
            true => query.digest,
            false => Some(requested_digest(&query, served).map_err(|problem| {
                let (image, places) = (query.image.to_string(), query.places.clone());
                UnresolvedImage { image, places, problem, ignored: options.policy.ignored(&query.image, now) }
            })?),
        };
        let evaluator = ImageEvaluator::new(options, &query.image, EvaluationTime::Live(now));
        let (logged, requested) = (evaluator.logged.repository.clone(), query.image.repository.clone());
        let sources: Vec<LogSource> = logs
            .iter()
            .zip(&*self.caches)
            .zip(lookups)
            .map(|((log, cache), lookup)| {
                let recorded = LogSource::recorded(options, lookup, cache, recorder);
                recorded.with_network(&self.dependencies, log, &logged, &requested)
            })
            .collect();
        Ok(evaluator.result(query, digest, &sources).await)
    }

    fn misbehaved(&self, queries: Vec<ImageQuery>, alarms: Vec<String>) -> Verification {
        Verification::misbehaved(&self.dependencies.options, queries, alarms)
    }
}

/// The digest of the query, or the one that the registry serves, or why there is none.
fn requested_digest(query: &ImageQuery, served: &Served) -> Result<Digest, String> {
    match (query.digest, served.get(&query.image)) {
        (Some(digest), _) => Ok(digest),
        (None, Some(Ok(digest))) => Ok(*digest),
        (None, Some(Err(error))) => Err(error.to_string()),
        (None, None) => Err("the registry was not asked".to_owned()),
    }
}

/// Adds the log's origin to an error. Evidence of misbehaviour is kept in the memory.
fn verify_error(error: LookupError, trust: &Trust, memory: &Memory) -> VerifyError {
    let log = trust.origin().to_owned();
    match error {
        LookupError::Misbehaved(misbehaviour) => {
            VerifyError::Misbehaved(vec![memory.alarm(&trust.log, &misbehaviour.error, &misbehaviour.evidence)])
        }
        LookupError::Client(error) => VerifyError::Client { log, error },
        LookupError::InsufficientTrust(error) => VerifyError::InsufficientTrust { log, error },
    }
}
