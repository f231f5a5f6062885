//! One audit of a static log under a signed checkpoint, from comparison with earlier checkpoints to the replay of entries.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, pin_mut};
use taglog_base::progress::{Progress, SharedProgress};
use taglog_proto::{
    OperationError,
    checkpoint::{Checkpoint, SignedCheckpoint},
    evidence::Evidence,
    merkle::{Hash, NodeReader as _, consistency_proof, leaf_hash, verify_consistency},
    tile::{FULL_WIDTH, TileKind, decode_bundle},
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    auditor::{Auditor, Consistency},
    batch::{BatchReport, ParsedEntries},
    download::{Chunk, chunks, tile_path},
    error::{AuditorError, PushError},
    evidence::{NodeError, ServedNodes, broken_rule, fork, inconsistency, no_seal},
    index::Index,
    outcome::{AuditFinding, AuditFindingKind, AuditOutcome, AuditRunError},
};
use taglog_log_client::static_log::{StaticError, StaticLog};

/// The maximum time between two commits during a replay.
const COMMIT_INTERVAL: Duration = Duration::from_secs(4);
/// The number of uncommitted rows at which a replay commits early.
const COMMIT_ROWS: usize = 300_000;
/// The capacity of the channel of parsed chunks. Small: the last chunks in it are taken while the parsing threads have no work
/// left.
const WAITING: usize = 4;
/// The maximum number of entries that are fetched again to build the evidence for one batch.
const MAX_EVIDENCE_ENTRIES: u64 = 200_000;

/// Receives the audited batches. It commits before the auditor does: after a crash it receives some batches again, but never
/// misses one.
pub trait Follower: Send {
    /// Receives batches that break no rule, in log order; `index` is the state after the last of them.
    ///
    /// # Errors
    /// A message; the audit ends with [`AuditRunError::Follower`].
    fn take(&mut self, reports: &[BatchReport], index: &Index) -> Result<(), String>;

    /// Makes everything received so far durable.
    ///
    /// # Errors
    /// A message; the audit ends with [`AuditRunError::Follower`].
    fn commit(&mut self) -> Result<(), String>;
}

/// A follower shared between the auditor's thread and the caller.
pub type SharedFollower = Arc<Mutex<dyn Follower>>;

/// One audit of a log under a checkpoint whose signature the caller has verified.
pub struct Run<'a> {
    /// The source of entries and tiles.
    pub log: &'a StaticLog,
    pub checkpoint: &'a SignedCheckpoint,
    /// Verified checkpoints of the log from other sources than the auditor's state.
    pub seen: Vec<SignedCheckpoint>,
    /// Counts entries.
    pub progress: SharedProgress,
    pub follower: Option<SharedFollower>,
}

/// How the replay of entries ended.
enum Stop {
    /// All downloaded entries were taken.
    Done,
    /// The remaining entries do not end in a seal.
    Unsealed(Box<ParsedEntries>),
    /// The served hash tile has another hash for the entry at this log index.
    FalseHash(u64),
    Push(PushError),
}

