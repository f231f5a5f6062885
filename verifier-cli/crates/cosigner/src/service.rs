//! Decides what is cosigned (c2sp.org/tlog-witness, where a cosigner is called a witness).
//!
//! [`Cosigner::add_checkpoint`] is the whole life of a request. Its checks come in the order of the specification:
//! form (400), origin (404), the log's signature (403), sizes (400, 409), proofs (422). Requests for one log take turns,
//! so that its cosignatures' times and sizes only ever grow together; different logs do not wait for each other.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use taglog_proto::{
    add_checkpoint::{AddCheckpoint, AddCheckpointError, SignSubtree},
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignError, CosignerKey, CosignerSigningKey},
    merkle::{ProofError, empty_root, verify_consistency},
    note::{NoteError, NoteSignature},
    subtree::verify_subtree,
    time::Timestamp,
};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore, watch};

use super::{
    audit::{AuditGate, NotAudited},
    config::{Config, LogConfig},
    evidence,
    log::{self, LogKeys, Untrusted},
    store::{Known, Record, Store, StoreError},
};
use taglog_audit::evidence::fork;

/// How many requests for one log may be under way or wait for their turn.
const QUEUE: usize = 32;
/// How far the clock may have stepped back behind the last cosignature: that far, the last time is said again.
const STEP_BACK: Duration = Duration::from_secs(300);

