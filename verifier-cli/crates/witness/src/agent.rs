//! Puts the agent together: the spool, a delivery for each log, a lane for each registry.
//!
//! [`Prepared`] is everything that can be found wrong before anything is started, so that a reload with a bad
//! configuration leaves the running one alone. [`Agent`] is what runs from one reload to the next.

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
    config::{Config, Watch},
    deliver::Delivery,
    http,
    progress::FirstLooks,
    push::{Hint, MAX_EVENTS},
    spool::{Guard, Opened, Spool, SpoolError, TagRow},
    watch::{
        Watched,
        confirm::{confirm_all, keep_confirming},
        lane::Lane,
        look::{Looker, Reporter},
        pace::Pace,
    },
};
use taglog_base::config_file::ConfigError;
use taglog_base::progress::SharedProgress;
use taglog_log_client::key::{KeyError, read_key};
use taglog_log_client::{
    ClientError, LogClient,
    memory::Memory,
    trust::{Trust, TrustError},
};
use taglog_oci_registry::{Login, Registry, RegistryError, RegistryOptions};
use taglog_service::listener::Listener;
use taglog_service::parts::Parts;

/// How much longer a log has, which waits for publication before it answers: half a minute and no more, if it is honest.
const PUBLICATION: Duration = Duration::from_secs(5);
/// How long what is under way may take to end when the agent stops.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How long the spool may be in use by somebody else: `status` holds its lock for a moment to see whether an agent does.
const IN_USE_TIME: Duration = Duration::from_secs(2);

/// What is said when a damaged spool was replaced.
const SALVAGED: &str = "the spool was damaged and set aside: the signed entries that were found in it go to the logs \
                        again, every tag is reported again, and repositories are no longer confirmed as a whole";

/// How often it is looked after gauges and room.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// Why the agent cannot start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The witness's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A trust file.
    #[error("{path}: {error}")]
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
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
}

/// A checked configuration with what it refers to.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// The witness's key.
    pub key: Arc<SigningKey>,
    /// The logs, with the way to each.
    pub logs: Vec<(Trust, LogClient)>,
    /// How long one exchange with a registry may take.
    pub timeout: Duration,
}

impl Prepared {
    /// Reads a configuration, the key and the trust files. Asks nothing over the network. `timeout` is for each
    /// exchange with a registry or a log.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn read(path: &Path, timeout: Duration) -> Result<Prepared, AgentError> {
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
        Ok(Prepared { config, key, logs, timeout })
    }

    /// The witness's id.
    pub fn witness(&self) -> String {
        let key = self.key.verifier_key();
        format!("{}+{}", key.name(), key.key_id())
    }
}

/// Access to registries as a configuration has it, with this time for each exchange.
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
    guard: Guard,
    deliveries: Vec<Delivery>,
    lanes: Vec<Lane>,
    repositories: Vec<Arc<Watched>>,
    reporter: Reporter,
    /// Where a hint goes, by registry.
    hints: BTreeMap<String, mpsc::Sender<Hint>>,
    config: Config,
    witness: String,
}

/// What a single pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// What could not be asked or delivered.
    pub failures: Vec<String>,
    /// Whether a log misbehaves.
    pub misbehaved: bool,
}

impl Agent {
    /// Opens the spool and gets everything ready. Nothing is asked yet.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn new(prepared: Prepared, once: bool, progress: SharedProgress) -> Result<Agent, AgentError> {
        let witness = prepared.witness();
        let Prepared { config, key, logs, timeout } = prepared;
        let vkeys: Vec<VerifierKey> = logs.iter().map(|(trust, _)| trust.log.clone()).collect();
        let (spool, guard, opened) = open_spool(&config.state, key.verifier_key(), &vkeys, config.spool_limit).await?;
        let alarms = Alarms::new(spool.clone(), &opened.alarms);
        if let Some(aside) = &opened.salvaged {
            let kept = Some(aside.display().to_string());
            alarms.raise("spool", AlarmKind::SpoolDamaged, SALVAGED, kept).await;
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
        let by_name = |watched: &Arc<Watched>| (watched.repository().to_string(), Arc::clone(watched));
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
        let progress = FirstLooks::new(progress);
        let (lanes, hints) = lanes(&config, timeout, &repositories, &reporter, once, &progress)?;
        Ok(Agent { spool, guard, deliveries, lanes, repositories, reporter, hints, config, witness })
    }

    /// How many tags of how many repositories are watched so far; lists may bring more.
    pub fn size(&self) -> (usize, usize) {
        (self.repositories.iter().map(|watched| watched.watched_tags().len()).sum(), self.repositories.len())
    }

    /// Looks, reports and delivers until told to stop.
    ///
    /// # Errors
    /// Which part has ended although nobody asked it to, in words; then everything else was stopped too.
    pub async fn run(
        self,
        listener: Option<Arc<Listener>>,
        metrics: PrometheusHandle,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let mut parts = Parts::default();
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        if let Some(listener) = listener {
            let router = http::router(&self.config.pushes, sender.clone(), metrics);
            let stop = stop.clone();
            parts.start("serving metrics and pushes", async move {
                if let Err(error) = listener.serve(router, stop).await {
                    tracing::error!(%error, "metrics and pushes are no longer served");
                }
            });
        }
        parts.start("taking hints", pass_on(receiver, self.hints, stop.clone()));
        parts.start("confirming", keep_confirming(self.reporter.clone(), self.repositories, stop.clone()));
        if let Some(url) = self.config.alarm_webhook {
            let (alarms, witness, stop) = (self.reporter.alarms.clone(), self.witness, stop.clone());
            parts.start("sending alarms on", async move { alarms.send_on(url, witness, stop).await });
        }
        for delivery in self.deliveries {
            parts.start("delivery to a log", delivery.run(self.reporter.recorded.subscribe(), stop.clone()));
        }
        for lane in self.lanes {
            let stop = stop.clone();
            parts.start("watching a registry", async move { drop(lane.run(stop).await) });
        }
        let looking_after = look_after(self.spool.clone(), self.reporter.alarms.clone(), stop.clone());
        parts.start("looking after the spool", looking_after);
        let outcome = parts.run(&stop, STOP_TIME).await;
        drop((sender, self.spool, self.reporter));
        close(self.guard).await;
        outcome
    }

