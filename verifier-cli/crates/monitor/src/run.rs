//! Runs the monitor: polls the log repeatedly, and runs a dispatcher for each sink.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use metrics_exporter_prometheus::PrometheusHandle;
use taglog_base::progress::SharedProgress;
use taglog_proto::{checkpoint::SignedCheckpoint, evidence::Evidence, note::VerifierKey, time::Timestamp};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    alert::{Alert, AlertKind},
    alert_store::{AlertStore, Outbox},
    config::Config,
    dispatcher::Dispatcher,
    http::{self, Readiness},
    liveness::{Liveness, PollResult},
    setup::{MonitorError, MonitorSetup},
    tracker::{Baseline, Tracker},
};
use taglog_audit::{AuditOutcome, Auditor, BatchReport, Follower, Index, Run};
use taglog_base::text::one_line;
use taglog_evidence::{
    split_view::Comparison,
    views::{View, compare_with},
};
use taglog_log_client::{memory::Memory, static_log::StaticLog, trust::Trust};
use taglog_service::listener::Listener;
use taglog_service::task_group::TaskGroup;

/// The auditor's directory in the state directory.
const AUDIT: &str = "audit";
/// How long tasks may take to end when the monitor stops.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Derives alerts from audited batches and from polls. The auditor's thread uses it during an audit.
struct BatchProcessor {
    store: AlertStore,
    tracker: Tracker,
    liveness: Liveness,
}

impl Follower for BatchProcessor {
    fn take(&mut self, reports: &[BatchReport], index: &Index) -> Result<(), String> {
        self.tracker.process(&mut self.store, reports, index).map_err(|error| error.to_string())
    }

    fn commit(&mut self) -> Result<(), String> {
        self.store.commit().map(drop).map_err(|error| error.to_string())
    }
}

pub struct Monitor {
    config: Config,
    trust: Trust,
    log: StaticLog,
    /// `None` during an audit.
    auditor: Option<Auditor>,
    processor: Arc<Mutex<BatchProcessor>>,
    dispatchers: Vec<Dispatcher>,
    readiness: Readiness,
    progress: SharedProgress,
    from_start: bool,
    timeout: Duration,
}

/// The result of [`Monitor::run_once`].
#[derive(Debug, Default)]
pub struct RunOnceResult {
    /// How many alerts were raised.
    pub raised: u64,
    /// What could not be fetched or delivered, as messages.
    pub failures: Vec<String>,
    /// Whether the log misbehaves.
    pub misbehaves: bool,
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

impl Monitor {
    /// Opens the state, without using the network. With `from_start`, and only for a new state directory, entries from
    /// before the first poll raise alerts too. `progress` shows the progress of an audit.
    pub async fn open(
        setup: MonitorSetup,
        from_start: bool,
        progress: SharedProgress,
    ) -> Result<Monitor, MonitorError> {
        let MonitorSetup { config, trust, log, sinks, timeout } = setup;
        let (settings, key) = (config.clone(), trust.log.clone());
        let opened = spawn_blocking(move || open_state(&settings, &key)).await;
        let (auditor, processor, outbox) =
            opened.map_err(|error| MonitorError::Ended(format!("opening the state has failed: {error}")))??;
        let dispatchers = sinks.into_iter().map(|(name, sink)| Dispatcher::new(&name, sink, outbox.clone())).collect();
        Ok(Monitor {
            config,
            trust,
            log,
            auditor: Some(auditor),
            processor: Arc::new(Mutex::new(processor)),
            dispatchers,
            readiness: Readiness::default(),
            progress,
            from_start,
            timeout,
        })
    }

