//! The witness agent: a first scan of a real registry, beside what that registry gives at best; and the memory that
//! many watched tags take.

mod fake;
mod limit;
mod run;

use std::{path::Path, time::Duration};

use taglog_tests::{
    Agent, Registry, Witness,
    agent::{log_table, registry_table, watch_table},
    push_quickly,
};
use tokio::runtime::Runtime;

use self::{fake::FakeRegistry, limit::Limit, run::Scan};
use crate::{
    BenchResult, process,
    report::{Bound, Report, Row},
    server::{ANYWHERE, Server, Settings},
};

/// Requests under way at once, of the agent and of what it is compared with.
const CONCURRENCY: usize = 32;
/// The repository in the real registry.
const REPOSITORY: &str = "bench/app";
/// Tags in each repository of the registry that is none.
const TAGS_PER_REPOSITORY: usize = 1_000;
/// Batches are short where only memory is measured, so that it does not take longer than it needs.
const SHORT_BATCH_MS: u64 = 100;
/// How long anything of this part may take.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// What is measured.
pub struct WitnessBenchmark<'a> {
    /// The server's program.
    pub server: &'a Path,
    /// Where logs are made.
    pub directory: &'a Path,
    /// How long the log collects a batch.
    pub batch_interval_ms: u64,
    /// Tags of the real registry.
    pub tags: usize,
    /// Tags whose memory is measured.
    pub watched: usize,
}

