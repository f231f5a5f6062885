//! One history of a log: its entries and the tag index over them, true or not.

use std::collections::HashSet;

use taglog_memory_log::{MemoryLog, Missing};
use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    entry::{Entry, Limits, Observation, Roster, Seal, Seen},
    index::{Batch, RecordChanges, RecordReader},
    merkle::{Frontier, Hash},
    name::{Image, Repository, WitnessId},
    note::SigningKey,
    prefix_tree,
    record::{RepositoryRecord, TagLine, TagRecord},
    rules::check_time,
    time::Timestamp,
};

use crate::{
    server::ORIGIN,
    witness::{Witness, now, time},
};

/// How the log deceives as it closes a batch. What is wrong with entries themselves (a witness outside the roster, a
/// false signature, a malformed encoding, a time outside the time rule, another order) needs no lie:
/// see [`History::close`].
#[derive(Clone, Debug)]
pub enum Lie {
    /// The tag index never learns of the entry at this place of the batch.
    Omits(usize),
    /// The tag index cites the observation at this place of the batch for something else.
    Cites(usize, Seen),
    /// The seal has an index root that nothing leads to.
    ForgesRoot,
    /// The batch ends in a copy of the seal before it.
    ReplaysSeal,
    /// The batch ends without a seal.
    EndsWithoutSeal,
    /// The seal bears this time, in seconds since 1970.
    SealsAt(i64),
}

/// Entries, tree and tag index, as the log shows them.
#[derive(Clone)]
pub struct History {
    memory: MemoryLog,
    roster: (u64, Roster),
    seal: Seal,
}

impl History {
    /// A history that has only begun: a roster of these witnesses and a seal, both of now.
    pub fn new(witnesses: &[&Witness]) -> History {
        History::begun_at(witnesses, now())
    }

    /// A history that began at a time of the test's choice, in seconds since 1970.
    pub fn begun_at(witnesses: &[&Witness], seconds: i64) -> History {
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let vkeys = witnesses.iter().map(|witness| witness.vkey().clone()).collect();
        History::begun_by(Roster::new(time(seconds), limits, vkeys).unwrap())
    }

    /// A history that begins with this roster, sealed at its time.
    fn begun_by(roster: Roster) -> History {
        let seal = Seal { time: roster.time, size: 0, roster: 0, tags: 0, index: prefix_tree::empty_root() };
        let mut history = History { memory: MemoryLog::default(), roster: (0, roster.clone()), seal };
        history.close(&[roster.to_string().into_bytes()], Some(&Lie::SealsAt(roster.time.unix())));
        history
    }

    /// Takes these entries as they are, whatever is wrong with them, and closes the batch; returns their indices. The
    /// index learns of all that are observations or confirmations, also of those that break their witness's order
    /// (but only of such a one whose predecessor is in an earlier batch). Seals are dated now, and never decrease, if
    /// no lie says otherwise.
    pub fn close(&mut self, entries: &[Vec<u8>], lie: Option<&Lie>) -> Vec<u64> {
        let first = self.size();
        let indexed: Vec<(u64, Entry)> = (first..)
            .zip(entries)
            .enumerate()
            .filter_map(|(place, (index, bytes))| Some((index, as_indexed(Entry::parse(bytes).ok()?, place, lie)?)))
            .collect();
        if let Some((index, Entry::Roster(roster))) =
            indexed.iter().find(|(_, entry)| matches!(entry, Entry::Roster(_)))
        {
            self.roster = (*index, roster.clone());
        }
        let records = self.records(&indexed);
        let tags = records.tags;
        let tree = prefix_tree::update(&self.memory, &records.leaves()).unwrap();
        let seal = Seal {
            time: self.seal.time.max(time(now())),
            size: first + entries.len() as u64,
            roster: self.roster.0,
            tags,
            index: tree.root,
        };
        self.append(entries);
        self.memory.apply(&records, tree);
        self.end(seal, lie);
        (first..).take(entries.len()).collect()
    }