    /// Audits and raises alerts until `stop`.
    ///
    /// # Errors
    /// The monitor cannot continue; all tasks are stopped.
    pub async fn run(
        mut self,
        listener: Option<Arc<Listener>>,
        metrics: PrometheusHandle,
        stop: CancellationToken,
    ) -> Result<(), MonitorError> {
        let mut tasks = TaskGroup::default();
        if let Some(listener) = listener {
            let (router, stop) = (http::router(self.readiness.clone(), metrics), stop.clone());
            tasks.start("serving metrics", async move {
                if let Err(error) = listener.serve(router, stop).await {
                    tracing::error!(%error, "metrics are no longer served");
                }
            });
        }
        for dispatcher in std::mem::take(&mut self.dispatchers) {
            tasks.start("delivering alerts", dispatcher.run(stop.clone()));
        }
        let mut tasks = std::pin::pin!(tasks.run(&stop, STOP_TIME));
        let polling = tokio::select! {
            // The next start continues an interrupted audit from the last commit.
            () = stop.cancelled() => Ok(()),
            polling = self.poll_forever() => polling,
            ended = &mut tasks => return ended.map_err(MonitorError::Ended),
        };
        stop.cancel();
        // Alerts that were not delivered in time are delivered after the next start.
        polling.and(tasks.await.map_err(MonitorError::Ended))
    }

    async fn poll_forever(&mut self) -> Result<(), MonitorError> {
        loop {
            self.poll().await?;
            tokio::time::sleep(self.config.interval).await;
        }
    }

    /// Audits up to the newest checkpoint, delivers all alerts, and ends.
    ///
    /// # Errors
    /// The monitor cannot continue.
    pub async fn run_once(mut self) -> Result<RunOnceResult, MonitorError> {
        let before = self.raised();
        let mut result = RunOnceResult::default();
        match self.poll().await? {
            PollOutcome::Complete => {}
            PollOutcome::Incomplete(why) => result.failures.push(why),
            PollOutcome::Misbehaving => result.misbehaves = true,
        }
        result.raised = self.raised() - before;
        let mut deliveries = JoinSet::new();
        for dispatcher in std::mem::take(&mut self.dispatchers) {
            deliveries.spawn(async move { dispatcher.drain().await });
        }
        while let Some(ended) = deliveries.join_next().await {
            match ended {
                Ok(outcome) => result.failures.extend(outcome.err()),
                Err(error) => result.failures.push(format!("delivery ended unexpectedly: {error}")),
            }
        }
        Ok(result)
    }

    fn processor(&self) -> MutexGuard<'_, BatchProcessor> {
        // After a panic the open transaction is never committed, and the monitor ends.
        self.processor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raised(&self) -> u64 {
        self.processor().store.total_raised()
    }

    /// Polls the log once: audits new entries, compares checkpoints, and raises alerts.
    async fn poll(&mut self) -> Result<PollOutcome, MonitorError> {
        let mut poll = PollResult { now: now(), unreachable: None, size: None, behind: None, seal: None, fresh: None };
        let mut seen = PollOutcome::Complete;
        match self.checkpoint().await {
            Err(why) => poll.unreachable = Some(why),
            Ok(checkpoint) => {
                let size = checkpoint.signed.unverified().size;
                poll.size = Some(size);
                self.set_past_once(size)?;
                let outcome = self.audit(&checkpoint).await?;
                let split = self.compare(&checkpoint).await?;
                if self.report(&outcome)? || split {
                    seen = PollOutcome::Misbehaving;
                }
                poll.behind = outcome.behind;
                poll.unreachable = outcome.unavailable.as_deref().map(one_line);
                poll.fresh = checkpoint.fresh;
                if let Some((index, kind)) = &outcome.upgrade {
                    let why = format!("cannot audit past entry {index}, upgrade taglog: {kind}");
                    seen = seen.or_incomplete(why);
                }
            }
        }
        poll.now = now();
        poll.seal = self.auditor.as_ref().and_then(|auditor| auditor.seal().map(|seal| seal.time));
        // Without a quorum, or without a checkpoint, the newest seal determines the freshness.
        poll.fresh = poll.fresh.or(poll.seal);
        if let Some(why) = &poll.unreachable {
            tracing::warn!("the log cannot be audited: {why}");
            seen = seen.or_incomplete(why.clone());
        }
        let mut processor = self.processor();
        let BatchProcessor { store, liveness, .. } = &mut *processor;
        liveness.check(store, &poll)?;
        store.prune()?;
        store.commit()?;
        drop(processor);
        self.record_metrics(&poll, &seen);
        Ok(seen)
    }

