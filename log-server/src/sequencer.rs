//! The single writer, and the only place where the order of entries is decided.
//!
//! The life of a batch, top to bottom, is [`Sequencer::process`]: deduplicate, apply the rules,
//! update the index, seal, append to the tree, sign, commit, and only then acknowledge and publish.
//! A crash before the commit leaves nothing of the batch; a crash after it leaves all of it, and
//! clients that were not told submit again and are answered with the old indices.

use std::collections::{HashMap, VecDeque};

pub use taglog_proto::entry::Statement;
use taglog_proto::{
    OperationError,
    checkpoint::Checkpoint,
    cosignature::CosignError,
    entry::{Entry, EntryError, Limits, Observation, Roster, Seal, Seen},
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
    keys::LogKeys,
    publisher::Publisher,
    quota::Quotas,
    refusal::Refusal,
    store::{Commit, StatementKey, Store, StoreError, View},
};

/// Where a statement ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// It is a new entry.
    Added(u64),
    /// The log had it already.
    Duplicate(u64),
}

impl Sequenced {
    /// The log index.
    pub fn index(self) -> u64 {
        match self {
            Sequenced::Added(index) | Sequenced::Duplicate(index) => index,
        }
    }
}

/// What the order rule says of a statement that was given to a batch.
fn accepted(taken: Result<(), BatchError<View>>) -> Result<Result<(), Refusal>, StoreError> {
    match taken {
        Ok(()) => Ok(Ok(())),
        Err(OperationError::Refused(error)) => Ok(Err(error.into())),
        Err(OperationError::Reader(error)) => Err(error),
    }
}

/// What one statement is answered with.
pub type Outcome = Result<Sequenced, Refusal>;

/// Statements of one request, and where to answer, in their order.
pub struct Submission {
    /// The statements.
    pub statements: Vec<Statement>,
    /// None of them is among the log's first so many entries: that was looked up before.
    pub checked: u64,
    /// Takes one outcome for each, after the commit.
    pub answer: oneshot::Sender<Vec<Outcome>>,
    /// The room that the statements take in the queue, given back when they are processed and not
    /// when their client goes away.
    pub room: OwnedSemaphorePermit,
}

/// Why the sequencer stopped. The server stops with it: what is on disk is right, what is in memory
/// may not be.
#[derive(Debug, Error)]
pub enum SequencerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A roster that cannot be written.
    #[error("the configured witnesses: {0}")]
    Roster(#[from] EntryError),
    /// A witness id with another key than before.
    #[error("witness id {0} stood for another public key before; give the new key a new name")]
    TwoKeysWithOneId(WitnessId),
    /// The clock, where the log cannot wait for it.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The ML-DSA-44 key.
    #[error("the checkpoint: {0}")]
    Sign(#[from] CosignError),
}

/// Where the log stands, as of the last commit.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// The right edge of the tree.
    pub frontier: Frontier,
    /// The last seal.
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
    recent: Recent,
}

/// The statements of the last batches, so that only what was checked long ago is looked up again.
#[derive(Default)]
struct Recent {
    batches: VecDeque<(u64, HashMap<StatementKey, u64>)>,
}

impl Recent {
    const BATCHES: usize = 4;

    fn covers(&self, checked: u64) -> bool {
        self.batches.front().is_some_and(|(first, _)| *first <= checked)
    }

    fn find(&self, key: &StatementKey) -> Option<u64> {
        self.batches.iter().find_map(|(_, batch)| batch.get(key)).copied()
    }

    fn add(&mut self, first: u64, batch: HashMap<StatementKey, u64>) {
        self.batches.push_back((first, batch));
        if self.batches.len() > Self::BATCHES {
            self.batches.pop_front();
        }
    }
}

/// What a batch will add to the log, before its seal.
struct Draft {
    first: u64,
    entries: Vec<Vec<u8>>,
    statements: Vec<(StatementKey, u64)>,
    /// The same keys, with the texts, to find duplicates within the batch.
    seen: HashMap<StatementKey, u64>,
    retags: Vec<(u64, Image)>,
    admitted: Vec<(WitnessId, [u8; 32])>,
}

