//! `taglog witness status`: shows the state of the agent.

use std::path::PathBuf;

use clap::Args;

use crate::commands::context::{Failure, Format, Global, Report, exit};
use taglog_witness::{config::Config, spool::acknowledge_alarms, status::Status};

/// Show what the agent last saw, which entries wait for the logs, and which alarms are active
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog witness status --config witness.toml
  taglog witness status --config witness.toml --output json
  taglog witness status --config witness.toml --acknowledge

Exit codes:
  0  the agent is running, and no alarm is active
  2  the configuration cannot be read
  3  the agent is not running, or an alarm is active
  4  a log misbehaves: it gave a false proof, or contradicts what it signed before")]
pub struct StatusArgs {
    /// The configuration, of which only 'state' is read
    #[arg(long, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
    /// Show every tag, not only those whose last poll failed
    #[arg(long)]
    all: bool,
    /// Acknowledge and end all alarms; one whose cause persists is raised again
    #[arg(long)]
    acknowledge: bool,
}

/// Reads the spool; the agent may be running.
pub fn run(global: &Global, args: &StatusArgs) -> Result<Report, Failure> {
    let state = Config::read_state(&args.config).map_err(Failure::usage)?;
    let mut notes = Vec::new();
    if args.acknowledge {
        let count = acknowledge_alarms(&state).map_err(Failure::failed)?;
        notes.push(format!("{count} alarms ended"));
    }
    let status = Status::read(&state).map_err(Failure::failed)?;
    let output = match global.output {
        Format::Json => format!("{}\n", status.to_json()),
        Format::Text => status.to_text(args.all),
    };
    let exit = match (status.has_misbehaviour(), status.is_healthy()) {
        (true, _) => exit::MISBEHAVED,
        (false, false) => exit::FAILED,
        (false, true) => exit::OK,
    };
    Ok(Report { output, notes, exit })
}
