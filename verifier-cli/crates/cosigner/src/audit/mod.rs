//! The auditing cosigner: every entry and seal is replayed before a checkpoint is cosigned, so that a verifier that
//! requires its cosignature has complete look-ups without auditing anything.
//!
//! One task for each log follows the published log, so that it has nearly caught up at all times, and answers the
//! requests of an [`AuditQueue`], for which it fetches entries that are not published yet. The audit is on disk before
//! a request is answered, and the record of the cosigned checkpoint changes only after that: after a crash, the audit
//! is at the cosigned size or beyond it.

mod log_source;
mod session;

use std::{
    ops::Range,
    path::PathBuf,
    pin::pin,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    merkle::{Hash, leaf_hash},
    time::Timestamp,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use self::session::{AuditError, AuditSession, EntryProof, PrefixProof, not_signed_entries};
use super::{
    evidence::{self, Violation},
    log::LogKeys,
};
use taglog_audit::Auditor;

pub use log_source::LogSource;

/// How long a request waits for its audit. A log that is further ahead gets 503 and has to retry.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(4);
/// The most unaudited entries for which a request waits.
const MAX_AWAITED: u64 = 1 << 15;
/// How many entries are audited at a time.
const CHUNK: u64 = 1 << 16;
/// How often the log is polled for a newer published checkpoint.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many seconds a seal may be ahead of this clock: as many as verifiers allow it to be ahead of a cosignature.
const MAX_AHEAD: i64 = 300;
/// How many requests may wait for the task: one for each log, and abandoned ones.
const QUEUE: usize = 8;

/// Why a checkpoint cannot be cosigned.
#[derive(Clone, Debug)]
pub enum NotAudited {
    /// The audit has not got there yet, or could not be done; the request may be repeated.
    Pending(String),
    /// The log broke a rule; it is never cosigned again.
    Violation(Violation),
}

struct AuditRequest {
    signed: SignedCheckpoint,
    reply: oneshot::Sender<Result<(), NotAudited>>,
}

/// The queue of checkpoints that must be audited before they are cosigned.
#[derive(Clone, Debug)]
pub struct AuditQueue {
    requests: mpsc::Sender<AuditRequest>,
}

impl std::fmt::Debug for AuditRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("size", &self.signed.unverified().size).finish_non_exhaustive()
    }
}

impl AuditQueue {
    /// Waits until the log is audited up to this checkpoint, which it signed, and the audit is on disk.
    pub async fn audit(&self, signed: SignedCheckpoint) -> Result<(), NotAudited> {
        let (reply, answer) = oneshot::channel();
        let later = |why: &str| Err(NotAudited::Pending(why.to_owned()));
        if self.requests.try_send(AuditRequest { signed, reply }).is_err() {
            return later("the audit is busy; try again in a moment");
        }
        match tokio::time::timeout(AUDIT_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => later("the audit has ended"),
            Err(_) => later("the audit takes longer than usual; try again in a moment"),
        }
    }
}

/// The task that audits one log.
struct LogFollower {
    keys: LogKeys,
    source: LogSource,
    /// `None` while a thread uses it.
    session: Option<AuditSession>,
    violation: Option<Violation>,
    /// The last requested checkpoint that was too far ahead to be awaited.
    catch_up_target: Option<SignedCheckpoint>,
    /// The cosigner's state directory, where evidence is kept.
    state: PathBuf,
    requests: mpsc::Receiver<AuditRequest>,
}

/// The entries from an index on, while they are fetched.
type Prefetch = (u64, JoinHandle<Result<Vec<Vec<u8>>, String>>);

/// Starts the task that audits a log, until the queue is dropped. Evidence is written below `state`.
pub fn start_auditing(keys: LogKeys, source: LogSource, auditor: Auditor, state: PathBuf) -> AuditQueue {
    let (sender, requests) = mpsc::channel(QUEUE);
    let follower = LogFollower {
        keys,
        source,
        session: Some(AuditSession::new(auditor)),
        violation: None,
        catch_up_target: None,
        state,
        requests,
    };
    tokio::spawn(follower.run());
    AuditQueue { requests: sender }
}