    /// Looks at everything once, delivers everything, and ends.
    pub async fn pass(self, stop: CancellationToken) -> Pass {
        let mut failures = Vec::new();
        let mut lanes: JoinSet<Vec<String>> = JoinSet::new();
        for lane in self.lanes {
            lanes.spawn(lane.run(stop.clone()));
        }
        while let Some(ended) = lanes.join_next().await {
            match ended {
                Ok(of_lane) => failures.extend(of_lane),
                Err(error) => failures.push(format!("watching ended unexpectedly: {error}")),
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
            failures.push(format!("an alarm could not be sent on: {error}"));
        }
        let misbehaved = alarms.is_up(AlarmKind::Misbehaviour);
        drop((self.hints, self.spool, self.reporter));
        close(self.guard).await;
        Pass { failures, misbehaved }
    }
}

/// Waits for the spool's last commit. Tasks that were aborted may still have to let go of it, and need a thread to do
/// so: this one must not be blocked.
async fn close(guard: Guard) {
    // A panic in there has been reported; what was signed is on disk.
    let _ = tokio::task::spawn_blocking(|| guard.close()).await;
}

async fn open_spool(
    directory: &Path,
    witness: &VerifierKey,
    logs: &[VerifierKey],
    limit: u64,
) -> Result<(Spool, Guard, Opened), SpoolError> {
    let deadline = Instant::now() + IN_USE_TIME;
    loop {
        match Spool::open(directory, witness, logs, limit) {
            Err(SpoolError::InUse(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

/// What is watched, with what is remembered of it.
fn watched(watches: &[Watch], opened: Opened) -> Vec<Arc<Watched>> {
    let complete = opened.complete;
    let mut tags: BTreeMap<Repository, Vec<TagRow>> = BTreeMap::new();
    for row in opened.tags {
        tags.entry(row.image.repository.clone()).or_default().push(row);
    }
    let confirmed: BTreeMap<Repository, _> =
        opened.repositories.into_iter().filter_map(|row| Some((row.name, row.confirmed?))).collect();
    let watched = |watch: &Watch| {
        let remembered = tags.remove(&watch.repository).unwrap_or_default();
        Arc::new(Watched::new(watch.clone(), remembered, confirmed.get(&watch.repository).copied(), complete))
    };
    watches.iter().map(watched).collect()
}

type Lanes = (Vec<Lane>, BTreeMap<String, mpsc::Sender<Hint>>);

/// A lane for each registry, and the way for hints to each.
fn lanes(
    config: &Config,
    timeout: Duration,
    repositories: &[Arc<Watched>],
    reporter: &Reporter,
    once: bool,
    progress: &FirstLooks,
) -> Result<Lanes, AgentError> {
    let (anonymous, logged_in) = (registry(config, Login::Never, timeout)?, registry(config, Login::Stored, timeout)?);
    let mut by_registry: BTreeMap<String, Vec<Arc<Watched>>> = BTreeMap::new();
    for watched in repositories {
        by_registry.entry(watched.repository().registry().to_owned()).or_default().push(Arc::clone(watched));
    }
    let (mut lanes, mut hints) = (Vec::new(), BTreeMap::new());
    for (host, repositories) in by_registry {
        let settings = config.registry(&host);
        let pace = Pace::new(settings);
        let looker = Looker::new(host.clone(), anonymous.clone(), logged_in.clone(), pace, reporter.clone());
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let told = config.pushes.iter().any(|push| push.registry == host);
        let (looker, concurrency, progress) = (Arc::new(looker), settings.concurrency, progress.clone());
        lanes.push(Lane::new(looker, repositories, receiver, concurrency, told, once, progress));
        hints.insert(host, sender);
    }
    Ok((lanes, hints))
}

/// Passes hints on to the lane of their registry. One lane that has no room makes the senders wait.
async fn pass_on(
    mut receiver: mpsc::Receiver<Hint>,
    lanes: BTreeMap<String, mpsc::Sender<Hint>>,
    stop: CancellationToken,
) {
    let pass = async {
        while let Some(hint) = receiver.recv().await {
            metrics::counter!("taglog_witness_pushes_total", "registry" => hint.repository.registry().to_owned())
                .increment(1);
            if let Some(lane) = lanes.get(hint.repository.registry()) {
                // A lane ends only when everything does.
                let _ = lane.send(hint).await;
            }
        }
    };
    tokio::select! {
        () = pass => {}
        () = stop.cancelled() => {}
    }
}

/// Looks after what nobody else does: gauges, alarms that a person has ended, room in the spool. Ends when the spool
/// is damaged, so that the agent does too, and the next start saves what can be saved.
async fn look_after(spool: Spool, alarms: Alarms, stop: CancellationToken) {
    loop {
        if let Err(error @ (SpoolError::Damaged(_) | SpoolError::Closed)) = look_after_once(&spool, &alarms).await {
            return tracing::error!("the spool cannot be used any more: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AFTER) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn look_after_once(spool: &Spool, alarms: &Alarms) -> Result<(), SpoolError> {
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
