//! Runs a server: opens the data directory, starts the sequencer's thread and the listener, and
//! stops them in order.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use taglog_proto::note::VerifierKey;
use thiserror::Error;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    http::{self, AppState, Intake},
    publisher::{Published, Publisher},
    quota::Quotas,
    sequencer::{Sequencer, SequencerError, Submission},
    startup::{DataDirectory, StartupError, recover},
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
    /// The address to listen on.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The system refuses a thread, a signal handler or the metrics recorder.
    #[error("{0}")]
    System(String),
}

/// Runs until SIGTERM or SIGINT, then finishes what was accepted and stops.
///
/// # Errors
/// [`RunError`].
pub fn run(directory: &Path, config: &Config, accept_clock: bool) -> Result<(), RunError> {
    config.check()?;
    let witnesses = config.witness_keys()?;
    let metrics = http::install_metrics().map_err(RunError::System)?;
    let data = DataDirectory::open(directory)?;
    let (publisher, publications) = Publisher::new();
    let view = data.store.view();
    let recovered = recover(&view, &data.key)?;
    if let Some((checkpoint, seal, roster)) = recovered.last {
        publisher.publish(Published { checkpoint, seal, roster, view });
    }
    let log_key = data.key.verifier_key().clone();
    let quotas = Arc::new(Quotas::new(config.quota));
    let clock = Clock::new(accept_clock);
    let mut sequencer = Sequencer::new(data.store, data.key, recovered.state, clock, Arc::clone(&quotas), publisher);
    sequencer.ensure_roster(config.limits(), witnesses)?;

    let (sender, receiver) = mpsc::channel(config.max_queue);
    let intake = Intake::new(sender, config.max_queue);
    let state = AppState::new(log_key, data.store, publications, intake, quotas, metrics, config);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| RunError::System(error.to_string()))?;
    let outcome = runtime.block_on(serve(config, state, sequencer, receiver));
    data.store.close();
    outcome
}

async fn serve(
    config: &Config,
    state: AppState,
    sequencer: Sequencer,
    receiver: mpsc::Receiver<Submission>,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(config.listen).await.map_err(|error| RunError::Listen(config.listen, error))?;
    let address = listener.local_addr().map_err(|error| RunError::Listen(config.listen, error))?;
    announce(&state.log_key, address);

    let pace = Pace { interval: config.batch_interval(), max_batch: config.max_batch };
    let (stopped_sender, stopped) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
        // The receiving side is gone only when the process ends anyway.
        let _ = stopped_sender.send(sequence(sequencer, receiver, pace));
    });
    spawned.map_err(|error| RunError::System(error.to_string()))?;

    let mut stopped = std::pin::pin!(stopped);
    tokio::select! {
        outcome = &mut stopped => return sequencer_outcome(outcome),
        () = http::serve(listener, state, config.max_connections, stop_signal()?) => {}
    }
    // The listener and its state are gone, so the queue is closed: the sequencer finishes it.
    sequencer_outcome(stopped.await)
}

fn sequencer_outcome<E>(outcome: Result<Result<(), SequencerError>, E>) -> Result<(), RunError> {
    match outcome {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(RunError::System("the sequencer's thread ended unexpectedly".to_owned())),
    }
}

/// Says on standard output where the log is, for people and scripts.
fn announce(log_key: &VerifierKey, address: std::net::SocketAddr) {
    println!("taglog-server: {log_key} at http://{address}");
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
