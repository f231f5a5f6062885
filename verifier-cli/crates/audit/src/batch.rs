//! The input and output of an auditor: parsed entries, and reports on whole batches.

use taglog_proto::{
    audit::ParsedEntry,
    entry::{Entry, Seal, Seen},
    merkle::{Hash, leaf_hash},
    name::{Image, WitnessId},
    time::Timestamp,
};

use super::signatures::{WitnessKeys, parse_entries};

/// The maximum number of entries in one batch. A batch is held in memory until its seal arrives.
pub const MAX_BATCH: usize = 1 << 20;

/// Consecutive entries that were parsed and hashed and whose signatures were checked. Threads can do this in parallel; the
/// auditor then takes the entries in log order.
#[derive(Clone, Debug, Default)]
pub struct ParsedEntries {
    pub(super) parsed: Vec<ParsedEntry>,
    pub(super) leaves: Vec<Hash>,
}

impl ParsedEntries {
    /// Parses and hashes entries and checks their signatures. `keys` must include [`super::Auditor::keys`] and the keys of
    /// every roster up to these entries.
    pub fn new(entries: &[&[u8]], keys: &WitnessKeys) -> ParsedEntries {
        ParsedEntries {
            parsed: parse_entries(entries, keys),
            leaves: entries.iter().map(|entry| leaf_hash(entry)).collect(),
        }
    }

    /// Appends the entries that follow these in the log.
    pub fn append(&mut self, next: ParsedEntries) {
        self.parsed.extend(next.parsed);
        self.leaves.extend(next.leaves);
    }

    /// The leaf hashes of the entries.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }
}

/// The number of entries of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub observations: u64,
    pub confirmations: u64,
    pub seals: u64,
    pub rosters: u64,
    /// Entries whose Ed25519 signature satisfies only the cofactored equation. Reported as a warning.
    pub lax_signatures: u64,
}

/// A sighting: a witness observed a tag with another digest than in its previous observation of the tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagChange {
    /// The log index of the observation.
    pub index: u64,
    pub image: Image,
    pub witness: WitnessId,
    /// When the witness resolved the tag.
    pub observed: Timestamp,
    /// The witness's previous observation of the tag; `None` if this is its first.
    pub old: Option<Seen>,
    pub new: Seen,
    /// Whether no witness had reported the tag before.
    pub new_tag: bool,
}

/// A batch that breaks no rule.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// The log index of the first entry.
    pub first: u64,
    /// All entries in order, the roster (if there is one) first, the seal last.
    pub entries: Vec<Entry>,
    pub seal: Seal,
    /// The sightings among the observations, in log order.
    pub changes: Vec<TagChange>,
    /// Log indices of entries whose signature satisfies only the cofactored equation. Reported as a warning.
    pub lax_signatures: Vec<u64>,
}

/// Adds the keys of all rosters among these entries to `keys`.
pub fn admit_rosters(keys: &mut WitnessKeys, entries: &[&[u8]]) {
    for entry in entries.iter().filter(|entry| entry.starts_with(b"taglog/roster@v1\n")) {
        if let Ok(Entry::Roster(roster)) = Entry::parse(entry) {
            keys.admit(&roster);
        }
    }
}
