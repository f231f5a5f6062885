//! Submits observations: in bundles as fast as the log takes them, or one at a time.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use reqwest::{Client, StatusCode};
use tokio::task::LocalSet;

use crate::{
    BenchResult, Failure, process,
    server::Server,
    workload::{Bundle, Workload},
};

/// How long a client waits for one answer before the benchmark gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Latencies, in microseconds up to a minute.
pub struct Latency(Histogram<u64>);

impl Latency {
    /// Nothing measured yet.
    pub fn new() -> BenchResult<Latency> {
        Ok(Latency(Histogram::new_with_bounds(1, 60_000_000, 3)?))
    }

    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A quantile in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A client with kept-alive connections, as agents and verifiers have.
pub fn client(gzip: bool) -> BenchResult<Client> {
    let builder = Client::builder().no_proxy().tcp_nodelay(true).timeout(ANSWER_TIMEOUT);
    // The server closes idle connections after 10 s, which a generator that is busy signing does not notice.
    let builder = builder.pool_idle_timeout(Duration::from_secs(5));
    Ok(builder.gzip(gzip).pool_max_idle_per_host(usize::MAX).build()?)
}

/// The submitting side: knows what the log has.
pub struct Ingest {
    client: Client,
    url: String,
    server: u32,
    workload: Workload,
    bundle: u64,
    connections: usize,
    /// Observations that the log has acknowledged; also the number of the next one.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one phase of ingest did.
pub struct Progress {
    /// Observations acknowledged.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// From the first submission to the last answer.
    pub elapsed: Duration,
    /// Bytes that the server caused to be written.
    pub written: u64,
    /// The server's processor time by threads, as text.
    pub threads: String,
    cpu: Duration,
    own_cpu: Duration,
    /// When all had been sent or under way, and only answers were missing.
    drained: Duration,
    refused: u64,
    /// When how many observations were acknowledged.
    answers: Vec<(Duration, u64)>,
}

impl Progress {
    /// Observations per second.
    pub fn rate(&self) -> f64 {
        self.entries as f64 / self.elapsed.as_secs_f64()
    }

    /// The server's processor time for one observation.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.entries as f64
    }

    /// The least rate in any window of this length that lies between the first answer and the last
    /// submission; the mean when the phase was shorter than that.
    pub fn worst_window(&self, window: Duration) -> f64 {
        let Some((first, _)) = self.answers.first() else { return 0.0 };
        let starts = (0..).map(|i| *first + i * Duration::from_millis(250));
        let within = starts.take_while(|start| *start + window <= self.drained);
        let count = |start: Duration| {
            let inside = |at: Duration| at >= start && at < start + window;
            self.answers.iter().filter(|(at, _)| inside(*at)).map(|(_, count)| count).sum::<u64>()
        };
        within.map(count).min().map_or(self.rate(), |count| count as f64 / window.as_secs_f64())
    }

    /// The circumstances, as text.
    pub fn describe(&self) -> String {
        format!(
            "{} in {:.0} s; generator {:.2} cores, server {:.2}; {} refused for overload",
            self.entries,
            self.elapsed.as_secs_f64(),
            self.own_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            self.cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            self.refused,
        )
    }
}

/// What the clients of one phase share.
struct Shared {
    bundles: std::vec::IntoIter<Bundle>,
    start: Instant,
    drained: Duration,
    refused: u64,
    bytes: u64,
    answers: Vec<(Duration, u64)>,
}

/// What a process had used when a phase began.
struct Usage {
    cpu: Duration,
    own_cpu: Duration,
    written: u64,
    threads: BTreeMap<String, Duration>,
}

impl Usage {
    fn now(server: u32) -> BenchResult<Usage> {
        Ok(Usage {
            cpu: process::cpu(server)?,
            own_cpu: process::cpu(std::process::id())?,
            written: process::written(server)?,
            threads: process::cpu_by_thread(server)?,
        })
    }
}

impl Ingest {
    /// Nothing submitted yet.
    pub fn new(server: &Server, workload: Workload, bundle: u64, connections: usize) -> BenchResult<Ingest> {
        let url = format!("{}/api/v1/entries", server.url);
        Ok(Ingest {
            client: client(false)?,
            url,
            server: server.id(),
            workload,
            bundle,
            connections,
            entries: 0,
            bytes: 0,
        })
    }

