//! Delivers the spool's entries to one log, and verifies its receipts.
//!
//! One task for each log, so that a log that is down does not delay others. [`Delivery::deliver_bundle`] processes a bundle:
//! choose, submit, verify, settle. An entry leaves the spool only when a receipt for it has verified under a checkpoint that
//! is consistent with the last one verified.

mod bundle;
mod entry_outcome;
mod manifests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::json;
use taglog_proto::{checkpoint::SignedCheckpoint, name::Tag, note::VerifierKey, time::Timestamp};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    alarm::{AlarmKind, Alarms},
    spool::{LogId, PendingEntry, Settlement, Spool, SpoolError},
    watch::WatchedRepository,
};
use entry_outcome::EntryOutcome;
use taglog_log_client::{
    ClientError, LogClient, SubmissionResult,
    lookup::{LookupError, MISBEHAVIOUR, check_growth},
    memory::{Memory, MemoryError},
    receipt::ReceiptChecker,
    trust::{InsufficientTrust, Trust},
};

/// The most entries in one bundle.
const BUNDLE: usize = 1000;
/// The most pending entries that are read for a bundle.
const WINDOW: usize = 4 * BUNDLE;
/// The wait before entries that were acknowledged and not published are submitted again.
const PUBLICATION_RETRY: Duration = Duration::from_secs(1);

