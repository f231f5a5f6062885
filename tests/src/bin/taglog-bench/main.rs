//! Load generator and benchmarks of taglog, measured against its performance goals and the limits of this machine.
//!
//! ```text
//! cargo build --release -p taglog-server -p taglog
//! cargo run --release -p taglog-tests --bin taglog-bench -- [PART] [--quick] [--output table|json]
//! ```
//!
//! It measures the machine's own limits, starts a real `taglog-server` on a free loopback port in a
//! directory of its own, loads it, prints one row for each goal, and leaves nothing behind. Every
//! answer is checked: an entry must come back as `added`, and samples of look-ups must verify. The part
//! `witness` does the same for the agent, with the `docker-registry` program; `audit` makes a log of its own as files
//! (1,000,000 entries and a tenth as many tags, if not told otherwise) and audits it; `cosign` measures an auditing
//! cosigner beside a server (200,000 tags, three times over); `verify` verifies a deployment of 100 images of the
//! `docker-registry` program.

mod audit;
mod cosign;
mod ingest;
mod lookup;
mod machine;
mod process;
mod report;
mod server;
mod verify;
mod witness;
mod workload;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};

use crate::{
    ingest::{Ingest, Progress, Wait},
    machine::Machine,
    report::{Bound, Report, Row},
    server::{Server, Settings},
    workload::Workload,
};

/// Anything that stops a benchmark; the message says what.
type Failure = Box<dyn Error + Send + Sync>;
type BenchResult<T> = Result<T, Failure>;

/// Measures taglog against its performance goals and the limits of this machine
#[derive(Parser)]
#[command(version)]
struct Options {
    /// What to measure
    #[arg(default_value = "server")]
    part: Part,
    /// A short run with 50,000 tags (witness: 1,000 and 10,000), to see that everything works; its numbers mean little
    #[arg(long)]
    quick: bool,
    /// How to print the results on standard output
    #[arg(long, default_value = "table")]
    output: Output,
    /// Distinct tags to put into the index first [default: 1000000; 50000 with --quick; audit: a tenth of the
    /// entries; cosign: not used]
    #[arg(long, value_name = "N")]
    tags: Option<u64>,
    /// Entries in all, those tags included [default: twice the tags; audit: 1000000, and 50000 with --quick;
    /// cosign: 200000, and 20000 with --quick]
    #[arg(long, value_name = "N")]
    entries: Option<u64>,
    /// Where to make the log's directory, to measure another disk [default: the system's]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The server's program [default: taglog-server beside this one]
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// How long a batch collects entries, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    batch_interval_ms: u64,
    /// Observations in one submission
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    bundle: u16,
    /// Submissions under way at once
    #[arg(long, default_value_t = 96, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// Clients that look up images at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    lookup_clients: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The log server
    Server,
    /// The witness agent
    Witness,
    /// The auditor
    Audit,
    /// The auditing cosigner
    Cosign,
    /// The verifier
    Verify,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// How much is measured.
struct Scale {
    tags: u64,
    entries: u64,
    /// The length of the windows in which single entries and look-ups are measured.
    window: Duration,
    /// How long each of the machine's limits is measured.
    probe: Duration,
}

impl Scale {
    fn of(options: &Options) -> Scale {
        let (tags, window, probe) = match options.quick {
            true => (50_000, Duration::from_secs(4), Duration::from_millis(200)),
            false => (1_000_000, Duration::from_secs(15), Duration::from_secs(1)),
        };
        let tags = options.tags.unwrap_or(tags).max(1);
        Scale { tags, entries: options.entries.unwrap_or(2 * tags).max(tags), window, probe }
    }
}

/// The most observations of the sustained phase, and how long it may take.
const SUSTAINED_ENTRIES: u64 = 1_000_000;
const SUSTAINED_LIMIT: Duration = Duration::from_secs(180);
/// How long filling the log may take.
const FILL_LIMIT: Duration = Duration::from_secs(3600);
/// Clients that submit one observation at a time.
const SINGLE_CLIENTS: usize = 64;
/// How long compaction may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(report) => {
            match options.output {
                Output::Table => print!("{}", report.table()),
                Output::Json => println!("{}", report.json()),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("taglog-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> BenchResult<Report> {
    check_profile(options.quick)?;
    let scale = Scale::of(options);
    let directory = match &options.dir {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    warn_of_load();
    eprintln!("measuring the machine");
    let machine = Machine::measure(directory.path(), scale.probe)?;
    let mut report = Report::new(machine);
    if options.part != Part::Audit {
        report.rocksdb = Some(server::rocksdb(&find_server(options.server.as_deref())?)?);
    }
    // One thread for the generator, so that it never takes more than one core from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match options.part {
        Part::Server => {
            let program = find_server(options.server.as_deref())?;
            runtime.block_on(measure_server(options, &scale, &program, directory.path(), &mut report))?;
        }
        Part::Witness => {
            let program = find_server(options.server.as_deref())?;
            measure_witness(options, &program, directory.path(), &runtime, &mut report)?;
        }
        Part::Audit => measure_audit(options, &scale, directory.path(), &mut report)?,
        Part::Cosign => {
            let program = find_server(options.server.as_deref())?;
            let taglog = beside("taglog")?;
            runtime.block_on(cosign_part(options, &scale, &program, &taglog, directory.path()).measure(&mut report))?;
        }
        Part::Verify => {
            let (program, server) = (beside("taglog")?, find_server(options.server.as_deref())?);
            let batch_interval_ms = options.batch_interval_ms;
            let part = verify::VerifyBenchmark {
                program: &program,
                server: &server,
                directory: directory.path(),
                batch_interval_ms,
            };
            runtime.block_on(part.measure(&mut report))?;
        }
    }
    directory.close()?;
    Ok(report)
}

fn measure_audit(options: &Options, scale: &Scale, directory: &Path, report: &mut Report) -> BenchResult<()> {
    let entries = options.entries.unwrap_or(if options.quick { 50_000 } else { 1_000_000 });
    let tags = options.tags.unwrap_or(entries / 10).max(1);
    audit::AuditBenchmark { program: &beside("taglog")?, directory, tags, entries, probe: scale.probe }.measure(report)
}

fn cosign_part<'a>(
    options: &Options,
    scale: &Scale,
    server: &'a Path,
    taglog: &'a Path,
    directory: &'a Path,
) -> cosign::CosignBenchmark<'a> {
    let entries = options.entries.unwrap_or(if options.quick { 20_000 } else { 200_000 });
    cosign::CosignBenchmark {
        server,
        taglog,
        directory,
        batch_interval_ms: options.batch_interval_ms,
        // One for each observation of a phase: those in flight at once must not be about one tag.
        tags: entries.max(1),
        entries,
        bundle: options.bundle.into(),
        connections: options.connections,
        window: scale.window,
    }
}

