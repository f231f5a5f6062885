//! What every command gets and returns: global options, result, failure and exit codes.

use std::{path::PathBuf, time::Duration};

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use clap::{Args, ValueEnum};
use taglog_verify::Conclusion;

/// Exit codes, the same for every command.
pub mod exit {
    /// Everything asked for passes or is done.
    pub const OK: u8 = 0;
    /// At least one image does not pass.
    pub const VERDICT: u8 = 1;
    /// Wrong usage, an unreadable file, a missing key or trust file.
    pub const USAGE: u8 = 2;
    /// A log or a registry could not be asked, or refused; or fewer have cosigned than the trust file asks for.
    pub const FAILED: u8 = 3;
    /// A proof is false, or a log contradicts what it signed before.
    pub const MISBEHAVED: u8 = 4;
}

/// The exit code for what was verified.
pub fn exit_code(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Passes => exit::OK,
        Conclusion::Fails => exit::VERDICT,
        Conclusion::LeftOut => exit::USAGE,
        Conclusion::Unresolved => exit::FAILED,
        Conclusion::Misbehaved => exit::MISBEHAVED,
    }
}

/// The exit codes as help texts show them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked for passes, or is done
  1  at least one image does not pass
  2  wrong usage, an unreadable file, a missing key or trust file
  3  a log or a registry could not be asked, or refused; or fewer have cosigned than the trust file asks for
  4  a proof is false, or a log contradicts what it signed before";

/// The options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// The trust file (c2sp.org/tlog-policy) [default: taglog/trust in the configuration directory]
    #[arg(long, global = true, env = "TAGLOG_TRUST", value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// The policy [default: taglog.toml in the working directory, or in the nearest one above that has one]; 'none' goes
    /// without
    #[arg(long, global = true, env = "TAGLOG_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// One log of the trust file, by its origin or address; where the file names one log only, also another address of it
    #[arg(long, global = true, env = "TAGLOG_LOG", value_name = "LOG")]
    pub log: Option<String>,
    /// Where the last verified checkpoint is remembered [default: taglog in the state directory]
    #[arg(long, global = true, env = "TAGLOG_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How to print the answer; sarif, junit and github are for 'verify' and 'pin'
    #[arg(id = "output", long = "output", global = true, default_value = "text", value_name = "FORMAT")]
    pub report: ReportFormat,
    /// `report` for commands that support only text and JSON; set by `run`.
    #[arg(skip)]
    pub output: Format,
    /// Seconds for each exchange with a log or a registry
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// A registry that may be asked over plain HTTP (loopback always is); may be repeated
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub plain_http: Vec<String>,
}

impl Global {
    /// The time limit for one exchange with a log or a registry.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// How to print the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human-readable.
    #[default]
    Text,
    Json,
}

/// The formats of `--output` and `--report` for results on images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for the test report of a CI
    Junit,
    /// Workflow commands of GitHub Actions, shown beside the lines of files
    Github,
}

/// Whether colours may be written there: to a terminal, unless NO_COLOR, CLICOLOR or TERM say otherwise.
pub fn wants_styles<S: RawStream>(stream: &S) -> bool {
    stream.is_terminal() && AutoStream::choice(stream) != ColorChoice::Never
}

/// The result of a command: text for standard output and standard error, and the exit code.
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
    /// Success, with this on standard output.
    pub fn done(output: impl Into<String>) -> Report {
        Report { output: output.into(), notes: Vec::new(), exit: exit::OK }
    }

    /// Wrong usage.
    pub fn refused(note: impl Into<String>) -> Report {
        Report { output: String::new(), notes: vec![note.into()], exit: exit::USAGE }
    }

    /// Failure of a log, a registry or the system.
    pub fn failed(note: impl Into<String>) -> Report {
        Report { output: String::new(), notes: vec![note.into()], exit: exit::FAILED }
    }
}

/// Why a command ended without a result.
#[derive(Debug)]
pub struct Failure {
    pub exit: u8,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl ToString) -> Failure {
        Failure { exit: exit::USAGE, message: message.to_string() }
    }

    pub fn failed(message: impl ToString) -> Failure {
        Failure { exit: exit::FAILED, message: message.to_string() }
    }

    pub fn misbehaved(message: impl ToString) -> Failure {
        Failure { exit: exit::MISBEHAVED, message: message.to_string() }
    }
}
