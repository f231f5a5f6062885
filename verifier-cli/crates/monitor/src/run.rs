//! Puts the monitor together: one look at the log after the other, and a courier for each sink.

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
    config::Config,
    courier::Courier,
    http::{self, Readiness},
    ledger::{Ledger, Outbox},
    liveness::{Liveness, Look},
    prepared::{MonitorError, Prepared},
    tracker::{Baseline, Tracker},
};
use taglog_audit::{Auditor, BatchReport, Follower, Index, Outcome, Run};
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
/// How long what is under way may take to end when the monitor stops.
const STOP_TIME: Duration = Duration::from_secs(10);

/// What watches the batches, and the log as a whole; on the auditor's thread while it audits.
struct Watcher {
    ledger: Ledger,
    tracker: Tracker,
    liveness: Liveness,
}

impl Follower for Watcher {
    fn take(&mut self, reports: &[BatchReport], index: &Index) -> Result<(), String> {
        self.tracker.take(&mut self.ledger, reports, index).map_err(|error| error.to_string())
    }

    fn commit(&mut self) -> Result<(), String> {
        self.ledger.commit().map(drop).map_err(|error| error.to_string())
    }
}

/// The monitor.
pub struct Monitor {
    config: Config,
    trust: Trust,
    log: StaticLog,
    /// Away while it audits.
    auditor: Option<Auditor>,
    watcher: Arc<Mutex<Watcher>>,
    couriers: Vec<Courier>,
    readiness: Readiness,
    progress: SharedProgress,
    from_start: bool,
    timeout: Duration,
}

/// What a single pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// How many alerts were raised.
    pub raised: u64,
    /// What could not be asked or delivered.
    pub failures: Vec<String>,
    /// Whether the log misbehaves.
    pub misbehaves: bool,
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

