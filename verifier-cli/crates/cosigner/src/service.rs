//! Decides what is cosigned (c2sp.org/tlog-witness, where a cosigner is called a witness).
//!
//! [`Cosigner::add_checkpoint`] processes a request from its bytes to the cosignatures. The checks are in the order of
//! the specification: encoding (400), origin (404), the log's signature (403), sizes (400, 409), proofs (422). Requests
//! for one log are processed one after the other, so that the times and sizes of its cosignatures only grow together;
//! different logs do not wait for each other.

use std::{
    collections::{BTreeMap, HashMap},
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
    audit::{AuditQueue, NotAudited},
    config::{Config, LogConfig},
    evidence::{self, Violation},
    log::{self, CheckpointSignatureError, LogKeys},
    store::{Record, Store, StoreError, StoredLog},
};
use taglog_audit::evidence::fork;

/// How many requests for one log may be processed or wait.
const QUEUE: usize = 32;
/// How far the clock may be behind the last cosignature: up to this, the time of the last cosignature is used again.
const MAX_STEP_BACK: Duration = Duration::from_secs(300);

/// Why nothing was cosigned.
#[derive(Debug, Error)]
pub enum CosignRejection {
    /// The request is malformed, or the old size is greater than the checkpoint's.
    #[error(transparent)]
    Malformed(#[from] AddCheckpointError),
    /// No log of this origin is configured.
    #[error("no log with this origin is configured; ask the operator of this cosigner to add it")]
    UnknownLog,
    /// The checkpoint is not signed by the log, or, for a subtree, not by this cosigner.
    #[error("{0}")]
    Untrusted(String),
    /// The old size is not that of the latest cosigned checkpoint, which is given here.
    #[error("the latest cosigned checkpoint has size {0}")]
    Conflict(u64),
    /// A checkpoint of size 0 with another root than that of the empty tree.
    #[error("a checkpoint of size 0 must have the root of the empty tree")]
    EmptyRoot,
    /// The log signed two histories.
    #[error("this checkpoint and the latest cosigned one have the same size and different roots")]
    Fork,
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// The log broke a rule, now or earlier.
    #[error("this log is not cosigned, because it broke a rule: {0}")]
    Violation(String),
    /// The audit has not reached the checkpoint yet.
    #[error("{0}")]
    NotAudited(String),
    /// Too many requests for this log.
    #[error("too many requests for this log; try again in a moment")]
    Busy,
    #[error(
        "this cosigner's clock is {0} seconds behind its last cosignature; times of cosignatures must not decrease; \
         its operator must correct the clock"
    )]
    Clock(i64),
    /// One of the keys cannot cosign the checkpoint.
    #[error(transparent)]
    Cosign(#[from] CosignError),
    /// The record could not be stored, so no cosignature was returned.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task has failed unexpectedly: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<CheckpointSignatureError> for CosignRejection {
    fn from(why: CheckpointSignatureError) -> CosignRejection {
        CosignRejection::Untrusted(why.to_string())
    }
}

/// One log with its state.
#[derive(Debug)]
struct CosignedLog {
    keys: LogKeys,
    /// Held from the checks of a request until its record is stored.
    request_lock: Mutex<()>,
    /// Permits for requests that are processed or wait.
    queue: Semaphore,
    /// The state on disk.
    stored: watch::Sender<StoredLog>,
    audit: Option<AuditQueue>,
}

impl CosignedLog {
    fn origin(&self) -> &str {
        self.keys.origin()
    }

    fn record(&self) -> Option<Record> {
        self.stored.borrow().record.clone()
    }
}

/// The cosigner: its keys, its logs and its store.
#[derive(Debug)]
pub struct Cosigner {
    keys: Arc<Vec<CosignerSigningKey>>,
    logs: BTreeMap<String, Arc<CosignedLog>>,
    store: Store,
    state: PathBuf,
    /// Permits for computations, for as many at once as the cores can do.
    cores: Semaphore,
}