/// Why nothing was cosigned.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The request is malformed, or the old size is above the checkpoint's.
    #[error(transparent)]
    Malformed(#[from] AddCheckpointError),
    /// No log of this origin is configured.
    #[error("this cosigner does not know the log of this origin")]
    UnknownLog,
    /// The checkpoint is not signed by the log, or by this cosigner for a subtree.
    #[error("{0}")]
    Untrusted(String),
    /// The old size is not the one of the latest cosigned checkpoint, which is this one.
    #[error("the latest cosigned checkpoint has size {0}")]
    Conflict(u64),
    /// A tree without leaves has one root.
    #[error("a checkpoint of size 0 has the root of the empty tree")]
    EmptyRoot,
    /// The log signed two histories.
    #[error("this checkpoint and the latest cosigned one have the same size and different roots")]
    Fork,
    /// The proof does not verify.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// The log broke a rule, now or before.
    #[error("this log is not cosigned: {0}")]
    Violation(String),
    /// What must be audited first has not been yet.
    #[error("{0}")]
    NotAudited(String),
    /// Too many requests for this log.
    #[error("too many requests for this log; try again in a moment")]
    Busy,
    /// No time can be stated.
    #[error("this cosigner's clock is {0} seconds behind its last cosignature: it must be set right")]
    Clock(i64),
    /// The checkpoint cannot be cosigned by one of the keys.
    #[error(transparent)]
    Cosign(#[from] CosignError),
    /// The record could not be stored, so that nothing was given out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of this program has failed.
    #[error("a task has died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Untrusted> for Refusal {
    fn from(why: Untrusted) -> Refusal {
        Refusal::Untrusted(why.to_string())
    }
}

/// One log, and what is known of it.
#[derive(Debug)]
struct Log {
    keys: LogKeys,
    /// Held while a request is judged and its record stored.
    turn: Mutex<()>,
    /// Places in the queue for the turn.
    queue: Semaphore,
    /// As it is on disk.
    known: watch::Sender<Known>,
    audit: Option<AuditGate>,
}

impl Log {
    fn origin(&self) -> &str {
        self.keys.origin()
    }

    fn record(&self) -> Option<Record> {
        self.known.borrow().record.clone()
    }
}

/// The cosigner: its keys, its logs, its state.
#[derive(Debug)]
pub struct Cosigner {
    keys: Arc<Vec<CosignerSigningKey>>,
    logs: BTreeMap<String, Arc<Log>>,
    store: Store,
    state: PathBuf,
    /// How many requests may compute at once.
    cores: Semaphore,
}

impl Cosigner {
    /// A cosigner of the configured logs, of which this is known. `audits` are the gates of an auditing cosigner.
    pub fn new(
        config: &Config,
        keys: Vec<CosignerSigningKey>,
        store: Store,
        known: &std::collections::HashMap<String, Known>,
        mut audits: BTreeMap<String, AuditGate>,
    ) -> Cosigner {
        let log = |(origin, log): (&String, &LogConfig)| {
            let known = known.get(origin).cloned().unwrap_or_default();
            show(origin, &known);
            let log = Log {
                keys: log.keys.clone(),
                turn: Mutex::new(()),
                queue: Semaphore::new(QUEUE),
                known: watch::Sender::new(known),
                audit: audits.remove(origin),
            };
            (origin.clone(), Arc::new(log))
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Cosigner {
            keys: Arc::new(keys),
            logs: config.logs.iter().map(log).collect(),
            store,
            state: config.state.clone(),
            cores: Semaphore::new(2 * cores),
        }
    }

    /// The public keys.
    pub fn keys(&self) -> impl Iterator<Item = &CosignerKey> {
        self.keys.iter().map(CosignerSigningKey::key)
    }

    /// Checks a request to cosign a checkpoint, stores the new record, and returns the cosignatures.
    ///
    /// A caller that gives up waiting must let this run to its end all the same.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing was cosigned.
    pub async fn add_checkpoint(&self, body: Vec<u8>) -> Result<Vec<NoteSignature>, Refusal> {
        let request = self.compute(move || AddCheckpoint::parse(&body)).await??;
        let log = Arc::clone(self.log(&request.checkpoint)?);
        let _place = log.queue.try_acquire().map_err(|_| Refusal::Busy)?;
        let (keys, checkpoint) = (log.keys.clone(), request.checkpoint.clone());
        let signed = self.compute(move || keys.verify(&checkpoint)).await??;
        let _turn = log.turn.lock().await;
        if let Some(violation) = &log.known.borrow().violation {
            return Err(Refusal::Violation(violation.reason.clone()));
        }
        let latest = log.record();
        if let Err(refusal) = check(latest.as_ref(), &request) {
            self.remember_fork(&log, latest.as_ref(), &signed, &refusal).await;
            return Err(refusal);
        }
        if let Some(audit) = &log.audit {
            // What was audited is on disk before it is cosigned: after a crash in between, the audit is ahead.
            let audited = audit.pass(signed.clone()).await;
            self.judge_audit(&log, audited).await?;
        }
        let time = date(now(), latest.as_ref().map(|record| record.cosigned))?;
        let lines = self.cosign(signed.clone(), time).await?;
        let record = Record { signed: signed.with_signatures(lines.iter().cloned()), cosigned: time };
        self.store(&log, latest, record).await?;
        Ok(lines)
    }

    /// Checks a request to cosign a subtree, and returns the cosignatures.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn sign_subtree(&self, body: Vec<u8>) -> Result<Vec<NoteSignature>, Refusal> {
        let keys = Arc::clone(&self.keys);
        let request = self.compute(move || SignSubtree::parse(&body)).await??;
        self.log(&request.checkpoint)?;
        self.compute(move || sign_subtree(&keys, &request)).await?
    }

    /// Whether it has a key that can cosign subtrees.
    pub fn signs_subtrees(&self) -> bool {
        self.keys().any(|key| key.algorithm() == Algorithm::MlDsa44)
    }

    /// The latest cosigned checkpoint of the log whose origin has this SHA-256, in lower-case hex; `None` when there is
    /// no such log or it was never cosigned.
    pub fn latest(&self, origin_hash: &str) -> Option<SignedCheckpoint> {
        let log = self.logs.values().find(|log| log::origin_hash(log.origin()) == origin_hash)?;
        log.record().map(|record| record.signed)
    }

    fn log(&self, signed: &SignedCheckpoint) -> Result<&Arc<Log>, Refusal> {
        self.logs.get(&signed.unverified().origin).ok_or(Refusal::UnknownLog)
    }

    /// Does what takes a while elsewhere, for so many requests at once as there are cores for.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let _core = self.cores.acquire().await;
        Ok(tokio::task::spawn_blocking(work).await?)
    }

    async fn cosign(&self, signed: SignedCheckpoint, time: Timestamp) -> Result<Vec<NoteSignature>, Refusal> {
        let keys = Arc::clone(&self.keys);
        let lines = self.compute(move || keys.iter().map(|key| key.cosign(&signed, time)).collect::<Result<_, _>>());
        Ok(lines.await??)
    }

    /// The record is on disk before anybody hears of the cosignatures.
    async fn store(&self, log: &Log, latest: Option<Record>, record: Record) -> Result<(), Refusal> {
        match self.store.advance(log.origin(), latest, record.clone()).await? {
            Ok(()) => {
                log.known.send_modify(|known| known.record = Some(record));
                show(log.origin(), &log.known.borrow());
                Ok(())
            }
            Err(there) => {
                // Only this process changes records, one at a time for a log: it takes a failing disk to get here.
                let size = there.as_ref().map_or(0, Record::size);
                log.known.send_modify(|known| known.record = there);
                Err(Refusal::Conflict(size))
            }
        }
    }

    /// Two signed checkpoints of one size are evidence that nobody can deny.
    async fn remember_fork(&self, log: &Log, latest: Option<&Record>, signed: &SignedCheckpoint, refusal: &Refusal) {
        let (Refusal::Fork, Some(latest)) = (refusal, latest) else { return };
        let evidence = evidence::keep(&self.state, &fork(&latest.signed, signed));
        tracing::error!(origin = log.origin(), size = latest.size(), ?evidence, "the log signed two histories");
        metrics::counter!("taglog_cosigner_forks_total", "origin" => log.origin().to_owned()).increment(1);
        if log.audit.is_some() {
            let reason = format!("it signed two checkpoints of size {} with different roots", latest.size());
            self.convict(log, super::evidence::Violation { reason, evidence }).await;
        }
    }

    async fn judge_audit(&self, log: &Log, audited: Result<(), NotAudited>) -> Result<(), Refusal> {
        match audited {
            Ok(()) => Ok(()),
            Err(NotAudited::Later(why)) => Err(Refusal::NotAudited(why)),
            Err(NotAudited::Violation(violation)) => {
                let refusal = Refusal::Violation(violation.reason.clone());
                self.convict(log, violation).await;
                Err(refusal)
            }
        }
    }

    /// An auditing cosigner never cosigns the log again.
    async fn convict(&self, log: &Log, violation: super::evidence::Violation) {
        tracing::error!(origin = log.origin(), evidence = ?violation.evidence, "THE LOG MISBEHAVES: {}", violation.reason);
        // In memory first: whatever the disk says, this process does not cosign it.
        log.known.send_modify(|known| known.violation = Some(violation.clone()));
        show(log.origin(), &log.known.borrow());
        if let Err(error) = self.store.convict(log.origin(), violation).await {
            tracing::error!(%error, "the violation could not be stored; it will be found again");
        }
    }
}

