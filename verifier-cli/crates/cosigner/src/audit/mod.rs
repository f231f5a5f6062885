//! The auditing cosigner: every entry and seal is replayed before a checkpoint is cosigned, so that whoever demands
//! its cosignature has complete look-ups without auditing anything.
//!
//! One task for each log follows what is published, so that it has always nearly caught up, and answers the
//! [`AuditGate`], for which it fetches what is not published yet. What was audited is on disk before the gate opens,
//! and the gate opens before the record of what was cosigned changes: after a crash, the audit is level or ahead.

mod desk;
mod source;

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

use self::desk::{Desk, Prefix, Stop, Vouched, not_signed};
use super::{
    evidence::{self, Violation},
    log::LogKeys,
};
use taglog_audit::Auditor;

pub use source::Source;

/// How long a request waits for its audit; a log that is further ahead is told to ask again.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many entries may be missing for a request to wait for them.
const NEAR: u64 = 1 << 15;
/// How many entries are audited at a time.
const CHUNK: u64 = 1 << 16;
/// How often it is looked what the log has published, while nobody asks.
const FOLLOW: Duration = Duration::from_secs(1);
/// How many seconds a seal may be dated ahead of this clock: as many as verifiers allow it to be ahead of a cosignature.
const MAX_AHEAD: i64 = 300;
/// How many requests wait for the task; there is one a log at a time, and those that were given up.
const QUEUE: usize = 8;

/// Why a checkpoint was not passed.
#[derive(Clone, Debug)]
pub enum NotAudited {
    /// Not yet.
    Later(String),
    /// Never.
    Violation(Violation),
}

struct Request {
    signed: SignedCheckpoint,
    reply: oneshot::Sender<Result<(), NotAudited>>,
}

/// What a checkpoint must pass before it is cosigned.
#[derive(Clone, Debug)]
pub struct AuditGate {
    requests: mpsc::Sender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("size", &self.signed.unverified().size).finish_non_exhaustive()
    }
}

impl AuditGate {
    /// Waits until the log was audited up to this checkpoint, which it signed, and that is on disk.
    ///
    /// # Errors
    /// [`NotAudited`].
    pub async fn pass(&self, signed: SignedCheckpoint) -> Result<(), NotAudited> {
        let (reply, answer) = oneshot::channel();
        let later = |why: &str| Err(NotAudited::Later(why.to_owned()));
        if self.requests.try_send(Request { signed, reply }).is_err() {
            return later("the audit is busy; ask again in a moment");
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => later("the audit has ended"),
            Err(_) => later("the audit takes longer than usual; ask again in a moment"),
        }
    }
}

/// Follows one log.
struct Follower {
    keys: LogKeys,
    source: Source,
    /// Away while a thread works at it.
    desk: Option<Desk>,
    violation: Option<Violation>,
    /// The last checkpoint that was to be cosigned, and is too far ahead to be waited for.
    far: Option<SignedCheckpoint>,
    /// The cosigner's state directory, where evidence is kept.
    state: PathBuf,
    requests: mpsc::Receiver<Request>,
}

/// The entries from an index on, on their way.
type Ahead = (u64, JoinHandle<Result<Vec<Vec<u8>>, String>>);

/// Starts to follow a log, until the gate is dropped; evidence is kept below `state`.
pub fn follow(keys: LogKeys, source: Source, auditor: Auditor, state: PathBuf) -> AuditGate {
    let (sender, requests) = mpsc::channel(QUEUE);
    let follower =
        Follower { keys, source, desk: Some(Desk::new(auditor)), violation: None, far: None, state, requests };
    tokio::spawn(follower.run());
    AuditGate { requests: sender }
}

