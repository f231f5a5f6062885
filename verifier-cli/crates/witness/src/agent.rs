//! The agent: the spool, a delivery for each log, a scheduler for each registry.
//!
//! [`AgentSetup`] is the checked configuration, read before anything is started, so that a reload with an invalid
//! configuration does not affect the running agent. An [`Agent`] runs from one reload to the next.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use taglog_proto::{
    name::Repository,
    note::{SigningKey, VerifierKey},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    alarm::{AlarmKind, Alarms},
    clock::Clock,
    config::{Config, RepositoryWatch},
    deliver::Delivery,
    http,
    progress::FirstPolls,
    push::{MAX_EVENTS, PollRequest},
    spool::{OpenedSpool, Spool, SpoolError, SpoolGuard, WatchedTagRow},
    watch::{
        WatchedRepository,
        confirm::{confirm_all, keep_confirming},
        limiter::RequestLimiter,
        resolver::{Reporter, TagResolver},
        scheduler::RegistryScheduler,
    },
};
use taglog_base::config_file::ConfigError;
use taglog_base::progress::SharedProgress;
use taglog_base::text::path_line;
use taglog_log_client::key::{KeyError, read_key};
use taglog_log_client::{
    ClientError, LogClient,
    memory::Memory,
    trust::{Trust, TrustError},
};
use taglog_oci_registry::{Login, Registry, RegistryError, RegistryOptions};
use taglog_service::listener::Listener;
use taglog_service::task_group::TaskGroup;

/// Added to the timeout for logs, which wait for publication before they answer.
const PUBLICATION: Duration = Duration::from_secs(5);
/// How long tasks may take to end when the agent stops.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How long to wait for the lock of the spool: `status` holds it for a moment to see whether an agent runs.
const IN_USE_TIME: Duration = Duration::from_secs(2);

/// The message of the alarm about a damaged spool.
const RECOVERED: &str = "the spool was damaged and set aside: the signed entries that were found in it are delivered again, every \
                         tag is reported again, and repositories are no longer confirmed as a whole";

/// The interval of updating gauges and of checking for free space.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// Why the agent cannot start.
#[derive(Debug, Error)]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The witness's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A trust file.
    #[error("{path}: {error}", path = path_line(.path))]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TrustError,
    },
    /// A log without an address.
    #[error("{0}: the trust file names no address for the log: add url to its [[log]]")]
    NoAddress(PathBuf),
    /// The same log twice.
    #[error("log {0} is named twice")]
    SameLog(String),
    /// A log's address, or TLS.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// TLS.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The address to listen at.
    #[error("cannot listen at {address}: {error}")]
    Listen { address: std::net::SocketAddr, error: std::io::Error },
}

/// A checked configuration with its key and trust files.
#[derive(Debug)]
pub struct AgentSetup {
    /// The configuration.
    pub config: Config,
    /// The witness's key.
    pub key: Arc<SigningKey>,
    /// The logs and their clients.
    pub logs: Vec<(Trust, LogClient)>,
    /// The timeout for one exchange with a registry.
    pub timeout: Duration,
}

impl AgentSetup {
    /// Reads a configuration, the key and the trust files. Sends nothing. `timeout` is for each exchange with a registry or
    /// a log.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn read(path: &Path, timeout: Duration) -> Result<AgentSetup, AgentError> {
        let config = Config::read(path)?;
        let key = Arc::new(read_key(&config.key)?);
        let mut logs: Vec<(Trust, LogClient)> = Vec::new();
        for log in &config.logs {
            let trust =
                Trust::read(&log.trust).map_err(|error| AgentError::Trust { path: log.trust.clone(), error })?;
            let url = log
                .url
                .clone()
                .or_else(|| trust.url.clone())
                .ok_or_else(|| AgentError::NoAddress(log.trust.clone()))?;
            if logs.iter().any(|(other, _)| other.log == trust.log) {
                return Err(AgentError::SameLog(trust.log.to_string()));
            }
            logs.push((trust, LogClient::new(&url, timeout + PUBLICATION)?));
        }
        Ok(AgentSetup { config, key, logs, timeout })
    }

    /// The witness's id.
    pub fn witness(&self) -> String {
        let key = self.key.verifier_key();
        format!("{}+{}", key.name(), key.key_id())
    }
}

