//! One poll of a tag: resolve it, decide, sign, and store the report.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taglog_proto::{
    entry::{Confirmation, Observation, Seen},
    name::{Digest, Repository, Tag},
    note::SigningKey,
    time::Timestamp,
};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};

use super::{WatchedRepository, limiter::RequestLimiter};
use crate::{
    alarm::{AlarmKind, Alarms},
    clock::Clock,
    config::GoneRule,
    decision::{ReportDecision, TagTarget, WatchedTagState, decide},
    spool::{RawManifest, Spool, SpoolError, Statement},
};
use taglog_oci_registry::{ManifestReference, Registry, RegistryError, ResponseMetadata, TagResolution};

/// How many fetched digests are remembered, so that several tags of one image cost one pull.
const MAX_FETCHED_DIGESTS: usize = 10_000;
/// The time limit for all pages of a list.
const LIST_TIME: Duration = Duration::from_secs(600);
/// How far a poll may be dated before a confirmation that was made meanwhile without an alarm about the clock.
const CONFIRMATION_SKEW: Duration = Duration::from_secs(60);
/// The wait before the next poll while the clock is wrong or the spool is full.
const DEFERRED_RETRY: Duration = Duration::from_secs(30);

/// How a poll ended.
#[derive(Debug)]
pub enum PollOutcome {
    /// The tag is up to date in the spool.
    Settled {
        /// Whether a change was reported.
        reported: bool,
    },
    /// Undecided: poll again after this long.
    PollAgain(Duration),
    /// The registry gave no usable answer.
    Failed(RegistryError),
    /// Nothing could be signed or stored, for this reason; poll again after this long.
    Deferred(Duration, String),
}

/// Why a poll could not be completed.
#[derive(Debug, Error)]
enum PollError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("{0}")]
    Clock(String),
    #[error("the clock is {} s behind the last signed entry", .0.as_secs())]
    ClockBehind(Duration),
    #[error("the pull budget of the registry is used up for {} s", .0.as_secs())]
    NoPulls(Duration),
    #[error("the observation cannot be signed: {0}")]
    Sign(#[from] taglog_proto::entry::EntryError),
}

/// Resolves the tags of one registry and reports changes.
#[derive(Debug)]
pub struct TagResolver {
    /// The registry, as `host[:port]`.
    pub host: String,
    /// Access without credentials.
    pub anonymous: Registry,
    /// Access with the stored credentials, for repositories with `private = true`.
    pub logged_in: Registry,
    pub limiter: RequestLimiter,
    pub reporter: Reporter,
    fetched_digests: FetchedDigests,
}

/// Signs entries and stores them in the spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// The witness's key.
    pub key: std::sync::Arc<SigningKey>,
    pub spool: Spool,
    pub alarms: Alarms,
    pub clock: Clock,
    /// When a missing tag is reported as gone.
    pub gone: GoneRule,
    /// The interval of confirmations.
    pub confirm: Duration,
    /// Counts stored entries; wakes deliveries.
    pub recorded: watch::Sender<u64>,
}

impl Reporter {
    /// Stores a signed entry durably. If there is no room for the manifest, the entry is stored without it.
    async fn store(&self, statement: Statement, manifest: Option<RawManifest>) -> Result<(), SpoolError> {
        let has_manifest = manifest.is_some();
        let mut outcome = self.spool.record(statement.clone(), manifest).await;
        if let Err(error) = &outcome {
            self.alarms.raise("spool", AlarmKind::Spool, &error.to_string(), None).await;
            if has_manifest {
                outcome = self.spool.record(statement, None).await;
            }
        }
        outcome?;
        self.recorded.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Confirms a repository if that is due; returns whether it was.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing is confirmed.
    pub async fn confirm_if_due(&self, watched: &WatchedRepository) -> Result<bool, SpoolError> {
        if watched.confirmable(self.confirm).is_none() {
            return Ok(false);
        }
        let _exclusive = watched.order.write().await;
        let Some(at) = watched.confirmable(self.confirm) else { return Ok(false) };
        // Fails only for a key whose name is not a witness name, which is checked when the key is read.
        let Ok(entry) = Confirmation::sign(watched.repository().clone(), at, &self.key) else { return Ok(false) };
        self.store(Statement::Confirmation(entry), None).await?;
        watched.set_confirmed(at);
        tracing::info!(repository = %watched.repository(), "confirmed as of {at}");
        Ok(true)
    }
}

impl TagResolver {
    pub fn new(
        host: String,
        anonymous: Registry,
        logged_in: Registry,
        limiter: RequestLimiter,
        reporter: Reporter,
    ) -> TagResolver {
        TagResolver { host, anonymous, logged_in, limiter, reporter, fetched_digests: FetchedDigests::default() }
    }