impl Draft {
    fn new(first: u64) -> Draft {
        Draft {
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
    /// A sequencer that goes on from `state`, which must be what the store holds.
    pub fn new(
        store: Store,
        keys: LogKeys,
        state: LogState,
        clock: Clock,
        quotas: std::sync::Arc<Quotas>,
        publisher: Publisher,
    ) -> Sequencer {
        Sequencer { store, keys, state, clock, quotas, publisher, recent: Recent::default() }
    }

    /// The roster in force.
    pub fn roster(&self) -> Option<&Roster> {
        self.state.roster.as_ref().map(|(_, roster)| roster)
    }

    /// Writes a roster and a seal if the configuration differs from the roster in force, or if the
    /// log is empty. Call it before the first batch.
    ///
    /// # Errors
    /// [`SequencerError`].
    pub fn ensure_roster(&mut self, limits: Limits, witnesses: Vec<VerifierKey>) -> Result<(), SequencerError> {
        let time = self.clock.seal_time(self.state.previous_seal_time())?;
        let roster = Roster::new(time, limits, witnesses)?;
        let in_force = self.roster();
        if in_force.is_some_and(|old| old.limits == roster.limits && old.witnesses() == roster.witnesses()) {
            return Ok(());
        }
        let view = self.store.view();
        let mut draft = Draft::new(self.state.frontier.size());
        for (id, key) in roster.ids().zip(roster.witnesses()) {
            match view.witness_key(&id)? {
                Some(known) if known != key.as_bytes() => return Err(SequencerError::TwoKeysWithOneId(id)),
                Some(_) => {}
                None => draft.admitted.push((id, *key.as_bytes())),
            }
        }
        draft.entries.push(roster.to_string().into_bytes());
        let index = draft.first;
        let changes = Batch::new(&view, self.state.seal.map_or(0, |seal| seal.tags)).finish()?;
        let mut next = self.state.clone();
        next.roster = Some((index, roster));
        self.close(draft, changes, time, next)
    }

    /// Whether a seal alone is due, because nothing came for `quiet` seconds.
    pub fn is_quiet(&self) -> bool {
        let quiet = self.roster().map_or(u64::MAX, |roster| roster.limits.quiet);
        // A process that has not sealed yet says by a seal that the log is alive.
        self.clock.since_last_seal().is_none_or(|since| since.as_secs() >= quiet)
    }

    /// Processes what came in during one batch interval. Every submission is answered.
    ///
    /// # Errors
    /// [`SequencerError`]: the store failed, and the process must end. Submissions are then dropped
    /// unanswered, and their clients try again.
    pub fn process(&mut self, submissions: Vec<Submission>) -> Result<(), SequencerError> {
        let closing = match self.clock.seal_time(self.state.previous_seal_time()) {
            Ok(time) => time,
            Err(error) => {
                tracing::error!(%error, "not sealing");
                metrics::counter!("taglog_clock_refusals_total").increment(1);
                answer_all(submissions, |_| Err(Refusal::Clock(error.clone())));
                return Ok(());
            }
        };
        let view = self.store.view();
        let (outcomes, draft, changes) = self.draft(&view, &submissions, closing)?;
        if !draft.entries.is_empty() || self.is_quiet() {
            let next = self.state.clone();
            self.close(draft, changes, closing, next)?;
        }
        let mut outcomes = outcomes.into_iter();
        for Submission { statements, answer, .. } in submissions {
            // A client that has gone away needs no answer.
            let _ = answer.send(outcomes.by_ref().take(statements.len()).collect());
        }
        Ok(())
    }

    fn draft(
        &self,
        view: &View,
        submissions: &[Submission],
        closing: Timestamp,
    ) -> Result<(Vec<Outcome>, Draft, IndexChanges), SequencerError> {
        let mut draft = Draft::new(self.state.frontier.size());
        let mut batch = Batch::new(view, self.state.seal.map_or(0, |seal| seal.tags));
        let mut outcomes = Vec::new();
        for Submission { statements, checked, .. } in submissions {
            for statement in statements {
                outcomes.push(self.take(view, &mut batch, &mut draft, statement, *checked, closing)?);
            }
        }
        Ok((outcomes, draft, batch.finish()?))
    }

    /// Accepts one statement into the draft, or says why not. Deduplication comes first.
    fn take(
        &self,
        view: &View,
        batch: &mut Batch<'_, View>,
        draft: &mut Draft,
        statement: &Statement,
        checked: u64,
        closing: Timestamp,
    ) -> Result<Outcome, SequencerError> {
        let key = StatementKey::of(statement);
        if let Some(index) = draft.seen.get(&key) {
            return Ok(Ok(Sequenced::Duplicate(*index)));
        }
        let known = match self.recent.covers(checked) {
            true => self.recent.find(&key),
            false => find_duplicate(view, statement, &key)?,
        };
        if let Some(index) = known {
            return Ok(Ok(Sequenced::Duplicate(index)));
        }
        if let Err(refusal) = self.check_rules(statement, closing) {
            return Ok(Err(refusal));
        }
        let index = draft.next();
        let taken = match statement {
            Statement::Observation(entry) => self.observe(view, batch, draft, index, entry)?,
            Statement::Confirmation(entry) => accepted(batch.confirm(index, entry))?,
        };
        if let Err(refusal) = taken {
            return Ok(Err(refusal));
        }
        draft.entries.push(statement.to_string().into_bytes());
        draft.statements.push((key, index));
        draft.seen.insert(key, index);
        Ok(Ok(Sequenced::Added(index)))
    }

    fn check_rules(&self, statement: &Statement, closing: Timestamp) -> Result<(), Refusal> {
        let Some(roster) = self.roster().filter(|roster| roster.key(statement.witness()).is_some()) else {
            return Err(Refusal::UnknownWitness(statement.witness().to_string()));
        };
        let previous = self.state.previous_seal_time().unwrap_or(roster.time);
        check_time(statement.observed(), previous, closing, &roster.limits)?;
        Ok(())
    }

    fn observe(
        &self,
        view: &View,
        batch: &mut Batch<'_, View>,
        draft: &mut Draft,
        index: u64,
        entry: &Observation,
    ) -> Result<Result<(), Refusal>, SequencerError> {
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
        if let Err(refusal) = accepted(batch.observe(index, entry))? {
            return Ok(Err(refusal));
        }
        if retags {
            draft.retags.push((index, entry.image.clone()));
        }
        Ok(Ok(()))
    }

    /// Seals the draft, signs the checkpoint, and commits everything together.
    fn close(
        &mut self,
        mut draft: Draft,
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
        // Only now, when all of it is on disk, does anything in memory move on.
        self.state = next;
        self.recent.add(draft.first, std::mem::take(&mut draft.seen));
        self.clock.sealed(time);
        self.quotas.forget_idle();
        record_metrics(&draft, &seal);
        Ok(self.publisher.committed(self.state.frontier.size())?)
    }
}

fn answer_all(submissions: Vec<Submission>, outcome: impl Fn(&Statement) -> Outcome) {
    for Submission { statements, answer, .. } in submissions {
        // A client that has gone away needs no answer.
        let _ = answer.send(statements.iter().map(&outcome).collect());
    }
}

/// The index of this statement if the log has it. The key is a shortened hash, so the text of the
/// entry found is compared.
///
/// # Errors
/// [`StoreError`].
pub fn find_duplicate(view: &View, statement: &Statement, key: &StatementKey) -> Result<Option<u64>, StoreError> {
    let Some(index) = view.statement(key)? else { return Ok(None) };
    let entry = view.entry(index)?;
    let same = match Entry::parse(&entry) {
        Ok(Entry::Observation(entry)) => {
            entry.text() == statement.text() && entry.signature.witness == *statement.witness()
        }
        Ok(Entry::Confirmation(entry)) => {
            entry.text() == statement.text() && entry.signature.witness == *statement.witness()
        }
        _ => false,
    };
    Ok(same.then_some(index))
}

/// Whether a sighting shows its tag to be retagged: some witness last saw, or this one saw before
/// the tag was gone, another digest. For the convenience listing; verifiers read the lists.
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

fn record_metrics(draft: &Draft, seal: &Seal) {
    metrics::counter!("taglog_batches_total").increment(1);
    metrics::counter!("taglog_entries_total").increment(draft.entries.len() as u64);
    metrics::gauge!("taglog_tree_size").set((seal.size + 1) as f64);
    metrics::gauge!("taglog_tags").set(seal.tags as f64);
    metrics::gauge!("taglog_last_seal_timestamp_seconds").set(seal.time.unix() as f64);
}
