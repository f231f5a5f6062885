//! What an auditor checks, batch by batch (SPEC.md section 8): spelling, signatures, membership,
//! times, order, rosters and seals. The first violation convicts.

use std::collections::HashMap;

use thiserror::Error;

use crate::{
    entry::{Entry, EntryError, Roster, Seal},
    index::{Batch, OrderError, RecordChanges, RecordReader},
    merkle::Hash,
    name::WitnessId,
    rules::{SignatureVerdict, SignedText, TimeError, check_time, judge_signatures},
    time::Timestamp,
};

/// A rule that the log broke.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// The entry is not in its one accepted spelling.
    #[error("malformed entry: {0}")]
    Spelling(EntryError),
    /// Entry 0 is not a roster, or entry 1 not a seal.
    #[error("a log begins with a roster and a seal")]
    Beginning,
    /// A roster that is not first in its batch.
    #[error("a roster stands elsewhere than directly after a seal")]
    RosterPlace,
    /// A roster from before the previous seal or after the closing one.
    #[error("the roster's time is not between the seals around it")]
    RosterTime,
    /// One witness id with two keys.
    #[error("witness id {0} stands for two keys")]
    TwoKeysWithOneId(WitnessId),
    /// The witness is not in the roster in force.
    #[error("{0} is not in the roster in force")]
    NotInRoster(WitnessId),
    /// The signature is not valid even with the cofactor.
    #[error("the signature of {0} is false")]
    Signature(WitnessId),
    /// The time rule.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The order rule.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A value of the seal is not what the entries before it make it.
    #[error("the seal's '{0}' is false")]
    Seal(&'static str),
}

/// What ends an audit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AuditError<E> {
    /// The log broke a rule.
    #[error("entry {index}: {violation}")]
    Violation {
        /// The index of the entry.
        index: u64,
        /// The rule.
        violation: Violation,
    },
    /// A kind of entry that a later version knows. Not misbehaviour.
    #[error("cannot audit past entry {index}, upgrade: {kind}")]
    UnknownKind {
        /// The index of the entry.
        index: u64,
        /// Its kind.
        kind: EntryError,
    },
    /// The entries given do not end in a seal; fetch the rest of the batch.
    #[error("the batch from entry {0} on has no seal yet")]
    Unsealed(u64),
    /// The auditor's own storage.
    #[error("the auditor's own index: {0}")]
    Reader(E),
}

/// What an auditor carries from one batch to the next.
#[derive(Clone, Debug, Default)]
pub struct AuditState {
    /// Entries audited so far; the last of them is a seal.
    pub size: u64,
    /// The last seal.
    pub seal: Option<Seal>,
    /// The roster in force, with its log index.
    pub roster: Option<(u64, Roster)>,
    /// Every witness id that was ever in a roster, and its key.
    pub keys: HashMap<WitnessId, [u8; 32]>,
}

/// A batch that obeys every rule but the index root, which [`AuditedBatch::check_root`] compares.
#[derive(Debug)]
pub struct AuditedBatch {
    /// The state after the batch.
    pub state: AuditState,
    /// The records that the batch changes.
    pub records: RecordChanges,
    /// Indices of entries whose signature is valid only with the cofactor: a warning.
    pub lax_signatures: Vec<u64>,
    seal: Seal,
}

impl AuditedBatch {
    /// The seal that closes the batch.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Compares the index root of the seal with the one that the records lead to.
    ///
    /// # Errors
    /// [`Violation::Seal`] at the index of the seal.
    pub fn check_root<E>(&self, root: &Hash) -> Result<(), AuditError<E>> {
        if *root == self.seal.index { Ok(()) } else { Err(violation(self.seal.size, Violation::Seal("index"))) }
    }
}

fn violation<E>(index: u64, violation: impl Into<Violation>) -> AuditError<E> {
    AuditError::Violation { index, violation: violation.into() }
}

/// Parses the entries of one batch: those from `state.size` to the first seal, which ends it.
///
/// # Errors
/// [`Violation::Spelling`], [`AuditError::UnknownKind`], [`AuditError::Unsealed`].
fn parse_batch<E>(state: &AuditState, entries: &[&[u8]]) -> Result<(Vec<Entry>, Seal), AuditError<E>> {
    let mut parsed = Vec::new();
    for (index, bytes) in (state.size..).zip(entries) {
        match Entry::parse(bytes) {
            Ok(Entry::Seal(seal)) => return Ok((parsed, seal)),
            Ok(entry) => parsed.push(entry),
            Err(kind @ EntryError::UnknownKind(_)) => return Err(AuditError::UnknownKind { index, kind }),
            Err(error) => return Err(violation(index, Violation::Spelling(error))),
        }
    }
    Err(AuditError::Unsealed(state.size))
}