    fn registry(&self, watched: &WatchedRepository) -> &Registry {
        if watched.watch.private { &self.logged_in } else { &self.anonymous }
    }

    /// Lists the tags of a repository, at most `most`.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn list(&self, watched: &WatchedRepository, most: usize) -> Result<Vec<Tag>, RegistryError> {
        let listed = self.registry(watched).tags_in_turn(watched.repository(), most, self.limiter.rate_limiter());
        let list = tokio::time::timeout(LIST_TIME, listed).await.map_err(|_| RegistryError::Timeout {
            target: watched.repository().to_string(),
            registry: self.host.clone(),
            after: LIST_TIME,
        })??;
        if list.malformed > 0 {
            tracing::warn!(repository = %watched.repository(), malformed = list.malformed, "the list contains invalid tags");
        }
        Ok(list.tags)
    }

    /// Resolves a tag and reports a change.
    pub async fn poll(&self, watched: &WatchedRepository, tag: &Tag) -> PollOutcome {
        let started = Instant::now();
        let (found, ended) = match self.resolve(watched, tag, &watched.state(tag)).await {
            Ok((found, metadata)) => {
                self.limiter.record_success(&metadata);
                (Some(found), self.evaluate(watched, tag, found, &metadata).await)
            }
            Err(error) => (None, Err(PollError::Registry(error))),
        };
        let ended = ended.unwrap_or_else(outcome_of);
        if let PollOutcome::Failed(error) = &ended {
            self.limiter.record_failure(error, started);
            // The tag must be missing in consecutive polls; a failure breaks the sequence.
            watched.set_state(tag, WatchedTagState { missing: 0, missing_at: None, ..watched.state(tag) });
        }
        self.remember(watched, tag, found, &ended);
        ended
    }

    fn not_found(&self, watched: &WatchedRepository, tag: &Tag) -> RegistryError {
        RegistryError::NotFound { target: watched.image(tag).to_string(), registry: self.host.clone() }
    }

    /// What the tag points to; a 404 is a result too.
    async fn resolve(
        &self,
        watched: &WatchedRepository,
        tag: &Tag,
        state: &WatchedTagState,
    ) -> Result<(TagTarget, ResponseMetadata), RegistryError> {
        let known = state.reported.and_then(|reported| match reported.seen {
            Seen::Digest(digest) => Some(digest),
            Seen::Gone => None,
        });
        self.limiter.ready().await;
        match self.registry(watched).resolve(&watched.image(tag), known.as_ref()).await {
            Ok((TagResolution::Digest(digest), metadata)) => Ok((TagTarget::Digest(digest), metadata)),
            Ok((TagResolution::Unchanged, metadata)) => match known {
                Some(digest) => Ok((TagTarget::Digest(digest), metadata)),
                None => Err(self.not_found(watched, tag)),
            },
            Err(RegistryError::NotFound { .. }) => Ok((TagTarget::Missing, ResponseMetadata::default())),
            Err(error) => Err(error),
        }
    }

