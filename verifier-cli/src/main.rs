//! `taglog`: verify, observe and inspect container tags against a transparency log.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use taglog::commands::{Cli, Report, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Report::failed(format!("cannot start: {error}")),
    };
    for line in &report.notes {
        // A reader of errors that has seen enough is no error either.
        let _ = writeln!(std::io::stderr(), "taglog: {line}");
    }
    match std::io::stdout().write_all(report.output.as_bytes()) {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "taglog: cannot write the answer: {error}");
            ExitCode::from(taglog::commands::exit::FAILED)
        }
        _ => ExitCode::from(report.exit),
    }
}