    /// Fetches the newest checkpoint and verifies the signatures of the log and the quorum of cosigners.
    async fn checkpoint(&self) -> Result<VerifiedCheckpoint, String> {
        let bytes = self.log.checkpoint().await.map_err(|error| error.to_string())?;
        verify_checkpoint(&self.trust, &bytes).map_err(|error| one_line(&error))
    }

    fn set_past_once(&self, size: u64) -> Result<(), MonitorError> {
        let mut processor = self.processor();
        let BatchProcessor { store, tracker, .. } = &mut *processor;
        if !tracker.has_past() {
            tracker.set_past(store, if self.from_start { 0 } else { size.max(tracker.size()) })?;
            store.commit()?;
        }
        Ok(())
    }

    async fn audit(&mut self, checkpoint: &VerifiedCheckpoint) -> Result<AuditOutcome, MonitorError> {
        let auditor = match self.auditor.take() {
            Some(auditor) => auditor,
            None => return Err(MonitorError::Ended("the auditor is gone".to_owned())),
        };
        let run = Run {
            log: &self.log,
            checkpoint: &checkpoint.signed,
            seen: Vec::new(),
            progress: self.progress.clone(),
            follower: Some(self.processor.clone()),
        };
        let (auditor, outcome) = run.audit(auditor).await?;
        self.auditor = Some(auditor);
        Ok(outcome)
    }

    /// Raises alerts for the results of an audit. Returns whether the log misbehaves.
    fn report(&self, outcome: &AuditOutcome) -> Result<bool, MonitorError> {
        let mut processor = self.processor();
        let store = &mut processor.store;
        for finding in &outcome.findings {
            // The same violation has the same reason, and so the same id, in every audit.
            let reason = one_line(&finding.reason);
            let index = finding.index.map(|index| index.to_string()).unwrap_or_default();
            let place = finding.index.map(|index| format!("entry {index}: ")).unwrap_or_default();
            let about = [finding.kind.word(), &index, &reason];
            let message = format!("THE LOG {} MISBEHAVES: {place}{reason}", self.trust.log.name());
            let alert = Alert::event(&self.trust.log, AlertKind::Violation, &about, now(), message);
            let alert = Alert { index: finding.index, ..alert };
            self.raise_misbehaviour(store, alert, finding.kind.word(), finding.evidence.as_ref())?;
        }
        if let Some((index, kind)) = &outcome.upgrade {
            let message = format!("cannot audit past entry {index}, upgrade taglog: {kind}");
            let about = index.to_string();
            let alert = Alert::event(&self.trust.log, AlertKind::UpgradeNeeded, &[&about], now(), message);
            store.raise(&alert.with_index(*index))?;
        }
        store.commit()?;
        Ok(!outcome.findings.is_empty())
    }

    /// Compares the checkpoint with those of mirrors and cosigners. Returns whether the log shows different histories.
    async fn compare(&self, checkpoint: &VerifiedCheckpoint) -> Result<bool, MonitorError> {
        let cosigners = self.trust.policy().cosigners().iter().filter_map(|cosigner| cosigner.url.clone());
        let others: Vec<String> = self.config.compare.iter().cloned().chain(cosigners).collect();
        let (checkpoint, tiles) = (checkpoint.signed.clone(), Some(self.log.clone()));
        let own = View { source: self.log.location(), checkpoint, tiles };
        let mut split = false;
        for compared in compare_with(&own, Vec::new(), &others, &self.trust.log, self.timeout).await {
            match compared.outcome {
                Ok(Comparison::Same | Comparison::Consistent) => {}
                Ok(Comparison::Split(found)) => {
                    split = true;
                    let source = one_line(&compared.source);
                    let message =
                        format!("THE LOG MISBEHAVES: {source} is shown another history: {}", found.accusation);
                    // One alert for each source, whatever its checkpoints are.
                    let alert = Alert::event(&self.trust.log, AlertKind::SplitView, &[&source], now(), message);
                    let mut processor = self.processor();
                    self.raise_misbehaviour(&mut processor.store, alert, "split-view", Some(&found.evidence))?;
                    processor.store.commit()?;
                }
                Err(why) => tracing::warn!("cannot compare with {}: {}", compared.source, one_line(&why)),
            }
        }
        Ok(split)
    }

