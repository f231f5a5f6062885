//! `taglog cosign serve`: cosigns until it is stopped.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use metrics_exporter_prometheus::PrometheusBuilder;
use sd_notify::NotifyState;
use tokio_util::task::TaskTracker;

use crate::commands::{
    context::{Failure, Global, Report},
    running::{LogFormat, notify, start_logging, stop_on_signals},
};
use taglog_audit::Auditor;
use taglog_base::text::whole_line;
use taglog_cosigner::{
    audit::{AuditQueue, LogSource, start_auditing},
    config::Config,
    http,
    log::origin_hash,
    service::Cosigner,
    store::Store,
};
use taglog_service::listener::Listener;
use taglog_service::task_group::TaskGroup;

/// How long requests may take to end when the cosigner stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Cosign the checkpoints of the configured logs until stopped
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog keygen --cosigner cosigner.example/a --key cosigner.key
  taglog cosign serve --config cosigner.toml
  taglog cosign serve --config auditor.toml --audit     # replays every entry and seal first

The configuration:
  key = [\"cosigner.key\"]                # one or more; an auditing cosigner has keys of its own
  state = \"state\"                       # what was cosigned; never lose it, never put back an old copy
  listen = \"127.0.0.1:8530\"
  [[log]]
  vkey = [\"log.example/taglog+...\"]
  url = \"https://log.example/taglog\"    # for --audit

SIGTERM and SIGINT end it. RUST_LOG=debug says more, RUST_LOG=warn less. --trust, --log and --state are for other
commands.

{}", crate::commands::context::EXIT_CODES))]
pub struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "cosigner.toml")]
    config: PathBuf,
    /// Replay every entry and seal before a checkpoint is cosigned
    #[arg(long)]
    audit: bool,
    /// Format of the program's log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

pub async fn run(global: &Global, args: &ServeArgs) -> Result<Report, Failure> {
    start_logging(args.log_format, std::io::stderr);
    let config = Config::read(&args.config, args.audit).map_err(Failure::usage)?;
    let keys = config.keys().map_err(Failure::usage)?;
    // Before anything is started, so that every signal is handled.
    let stop = stop_on_signals().map_err(Failure::failed)?;
    let metrics = PrometheusBuilder::new().install_recorder().map_err(Failure::failed)?;
    let public: Vec<_> = keys.iter().map(|key| key.key()).collect();
    let (store, guard, stored) = Store::open(&config.state, &public, config.audit).map_err(Failure::failed)?;
    let audits = audits(&config, global.timeout())?;
    let cosigner = Arc::new(Cosigner::new(&config, keys, store, &stored, audits));
    let listener = Listener::bind(config.listen);
    let listener = listener.map_err(|error| Failure::failed(format!("cannot listen at {}: {error}", config.listen)))?;
    let listener = Arc::new(listener);
    let tasks = TaskTracker::new();
    let router = http::router(Arc::clone(&cosigner), tasks.clone(), metrics);
    let mut group = TaskGroup::default();
    group.start("serving", {
        let (listener, stop) = (Arc::clone(&listener), stop.clone());
        async move {
            if let Err(error) = listener.serve(router, stop).await {
                tracing::error!(%error, "the HTTP interface stopped");
            }
        }
    });
    announce(&cosigner, &listener).map_err(Failure::failed)?;
    notify(&[NotifyState::Ready]);
    let ended = group.run(&stop, STOP_TIME).await;
    notify(&[NotifyState::Stopping]);
    // Requests that do not end in time are aborted; their clients retry.
    tasks.close();
    let _ = tokio::time::timeout(STOP_TIME, tasks.wait()).await;
    drop(cosigner);
    let _ = tokio::time::timeout(STOP_TIME, guard.close()).await;
    ended.map(|()| Report::done("")).map_err(Failure::failed)
}

/// Opens the auditor of each log and starts its task; none unless the cosigner audits.
fn audits(config: &Config, timeout: Duration) -> Result<BTreeMap<String, AuditQueue>, Failure> {
    let mut audits = BTreeMap::new();
    for (origin, log) in config.logs.iter().filter(|_| config.audit) {
        let named = |why: &dyn std::fmt::Display| format!("{origin}: {why}");
        let url = log.url.as_deref().unwrap_or_default();
        let source = LogSource::new(url, timeout).map_err(|why| Failure::usage(named(&why)))?;
        let key = log.keys.ed25519().first();
        let key = key.ok_or_else(|| {
            Failure::usage(named(&"an auditing cosigner needs an Ed25519 key of the log; add it to vkey"))
        })?;
        let directory = config.state.join("audit").join(origin_hash(origin));
        let auditor = Auditor::open(&directory, key).map_err(|error| Failure::failed(named(&error)))?;
        audits.insert(origin.clone(), start_auditing(log.keys.clone(), source, auditor, config.state.clone()));
    }
    Ok(audits)
}

fn announce(cosigner: &Cosigner, listener: &Listener) -> std::io::Result<()> {
    let address = listener.address()?;
    let mut out = std::io::stdout().lock();
    for key in cosigner.keys() {
        writeln!(out, "{}", whole_line(&format!("cosigner: {key} at http://{address}")))?;
    }
    out.flush()
}
