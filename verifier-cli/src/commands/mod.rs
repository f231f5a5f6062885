//! The commands: one file each, read top to bottom as what the command does.

mod approve;
mod audit;
mod audit_classes;
mod audit_report;
mod completions;
mod cosign;
pub mod docker_plugin;
mod evidence;
mod history;
mod init;
mod inspect;
mod keygen;
mod man;
mod mirror;
mod monitor;
mod observe;
mod output;
mod pin;
mod pin_report;
mod policy;
mod progress_bar;
mod running;
mod search;
mod session;
mod source_options;
mod verification;
mod verify;
mod verify_output;
mod witness;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
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
fn exit_code(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Passes => exit::OK,
        Conclusion::Fails => exit::VERDICT,
        Conclusion::LeftOut => exit::USAGE,
        Conclusion::Unresolved => exit::FAILED,
        Conclusion::Misbehaved => exit::MISBEHAVED,
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked for passes, or is done
  1  at least one image does not pass
  2  wrong usage, an unreadable file, a missing key or trust file
  3  a log or a registry could not be asked, or refused; or fewer have cosigned than the trust file asks for
  4  a proof is false, or a log contradicts what it signed before";

const EXAMPLES: &str = "\
Examples:
  taglog init https://log.example/taglog
  taglog verify busybox:1.36.1 registry.example/team/app:v1
  docker pull $(taglog verify --print-digest busybox:1.36.1)
  taglog history busybox:1.36.1";

const ONLY_FOR_IMAGES: &str =
    "--output sarif, junit and github are for 'verify' and 'pin': this command knows text and json";

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
    /// The policy [default: taglog.toml in the working directory, or in the nearest one above that has one]; 'none'
    /// goes without
    #[arg(long, global = true, env = "TAGLOG_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// One log of the trust file, by its origin or address; where the file names one log only, also another address of
    /// it
    #[arg(long, global = true, env = "TAGLOG_LOG", value_name = "LOG")]
    log: Option<String>,
    /// Where the last verified checkpoint is remembered [default: taglog in the state directory]
    #[arg(long, global = true, env = "TAGLOG_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print the answer; sarif, junit and github are for 'verify' and 'pin'
    #[arg(id = "output", long = "output", global = true, default_value = "text", value_name = "FORMAT")]
    report: ReportFormat,
    /// What `report` means for commands that know text and JSON only.
    #[arg(skip)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to report on images: what `--output` and `--report` know.
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

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Keygen(keygen::KeygenArgs),
    Observe(observe::ObserveArgs),
    Verify(verify::VerifyArgs),
    Approve(approve::ApproveArgs),
    Policy(policy::PolicyArgs),
    Pin(pin::PinArgs),
    History(history::HistoryArgs),
    Inspect(inspect::InspectArgs),
    Audit(audit::AuditArgs),
    Search(search::SearchArgs),
    Witness(witness::WitnessArgs),
    Mirror(mirror::MirrorArgs),
    Cosign(cosign::CosignArgs),
    Evidence(evidence::EvidenceArgs),
    Monitor(monitor::MonitorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Whether its answer is a verdict on each of some images, which every format can say.
    fn reports_on_images(&self) -> bool {
        matches!(self, Command::Verify(_) | Command::Pin(_))
    }
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

    /// Asked for in a way that cannot be meant.
    pub fn refused(note: impl Into<String>) -> Report {
        Report { output: String::new(), notes: vec![note.into()], exit: exit::USAGE }
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
    let Cli { mut global, command } = cli;
    match global.report {
        ReportFormat::Text => global.output = Format::Text,
        ReportFormat::Json => global.output = Format::Json,
        _ if command.reports_on_images() => {}
        ReportFormat::Sarif | ReportFormat::Junit | ReportFormat::Github => return Report::refused(ONLY_FOR_IMAGES),
    }
    let outcome = match command {
        Command::Init(args) => init::run(&global, args).await,
        Command::Keygen(args) => keygen::run(&global, args),
        Command::Observe(args) => observe::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, args).await,
        Command::Approve(args) => approve::run(&global, args).await,
        Command::Policy(args) => policy::run(&global, &args).await,
        Command::Pin(args) => pin::run(&global, args).await,
        Command::History(args) => history::run(&global, args).await,
        Command::Inspect(args) => inspect::run(&global, &args),
        Command::Audit(args) => audit::run(&global, args).await,
        Command::Search(args) => search::run(&global, &args),
        Command::Witness(args) => witness::run(&global, args).await,
        Command::Mirror(args) => mirror::run(&global, &args).await,
        Command::Cosign(args) => cosign::run(&global, args).await,
        Command::Evidence(args) => evidence::run(&global, args).await,
        Command::Monitor(args) => monitor::run(&global, args).await,
        Command::Completions(args) => completions::run(&global, &args),
        Command::Man(args) => man::run(&global, &args),
    };
    outcome.unwrap_or_else(|failure| Report { output: String::new(), notes: vec![failure.message], exit: failure.exit })
}