    /// Decides whether to report, and reports.
    async fn evaluate(
        &self,
        watched: &WatchedRepository,
        tag: &Tag,
        found: TagTarget,
        metadata: &ResponseMetadata,
    ) -> Result<PollOutcome, PollError> {
        let at = self.date(metadata).await?;
        let fetched = match self.decide(watched, tag, found, at) {
            ReportDecision::Report(seen) => self.prepare_report(watched, tag, seen).await?,
            _ => FetchedManifest::default(),
        };
        // From the decision to the commit the repository is not confirmed.
        let _shared = watched.order.read().await;
        let state = watched.state(tag);
        let decision = self.decide(watched, tag, found, at);
        let ended = match decision {
            ReportDecision::Report(seen) => self.report(watched, tag, &state, seen, at, fetched).await?,
            ReportDecision::Nothing => PollOutcome::Settled { reported: false },
            ReportDecision::PollAgain(after) => PollOutcome::PollAgain(after),
            ReportDecision::ClockWentBack(by) => return Err(self.clock_went_back(by).await),
        };
        if metadata.date.is_some() {
            self.reporter.alarms.clear(&self.host, AlarmKind::Clock).await;
        }
        watched.set_state(tag, state.after(found, at, decision, self.reporter.gone));
        Ok(ended)
    }

    fn decide(&self, watched: &WatchedRepository, tag: &Tag, found: TagTarget, at: Timestamp) -> ReportDecision {
        let freshness = watched.freshness(self.reporter.confirm);
        decide(&watched.state(tag), found, at, self.reporter.gone, &freshness)
    }

    async fn date(&self, metadata: &ResponseMetadata) -> Result<Timestamp, PollError> {
        match self.reporter.clock.date(metadata.date) {
            Ok(at) => Ok(at),
            Err(error) => {
                self.reporter.alarms.raise(&self.host, AlarmKind::Clock, &error.to_string(), None).await;
                Err(PollError::Clock(error.to_string()))
            }
        }
    }

    async fn clock_went_back(&self, by: Duration) -> PollError {
        let error = PollError::ClockBehind(by);
        // A poll that a confirmation has overtaken is slightly behind; that is not a clock error.
        if by > CONFIRMATION_SKEW {
            let message = format!("{error}: nothing is signed until it has caught up");
            self.reporter.alarms.raise(&self.host, AlarmKind::Clock, &message, None).await;
        }
        error
    }

    /// Fetches the manifest for a new digest; for a missing tag, checks that the registry works.
    async fn prepare_report(
        &self,
        watched: &WatchedRepository,
        tag: &Tag,
        seen: Seen,
    ) -> Result<FetchedManifest, PollError> {
        let state = watched.state(tag);
        let is_new = state.reported.is_none_or(|reported| reported.seen != seen);
        match seen {
            Seen::Digest(digest) if is_new || state.report_again => self.fetch_manifest(watched, digest).await,
            Seen::Digest(_) => Ok(FetchedManifest::default()),
            Seen::Gone => {
                self.check_health(watched).await?;
                Ok(FetchedManifest::default())
            }
        }
    }

    /// Signs and stores an observation.
    async fn report(
        &self,
        watched: &WatchedRepository,
        tag: &Tag,
        state: &WatchedTagState,
        seen: Seen,
        at: Timestamp,
        fetched: FetchedManifest,
    ) -> Result<PollOutcome, PollError> {
        let is_new = state.reported.is_none_or(|reported| reported.seen != seen);
        let observation = Observation::sign(watched.image(tag), seen, at, &self.reporter.key)?;
        self.reporter.store(Statement::Observation(observation), fetched.manifest).await?;
        // Only after the commit: the next tag of the same image then skips the fetch.
        if let Some(digest) = fetched.digest {
            self.fetched_digests.add(watched.repository(), digest);
        }
        let kind = match seen {
            _ if !is_new => "again",
            Seen::Gone => "gone",
            Seen::Digest(_) => "digest",
        };
        metrics::counter!("taglog_witness_reports_total", "registry" => self.host.clone(), "kind" => kind).increment(1);
        match state.reported {
            Some(before) if is_new => {
                tracing::info!(image = %watched.image(tag), before = %before.seen, now = %seen, "the tag has moved");
            }
            _ => tracing::debug!(image = %watched.image(tag), %seen, "reported"),
        }
        Ok(PollOutcome::Settled { reported: is_new })
    }