fn measure_witness(
    options: &Options,
    program: &Path,
    directory: &Path,
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
) -> BenchResult<()> {
    let (tags, watched) = if options.quick { (1_000, 10_000) } else { (10_000, 100_000) };
    let part = witness::WitnessBenchmark {
        server: program,
        directory,
        batch_interval_ms: options.batch_interval_ms,
        tags,
        watched,
    };
    part.measure(runtime, report)
}

async fn measure_server(
    options: &Options,
    scale: &Scale,
    program: &Path,
    directory: &Path,
    report: &mut Report,
) -> BenchResult<()> {
    let workload = Workload::new(scale.tags)?;
    let settings = Settings {
        program,
        directory,
        witnesses: workload.vkeys(),
        batch_interval_ms: options.batch_interval_ms,
        connections: options.connections.max(options.lookup_clients).max(64),
        listen: server::ANYWHERE.to_owned(),
        without_cosigner: None,
    };
    let mut server = Server::start(&settings)?;
    let mut ingest = Ingest::new(&server, workload.clone(), options.bundle.into(), options.connections.into())?;

    fill(&mut ingest, scale, report).await?;
    sustained(&mut ingest, scale, report).await?;
    memory(&server, ingest.entries, report)?;
    disk(&server, &ingest, report).await?;
    one_at_a_time(&mut ingest, &server, scale, options, report).await?;
    look_ups(&server, &workload, scale, options, report).await?;

    eprintln!("stopping and starting again");
    server.stop()?;
    let mut server = Server::start(&settings)?;
    let entries = ingest.entries;
    report.add(Row::new("start of the server", server.startup.as_secs_f64(), "s").note(format!("{entries} entries")));
    server.stop()
}

