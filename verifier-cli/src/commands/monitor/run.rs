//! `taglog monitor`: audits and sends alerts until it is stopped, or once.

use std::sync::Arc;

use clap::Args;
use metrics_exporter_prometheus::PrometheusBuilder;
use sd_notify::NotifyState;

use super::{ConfigFile, failure};
use crate::commands::{
    context::{Failure, Global, Report, exit},
    progress_bar::Bar,
    running::{LogFormat, notify, start_logging, stop_on_signals},
};
use taglog_monitor::{
    run::{Monitor, RunOnceResult},
    setup::{MonitorError, MonitorSetup},
};
use taglog_service::listener::Listener;

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Audit up to the newest checkpoint, deliver all alerts, and end
    #[arg(long)]
    once: bool,
    /// At the first start, also send alerts about entries that the log has already
    #[arg(long)]
    from_start: bool,
    /// Format of the program's log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

pub async fn run(global: &Global, args: &RunArgs) -> Result<Report, Failure> {
    start_logging(args.log_format, std::io::stderr);
    let setup = MonitorSetup::read(&args.file.config, global.timeout()).map_err(failure)?;
    if args.once {
        return once(setup, args.from_start).await;
    }
    // Before anything is started, so that every signal is handled.
    let stop = stop_on_signals().map_err(Failure::failed)?;
    let metrics = PrometheusBuilder::new().install_recorder().map_err(Failure::failed)?;
    let listener = listen(&setup).map_err(failure)?;
    let (origin, location) = (setup.trust.log.name().to_owned(), setup.log.location());
    let monitor = Monitor::open(setup, args.from_start, Bar::entries("auditing").shared()).await.map_err(failure)?;
    tracing::info!("monitoring {origin} at {location}");
    if let Some(listener) = &listener {
        tracing::info!("listening on http://{}", listener.address().map_err(Failure::failed)?);
    }
    notify(&[NotifyState::Ready]);
    let ended = monitor.run(listener, metrics, stop).await;
    notify(&[NotifyState::Stopping]);
    ended.map_err(failure)?;
    Ok(Report::done(""))
}

async fn once(setup: MonitorSetup, from_start: bool) -> Result<Report, Failure> {
    let monitor = Monitor::open(setup, from_start, Bar::entries("auditing").shared()).await.map_err(failure)?;
    let RunOnceResult { raised, failures, misbehaves } = monitor.run_once().await.map_err(failure)?;
    let exit = match (misbehaves, failures.is_empty(), raised) {
        (true, _, _) => exit::MISBEHAVED,
        (false, false, _) => exit::FAILED,
        (false, true, 1..) => exit::VERDICT,
        (false, true, 0) => exit::OK,
    };
    Ok(Report { output: String::new(), notes: failures, exit })
}

fn listen(setup: &MonitorSetup) -> Result<Option<Arc<Listener>>, MonitorError> {
    let bind = |address| match Listener::bind(address) {
        Ok(listener) => Ok(Arc::new(listener)),
        Err(error) => Err(MonitorError::Listen { address, error }),
    };
    setup.config.listen.map(bind).transpose()
}
