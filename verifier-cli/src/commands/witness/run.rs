//! `taglog witness run`: runs the agent until a signal stops it.

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
    context::{Failure, Global, Report, exit},
    running::{LogFormat, notify, start_logging},
};
use taglog_base::text::whole_line;
use taglog_service::listener::Listener;
use taglog_witness::agent::{Agent, AgentError, AgentSetup};

/// Watch registries and report what they serve, until stopped by a signal
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog witness run --config witness.toml
  taglog witness run --config witness.toml --once     # for cron and CI: everything once

SIGHUP reloads the configuration; an invalid one is refused, and the old one stays. SIGTERM and SIGINT stop the agent.
RUST_LOG=debug logs more, RUST_LOG=warn less. Logs, state and registries are those of the configuration: --trust, --log,
--state and --plain-http are for other commands.

{}", crate::commands::context::EXIT_CODES))]
pub struct WitnessRunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
    /// Poll every tag once, deliver all entries, and end
    #[arg(long)]
    once: bool,
    /// How to write the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs the agent.
pub async fn run(global: &Global, args: &WitnessRunArgs) -> Result<Report, Failure> {
    let progress = Bar::first_looks();
    start_logging(args.log_format, MakeProgressLines(progress.clone()));
    let setup = AgentSetup::read(&args.config, global.timeout()).map_err(failure)?;
    if args.once {
        return run_once(setup, &progress).await;
    }
    // Before anything is started, so that no signal is missed.
    let signals = Signals::listen().map_err(Failure::failed)?;
    let metrics = PrometheusBuilder::new().install_recorder().map_err(Failure::failed)?;
    keep_running(&args.config, setup, signals, metrics, &progress).await
}

fn failure(error: AgentError) -> Failure {
    match error {
        AgentError::Spool(_) | AgentError::Listen { .. } | AgentError::Registry(_) => Failure::failed(error),
        _ => Failure::usage(error),
    }
}

async fn run_once(setup: AgentSetup, progress: &Bar) -> Result<Report, Failure> {
    let agent = Agent::new(setup, true, progress.shared()).await.map_err(failure)?;
    let run_once = agent.run_once(CancellationToken::new()).await;
    let mut report = Report::done("");
    report.exit = match (run_once.misbehaved, run_once.failures.is_empty()) {
        (true, _) => exit::MISBEHAVED,
        (false, false) => exit::FAILED,
        (false, true) => exit::OK,
    };
    report.notes = run_once.failures;
    Ok(report)
}

async fn keep_running(
    path: &Path,
    mut setup: AgentSetup,
    mut signals: Signals,
    metrics: PrometheusHandle,
    progress: &Bar,
) -> Result<Report, Failure> {
    let mut listener = listen(&setup, None).map_err(failure)?;
    loop {
        let before = FixedSettings::of(&setup);
        let agent = Agent::new(setup, false, progress.shared()).await.map_err(failure)?;
        announce(&before.witness, &agent, listener.as_deref(), progress).map_err(Failure::failed)?;
        let stop = CancellationToken::new();
        let mut running = tokio::spawn(agent.run(listener.clone(), metrics.clone(), stop.clone()));
        notify(&[NotifyState::Ready]);
        let next = loop {
            match signals.next(&mut running).await {
                AgentEvent::Stop => break None,
                AgentEvent::Ended(ended) => return outcome(ended).map(|()| Report::done("")),
                AgentEvent::Reload => match reload(path, &before, listener.as_ref()) {
                    Ok(next) => break Some(next),
                    Err(why) => tracing::error!("the new configuration is refused, the old one stays: {why}"),
                },
            }
        };
        notify(&match (&next, NotifyState::monotonic_usec_now()) {
            (None, _) => vec![NotifyState::Stopping],
            // systemd requires the time of the reload.
            (Some(_), Ok(now)) => vec![NotifyState::Reloading, now],
            (Some(_), Err(_)) => vec![NotifyState::Reloading],
        });
        stop.cancel();
        outcome(running.await)?;
        let Some((new, new_listener)) = next else { return Ok(Report::done("")) };
        tracing::info!("the configuration was reloaded");
        (setup, listener) = (new, new_listener);
    }
}

/// The result of the agent: success, or a task that ended unexpectedly.
fn outcome(ended: Result<Result<(), String>, JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => outcome.map_err(|why| Failure::failed(format!("the agent has stopped: {why}"))),
        Err(error) => Err(Failure::failed(format!("the agent has panicked: {error}"))),
    }
}

type ReloadedSetup = (AgentSetup, Option<Arc<Listener>>);

/// The settings that a reload cannot change.
#[derive(PartialEq, Eq)]
struct FixedSettings {
    witness: String,
    state: PathBuf,
    timeout: Duration,
}

impl FixedSettings {
    fn of(setup: &AgentSetup) -> FixedSettings {
        FixedSettings { witness: setup.witness(), state: setup.config.state.clone(), timeout: setup.timeout }
    }
}

/// Reads the configuration again, and opens another listener if the address changed.
fn reload(path: &Path, before: &FixedSettings, listener: Option<&Arc<Listener>>) -> Result<ReloadedSetup, String> {
    let setup = AgentSetup::read(path, before.timeout).map_err(|error| error.to_string())?;
    if FixedSettings::of(&setup) != *before {
        return Err("key and state cannot change while the agent runs: restart it".to_owned());
    }
    let listener = listen(&setup, listener).map_err(|error| error.to_string())?;
    Ok((setup, listener))
}

/// The listener for the configured address; the old one, if the address is the same.
fn listen(setup: &AgentSetup, old: Option<&Arc<Listener>>) -> Result<Option<Arc<Listener>>, AgentError> {
    let Some(address) = setup.config.listen else { return Ok(None) };
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
        writeln!(out, "watching {tags} tags in {repositories} repositories as {}", whole_line(witness))?;
        if let Some(address) = address {
            writeln!(out, "listening on http://{address}")?;
        }
        out.flush()
    })
}

/// A signal, or the end of the agent.
enum AgentEvent {
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

    async fn next(&mut self, running: &mut JoinHandle<Result<(), String>>) -> AgentEvent {
        tokio::select! {
            _ = self.hangup.recv() => AgentEvent::Reload,
            _ = self.terminate.recv() => AgentEvent::Stop,
            _ = self.interrupt.recv() => AgentEvent::Stop,
            ended = running => AgentEvent::Ended(ended),
        }
    }
}

/// Writes log lines to standard error, around the progress bar.
struct ProgressLines(Bar);

impl std::io::Write for ProgressLines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

struct MakeProgressLines(Bar);

impl<'a> MakeWriter<'a> for MakeProgressLines {
    type Writer = ProgressLines;

    fn make_writer(&'a self) -> ProgressLines {
        ProgressLines(self.0.clone())
    }
}