    /// Raises an alert about misbehaviour, with the evidence in a file, unless it was raised before.
    fn raise_misbehaviour(
        &self,
        store: &mut AlertStore,
        alert: Alert,
        name: &str,
        evidence: Option<&Evidence>,
    ) -> Result<(), MonitorError> {
        if store.has(&alert)? {
            return Ok(());
        }
        let keep = |evidence: &Evidence| {
            Memory::new(self.config.state.clone()).keep_evidence(name, evidence.to_json().as_bytes())
        };
        let kept = evidence.and_then(|evidence| {
            keep(evidence).inspect_err(|error| tracing::error!(%error, "the evidence file could not be written")).ok()
        });
        // Absolute, because the reader of the alert is not in the monitor's working directory.
        let kept = kept.map(|path| std::path::absolute(&path).unwrap_or(path).display().to_string());
        store.raise(&Alert { evidence: kept, ..alert })?;
        Ok(())
    }

    fn record_metrics(&self, poll: &PollResult, seen: &PollOutcome) {
        let size = self.auditor.as_ref().map_or(0, Auditor::size);
        // An f64 is exact up to 2^53.
        metrics::gauge!("taglog_monitor_audited_entries").set(size as f64);
        metrics::gauge!("taglog_monitor_last_look_timestamp_seconds").set(poll.now.unix() as f64);
        if let Some(seal) = poll.seal {
            metrics::gauge!("taglog_monitor_seal_timestamp_seconds").set(seal.unix() as f64);
        }
        let misbehaves = matches!(seen, PollOutcome::Misbehaving);
        metrics::gauge!("taglog_monitor_log_misbehaves").set(f64::from(u8::from(misbehaves)));
        match seen {
            PollOutcome::Complete => self.readiness.set(Ok(())),
            PollOutcome::Misbehaving => self.readiness.set(Err("the log misbehaves".to_owned())),
            PollOutcome::Incomplete(why) => self.readiness.set(Err(why.clone())),
        }
        tracing::debug!(size, "the log was polled");
    }
}

/// The outcome of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PollOutcome {
    /// All entries of the newest checkpoint are audited, without a violation.
    Complete,
    /// Something could not be audited.
    Incomplete(String),
    /// The log misbehaves.
    Misbehaving,
}

impl PollOutcome {
    fn or_incomplete(self, why: String) -> PollOutcome {
        if self == PollOutcome::Complete { PollOutcome::Incomplete(why) } else { self }
    }
}

/// A checkpoint that is trusted.
struct VerifiedCheckpoint {
    signed: SignedCheckpoint,
    /// Its freshness by cosignatures.
    fresh: Option<Timestamp>,
}

fn verify_checkpoint(trust: &Trust, bytes: &[u8]) -> Result<VerifiedCheckpoint, String> {
    let signed = SignedCheckpoint::parse(bytes).map_err(|error| error.to_string())?;
    let quorate = trust.check(&signed).map_err(|error| error.to_string())?;
    Ok(VerifiedCheckpoint { signed, fresh: quorate.fresh })
}

fn open_state(config: &Config, log: &VerifierKey) -> Result<(Auditor, BatchProcessor, Outbox), MonitorError> {
    // First, because it holds the lock of the state directory.
    let (mut store, outbox) = AlertStore::open(&config.state, log, &config.sinks)?;
    let auditor = Auditor::open(&config.state.join(AUDIT), log)?;
    let roster = auditor.roster();
    let baseline = Baseline {
        size: auditor.size(),
        time: auditor.seal().map(|seal| seal.time),
        roster: roster.map(|(_, roster)| roster),
    };
    let tracker = Tracker::open(&mut store, config, log, baseline)?;
    let liveness = Liveness::new(log, config.delays);
    Ok((auditor, BatchProcessor { store, tracker, liveness }, outbox))
}
