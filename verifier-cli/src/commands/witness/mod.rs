//! `taglog witness`: the agent that watches registries and reports what it sees.

mod check_config;
mod import;
mod run;
mod status;

use clap::{Args, Subcommand};

use super::context::{Failure, Global, Report};

/// Watch registries, and report what they serve to logs
#[derive(Debug, Args)]
pub struct WitnessArgs {
    #[command(subcommand)]
    command: WitnessCommand,
}

#[derive(Debug, Subcommand)]
enum WitnessCommand {
    Run(run::WitnessRunArgs),
    CheckConfig(check_config::WitnessCheckArgs),
    Status(status::StatusArgs),
    Import(import::ImportArgs),
}

/// Runs one of the witness's commands.
pub async fn run(global: &Global, args: WitnessArgs) -> Result<Report, Failure> {
    match args.command {
        WitnessCommand::Run(args) => run::run(global, &args).await,
        WitnessCommand::CheckConfig(args) => check_config::run(global, &args).await,
        WitnessCommand::Status(args) => status::run(global, &args),
        WitnessCommand::Import(args) => import::run(global, &args),
    }
}
