//! Runs a server: opens the data directory, starts the sequencer's thread and the listener, and stops them in order.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::PrometheusHandle;
use taglog_base::text::whole_line;
use taglog_proto::{note::VerifierKey, policy::TrustPolicy, time::Timestamp};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    cosigning::{CosigningSetup, read_policy},
    http::{self, AppState, PublisherState, SubmissionQueue},
    keys::LogKeys,
    publisher::{Publisher, cosigning_task::PublishError, status},
    quota::Quotas,
    rollback::{self, RollbackError},
    sequencer::{Sequencer, SequencerError, Submission},
    snapshot::Snapshot,
    startup::{DataDirectory, RecoveredLog, StartupError, recover},
    store::{Store, StoreError},
};

/// Why the server did not start, or stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("the sequencer stopped: {0}")]
    Sequencer(#[from] SequencerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    #[error("cannot create the HTTP client for cosigners: {0}")]
    Client(#[from] reqwest::Error),
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// A thread, a signal handler or the metrics recorder cannot be set up, or a task ended unexpectedly.
    #[error("{0}")]
    System(String),
}

impl RunError {
    /// Whether the server must not be started again on the same data directory.
    pub fn is_final(&self) -> bool {
        matches!(self, RunError::Rollback(RollbackError::Conflict { .. }))
    }
}

impl From<PublishError> for RunError {
    fn from(error: PublishError) -> RunError {
        match error {
            PublishError::Conflict { cosigner, conflict } => RollbackError::Conflict { cosigner, conflict }.into(),
            PublishError::Store(error) => error.into(),
        }
    }
}

/// Checks at the start that the operator overrides.
pub struct StartOverrides {
    /// The clock is correct although it has jumped.
    pub accept_clock: bool,
    /// The names of cosigners that need not answer at the start.
    pub without_cosigners: Vec<String>,
}

/// Runs until SIGTERM or SIGINT, then processes the accepted submissions and stops.
pub fn run(directory: &Path, config: &Config, overrides: &StartOverrides) -> Result<(), RunError> {
    config.check()?;
    let witnesses = config.witness_keys()?;
    let metrics = http::install_metrics().map_err(RunError::System)?;
    // The lock is held until the process ends.
    let DataDirectory { keys, store, lock: _lock } = DataDirectory::open(directory)?;
    let policy = config.policy.as_ref().map(|path| directory.join(path));
    let outcome = run_opened(keys, store, policy.as_deref(), witnesses, config, overrides, metrics);
    // Also after a failed start: RocksDB's threads must not run while the process exits.
    store.close();
    outcome
}

fn run_opened(
    keys: LogKeys,
    store: Store,
    policy: Option<&Path>,
    witnesses: Vec<VerifierKey>,
    config: &Config,
    overrides: &StartOverrides,
    metrics: PrometheusHandle,
) -> Result<(), RunError> {
    let policy = policy.map(|path| read_policy(path, &keys)).transpose()?;
    let recovered = recover(store.view(), keys.verifier_key())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| RunError::System(error.to_string()))?;
    let log = OpenedLog { keys, store, recovered, witnesses, policy };
    runtime.block_on(serve(log, config, overrides, metrics))
}

/// An opened data directory and what is configured for it.
struct OpenedLog {
    keys: LogKeys,
    store: Store,
    recovered: RecoveredLog,
    witnesses: Vec<VerifierKey>,
    policy: Option<TrustPolicy>,
}

/// How long the start retries unreachable cosigners, as a multiple of the timeout of one request: one late response
/// must not prevent the start.
const START_TIMEOUTS: u32 = 3;

/// Listens first, because an auditing cosigner reads the entries from this server; then asks the cosigners; and only
/// then seals and accepts entries.
async fn serve(
    log: OpenedLog,
    config: &Config,
    overrides: &StartOverrides,
    metrics: PrometheusHandle,
) -> Result<(), RunError> {
    let OpenedLog { keys, store, recovered, witnesses, policy } = log;
    let size = recovered.state.frontier.size();
    let listener = TcpListener::bind(config.listen).await.map_err(|error| RunError::Listen(config.listen, error))?;
    let address = listener.local_addr().map_err(|error| RunError::Listen(config.listen, error))?;
    let (publishing, publications) = watch::channel(None);
    let (publisher, committed) = Publisher::new(store, size, policy.is_none().then(|| publishing.clone()));
    let cosigning = match policy {
        Some(policy) => Some(CosigningSetup::new(policy, config, store, size, committed.clone(), publishing)?),
        None => None,
    };
    let statuses = cosigning.as_ref().map_or_else(status::none, |cosigning| cosigning.statuses.clone());

    let (sender, queue) = mpsc::channel(config.max_queue);
    let submissions = SubmissionQueue::new(sender, config.max_queue);
    let quotas = Arc::new(Quotas::new(config.quota));
    let publisher_state = PublisherState { publications, committed, statuses };
    let state = AppState::new(&keys, store, publisher_state, submissions.clone(), Arc::clone(&quotas), metrics, config);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // Nothing is ever sent: the sender is dropped.
        let _ = stopped.await;
    };
    let mut listening = tokio::spawn(http::serve(listener, state, config.max_connections, stopped));

    let log_key = keys.verifier_key().clone();
    let (newest, mut publishing) = start_publishing(cosigning, recovered.last, &log_key, config, overrides).await?;
    publisher.record_commit(size)?;
    let clock = Clock::new(overrides.accept_clock, newest);
    let mut sequencer = Sequencer::new(store, keys, recovered.state, clock, quotas, publisher);
    sequencer.ensure_roster(config.limits(), witnesses)?;
    let mut sequenced = spawn_sequencer(sequencer, queue, config)?;
    // Before the address is announced: a script may send the signal as soon as it has read it.
    let stopping = stop_signal()?;
    submissions.open();
    drop(submissions);
    announce(&log_key, address);

    tokio::select! {
        outcome = &mut sequenced => return sequencer_outcome(outcome),
        outcome = &mut publishing => {
            outcome.map_err(|error| RunError::System(format!("the publisher: {error}")))??;
            return sequencer_outcome(sequenced.await);
        }
        _ = &mut listening => return Err(RunError::System("the listener ended unexpectedly".to_owned())),
        () = stopping => {}
    }
    drop(stop);
    // Panics are caught for each connection; nothing else can fail.
    let _ = listening.await;
    // The listener and its state are dropped, so the queue is closed, and the sequencer processes what is left in it.
    sequencer_outcome(sequenced.await)
}