impl Follower {
    async fn run(mut self) {
        let mut looking = self.look(Duration::ZERO);
        loop {
            // Whoever asks need not wait for a log that does not answer.
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return looking.abort(),
                },
                found = &mut looking => {
                    let found = found.unwrap_or_else(|error| Err(error.to_string()));
                    if let Err(why) = self.catch_up(found).await {
                        tracing::warn!(origin = self.keys.origin(), "the published log could not be followed: {why}");
                    }
                    looking = self.look(FOLLOW);
                }
            }
            // At once, and not after the next look: a log that needs this cosigner has nothing to look at.
            if let Some(far) = self.far.take()
                && let Err(why) = self.catch_up_unpublished(far).await
            {
                tracing::warn!(origin = self.keys.origin(), "what is not published could not be audited: {why}");
            }
            self.show();
        }
    }

    /// Looks after a while what is published.
    fn look(&self, after: Duration) -> JoinHandle<Result<SignedCheckpoint, String>> {
        let source = self.source.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            source.checkpoint().await
        })
    }

    /// Audits what is published and was not audited yet.
    async fn catch_up(&mut self, published: Result<SignedCheckpoint, String>) -> Result<(), String> {
        if self.violation.is_some() {
            return Ok(());
        }
        let signed = self.keys.verify(&published?).map_err(|error| error.to_string())?;
        let size = signed.unverified().size;
        let mut ahead: Option<Ahead> = None;
        while self.next() < size && self.violation.is_none() {
            let from = self.next();
            let entries = match ahead.take().filter(|(first, _)| *first == from) {
                Some((_, task)) => task.await.map_err(|error| error.to_string())??,
                None => self.source.published(from, chunk_end(from, size), size).await?,
            };
            let end = chunk_end(from, size);
            if end < size {
                let source = self.source.clone();
                ahead =
                    Some((end, tokio::spawn(async move { source.published(end, chunk_end(end, size), size).await })));
            }
            let proof = if end < size { self.source.consistency(end, size).await? } else { Vec::new() };
            self.take_chunk(entries, Vouched { signed: signed.clone(), prefix: Prefix::Proof(proof) }).await?;
        }
        Ok(())
    }

    /// Audits a chunk, and lets those who have asked meanwhile know how far the audit is.
    async fn take_chunk(&mut self, entries: Vec<Vec<u8>>, vouched: Vouched) -> Result<(), String> {
        if let Err(stop) = self.at_desk(move |desk| desk.take(entries, &vouched)).await {
            self.stopped(stop)?;
        }
        self.show();
        while let Ok(request) = self.requests.try_recv() {
            self.answer(request).await;
        }
        Ok(())
    }

    /// Audits what is signed and not published: a log that needs this very cosigner publishes nothing before. It is read
    /// twice, so that it is never in memory as a whole, and nobody is blamed for what was changed on the way: once for
    /// the roots at the ends of chunks, which the signed root proves, and once for the audit.
    async fn catch_up_unpublished(&mut self, signed: SignedCheckpoint) -> Result<(), String> {
        if self.violation.is_some() || signed.unverified().size.saturating_sub(self.next()) <= NEAR {
            return Ok(());
        }
        let chunks = self.chunks_up_to(signed.unverified().size);
        let roots = self.roots_up_to(&chunks, &signed).await?;
        let candidates = self.source.candidates(chunks.clone());
        let mut known = pin!(candidates.zip(stream::iter(chunks.into_iter().zip(roots))));
        while let Some((entries, (chunk, root))) = known.next().await {
            let entries = entries?;
            if self.violation.is_some() || self.next() > chunk.start {
                // Whoever has asked meanwhile was near enough to be answered.
                return Ok(());
            }
            let prefix = Prefix::Root(root);
            self.take_chunk(entries, Vouched { signed: signed.clone(), prefix }).await?;
        }
        Ok(())
    }

    /// The chunks of entries from the next one up to a size.
    fn chunks_up_to(&self, size: u64) -> Vec<Range<u64>> {
        let starts = std::iter::successors(Some(self.next()), |start| Some(chunk_end(*start, size)));
        starts.take_while(|start| *start < size).map(|start| start..chunk_end(start, size)).collect()
    }

    /// The root that the log has at the end of each chunk; that of the last is the one that was signed.
    async fn roots_up_to(&mut self, chunks: &[Range<u64>], signed: &SignedCheckpoint) -> Result<Vec<Hash>, String> {
        let later = |stop: Stop| match stop {
            Stop::Later(why) | Stop::Violation { reason: why, .. } => why,
        };
        let mut frontier = self.at_desk(|desk| desk.frontier()).await.map_err(later)?;
        let mut roots = Vec::new();
        let mut candidates = pin!(self.source.candidates(chunks.to_vec()));
        while let Some(entries) = candidates.next().await {
            for entry in entries? {
                frontier.append(leaf_hash(&entry), |_, _, _| {});
            }
            roots.push(frontier.root());
        }
        let signed = signed.unverified();
        if frontier.root() == signed.root { Ok(roots) } else { Err(later(not_signed(signed.size))) }
    }

    async fn answer(&mut self, request: Request) {
        let outcome = match &self.violation {
            Some(violation) => Err(NotAudited::Violation(violation.clone())),
            None => self.pass(request.signed).await,
        };
        // Whoever has waited too long asks again, and finds it done.
        let _ = request.reply.send(outcome);
    }

    async fn pass(&mut self, signed: SignedCheckpoint) -> Result<(), NotAudited> {
        let size = signed.unverified().size;
        let (next, audited) = (self.next(), self.audited());
        if size.saturating_sub(next) > NEAR {
            let why = format!("audited {audited} of {size} entries so far; ask again later");
            self.far = Some(signed);
            return Err(NotAudited::Later(why));
        }
        let outcome = if size > next {
            let entries = self.source.candidate(next, size).await.map_err(NotAudited::Later)?;
            let vouched = Vouched { signed, prefix: Prefix::Proof(Vec::new()) };
            self.at_desk(move |desk| desk.take(entries, &vouched)).await
        } else if size > 0 {
            self.at_desk(move |desk| desk.check(&signed)).await
        } else {
            // A log without entries has nothing to audit.
            Ok(())
        };
        self.show();
        match outcome.map_err(|stop| self.stopped(stop)) {
            Ok(()) => self.check_date(Timestamp::from_system_time(SystemTime::now())),
            Err(Err(why)) => Err(NotAudited::Later(why)),
            Err(Ok(())) => Err(match &self.violation {
                Some(violation) => NotAudited::Violation(violation.clone()),
                None => NotAudited::Later("not audited".to_owned()),
            }),
        }
    }

    /// A seal that is dated in the future could never be taken back (DESIGN 3.2), and no verifier would take it with a
    /// cosignature of now.
    fn check_date(&self, now: Timestamp) -> Result<(), NotAudited> {
        match self.desk.as_ref().and_then(Desk::sealed) {
            Some(sealed) if sealed.unix() - now.unix() > MAX_AHEAD => {
                Err(NotAudited::Later(format!("the log's last seal is dated {sealed}, and here it is {now}")))
            }
            _ => Ok(()),
        }
    }

    /// Remembers a violation; everything else passes.
    fn stopped(&mut self, stop: Stop) -> Result<(), String> {
        match stop {
            Stop::Later(why) => Err(why),
            Stop::Violation { reason, evidence } => {
                tracing::error!(origin = self.keys.origin(), "THE LOG MISBEHAVES: {reason}");
                let evidence = evidence.and_then(|evidence| evidence::keep(&self.state, &evidence));
                self.violation = Some(Violation { reason, evidence });
                Ok(())
            }
        }
    }

    /// Works at the desk on a thread of its own.
    async fn at_desk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, Stop> {
        let gone = || Stop::Later("the audit has died: restart the cosigner".to_owned());
        let mut desk = self.desk.take().ok_or_else(gone)?;
        let task = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut desk);
            (desk, outcome)
        });
        let (desk, outcome) = task.await.map_err(|_| gone())?;
        self.desk = Some(desk);
        outcome
    }

    fn next(&self) -> u64 {
        self.desk.as_ref().map_or(u64::MAX, Desk::next)
    }

    fn audited(&self) -> u64 {
        self.desk.as_ref().map_or(0, Desk::audited)
    }

    fn show(&self) {
        metrics::gauge!("taglog_cosigner_audited_size", "origin" => self.keys.origin().to_owned())
            .set(self.audited() as f64);
    }
}

/// Where the chunk from `from` on ends: at a whole tile of the second level, where proofs are short.
fn chunk_end(from: u64, size: u64) -> u64 {
    size.min((from / CHUNK + 1) * CHUNK)
}
