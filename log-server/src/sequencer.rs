//! The single writer: the only place where the order of entries is decided.
//!
//! [`Sequencer::process`] processes a batch from submission to acknowledgement: deduplicate, apply the rules, update
//! the index, seal, append to the tree, sign, commit, and only then acknowledge and publish. A crash before the commit
//! leaves nothing of the batch. A crash after the commit leaves all of it; clients that got no answer submit again and
//! get the indices of the existing entries.

use std::collections::HashMap;

use taglog_proto::{
    OperationError,
    checkpoint::Checkpoint,
    cosignature::CosignError,
    entry::{Entry, EntryError, Limits, Observation, Roster, Seal, Seen, Statement},
    index::{Batch, BatchError, IndexChanges, RecordReader},
    merkle::{Frontier, Hash, leaf_hash},
    name::{Image, WitnessId},
    note::VerifierKey,
    rules::check_time,
    tag_proof::LookupSource,
    time::Timestamp,
};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    clock::{Clock, ClockError},
    deduplication::{RecentBatches, find_duplicate},
    keys::LogKeys,
    publisher::Publisher,
    quota::Quotas,
    rejection::Rejection,
    store::{Commit, StatementKey, Store, StoreError, View},
};

/// The place of a statement in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// It is a new entry with this log index.
    Added(u64),
    /// It was in the log already, at this log index.
    Duplicate(u64),
}

impl Sequenced {
    pub fn index(self) -> u64 {
        match self {
            Sequenced::Added(index) | Sequenced::Duplicate(index) => index,
        }
    }
}

/// The answer to one statement.
pub type StatementResult = Result<Sequenced, Rejection>;

/// The statements of one request.
pub struct Submission {
    /// Their signatures have been verified under the roster in force.
    pub statements: Vec<Statement>,
    /// The statements were looked up, and not found, in the first `deduplicated_size` entries of the log.
    pub deduplicated_size: u64,
    /// Receives one result for each statement, in their order, after the commit.
    pub reply: oneshot::Sender<Vec<StatementResult>>,
    /// The capacity that the statements take in the submission queue. It is released when they have been processed, not
    /// when the client disconnects.
    pub capacity: OwnedSemaphorePermit,
}

/// Why the sequencer stopped. The server stops with it: the data on disk is consistent, the data in memory may not be.
#[derive(Debug, Error)]
pub enum SequencerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the configured witnesses do not make a valid roster: {0}")]
    Roster(#[from] EntryError),
    /// A witness id with another public key than in an earlier roster.
    #[error(
        "witness id {0} belonged to another public key before; a witness id must never change its key; give the new \
         key a new name"
    )]
    TwoKeysWithOneId(WitnessId),
    /// The clock is wrong when the roster has to be written.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The ML-DSA-44 key cannot sign.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] CosignError),
}

/// The state of the log as of the last commit.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// The right edge of the tree.
    pub frontier: Frontier,
    pub seal: Option<Seal>,
    /// The roster in force and its log index.
    pub roster: Option<(u64, Roster)>,
}

impl LogState {
    fn previous_seal_time(&self) -> Option<Timestamp> {
        self.seal.map(|seal| seal.time)
    }
}

/// Decides the order of entries.
pub struct Sequencer {
    store: Store,
    keys: LogKeys,
    state: LogState,
    clock: Clock,
    quotas: std::sync::Arc<Quotas>,
    publisher: Publisher,
    recent: RecentBatches,
}

/// What a batch will add to the log, before its seal.
struct BatchDraft {
    first: u64,
    entries: Vec<Vec<u8>>,
    statements: Vec<(StatementKey, u64)>,
    /// The same statements by key, to find duplicates within the batch.
    seen: HashMap<StatementKey, u64>,
    retags: Vec<(u64, Image)>,
    admitted: Vec<(WitnessId, [u8; 32])>,
}

