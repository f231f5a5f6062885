//! `taglog`: verify, observe and inspect container tags against a transparency log.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
mod commands;

use crate::commands::{
    Cli, Report,
    docker_plugin::{self, Invocation},
    run,
};

/// An audit passes millions of entries between threads, for which the system's allocator is slow. This one does not replace
/// C's `malloc`, so that libraries which are preloaded to change the clock still work.
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> ExitCode {
    let report = match docker_plugin::read(std::env::args_os()) {
        Invocation::Run(arguments) => report(Cli::parse_from(arguments)),
        Invocation::Metadata(metadata) => Report::done(metadata),
        Invocation::Configured { directory, arguments } => {
            Report::failed(format!("cannot start: {}", docker_plugin::reexec(&directory, &arguments)))
        }
    };
    for line in &report.notes {
        // A closed standard error is no error either.
        let _ = writeln!(std::io::stderr(), "taglog: {line}");
    }
    match std::io::stdout().write_all(report.output.as_bytes()) {
        // A closed pipe is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "taglog: cannot write the output: {error}");
            ExitCode::from(commands::exit::FAILED)
        }
        _ => ExitCode::from(report.exit),
    }
}

fn report(cli: Cli) -> Report {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Report::failed(format!("cannot start: {error}")),
    }
}
