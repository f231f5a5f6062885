//! An auditing cosigner beside a real server: how fast it replays what nobody has published yet, and how much later an
//! observation is public because of it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use taglog_proto::checkpoint::SignedCheckpoint;

use crate::{
    BenchResult, SINGLE_CLIENTS,
    ingest::{self, Ingest, Latency, Wait},
    process,
    report::{Bound, Report, Row},
    server::{Server, Settings},
    workload::Workload,
};

/// What the policy calls the cosigner.
const NAME: &str = "bench";
/// How often the published size is read.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The benchmark of the auditing cosigner.
pub struct CosignBenchmark<'a> {
    /// The `taglog-server` program.
    pub server: &'a Path,
    /// The `taglog` program.
    pub taglog: &'a Path,
    /// Where log and state are made.
    pub directory: &'a Path,
    /// How long a batch collects entries.
    pub batch_interval_ms: u64,
    /// Distinct tags.
    pub tags: u64,
    /// Observations that are committed while the cosigner is away.
    pub entries: u64,
    /// Observations in one submission.
    pub bundle: u64,
    /// Submissions under way at once.
    pub connections: u16,
    /// How long single observations are measured.
    pub window: Duration,
}

impl CosignBenchmark<'_> {
    /// The same log without and with the cosigner.
    pub async fn measure(&self, report: &mut Report) -> BenchResult<()> {
        let workload = Workload::new(self.tags)?;
        let (log, cosigner) = (free_address()?, free_address()?);
        let mut settings = Settings {
            program: self.server,
            directory: self.directory,
            witnesses: workload.vkeys(),
            batch_interval_ms: self.batch_interval_ms,
            connections: self.connections.max(64),
            listen: log,
            without_cosigner: None,
        };
        let mut server = Server::start(&settings)?;
        let mut ingest = Ingest::new(&server, workload, self.bundle, self.connections.into())?;
        let deadline = Instant::now() + LIMIT;
        ingest.run("without a cosigner", self.entries, deadline).await?;
        eprintln!("without a cosigner: one observation at a time until it is published");
        let alone = ingest::one_at_a_time(&mut ingest, &server, SINGLE_CLIENTS, self.window, Wait::Published).await?;
        server.stop()?;

        let vkey = self.make_key()?;
        let policy = format!("log {}\nwitness {NAME} {vkey} http://{cosigner}\nquorum {NAME}\n", server.key);
        settings.demand(&policy)?;
        settings.without_cosigner = Some(NAME);
        server = Server::start(&settings)?;
        ingest.turn_to(&server);
        // As many again, so that the audit meets old and new tags.
        ingest.run("while the cosigner is away", self.entries, deadline).await?;
        let committed = ingest.entries;
        let start = Instant::now();
        let cosigner = self.start_cosigner(&cosigner, &server)?;
        let size = wait_published(&server, committed).await?;
        replayed(size, start.elapsed(), process::cpu(cosigner.id())?, report);

        let from = Instant::now();
        let progress = ingest.run("with the cosigner", self.entries, deadline).await?;
        let acknowledged = from.elapsed();
        wait_published(&server, ingest.entries).await?;
        under_load(progress.rate(), from.elapsed() - acknowledged, report);

        eprintln!("with the cosigner: one observation at a time until it is published");
        let with = ingest::one_at_a_time(&mut ingest, &server, SINGLE_CLIENTS, self.window, Wait::Published).await?;
        added(&alone, &with, report);
        let memory = process::memory(cosigner.id())?.peak;
        report.add(Row::new("auditing cosigner's memory at its greatest", memory, "MiB"));
        server.stop()
    }

    fn make_key(&self) -> BenchResult<String> {
        let made = Command::new(self.taglog)
            .args(["keygen", "--cosigner", "cosigner.example/bench", "--key"])
            .arg(self.directory.join("cosigner.key"))
            .output()?;
        if !made.status.success() {
            return Err(format!("taglog keygen: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    fn start_cosigner(&self, address: &str, server: &Server) -> BenchResult<CosignServe> {
        let config = self.directory.join("cosigner.toml");
        let text = format!(
            "key = [\"cosigner.key\"]\nstate = \"cosigner-state\"\nlisten = \"{address}\"\naudit = true\n\n\
             [[log]]\nvkey = [\"{}\"]\nurl = \"{}\"\n",
            server.key, server.url
        );
        fs::write(&config, text)?;
        CosignServe::start(self.taglog, &config)
    }
}

/// A running `taglog cosign serve`; killed when dropped.
struct CosignServe(Child);

impl CosignServe {
    fn start(program: &Path, config: &PathBuf) -> BenchResult<CosignServe> {
        let mut command = Command::new(program);
        command.args(["cosign", "serve", "--config"]).arg(config).env("RUST_LOG", "warn");
        let errors = File::create(config.with_extension("stderr"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?;
        let mut cosigner = CosignServe(child);
        let mut line = String::new();
        BufReader::new(cosigner.0.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        if line.is_empty() {
            let errors = fs::read_to_string(config.with_extension("stderr"))?;
            return Err(format!("the cosigner did not start: {errors}").into());
        }
        Ok(cosigner)
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for CosignServe {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address without a listener.
fn free_address() -> BenchResult<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits until this many observations are published; the size of the checkpoint.
async fn wait_published(server: &Server, observations: u64) -> BenchResult<u64> {
    let client = ingest::client(false)?;
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let response = client.get(format!("{}/checkpoint", server.url)).send().await?;
        if response.status().is_success() {
            let size = SignedCheckpoint::parse(&response.bytes().await?)?.unverified().size;
            // Rosters and seals come on top of the observations, so none of them can be missing.
            if size > observations {
                return Ok(size);
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Err("what was committed is not published in time".into())
}

fn replayed(size: u64, elapsed: Duration, cpu: Duration, report: &mut Report) {
    let rate = size as f64 / elapsed.as_secs_f64();
    let row = Row::new("auditing cosigner, replay of what is not published", rate, "/s").goal(Bound::AtLeast(20_000.0));
    let share = 100.0 * rate / report.machine.batch_all_cores;
    let row = row.beside(format!("{share:.0} % of Ed25519 in batches, all cores"));
    report.add(row.note(format!(
        "{size} entries in {:.1} s, {:.1} µs of processor time each; the goal is the one for ingest",
        elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / size as f64
    )));
}

fn under_load(rate: f64, behind: Duration, report: &mut Report) {
    let note = "server, load and cosigner share the cores";
    report.add(Row::new("ingest beside the auditing cosigner", rate, "/s").note(note.to_owned()));
    let row = Row::new("… its last entry is public after", behind.as_secs_f64(), "s").goal(Bound::AtMost(1.0));
    report.add(row.note("counted from the last acknowledgement".to_owned()));
}

fn added(alone: &Latency, with: &Latency, report: &mut Report) {
    for (what, quantile) in [("added until published, p50", 0.5), ("added until published, p99", 0.99)] {
        let (alone, with) = (alone.quantile_ms(quantile), with.quantile_ms(quantile));
        let row = Row::new(what, with - alone, "ms");
        let row = row.goal(Bound::AtMost(1000.0)).note(format!("{with:.0} ms instead of {alone:.0} ms"));
        report.add(row.beside(format!("{:.0} fsyncs", (with - alone) / report.machine.fsync_ms)));
    }
}