    fn end(&mut self, honest: Seal, lie: Option<&Lie>) {
        let seal = match lie {
            Some(Lie::ForgesRoot) => Seal { index: Hash::of(b"nothing leads to this"), ..honest },
            Some(Lie::SealsAt(seconds)) => Seal { time: time(*seconds), ..honest },
            Some(Lie::ReplaysSeal) => self.seal,
            Some(Lie::EndsWithoutSeal) => return self.seal.tags = honest.tags,
            Some(Lie::Omits(_) | Lie::Cites(..)) | None => honest,
        };
        self.append(&[seal.to_string().into_bytes()]);
        self.seal = seal;
        self.seal.tags = honest.tags;
    }

    fn append(&mut self, entries: &[Vec<u8>]) {
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        self.memory.append(&entries);
    }

    /// What the entries do to the records. Those that break their witness's order are taken as if they did not.
    fn records(&self, entries: &[(u64, Entry)]) -> RecordChanges {
        let mut reader = Lenient { memory: &self.memory, unordered: HashSet::new() };
        loop {
            match self.try_records(&reader, entries) {
                Ok(records) => return records,
                Err(out_of_order) => assert!(
                    reader.unordered.insert(out_of_order),
                    "the predecessor of what breaks the order must be in an earlier batch"
                ),
            }
        }
    }

    fn try_records(&self, reader: &Lenient<'_>, entries: &[(u64, Entry)]) -> Result<RecordChanges, (Image, WitnessId)> {
        let mut batch = Batch::new(reader, self.seal.tags);
        for (index, entry) in entries {
            match entry {
                Entry::Observation(entry) => {
                    let order = batch.observe(*index, entry);
                    order.map_err(|_| (entry.image.clone(), entry.signature.witness.clone()))?;
                }
                Entry::Confirmation(entry) => batch.confirm(*index, entry).unwrap(),
                Entry::Roster(_) | Entry::Seal(_) => {}
            }
        }
        Ok(batch.into_records())
    }

    /// The same history with its entries rewritten: each batch is closed anew, by a seal of the old time.
    pub fn rewritten(&self, rewrite: impl FnOnce(&mut Vec<Vec<u8>>)) -> History {
        let mut entries = self.memory.entries().to_vec();
        rewrite(&mut entries);
        let Ok(Entry::Roster(roster)) = Entry::parse(&entries[0]) else { panic!("a log begins with a roster") };
        let mut history = History::begun_by(roster);
        let mut batch = Vec::new();
        for entry in entries.into_iter().skip(2) {
            match Entry::parse(&entry) {
                Ok(Entry::Seal(seal)) => {
                    history.close(&batch, Some(&Lie::SealsAt(seal.time.unix())));
                    batch.clear();
                }
                _ => batch.push(entry),
            }
        }
        assert!(batch.is_empty(), "the history does not end in a seal");
        history
    }

    /// Why an honest log would refuse this as its next entry: the last part of the problem type, and the HTTP status.
    pub fn refusal(&self, note: &[u8]) -> Option<(&'static str, u16)> {
        let mut batch = Batch::new(&self.memory, 0);
        let (observed, in_order) = match Entry::parse(note) {
            Ok(Entry::Observation(entry)) => (entry.observed, batch.observe(self.size(), &entry).is_ok()),
            Ok(Entry::Confirmation(entry)) => (entry.observed, batch.confirm(self.size(), &entry).is_ok()),
            Ok(_) => return Some(("not-a-statement", 422)),
            Err(_) => return Some(("malformed-entry", 400)),
        };
        match self.verifies(note) {
            None => return Some(("unknown-witness", 403)),
            Some(false) => return Some(("bad-signature", 403)),
            Some(true) => {}
        }
        let in_time = check_time(observed, self.seal.time, time(now()), &self.roster.1.limits).is_ok();
        match (in_time, in_order) {
            (true, true) => None,
            (false, _) => Some(("too-old", 422)),
            _ => Some(("out-of-order", 409)),
        }
    }

