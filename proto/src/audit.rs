//! What an auditor checks, batch by batch (SPEC.md section 8): spelling, signatures, membership,
//! times, order, rosters and seals. The first violation convicts.

use std::collections::HashMap;

use thiserror::Error;

use crate::{
    entry::{Entry, EntryError, Roster, Seal, WitnessSignature},
    index::{Batch, OrderError, RecordChanges, RecordReader},
    merkle::Hash,
    name::WitnessId,
    note::VerifierKey,
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

/// The entries of one batch, as far as they can be read.
struct Parsed {
    /// The entries before the seal.
    entries: Vec<Entry>,
    /// The seal, or why there is none. What is wrong before that counts first.
    end: Result<Seal, Stop>,
}

/// Why a batch cannot be read to its seal.
enum Stop {
    Unreadable(EntryError),
    Unsealed,
}

impl Stop {
    fn into_error<E>(self, index: u64) -> AuditError<E> {
        match self {
            Stop::Unreadable(kind @ EntryError::UnknownKind(_)) => AuditError::UnknownKind { index, kind },
            Stop::Unreadable(error) => violation(index, Violation::Spelling(error)),
            Stop::Unsealed => AuditError::Unsealed(index),
        }
    }
}

/// Parses entries up to the first seal, which ends the batch.
fn parse_batch(entries: &[&[u8]]) -> Parsed {
    let mut parsed = Vec::new();
    for bytes in entries {
        match Entry::parse(bytes) {
            Ok(Entry::Seal(seal)) => return Parsed { entries: parsed, end: Ok(seal) },
            Ok(entry) => parsed.push(entry),
            Err(error) => return Parsed { entries: parsed, end: Err(Stop::Unreadable(error)) },
        }
    }
    Parsed { entries: parsed, end: Err(Stop::Unsealed) }
}

/// Audits the batch that begins at `state.size`; `entries` are the bytes from there on, and may run
/// past the seal that ends the batch. Rules are applied entry by entry, so that the first violation
/// is the one reported. `signatures` is false only where the caller has no use for them (evidence
/// of a false seal).
///
/// # Errors
/// [`AuditError`].
pub fn audit_batch<R: RecordReader>(
    state: &AuditState,
    entries: &[&[u8]],
    reader: &R,
    signatures: bool,
) -> Result<AuditedBatch, AuditError<R::Error>> {
    let parsed = parse_batch(entries);
    let (roster, statements) = match parsed.entries.split_first() {
        Some((Entry::Roster(roster), rest)) => (Some(roster), rest),
        _ => (None, &parsed.entries[..]),
    };
    let first = state.size + u64::from(roster.is_some());
    let closing = parsed.end.as_ref().ok().map(|seal| seal.time);
    let mut next = state.clone();
    if let Some(roster) = roster {
        admit_roster(&mut next, roster, closing)?;
    }
    let Some((roster_index, in_force)) = next.roster.clone() else {
        return Err(no_beginning(state.size, parsed));
    };
    if state.seal.is_none() && !statements.is_empty() {
        return Err(violation(first, Violation::Beginning));
    }
    let rules = BatchRules { roster: &in_force, previous: state.seal.map_or(in_force.time, |seal| seal.time), closing };
    let mut batch = Batch::new(reader, state.seal.map_or(0, |seal| seal.tags));
    let lax_signatures = rules.apply_all(&mut batch, first, statements, signatures)?;
    let records = batch.into_records();
    let index = first + statements.len() as u64;
    let seal = parsed.end.map_err(|stop| stop.into_error(index))?;
    check_seal(index, &seal, rules.previous, roster_index, records.tags)?;
    next.size = index + 1;
    next.seal = Some(seal);
    Ok(AuditedBatch { state: next, records, lax_signatures, seal })
}

/// A log that does not begin with a roster; or with something unreadable, which is said instead.
fn no_beginning<E>(index: u64, parsed: Parsed) -> AuditError<E> {
    match (parsed.entries.is_empty(), parsed.end) {
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

/// A statement by a witness of the roster, ready for judgement.
struct Signed<'a> {
    text: String,
    key: &'a VerifierKey,
    signature: &'a WitnessSignature,
}

impl BatchRules<'_> {
    /// Applies every rule to every statement in order; returns the indices with lax signatures.
    fn apply_all<R: RecordReader>(
        &self,
        batch: &mut Batch<'_, R>,
        first: u64,
        statements: &[Entry],
        signatures: bool,
    ) -> Result<Vec<u64>, AuditError<R::Error>> {
        let verdicts = if signatures { self.judge(statements) } else { Vec::new() };
        let mut lax = Vec::new();
        for (i, (index, entry)) in (first..).zip(statements).enumerate() {
            if signatures {
                self.check_signature(index, entry, verdicts.get(i), &mut lax)?;
            }
            self.apply(batch, index, entry)?;
        }
        Ok(lax)
    }

    /// The verdicts on the signatures up to the first statement that has no key in the roster.
    fn judge(&self, statements: &[Entry]) -> Vec<SignatureVerdict> {
        let signed: Vec<Signed<'_>> = statements.iter().map_while(|entry| self.signed(entry)).collect();
        let texts = signed.iter().map(|s| SignedText { key: s.key, text: &s.text, signature: &s.signature.bytes });
        judge_signatures(&texts.collect::<Vec<_>>())
    }

    fn signed<'e>(&'e self, entry: &'e Entry) -> Option<Signed<'e>> {
        let (text, signature) = match entry {
            Entry::Observation(entry) => (entry.text(), &entry.signature),
            Entry::Confirmation(entry) => (entry.text(), &entry.signature),
            Entry::Roster(_) | Entry::Seal(_) => return None,
        };
        Some(Signed { text, key: self.roster.key(&signature.witness)?, signature })
    }

    fn check_signature<E>(
        &self,
        index: u64,
        entry: &Entry,
        verdict: Option<&SignatureVerdict>,
        lax: &mut Vec<u64>,
    ) -> Result<(), AuditError<E>> {
        let witness = match entry {
            Entry::Observation(entry) => &entry.signature.witness,
            Entry::Confirmation(entry) => &entry.signature.witness,
            Entry::Roster(_) | Entry::Seal(_) => return Err(violation(index, Violation::RosterPlace)),
        };
        match verdict {
            Some(SignatureVerdict::Strict) => Ok(()),
            Some(SignatureVerdict::Lax) => {
                lax.push(index);
                Ok(())
            }
            Some(SignatureVerdict::Invalid) => Err(violation(index, Violation::Signature(witness.clone()))),
            None => Err(violation(index, Violation::NotInRoster(witness.clone()))),
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
            Entry::Roster(_) | Entry::Seal(_) => Ok(Ok(())),
        };
        taken.map_err(AuditError::Reader)?.map_err(|error| violation(index, error))
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