impl Run<'_> {
    fn target(&self) -> &Checkpoint {
        self.checkpoint.unverified()
    }

    /// Audits all entries up to the checkpoint that were not audited yet, and compares the checkpoint with all others.
    /// Batches that break no rule are durable afterwards, also if a later one breaks a rule.
    ///
    /// # Errors
    /// A local failure, after which nothing is known about the log.
    pub async fn audit(&self, mut auditor: Auditor) -> Result<(Auditor, AuditOutcome), AuditRunError> {
        let (start, mut outcome) = (auditor.size(), AuditOutcome::default());
        let seen = self.seen_before(&auditor)?;
        self.compare_known(&auditor, &seen, &mut outcome)?;
        let grown = self.target().size > start;
        if outcome.findings.is_empty() && grown {
            self.check_growth(&auditor, &seen, &mut outcome).await?;
        }
        // Checkpoints are kept forever: a log that is truncated or forked later contradicts them.
        for checkpoint in self.seen.iter().chain([self.checkpoint]) {
            auditor.remember_checkpoint(checkpoint.clone());
        }
        auditor.commit()?;
        if outcome.findings.is_empty() && outcome.unavailable.is_none() && grown {
            auditor = self.replay(auditor, &seen, &mut outcome).await?;
        }
        outcome.audited = auditor.size() - start;
        let whole = outcome.findings.is_empty() && auditor.size() >= self.target().size;
        if whole && outcome.unavailable.is_none() {
            self.check_high_tiles(&mut auditor, &mut outcome).await?;
            self.compare_replayed(&auditor, &seen, &mut outcome)?;
            outcome.complete = outcome.findings.is_empty() && outcome.unavailable.is_none();
        }
        auditor.commit()?;
        Ok((auditor, outcome))
    }

    /// Every checkpoint seen before, from the auditor's state and from the caller, the smallest first.
    fn seen_before(&self, auditor: &Auditor) -> Result<Vec<SignedCheckpoint>, AuditorError> {
        let mut seen = auditor.checkpoints()?;
        seen.extend(self.seen.iter().cloned());
        seen.sort_by_key(|checkpoint| checkpoint.unverified().size);
        Ok(seen)
    }

    /// Compares the checkpoint with local knowledge only: the audited entries, and checkpoints of the same or of a larger
    /// size.
    fn compare_known(
        &self,
        auditor: &Auditor,
        seen: &[SignedCheckpoint],
        outcome: &mut AuditOutcome,
    ) -> Result<(), AuditorError> {
        let target = self.target();
        let forked =
            seen.iter().find(|other| other.unverified().size == target.size && other.unverified().root != target.root);
        if let Some(other) = forked {
            let reason = format!("it has signed two roots for size {}", target.size);
            outcome.add_finding(auditor, AuditFindingKind::Fork, None, reason, Some(fork(other, self.checkpoint)));
        } else if auditor.check_checkpoint(self.checkpoint)? == Consistency::Contradicted {
            let known = |other: &&SignedCheckpoint| {
                let stands = auditor.check_checkpoint(other);
                other.unverified().size > target.size && stands.is_ok_and(|stands| stands == Consistency::Consistent)
            };
            let larger = seen.iter().find(known);
            let evidence = larger.map(|larger| inconsistency(self.checkpoint, larger, auditor)).transpose()?;
            let reason = format!("its checkpoint of size {} is no prefix of what was audited before", target.size);
            outcome.add_finding(auditor, AuditFindingKind::Inconsistency, None, reason, evidence);
        }
        let greatest = seen.iter().map(|other| other.unverified().size).max().unwrap_or(0).max(auditor.size());
        outcome.behind = (greatest > target.size).then_some(greatest);
        Ok(())
    }

    /// Checks, using the log's tiles, that the audited tree is a prefix of the checkpoint's.
    async fn check_growth(
        &self,
        auditor: &Auditor,
        seen: &[SignedCheckpoint],
        outcome: &mut AuditOutcome,
    ) -> Result<(), AuditorError> {
        let size = auditor.size();
        if size == 0 || self.is_prefix(auditor, size, auditor.root(), outcome).await? || outcome.unavailable.is_some() {
            return Ok(());
        }
        self.find_inconsistency(auditor, seen, outcome).await;
        if outcome.findings.is_empty() {
            let reason = format!("what it serves does not show that it has only grown since size {size}");
            outcome.add_finding(auditor, AuditFindingKind::FalseData, None, reason, None);
        }
        Ok(())
    }

    /// Whether a tree of this size and root is a prefix of the checkpoint's. `false` also if the log's tiles are unavailable,
    /// which is noted in `outcome`.
    async fn is_prefix(
        &self,
        auditor: &Auditor,
        size: u64,
        root: Hash,
        outcome: &mut AuditOutcome,
    ) -> Result<bool, AuditorError> {
        let target = self.target();
        let mut nodes = ServedNodes::new(Some(auditor), target.size);
        let proof = nodes
            .with(self.log, |nodes| OperationError::unless_refused(consistency_proof(nodes, size, target.size)))
            .await;
        match outcome.available(proof)? {
            Some(Some(proof)) => Ok(verify_consistency(size, target.size, &proof, &root, &target.root).is_ok()),
            _ => Ok(false),
        }
    }

    /// Searches for a smaller checkpoint that is not a prefix of this one, using the tree that the log serves.
    async fn find_inconsistency(&self, auditor: &Auditor, seen: &[SignedCheckpoint], outcome: &mut AuditOutcome) {
        let mut nodes = ServedNodes::new(None, self.target().size);
        for old in seen.iter().filter(|old| old.unverified().size < self.target().size).rev() {
            let evidence = nodes.with(self.log, |nodes| inconsistency(old, self.checkpoint, nodes)).await;
            // Without the tiles there is no evidence; the caller reports the misbehaviour in another way.
            let Ok(evidence) = evidence else { continue };
            if evidence.proves_misbehaviour(auditor.log()).is_ok() {
                let (old, new) = (old.unverified().size, self.target().size);
                let reason = format!("its checkpoint of size {old} is no prefix of the one of size {new}");
                outcome.add_finding(auditor, AuditFindingKind::Inconsistency, None, reason, Some(evidence));
                return;
            }
        }
    }

    /// Downloads and audits all entries from the auditor's size to the checkpoint's.
    async fn replay(
        &self,
        auditor: Auditor,
        seen: &[SignedCheckpoint],
        outcome: &mut AuditOutcome,
    ) -> Result<Auditor, AuditRunError> {
        let (from, size) = (auditor.size(), self.target().size);
        let keys = auditor.keys().clone();
        let (sender, receiver) = mpsc::channel(WAITING);
        let progress = self.progress.clone();
        progress.start(from, size);
        let follower = self.follower.clone();
        let taking = spawn_blocking(move || take_all(auditor, receiver, progress.as_ref(), follower.as_ref()));
        let downloaded = self.download(from, keys, sender).await;
        let (auditor, stop) = taking.await.map_err(|error| AuditRunError::Thread(error.to_string()))??;
        match stop {
            Stop::Push(PushError::Auditor(error)) => return Err(error.into()),
            Stop::Push(PushError::UnknownKind { index, kind }) => outcome.upgrade = Some((index, kind)),
            Stop::Push(PushError::Violation { index, violation }) => {
                self.collect_evidence(&auditor, index, violation.to_string(), outcome).await?;
            }
            Stop::FalseHash(index) => self.false_data(&auditor, seen, index, outcome).await,
            // The failed download is the reason why entries are missing.
            _ if downloaded.is_err() => {}
            Stop::Unsealed(rest) => self.unsealed(&auditor, &rest, outcome).await?,
            Stop::Done if auditor.root() != self.target().root => {
                self.false_data(&auditor, seen, size - 1, outcome).await;
            }
            Stop::Done => {}
        }
        if let Err(error) = downloaded {
            outcome.unavailable.get_or_insert(error.to_string());
        }
        Ok(auditor)
    }

    /// Sends chunks until the last one is sent or the receiver is closed.
    async fn download(
        &self,
        from: u64,
        keys: super::signatures::WitnessKeys,
        sender: mpsc::Sender<Chunk>,
    ) -> Result<(), StaticError> {
        let chunks = chunks(self.log, from, self.target().size, keys);
        pin_mut!(chunks);
        while let Some(chunk) = chunks.next().await {
            if sender.send(chunk?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Reports a broken rule with its evidence, provided that the served entries are those that the log signed.
    async fn collect_evidence(
        &self,
        auditor: &Auditor,
        index: u64,
        reason: String,
        outcome: &mut AuditOutcome,
    ) -> Result<(), AuditorError> {
        let batch = match self.batch(auditor.size(), index).await {
            Ok(batch) => batch,
            Err(error) => {
                outcome.unavailable = Some(error.to_string());
                outcome.add_finding(auditor, AuditFindingKind::Violation, Some(index), reason, None);
                return Ok(());
            }
        };
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let mut frontier = auditor.frontier().clone();
        batch.iter().for_each(|entry| frontier.append(leaf_hash(entry), |_, _, _| {}));
        if !self.is_prefix(auditor, frontier.size(), frontier.root(), outcome).await? {
            let reason =
                format!("what is served as entry {index} is not what the log signed, and breaks a rule: {reason}");
            outcome.add_finding(auditor, AuditFindingKind::FalseData, Some(index), reason, None);
            return Ok(());
        }
        let mut nodes = ServedNodes::new(Some(auditor), self.target().size);
        let evidence = nodes.with(self.log, |nodes| broken_rule(auditor, &batch, index, self.checkpoint, nodes)).await;
        let evidence = outcome.available(evidence)?.flatten();
        outcome.add_finding(auditor, AuditFindingKind::Violation, Some(index), reason, evidence);
        Ok(())
    }

    /// Fetches the entries from `from` up to and including the first seal at or after `index`, or to the end of the checkpoint.
    async fn batch(&self, from: u64, index: u64) -> Result<Vec<Vec<u8>>, StaticError> {
        let size = self.target().size.min(from + MAX_EVIDENCE_ENTRIES).max(index + 1).min(self.target().size);
        let mut entries = Vec::new();
        for tile in from / FULL_WIDTH..size.div_ceil(FULL_WIDTH) {
            let bundle = self.log.tile(&tile_path(TileKind::Entries, tile, self.target().size)).await?;
            let decoded = decode_bundle(&bundle, FULL_WIDTH as usize).unwrap_or_default();
            for (place, entry) in (tile * FULL_WIDTH..).zip(decoded).filter(|(place, _)| *place >= from) {
                entries.push(entry.to_vec());
                if place >= index && entry.starts_with(b"taglog/seal@v1\n") {
                    return Ok(entries);
                }
            }
        }
        Ok(entries)
    }

    /// Reports that the last entries of the checkpoint do not end in a seal, and any rule that they break.
    async fn unsealed(
        &self,
        auditor: &Auditor,
        rest: &ParsedEntries,
        outcome: &mut AuditOutcome,
    ) -> Result<(), AuditorError> {
        let last = self.target().size - 1;
        match auditor.check_unsealed(rest) {
            Ok(()) => {}
            Err(PushError::Violation { index, violation }) => {
                self.collect_evidence(auditor, index, violation.to_string(), outcome).await?;
            }
            Err(PushError::UnknownKind { index, kind }) => {
                outcome.upgrade = Some((index, kind));
                return Ok(());
            }
            Err(PushError::Auditor(error)) => return Err(error),
        }
        let entry = match self.batch(last, last).await {
            Ok(entries) => entries.into_iter().next().unwrap_or_default(),
            Err(error) => {
                outcome.unavailable = Some(error.to_string());
                return Ok(());
            }
        };
        let mut nodes = ServedNodes::new(None, self.target().size);
        let evidence = nodes.with(self.log, |nodes| no_seal(self.checkpoint, &entry, nodes)).await;
        let evidence = outcome.available(evidence)?.flatten();
        let reason = "the last entry of its checkpoint is no seal".to_owned();
        outcome.add_finding(auditor, AuditFindingKind::NoSeal, Some(last), reason, evidence);
        Ok(())
    }

    /// Reports that the served entries and tiles do not have the signed root. If that is because of a fork, reports the fork
    /// with its evidence instead.
    async fn false_data(&self, auditor: &Auditor, seen: &[SignedCheckpoint], index: u64, outcome: &mut AuditOutcome) {
        self.find_inconsistency(auditor, seen, outcome).await;
        if outcome.findings.is_empty() {
            let reason = format!(
                "the entries and tiles that are served, up to entry {index}, are not what the log signed: \
                 a damaged copy, or a log that hides what it signed; compare with another copy"
            );
            outcome.add_finding(auditor, AuditFindingKind::FalseData, Some(index), reason, None);
        }
    }

    /// Compares the served hash tiles of level 1 and above with the audited tree.
    async fn check_high_tiles(&self, auditor: &mut Auditor, outcome: &mut AuditOutcome) -> Result<(), AuditorError> {
        let size = self.target().size;
        for level in 1..8_u8 {
            let nodes = size >> (8 * level);
            let first = (auditor.tiles_checked() >> (8 * level)) / FULL_WIDTH;
            for index in first..nodes.div_ceil(FULL_WIDTH) {
                let path = tile_path(TileKind::Hashes(level), index, size);
                let tile = match self.log.tile(&path).await {
                    Ok(tile) => tile,
                    Err(error) => {
                        outcome.unavailable = Some(error.to_string());
                        return Ok(());
                    }
                };
                for (node, served) in (index * FULL_WIDTH..).zip(tile.as_chunks::<32>().0) {
                    if auditor.node(8 * level, node)?.0 != *served {
                        let reason = format!("tile {path} is not what the log signed");
                        outcome.add_finding(auditor, AuditFindingKind::FalseData, None, reason, None);
                        return Ok(());
                    }
                }
            }
        }
        auditor.set_tiles_checked(size);
        Ok(())
    }

    /// Compares every smaller checkpoint with the audited entries.
    fn compare_replayed(
        &self,
        auditor: &Auditor,
        seen: &[SignedCheckpoint],
        outcome: &mut AuditOutcome,
    ) -> Result<(), AuditorError> {
        for old in seen.iter().filter(|old| old.unverified().size < self.target().size) {
            if auditor.check_checkpoint(old)? == Consistency::Contradicted {
                // The auditor has all nodes of this tree; its own may be larger already.
                let evidence = inconsistency(old, self.checkpoint, auditor)?;
                let (old, new) = (old.unverified().size, self.target().size);
                let reason = format!("its checkpoint of size {old} is no prefix of the one of size {new}");
                outcome.add_finding(auditor, AuditFindingKind::Inconsistency, None, reason, Some(evidence));
            }
        }
        Ok(())
    }
}

impl AuditOutcome {
    /// Adds a finding; evidence that does not prove misbehaviour is dropped.
    fn add_finding(
        &mut self,
        auditor: &Auditor,
        kind: AuditFindingKind,
        index: Option<u64>,
        reason: String,
        evidence: Option<Evidence>,
    ) {
        let evidence = evidence.filter(|evidence| evidence.proves_misbehaviour(auditor.log()).is_ok());
        self.findings.push(AuditFinding { kind, index, reason, evidence });
    }

    /// A value computed from tiles; `None`, with the reason in `unavailable`, if tiles could not be fetched.
    fn available<T>(&mut self, computed: Result<T, NodeError>) -> Result<Option<T>, AuditorError> {
        match computed {
            Ok(computed) => Ok(Some(computed)),
            Err(NodeError::Auditor(error)) => Err(error),
            Err(error) => {
                self.unavailable = Some(error.to_string());
                Ok(None)
            }
        }
    }
}

/// Audits chunks in order until the last one or the first problem, and commits at intervals.
fn take_all(
    mut auditor: Auditor,
    mut chunks: mpsc::Receiver<Chunk>,
    progress: &dyn Progress,
    follower: Option<&SharedFollower>,
) -> Result<(Auditor, Stop), AuditRunError> {
    let mut rest = ParsedEntries::default();
    let mut committed = Instant::now();
    while let Some(Chunk { entries, false_hash }) = chunks.blocking_recv() {
        // A chunk that contradicts its hash tile is not taken, so that the next audit checks it again.
        if let Some(index) = false_hash {
            follow(follower, |follower| follower.commit())?;
            return Ok((auditor, Stop::FalseHash(index)));
        }
        progress.advance(entries.len() as u64);
        rest.append(entries);
        if let Err(error) = take(&mut auditor, &mut rest, follower)? {
            follow(follower, |follower| follower.commit())?;
            return Ok((auditor, Stop::Push(error)));
        }
        if committed.elapsed() >= COMMIT_INTERVAL || auditor.uncommitted() >= COMMIT_ROWS {
            follow(follower, |follower| follower.commit())?;
            auditor.begin_commit()?;
            committed = Instant::now();
        }
    }
    follow(follower, |follower| follower.commit())?;
    Ok((auditor, if rest.is_empty() { Stop::Done } else { Stop::Unsealed(Box::new(rest)) }))
}

/// Takes all complete batches and reports them to the follower. The outer error is a local failure, the inner one concerns the
/// entries.
fn take(
    auditor: &mut Auditor,
    rest: &mut ParsedEntries,
    follower: Option<&SharedFollower>,
) -> Result<Result<usize, PushError>, AuditRunError> {
    if follower.is_none() {
        return Ok(auditor.take(rest, |_| {}));
    }
    let mut reports = Vec::new();
    let taken = auditor.take_reporting(rest, |report| reports.push(report));
    follow(follower, |follower| follower.take(&reports, auditor.index()))?;
    Ok(taken)
}

/// Calls the follower, if there is one.
fn follow(
    follower: Option<&SharedFollower>,
    tell: impl FnOnce(&mut dyn Follower) -> Result<(), String>,
) -> Result<(), AuditRunError> {
    let Some(follower) = follower else { return Ok(()) };
    tell(&mut *follower.lock().unwrap_or_else(PoisonError::into_inner)).map_err(AuditRunError::Follower)
}