    /// Whether the signature holds; `None` when its witness is not in the roster.
    fn verifies(&self, note: &[u8]) -> Option<bool> {
        match Entry::parse(note) {
            Ok(Entry::Observation(entry)) => {
                self.roster.1.key(&entry.signature.witness).map(|key| entry.verify(key).is_ok())
            }
            Ok(Entry::Confirmation(entry)) => {
                self.roster.1.key(&entry.signature.witness).map(|key| entry.verify(key).is_ok())
            }
            _ => None,
        }
    }

    /// Where the same statement of the same witness stands already.
    pub fn duplicate(&self, note: &[u8]) -> Option<u64> {
        let wanted = statement(note)?;
        let found = self.memory.entries().iter().position(|entry| statement(entry).as_ref() == Some(&wanted));
        found.map(|index| index as u64)
    }

    pub fn size(&self) -> u64 {
        self.memory.entries().len() as u64
    }

    /// Entries, tree and index.
    pub fn memory(&self) -> &MemoryLog {
        &self.memory
    }

    /// The roster in force, and its index.
    pub fn roster(&self) -> &(u64, Roster) {
        &self.roster
    }

    /// Whether the last entry is a seal, of whatever size.
    pub fn ends_in_seal(&self) -> bool {
        self.memory.entries().last().is_some_and(|last| matches!(Entry::parse(last), Ok(Entry::Seal(_))))
    }

    /// The checkpoint over all entries.
    pub fn checkpoint(&self) -> Checkpoint {
        self.memory.checkpoint(ORIGIN)
    }

    /// The checkpoint over all entries, signed without asking for consistency with anything.
    pub fn signed(&self, key: &SigningKey) -> SignedCheckpoint {
        self.checkpoint().sign(key)
    }
}

/// The entry as the index learns of it, if it does.
fn as_indexed(entry: Entry, place: usize, lie: Option<&Lie>) -> Option<Entry> {
    match (lie, entry) {
        (Some(Lie::Omits(omitted)), _) if *omitted == place => None,
        (Some(Lie::Cites(cited, seen)), Entry::Observation(entry)) if *cited == place => {
            Some(Entry::Observation(Observation { seen: *seen, ..entry }))
        }
        (_, entry) => Some(entry),
    }
}

/// What makes two entries duplicates: witness and text.
fn statement(note: &[u8]) -> Option<(WitnessId, String)> {
    match Entry::parse(note).ok()? {
        Entry::Observation(entry) => Some((entry.signature.witness.clone(), entry.text())),
        Entry::Confirmation(entry) => Some((entry.signature.witness.clone(), entry.text())),
        Entry::Roster(_) | Entry::Seal(_) => None,
    }
}

/// The records, but with no time that an observation of these tags by these witnesses could be before.
struct Lenient<'a> {
    memory: &'a MemoryLog,
    unordered: HashSet<(Image, WitnessId)>,
}

impl Lenient<'_> {
    fn forget_time(&self, record: TagRecord) -> TagRecord {
        let forgets = |line: &&TagLine| self.unordered.contains(&(record.image.clone(), line.witness.clone()));
        let mut text = record.to_string();
        for line in record.lines().iter().filter(forgets) {
            let earliest = line.to_string().replace(&line.observed.to_string(), &earliest().to_string());
            text = text.replace(&line.to_string(), &earliest);
        }
        TagRecord::parse(&text).unwrap()
    }
}

fn earliest() -> Timestamp {
    time(0)
}

impl RecordReader for Lenient<'_> {
    type Error = Missing;
    type Place = ();

    fn place(&self, _: &Image) -> Result<(), Missing> {
        Ok(())
    }

    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, Missing> {
        Ok(self.memory.tag_record(image)?.map(|record| self.forget_time(record)))
    }

    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Missing> {
        self.memory.repository_record(repository)
    }

    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, Missing> {
        self.memory.sightings_frontier(image, line)
    }
}
