//! Runs a server: opens the data directory, starts the sequencer's thread and the listener, and
//! stops them in order.

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
    cosigning::{Cosigning, read_policy},
    http::{self, AppState, Intake, Outlets},
    keys::LogKeys,
    publisher::{Publisher, rounds::PublishError, status},
    quota::Quotas,
    rollback::{self, RollbackError},
    sequencer::{Sequencer, SequencerError, Submission},
    snapshot::Snapshot,
    startup::{DataDirectory, Recovered, StartupError, recover},
    store::{Store, StoreError},
};

/// Why the server did not start, or stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// The single writer.
    #[error("the sequencer stopped: {0}")]
    Sequencer(#[from] SequencerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cosigners do not let the log go on.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// No HTTP client for the cosigners.
    #[error("the client for cosigners: {0}")]
    Client(#[from] reqwest::Error),
    /// The address to listen on.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The system refuses a thread, a signal handler or the metrics recorder.
    #[error("{0}")]
    System(String),
}

impl RunError {
    /// Whether starting again on the same data directory is wrong.
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

/// What the operator says against the server's caution.
pub struct Overrides {
    /// The clock is right although it has jumped.
    pub accept_clock: bool,
    /// The names of cosigners that may be silent at the start.
    pub without_cosigners: Vec<String>,
}

/// Runs until SIGTERM or SIGINT, then finishes what was accepted and stops.
///
/// # Errors
/// [`RunError`].
pub fn run(directory: &Path, config: &Config, overrides: &Overrides) -> Result<(), RunError> {
    config.check()?;
    let witnesses = config.witness_keys()?;
    let metrics = http::install_metrics().map_err(RunError::System)?;
    // The lock is held to the end.
    let DataDirectory { keys, store, lock: _lock } = DataDirectory::open(directory)?;
    let policy = config.policy.as_ref().map(|path| directory.join(path));
    let outcome = run_opened(keys, store, policy.as_deref(), witnesses, config, overrides, metrics);
    // Also after a start that was refused: RocksDB's threads must not go on while the process ends.
    store.close();
    outcome
}

fn run_opened(
    keys: LogKeys,
    store: Store,
    policy: Option<&Path>,
    witnesses: Vec<VerifierKey>,
    config: &Config,
    overrides: &Overrides,
    metrics: PrometheusHandle,
) -> Result<(), RunError> {
    let policy = policy.map(|path| read_policy(path, &keys)).transpose()?;
    let recovered = recover(store.view(), keys.verifier_key())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| RunError::System(error.to_string()))?;
    let log = Log { keys, store, recovered, witnesses, policy };
    runtime.block_on(serve(log, config, overrides, metrics))
}

/// What a server starts from.
struct Log {
    keys: LogKeys,
    store: Store,
    recovered: Recovered,
    witnesses: Vec<VerifierKey>,
    policy: Option<TrustPolicy>,
}

/// How many times as long as one answer may take the start waits for a cosigner that gives none: one
/// late answer must not keep a log from starting.
const AWAY: u32 = 3;

/// Listens first, since an auditing cosigner reads from here what it is asked about; then asks the
/// cosigners; and only then seals and takes entries.
async fn serve(log: Log, config: &Config, overrides: &Overrides, metrics: PrometheusHandle) -> Result<(), RunError> {
    let Log { keys, store, recovered, witnesses, policy } = log;
    let size = recovered.state.frontier.size();
    let listener = TcpListener::bind(config.listen).await.map_err(|error| RunError::Listen(config.listen, error))?;
    let address = listener.local_addr().map_err(|error| RunError::Listen(config.listen, error))?;
    let (publishing, publications) = watch::channel(None);
    let (publisher, committed) = Publisher::new(store, size, policy.is_none().then(|| publishing.clone()));
    let cosigning = match policy {
        Some(policy) => Some(Cosigning::new(policy, config, store, size, committed.clone(), publishing)?),
        None => None,
    };
    let statuses = cosigning.as_ref().map_or_else(status::none, |cosigning| cosigning.statuses.clone());

    let (sender, queue) = mpsc::channel(config.max_queue);
    let intake = Intake::new(sender, config.max_queue);
    let quotas = Arc::new(Quotas::new(config.quota));
    let outlets = Outlets { publications, committed, statuses };
    let state = AppState::new(&keys, store, outlets, intake.clone(), Arc::clone(&quotas), metrics, config);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // It is never sent: what counts is that the sender is gone.
        let _ = stopped.await;
    };
    let mut listening = tokio::spawn(http::serve(listener, state, config.max_connections, stopped));

    let log_key = keys.verifier_key().clone();
    let (newest, mut publishing) = start_publishing(cosigning, recovered.last, &log_key, config, overrides).await?;
    publisher.committed(size)?;
    let clock = Clock::new(overrides.accept_clock, newest);
    let mut sequencer = Sequencer::new(store, keys, recovered.state, clock, quotas, publisher);
    sequencer.ensure_roster(config.limits(), witnesses)?;
    let mut sequenced = spawn_sequencer(sequencer, queue, config)?;
    // Whoever has read where the log is may stop it at once.
    let stopping = stop_signal()?;
    intake.open();
    drop(intake);
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
    // A connection's panic is caught where it happens; nothing else can fail.
    let _ = listening.await;
    // The listener and its state are gone, so the queue is closed: the sequencer finishes it.
    sequencer_outcome(sequenced.await)
}