impl Monitor {
    /// Opens the state and gets everything ready. Nothing is asked yet. `from_start`: what the log had before the first
    /// look is alerted on too; decides only for a new state. `progress` shows how far an audit is.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn open(prepared: Prepared, from_start: bool, progress: SharedProgress) -> Result<Monitor, MonitorError> {
        let Prepared { config, trust, log, sinks, timeout } = prepared;
        let (settings, key) = (config.clone(), trust.log.clone());
        let opened = spawn_blocking(move || open_state(&settings, &key)).await;
        let (auditor, watcher, outbox) =
            opened.map_err(|error| MonitorError::Ended(format!("opening the state has failed: {error}")))??;
        let couriers = sinks.into_iter().map(|(name, sink)| Courier::new(&name, sink, outbox.clone())).collect();
        Ok(Monitor {
            config,
            trust,
            log,
            auditor: Some(auditor),
            watcher: Arc::new(Mutex::new(watcher)),
            couriers,
            readiness: Readiness::default(),
            progress,
            from_start,
            timeout,
        })
    }

    /// Audits and alerts until told to stop.
    ///
    /// # Errors
    /// [`MonitorError`] when it cannot go on; everything is stopped then.
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
        for courier in std::mem::take(&mut self.couriers) {
            tasks.start("delivering alerts", courier.run(stop.clone()));
        }
        let mut tasks = std::pin::pin!(tasks.run(&stop, STOP_TIME));
        let looking = tokio::select! {
            // An audit that is broken off goes on from the last commit.
            () = stop.cancelled() => Ok(()),
            looking = self.keep_looking() => looking,
            ended = &mut tasks => return ended.map_err(MonitorError::Ended),
        };
        stop.cancel();
        // What was not delivered in time is delivered after the next start.
        looking.and(tasks.await.map_err(MonitorError::Ended))
    }

    async fn keep_looking(&mut self) -> Result<(), MonitorError> {
        loop {
            self.look().await?;
            tokio::time::sleep(self.config.interval).await;
        }
    }

    /// Audits up to the newest checkpoint, delivers everything, and ends.
    ///
    /// # Errors
    /// [`MonitorError`] when it cannot go on.
    pub async fn pass(mut self) -> Result<Pass, MonitorError> {
        let before = self.raised();
        let mut pass = Pass::default();
        match self.look().await? {
            Seen::Well => {}
            Seen::Incomplete(why) => pass.failures.push(why),
            Seen::Misbehaving => pass.misbehaves = true,
        }
        pass.raised = self.raised() - before;
        let mut deliveries = JoinSet::new();
        for courier in std::mem::take(&mut self.couriers) {
            deliveries.spawn(async move { courier.drain().await });
        }
        while let Some(ended) = deliveries.join_next().await {
            match ended {
                Ok(outcome) => pass.failures.extend(outcome.err()),
                Err(error) => pass.failures.push(format!("delivery ended unexpectedly: {error}")),
            }
        }
        Ok(pass)
    }

    fn watcher(&self) -> MutexGuard<'_, Watcher> {
        // A panic while it was changed has broken off the transaction that it was changed in, and ends the monitor.
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raised(&self) -> u64 {
        self.watcher().ledger.total_raised()
    }

    /// One look at the log: audits what is new in it, and raises what follows.
    async fn look(&mut self) -> Result<Seen, MonitorError> {
        let mut look = Look { now: now(), unreachable: None, size: None, behind: None, seal: None, fresh: None };
        let mut seen = Seen::Well;
        match self.checkpoint().await {
            Err(why) => look.unreachable = Some(why),
            Ok(checkpoint) => {
                let size = checkpoint.signed.unverified().size;
                look.size = Some(size);
                self.decide_what_is_past(size)?;
                let outcome = self.audit(&checkpoint).await?;
                let split = self.compare(&checkpoint).await?;
                if self.report(&outcome)? || split {
                    seen = Seen::Misbehaving;
                }
                look.behind = outcome.behind;
                look.unreachable = outcome.unavailable.as_deref().map(one_line);
                look.fresh = checkpoint.fresh;
                if let Some((index, kind)) = &outcome.upgrade {
                    let why = format!("cannot audit past entry {index}, upgrade taglog: {kind}");
                    seen = seen.or_incomplete(why);
                }
            }
        }
        look.now = now();
        look.seal = self.auditor.as_ref().and_then(|auditor| auditor.seal().map(|seal| seal.time));
        // Without a quorum, or without an answer, the newest seal is the newest word.
        look.fresh = look.fresh.or(look.seal);
        if let Some(why) = &look.unreachable {
            tracing::warn!("the log cannot be audited: {why}");
            seen = seen.or_incomplete(why.clone());
        }
        let mut watcher = self.watcher();
        let Watcher { ledger, liveness, .. } = &mut *watcher;
        liveness.check(ledger, &look)?;
        ledger.prune()?;
        ledger.commit()?;
        drop(watcher);
        self.show(&look, &seen);
        Ok(seen)
    }

    /// The newest checkpoint, if the log and enough cosigners have signed it.
    async fn checkpoint(&self) -> Result<Trusted, String> {
        let bytes = self.log.checkpoint().await.map_err(|error| error.to_string())?;
        judge(&self.trust, &bytes).map_err(|error| one_line(&error))
    }

    fn decide_what_is_past(&self, size: u64) -> Result<(), MonitorError> {
        let mut watcher = self.watcher();
        let Watcher { ledger, tracker, .. } = &mut *watcher;
        if !tracker.has_past() {
            tracker.set_past(ledger, if self.from_start { 0 } else { size.max(tracker.size()) })?;
            ledger.commit()?;
        }
        Ok(())
    }

    async fn audit(&mut self, checkpoint: &Trusted) -> Result<Outcome, MonitorError> {
        let auditor = match self.auditor.take() {
            Some(auditor) => auditor,
            None => return Err(MonitorError::Ended("the auditor is gone".to_owned())),
        };
        let run = Run {
            log: &self.log,
            checkpoint: &checkpoint.signed,
            seen: Vec::new(),
            progress: self.progress.clone(),
            follower: Some(self.watcher.clone()),
        };
        let (auditor, outcome) = run.audit(auditor).await?;
        self.auditor = Some(auditor);
        Ok(outcome)
    }

    /// Raises what an audit has found. Whether the log misbehaves.
    fn report(&self, outcome: &Outcome) -> Result<bool, MonitorError> {
        let mut watcher = self.watcher();
        let ledger = &mut watcher.ledger;
        for finding in &outcome.findings {
            // What is found again has the same words, and so the same id.
            let reason = one_line(&finding.reason);
            let index = finding.index.map(|index| index.to_string()).unwrap_or_default();
            let place = finding.index.map(|index| format!("entry {index}: ")).unwrap_or_default();
            let about = [finding.kind.word(), &index, &reason];
            let message = format!("THE LOG {} MISBEHAVES: {place}{reason}", self.trust.log.name());
            let alert = Alert::event(&self.trust.log, AlertKind::Violation, &about, now(), message);
            let alert = Alert { index: finding.index, ..alert };
            self.accuse(ledger, alert, finding.kind.word(), finding.evidence.as_ref())?;
        }
        if let Some((index, kind)) = &outcome.upgrade {
            let message = format!("cannot audit past entry {index}, upgrade taglog: {kind}");
            let about = index.to_string();
            let alert = Alert::event(&self.trust.log, AlertKind::UpgradeNeeded, &[&about], now(), message);
            ledger.raise(&alert.with_index(*index))?;
        }
        ledger.commit()?;
        Ok(!outcome.findings.is_empty())
    }

    /// Compares the checkpoint with those that others were shown. Whether the log shows different ones.
    async fn compare(&self, checkpoint: &Trusted) -> Result<bool, MonitorError> {
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
                    // Checkpoints of both histories come and go; that there are two is told once.
                    let alert = Alert::event(&self.trust.log, AlertKind::SplitView, &[&source], now(), message);
                    let mut watcher = self.watcher();
                    self.accuse(&mut watcher.ledger, alert, "split-view", Some(&found.evidence))?;
                    watcher.ledger.commit()?;
                }
                Err(why) => tracing::warn!("cannot compare with {}: {}", compared.source, one_line(&why)),
            }
        }
        Ok(split)
    }

    /// Raises that the log misbehaves, with the evidence in a file, unless that was done before.
    fn accuse(
        &self,
        ledger: &mut Ledger,
        alert: Alert,
        name: &str,
        evidence: Option<&Evidence>,
    ) -> Result<(), MonitorError> {
        if ledger.has(&alert)? {
            return Ok(());
        }
        let keep = |evidence: &Evidence| {
            Memory::new(self.config.state.clone()).keep_evidence(name, evidence.to_json().as_bytes())
        };
        let kept = evidence.and_then(|evidence| {
            keep(evidence).inspect_err(|error| tracing::error!(%error, "evidence could not be kept")).ok()
        });
        // Whoever reads the alert stands elsewhere.
        let kept = kept.map(|path| std::path::absolute(&path).unwrap_or(path).display().to_string());
        ledger.raise(&Alert { evidence: kept, ..alert })?;
        Ok(())
    }

    fn show(&self, look: &Look, seen: &Seen) {
        let size = self.auditor.as_ref().map_or(0, Auditor::size);
        // Far fewer entries and seconds than a float can count.
        metrics::gauge!("taglog_monitor_audited_entries").set(size as f64);
        metrics::gauge!("taglog_monitor_last_look_timestamp_seconds").set(look.now.unix() as f64);
        if let Some(seal) = look.seal {
            metrics::gauge!("taglog_monitor_seal_timestamp_seconds").set(seal.unix() as f64);
        }
        let misbehaves = matches!(seen, Seen::Misbehaving);
        metrics::gauge!("taglog_monitor_log_misbehaves").set(f64::from(u8::from(misbehaves)));
        match seen {
            Seen::Well => self.readiness.set(Ok(())),
            Seen::Misbehaving => self.readiness.set(Err("the log misbehaves".to_owned())),
            Seen::Incomplete(why) => self.readiness.set(Err(why.clone())),
        }
        tracing::debug!(size, "looked at the log");
    }
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Everything that the log shows is audited, and right.
    Well,
    /// Something could not be audited.
    Incomplete(String),
    /// The log misbehaves.
    Misbehaving,
}