/// Checks the last commit with the cosigners, if there are any, and starts the publishing task. Returns the time of the
/// newest cosignature.
async fn start_publishing(
    cosigning: Option<CosigningSetup>,
    last: Option<Snapshot>,
    log: &VerifierKey,
    config: &Config,
    overrides: &StartOverrides,
) -> Result<(Option<Timestamp>, JoinHandle<Result<(), PublishError>>), RunError> {
    let exempt = &overrides.without_cosigners;
    let Some(CosigningSetup { endpoints, mut task, .. }) = cosigning else {
        return match exempt.first() {
            Some(name) => Err(RollbackError::UnknownCosigner(name.clone()).into()),
            None => Ok((None, tokio::spawn(std::future::pending()))),
        };
    };
    let check =
        rollback::check(endpoints, last.as_ref(), log, exempt, START_TIMEOUTS * config.cosign_timeout()).await?;
    task.start_with(&check.endpoints, check.replies)?;
    Ok((check.newest, tokio::spawn(task.run(check.endpoints))))
}

/// Runs the sequencer on a thread of its own; the receiver gets its result when it ends.
fn spawn_sequencer(
    sequencer: Sequencer,
    queue: mpsc::Receiver<Submission>,
    config: &Config,
) -> Result<oneshot::Receiver<Result<(), SequencerError>>, RunError> {
    let limits = BatchLimits { interval: config.batch_interval(), max_batch: config.max_batch };
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
        // The receiver is dropped only when the process ends.
        let _ = sender.send(sequence(sequencer, queue, limits));
    });
    spawned.map_err(|error| RunError::System(error.to_string()))?;
    Ok(receiver)
}

fn sequencer_outcome<E>(outcome: Result<Result<(), SequencerError>, E>) -> Result<(), RunError> {
    match outcome {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(RunError::System("the sequencer's thread ended unexpectedly".to_owned())),
    }
}

/// Prints the log's key and address on standard output. Scripts parse this line.
fn announce(log_key: &VerifierKey, address: std::net::SocketAddr) {
    println!("{}", whole_line(&format!("taglog-server: {log_key} at http://{address}")));
    tracing::info!(%address, vkey = %log_key, "serving");
}

fn stop_signal() -> Result<impl Future<Output = ()>, RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let system = |error: std::io::Error| RunError::System(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; accepted submissions are still processed");
    })
}

/// How the sequencer collects batches.
#[derive(Clone, Copy)]
struct BatchLimits {
    interval: Duration,
    max_batch: usize,
}

/// The sequencer's thread: one batch after the other, until the queue is closed and empty.
fn sequence(
    mut sequencer: Sequencer,
    mut queue: mpsc::Receiver<Submission>,
    limits: BatchLimits,
) -> Result<(), SequencerError> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        tracing::error!("the sequencer stops: cannot create a runtime for its timer");
        return Ok(());
    };
    let mut next = Instant::now() + limits.interval;
    loop {
        let (submissions, closed) = runtime.block_on(collect(&mut queue, next, limits.max_batch));
        // After a batch that took longer than the interval, the next follows at once; missed intervals are skipped.
        next = (next + limits.interval).max(Instant::now());
        if !submissions.is_empty() || sequencer.is_quiet() {
            sequencer.process(submissions)?;
        }
        if closed {
            return Ok(());
        }
    }
}

/// Collects submissions until `deadline` or until the batch is full. The flag is true when the queue is closed.
async fn collect(
    queue: &mut mpsc::Receiver<Submission>,
    deadline: Instant,
    max_batch: usize,
) -> (Vec<Submission>, bool) {
    let mut submissions = Vec::new();
    let mut entries = 0;
    while entries < max_batch {
        match tokio::time::timeout_at(deadline.into(), queue.recv()).await {
            Ok(Some(submission)) => {
                entries += submission.statements.len();
                submissions.push(submission);
            }
            Ok(None) => return (submissions, true),
            Err(_) => break,
        }
    }
    (submissions, false)
}
