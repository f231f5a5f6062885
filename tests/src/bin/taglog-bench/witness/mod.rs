//! The witness agent: a first scan of a real registry, beside what that registry gives at best; and the memory that
//! many watched tags take.

mod fake;
mod limit;
mod run;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use taglog_tests::{
    Agent, Registry, Witness,
    agent::{log_table, registry_table, watch_table},
    push_quickly,
    server::lasting_address,
};
use tokio::runtime::Runtime;

use self::{fake::FakeRegistry, limit::Limit, run::Scan};
use crate::{
    Outcome, process,
    report::{Bound, Report, Row},
    server::{Server, Settings},
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
const LIMIT: Duration = Duration::from_secs(900);

/// What is measured.
pub struct Part<'a> {
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

impl Part<'_> {
    /// Both measurements.
    pub fn measure(&self, runtime: &Runtime, report: &mut Report) -> Outcome<()> {
        self.first_scan(runtime, report)?;
        self.many_tags(runtime, report)
    }

    /// A log in a directory of its own.
    fn log(&self, witness: &Witness, name: &str, batch_interval_ms: u64) -> Outcome<Server> {
        let directory: PathBuf = self.directory.join(name);
        std::fs::create_dir(&directory)?;
        let witnesses = vec![witness.vkey().to_string()];
        Server::start(&Settings {
            program: self.server,
            directory: &directory,
            witnesses,
            batch_interval_ms,
            connections: 64,
        })
    }

    /// `taglog witness run --once` over a real registry.
    fn first_scan(&self, runtime: &Runtime, report: &mut Report) -> Outcome<()> {
        eprintln!("pushing {} tags to a registry", self.tags);
        let registry = Registry::start();
        let images: Vec<(String, String)> = (0..self.tags).map(|tag| (format!("t{tag}"), tag.to_string())).collect();
        runtime.block_on(push_quickly(&registry, REPOSITORY, &images));
        let tags: Vec<String> = images.into_iter().map(|(tag, _)| tag).collect();

        eprintln!("plain HEAD and GET of each");
        let plain = || runtime.block_on(Limit::measure(&registry, REPOSITORY, &tags, CONCURRENCY));
        let before = plain()?;
        let witness = Witness::new(1);
        let mut log = self.log(&witness, "scan", self.batch_interval_ms)?;
        let watches = [watch_table(&registry.repository(REPOSITORY), &["glob:*"], "")];
        let mut agent = agent_for(&witness, &log, &registry.host, &watches);
        eprintln!("taglog witness run --once");
        let registry_cpu = process::cpu(registry.id())?;
        let scan = Scan::once(&mut agent, runtime, self.tags, LIMIT)?;
        let registry_cpu = process::cpu(registry.id())?.saturating_sub(registry_cpu);
        let limit = before.or_better(plain()?);
        log.stop()?;

        let micros = |time: Duration| time.as_secs_f64() * 1e6 / self.tags as f64;
        let row = Row::new("plain HEAD and GET of a tag", limit.rate(), "/s");
        report.add(row.note(format!("{CONCURRENCY} at once; {}", limit.describe())));
        let rate = self.tags as f64 / scan.scanned.as_secs_f64();
        let row = Row::new("first scan: looked at, signed, spooled", rate, "/s").goal(Bound::AtLeast(500.0));
        let row = row.beside(format!("{:.0} % of plain HEAD and GET", 100.0 * rate / limit.rate()));
        report.add(row.note(format!("{} tags in {:.1} s", self.tags, scan.scanned.as_secs_f64())));
        let rate = self.tags as f64 / scan.elapsed.as_secs_f64();
        let row = Row::new("… until everything is delivered", rate, "/s");
        report.add(row.note(format!("{:.1} s; batches of {} ms", scan.elapsed.as_secs_f64(), self.batch_interval_ms)));
        let (agent_cpu, strict) = (micros(scan.usage.cpu), report.machine.strict_one_core);
        let row = Row::new("processor time of the agent for a tag", agent_cpu, "µs");
        let row = row.beside(format!("{:.1} strict verifications", agent_cpu * strict / 1e6));
        report.add(row.note(format!("all until delivered; the registry's is {:.0} µs", micros(registry_cpu))));
        let row = Row::new("agent memory at its greatest (VmHWM)", scan.usage.peak, "MiB").goal(Bound::AtMost(100.0));
        report.add(row.note(format!("{} tags, one scan", self.tags)));
        Ok(())
    }

    /// Many tags in many repositories, kept watched.
    fn many_tags(&self, runtime: &Runtime, report: &mut Report) -> Outcome<()> {
        let registry = FakeRegistry::start(self.watched, TAGS_PER_REPOSITORY)?;
        let witness = Witness::new(2);
        let mut log = self.log(&witness, "memory", SHORT_BATCH_MS)?;
        let watch = |name| watch_table(&format!("{}/{name}", registry.host), &["glob:*"], "");
        let watches: Vec<String> = registry.repositories().map(watch).collect();
        let mut agent = agent_for(&witness, &log, &registry.host, &watches);
        eprintln!("taglog witness run, {} tags in {} repositories", self.watched, watches.len());
        let scan = Scan::watching(&mut agent, runtime, self.watched, LIMIT)?;
        let resident = process::memory(agent.id())?.resident;
        agent.terminate();
        eprintln!("starting again");
        let again = Scan::again(&mut agent, runtime, self.watched, LIMIT)?;
        agent.terminate();
        log.stop()?;

        let rate = self.watched as f64 / scan.scanned.as_secs_f64();
        let row = Row::new("scan of a registry that costs nothing", rate, "/s");
        report.add(row.note(format!("{} tags in {} repositories", self.watched, watches.len())));
        let goal = Bound::AtMost(300.0);
        let row = Row::new("agent memory, many tags (VmHWM)", scan.usage.peak, "MiB").goal(goal);
        let kib = scan.usage.peak * 1024.0 / self.watched as f64;
        let row = row.beside(format!("{kib:.1} KiB a tag"));
        report.add(row.note(format!("{} tags scanned and delivered; then {resident:.0} MiB", self.watched)));
        let row = Row::new("… started again and scanned again (VmHWM)", again.usage.peak, "MiB").goal(goal);
        report.add(row.note(format!("{:.1} s until all were looked at again", again.scanned.as_secs_f64())));
        Ok(())
    }
}

/// An agent that may ask as much as it can, and looks at everything once an hour.
fn agent_for(witness: &Witness, log: &Server, host: &str, watches: &[String]) -> Agent {
    let agent = Agent::new(witness);
    agent.trust("trust", &log.key, &log.url);
    let tables = [&[log_table("trust"), registry_table(host, CONCURRENCY)], watches].concat();
    agent.configure(&format!("interval = \"1h\"\nlist-interval = \"1h\"\nlisten = {:?}\n", lasting_address()), &tables);
    agent
}
