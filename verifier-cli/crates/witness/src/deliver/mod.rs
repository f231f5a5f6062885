//! Brings the spool's entries to one log, and checks that log while doing so.
//!
//! One task for each log, so that one that is down holds up no other. [`Delivery::round`] is the whole life of a
//! bundle: choose, submit, check, settle. An entry leaves the spool only when a receipt for it has verified under
//! a checkpoint that is consistent with the last one verified.

mod bundle;
mod manifests;
mod outcome;

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
    spool::{LogId, Pending, Settlement, Spool, SpoolError},
    watch::Watched,
};
use outcome::Outcome;
use taglog_log_client::{
    ClientError, LogClient, Submitted,
    lookup::{LookupError, MISBEHAVIOUR, check_growth},
    memory::{Memory, MemoryError},
    receipt::ReceiptChecker,
    trust::{Distrust, Trust},
};

/// The most entries in one bundle.
const BUNDLE: usize = 1000;
/// How far ahead the spool is read for a bundle.
const WINDOW: usize = 4 * BUNDLE;
/// How often a log is asked again for what it has acknowledged and not published.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How soon a log is asked again to take what it did not take for now.
const NOT_NOW: Duration = Duration::from_secs(5);
/// The longest wait for a log that does not answer as it should.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a round did not bring everything on its way.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the log has acknowledged entries that it has not published yet")]
    NotPublished,
    #[error("the log did not take {count} entries for now: {reason}")]
    NotNow { count: usize, reason: String },
    #[error("THE LOG MISBEHAVES: {0}")]
    Misbehaved(String),
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// There was nothing to deliver.
    Empty,
    /// This many entries have left the spool.
    Delivered(usize),
}