/// Everything between the log's signature and the cosigning, in the specification's order.
fn check(latest: Option<&Record>, request: &AddCheckpoint) -> Result<(), Refusal> {
    let new = request.checkpoint.unverified();
    let latest = latest.map(|record| record.signed.unverified());
    let latest_size = latest.map_or(0, |checkpoint| checkpoint.size);
    if request.old != latest_size {
        return Err(Refusal::Conflict(latest_size));
    }
    if new.size == 0 && new.root != empty_root() {
        return Err(Refusal::EmptyRoot);
    }
    match latest.filter(|latest| latest.size > 0) {
        // The empty tree is consistent with every tree.
        None if request.proof.is_empty() => Ok(()),
        None => Err(Refusal::Proof(ProofError::WrongLength { got: request.proof.len() })),
        Some(latest) if latest.size == new.size && latest.root != new.root => Err(Refusal::Fork),
        Some(latest) => Ok(verify_consistency(latest.size, new.size, &request.proof, &latest.root, &new.root)?),
    }
}

fn sign_subtree(keys: &[CosignerSigningKey], request: &SignSubtree) -> Result<Vec<NoteSignature>, Refusal> {
    let SignSubtree { subtree, hash, proof, checkpoint: signed } = request;
    let cosigned: Vec<bool> = keys
        .iter()
        .map(|key| key.key().cosigned(signed).map(|time| time.is_some()))
        .collect::<Result<_, NoteError>>()
        .map_err(|error| Refusal::Untrusted(error.to_string()))?;
    if !cosigned.contains(&true) {
        return Err(Refusal::Untrusted("no signature is by this cosigner".to_owned()));
    }
    let checkpoint = signed.unverified();
    verify_subtree(*subtree, checkpoint.size, proof, hash, &checkpoint.root)?;
    let keys = keys.iter().filter(|key| key.key().algorithm() == Algorithm::MlDsa44);
    Ok(keys.map(|key| key.cosign_subtree(&checkpoint.origin, *subtree, hash)).collect::<Result<_, _>>()?)
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// The time of the next cosignature: as time goes on, sizes only grow.
fn date(now: Timestamp, previous: Option<Timestamp>) -> Result<Timestamp, Refusal> {
    let behind = previous.map_or(0, |previous| previous.unix() - now.unix());
    match previous {
        Some(_) if behind > STEP_BACK.as_secs() as i64 => Err(Refusal::Clock(behind)),
        Some(previous) if behind > 0 => Ok(previous),
        _ => Ok(now),
    }
}

fn show(origin: &str, known: &Known) {
    let origin = origin.to_owned();
    if let Some(record) = &known.record {
        metrics::gauge!("taglog_cosigner_size", "origin" => origin.clone()).set(record.size() as f64);
        metrics::gauge!("taglog_cosigner_cosigned_time_seconds", "origin" => origin.clone())
            .set(record.cosigned.unix() as f64);
    }
    metrics::gauge!("taglog_cosigner_violation", "origin" => origin)
        .set(f64::from(u8::from(known.violation.is_some())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    #[test]
    fn times_never_decrease() {
        assert_eq!(date(at(1000), None).unwrap(), at(1000));
        assert_eq!(date(at(1000), Some(at(999))).unwrap(), at(1000));
        assert_eq!(date(at(1000), Some(at(1300))).unwrap(), at(1300), "the clock was set back a little");
        assert!(matches!(date(at(1000), Some(at(1301))), Err(Refusal::Clock(301))));
    }
}
