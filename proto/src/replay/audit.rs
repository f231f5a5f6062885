//! What an auditor checks, batch by batch (SPEC.md section 8): encoding, signatures, membership,
//! times, order, rosters and seals. One violation is enough to prove misbehaviour.

use std::collections::HashMap;

use thiserror::Error;

use crate::{
    c2sp::{OperationError, merkle::Hash, time::Timestamp},
    formats::{
        entry::{Entry, EntryError, Roster, Seal},
        name::WitnessId,
    },
    replay::{
        index::{Batch, OrderError, RecordChanges, RecordReader},
        rules::{SignatureVerdict, TimeError, check_signature, check_time},
    },
};

/// A rule that the log broke.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// The entry does not parse.
    #[error("malformed entry: {0}")]
    Malformed(EntryError),
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
        /// The rule that it breaks.
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
pub struct AuditedBatch<P = ()> {
    /// The state after the batch.
    pub state: AuditState,
    /// The records that the batch changes.
    pub records: RecordChanges<P>,
    /// Indices of entries whose signature is valid only with the cofactor: a warning.
    pub lax_signatures: Vec<u64>,
    seal: Seal,
}

impl<P> AuditedBatch<P> {
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

/// An entry that was parsed apart from its batch, so that a caller can parse many at once.
#[derive(Clone, Debug)]
pub struct ParsedEntry {
    /// The entry, or why it is none.
    pub entry: Result<Entry, EntryError>,
    /// What the caller found out about its signature; [`audit_parsed`] checks it itself where this is `None`.
    pub verdict: Option<SignatureVerdict>,
}

impl ParsedEntry {
    /// Parses an entry; its signature is not checked.
    pub fn parse(bytes: &[u8]) -> ParsedEntry {
        ParsedEntry { entry: Entry::parse(bytes), verdict: None }
    }

    /// Whether no batch goes on after this entry: a seal, or what cannot be read.
    pub fn ends_batch(&self) -> bool {
        matches!(self.entry, Ok(Entry::Seal(_)) | Err(_))
    }
}

/// Why a batch cannot be read to its seal. What is wrong before that counts first.
enum Stop<'a> {
    Unreadable(&'a EntryError),
    Unsealed,
}

impl Stop<'_> {
    fn into_error<E>(self, index: u64) -> AuditError<E> {
        match self {
            Stop::Unreadable(kind @ EntryError::UnknownKind(_)) => {
                AuditError::UnknownKind { index, kind: kind.clone() }
            }
            Stop::Unreadable(error) => violation(index, Violation::Malformed(error.clone())),
            Stop::Unsealed => AuditError::Unsealed(index),
        }
    }
}

/// The entries before the first seal, and the seal, or why there is none.
fn split_batch(entries: &[ParsedEntry]) -> (&[ParsedEntry], Result<Seal, Stop<'_>>) {
    let end = entries.iter().position(ParsedEntry::ends_batch).unwrap_or(entries.len());
    let seal = match entries.get(end).map(|parsed| &parsed.entry) {
        Some(Ok(Entry::Seal(seal))) => Ok(*seal),
        Some(Err(error)) => Err(Stop::Unreadable(error)),
        _ => Err(Stop::Unsealed),
    };
    (&entries[..end], seal)
}

/// Audits the batch that begins at `state.size`; `entries` are the bytes from there on, and may run
/// past the seal that ends the batch. Rules are applied entry by entry, so that the first violation
/// is the one reported. `signatures` is false only where the caller has no use for them (evidence
/// of a false seal).
pub fn audit_batch<R: RecordReader>(
    state: &AuditState,
    entries: &[&[u8]],
    reader: &R,
    signatures: bool,
) -> Result<AuditedBatch<R::Place>, AuditError<R::Error>> {
    let mut parsed: Vec<ParsedEntry> = Vec::new();
    for bytes in entries {
        parsed.push(ParsedEntry::parse(bytes));
        if parsed.last().is_some_and(ParsedEntry::ends_batch) {
            break;
        }
    }
    audit(state, &parsed, reader, signatures)
}

/// Audits the batch that begins at `state.size`, as [`audit_batch`] does, from entries that were parsed before.
pub fn audit_parsed<R: RecordReader>(
    state: &AuditState,
    entries: &[ParsedEntry],
    reader: &R,
) -> Result<AuditedBatch<R::Place>, AuditError<R::Error>> {
    audit(state, entries, reader, true)
}

