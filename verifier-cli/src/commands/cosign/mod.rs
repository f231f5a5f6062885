//! `taglog cosign`: checks that logs only ever append, and cosigns their checkpoints.

mod serve;

use clap::{Args, Subcommand};

use super::context::{Failure, Global, Report};

/// Cosign checkpoints of logs that only ever append (c2sp.org/tlog-witness)
#[derive(Debug, Args)]
pub struct CosignArgs {
    #[command(subcommand)]
    command: CosignCommand,
}

#[derive(Debug, Subcommand)]
enum CosignCommand {
    Serve(serve::ServeArgs),
}

pub async fn run(global: &Global, args: CosignArgs) -> Result<Report, Failure> {
    match args.command {
        CosignCommand::Serve(args) => serve::run(global, &args).await,
    }
}