    /// Goes on with the same log after a new start of its server.
    pub fn turn_to(&mut self, server: &Server) {
        self.server = server.id();
        self.url = format!("{}/api/v1/entries", server.url);
    }

    /// Signs the next `count` observations, then submits them as fast as the log takes them.
    pub async fn run(&mut self, what: &str, count: u64, deadline: Instant) -> BenchResult<Progress> {
        eprint!("{what}: signing {count} observations …");
        let bundles = self.workload.bundles(self.entries, count, self.bundle)?;
        let before = Usage::now(self.server)?;
        let start = Instant::now();
        let shared = Shared {
            bundles: bundles.into_iter(),
            start,
            drained: Duration::ZERO,
            refused: 0,
            bytes: 0,
            answers: Vec::new(),
        };
        let shared = Rc::new(RefCell::new(shared));
        self.submit_all(&shared, deadline).await?;
        let progress = progress(&before, &Usage::now(self.server)?, &shared.borrow());
        if progress.entries < count {
            return Err(format!("{what}: only {} of {count} observations in time", progress.entries).into());
        }
        self.entries += progress.entries;
        self.bytes += progress.bytes;
        eprintln!("\r{what}: {} entries in the log, {:.0}/s, {}", self.entries, progress.rate(), progress.describe());
        Ok(progress)
    }

    async fn submit_all(&self, shared: &Rc<RefCell<Shared>>, deadline: Instant) -> BenchResult<()> {
        let tasks = LocalSet::new();
        let submit = |_| tasks.spawn_local(submit(self.client.clone(), self.url.clone(), Rc::clone(shared), deadline));
        let clients: Vec<_> = (0..self.connections).map(submit).collect();
        tasks.await;
        for client in clients {
            client.await??;
        }
        Ok(())
    }
}

/// One client: submits bundles until there are none left.
async fn submit(client: Client, url: String, shared: Rc<RefCell<Shared>>, deadline: Instant) -> BenchResult<()> {
    while Instant::now() < deadline {
        let Some(bundle) = next_bundle(&shared) else { return Ok(()) };
        let Bundle { entries, bytes, body } = bundle;
        let request = client.post(&url).header("content-type", "application/octet-stream").body(body).build()?;
        let answer = send(&client, &request, &shared).await?;
        if answer.matches("\"added\"").count() as u64 != entries {
            return Err(unexpected(&answer));
        }
        let mut shared = shared.borrow_mut();
        let at = shared.start.elapsed();
        shared.answers.push((at, entries));
        shared.bytes += bytes;
    }
    Ok(())
}

fn next_bundle(shared: &Rc<RefCell<Shared>>) -> Option<Bundle> {
    let mut shared = shared.borrow_mut();
    let bundle = shared.bundles.next();
    if bundle.is_some() {
        shared.drained = shared.start.elapsed();
    }
    bundle
}

/// Sends until the log is not overloaded, as an agent does.
async fn send(client: &Client, request: &reqwest::Request, shared: &Rc<RefCell<Shared>>) -> BenchResult<String> {
    loop {
        let request = request.try_clone().ok_or("a submission cannot be repeated")?;
        let response = client.execute(request).await?;
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return Ok(response.text().await?);
        }
        shared.borrow_mut().refused += 1;
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        tokio::time::sleep(Duration::from_secs(after.unwrap_or(1))).await;
    }
}

