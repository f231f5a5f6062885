//! `taglog witness`: the agent that watches registries and reports what it sees.

mod import;

use clap::{Args, Subcommand};

use super::{Failure, Global, Report};

/// Watch registries, and report what they serve to logs
#[derive(Debug, Args)]
pub struct WitnessArgs {
    #[command(subcommand)]
    command: WitnessCommand,
}

#[derive(Debug, Subcommand)]
enum WitnessCommand {
    Import(import::ImportArgs),
}

/// Runs one of the witness's commands.
pub async fn run(global: &Global, args: WitnessArgs) -> Result<Report, Failure> {
    match args.command {
        WitnessCommand::Import(args) => import::run(global, &args),
    }
}