impl BatchDraft {
    fn new(first: u64) -> BatchDraft {
        BatchDraft {
            first,
            entries: Vec::new(),
            statements: Vec::new(),
            seen: HashMap::new(),
            retags: Vec::new(),
            admitted: Vec::new(),
        }
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

impl Sequencer {
    /// `state` must be the state of the store's last commit.
    pub fn new(
        store: Store,
        keys: LogKeys,
        state: LogState,
        clock: Clock,
        quotas: std::sync::Arc<Quotas>,
        publisher: Publisher,
    ) -> Sequencer {
        Sequencer { store, keys, state, clock, quotas, publisher, recent: RecentBatches::default() }
    }

    pub fn roster(&self) -> Option<&Roster> {
        self.state.roster.as_ref().map(|(_, roster)| roster)
    }

    /// Writes a roster and a seal if the configuration differs from the roster in force, or if the
    /// log is empty. Call it before the first batch.
    pub fn ensure_roster(&mut self, limits: Limits, witnesses: Vec<VerifierKey>) -> Result<(), SequencerError> {
        let time = self.clock.seal_time(self.state.previous_seal_time())?;
        let roster = Roster::new(time, limits, witnesses)?;
        let in_force = self.roster();
        if in_force.is_some_and(|old| old.limits == roster.limits && old.witnesses() == roster.witnesses()) {
            return Ok(());
        }
        let view = self.store.view();
        let mut draft = BatchDraft::new(self.state.frontier.size());
        for (id, key) in roster.ids().zip(roster.witnesses()) {
            match view.witness_key(&id)? {
                Some(earlier) if earlier != key.as_bytes() => return Err(SequencerError::TwoKeysWithOneId(id)),
                Some(_) => {}
                None => draft.admitted.push((id, *key.as_bytes())),
            }
        }
        draft.entries.push(roster.to_string().into_bytes());
        let index = draft.first;
        let changes = Batch::new(&view, self.state.seal.map_or(0, |seal| seal.tags)).finish()?;
        let mut next = self.state.clone();
        next.roster = Some((index, roster));
        self.seal_and_commit(draft, changes, time, next)
    }

    /// Whether a seal without entries is due: the roster's limit `quiet`, in seconds, has passed since the last seal.
    pub fn is_quiet(&self) -> bool {
        let quiet = self.roster().map_or(u64::MAX, |roster| roster.limits.quiet);
        // The first seal of a process is due at once: it shows that the log runs again.
        self.clock.since_last_seal().is_none_or(|since| since.as_secs() >= quiet)
    }

    /// Processes the submissions of one batch interval, and answers each.
    ///
    /// # Errors
    /// The store failed, and the process must end. Submissions are dropped without an answer; their clients retry.
    pub fn process(&mut self, submissions: Vec<Submission>) -> Result<(), SequencerError> {
        let closing = match self.clock.seal_time(self.state.previous_seal_time()) {
            Ok(time) => time,
            Err(error) => {
                tracing::error!(%error, "the batch is not sealed");
                metrics::counter!("taglog_clock_refusals_total").increment(1);
                answer_all(submissions, |_| Err(Rejection::Clock(error.clone())));
                return Ok(());
            }
        };
        let view = self.store.view();
        let (outcomes, draft, changes) = self.draft(&view, &submissions, closing)?;
        if !draft.entries.is_empty() || self.is_quiet() {
            let next = self.state.clone();
            self.seal_and_commit(draft, changes, closing, next)?;
        }
        let mut outcomes = outcomes.into_iter();
        for Submission { statements, reply, .. } in submissions {
            // A client that has disconnected needs no answer.
            let _ = reply.send(outcomes.by_ref().take(statements.len()).collect());
        }
        Ok(())
    }

    fn draft(
        &self,
        view: &View,
        submissions: &[Submission],
        closing: Timestamp,
    ) -> Result<(Vec<StatementResult>, BatchDraft, IndexChanges), SequencerError> {
        let mut draft = BatchDraft::new(self.state.frontier.size());
        let mut batch = Batch::new(view, self.state.seal.map_or(0, |seal| seal.tags));
        let mut outcomes = Vec::new();
        for Submission { statements, deduplicated_size, .. } in submissions {
            for statement in statements {
                outcomes.push(self.add_statement(
                    view,
                    &mut batch,
                    &mut draft,
                    statement,
                    *deduplicated_size,
                    closing,
                )?);
            }
        }
        Ok((outcomes, draft, batch.finish()?))
    }

    /// Adds one statement to the draft, or rejects it. Deduplication comes first.
    fn add_statement(
        &self,
        view: &View,
        batch: &mut Batch<'_, View>,
        draft: &mut BatchDraft,
        statement: &Statement,
        deduplicated_size: u64,
        closing: Timestamp,
    ) -> Result<StatementResult, SequencerError> {
        let key = StatementKey::of(statement);
        if let Some(index) = draft.seen.get(&key) {
            return Ok(Ok(Sequenced::Duplicate(*index)));
        }
        let existing = match self.recent.covers(deduplicated_size) {
            true => self.recent.find(&key),
            false => find_duplicate(view, statement, &key)?,
        };
        if let Some(index) = existing {
            return Ok(Ok(Sequenced::Duplicate(index)));
        }
        if let Err(rejection) = self.check_rules(statement, closing) {
            return Ok(Err(rejection));
        }
        let index = draft.next();
        let added = match statement {
            Statement::Observation(entry) => self.add_observation(view, batch, draft, index, entry)?,
            Statement::Confirmation(entry) => check_order(batch.confirm(index, entry))?,
        };
        if let Err(rejection) = added {
            return Ok(Err(rejection));
        }
        draft.entries.push(statement.to_string().into_bytes());
        draft.statements.push((key, index));
        draft.seen.insert(key, index);
        Ok(Ok(Sequenced::Added(index)))
    }

    fn check_rules(&self, statement: &Statement, closing: Timestamp) -> Result<(), Rejection> {
        let Some(roster) = self.roster().filter(|roster| roster.key(statement.witness()).is_some()) else {
            return Err(Rejection::UnknownWitness(statement.witness().to_string()));
        };
        let previous = self.state.previous_seal_time().unwrap_or(roster.time);
        check_time(statement.observed(), previous, closing, &roster.limits)?;
        Ok(())
    }

    fn add_observation(
        &self,
        view: &View,
        batch: &mut Batch<'_, View>,
        draft: &mut BatchDraft,
        index: u64,
        entry: &Observation,
    ) -> Result<Result<(), Rejection>, SequencerError> {
        let witness = &entry.signature.witness;
        let line = batch.line(&entry.image, witness)?;
        let quota = match line {
            None => self.quotas.take_new_tag(witness),
            Some(line) if line.seen != entry.seen => self.quotas.take_sighting(witness, &entry.image),
            Some(_) => Ok(()),
        };
        if let Err(error) = quota {
            return Ok(Err(error.into()));
        }
        let retags = shows_retag(view, batch, entry)?;
        if let Err(rejection) = check_order(batch.observe(index, entry))? {
            return Ok(Err(rejection));
        }
        if retags {
            draft.retags.push((index, entry.image.clone()));
        }
        Ok(Ok(()))
    }

    /// Seals the draft, signs the checkpoint, and commits everything in one transaction.
    fn seal_and_commit(
        &mut self,
        mut draft: BatchDraft,
        changes: IndexChanges,
        time: Timestamp,
        mut next: LogState,
    ) -> Result<(), SequencerError> {
        let roster = next.roster.as_ref().map_or(0, |(index, _)| *index);
        let seal = Seal { time, size: draft.next(), roster, tags: changes.records.tags, index: changes.tree.root };
        draft.entries.push(Entry::Seal(seal).to_string().into_bytes());
        let mut nodes: Vec<(u8, u64, Hash)> = Vec::with_capacity(2 * draft.entries.len());
        for entry in &draft.entries {
            next.frontier.append(leaf_hash(entry), |level, index, hash| nodes.push((level, index, hash)));
        }
        next.seal = Some(seal);
        let origin = self.keys.verifier_key().name().to_owned();
        let checkpoint = Checkpoint { origin, size: next.frontier.size(), root: next.frontier.root() };
        let checkpoint = self.keys.sign(&checkpoint, time)?;
        self.store.commit(&Commit {
            first: draft.first,
            entries: &draft.entries,
            nodes: &nodes,
            statements: &draft.statements,
            index: &changes,
            retags: &draft.retags,
            admitted: &draft.admitted,
            checkpoint: &checkpoint,
        })?;
        // The state in memory changes only after everything is on disk.
        self.state = next;
        self.recent.add(draft.first, std::mem::take(&mut draft.seen));
        self.clock.record_seal(time);
        self.quotas.forget_idle();
        record_metrics(&draft, &seal);
        Ok(self.publisher.record_commit(self.state.frontier.size())?)
    }
}

fn answer_all(submissions: Vec<Submission>, outcome: impl Fn(&Statement) -> StatementResult) {
    for Submission { statements, reply, .. } in submissions {
        // A client that has disconnected needs no answer.
        let _ = reply.send(statements.iter().map(&outcome).collect());
    }
}

/// Separates a rejection by the order rule from a failure of the store.
fn check_order(result: Result<(), BatchError<View>>) -> Result<Result<(), Rejection>, StoreError> {
    match result {
        Ok(()) => Ok(Ok(())),
        Err(OperationError::Refused(error)) => Ok(Err(error.into())),
        Err(OperationError::Reader(error)) => Err(error),
    }
}

/// Whether a sighting shows its tag to be retagged: the last sighting of some witness, or an earlier one of this
/// witness, has another digest. Used for the convenience listing only; verifiers read the lists of sightings.
fn shows_retag(view: &View, batch: &mut Batch<'_, View>, entry: &Observation) -> Result<bool, StoreError> {
    let (image, witness) = (&entry.image, &entry.signature.witness);
    let differs = |seen: Seen| seen != Seen::Gone && seen != entry.seen;
    let record = batch.record(image)?;
    let line = record.line(witness);
    if entry.seen == Seen::Gone || line.is_some_and(|line| line.seen == entry.seen) {
        return Ok(false);
    }
    if record.lines().iter().any(|line| differs(line.seen)) {
        return Ok(true);
    }
    if line.is_none() {
        return Ok(false);
    }
    let stored = view.tag_record(image)?;
    let stored = stored.as_ref().and_then(|record| record.line(witness));
    let before = stored.map(|line| view.sightings(image, line, 0)).transpose()?.unwrap_or_default();
    Ok(before.iter().chain(batch.new_sightings(image, witness)).any(|sighting| differs(sighting.seen)))
}

fn record_metrics(draft: &BatchDraft, seal: &Seal) {
    metrics::counter!("taglog_batches_total").increment(1);
    metrics::counter!("taglog_entries_total").increment(draft.entries.len() as u64);
    metrics::gauge!("taglog_tree_size").set((seal.size + 1) as f64);
    metrics::gauge!("taglog_tags").set(seal.tags as f64);
    metrics::gauge!("taglog_last_seal_timestamp_seconds").set(seal.time.unix() as f64);
}
