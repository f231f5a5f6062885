//! The commands: one file each, read top to bottom as what the command does.

mod history;
mod init;
mod inspect;
mod keygen;
mod observe;
mod output;
mod session;
mod verify;
mod witness;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exit codes, the same for every command.
pub mod exit {
    /// Everything asked for passes or is done.
    pub const OK: u8 = 0;
    /// At least one image does not pass.
    pub const VERDICT: u8 = 1;
    /// Wrong usage, an unreadable file, a missing key or trust file.
    pub const USAGE: u8 = 2;
    /// The log or a registry could not be asked, or refused.
    pub const FAILED: u8 = 3;
    /// A proof is false, or the log contradicts what it signed before.
    pub const MISBEHAVED: u8 = 4;
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked for passes, or is done
  1  at least one image does not pass
  2  wrong usage, an unreadable file, a missing key or trust file
  3  the log or a registry could not be asked, or refused
  4  a proof is false, or the log contradicts what it signed before";

const EXAMPLES: &str = "\
Examples:
  taglog init https://log.example/taglog
  taglog verify busybox:1.36.1 registry.example/team/app:v1
  docker pull $(taglog verify --print-digest busybox:1.36.1)
  taglog history busybox:1.36.1";

/// Verify container tags before a deploy, and report what you see, with a transparency log.
#[derive(Debug, Parser)]
#[command(name = "taglog", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// The trust file (c2sp.org/tlog-policy) [default: taglog/trust in the configuration directory]
    #[arg(long, global = true, env = "TAGLOG_TRUST", value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The address of the log, if not the one in the trust file
    #[arg(long, global = true, env = "TAGLOG_LOG", value_name = "URL")]
    log: Option<String>,
    /// Where the last verified checkpoint is remembered [default: taglog in the state directory]
    #[arg(long, global = true, env = "TAGLOG_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print the answer
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    output: Format,
    /// Seconds for each exchange with a log or a registry
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// A registry that may be asked over plain HTTP (loopback always is); may be repeated
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,
}

impl Global {
    /// The time for each exchange with a log or a registry.
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// How to print the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Keygen(keygen::KeygenArgs),
    Observe(observe::ObserveArgs),
    Verify(verify::VerifyArgs),
    History(history::HistoryArgs),
    Inspect(inspect::InspectArgs),
    Witness(witness::WitnessArgs),
}

/// What a command leaves to `main`: text for standard output and error, and the exit code.
#[derive(Debug)]
pub struct Report {
    /// For standard output.
    pub output: String,
    /// Lines for standard error.
    pub notes: Vec<String>,
    /// One of [`exit`].
    pub exit: u8,
}

impl Report {
    /// Done, with this on standard output.
    pub fn done(output: impl Into<String>) -> Report {
        Report { output: output.into(), notes: Vec::new(), exit: exit::OK }
    }

    /// Could not be done.
    pub fn failed(note: impl Into<String>) -> Report {
        Report { output: String::new(), notes: vec![note.into()], exit: exit::FAILED }
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl ToString) -> Failure {
        Failure { exit: exit::USAGE, message: message.to_string() }
    }

    fn failed(message: impl ToString) -> Failure {
        Failure { exit: exit::FAILED, message: message.to_string() }
    }

    fn misbehaved(message: impl ToString) -> Failure {
        Failure { exit: exit::MISBEHAVED, message: message.to_string() }
    }
}

/// Runs one command.
pub async fn run(cli: Cli) -> Report {
    let Cli { global, command } = cli;
    let outcome = match command {
        Command::Init(args) => init::run(&global, args).await,
        Command::Keygen(args) => keygen::run(args),
        Command::Observe(args) => observe::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, args).await,
        Command::History(args) => history::run(&global, args).await,
        Command::Inspect(args) => inspect::run(&global, &args),
        Command::Witness(args) => witness::run(&global, args).await,
    };
    outcome.unwrap_or_else(|failure| Report { output: String::new(), notes: vec![failure.message], exit: failure.exit })
}
