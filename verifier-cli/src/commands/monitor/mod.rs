//! `taglog monitor`: audits a log continuously, and sends alerts.

mod check_config;
mod run;
mod test_alert;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::{Failure, Global, Report};
use taglog_monitor::setup::MonitorError;

/// Audit a log continuously, and send alerts
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  taglog monitor --config monitor.toml
  taglog monitor --config monitor.toml --once        # for cron
  taglog monitor check-config --config monitor.toml
  taglog monitor test-alert --config monitor.toml    # test every sink

Alerts on retags, new tags, witnesses that disagree or fall silent, a log that is stale, frozen or unreachable, and on
misbehaviour of the log. verifier-cli/docs/MONITOR.md says how to configure it. SIGTERM and SIGINT end it.
RUST_LOG=debug says more, RUST_LOG=warn less. Log and state are those of the configuration: --trust, --log and --state
are for other commands.

Exit codes:
  0  stopped on request; with --once: no new alerts
  1  with --once: alerts were raised
  2  wrong usage, or the configuration is wrong
  3  it cannot continue; with --once: the log could not be audited, or a sink could not be reached
  4  with --once: the log misbehaves"
)]
pub struct MonitorArgs {
    #[command(subcommand)]
    command: Option<MonitorCommand>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum MonitorCommand {
    CheckConfig(check_config::CheckArgs),
    TestAlert(test_alert::TestArgs),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "monitor.toml")]
    config: PathBuf,
}

pub async fn run(global: &Global, args: MonitorArgs) -> Result<Report, Failure> {
    match args.command {
        None => run::run(global, &args.run).await,
        Some(MonitorCommand::CheckConfig(args)) => check_config::run(global, &args),
        Some(MonitorCommand::TestAlert(args)) => test_alert::run(global, &args).await,
    }
}

fn failure(error: MonitorError) -> Failure {
    match error {
        MonitorError::Config(_)
        | MonitorError::Trust { .. }
        | MonitorError::NoAddress(_)
        | MonitorError::Location(_)
        | MonitorError::Sink { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
