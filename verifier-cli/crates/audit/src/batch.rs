//! What goes into an auditor, and what comes out of it: prepared entries, and reports on whole batches.

use taglog_proto::{
    audit::ParsedEntry,
    entry::{Entry, Seal, Seen},
    merkle::{Hash, leaf_hash},
    name::{Image, WitnessId},
    time::Timestamp,
};

use super::signatures::{WitnessKeys, parse_entries};

/// The most entries of one batch: they are held in memory until the seal that ends it is there.
pub const MAX_BATCH: usize = 1 << 20;

/// Entries that were parsed and hashed, with their signatures checked: what many threads can do at once before the auditor
/// takes them in order.
#[derive(Clone, Debug, Default)]
pub struct ParsedEntries {
    pub(super) parsed: Vec<ParsedEntry>,
    pub(super) leaves: Vec<Hash>,
}

impl ParsedEntries {
    /// Parses, hashes and checks. `keys` are those of [`super::Auditor::keys`] and of every roster up to these entries.
    pub fn new(entries: &[&[u8]], keys: &WitnessKeys) -> ParsedEntries {
        ParsedEntries {
            parsed: parse_entries(entries, keys),
            leaves: entries.iter().map(|entry| leaf_hash(entry)).collect(),
        }
    }

    /// Appends the entries that come next in the log.
    pub fn append(&mut self, next: ParsedEntries) {
        self.parsed.extend(next.parsed);
        self.leaves.extend(next.leaves);
    }

    /// The hashes of the entries as leaves.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }
}

/// How many entries of each kind, and warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Observations.
    pub observations: u64,
    /// Confirmations.
    pub confirmations: u64,
    /// Seals.
    pub seals: u64,
    /// Rosters.
    pub rosters: u64,
    /// Entries whose signatures are valid only with the cofactor: a warning.
    pub lax_signatures: u64,
}

/// A sighting: what a witness saw under a tag, and had not seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagChange {
    /// The log index of the observation.
    pub index: u64,
    /// Repository and tag.
    pub image: Image,
    /// Who saw it.
    pub witness: WitnessId,
    /// When it looked.
    pub observed: Timestamp,
    /// What it had seen before; `None` for its first report of this tag.
    pub old: Option<Seen>,
    /// What it saw now.
    pub new: Seen,
    /// Whether no witness had reported the tag before.
    pub new_tag: bool,
}

/// A batch that obeys every rule.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// The log index of the first entry.
    pub first: u64,
    /// All entries in order, the roster (if there is one) first, the seal last.
    pub entries: Vec<Entry>,
    /// The seal.
    pub seal: Seal,
    /// The sightings among the observations, in log order.
    pub changes: Vec<TagChange>,
    /// Indices of entries whose signature is valid only with the cofactor: a warning.
    pub lax_signatures: Vec<u64>,
}

/// Adds the keys of the rosters among these entries.
pub fn admit_rosters(keys: &mut WitnessKeys, entries: &[&[u8]]) {
    for entry in entries.iter().filter(|entry| entry.starts_with(b"taglog/roster@v1\n")) {
        if let Ok(Entry::Roster(roster)) = Entry::parse(entry) {
            keys.admit(&roster);
        }
    }
}
