//! `taglog witness import`: makes a watch list from the files that name images.

use clap::Args;

use crate::commands::{Failure, Global, Report};

/// Make a watch list from Dockerfiles, Compose files and Kubernetes manifests
#[derive(Debug, Args)]
pub struct ImportArgs {}

/// Prints the watch list as TOML.
pub fn run(_global: &Global, _args: &ImportArgs) -> Result<Report, Failure> {
    Err(Failure::usage("not there yet"))
}