impl Cosigner {
    /// `stored` is the state of the logs on disk, and `audits` are the queues of an auditing cosigner, both by origin.
    pub fn new(
        config: &Config,
        keys: Vec<CosignerSigningKey>,
        store: Store,
        stored: &HashMap<String, StoredLog>,
        mut audits: BTreeMap<String, AuditQueue>,
    ) -> Cosigner {
        let log = |(origin, log): (&String, &LogConfig)| {
            let stored = stored.get(origin).cloned().unwrap_or_default();
            record_metrics(origin, &stored);
            let log = CosignedLog {
                keys: log.keys.clone(),
                request_lock: Mutex::new(()),
                queue: Semaphore::new(QUEUE),
                stored: watch::Sender::new(stored),
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

    pub fn keys(&self) -> impl Iterator<Item = &CosignerKey> {
        self.keys.iter().map(CosignerSigningKey::key)
    }

    /// Checks a request to cosign a checkpoint, stores the new record, and returns the cosignatures.
    ///
    /// It must run to its end even if the caller no longer waits, so that memory and disk agree.
    pub async fn add_checkpoint(&self, body: Vec<u8>) -> Result<Vec<NoteSignature>, CosignRejection> {
        let request = self.compute(move || AddCheckpoint::parse(&body)).await??;
        let log = Arc::clone(self.log(&request.checkpoint)?);
        let _permit = log.queue.try_acquire().map_err(|_| CosignRejection::Busy)?;
        let (keys, checkpoint) = (log.keys.clone(), request.checkpoint.clone());
        let signed = self.compute(move || keys.verify(&checkpoint)).await??;
        let _lock = log.request_lock.lock().await;
        if let Some(violation) = &log.stored.borrow().violation {
            return Err(CosignRejection::Violation(violation.reason.clone()));
        }
        let latest = log.record();
        if let Err(rejection) = check(latest.as_ref(), &request) {
            self.record_fork(&log, latest.as_ref(), &signed, &rejection).await;
            return Err(rejection);
        }
        if let Some(audit) = &log.audit {
            // The audit is on disk before the record: after a crash in between, the audit is ahead.
            let audited = audit.audit(signed.clone()).await;
            self.record_audit_result(&log, audited).await?;
        }
        let time = cosignature_time(now(), latest.as_ref().map(|record| record.cosigned))?;
        let lines = self.cosign(signed.clone(), time).await?;
        let record = Record { signed: signed.with_signatures(lines.iter().cloned()), cosigned: time };
        self.store(&log, latest, record).await?;
        Ok(lines)
    }

    /// Checks a request to cosign a subtree, and returns the cosignatures.
    pub async fn sign_subtree(&self, body: Vec<u8>) -> Result<Vec<NoteSignature>, CosignRejection> {
        let keys = Arc::clone(&self.keys);
        let request = self.compute(move || SignSubtree::parse(&body)).await??;
        self.log(&request.checkpoint)?;
        self.compute(move || sign_subtree(&keys, &request)).await?
    }

    /// Whether one of the keys can cosign subtrees.
    pub fn signs_subtrees(&self) -> bool {
        self.keys().any(|key| key.algorithm() == Algorithm::MlDsa44)
    }

    /// The latest cosigned checkpoint of the log whose origin has this SHA-256, in lower-case hex; `None` if there is
    /// no such log or it was never cosigned.
    pub fn latest(&self, origin_hash: &str) -> Option<SignedCheckpoint> {
        let log = self.logs.values().find(|log| log::origin_hash(log.origin()) == origin_hash)?;
        log.record().map(|record| record.signed)
    }

    fn log(&self, signed: &SignedCheckpoint) -> Result<&Arc<CosignedLog>, CosignRejection> {
        self.logs.get(&signed.unverified().origin).ok_or(CosignRejection::UnknownLog)
    }

    /// Runs a computation on a blocking thread, as many at once as the cores can do.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CosignRejection> {
        let _core = self.cores.acquire().await;
        Ok(tokio::task::spawn_blocking(work).await?)
    }

    async fn cosign(&self, signed: SignedCheckpoint, time: Timestamp) -> Result<Vec<NoteSignature>, CosignRejection> {
        let keys = Arc::clone(&self.keys);
        let lines = self.compute(move || keys.iter().map(|key| key.cosign(&signed, time)).collect::<Result<_, _>>());
        Ok(lines.await??)
    }

    /// Stores the record. It is on disk before the cosignatures are returned.
    async fn store(&self, log: &CosignedLog, latest: Option<Record>, record: Record) -> Result<(), CosignRejection> {
        match self.store.advance(log.origin(), latest, record.clone()).await? {
            Ok(()) => {
                log.stored.send_modify(|stored| stored.record = Some(record));
                record_metrics(log.origin(), &log.stored.borrow());
                Ok(())
            }
            Err(found) => {
                // Only this process changes records, one at a time for each log, so this needs a failed disk write.
                let size = found.as_ref().map_or(0, Record::size);
                log.stored.send_modify(|stored| stored.record = found);
                Err(CosignRejection::Conflict(size))
            }
        }
    }

    /// Writes two signed checkpoints of one size with different roots as evidence.
    async fn record_fork(
        &self,
        log: &CosignedLog,
        latest: Option<&Record>,
        signed: &SignedCheckpoint,
        rejection: &CosignRejection,
    ) {
        let (CosignRejection::Fork, Some(latest)) = (rejection, latest) else { return };
        let evidence = evidence::write(&self.state, &fork(&latest.signed, signed));
        tracing::error!(origin = log.origin(), size = latest.size(), ?evidence, "the log signed two histories");
        metrics::counter!("taglog_cosigner_forks_total", "origin" => log.origin().to_owned()).increment(1);
        if log.audit.is_some() {
            let reason = format!("it signed two checkpoints of size {} with different roots", latest.size());
            self.record_violation(log, Violation { reason, evidence }).await;
        }
    }

    async fn record_audit_result(
        &self,
        log: &CosignedLog,
        audited: Result<(), NotAudited>,
    ) -> Result<(), CosignRejection> {
        match audited {
            Ok(()) => Ok(()),
            Err(NotAudited::Pending(why)) => Err(CosignRejection::NotAudited(why)),
            Err(NotAudited::Violation(violation)) => {
                let rejection = CosignRejection::Violation(violation.reason.clone());
                self.record_violation(log, violation).await;
                Err(rejection)
            }
        }
    }

    /// Records that the log broke a rule. An auditing cosigner never cosigns it again.
    async fn record_violation(&self, log: &CosignedLog, violation: Violation) {
        tracing::error!(origin = log.origin(), evidence = ?violation.evidence, "THE LOG MISBEHAVES: {}", violation.reason);
        // In memory first: this process does not cosign the log even if the disk fails.
        log.stored.send_modify(|stored| stored.violation = Some(violation.clone()));
        record_metrics(log.origin(), &log.stored.borrow());
        if let Err(error) = self.store.record_violation(log.origin(), violation).await {
            tracing::error!(%error, "the violation could not be stored; the next audit finds it again");
        }
    }
}

/// The checks of sizes and proofs, in the order of the specification.
fn check(latest: Option<&Record>, request: &AddCheckpoint) -> Result<(), CosignRejection> {
    let new = request.checkpoint.unverified();
    let latest = latest.map(|record| record.signed.unverified());
    let latest_size = latest.map_or(0, |checkpoint| checkpoint.size);
    if request.old != latest_size {
        return Err(CosignRejection::Conflict(latest_size));
    }
    if new.size == 0 && new.root != empty_root() {
        return Err(CosignRejection::EmptyRoot);
    }
    match latest.filter(|latest| latest.size > 0) {
        // The empty tree is consistent with every tree.
        None if request.proof.is_empty() => Ok(()),
        None => Err(CosignRejection::Proof(ProofError::WrongLength { got: request.proof.len() })),
        Some(latest) if latest.size == new.size && latest.root != new.root => Err(CosignRejection::Fork),
        Some(latest) => Ok(verify_consistency(latest.size, new.size, &request.proof, &latest.root, &new.root)?),
    }
}

fn sign_subtree(keys: &[CosignerSigningKey], request: &SignSubtree) -> Result<Vec<NoteSignature>, CosignRejection> {
    let SignSubtree { subtree, hash, proof, checkpoint: signed } = request;
    let cosigned: Vec<bool> = keys
        .iter()
        .map(|key| key.key().cosigned(signed).map(|time| time.is_some()))
        .collect::<Result<_, NoteError>>()
        .map_err(|error| CosignRejection::Untrusted(error.to_string()))?;
    if !cosigned.contains(&true) {
        return Err(CosignRejection::Untrusted("the checkpoint has no cosignature by this cosigner".to_owned()));
    }
    let checkpoint = signed.unverified();
    verify_subtree(*subtree, checkpoint.size, proof, hash, &checkpoint.root)?;
    let keys = keys.iter().filter(|key| key.key().algorithm() == Algorithm::MlDsa44);
    Ok(keys.map(|key| key.cosign_subtree(&checkpoint.origin, *subtree, hash)).collect::<Result<_, _>>()?)
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// The time of the next cosignature, which is never before `previous`.
fn cosignature_time(now: Timestamp, previous: Option<Timestamp>) -> Result<Timestamp, CosignRejection> {
    let behind = previous.map_or(0, |previous| previous.unix() - now.unix());
    match previous {
        Some(_) if behind > MAX_STEP_BACK.as_secs() as i64 => Err(CosignRejection::Clock(behind)),
        Some(previous) if behind > 0 => Ok(previous),
        _ => Ok(now),
    }
}

fn record_metrics(origin: &str, stored: &StoredLog) {
    let origin = origin.to_owned();
    if let Some(record) = &stored.record {
        metrics::gauge!("taglog_cosigner_size", "origin" => origin.clone()).set(record.size() as f64);
        metrics::gauge!("taglog_cosigner_cosigned_time_seconds", "origin" => origin.clone())
            .set(record.cosigned.unix() as f64);
    }
    metrics::gauge!("taglog_cosigner_violation", "origin" => origin)
        .set(f64::from(u8::from(stored.violation.is_some())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    #[test]
    fn times_of_cosignatures_never_decrease() {
        assert_eq!(cosignature_time(at(1000), None).unwrap(), at(1000));
        assert_eq!(cosignature_time(at(1000), Some(at(999))).unwrap(), at(1000));
        assert_eq!(cosignature_time(at(1000), Some(at(1300))).unwrap(), at(1300), "the clock was set back a little");
        assert!(matches!(cosignature_time(at(1000), Some(at(1301))), Err(CosignRejection::Clock(301))));
    }
}