impl Seen {
    fn or_incomplete(self, why: String) -> Seen {
        if self == Seen::Well { Seen::Incomplete(why) } else { self }
    }
}

/// A checkpoint that is trusted.
struct Trusted {
    signed: SignedCheckpoint,
    /// How fresh it is by cosignatures.
    fresh: Option<Timestamp>,
}

fn judge(trust: &Trust, bytes: &[u8]) -> Result<Trusted, String> {
    let signed = SignedCheckpoint::parse(bytes).map_err(|error| error.to_string())?;
    let quorate = trust.check(&signed).map_err(|error| error.to_string())?;
    Ok(Trusted { signed, fresh: quorate.fresh })
}

fn open_state(config: &Config, log: &VerifierKey) -> Result<(Auditor, Watcher, Outbox), MonitorError> {
    // First, so that two monitors meet at its lock.
    let (mut ledger, outbox) = Ledger::open(&config.state, log, &config.sinks)?;
    let auditor = Auditor::open(&config.state.join(AUDIT), log)?;
    let roster = auditor.roster();
    let baseline = Baseline {
        size: auditor.size(),
        time: auditor.seal().map(|seal| seal.time),
        roster: roster.map(|(_, roster)| roster),
    };
    let tracker = Tracker::open(&mut ledger, config, log, baseline)?;
    let liveness = Liveness::new(log, config.patience);
    Ok((auditor, Watcher { ledger, tracker, liveness }, outbox))
}
