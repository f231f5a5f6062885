//! The command line, and its dispatch to one file for each command.

mod approve;
mod audit;
mod audit_classes;
mod audit_report;
mod completions;
mod context;
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

use clap::{CommandFactory as _, Parser, Subcommand};

use context::{EXIT_CODES, Format, Global, ReportFormat};
pub use context::{Report, exit, wants_styles};
use taglog_base::text::for_terminal;

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
    /// Whether the result is a verdict for each image, which every output format supports.
    fn reports_on_images(&self) -> bool {
        matches!(self, Command::Verify(_) | Command::Pin(_))
    }
}

/// Runs one command.
pub async fn run(cli: Cli) -> Report {
    let format = cli.global.report;
    let mut report = run_command(cli).await;
    if matches!(format, ReportFormat::Text | ReportFormat::Github) {
        report.output = for_terminal(&report.output, wants_styles(&std::io::stdout()));
    }
    report
}

async fn run_command(cli: Cli) -> Report {
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
        Command::Completions(args) => completions::run(&global, &args, &mut Cli::command()),
        Command::Man(args) => man::run(&global, &args, Cli::command()),
    };
    outcome.unwrap_or_else(|failure| Report { output: String::new(), notes: vec![failure.message], exit: failure.exit })
}