fn unexpected(answer: &str) -> Failure {
    let other = answer.find("\"error\"").unwrap_or(0);
    let shown: String = answer.get(other..).unwrap_or(answer).chars().take(300).collect();
    format!("the log did not add an observation: {shown}").into()
}

fn progress(before: &Usage, after: &Usage, shared: &Shared) -> Progress {
    let mut answers = shared.answers.clone();
    answers.sort_unstable();
    let entries = answers.iter().map(|(_, count)| count).sum();
    Progress {
        entries,
        bytes: shared.bytes,
        elapsed: answers.last().map_or(Duration::ZERO, |(at, _)| *at),
        written: after.written.saturating_sub(before.written),
        threads: describe_threads(before, after, entries),
        cpu: after.cpu.saturating_sub(before.cpu),
        own_cpu: after.own_cpu.saturating_sub(before.own_cpu),
        drained: shared.drained,
        refused: shared.refused,
        answers,
    }
}

/// `by threads: rocksdb:low 9, sequencer 31, ended 52 µs`: names of threads that took a microsecond or
/// more for an entry. Threads that have ended since then are known by their sum alone.
fn describe_threads(before: &Usage, after: &Usage, entries: u64) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / entries.max(1) as f64;
    let used = |(name, time): (&String, &Duration)| {
        let earlier = before.threads.get(name).copied().unwrap_or_default();
        (name.clone(), time.saturating_sub(earlier))
    };
    let mut threads: BTreeMap<String, Duration> = after.threads.iter().map(used).collect();
    let ended = after.cpu.saturating_sub(before.cpu).saturating_sub(threads.values().sum());
    threads.insert("ended".to_owned(), ended);
    let shown = threads.iter().filter(|(_, time)| micros(**time) >= 1.0);
    let shown: Vec<String> = shown.map(|(name, time)| format!("{name} {:.0}", micros(*time))).collect();
    format!("by threads: {} µs", shown.join(", "))
}

/// What a client that submits one observation waits for.
#[derive(Clone, Copy)]
pub enum Wait {
    /// That it is durable, under a signed checkpoint.
    Acknowledged,
    /// That it is published: cosigned too.
    Published,
}

/// Clients that submit one observation each, wait for the answer, and submit the next.
pub async fn one_at_a_time(
    ingest: &mut Ingest,
    server: &Server,
    clients: usize,
    window: Duration,
    wait: Wait,
) -> BenchResult<Latency> {
    let client = client(false)?;
    let shared = Rc::new(RefCell::new((Latency::new()?, ingest.entries)));
    let end = Instant::now() + window;
    let tasks = LocalSet::new();
    let query = if let Wait::Published = wait { "?wait=published" } else { "" };
    let url = format!("{}/api/v1/entries{query}", server.url);
    let spawn = |_| {
        let (client, url, workload) = (client.clone(), url.clone(), ingest.workload.clone());
        tasks.spawn_local(submit_singly(client, url, workload, Rc::clone(&shared), end))
    };
    let handles: Vec<_> = (0..clients).map(spawn).collect();
    tasks.await;
    for handle in handles {
        handle.await??;
    }
    let (latency, next) = Rc::into_inner(shared).ok_or("a client still runs")?.into_inner();
    ingest.entries = next;
    Ok(latency)
}

async fn submit_singly(
    client: Client,
    url: String,
    workload: Workload,
    shared: Rc<RefCell<(Latency, u64)>>,
    end: Instant,
) -> BenchResult<()> {
    while Instant::now() < end {
        let number = {
            let (_, next) = &mut *shared.borrow_mut();
            *next += 1;
            *next - 1
        };
        let entry = workload.observation(number)?.to_string();
        let start = Instant::now();
        let response = client.post(&url).header("content-type", "text/plain").body(entry).send().await?;
        let answer = response.text().await?;
        shared.borrow_mut().0.record(start.elapsed());
        if !answer.contains("\"added\"") {
            return Err(unexpected(&answer));
        }
    }
    Ok(())
}