/// Access to registries with the options of a configuration.
///
/// # Errors
/// [`RegistryError::Setup`].
pub fn registry(config: &Config, login: Login, timeout: Duration) -> Result<Registry, RegistryError> {
    let plain = config.registries.iter().filter(|(_, registry)| registry.plain_http);
    Registry::new(RegistryOptions {
        plain_http: plain.map(|(host, _)| host.clone()).collect(),
        timeout,
        login,
        docker_config: None,
    })
}

/// The running agent.
pub struct Agent {
    spool: Spool,
    guard: SpoolGuard,
    deliveries: Vec<Delivery>,
    schedulers: Vec<RegistryScheduler>,
    repositories: Vec<Arc<WatchedRepository>>,
    reporter: Reporter,
    /// The queue for poll requests, by registry.
    poll_requests: BTreeMap<String, mpsc::Sender<PollRequest>>,
    config: Config,
    witness: String,
}

/// The result of a run with `--once`.
#[derive(Debug, Default)]
pub struct SinglePass {
    /// Failed polls and deliveries.
    pub failures: Vec<String>,
    /// Whether a log misbehaves.
    pub misbehaved: bool,
}

impl Agent {
    /// Opens the spool and sets up all tasks. Sends nothing.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn new(prepared: AgentSetup, once: bool, progress: SharedProgress) -> Result<Agent, AgentError> {
        let witness = prepared.witness();
        let AgentSetup { config, key, logs, timeout } = prepared;
        let vkeys: Vec<VerifierKey> = logs.iter().map(|(trust, _)| trust.log.clone()).collect();
        let (spool, guard, opened) = open_spool(&config.state, key.verifier_key(), &vkeys, config.spool_limit).await?;
        let alarms = Alarms::new(spool.clone(), &opened.alarms);
        if let Some(aside) = &opened.recovered {
            let kept = Some(aside.display().to_string());
            alarms.raise("spool", AlarmKind::SpoolDamaged, RECOVERED, kept).await;
        }
        let reporter = Reporter {
            key,
            spool: spool.clone(),
            alarms: alarms.clone(),
            clock: Clock::start(),
            gone: config.gone,
            confirm: config.confirm,
            recorded: watch::Sender::new(0),
        };
        let log_ids = opened.logs.clone();
        let repositories = watched(&config.watches, opened);
        let by_name = |watched: &Arc<WatchedRepository>| (watched.repository().to_string(), Arc::clone(watched));
        let by_name: Arc<BTreeMap<_, _>> = Arc::new(repositories.iter().map(by_name).collect());
        let deliveries = logs.into_iter().zip(log_ids).map(|((trust, client), id)| Delivery {
            log: trust.log.clone(),
            trust,
            id,
            client,
            witness: reporter.key.verifier_key().clone(),
            spool: spool.clone(),
            memory: Memory::new(config.state.clone()),
            alarms: alarms.clone(),
            publish_deadline: config.publish_deadline,
            repositories: Arc::clone(&by_name),
        });
        let deliveries = deliveries.collect();
        let progress = FirstPolls::new(progress);
        let (schedulers, poll_requests) = schedulers(&config, timeout, &repositories, &reporter, once, &progress)?;
        Ok(Agent { spool, guard, deliveries, schedulers, repositories, reporter, poll_requests, config, witness })
    }

    /// The numbers of watched tags and repositories; lists may add tags.
    pub fn size(&self) -> (usize, usize) {
        (self.repositories.iter().map(|watched| watched.watched_tags().len()).sum(), self.repositories.len())
    }

    /// Polls, reports and delivers until `stop` is cancelled.
    ///
    /// # Errors
    /// The name of a task that ended unexpectedly; then all others were stopped too.
    pub async fn run(
        self,
        listener: Option<Arc<Listener>>,
        metrics: PrometheusHandle,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let mut tasks = TaskGroup::default();
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        if let Some(listener) = listener {
            let router = http::router(&self.config.pushes, sender.clone(), metrics);
            let stop = stop.clone();
            tasks.start("serving metrics and pushes", async move {
                if let Err(error) = listener.serve(router, stop).await {
                    tracing::error!(%error, "metrics and pushes are no longer served");
                }
            });
        }
        tasks.start("receiving poll requests", forward(receiver, self.poll_requests, stop.clone()));
        tasks.start("confirming repositories", keep_confirming(self.reporter.clone(), self.repositories, stop.clone()));
        if let Some(url) = self.config.alarm_webhook {
            let (alarms, witness, stop) = (self.reporter.alarms.clone(), self.witness, stop.clone());
            tasks.start("sending alarms", async move { alarms.send_on(url, witness, stop).await });
        }
        for delivery in self.deliveries {
            tasks.start("delivery to a log", delivery.run(self.reporter.recorded.subscribe(), stop.clone()));
        }
        for scheduler in self.schedulers {
            let stop = stop.clone();
            tasks.start("watching a registry", async move { drop(scheduler.run(stop).await) });
        }
        let maintenance = maintain(self.spool.clone(), self.reporter.alarms.clone(), stop.clone());
        tasks.start("maintaining the spool", maintenance);
        let outcome = tasks.run(&stop, STOP_TIME).await;
        drop((sender, self.spool, self.reporter));
        close(self.guard).await;
        outcome
    }

    /// Polls every tag once, delivers all entries, and ends (`--once`).
    pub async fn run_once(self, stop: CancellationToken) -> SinglePass {
        let mut failures = Vec::new();
        let mut schedulers: JoinSet<Vec<String>> = JoinSet::new();
        for scheduler in self.schedulers {
            schedulers.spawn(scheduler.run(stop.clone()));
        }
        while let Some(ended) = schedulers.join_next().await {
            match ended {
                Ok(failed) => failures.extend(failed),
                Err(error) => failures.push(format!("watching a registry ended unexpectedly: {error}")),
            }
        }
        confirm_all(&self.reporter, &self.repositories).await;
        let mut deliveries: JoinSet<Result<(), String>> = JoinSet::new();
        for delivery in self.deliveries {
            deliveries.spawn(async move { delivery.drain().await });
        }
        while let Some(ended) = deliveries.join_next().await {
            match ended {
                Ok(outcome) => failures.extend(outcome.err()),
                Err(error) => failures.push(format!("delivery ended unexpectedly: {error}")),
            }
        }
        let alarms = &self.reporter.alarms;
        if let Some(url) = &self.config.alarm_webhook
            && let Err(error) = alarms.send_unsent(url, &self.witness).await
        {
            failures.push(format!("an alarm could not be sent: {error}"));
        }
        let misbehaved = alarms.is_up(AlarmKind::Misbehaviour);
        drop((self.poll_requests, self.spool, self.reporter));
        close(self.guard).await;
        SinglePass { failures, misbehaved }
    }
}

