//! The state that all handlers share.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use taglog_proto::note::VerifierKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{limits::limits_json, problem::Problem, submission_queue::SubmissionQueue};
use crate::{
    config::Config,
    keys::LogKeys,
    publisher::{
        PublicationReceiver, PublishedState,
        status::{self, Statuses},
    },
    quota::Quotas,
    snapshot::Snapshot,
    store::Store,
};

/// How many requests may run blocking work (look-ups, tiles, manifests) at once.
const MAX_BLOCKING: usize = 64;
/// How long a request waits for a permit for blocking work.
const BLOCKING_WAIT: Duration = Duration::from_secs(2);
/// How long a bundle waits for its verification; longer, because its body has been received already.
const VERIFICATION_WAIT: Duration = Duration::from_secs(10);

/// The state of the publisher, as the handlers see it.
#[derive(Clone)]
pub struct PublisherState {
    pub publications: PublicationReceiver,
    /// The number of entries that are committed.
    pub committed: watch::Receiver<u64>,
    pub statuses: Statuses,
}

/// The state that all handlers share.
#[derive(Clone)]
pub struct AppState {
    pub(super) log_key: VerifierKey,
    pub(super) vkeys: Arc<Vec<String>>,
    pub(super) store: Store,
    pub(super) publisher_state: PublisherState,
    pub(super) submissions: SubmissionQueue,
    pub(super) quotas: Arc<Quotas>,
    pub(super) metrics: PrometheusHandle,
    /// The limits that `GET log` shows.
    pub(super) limits: Arc<serde_json::Value>,
    /// Permits for blocking work.
    blocking: Arc<Semaphore>,
    /// Permits for the verification of bundles.
    verification: Arc<Semaphore>,
}

impl AppState {
    pub fn new(
        keys: &LogKeys,
        store: Store,
        publisher_state: PublisherState,
        submissions: SubmissionQueue,
        quotas: Arc<Quotas>,
        metrics: PrometheusHandle,
        config: &Config,
    ) -> AppState {
        let limits = Arc::new(limits_json(config));
        let blocking = Arc::new(Semaphore::new(MAX_BLOCKING));
        // One core is left to the sequencer: more verifying threads would only compete with it.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let verification = Arc::new(Semaphore::new(cores.saturating_sub(1).max(1)));
        let (log_key, vkeys) = (keys.verifier_key().clone(), Arc::new(keys.vkeys()));
        AppState {
            log_key,
            vkeys,
            store,
            publisher_state,
            submissions,
            quotas,
            metrics,
            limits,
            blocking,
            verification,
        }
    }

    /// The published state.
    pub(super) fn published(&self) -> Result<Arc<PublishedState>, Problem> {
        let published = self.publisher_state.publications.borrow().clone();
        published.ok_or_else(|| Problem::not_published(&self.cosigner_summary()))
    }

    /// The published commit, or, if nothing is published, the last commit: submissions are checked against it.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, Problem> {
        if let Some(published) = self.publisher_state.publications.borrow().as_ref() {
            return Ok(published.snapshot());
        }
        let last = Snapshot::read(self.store.view(), None)?;
        last.map(Arc::new).ok_or_else(Problem::starting)
    }

    /// A summary of the cosigners' statuses; empty if there are none.
    pub(super) fn cosigner_summary(&self) -> String {
        status::summary(&self.publisher_state.statuses.borrow())
    }

    /// The number of entries that are committed but not published.
    pub(super) fn unpublished(&self) -> u64 {
        let published = self.publisher_state.publications.borrow().as_ref().map_or(0, |published| published.size());
        self.publisher_state.committed.borrow().saturating_sub(published)
    }

    /// Runs blocking work on a thread of its own. Fails when too much is running already.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        on_blocking_thread(permit(&self.blocking, BLOCKING_WAIT).await?, work).await
    }

    /// Runs the verification of a bundle on a thread of its own.
    pub(super) async fn run_verification<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        on_blocking_thread(permit(&self.verification, VERIFICATION_WAIT).await?, work).await
    }

    /// Runs work on this thread that takes less time than moving it to another, under the same bound.
    pub(super) async fn run_inline<T>(&self, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        let _permit = permit(&self.blocking, BLOCKING_WAIT).await?;
        work()
    }
}

/// Waits for a permit; fails when none becomes available in time.
async fn permit(permits: &Arc<Semaphore>, wait: Duration) -> Result<OwnedSemaphorePermit, Problem> {
    match tokio::time::timeout(wait, Arc::clone(permits).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::overloaded(1)),
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Problem::internal())?
}
