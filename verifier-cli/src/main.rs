//! `taglog`: verify, observe and inspect container tags against a transparency log.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
mod commands;

use crate::commands::{
    Cli, Report,
    docker_plugin::{self, Asked},
    run,
};

/// An audit moves entries from thread to thread by the million, which the system's allocator is slow at. This one leaves
/// `malloc` of C alone, so that programs which change the clock by preloading a library go on working.
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> ExitCode {
    let report = match docker_plugin::read(std::env::args_os()) {
        Asked::Run(arguments) => report(Cli::parse_from(arguments)),
        Asked::Metadata(metadata) => Report::done(metadata),
        Asked::Configured { directory, arguments } => {
            Report::failed(format!("cannot start: {}", docker_plugin::again(&directory, &arguments)))
        }
    };
    for line in &report.notes {
        // A reader of errors that has seen enough is no error either.
        let _ = writeln!(std::io::stderr(), "taglog: {line}");
    }
    match std::io::stdout().write_all(report.output.as_bytes()) {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "taglog: cannot write the answer: {error}");
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
