//! `taglog witness run`: watches until it is told to stop.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::commands::progress_bar::Bar;
use crate::commands::{
    Failure, Global, Report, exit,
    running::{LogFormat, notify, start_logging},
};
use taglog_service::listener::Listener;
use taglog_witness::agent::{Agent, AgentError, Prepared};

/// Watch registries and report what they serve, until told to stop
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog witness run --config witness.toml
  taglog witness run --config witness.toml --once     # for cron and CI: everything once

SIGHUP reads the configuration again; a bad one is refused, and the old one stays. SIGTERM and SIGINT end it.
RUST_LOG=debug says more, RUST_LOG=warn less. Logs, state and registries are those of the configuration: --trust, --log,
--state and --plain-http are for other commands.

{}", crate::commands::EXIT_CODES))]
pub struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
    /// Look at every tag once, deliver everything, and end
    #[arg(long)]
    once: bool,
    /// How to write the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs the agent.
pub async fn run(global: &Global, args: &RunArgs) -> Result<Report, Failure> {
    let progress = Bar::first_looks();
    start_logging(args.log_format, MakeLines(progress.clone()));
    let prepared = Prepared::read(&args.config, global.timeout()).map_err(failure)?;
    if args.once {
        return pass(prepared, &progress).await;
    }
    // Before anything is started, so that no signal finds the program without an answer to it.
    let signals = Signals::listen().map_err(Failure::failed)?;
    let metrics = PrometheusBuilder::new().install_recorder().map_err(Failure::failed)?;
    keep_running(&args.config, prepared, signals, metrics, &progress).await
}

fn failure(error: AgentError) -> Failure {
    match error {
        AgentError::Spool(_) | AgentError::Listen { .. } | AgentError::Registry(_) => Failure::failed(error),
        _ => Failure::usage(error),
    }
}

async fn pass(prepared: Prepared, progress: &Bar) -> Result<Report, Failure> {
    let agent = Agent::new(prepared, true, progress.shared()).await.map_err(failure)?;
    let pass = agent.pass(CancellationToken::new()).await;
    let mut report = Report::done("");
    report.exit = match (pass.misbehaved, pass.failures.is_empty()) {
        (true, _) => exit::MISBEHAVED,
        (false, false) => exit::FAILED,
        (false, true) => exit::OK,
    };
    report.notes = pass.failures;
    Ok(report)
}

async fn keep_running(
    path: &Path,
    mut prepared: Prepared,
    mut signals: Signals,
    metrics: PrometheusHandle,
    progress: &Bar,
) -> Result<Report, Failure> {
    let mut listener = listen(&prepared, None).map_err(failure)?;
    loop {
        let before = Fixed::of(&prepared);
        let agent = Agent::new(prepared, false, progress.shared()).await.map_err(failure)?;
        announce(&before.witness, &agent, listener.as_deref(), progress).map_err(Failure::failed)?;
        let stop = CancellationToken::new();
        let mut running = tokio::spawn(agent.run(listener.clone(), metrics.clone(), stop.clone()));
        notify(&[NotifyState::Ready]);
        let next = loop {
            match signals.next(&mut running).await {
                Asked::Stop => break None,
                Asked::Ended(ended) => return outcome(ended).map(|()| Report::done("")),
                Asked::Reload => match reload(path, &before, listener.as_ref()) {
                    Ok(next) => break Some(next),
                    Err(why) => tracing::error!("the configuration is not taken, the old one stays: {why}"),
                },
            }
        };
        notify(&match (&next, NotifyState::monotonic_usec_now()) {
            (None, _) => vec![NotifyState::Stopping],
            // systemd wants to know since when.
            (Some(_), Ok(now)) => vec![NotifyState::Reloading, now],
            (Some(_), Err(_)) => vec![NotifyState::Reloading],
        });
        stop.cancel();
        outcome(running.await)?;
        let Some((new, new_listener)) = next else { return Ok(Report::done("")) };
        tracing::info!("the configuration was read again");
        (prepared, listener) = (new, new_listener);
    }
}

/// How the agent ended: well, or because a part of it did by itself.
fn outcome(ended: Result<Result<(), String>, JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => outcome.map_err(|why| Failure::failed(format!("the agent has ended by itself: {why}"))),
        Err(error) => Err(Failure::failed(format!("the agent has died: {error}"))),
    }
}

type Next = (Prepared, Option<Arc<Listener>>);

/// What cannot change while the agent runs.
#[derive(PartialEq, Eq)]
struct Fixed {
    witness: String,
    state: PathBuf,
    timeout: Duration,
}

impl Fixed {
    fn of(prepared: &Prepared) -> Fixed {
        Fixed { witness: prepared.witness(), state: prepared.config.state.clone(), timeout: prepared.timeout }
    }
}

/// Reads the configuration again.
fn reload(path: &Path, before: &Fixed, listener: Option<&Arc<Listener>>) -> Result<Next, String> {
    let prepared = Prepared::read(path, before.timeout).map_err(|error| error.to_string())?;
    if Fixed::of(&prepared) != *before {
        return Err("key and state cannot change while the agent runs: restart it".to_owned());
    }
    let listener = listen(&prepared, listener).map_err(|error| error.to_string())?;
    Ok((prepared, listener))
}

/// The socket that the configuration asks for: the one there is, if it is for the same address.
fn listen(prepared: &Prepared, old: Option<&Arc<Listener>>) -> Result<Option<Arc<Listener>>, AgentError> {
    let Some(address) = prepared.config.listen else { return Ok(None) };
    match old.filter(|old| old.asked_for() == address) {
        Some(old) => Ok(Some(Arc::clone(old))),
        None => match Listener::bind(address) {
            Ok(listener) => Ok(Some(Arc::new(listener))),
            Err(error) => Err(AgentError::Listen { address, error }),
        },
    }
}

fn announce(witness: &str, agent: &Agent, listener: Option<&Listener>, progress: &Bar) -> std::io::Result<()> {
    let (tags, repositories) = agent.size();
    let address = listener.map(Listener::address).transpose()?;
    progress.suspend(|| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "watching {tags} tags in {repositories} repositories as {witness}")?;
        if let Some(address) = address {
            writeln!(out, "listening on http://{address}")?;
        }
        out.flush()
    })
}

/// What the agent was asked to do.
enum Asked {
    Stop,
    Reload,
    Ended(Result<Result<(), String>, JoinError>),
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self, running: &mut JoinHandle<Result<(), String>>) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            ended = running => Asked::Ended(ended),
        }
    }
}

/// Writes log lines to standard error, around the progress bar.
struct Lines(Bar);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

struct MakeLines(Bar);

impl<'a> MakeWriter<'a> for MakeLines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines(self.0.clone())
    }
}