fn audit<R: RecordReader>(
    state: &AuditState,
    entries: &[ParsedEntry],
    reader: &R,
    signatures: bool,
) -> Result<AuditedBatch<R::Place>, AuditError<R::Error>> {
    let (entries, end) = split_batch(entries);
    let roster = entries.first().and_then(|first| first.entry.as_ref().ok()).and_then(Entry::roster);
    let statements = &entries[usize::from(roster.is_some())..];
    let first = state.size + u64::from(roster.is_some());
    let closing = end.as_ref().ok().map(|seal| seal.time);
    let mut next = state.clone();
    if let Some(roster) = roster {
        admit_roster(&mut next, roster, closing)?;
    }
    let Some((roster_index, in_force)) = &next.roster else {
        return Err(no_beginning(state.size, entries.is_empty(), end));
    };
    if state.seal.is_none() && !statements.is_empty() {
        return Err(violation(first, Violation::Beginning));
    }
    let rules = BatchRules { roster: in_force, previous: state.seal.map_or(in_force.time, |seal| seal.time), closing };
    let mut batch = Batch::new(reader, state.seal.map_or(0, |seal| seal.tags));
    let lax_signatures = rules.apply_all(&mut batch, first, statements, signatures)?;
    let records = batch.into_records();
    let index = first + statements.len() as u64;
    let seal = end.map_err(|stop| stop.into_error(index))?;
    check_seal(index, &seal, rules.previous, *roster_index, records.tags)?;
    next.size = index + 1;
    next.seal = Some(seal);
    Ok(AuditedBatch { state: next, records, lax_signatures, seal })
}

/// A log that does not begin with a roster; or with something unreadable, which is said instead.
fn no_beginning<E>(index: u64, empty: bool, end: Result<Seal, Stop<'_>>) -> AuditError<E> {
    match (empty, end) {
        (true, Err(stop)) => stop.into_error(index),
        _ => violation(index, Violation::Beginning),
    }
}

fn admit_roster<E>(state: &mut AuditState, roster: &Roster, closing: Option<Timestamp>) -> Result<(), AuditError<E>> {
    let after_previous = state.seal.is_none_or(|previous| previous.time <= roster.time);
    if !after_previous || closing.is_some_and(|closing| roster.time > closing) {
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

/// What the statements of one batch must obey.
struct BatchRules<'a> {
    roster: &'a Roster,
    /// The time of the previous seal.
    previous: Timestamp,
    /// The time of the closing seal, if it could be read.
    closing: Option<Timestamp>,
}

impl BatchRules<'_> {
    /// Applies every rule to every statement in order; returns the indices with lax signatures.
    fn apply_all<R: RecordReader>(
        &self,
        batch: &mut Batch<'_, R>,
        first: u64,
        statements: &[ParsedEntry],
        signatures: bool,
    ) -> Result<Vec<u64>, AuditError<R::Error>> {
        let mut lax = Vec::new();
        for (index, ParsedEntry { entry, verdict }) in (first..).zip(statements) {
            // `split_batch` stops at what cannot be read.
            let Ok(entry) = entry else { break };
            if signatures && self.check_signature(index, entry, *verdict)? == SignatureVerdict::Lax {
                lax.push(index);
            }
            self.apply(batch, index, entry)?;
        }
        Ok(lax)
    }

    /// The witness is in the roster in force, and its signature is not false.
    fn check_signature<E>(
        &self,
        index: u64,
        entry: &Entry,
        verdict: Option<SignatureVerdict>,
    ) -> Result<SignatureVerdict, AuditError<E>> {
        let signature = entry.signature().ok_or_else(|| violation(index, Violation::RosterPlace))?;
        let witness = &signature.witness;
        let key = self.roster.key(witness).ok_or_else(|| violation(index, Violation::NotInRoster(witness.clone())))?;
        let alone = || check_signature(key, entry.signed_text().as_bytes(), &signature.bytes);
        match verdict.unwrap_or_else(alone) {
            SignatureVerdict::Invalid => Err(violation(index, Violation::Signature(witness.clone()))),
            verdict => Ok(verdict),
        }
    }

    /// The time rule, the order rule, and what the statement does to the records.
    fn apply<R: RecordReader>(
        &self,
        batch: &mut Batch<'_, R>,
        index: u64,
        entry: &Entry,
    ) -> Result<(), AuditError<R::Error>> {
        let observed = match entry {
            Entry::Observation(entry) => entry.observed,
            Entry::Confirmation(entry) => entry.observed,
            Entry::Roster(_) | Entry::Seal(_) => return Err(violation(index, Violation::RosterPlace)),
        };
        // Without a closing seal only the past can be checked.
        let closing = self.closing.unwrap_or(observed);
        check_time(observed, self.previous, closing, &self.roster.limits).map_err(|error| violation(index, error))?;
        let taken = match entry {
            Entry::Observation(entry) => batch.observe(index, entry),
            Entry::Confirmation(entry) => batch.confirm(index, entry),
            Entry::Roster(_) | Entry::Seal(_) => Ok(()),
        };
        taken.map_err(|error| match error {
            OperationError::Refused(error) => violation(index, error),
            OperationError::Reader(error) => AuditError::Reader(error),
        })
    }
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