/// Asks the cosigners, if there are any, about the last commit, and goes on publishing. Returns the
/// time of their newest cosignature.
async fn start_publishing(
    cosigning: Option<Cosigning>,
    last: Option<Snapshot>,
    log: &VerifierKey,
    config: &Config,
    overrides: &Overrides,
) -> Result<(Option<Timestamp>, JoinHandle<Result<(), PublishError>>), RunError> {
    let excused = &overrides.without_cosigners;
    let Some(Cosigning { endpoints, mut rounds, .. }) = cosigning else {
        return match excused.first() {
            Some(name) => Err(RollbackError::NoSuchCosigner(name.clone()).into()),
            None => Ok((None, tokio::spawn(std::future::pending()))),
        };
    };
    let checked = rollback::check(endpoints, last.as_ref(), log, excused, AWAY * config.cosign_timeout()).await?;
    rounds.begin_with(&checked.endpoints, checked.reports)?;
    Ok((checked.newest, tokio::spawn(rounds.run(checked.endpoints))))
}

/// Runs the sequencer on a thread of its own; the result comes when it has ended.
fn spawn_sequencer(
    sequencer: Sequencer,
    queue: mpsc::Receiver<Submission>,
    config: &Config,
) -> Result<oneshot::Receiver<Result<(), SequencerError>>, RunError> {
    let pace = Pace { interval: config.batch_interval(), max_batch: config.max_batch };
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
        // The receiving side is gone only when the process ends anyway.
        let _ = sender.send(sequence(sequencer, queue, pace));
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

/// Says on standard output where the log is, for people and scripts.
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
        tracing::info!("stopping: finishing what was accepted");
    })
}

/// How the sequencer collects batches.
#[derive(Clone, Copy)]
struct Pace {
    interval: Duration,
    max_batch: usize,
}

/// The sequencer's thread: one batch after the other, until the queue is closed and empty.
fn sequence(mut sequencer: Sequencer, mut queue: mpsc::Receiver<Submission>, pace: Pace) -> Result<(), SequencerError> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        tracing::error!("no runtime for the sequencer's timer");
        return Ok(());
    };
    let mut next = Instant::now() + pace.interval;
    loop {
        let (submissions, closed) = runtime.block_on(collect(&mut queue, next, pace.max_batch));
        // A batch that took long is followed at once by the next, never by two at a time.
        next = (next + pace.interval).max(Instant::now());
        if !submissions.is_empty() || sequencer.is_quiet() {
            sequencer.process(submissions)?;
        }
        if closed {
            return Ok(());
        }
    }
}

/// Takes submissions until `deadline` or until the batch is full; true when the queue is closed.
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