    /// Fetches and checks the manifest of a new digest, unless that was done for another tag.
    async fn fetch_manifest(&self, watched: &WatchedRepository, digest: Digest) -> Result<FetchedManifest, PollError> {
        if self.fetched_digests.has(watched.repository(), digest) {
            return Ok(FetchedManifest::default());
        }
        if let Some(wait) = self.limiter.pull_wait() {
            return Err(PollError::NoPulls(wait));
        }
        self.limiter.ready().await;
        let reference = ManifestReference::Digest(digest);
        let (manifest, metadata) = self.registry(watched).fetch(watched.repository(), &reference).await?;
        self.limiter.record_success(&metadata);
        Ok(FetchedManifest { manifest: Some(RawManifest { digest, bytes: manifest.bytes }), digest: Some(digest) })
    }

    /// A failing registry may answer 404 to everything; a `/v2/` response with a plausible date rules that out.
    async fn check_health(&self, watched: &WatchedRepository) -> Result<(), PollError> {
        self.limiter.ready().await;
        let metadata = self.registry(watched).ping(watched.repository()).await?;
        self.date(&metadata).await?;
        Ok(())
    }

    /// Counts the poll, and stores its state and error for `status`.
    fn remember(&self, watched: &WatchedRepository, tag: &Tag, found: Option<TagTarget>, ended: &PollOutcome) {
        let state = watched.state(tag);
        let is_gone = state.reported.is_some_and(|reported| reported.seen == Seen::Gone);
        let (outcome, error) = match ended {
            PollOutcome::Failed(error) => (error.kind(), Some(error.to_string())),
            PollOutcome::Deferred(_, why) => ("held-up", Some(why.clone())),
            PollOutcome::Settled { .. } | PollOutcome::PollAgain(_)
                if found == Some(TagTarget::Missing) && !is_gone =>
            {
                ("missing", Some(self.not_found(watched, tag).to_string()))
            }
            PollOutcome::Settled { reported: true } => ("report", None),
            PollOutcome::Settled { reported: false } => ("unchanged", None),
            PollOutcome::PollAgain(_) => ("again", None),
        };
        metrics::counter!("taglog_witness_looks_total", "registry" => self.host.clone(), "outcome" => outcome)
            .increment(1);
        if let Some(error) = &error {
            tracing::warn!(image = %watched.image(tag), "{error}");
        }
        // A report has already stored its state.
        if outcome != "report" {
            self.reporter.spool.remember(watched.image(tag), state, error);
        }
    }
}

fn outcome_of(error: PollError) -> PollOutcome {
    let why = error.to_string();
    match error {
        PollError::Registry(error) => PollOutcome::Failed(error),
        PollError::NoPulls(wait) => PollOutcome::Deferred(wait, why),
        PollError::ClockBehind(by) => PollOutcome::Deferred(DEFERRED_RETRY.min(by + Duration::from_secs(1)), why),
        PollError::Spool(_) | PollError::Clock(_) | PollError::Sign(_) => PollOutcome::Deferred(DEFERRED_RETRY, why),
    }
}

/// The manifest for a report, and the digest that it was fetched for.
#[derive(Debug, Default)]
struct FetchedManifest {
    manifest: Option<RawManifest>,
    digest: Option<Digest>,
}

/// The digests that were fetched and checked recently, by repository.
#[derive(Debug, Default)]
struct FetchedDigests(Mutex<DigestCache>);

#[derive(Debug, Default)]
struct DigestCache {
    digests: HashSet<(Repository, Digest)>,
    order: VecDeque<(Repository, Digest)>,
}

impl FetchedDigests {
    fn latest(&self) -> MutexGuard<'_, DigestCache> {
        // Nothing that is done with it can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, repository: &Repository, digest: Digest) -> bool {
        self.latest().digests.contains(&(repository.clone(), digest))
    }

    fn add(&self, repository: &Repository, digest: Digest) {
        let mut latest = self.latest();
        if latest.digests.insert((repository.clone(), digest)) {
            latest.order.push_back((repository.clone(), digest));
        }
        while latest.order.len() > MAX_FETCHED_DIGESTS {
            if let Some(oldest) = latest.order.pop_front() {
                latest.digests.remove(&oldest);
            }
        }
    }
}