/// Delivers to one log.
pub struct Delivery {
    /// The log's key.
    pub log: VerifierKey,
    /// Who must have cosigned what it publishes.
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
    pub repositories: Arc<BTreeMap<String, Arc<Watched>>>,
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

impl Delivery {
    /// Delivers what is in the spool, and whatever comes, until told to stop. `recorded` changes with every entry.
    pub async fn run(self, recorded: watch::Receiver<u64>, stop: CancellationToken) {
        tokio::select! {
            // Whatever a round has begun can be broken off: what is not settled is submitted again.
            () = self.keep_delivering(recorded) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Entries go first; manifests when no entry waits, or none that can go.
    async fn keep_delivering(&self, mut recorded: watch::Receiver<u64>) {
        let (mut backoff, mut stuck_since) = (backoff(), None);
        loop {
            recorded.mark_unchanged();
            let outcome = self.round().await;
            self.remember(&outcome);
            self.take_note(&outcome, &mut stuck_since).await;
            match outcome {
                Ok(Round::Delivered(_)) => backoff = self::backoff(),
                Ok(Round::Empty) => match self.upload_some().await {
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
                Err(Trouble::NotPublished) => tokio::time::sleep(ASK_AGAIN).await,
                // The log is well: whatever else comes must not wait for long.
                Err(Trouble::NotNow { .. }) => {
                    if let Err(error) = self.upload_some().await {
                        self.warn_of_manifests(&error);
                    }
                    tokio::time::sleep(NOT_NOW).await;
                }
                Err(_) => tokio::time::sleep(backoff.next().unwrap_or_default()).await,
            }
        }
    }

    fn warn_of_manifests(&self, error: &Trouble) {
        tracing::warn!(log = self.log.name(), "manifests are not kept by the log yet: {error}");
    }

    /// Raises or ends the alarms about a log that takes nothing. `stuck_since`: since when it has not.
    async fn take_note(&self, outcome: &Result<Round, Trouble>, stuck_since: &mut Option<Instant>) {
        match outcome {
            Ok(_) => {
                *stuck_since = None;
                self.alarms.clear(self.log.name(), AlarmKind::Undelivered).await;
                self.alarms.clear(self.log.name(), AlarmKind::Memory).await;
            }
            Err(error @ (Trouble::Client(_) | Trouble::Distrust(_) | Trouble::NotNow { .. })) => {
                let since = stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.publish_deadline {
                    let message = format!("entries wait, and the log has taken none for long: {error}");
                    self.alarms.raise(self.log.name(), AlarmKind::Undelivered, &message, None).await;
                }
            }
            Err(Trouble::Memory(error)) => {
                let message = format!("nothing is delivered to this log: {error}");
                self.alarms.raise(self.log.name(), AlarmKind::Memory, &message, None).await;
            }
            // These have alarms of their own.
            Err(Trouble::NotPublished | Trouble::Misbehaved(_) | Trouble::Spool(_)) => {}
        }
    }

    /// Delivers all that is in the spool now, and gives up at the first trouble; says what it was.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn drain(&self) -> Result<(), String> {
        loop {
            let outcome = self.round().await;
            self.remember(&outcome);
            let uploaded = match outcome {
                Ok(Round::Delivered(_)) => continue,
                Ok(Round::Empty) => self.upload_some().await,
                Err(error) => Err(error),
            };
            match uploaded {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(format!("{}: {error}", self.log.name())),
            }
        }
    }

    fn remember(&self, outcome: &Result<Round, Trouble>) {
        match outcome {
            Ok(Round::Empty) => {}
            Ok(Round::Delivered(count)) => {
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
    async fn round(&self) -> Result<Round, Trouble> {
        let waiting = self.spool.pending(self.id, WINDOW).await?;
        let nothing_waits = waiting.is_empty();
        let bundle = bundle::choose(waiting, BUNDLE);
        if bundle.is_empty() {
            return Ok(if nothing_waits { Round::Empty } else { Round::Delivered(0) });
        }
        self.check_deadline(&bundle).await;
        // Before the submission: what others remember meanwhile may well be newer than our receipts.
        let remembered = self.memory.load(&self.log)?;
        let answers = match self.submit(&bundle, true).await {
            Err(error) if may_have_been_taken(&error) => return Err(self.hold_to_word(&bundle).await?),
            // What is damaged may be why the log does not understand the rest.
            Err(error) => {
                self.let_go_of_damaged(&bundle).await?;
                return Err(error.into());
            }
            Ok(answers) => answers,
        };
        let outcomes = self.judged(&bundle, &answers).await;
        match self.check_checkpoints(remembered.as_ref(), &outcomes).await {
            // A log that does not prove that it has only grown, or lacks cosigners, is held to its word, and to the
            // deadline.
            Err(error @ (Trouble::Client(_) | Trouble::Distrust(_))) => {
                self.settle_as_word(&bundle, &outcomes).await?;
                return Err(error);
            }
            checked => checked?,
        }
        self.settle(&bundle, &outcomes).await
    }

    /// Lets go of what the disk has changed: the signature no longer holds.
    async fn let_go_of_damaged(&self, bundle: &[Pending]) -> Result<(), Trouble> {
        let damaged: Vec<&Pending> = bundle.iter().filter(|entry| !bundle::is_intact(entry, &self.witness)).collect();
        let refused = |entry: &&Pending| (entry.seq, Settlement::Refused(Outcome::Damaged.to_string()));
        self.spool.settle(self.id, damaged.iter().map(refused).collect(), now()).await?;
        for entry in damaged {
            self.is_damaged(entry).await;
        }
        Ok(())
    }

    async fn is_damaged(&self, entry: &Pending) {
        self.owe(entry);
        let message = format!("{} no longer has the signature it was stored with", bundle::subject(entry));
        self.alarms.raise("spool", AlarmKind::SpoolDamaged, &message, None).await;
    }

    async fn submit(&self, bundle: &[Pending], wait: bool) -> Result<Vec<Submitted>, ClientError> {
        let notes: Vec<&str> = bundle.iter().map(|entry| entry.note.as_str()).collect();
        self.client.submit_bundle(&notes, wait).await
    }

    /// Raises the alarm about an entry that was acknowledged and is not published in time.
    async fn check_deadline(&self, bundle: &[Pending]) {
        let overdue = bundle.iter().filter_map(|entry| entry.acknowledged).find(|(_, at)| self.is_overdue(*at));
        if let Some((index, at)) = overdue {
            let message = format!("entry {index} was acknowledged at {at} and is still not published");
            self.alarms.raise(self.log.name(), AlarmKind::Unpublished, &message, None).await;
        }
    }

    /// Remembers the indices in receipts that cannot be relied on.
    async fn settle_as_word(&self, bundle: &[Pending], outcomes: &[Outcome]) -> Result<(), Trouble> {
        let word = bundle.iter().zip(outcomes).filter_map(|(entry, outcome)| match outcome {
            Outcome::Delivered(receipt) => Some((entry.seq, Settlement::Acknowledged(receipt.index))),
            _ => None,
        });
        Ok(self.spool.settle(self.id, word.collect(), now()).await?)
    }

    /// Asks for the entries' indices without waiting for publication, and remembers them.
    async fn hold_to_word(&self, bundle: &[Pending]) -> Result<Trouble, Trouble> {
        let answers = self.submit(bundle, false).await?;
        let (mut settled, mut changed) = (Vec::new(), None);
        for (entry, answer) in bundle.iter().zip(&answers) {
            changed = changed.or_else(|| Some((outcome::changed_index(entry, answer)?, entry, answer)));
            if let Submitted::Accepted { index, .. } = answer {
                // The first index stays, whatever comes later.
                settled.push((entry.seq, Settlement::Acknowledged(*index)));
            }
        }
        self.spool.settle(self.id, settled, now()).await?;
        match changed {
            Some((why, entry, answer)) => Err(self.misbehaved(&why, entry, answer).await),
            None => Ok(Trouble::NotPublished),
        }
    }

    fn is_overdue(&self, acknowledged: Timestamp) -> bool {
        let age = u64::try_from(now().unix() - acknowledged.unix()).unwrap_or(0);
        Duration::from_secs(age) >= self.publish_deadline
    }

    /// What each answer means. The first false one raises an alarm; the entry of every false one stays. An entry that
    /// has got another index than was said before is no false answer: the receipt proves where it is. But somebody may
    /// have relied on the other index, so that this raises the alarm too.
    async fn judged(&self, bundle: &[Pending], answers: &[Submitted]) -> Vec<Outcome> {
        let mut receipts = ReceiptChecker::new(&self.log, &self.witness);
        let judge = |(entry, answer)| outcome::judge(entry, answer, &mut receipts, &self.witness, &self.client);
        let outcomes: Vec<Outcome> = bundle.iter().zip(answers).map(judge).collect();
        let mut all = bundle.iter().zip(answers).zip(&outcomes);
        let false_one = all.find_map(|((entry, answer), outcome)| match outcome {
            Outcome::False(why) => Some((why.clone(), entry, answer)),
            Outcome::Damaged => None,
            _ => Some((outcome::changed_index(entry, answer)?, entry, answer)),
        });
        if let Some((why, entry, answer)) = false_one {
            self.misbehaved(&why, entry, answer).await;
        }
        outcomes
    }

    /// Checks that the log has only grown from what is remembered to each checkpoint in the receipts, and remembers
    /// the newest.
    async fn check_checkpoints(
        &self,
        remembered: Option<&SignedCheckpoint>,
        outcomes: &[Outcome],
    ) -> Result<(), Trouble> {
        let mut checkpoints: Vec<&SignedCheckpoint> = outcomes.iter().filter_map(Outcome::checkpoint).collect();
        checkpoints.sort_by_key(|checkpoint| checkpoint.unverified().size);
        checkpoints.dedup_by(|one, other| one.unverified() == other.unverified());
        let (mut last, mut judged) = (remembered, None);
        for checkpoint in checkpoints {
            match check_growth(&self.client, last, checkpoint).await {
                Ok(()) => last = Some(checkpoint),
                Err(LookupError::Client(error)) => return Err(error.into()),
                Err(LookupError::Distrust(error)) => return Err(error.into()),
                Err(LookupError::Misbehaved(misbehaviour)) => {
                    let (why, evidence) = (misbehaviour.error.to_string(), misbehaviour.evidence);
                    return Err(self.raise_misbehaviour(&why, &evidence).await);
                }
            }
        }
        for receipt in outcomes.iter().filter_map(Outcome::checkpoint) {
            // Checkpoints of one size may differ in who cosigned; most receipts of a bundle share one.
            if judged != Some(receipt) {
                self.trust.check(receipt)?;
                judged = Some(receipt);
            }
        }
        if let Some(newest) = last {
            self.memory.advance(&self.log, remembered, newest)?;
            self.spool.remember_log(self.id, now(), Ok(newest.unverified().size));
        }
        Ok(())
    }

    /// Lets go of what was delivered, and marks what will never be.
    async fn settle(&self, bundle: &[Pending], outcomes: &[Outcome]) -> Result<Round, Trouble> {
        let settled = bundle.iter().zip(outcomes).filter_map(|(entry, outcome)| match outcome {
            Outcome::Delivered(_) => Some((entry.seq, Settlement::Delivered)),
            Outcome::Never(_) | Outcome::Damaged => Some((entry.seq, Settlement::Refused(outcome.to_string()))),
            Outcome::NotNow(..) | Outcome::False(_) => None,
        });
        self.spool.settle(self.id, settled.collect(), now()).await?;
        for (entry, outcome) in bundle.iter().zip(outcomes) {
            match outcome {
                Outcome::Never(why) => {
                    self.owe(entry);
                    let message = format!("{} will never be logged: {why}", bundle::subject(entry));
                    self.alarms.raise(self.log.name(), AlarmKind::Refused, &message, None).await;
                }
                Outcome::Damaged => self.is_damaged(entry).await,
                Outcome::Delivered(_) | Outcome::NotNow(..) | Outcome::False(_) => {}
            }
        }
        let delivered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Delivered(_))).count();
        if delivered > 0 {
            self.alarms.clear(self.log.name(), AlarmKind::Unpublished).await;
            self.alarms.clear(self.log.name(), AlarmKind::NotAdmitted).await;
        }
        self.report_unsettled(outcomes, delivered).await
    }

    /// What a log will never take is looked at and reported again, so that the log has something newer about it.
    fn owe(&self, entry: &Pending) {
        let watched = self.repositories.get(&entry.repository);
        let tag = entry.tag.as_deref().and_then(|tag| Tag::parse(tag).ok());
        if let (Some(watched), Some(tag)) = (watched, tag) {
            watched.owe(&tag);
        }
    }

    async fn report_unsettled(&self, outcomes: &[Outcome], delivered: usize) -> Result<Round, Trouble> {
        let unsettled: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_settled()).collect();
        if unsettled.iter().any(|outcome| matches!(outcome, Outcome::NotNow(true, _))) {
            let message = "this log does not know the witness: give its operator the vkey; entries are kept until then";
            self.alarms.raise(self.log.name(), AlarmKind::NotAdmitted, message, None).await;
        }
        match unsettled.first() {
            Some(first) if delivered == 0 => Err(Trouble::NotNow { count: unsettled.len(), reason: first.to_string() }),
            _ => Ok(Round::Delivered(delivered)),
        }
    }

    /// Raises the alarm about a false answer to one entry.
    async fn misbehaved(&self, why: &str, entry: &Pending, answer: &Submitted) -> Trouble {
        let evidence = json!({
            "type": MISBEHAVIOUR,
            "error": why,
            "answer": { "entry": entry.note, "acknowledged": entry.acknowledged.map(|(index, _)| index), "answer": answer },
        });
        self.raise_misbehaviour(why, &evidence.to_string()).await
    }

    async fn raise_misbehaviour(&self, why: &str, evidence: &str) -> Trouble {
        let kept = match self.memory.keep_evidence("misbehaviour", evidence.as_bytes()) {
            Ok(path) => Some(path.display().to_string()),
            Err(error) => {
                tracing::error!(%error, "the evidence could not be kept");
                None
            }
        };
        let message = format!("THE LOG MISBEHAVES: {why}");
        self.alarms.raise(self.log.name(), AlarmKind::Misbehaviour, &message, kept).await;
        Trouble::Misbehaved(why.to_owned())
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

/// Whether a log that gave this answer, or none, may have taken the entries.
fn may_have_been_taken(error: &ClientError) -> bool {
    match error {
        ClientError::Problem { kind, .. } => kind == "not-published",
        ClientError::Network { .. } => true,
        _ => false,
    }
}