/// Waits for the spool's last commit. Aborted tasks still have to drop their handles of it, and need a runtime thread for
/// that, so this one must not be blocked.
async fn close(guard: SpoolGuard) {
    // A panic there was reported; signed entries are on disk.
    let _ = tokio::task::spawn_blocking(|| guard.close()).await;
}

async fn open_spool(
    directory: &Path,
    witness: &VerifierKey,
    logs: &[VerifierKey],
    limit: u64,
) -> Result<(Spool, SpoolGuard, OpenedSpool), SpoolError> {
    let deadline = Instant::now() + IN_USE_TIME;
    loop {
        match Spool::open(directory, witness, logs, limit) {
            Err(SpoolError::Open(error)) if error.is_in_use() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

/// The watched repositories with their state in the spool.
fn watched(watches: &[RepositoryWatch], opened: OpenedSpool) -> Vec<Arc<WatchedRepository>> {
    let complete = opened.complete;
    let mut tags: BTreeMap<Repository, Vec<WatchedTagRow>> = BTreeMap::new();
    for row in opened.tags {
        tags.entry(row.image.repository.clone()).or_default().push(row);
    }
    let confirmed: BTreeMap<Repository, _> =
        opened.repositories.into_iter().filter_map(|row| Some((row.name, row.confirmed?))).collect();
    let watched = |watch: &RepositoryWatch| {
        let remembered = tags.remove(&watch.repository).unwrap_or_default();
        Arc::new(WatchedRepository::new(watch.clone(), remembered, confirmed.get(&watch.repository).copied(), complete))
    };
    watches.iter().map(watched).collect()
}

type Schedulers = (Vec<RegistryScheduler>, BTreeMap<String, mpsc::Sender<PollRequest>>);

/// A scheduler for each registry, and the queue for its poll requests.
fn schedulers(
    config: &Config,
    timeout: Duration,
    repositories: &[Arc<WatchedRepository>],
    reporter: &Reporter,
    once: bool,
    progress: &FirstPolls,
) -> Result<Schedulers, AgentError> {
    let (anonymous, logged_in) = (registry(config, Login::Never, timeout)?, registry(config, Login::Stored, timeout)?);
    let mut by_registry: BTreeMap<String, Vec<Arc<WatchedRepository>>> = BTreeMap::new();
    for watched in repositories {
        by_registry.entry(watched.repository().registry().to_owned()).or_default().push(Arc::clone(watched));
    }
    let (mut schedulers, mut poll_requests) = (Vec::new(), BTreeMap::new());
    for (host, repositories) in by_registry {
        let settings = config.registry(&host);
        let limiter = RequestLimiter::new(settings);
        let resolver = TagResolver::new(host.clone(), anonymous.clone(), logged_in.clone(), limiter, reporter.clone());
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let has_pushes = config.pushes.iter().any(|push| push.registry == host);
        let (resolver, concurrency, progress) = (Arc::new(resolver), settings.concurrency, progress.clone());
        schedulers.push(RegistryScheduler::new(
            resolver,
            repositories,
            receiver,
            concurrency,
            has_pushes,
            once,
            progress,
        ));
        poll_requests.insert(host, sender);
    }
    Ok((schedulers, poll_requests))
}

/// Forwards poll requests to the scheduler of their registry. A full queue makes the senders wait.
async fn forward(
    mut receiver: mpsc::Receiver<PollRequest>,
    schedulers: BTreeMap<String, mpsc::Sender<PollRequest>>,
    stop: CancellationToken,
) {
    let pass = async {
        while let Some(poll_request) = receiver.recv().await {
            metrics::counter!("taglog_witness_pushes_total", "registry" => poll_request.repository.registry().to_owned())
                .increment(1);
            if let Some(scheduler) = schedulers.get(poll_request.repository.registry()) {
                // A scheduler ends only when the agent does.
                let _ = scheduler.send(poll_request).await;
            }
        }
    };
    tokio::select! {
        () = pass => {}
        () = stop.cancelled() => {}
    }
}

/// Updates gauges, follows alarms that were acknowledged, and checks for free space in the spool. Ends when the spool is
/// damaged, which stops the agent; the next start recovers the spool.
async fn maintain(spool: Spool, alarms: Alarms, stop: CancellationToken) {
    loop {
        if let Err(error @ (SpoolError::Damaged(_) | SpoolError::Closed)) = maintain_once(&spool, &alarms).await {
            return tracing::error!("the spool can no longer be used: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn maintain_once(spool: &Spool, alarms: &Alarms) -> Result<(), SpoolError> {
    alarms.follow(&spool.alarms().await?);
    for log in spool.logs().await? {
        // Far fewer entries than a float can count.
        metrics::gauge!("taglog_witness_pending", "log" => log.origin()).set(log.pending as f64);
    }
    if spool.has_failed() || alarms.is_up(AlarmKind::Spool) {
        match spool.try_room().await {
            Ok(()) => alarms.clear("spool", AlarmKind::Spool).await,
            Err(error) => alarms.raise("spool", AlarmKind::Spool, &error.to_string(), None).await,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_spool_that_is_in_use_for_a_moment_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("w.example/a", &[1; 32]).unwrap();
        let open = || open_spool(home.path(), key.verifier_key(), &[], 64 << 20);
        let (spool, guard, _) = open().await.unwrap();
        let mut opened = std::pin::pin!(open());
        assert!(opened.as_mut().now_or_never().is_none(), "it is in use");
        drop(spool);
        close(guard).await;
        let (spool, guard, _) = opened.await.unwrap();
        drop(spool);
        close(guard).await;
    }
}