/// The wait before entries that were refused temporarily are submitted again.
const REFUSED_RETRY: Duration = Duration::from_secs(5);
/// The longest wait after errors.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a bundle was not delivered.
#[derive(Debug, Error)]
enum DeliveryError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the log has acknowledged entries that it has not published yet")]
    NotPublished,
    #[error("the log refused {count} entries temporarily: {reason}")]
    RefusedForNow { count: usize, reason: String },
    #[error("THE LOG MISBEHAVES: {0}")]
    Misbehaved(String),
    #[error(transparent)]
    InsufficientTrust(#[from] InsufficientTrust),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// The result of delivering one bundle.
#[derive(Debug, PartialEq, Eq)]
enum RoundResult {
    /// There was nothing to deliver.
    Empty,
    /// This many entries have left the spool.
    Delivered(usize),
}

/// Delivers to one log.
pub struct Delivery {
    /// The log's key.
    pub log: VerifierKey,
    /// The quorum of cosigners.
    pub trust: Trust,
    /// Its number in the spool.
    pub id: LogId,
    /// The way to it.
    pub client: LogClient,
    /// The witness's own key.
    pub witness: VerifierKey,
    /// Where entries come from.
    pub spool: Spool,
    /// The checkpoints verified before, and evidence.
    pub memory: Memory,
    /// Where misbehaviour is reported.
    pub alarms: Alarms,
    /// How long after its acknowledgement an entry must be published, and how long the log may take nothing.
    pub publish_deadline: Duration,
    /// What is watched, by the names of repositories.
    pub repositories: Arc<BTreeMap<String, Arc<WatchedRepository>>>,
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

impl Delivery {
    /// Delivers entries until `stop` is cancelled. `recorded` changes with every stored entry.
    pub async fn run(self, recorded: watch::Receiver<u64>, stop: CancellationToken) {
        tokio::select! {
            // May be aborted at any time: entries that are not settled are submitted again.
            () = self.keep_delivering(recorded) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Entries are delivered first; manifests when no entry waits or none is accepted.
    async fn keep_delivering(&self, mut recorded: watch::Receiver<u64>) {
        let (mut backoff, mut stuck_since) = (backoff(), None);
        loop {
            recorded.mark_unchanged();
            let outcome = self.deliver_bundle().await;
            self.remember(&outcome);
            self.update_alarms(&outcome, &mut stuck_since).await;
            match outcome {
                Ok(RoundResult::Delivered(_)) => backoff = self::backoff(),
                Ok(RoundResult::Empty) => match self.upload_some().await {
                    // The sender lives as long as the agent.
                    Ok(0) => drop(recorded.changed().await),
                    Ok(_) => backoff = self::backoff(),
                    Err(error) => {
                        self.warn_of_manifests(&error);
                        let pause = tokio::time::sleep(backoff.next().unwrap_or_default());
                        tokio::select! {
                            () = pause => {}
                            _ = recorded.changed() => {}
                        }
                    }
                },
                Err(DeliveryError::NotPublished) => tokio::time::sleep(PUBLICATION_RETRY).await,
                // The log works: other entries must not wait for long.
                Err(DeliveryError::RefusedForNow { .. }) => {
                    if let Err(error) = self.upload_some().await {
                        self.warn_of_manifests(&error);
                    }
                    tokio::time::sleep(REFUSED_RETRY).await;
                }
                Err(_) => tokio::time::sleep(backoff.next().unwrap_or_default()).await,
            }
        }
    }

    fn warn_of_manifests(&self, error: &DeliveryError) {
        tracing::warn!(log = self.log.name(), "manifests are not kept by the log yet: {error}");
    }

    /// Raises or ends the alarms about a log that accepts nothing; `stuck_since`: since when.
    async fn update_alarms(&self, outcome: &Result<RoundResult, DeliveryError>, stuck_since: &mut Option<Instant>) {
        match outcome {
            Ok(_) => {
                *stuck_since = None;
                self.alarms.clear(self.log.name(), AlarmKind::Undelivered).await;
                self.alarms.clear(self.log.name(), AlarmKind::Memory).await;
            }
            Err(
                error @ (DeliveryError::Client(_)
                | DeliveryError::InsufficientTrust(_)
                | DeliveryError::RefusedForNow { .. }),
            ) => {
                let since = stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.publish_deadline {
                    let message = format!("entries wait, and the log has accepted none for too long: {error}");
                    self.alarms.raise(self.log.name(), AlarmKind::Undelivered, &message, None).await;
                }
            }
            Err(DeliveryError::Memory(error)) => {
                let message = format!("nothing is delivered to this log: {error}");
                self.alarms.raise(self.log.name(), AlarmKind::Memory, &message, None).await;
            }
            // These have alarms of their own.
            Err(DeliveryError::NotPublished | DeliveryError::Misbehaved(_) | DeliveryError::Spool(_)) => {}
        }
    }

    /// Delivers everything in the spool; stops at the first error and returns it.
    pub async fn drain(&self) -> Result<(), String> {
        loop {
            let outcome = self.deliver_bundle().await;
            self.remember(&outcome);
            let uploaded = match outcome {
                Ok(RoundResult::Delivered(_)) => continue,
                Ok(RoundResult::Empty) => self.upload_some().await,
                Err(error) => Err(error),
            };
            match uploaded {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(format!("{}: {error}", self.log.name())),
            }
        }
    }

    fn remember(&self, outcome: &Result<RoundResult, DeliveryError>) {
        match outcome {
            Ok(RoundResult::Empty) => {}
            Ok(RoundResult::Delivered(count)) => {
                tracing::info!(log = self.log.name(), count, "delivered");
                metrics::counter!("taglog_witness_delivered_total", "log" => self.log.name().to_owned())
                    .increment(*count as u64);
            }
            Err(error) => {
                tracing::warn!(log = self.log.name(), "{error}");
                self.spool.remember_log(self.id, now(), Err(error.to_string()));
            }
        }
    }

    /// One bundle: choose, submit, check, settle.
    async fn deliver_bundle(&self) -> Result<RoundResult, DeliveryError> {
        let waiting = self.spool.pending(self.id, WINDOW).await?;
        let nothing_waits = waiting.is_empty();
        let bundle = bundle::choose(waiting, BUNDLE);
        if bundle.is_empty() {
            return Ok(if nothing_waits { RoundResult::Empty } else { RoundResult::Delivered(0) });
        }
        self.check_deadline(&bundle).await;
        // Before the submission: another process may meanwhile remember a newer checkpoint than the receipts'.
        let remembered = self.memory.load(&self.log)?;
        let answers = match self.submit(&bundle, true).await {
            Err(error) if may_have_been_taken(&error) => return Err(self.record_indices(&bundle).await?),
            // A damaged entry may be why the log refuses the bundle.
            Err(error) => {
                self.settle_damaged(&bundle).await?;
                return Err(error.into());
            }
            Ok(answers) => answers,
        };
        let outcomes = self.evaluate_all(&bundle, &answers).await;
        match self.check_checkpoints(remembered.as_ref(), &outcomes).await {
            // Without a consistency proof or the quorum, the entries count as acknowledged, with a deadline for publication.
            Err(error @ (DeliveryError::Client(_) | DeliveryError::InsufficientTrust(_))) => {
                self.settle_acknowledged(&bundle, &outcomes).await?;
                return Err(error);
            }
            checked => checked?,
        }
        self.settle(&bundle, &outcomes).await
    }

    /// Settles entries whose stored signature is no longer valid.
    async fn settle_damaged(&self, bundle: &[PendingEntry]) -> Result<(), DeliveryError> {
        let damaged: Vec<&PendingEntry> =
            bundle.iter().filter(|entry| !bundle::is_intact(entry, &self.witness)).collect();
        let refused = |entry: &&PendingEntry| (entry.seq, Settlement::Refused(EntryOutcome::Damaged.to_string()));
        self.spool.settle(self.id, damaged.iter().map(refused).collect(), now()).await?;
        for entry in damaged {
            self.report_damaged(entry).await;
        }
        Ok(())
    }

    async fn report_damaged(&self, entry: &PendingEntry) {
        self.require_report(entry);
        let message = format!("{} no longer has the signature it was stored with", bundle::subject(entry));
        self.alarms.raise("spool", AlarmKind::SpoolDamaged, &message, None).await;
    }

    async fn submit(&self, bundle: &[PendingEntry], wait: bool) -> Result<Vec<SubmissionResult>, ClientError> {
        let notes: Vec<&str> = bundle.iter().map(|entry| entry.note.as_str()).collect();
        self.client.submit_bundle(&notes, wait).await
    }

    /// Raises the alarm about an acknowledged entry that is not published in time.
    async fn check_deadline(&self, bundle: &[PendingEntry]) {
        let overdue = bundle.iter().filter_map(|entry| entry.acknowledged).find(|(_, at)| self.is_overdue(*at));
        if let Some((index, at)) = overdue {
            let message = format!("entry {index} was acknowledged at {at} and is still not published");
            self.alarms.raise(self.log.name(), AlarmKind::Unpublished, &message, None).await;
        }
    }

    /// Stores the indices of receipts whose checkpoints could not be checked.
    async fn settle_acknowledged(
        &self,
        bundle: &[PendingEntry],
        outcomes: &[EntryOutcome],
    ) -> Result<(), DeliveryError> {
        let acknowledged = bundle.iter().zip(outcomes).filter_map(|(entry, outcome)| match outcome {
            EntryOutcome::Delivered(receipt) => Some((entry.seq, Settlement::Acknowledged(receipt.index))),
            _ => None,
        });
        Ok(self.spool.settle(self.id, acknowledged.collect(), now()).await?)
    }

    /// Requests the entries' indices without waiting for publication, and stores them.
    async fn record_indices(&self, bundle: &[PendingEntry]) -> Result<DeliveryError, DeliveryError> {
        let answers = self.submit(bundle, false).await?;
        let (mut settled, mut changed) = (Vec::new(), None);
        for (entry, answer) in bundle.iter().zip(&answers) {
            changed = changed.or_else(|| Some((entry_outcome::changed_index(entry, answer)?, entry, answer)));
            if let SubmissionResult::Accepted { index, .. } = answer {
                // The first index stays, whatever comes later.
                settled.push((entry.seq, Settlement::Acknowledged(*index)));
            }
        }
        self.spool.settle(self.id, settled, now()).await?;
        match changed {
            Some((why, entry, answer)) => Err(self.raise_false_answer(&why, entry, answer).await),
            None => Ok(DeliveryError::NotPublished),
        }
    }

    fn is_overdue(&self, acknowledged: Timestamp) -> bool {
        let age = u64::try_from(now().unix() - acknowledged.unix()).unwrap_or(0);
        Duration::from_secs(age) >= self.publish_deadline
    }

    /// Evaluates the answers. The first one that proves misbehaviour raises an alarm; such entries stay in the spool. A
    /// changed index also raises the alarm, although the receipt proves where the entry is: somebody may have relied on the
    /// earlier index.
    async fn evaluate_all(&self, bundle: &[PendingEntry], answers: &[SubmissionResult]) -> Vec<EntryOutcome> {
        let mut receipts = ReceiptChecker::new(&self.log, &self.witness);
        let evaluate =
            |(entry, answer)| entry_outcome::evaluate(entry, answer, &mut receipts, &self.witness, &self.client);
        let outcomes: Vec<EntryOutcome> = bundle.iter().zip(answers).map(evaluate).collect();
        let mut all = bundle.iter().zip(answers).zip(&outcomes);
        let misbehaviour = all.find_map(|((entry, answer), outcome)| match outcome {
            EntryOutcome::ProvenFalse(why) => Some((why.clone(), entry, answer)),
            EntryOutcome::Damaged => None,
            _ => Some((entry_outcome::changed_index(entry, answer)?, entry, answer)),
        });
        if let Some((why, entry, answer)) = misbehaviour {
            self.raise_false_answer(&why, entry, answer).await;
        }
        outcomes
    }

    /// Checks that the checkpoints of the receipts are consistent with the remembered one, and remembers the newest.
    async fn check_checkpoints(
        &self,
        remembered: Option<&SignedCheckpoint>,
        outcomes: &[EntryOutcome],
    ) -> Result<(), DeliveryError> {
        let mut checkpoints: Vec<&SignedCheckpoint> = outcomes.iter().filter_map(EntryOutcome::checkpoint).collect();
        checkpoints.sort_by_key(|checkpoint| checkpoint.unverified().size);
        checkpoints.dedup_by(|one, other| one.unverified() == other.unverified());
        let (mut last, mut evaluate_all) = (remembered, None);
        for checkpoint in checkpoints {
            match check_growth(&self.client, last, checkpoint).await {
                Ok(()) => last = Some(checkpoint),
                Err(LookupError::Client(error)) => return Err(error.into()),
                Err(LookupError::InsufficientTrust(error)) => return Err(error.into()),
                Err(LookupError::Misbehaved(misbehaviour)) => {
                    let (why, evidence) = (misbehaviour.error.to_string(), misbehaviour.evidence);
                    return Err(self.raise_misbehaviour(&why, &evidence).await);
                }
            }
        }
        for receipt in outcomes.iter().filter_map(EntryOutcome::checkpoint) {
            // Checkpoints of one size may have different cosignatures; most receipts of a bundle share one.
            if evaluate_all != Some(receipt) {
                self.trust.check(receipt)?;
                evaluate_all = Some(receipt);
            }
        }
        if let Some(newest) = last {
            self.memory.advance(&self.log, remembered, newest)?;
            self.spool.remember_log(self.id, now(), Ok(newest.unverified().size));
        }
        Ok(())
    }

    /// Settles delivered entries, and those that were refused permanently.
    async fn settle(&self, bundle: &[PendingEntry], outcomes: &[EntryOutcome]) -> Result<RoundResult, DeliveryError> {
        let settled = bundle.iter().zip(outcomes).filter_map(|(entry, outcome)| match outcome {
            EntryOutcome::Delivered(_) => Some((entry.seq, Settlement::Delivered)),
            EntryOutcome::RefusedForGood(_) | EntryOutcome::Damaged => {
                Some((entry.seq, Settlement::Refused(outcome.to_string())))
            }
            EntryOutcome::RefusedForNow(..) | EntryOutcome::ProvenFalse(_) => None,
        });
        self.spool.settle(self.id, settled.collect(), now()).await?;
        for (entry, outcome) in bundle.iter().zip(outcomes) {
            match outcome {
                EntryOutcome::RefusedForGood(why) => {
                    self.require_report(entry);
                    let message = format!("{} was refused permanently: {why}", bundle::subject(entry));
                    self.alarms.raise(self.log.name(), AlarmKind::Refused, &message, None).await;
                }
                EntryOutcome::Damaged => self.report_damaged(entry).await,
                EntryOutcome::Delivered(_) | EntryOutcome::RefusedForNow(..) | EntryOutcome::ProvenFalse(_) => {}
            }
        }
        let delivered = outcomes.iter().filter(|outcome| matches!(outcome, EntryOutcome::Delivered(_))).count();
        if delivered > 0 {
            self.alarms.clear(self.log.name(), AlarmKind::Unpublished).await;
            self.alarms.clear(self.log.name(), AlarmKind::NotAdmitted).await;
        }
        self.report_unsettled(outcomes, delivered).await
    }

    /// A tag whose entry was refused permanently is reported again, so that the log has a newer entry for it.
    fn require_report(&self, entry: &PendingEntry) {
        let watched = self.repositories.get(&entry.repository);
        let tag = entry.tag.as_deref().and_then(|tag| Tag::parse(tag).ok());
        if let (Some(watched), Some(tag)) = (watched, tag) {
            watched.require_report(&tag);
        }
    }

    async fn report_unsettled(
        &self,
        outcomes: &[EntryOutcome],
        delivered: usize,
    ) -> Result<RoundResult, DeliveryError> {
        let unsettled: Vec<&EntryOutcome> = outcomes.iter().filter(|outcome| !outcome.is_settled()).collect();
        if unsettled.iter().any(|outcome| matches!(outcome, EntryOutcome::RefusedForNow(true, _))) {
            let message = "this log does not know the witness: give its operator the vkey; entries are kept until then";
            self.alarms.raise(self.log.name(), AlarmKind::NotAdmitted, message, None).await;
        }
        match unsettled.first() {
            Some(first) if delivered == 0 => {
                Err(DeliveryError::RefusedForNow { count: unsettled.len(), reason: first.to_string() })
            }
            _ => Ok(RoundResult::Delivered(delivered)),
        }
    }

    /// Raises the alarm about an answer that proves misbehaviour, and keeps it as evidence.
    async fn raise_false_answer(&self, why: &str, entry: &PendingEntry, answer: &SubmissionResult) -> DeliveryError {
        let evidence = json!({
            "type": MISBEHAVIOUR,
            "error": why,
            "answer": { "entry": entry.note, "acknowledged": entry.acknowledged.map(|(index, _)| index), "answer": answer },
        });
        self.raise_misbehaviour(why, &evidence.to_string()).await
    }

    async fn raise_misbehaviour(&self, why: &str, evidence: &str) -> DeliveryError {
        let kept = match self.memory.keep_evidence("misbehaviour", evidence.as_bytes()) {
            Ok(path) => Some(path.display().to_string()),
            Err(error) => {
                tracing::error!(%error, "the evidence could not be stored");
                None
            }
        };
        let message = format!("THE LOG MISBEHAVES: {why}");
        self.alarms.raise(self.log.name(), AlarmKind::Misbehaviour, &message, kept).await;
        DeliveryError::Misbehaved(why.to_owned())
    }
}

fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Whether a log may have accepted the entries in spite of this error.
fn may_have_been_taken(error: &ClientError) -> bool {
    match error {
        ClientError::Problem { kind, .. } => kind == "not-published",
        ClientError::Network { .. } => true,
        _ => false,
    }
}