impl LogFollower {
    async fn run(mut self) {
        let mut polling = self.poll(Duration::ZERO);
        loop {
            // Polling is a task of its own, so that requests need not wait for a log that does not answer.
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return polling.abort(),
                },
                found = &mut polling => {
                    let found = found.unwrap_or_else(|error| Err(error.to_string()));
                    if let Err(why) = self.catch_up(found).await {
                        tracing::warn!(origin = self.keys.origin(), "the published log could not be audited: {why}");
                    }
                    polling = self.poll(POLL_INTERVAL);
                }
            }
            // At once, not after the next poll: a log that needs this cosigner for its quorum publishes nothing before.
            if let Some(catch_up_target) = self.catch_up_target.take()
                && let Err(why) = self.catch_up_unpublished(catch_up_target).await
            {
                tracing::warn!(origin = self.keys.origin(), "unpublished entries could not be audited: {why}");
            }
            self.record_metrics();
        }
    }

    /// Fetches the published checkpoint after a delay.
    fn poll(&self, after: Duration) -> JoinHandle<Result<SignedCheckpoint, String>> {
        let source = self.source.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            source.checkpoint().await
        })
    }

    /// Audits the published entries that were not audited yet.
    async fn catch_up(&mut self, published: Result<SignedCheckpoint, String>) -> Result<(), String> {
        if self.violation.is_some() {
            return Ok(());
        }
        let signed = self.keys.verify(&published?).map_err(|error| error.to_string())?;
        let size = signed.unverified().size;
        let mut prefetch: Option<Prefetch> = None;
        while self.next() < size && self.violation.is_none() {
            let from = self.next();
            let entries = match prefetch.take().filter(|(first, _)| *first == from) {
                Some((_, task)) => task.await.map_err(|error| error.to_string())??,
                None => self.source.published(from, chunk_end(from, size), size).await?,
            };
            let end = chunk_end(from, size);
            if end < size {
                let source = self.source.clone();
                prefetch =
                    Some((end, tokio::spawn(async move { source.published(end, chunk_end(end, size), size).await })));
            }
            let proof = if end < size { self.source.consistency(end, size).await? } else { Vec::new() };
            self.audit_chunk(entries, EntryProof { signed: signed.clone(), prefix: PrefixProof::Consistency(proof) })
                .await?;
        }
        Ok(())
    }

    /// Audits a chunk, and then answers the requests that have arrived meanwhile.
    async fn audit_chunk(&mut self, entries: Vec<Vec<u8>>, proof_of_entries: EntryProof) -> Result<(), String> {
        if let Err(stop) = self.with_session(move |session| session.take(entries, &proof_of_entries)).await {
            self.record_violation(stop)?;
        }
        self.record_metrics();
        while let Ok(request) = self.requests.try_recv() {
            self.answer(request).await;
        }
        Ok(())
    }

    /// Audits signed entries that are not published, because a log that needs this cosigner for its quorum publishes
    /// nothing before. The entries are fetched twice, so that they are never all in memory, and the log is never blamed
    /// for entries that were altered in transit: once for the roots at the ends of the chunks, which the signed root
    /// proves, and once for the audit.
    async fn catch_up_unpublished(&mut self, signed: SignedCheckpoint) -> Result<(), String> {
        if self.violation.is_some() || signed.unverified().size.saturating_sub(self.next()) <= MAX_AWAITED {
            return Ok(());
        }
        let chunks = self.chunks_up_to(signed.unverified().size);
        let roots = self.roots_up_to(&chunks, &signed).await?;
        let candidates = self.source.candidates(chunks.clone());
        let mut chunks = pin!(candidates.zip(stream::iter(chunks.into_iter().zip(roots))));
        while let Some((entries, (chunk, root))) = chunks.next().await {
            let entries = entries?;
            if self.violation.is_some() || self.next() > chunk.start {
                // Requests that arrived meanwhile have advanced the audit.
                return Ok(());
            }
            let prefix = PrefixProof::Root(root);
            self.audit_chunk(entries, EntryProof { signed: signed.clone(), prefix }).await?;
        }
        Ok(())
    }

    /// The chunks from the next entry up to a size.
    fn chunks_up_to(&self, size: u64) -> Vec<Range<u64>> {
        let starts = std::iter::successors(Some(self.next()), |start| Some(chunk_end(*start, size)));
        starts.take_while(|start| *start < size).map(|start| start..chunk_end(start, size)).collect()
    }

    /// The root of the log at the end of each chunk; the last one is the signed root.
    async fn roots_up_to(&mut self, chunks: &[Range<u64>], signed: &SignedCheckpoint) -> Result<Vec<Hash>, String> {
        let later = |stop: AuditError| match stop {
            AuditError::Pending(why) | AuditError::Violation { reason: why, .. } => why,
        };
        let mut frontier = self.with_session(|session| session.frontier()).await.map_err(later)?;
        let mut roots = Vec::new();
        let mut candidates = pin!(self.source.candidates(chunks.to_vec()));
        while let Some(entries) = candidates.next().await {
            for entry in entries? {
                frontier.append(leaf_hash(&entry), |_, _, _| {});
            }
            roots.push(frontier.root());
        }
        let signed = signed.unverified();
        if frontier.root() == signed.root { Ok(roots) } else { Err(later(not_signed_entries(signed.size))) }
    }

    async fn answer(&mut self, request: AuditRequest) {
        let outcome = match &self.violation {
            Some(violation) => Err(NotAudited::Violation(violation.clone())),
            None => self.audit_up_to(request.signed).await,
        };
        // A requester that has timed out asks again, and finds the audit done.
        let _ = request.reply.send(outcome);
    }

    async fn audit_up_to(&mut self, signed: SignedCheckpoint) -> Result<(), NotAudited> {
        let size = signed.unverified().size;
        let (next, audited) = (self.next(), self.audited());
        if size.saturating_sub(next) > MAX_AWAITED {
            let why = format!("audited {audited} of {size} entries so far; try again later");
            self.catch_up_target = Some(signed);
            return Err(NotAudited::Pending(why));
        }
        let outcome = if size > next {
            let entries = self.source.candidate(next, size).await.map_err(NotAudited::Pending)?;
            let proof_of_entries = EntryProof { signed, prefix: PrefixProof::Consistency(Vec::new()) };
            self.with_session(move |session| session.take(entries, &proof_of_entries)).await
        } else if size > 0 {
            self.with_session(move |session| session.check(&signed)).await
        } else {
            // A log without entries has nothing to audit.
            Ok(())
        };
        self.record_metrics();
        match outcome.map_err(|stop| self.record_violation(stop)) {
            Ok(()) => self.check_date(Timestamp::from_system_time(SystemTime::now())),
            Err(Err(why)) => Err(NotAudited::Pending(why)),
            Err(Ok(())) => Err(match &self.violation {
                Some(violation) => NotAudited::Violation(violation.clone()),
                None => NotAudited::Pending("not audited".to_owned()),
            }),
        }
    }

    /// A seal with a future date can never be taken back, and verifiers would reject it with a cosignature of the
    /// present time.
    fn check_date(&self, now: Timestamp) -> Result<(), NotAudited> {
        match self.session.as_ref().and_then(AuditSession::sealed) {
            Some(sealed) if sealed.unix() - now.unix() > MAX_AHEAD => Err(NotAudited::Pending(format!(
                "the log's last seal is dated {sealed}, but this cosigner's clock shows {now}"
            ))),
            _ => Ok(()),
        }
    }

    /// Records a violation; returns the reason of any other error.
    fn record_violation(&mut self, stop: AuditError) -> Result<(), String> {
        match stop {
            AuditError::Pending(why) => Err(why),
            AuditError::Violation { reason, evidence } => {
                tracing::error!(origin = self.keys.origin(), "THE LOG MISBEHAVES: {reason}");
                let evidence = evidence.and_then(|evidence| evidence::write(&self.state, &evidence));
                self.violation = Some(Violation { reason, evidence });
                Ok(())
            }
        }
    }

    /// Runs work with the session on a blocking thread.
    async fn with_session<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut AuditSession) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let gone = || AuditError::Pending("the audit has failed unexpectedly; restart the cosigner".to_owned());
        let mut session = self.session.take().ok_or_else(gone)?;
        let task = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut session);
            (session, outcome)
        });
        let (session, outcome) = task.await.map_err(|_| gone())?;
        self.session = Some(session);
        outcome
    }

    fn next(&self) -> u64 {
        self.session.as_ref().map_or(u64::MAX, AuditSession::next)
    }

    fn audited(&self) -> u64 {
        self.session.as_ref().map_or(0, AuditSession::audited)
    }

    fn record_metrics(&self) {
        metrics::gauge!("taglog_cosigner_audited_size", "origin" => self.keys.origin().to_owned())
            .set(self.audited() as f64);
    }
}

/// The end of the chunk that starts at `from`: a complete tile of level 1, where proofs are short.
fn chunk_end(from: u64, size: u64) -> u64 {
    size.min((from / CHUNK + 1) * CHUNK)
}