/// Audits the batch that begins at `state.size`; `entries` are the bytes from there on, and may run
/// past the seal that ends the batch. `signatures` is false only where the caller has no use for
/// them (evidence of a false seal).
///
/// # Errors
/// [`AuditError`].
pub fn audit_batch<R: RecordReader>(
    state: &AuditState,
    entries: &[&[u8]],
    reader: &R,
    signatures: bool,
) -> Result<AuditedBatch, AuditError<R::Error>> {
    let (parsed, seal) = parse_batch(state, entries)?;
    let (roster, statements) = match parsed.split_first() {
        Some((Entry::Roster(roster), rest)) => (Some(roster), rest),
        _ => (None, &parsed[..]),
    };
    let first = state.size + u64::from(roster.is_some());
    if state.seal.is_none() && (roster.is_none() || !statements.is_empty()) {
        return Err(violation(0, Violation::Beginning));
    }
    let mut next = state.clone();
    if let Some(roster) = roster {
        admit_roster(&mut next, roster, &seal)?;
    }
    let (roster_index, in_force) = next.roster.clone().ok_or(violation(0, Violation::Beginning))?;
    let previous = state.seal.map_or(in_force.time, |seal| seal.time);

    let lax_signatures = if signatures { check_signatures(first, statements, &in_force)? } else { Vec::new() };
    let mut batch = Batch::new(reader, state.seal.map_or(0, |seal| seal.tags));
    for (index, entry) in (first..).zip(statements) {
        apply(&mut batch, index, entry, previous, &seal, &in_force)?;
    }
    let records = batch.into_records();
    let index = first + statements.len() as u64;
    check_seal(index, &seal, previous, roster_index, records.tags)?;
    next.size = index + 1;
    next.seal = Some(seal);
    Ok(AuditedBatch { state: next, records, lax_signatures, seal })
}

fn admit_roster<E>(state: &mut AuditState, roster: &Roster, seal: &Seal) -> Result<(), AuditError<E>> {
    let not_before = state.seal.is_none_or(|previous| previous.time <= roster.time);
    if !not_before || roster.time > seal.time {
        return Err(violation(state.size, Violation::RosterTime));
    }
    for (id, key) in roster.ids().zip(roster.witnesses()) {
        let known = state.keys.entry(id.clone()).or_insert(*key.as_bytes());
        if known != key.as_bytes() {
            return Err(violation(state.size, Violation::TwoKeysWithOneId(id)));
        }
    }
    state.roster = Some((state.size, roster.clone()));
    Ok(())
}

fn check_signatures<E>(first: u64, statements: &[Entry], roster: &Roster) -> Result<Vec<u64>, AuditError<E>> {
    let mut texts = Vec::with_capacity(statements.len());
    for (index, entry) in (first..).zip(statements) {
        let (text, signature) = match entry {
            Entry::Observation(entry) => (entry.text(), &entry.signature),
            Entry::Confirmation(entry) => (entry.text(), &entry.signature),
            Entry::Roster(_) | Entry::Seal(_) => return Err(violation(index, Violation::RosterPlace)),
        };
        let witness = &signature.witness;
        let key = roster.key(witness).ok_or_else(|| violation(index, Violation::NotInRoster(witness.clone())))?;
        texts.push((index, text, key, signature));
    }
    let signed: Vec<SignedText<'_>> =
        texts.iter().map(|(_, text, key, signature)| SignedText { key, text, signature: &signature.bytes }).collect();
    let mut lax = Vec::new();
    for ((index, _, _, signature), verdict) in texts.iter().zip(judge_signatures(&signed)) {
        match verdict {
            SignatureVerdict::Strict => {}
            SignatureVerdict::Lax => lax.push(*index),
            SignatureVerdict::Invalid => {
                return Err(violation(*index, Violation::Signature(signature.witness.clone())));
            }
        }
    }
    Ok(lax)
}

fn apply<R: RecordReader>(
    batch: &mut Batch<'_, R>,
    index: u64,
    entry: &Entry,
    previous: Timestamp,
    seal: &Seal,
    roster: &Roster,
) -> Result<(), AuditError<R::Error>> {
    let observed = match entry {
        Entry::Observation(entry) => entry.observed,
        Entry::Confirmation(entry) => entry.observed,
        Entry::Roster(_) | Entry::Seal(_) => return Err(violation(index, Violation::RosterPlace)),
    };
    check_time(observed, previous, seal.time, &roster.limits).map_err(|error| violation(index, error))?;
    let taken = match entry {
        Entry::Observation(entry) => batch.observe(index, entry),
        Entry::Confirmation(entry) => batch.confirm(index, entry),
        Entry::Roster(_) | Entry::Seal(_) => Ok(Ok(())),
    };
    taken.map_err(AuditError::Reader)?.map_err(|error| violation(index, error))
}

fn check_seal<E>(index: u64, seal: &Seal, previous: Timestamp, roster: u64, tags: u64) -> Result<(), AuditError<E>> {
    let fields = [
        ("size", seal.size == index),
        ("roster", seal.roster == roster),
        ("tags", seal.tags == tags),
        ("time", seal.time >= previous),
    ];
    match fields.iter().find(|(_, holds)| !holds) {
        Some((name, _)) => Err(violation(index, Violation::Seal(name))),
        None => Ok(()),
    }
}