impl WitnessBenchmark<'_> {
    /// Both measurements.
    pub fn measure(&self, runtime: &Runtime, report: &mut Report) -> BenchResult<()> {
        self.first_scan(runtime, report)?;
        self.many_tags(runtime, report)
    }

    /// A new log that admits the witness.
    fn log(&self, witness: &Witness, batch_interval_ms: u64) -> BenchResult<Server> {
        let directory = tempfile::tempdir_in(self.directory)?.keep();
        let witnesses = vec![witness.vkey().to_string()];
        let program = self.server;
        let listen = ANYWHERE.to_owned();
        let settings = Settings {
            program,
            directory: &directory,
            witnesses,
            batch_interval_ms,
            connections: 64,
            listen,
            without_cosigner: None,
        };
        Server::start(&settings)
    }

    /// First scans of a real registry.
    fn first_scan(&self, runtime: &Runtime, report: &mut Report) -> BenchResult<()> {
        eprintln!("pushing {} tags to a registry", self.tags);
        let registry = Registry::start();
        let images: Vec<(String, String)> = (0..self.tags).map(|tag| (format!("t{tag}"), tag.to_string())).collect();
        runtime.block_on(push_quickly(&registry, REPOSITORY, &images));
        let tags: Vec<String> = images.into_iter().map(|(tag, _)| tag).collect();

        eprintln!("plain HEAD and GET of each");
        let plain = || runtime.block_on(Limit::measure(&registry, REPOSITORY, &tags, CONCURRENCY));
        let before = plain()?;
        let registry_cpu = process::cpu(registry.id())?;
        let scan = self.scan(&registry, |agent| Scan::watching(agent, runtime, self.tags, TIME_LIMIT))?;
        let registry_cpu = process::cpu(registry.id())?.saturating_sub(registry_cpu);
        let limit = before.or_better(plain()?);
        let once = self.scan(&registry, |agent| Scan::once(agent, self.tags, TIME_LIMIT))?;

        let (rate, micros) = (|time| self.tags as f64 / seconds(time), |time| seconds(time) * 1e6 / self.tags as f64);
        let row = Row::new("plain HEAD and GET of a tag", limit.rate(), "/s");
        report.add(row.note(format!("{CONCURRENCY} at once; {}", limit.describe())));
        let row = Row::new("first scan: looked at, signed, spooled", rate(scan.scanned), "/s");
        let row = row.goal(Bound::AtLeast(500.0));
        let row = row.beside(format!("{:.0} % of plain HEAD and GET", 100.0 * rate(scan.scanned) / limit.rate()));
        report.add(row.note(format!("{} tags in {:.1} s", self.tags, seconds(scan.scanned))));
        let row = Row::new("… until all is delivered", rate(scan.elapsed), "/s");
        report.add(row.note(format!("{:.1} s; batches of {} ms", seconds(scan.elapsed), self.batch_interval_ms)));
        let row = Row::new("… with --once, until it has ended", rate(once.elapsed), "/s");
        report.add(row.note(format!("{:.1} s; the log has the manifests too", seconds(once.elapsed))));
        let (cpu, strict) = (micros(scan.usage.cpu), report.machine.strict_one_core);
        let row = Row::new("processor time of the agent for a tag", cpu, "µs");
        let row = row.beside(format!("{:.1} strict verifications", cpu * strict / 1e6));
        report.add(row.note(format!("until all is delivered; of the registry {:.0} µs", micros(registry_cpu))));
        let peak = scan.usage.peak.max(once.usage.peak);
        let row = Row::new("agent memory at its greatest (VmHWM)", peak, "MiB").goal(Bound::AtMost(100.0));
        report.add(row.note(format!("{} tags; with --once {:.0} MiB", self.tags, once.usage.peak)));
        Ok(())
    }

    /// A scan of the real registry by an agent that knows nothing yet, into a log that has nothing yet.
    fn scan(&self, registry: &Registry, run: impl FnOnce(&mut Agent) -> BenchResult<Scan>) -> BenchResult<Scan> {
        let witness = Witness::new(1);
        let mut log = self.log(&witness, self.batch_interval_ms)?;
        let mut agent = Agent::new(&witness);
        let watches = [watch_table(&registry.repository(REPOSITORY), &["glob:*"], "")];
        configure(&agent, &log, &registry.host, "1h", &watches);
        eprintln!("a first scan by taglog witness run");
        let scan = run(&mut agent)?;
        drop(agent);
        log.stop()?;
        Ok(scan)
    }

    /// Many tags in many repositories, kept watched.
    fn many_tags(&self, runtime: &Runtime, report: &mut Report) -> BenchResult<()> {
        let registry = FakeRegistry::start(self.watched, TAGS_PER_REPOSITORY)?;
        let witness = Witness::new(2);
        let mut log = self.log(&witness, SHORT_BATCH_MS)?;
        let watch = |name| watch_table(&format!("{}/{name}", registry.host), &["glob:*"], "");
        let watches: Vec<String> = registry.repositories().map(watch).collect();
        let mut agent = Agent::new(&witness);
        configure(&agent, &log, &registry.host, "1h", &watches);
        eprintln!("taglog witness run, {} tags in {} repositories", self.watched, watches.len());
        let scan = Scan::watching(&mut agent, runtime, self.watched, TIME_LIMIT)?;
        let resident = process::memory(agent.id())?.resident;
        agent.terminate();
        eprintln!("starting again, and looking again as fast as it goes");
        configure(&agent, &log, &registry.host, "1s", &watches);
        let again = Scan::again(&mut agent, runtime, self.watched, TIME_LIMIT)?;
        agent.terminate();
        log.stop()?;

        let rate = |time| self.watched as f64 / seconds(time);
        let row = Row::new("first scan of a registry that costs little", rate(scan.scanned), "/s");
        report.add(row.note(format!("{} tags in {} repositories", self.watched, watches.len())));
        let goal = Bound::AtMost(300.0);
        let row = Row::new("agent memory, many tags (VmHWM)", scan.usage.peak, "MiB").goal(goal);
        let row = row.beside(format!("{:.1} KiB a tag", scan.usage.peak * 1024.0 / self.watched as f64));
        report.add(row.note(format!("{} tags scanned and delivered; then {resident:.0} MiB", self.watched)));
        report.add(Row::new("looks at tags that have not changed", rate(again.scanned), "/s"));
        let row = Row::new("… memory after a restart (VmHWM)", again.usage.peak, "MiB").goal(goal);
        report.add(row.note(format!("{} tags", self.watched)));
        Ok(())
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// The agent may ask as much as it can.
fn configure(agent: &Agent, log: &Server, host: &str, interval: &str, watches: &[String]) {
    agent.trust("trust", &log.key, &log.url);
    let tables = [&[log_table("trust"), registry_table(host, CONCURRENCY)], watches].concat();
    agent.configure(&format!("interval = {interval:?}\nlist-interval = \"1h\"\nlisten = \"127.0.0.1:0\"\n"), &tables);
}
