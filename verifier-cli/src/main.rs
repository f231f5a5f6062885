//! `taglog`: verify, observe and inspect container tags against a transparency log.

use std::{
    io::{ErrorKind, Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::Parser as _;
use taglog_base::text::for_terminal;

mod commands;

use crate::commands::{
    Cli, Report,
    docker_plugin::{self, Invocation},
    run, wants_styles,
};

/// An audit passes millions of entries between threads, for which the system's allocator is slow. This one does not replace
/// C's `malloc`, so that libraries which are preloaded to change the clock still work.
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> ExitCode {
    let report = match docker_plugin::read(std::env::args_os()) {
        Invocation::Run(arguments) => match Cli::try_parse_from(arguments) {
            Ok(cli) => report(cli),
            Err(usage) => return print_usage(&usage),
        },
        Invocation::Metadata(metadata) => Report::done(metadata),
        Invocation::Configured { directory, arguments } => {
            Report::failed(format!("cannot start: {}", docker_plugin::reexec(&directory, &arguments)))
        }
    };
    for line in &report.notes {
        // A closed standard error is no error either.
        let _ = writeln!(stderr(), "taglog: {}", for_terminal(line, false));
    }
    match stdout().write_all(report.output.as_bytes()) {
        // A closed pipe is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr(), "taglog: cannot write the output: {error}");
            ExitCode::from(commands::exit::FAILED)
        }
        _ => ExitCode::from(report.exit),
    }
}

/// Help, the version, or what is wrong with the arguments, which the message repeats.
fn print_usage(usage: &clap::Error) -> ExitCode {
    let (to_stderr, text) = (usage.use_stderr(), usage.render());
    let styles = if to_stderr { wants_styles(&stderr()) } else { wants_styles(&stdout()) };
    let text = if styles { text.ansi().to_string() } else { text.to_string() };
    let text = for_terminal(&text, styles);
    // A reader that has seen enough is no error.
    let _ = if to_stderr { stderr().write_all(text.as_bytes()) } else { stdout().write_all(text.as_bytes()) };
    u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn report(cli: Cli) -> Report {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Report::failed(format!("cannot start: {error}")),
    }
}
