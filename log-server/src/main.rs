//! `taglog-server`: the log server of taglog.

use std::{
    io::{Write as _, stderr, stdout},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use clap::{Args, Parser, Subcommand, ValueEnum};
use taglog_base::text::{LogWriter, for_terminal, path_line, whole_line};
use taglog_server::{
    config::Config,
    run::{RunError, StartOverrides, run},
    startup,
};
use tracing_subscriber::EnvFilter;

/// Also used by RocksDB's C++ code: with the system allocator, memory that both languages pass between threads stays
/// fragmented.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code when a cosigner contradicts the log.
const CONFLICT: u8 = 3;

/// `--version`; `-V` prints the first line alone.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nRocksDB ", env!("TAGLOG_ROCKSDB"));

const EXAMPLES: &str = "\
Examples:
  taglog-server init /var/lib/taglog --origin log.example/taglog
  taglog-server run --data /var/lib/taglog
  taglog-server run --data ./log --listen 127.0.0.1:8520 --witness \"$(cat witness.vkey)\"

Exit codes:
  0  stopped on request, nothing lost
  1  could not start, or had to stop; the message says why
  2  wrong usage
  3  a cosigner has a longer or another history of this log: the data directory is an old copy, or
     the log has forked. Do not start it again as it is; the message says what to do";

/// The log server of taglog, a transparency log for container tags.
#[derive(Parser)]
#[command(version, long_version = LONG_VERSION, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a data directory with a key and a configuration that shows every default
    #[command(after_help = "Example:\n  taglog-server init /var/lib/taglog --origin log.example/taglog")]
    Init(InitArgs),
    /// Serve the log in a data directory
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
}

#[derive(Args)]
struct InitArgs {
    /// The directory to create
    #[arg(env = "TAGLOG_DATA")]
    data: PathBuf,
    /// The log's permanent identity: a URL without scheme, such as log.example/taglog
    #[arg(long)]
    origin: String,
    /// Create an ML-DSA-44 key too; checkpoints then have both signatures
    #[arg(long)]
    ml_dsa: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The data directory
    #[arg(long, env = "TAGLOG_DATA")]
    data: PathBuf,
    /// The configuration file [default: taglog-server.toml in the data directory]
    #[arg(long, env = "TAGLOG_CONFIG")]
    config: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free port
    #[arg(long, env = "TAGLOG_LISTEN")]
    listen: Option<SocketAddr>,
    /// A witness's vkey, in addition to those in the file; may be repeated
    #[arg(long = "witness", env = "TAGLOG_WITNESSES", value_delimiter = ',', value_name = "VKEY")]
    witnesses: Vec<String>,
    /// How long a batch collects entries, in milliseconds
    #[arg(long, env = "TAGLOG_BATCH_INTERVAL_MS", value_name = "MS")]
    batch_interval_ms: Option<u64>,
    /// Entries per second that each witness may submit
    #[arg(long, env = "TAGLOG_ENTRIES_PER_SECOND", value_name = "N")]
    entries_per_second: Option<u32>,
    /// Seal although the clock has jumped ahead; use it only after checking that the clock is correct
    #[arg(long)]
    accept_clock: bool,
    /// Start although this cosigner (its name in the policy file) does not answer; may be repeated. Use it only after
    /// checking that the data directory is not an old copy: only cosigners could tell
    #[arg(long, value_name = "NAME")]
    without_cosigner: Vec<String>,
    /// Format of the program's own log on standard error; RUST_LOG sets the level
    #[arg(long, env = "TAGLOG_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return print_usage(&usage),
    };
    let outcome = match cli.command {
        Command::Init(args) => init(&args),
        Command::Run(args) => serve(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taglog-server: {}", for_terminal(&error.to_string(), false));
            ExitCode::from(if error.is_final() { CONFLICT } else { 1 })
        }
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

/// Whether colours may be written there: to a terminal, unless NO_COLOR, CLICOLOR or TERM say otherwise.
fn wants_styles<S: RawStream>(stream: &S) -> bool {
    stream.is_terminal() && AutoStream::choice(stream) != ColorChoice::Never
}

fn init(args: &InitArgs) -> Result<(), RunError> {
    let vkeys = startup::init(&args.data, &args.origin, args.ml_dsa)?;
    vkeys.iter().for_each(|vkey| println!("{}", whole_line(vkey)));
    let made = format!(
        "Created {0}. The log's verifier key is above (two with --ml-dsa): give it to all who are to trust this log.\n\
         Keep a copy of {0}/key* where nobody else can read it.\n\
         Next: add witnesses to {0}/{1}, then run 'taglog-server run --data {0}'.",
        path_line(&args.data),
        startup::CONFIG_FILE
    );
    eprintln!("{}", for_terminal(&made, false));
    Ok(())
}

fn serve(args: RunArgs) -> Result<(), RunError> {
    start_logging(args.log_format);
    let path = args.config.unwrap_or_else(|| args.data.join(startup::CONFIG_FILE));
    let mut config = Config::read(&path)?;
    config.listen = args.listen.unwrap_or(config.listen);
    config.batch_interval_ms = args.batch_interval_ms.unwrap_or(config.batch_interval_ms);
    config.quota.entries_per_second = args.entries_per_second.unwrap_or(config.quota.entries_per_second);
    config.witnesses.extend(args.witnesses);
    let overrides = StartOverrides { accept_clock: args.accept_clock, without_cosigners: args.without_cosigner };
    run(&args.data, &config, &overrides)
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let events = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Text => {
            let styles = wants_styles(&stderr());
            events.with_writer(move || LogWriter::new(stderr(), styles)).with_ansi(styles).init();
        }
        LogFormat::Json => events.with_writer(stderr).json().init(),
    }
}
