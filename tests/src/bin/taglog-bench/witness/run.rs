//! An agent at work: how far it is, by its metrics and its status, and what it uses.

use std::time::{Duration, Instant};

use taglog_tests::{Agent, Status, agent::metric};
use tokio::runtime::Runtime;

use crate::{BenchResult, process};

/// How often the agent is measured: each time costs it a response.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What an agent has used.
#[derive(Default)]
pub struct Usage {
    /// The most memory that was ever resident, in MiB.
    pub peak: f64,
    /// Processor time.
    pub cpu: Duration,
}

impl Usage {
    /// Keeps the last values when the process has just ended.
    fn look(&mut self, process: u32) {
        if let (Ok(memory), Ok(cpu)) = (process::memory(process), process::cpu(process)) {
            *self = Usage { peak: memory.peak, cpu };
        }
    }
}

/// One scan of all tags.
pub struct Scan {
    /// Until all were polled, signed and spooled.
    pub scanned: Duration,
    /// Until everything was delivered as well.
    pub elapsed: Duration,
    /// What the agent has used by then.
    pub usage: Usage,
}

impl Scan {
    /// Runs the agent with `--once`, to its end. What it has done by when, it does not tell.
    pub fn once(agent: &mut Agent, tags: usize, limit: Duration) -> BenchResult<Scan> {
        let start = Instant::now();
        agent.launch(&["--once"]);
        let mut usage = Usage::default();
        let ended = loop {
            usage.look(agent.id());
            if let Some(ended) = agent.ended() {
                break ended;
            }
            pause(start, limit)?;
        };
        let elapsed = start.elapsed();
        if ended.code != Some(0) {
            return Err(format!("the agent did not look at and deliver everything: {ended:?}").into());
        }
        check_delivered(&agent.status(), tags)?;
        Ok(Scan { scanned: elapsed, elapsed, usage })
    }

    /// Runs the agent until every tag is reported and delivered, and leaves it running.
    pub fn watching(agent: &mut Agent, runtime: &Runtime, tags: usize, limit: Duration) -> BenchResult<Scan> {
        let watch = Watch::start(agent, limit)?;
        let scanned = watch.until(agent, runtime, "taglog_witness_reports_total", tags)?;
        let elapsed = watch.until(agent, runtime, "taglog_witness_delivered_total", tags)?;
        check_delivered(&agent.status(), tags)?;
        let mut usage = Usage::default();
        usage.look(agent.id());
        Ok(Scan { scanned, elapsed, usage })
    }

    /// Runs an agent that knows every tag until it has polled all of them again, and leaves it running.
    pub fn again(agent: &mut Agent, runtime: &Runtime, tags: usize, limit: Duration) -> BenchResult<Scan> {
        let watch = Watch::start(agent, limit)?;
        let scanned = watch.until(agent, runtime, "taglog_witness_looks_total", tags)?;
        let mut usage = Usage::default();
        usage.look(agent.id());
        Ok(Scan { scanned, elapsed: scanned, usage })
    }
}

/// An agent that was started, seen from outside.
struct Watch {
    start: Instant,
    limit: Duration,
    client: reqwest::Client,
    metrics: String,
}

impl Watch {
    fn start(agent: &mut Agent, limit: Duration) -> BenchResult<Watch> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let start = Instant::now();
        agent.launch(&[]);
        Ok(Watch { start, limit, client, metrics: format!("{}/metrics", agent.url()) })
    }

    /// The time from the start until a metric has reached `count`.
    fn until(&self, agent: &mut Agent, runtime: &Runtime, metric: &str, count: usize) -> BenchResult<Duration> {
        while self.sum(runtime, metric)? < count as f64 {
            if let Some(ended) = agent.ended() {
                return Err(format!("the agent ended: {ended:?}").into());
            }
            pause(self.start, self.limit)?;
        }
        Ok(self.start.elapsed())
    }

    /// A metric now, over all its labels; nothing yet when the agent does not answer.
    fn sum(&self, runtime: &Runtime, name: &str) -> BenchResult<f64> {
        runtime.block_on(async {
            let Ok(answer) = self.client.get(&self.metrics).send().await else { return Ok(0.0) };
            Ok(metric(&answer.error_for_status()?.text().await?, name, ""))
        })
    }
}

fn pause(start: Instant, limit: Duration) -> BenchResult<()> {
    if start.elapsed() > limit {
        return Err(format!("the agent is not done after {} s", limit.as_secs()).into());
    }
    std::thread::sleep(POLL_INTERVAL);
    Ok(())
}

/// Every tag was seen, and the log has everything.
fn check_delivered(status: &Status, tags: usize) -> BenchResult<()> {
    let seen = status.tags().iter().filter(|tag| tag["seen"].is_string()).count();
    let delivered = status.logs().iter().filter_map(|log| log["delivered"].as_u64()).sum::<u64>();
    if seen == tags && delivered == tags as u64 && status.pending() == 0 {
        return Ok(());
    }
    Err(format!("{seen} of {tags} tags seen, {delivered} reports delivered, {} pending", status.pending()).into())
}