/// Puts all tags into the index, then further observations until only the sustained phase is left.
async fn fill(ingest: &mut Ingest, scale: &Scale, report: &mut Report) -> BenchResult<()> {
    let tenth = scale.tags.div_ceil(10);
    let mut costs = Vec::new();
    let deadline = std::time::Instant::now() + FILL_LIMIT;
    while ingest.entries < scale.tags {
        let count = tenth.min(scale.tags - ingest.entries);
        costs.push(ingest.run("new tags", count, deadline).await?);
    }
    growth(&costs, report);
    let filler = scale.entries.saturating_sub(SUSTAINED_ENTRIES);
    while ingest.entries < filler {
        let count = 250_000.min(filler - ingest.entries);
        ingest.run("further observations", count, deadline).await?;
    }
    Ok(())
}

/// The server's processor time for each new tag, first against last tenth of the preload.
fn growth(costs: &[Progress], report: &mut Report) {
    let ([first, .., last], tags) = (costs, costs.iter().map(|cost| cost.entries).sum::<u64>()) else { return };
    let rate = tags as f64 / costs.iter().map(|cost| cost.elapsed.as_secs_f64()).sum::<f64>();
    report.add(Row::new("ingest of new tags, mean", rate, "/s").beside(report.machine.verifications(rate)));
    let (begin, end) = (first.cpu_micros(), last.cpu_micros());
    let strict = report.machine.strict_one_core;
    let row = Row::new("processor time for a new tag, first tenth", begin, "µs");
    report.add(row.beside(format!("{:.1} strict verifications", begin * strict / 1e6)));
    // The tree over the tags is deeper at the end by this much, taken in the middle of each tenth.
    let depth = (tags as f64 * 0.95).log2() / (tags as f64 * 0.05).log2();
    let row = Row::new("… last tenth, relative to the first", end / begin, "×").goal(Bound::AtMost(depth));
    report.add(row.note(format!("{end:.0} µs; the goal is the growth of the tree's depth")));
}

async fn sustained(ingest: &mut Ingest, scale: &Scale, report: &mut Report) -> BenchResult<()> {
    let count = SUSTAINED_ENTRIES.min(scale.entries.saturating_sub(ingest.entries));
    if count == 0 {
        return Ok(());
    }
    let deadline = std::time::Instant::now() + SUSTAINED_LIMIT;
    let progress = ingest.run("sustained", count, deadline).await?;
    let machine = &report.machine;
    let mean = Row::new("sustained ingest, mean", progress.rate(), "/s").goal(Bound::AtLeast(20_000.0));
    let mean = mean.beside(machine.verifications(progress.rate())).note(progress.describe());
    let worst = progress.worst_window(Duration::from_secs(5));
    let worst = Row::new("sustained ingest, worst 5 s", worst, "/s").goal(Bound::AtLeast(10_000.0));
    let micros = progress.cpu_micros();
    let cpu = Row::new("processor time for an observation", micros, "µs")
        .beside(format!("{:.1} strict verifications", micros * machine.strict_one_core / 1e6))
        .note(progress.threads.clone());
    let written = progress.written as f64 / progress.elapsed.as_secs_f64() / 1e6;
    let io = Row::new("written to disk while ingesting", written, "MB/s")
        .beside(format!("{:.0} % of sequential writing", 100.0 * written / machine.write_mb))
        .note(format!("{:.1} × the entries' bytes", progress.written as f64 / progress.bytes as f64));
    [mean, worst, cpu, io].into_iter().for_each(|row| report.add(row));
    Ok(())
}

fn memory(server: &Server, entries: u64, report: &mut Report) -> BenchResult<()> {
    const GIB: f64 = 1024.0;
    let memory = process::memory(server.id())?;
    let note = format!("{entries} entries; the goal is for 10,000,000");
    report.add(Row::new("server memory after ingest (VmRSS)", memory.resident, "MiB").goal(Bound::AtMost(GIB)));
    report.add(Row::new("… at its greatest (VmHWM)", memory.peak, "MiB").goal(Bound::AtMost(GIB)).note(note));
    Ok(())
}

async fn disk(server: &Server, ingest: &Ingest, report: &mut Report) -> BenchResult<()> {
    eprintln!("waiting for compaction to settle");
    let (bytes, settled) = server.settled_disk_bytes(SETTLE_LIMIT).await?;
    let ratio = bytes as f64 / ingest.bytes as f64;
    let state = if settled { "settled" } else { "not settled in time" };
    let note = format!("{:.0} MB for {:.0} MB of entries; {state}", bytes as f64 / 1e6, ingest.bytes as f64 / 1e6);
    report.add(Row::new("disk for each byte of the entries", ratio, "×").goal(Bound::AtMost(2.5)).note(note));
    Ok(())
}

async fn one_at_a_time(
    ingest: &mut Ingest,
    server: &Server,
    scale: &Scale,
    options: &Options,
    report: &mut Report,
) -> BenchResult<()> {
    eprintln!("one observation at a time, {SINGLE_CLIENTS} clients");
    let latency = ingest::one_at_a_time(ingest, server, SINGLE_CLIENTS, scale.window, Wait::Acknowledged).await?;
    let fsync = report.machine.fsync_ms;
    let beside = |ms: f64| format!("{:.0} fsyncs", ms / fsync);
    let (p50, p99) = (latency.quantile_ms(0.5), latency.quantile_ms(0.99));
    report.add(Row::new("one at a time, acknowledged p50", p50, "ms").beside(beside(p50)));
    let goal = Bound::AtMost(2.0 * options.batch_interval_ms as f64);
    let row = Row::new("one at a time, acknowledged p99", p99, "ms").goal(goal).beside(beside(p99));
    report.add(row.note(format!("{SINGLE_CLIENTS} clients, {} observations", latency.count())));
    Ok(())
}

async fn look_ups(
    server: &Server,
    workload: &Workload,
    scale: &Scale,
    options: &Options,
    report: &mut Report,
) -> BenchResult<()> {
    let clients = options.lookup_clients.into();
    eprintln!("look-ups, {clients} clients");
    let plain = lookup::run(server, workload, clients, scale.window, false).await?;
    let share = 100.0 * plain.rate() / report.machine.strict_one_core;
    let row = Row::new("look-ups of one image", plain.rate(), "/s").goal(Bound::AtLeast(5_000.0));
    report.add(row.beside(format!("{share:.0} % of strict Ed25519, one core")).note(plain.describe(clients)));
    report.add(Row::new("look-up p50", plain.latency.quantile_ms(0.5), "ms"));
    report.add(Row::new("look-up p99", plain.latency.quantile_ms(0.99), "ms").goal(Bound::AtMost(10.0)));
    let gzip = lookup::run(server, workload, clients, scale.window / 3, true).await?;
    let p99 = gzip.latency.quantile_ms(0.99);
    let note = format!("p99 {p99:.1} ms; {}", gzip.describe(clients));
    report.add(Row::new("look-ups answered with gzip", gzip.rate(), "/s").note(note));
    Ok(())
}

/// The server's program: as named, or beside this one.
fn find_server(named: Option<&Path>) -> BenchResult<PathBuf> {
    match named {
        Some(named) if named.is_file() => Ok(named.to_owned()),
        Some(named) => Err(format!("no {}", named.display()).into()),
        None => beside("taglog-server"),
    }
}

/// A program that stands beside this one.
fn beside(name: &str) -> BenchResult<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    match program.is_file() {
        true => Ok(program),
        false => Err(format!("no {}: run 'cargo build --release --bins' first", program.display()).into()),
    }
}

/// The profile that this program was built with; it starts the programs beside it, which have the same.
const PROFILE: &str = if cfg!(debug_assertions) { "dev (not optimised)" } else { "release" };

/// Programs that are not optimised are measured with `--quick` alone, whose numbers mean little anyway.
fn check_profile(quick: bool) -> BenchResult<()> {
    match (cfg!(debug_assertions), quick) {
        (false, _) => Ok(()),
        (true, true) => {
            eprintln!("warning: built without optimisation (profile dev)");
            Ok(())
        }
        (true, false) => Err("built without optimisation (profile dev), so its numbers would be those of another \
                              program: build with --release, or see with --quick that everything works"
            .into()),
    }
}

/// Warns when other programs use the machine, because they change the numbers.
fn warn_of_load() {
    match process::load_average() {
        Some(load) if load > 0.5 => eprintln!("warning: the machine is not idle (load average {load})"),
        _ => {}
    }
}
