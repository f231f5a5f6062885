//! The auditor: takes the entries of a log in order and checks them against every rule.

use std::path::{Path, PathBuf};

use taglog_proto::{
    audit::{AuditError, AuditState, AuditedBatch, ParsedEntry, audit_parsed},
    checkpoint::SignedCheckpoint,
    entry::{Entry, EntryError, Observation, Roster, Seal, Seen},
    merkle::{Frontier, Hash, NodeReader, root},
    name::WitnessId,
    note::VerifierKey,
    tile::FULL_WIDTH,
    time::Timestamp,
};

use super::{
    batch::{BatchReport, Counts, MAX_BATCH, ParsedEntries, TagChange, admit_rosters},
    error::{AuditorError, PushError},
    index::{GrownList, Index},
    rows::{Rows, StoredSighting},
    signatures::WitnessKeys,
    store::{FILE, Loaded, Store},
    tree::Tree,
};
use taglog_log_client::tile_nodes::perfect_root;

/// How a checkpoint relates to the audited entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// The audited entries up to its size have the same root.
    Consistent,
    /// The audited entries up to its size have another root.
    Contradicted,
    /// It covers more entries than were audited.
    Ahead,
}

/// The state of the audit of one log.
#[derive(Debug)]
pub struct Auditor {
    log: VerifierKey,
    store: Store,
    state: AuditState,
    /// Every roster with its log index.
    rosters: Vec<(u64, Roster)>,
    /// How many of `rosters` are stored already.
    stored_rosters: usize,
    keys: WitnessKeys,
    index: Index,
    tree: Tree,
    counts: Counts,
    sightings: Vec<StoredSighting>,
    lax: Vec<u64>,
    checkpoints: Vec<SignedCheckpoint>,
    tiles_checked: u64,
    /// [`Auditor::progress`] at the start of the last commit.
    begun: (u64, u64),
}

impl Auditor {
    /// Opens the state of an auditor of this log in `directory`, and locks it. Creates the directory and the state if they do
    /// not exist.
    pub fn open(directory: &Path, log: &VerifierKey) -> Result<Auditor, AuditorError> {
        let store = Store::open(directory, log)?;
        let Loaded { seal, rosters, counts, index, tree, tiles_checked } = store.load()?;
        let damaged = |what: &str| Err(AuditorError::Damaged { path: directory.join(FILE), what: what.to_owned() });
        if tree.size() != seal.map_or(0, |seal| seal.size + 1) {
            return damaged("the tree does not end with the last seal");
        }
        if seal.is_some_and(|seal| seal.index != index.root() || seal.tags != index.tags.len() as u64) {
            return damaged("the tag index differs from that of the last seal");
        }
        let tree_size = tree.size();
        let mut state = AuditState { size: tree_size, seal, ..AuditState::default() };
        let mut keys = WitnessKeys::default();
        for (_, roster) in &rosters {
            state.keys.extend(roster.ids().zip(roster.witnesses().iter().map(|key| *key.as_bytes())));
            keys.admit(roster);
        }
        state.roster = rosters.last().cloned();
        Ok(Auditor {
            log: log.clone(),
            state,
            stored_rosters: rosters.len(),
            rosters,
            keys,
            index,
            tree,
            counts,
            sightings: Vec::new(),
            lax: Vec::new(),
            checkpoints: Vec::new(),
            begun: (tree_size, tiles_checked),
            tiles_checked,
            store,
        })
    }

    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// The number of audited entries; the last of them is a seal.
    pub fn size(&self) -> u64 {
        self.state.size
    }

    /// The root over all audited entries.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The root over the first `size` of the audited entries; `None` if fewer were audited.
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, AuditorError> {
        match size.cmp(&self.size()) {
            std::cmp::Ordering::Less => root(self, size).map(Some),
            std::cmp::Ordering::Equal => Ok(Some(self.root())),
            std::cmp::Ordering::Greater => Ok(None),
        }
    }

    /// The last seal.
    pub fn seal(&self) -> Option<&Seal> {
        self.state.seal.as_ref()
    }

    /// The roster in force, with its log index.
    pub fn roster(&self) -> Option<(u64, &Roster)> {
        self.state.roster.as_ref().map(|(index, roster)| (*index, roster))
    }

    /// The keys of all witnesses that are or were in a roster.
    pub fn keys(&self) -> &WitnessKeys {
        &self.keys
    }

    /// The tag index as of the last seal.
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The approximate number of rows that the next commit writes. There may be something to commit even if it is 0.
    pub fn uncommitted(&self) -> usize {
        self.sightings.len() + self.index.uncommitted() + self.tree.uncommitted()
    }

    /// The right edge of the tree over all audited entries.
    pub fn frontier(&self) -> &Frontier {
        self.tree.frontier()
    }

    /// The tree size up to which the served hash tiles of level 1 and above were compared.
    pub(super) fn tiles_checked(&self) -> u64 {
        self.tiles_checked
    }

    /// Records, with the next commit, that the hash tiles of level 1 and above were compared up to this tree size.
    pub(super) fn set_tiles_checked(&mut self, size: u64) {
        self.tiles_checked = self.tiles_checked.max(size);
    }

    /// Like [`Auditor::take_reporting`], for the bytes of the entries from [`Auditor::size`] on. Returns how many entries were
    /// taken; entries after the last seal must be passed again.
    pub fn push(&mut self, entries: &[&[u8]], on_batch: impl FnMut(BatchReport)) -> Result<usize, PushError> {
        let mut keys = self.keys.clone();
        admit_rosters(&mut keys, entries);
        self.take_reporting(&mut ParsedEntries::new(entries, &keys), on_batch)
    }

    /// Audits every complete batch in `queue`, calls `on_seal` for each and removes it from the queue. Entries after the last
    /// seal stay in it. Returns how many entries were taken. Nothing is durable before a commit.
    ///
    /// # Errors
    /// All batches before the one with the error were taken, and no entry of that one.
    pub fn take(&mut self, queue: &mut ParsedEntries, mut on_seal: impl FnMut(&Seal)) -> Result<usize, PushError> {
        self.take_each(queue, |_, audited| on_seal(&audited.seal))
    }

    /// Like [`Auditor::take`], with a full report on each batch.
    ///
    /// # Errors
    /// As for [`Auditor::take`].
    pub fn take_reporting(
        &mut self,
        queue: &mut ParsedEntries,
        mut on_batch: impl FnMut(BatchReport),
    ) -> Result<usize, PushError> {
        self.take_each(queue, |entries, audited| on_batch(audited.report(entries)))
    }

    fn take_each(
        &mut self,
        queue: &mut ParsedEntries,
        mut each: impl FnMut(&mut [ParsedEntry], Audited),
    ) -> Result<usize, PushError> {
        let (mut taken, mut outcome) = (0, Ok(()));
        while let Some(end) = queue.parsed[taken..].iter().position(ParsedEntry::ends_batch) {
            let range = taken..=taken + end;
            let entries = &mut queue.parsed[range.clone()];
            match self.audit(entries, &queue.leaves[range]) {
                Ok(audited) => {
                    taken += end + 1;
                    each(entries, audited);
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        queue.parsed.drain(..taken);
        queue.leaves.drain(..taken);
        if outcome.is_ok() && queue.len() > MAX_BATCH {
            outcome = Err(AuditorError::BatchTooLong(self.size()).into());
        }
        outcome.map(|()| taken)
    }

    /// Checks the last entries of a signed checkpoint if they do not end in a seal.
    ///
    /// # Errors
    /// The first violation among the entries. The missing seal itself is not reported as an error.
    pub fn check_unsealed(&self, entries: &ParsedEntries) -> Result<(), PushError> {
        match audit_parsed(&self.state, &entries.parsed, &self.index) {
            Err(AuditError::Unsealed(_)) | Ok(_) => Ok(()),
            Err(error) => Err(push_error(error)),
        }
    }

    /// Audits and takes one complete batch.
    fn audit(&mut self, entries: &[ParsedEntry], leaves: &[Hash]) -> Result<Audited, PushError> {
        let batch = audit_parsed(&self.state, entries, &self.index).map_err(push_error)?;
        let root = self.index.propose(&batch.records).map_err(AuditorError::from)?;
        if let Err(error) = batch.check_root(&root) {
            self.index.forget().map_err(AuditorError::from)?;
            return Err(push_error(error));
        }
        let first = self.state.size;
        let grown = self.index.take(&batch.records);
        leaves.iter().for_each(|leaf| self.tree.append(*leaf));
        let sighted = sighted(&batch, &grown, first);
        for Sighted { place, tag, witness, new, .. } in &sighted {
            // Always matches: a sighting is an observation.
            let Some(Observation { observed, .. }) = observation(&entries[*place]) else { continue };
            let index = first + *place as u64;
            self.index.sighted(*tag, index, new);
            self.sightings.push(StoredSighting {
                index,
                tag: *tag,
                witness: *witness,
                observed: *observed,
                seen: *new,
            });
        }
        let seal = *batch.seal();
        self.counts.lax_signatures += batch.lax_signatures.len() as u64;
        self.lax.extend(&batch.lax_signatures);
        self.state = batch.state;
        for entry in entries.iter().filter_map(|parsed| parsed.entry.as_ref().ok()) {
            self.count(entry, first);
        }
        Ok(Audited { first, seal, sighted, lax_signatures: batch.lax_signatures })
    }

    fn count(&mut self, entry: &Entry, first: u64) {
        match entry {
            Entry::Observation(_) => self.counts.observations += 1,
            Entry::Confirmation(_) => self.counts.confirmations += 1,
            Entry::Seal(_) => self.counts.seals += 1,
            // The rules allow a roster only as the first entry of a batch.
            Entry::Roster(roster) => {
                self.counts.rosters += 1;
                self.keys.admit(roster);
                self.rosters.push((first, roster.clone()));
            }
        }
    }

    /// Makes everything that was taken durable. After a crash, an auditor resumes from the last commit.
    ///
    /// # Errors
    /// Nothing was written; the call may be repeated.
    pub fn commit(&mut self) -> Result<(), AuditorError> {
        if self.begun == self.progress() && self.checkpoints.is_empty() {
            return self.store.settle();
        }
        let rows = self.take_rows();
        self.store.commit(rows)
    }

    /// Waits until every commit that was begun is durable. Retries a commit that failed.
    pub fn settle(&self) -> Result<(), AuditorError> {
        self.store.settle()
    }

    /// The number of audited entries and of those whose tiles were compared: everything to commit but checkpoints increases one
    /// of them.
    fn progress(&self) -> (u64, u64) {
        (self.size(), self.tiles_checked)
    }

    /// Begins a commit of everything that was taken, and returns once the previous commit is durable. Another thread writes it,
    /// so that entries can be taken meanwhile. Reads of the state wait for it, and so does [`Auditor::commit`].
    ///
    /// # Errors
    /// The previous commit failed; the next one writes the rows of both.
    pub fn begin_commit(&mut self) -> Result<(), AuditorError> {
        let rows = self.take_rows();
        self.store.begin_commit(rows)
    }

    fn take_rows(&mut self) -> Rows {
        self.begun = self.progress();
        let stored_rosters = std::mem::replace(&mut self.stored_rosters, self.rosters.len());
        Rows {
            seal: self.state.seal,
            counts: self.counts.clone(),
            tiles_checked: self.tiles_checked,
            rosters: self.rosters[stored_rosters..].to_vec(),
            index: self.index.take_rows(),
            tiles: self.tree.take_rows(),
            sightings: std::mem::take(&mut self.sightings),
            lax: std::mem::take(&mut self.lax),
            checkpoints: std::mem::take(&mut self.checkpoints),
        }
    }

    /// Stores, with the next commit, a checkpoint whose signature the caller has verified.
    pub fn remember_checkpoint(&mut self, checkpoint: SignedCheckpoint) {
        if !self.checkpoints.contains(&checkpoint) {
            self.checkpoints.push(checkpoint);
        }
    }

    /// Every checkpoint passed to [`Auditor::remember_checkpoint`] so far, the smallest first.
    pub fn checkpoints(&self) -> Result<Vec<SignedCheckpoint>, AuditorError> {
        let mut all = self.store.checkpoints()?;
        all.extend(self.checkpoints.iter().cloned());
        all.sort_by_key(|checkpoint| checkpoint.unverified().size);
        all.dedup();
        Ok(all)
    }

    /// How a checkpoint, whose signature the caller has verified, relates to the audited entries.
    pub fn check_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<Consistency, AuditorError> {
        let claimed = checkpoint.unverified();
        Ok(match self.root_at(claimed.size)? {
            None => Consistency::Ahead,
            Some(root) if root == claimed.root => Consistency::Consistent,
            Some(_) => Consistency::Contradicted,
        })
    }

    /// The sighting at a log index: witness, time of the observation and digest. `None` if that entry is not a sighting.
    pub fn sighting(&self, index: u64) -> Result<Option<(WitnessId, Timestamp, Seen)>, AuditorError> {
        let recent = self.sightings.iter().find(|sighting| sighting.index == index).cloned();
        let found = if recent.is_some() { recent } else { self.store.sighting(index)? };
        Ok(found.map(|found| (self.index.witnesses[found.witness as usize].clone(), found.observed, found.seen)))
    }

    /// The sightings, in log order, of the tags whose number satisfies `wanted`.
    pub(super) fn sightings_of(&self, wanted: &dyn Fn(u32) -> bool) -> Result<Vec<StoredSighting>, AuditorError> {
        let mut found = self.store.sightings(wanted, self.size())?;
        found.extend(self.sightings.iter().filter(|sighting| wanted(sighting.tag)).cloned());
        Ok(found)
    }

    /// Calls `each` with every sighting of the retagged tags, grouped by tag and in log order, as of the last commit.
    pub(super) fn each_retagged_sighting(&self, each: impl FnMut(StoredSighting)) -> Result<(), AuditorError> {
        self.store.each_retagged_sighting(each)
    }
}

/// A batch that was taken.
struct Audited {
    first: u64,
    seal: Seal,
    sighted: Vec<Sighted>,
    lax_signatures: Vec<u64>,
}

/// A sighting of a batch.
struct Sighted {
    /// The position of the observation in the batch.
    place: usize,
    tag: u32,
    witness: u32,
    old: Option<Seen>,
    new: Seen,
    new_tag: bool,
}

impl Audited {
    /// The report on the batch; takes its entries.
    fn report(self, entries: &mut [ParsedEntry]) -> BatchReport {
        let Audited { first, seal, sighted, lax_signatures } = self;
        let change = |Sighted { place, old, new, new_tag, .. }| {
            let observation = observation(&entries[place])?;
            Some(TagChange {
                index: first + place as u64,
                image: observation.image.clone(),
                witness: observation.signature.witness.clone(),
                observed: observation.observed,
                old,
                new,
                new_tag,
            })
        };
        let changes = sighted.into_iter().filter_map(change).collect();
        let entries = entries.iter_mut().filter_map(take_entry).collect();
        BatchReport { first, entries, seal, changes, lax_signatures }
    }
}

/// The sightings of a batch that begins at `first`, in log order.
fn sighted(batch: &AuditedBatch<Option<u32>>, grown: &[GrownList], first: u64) -> Vec<Sighted> {
    let mut sighted = Vec::with_capacity(grown.len());
    for (GrownList { tag, witness, old, new_tag }, (_, list)) in grown.iter().zip(&batch.records.sightings) {
        let mut old = *old;
        for sighting in &list.added {
            sighted.push(Sighted {
                // Fits: all entries of a batch are in memory.
                place: (sighting.index - first) as usize,
                tag: *tag,
                witness: *witness,
                old: old.replace(sighting.seen),
                new: sighting.seen,
                new_tag: *new_tag,
            });
        }
    }
    sighted.sort_unstable_by_key(|sighting| sighting.place);
    sighted
}

fn take_entry(parsed: &mut ParsedEntry) -> Option<Entry> {
    std::mem::replace(&mut parsed.entry, Err(EntryError::NotCanonical)).ok()
}

fn observation(parsed: &ParsedEntry) -> Option<&Observation> {
    match &parsed.entry {
        Ok(Entry::Observation(observation)) => Some(observation),
        _ => None,
    }
}

fn push_error(error: AuditError<std::convert::Infallible>) -> PushError {
    match error {
        AuditError::Violation { index, violation } => PushError::Violation { index, violation },
        AuditError::UnknownKind { index, kind } => PushError::UnknownKind { index, kind },
        // Batches are only audited once their seal is there.
        AuditError::Unsealed(index) => AuditorError::BatchTooLong(index).into(),
        AuditError::Reader(never) => match never {},
    }
}

/// The nodes of the tree over all audited entries.
impl NodeReader for Auditor {
    type Error = AuditorError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, AuditorError> {
        let missing = || AuditorError::Damaged {
            path: PathBuf::from(FILE),
            what: format!("no node {level}/{index} in the tree of {} entries", self.size()),
        };
        if level >= 8 {
            return self.tree.high_node(level, index).ok_or_else(missing);
        }
        let span = 1_u64 << level;
        let start = index.checked_mul(span).ok_or_else(missing)?;
        let tile = start / FULL_WIDTH;
        let within = (start % FULL_WIDTH) as usize..(start % FULL_WIDTH + span) as usize;
        let stored;
        let hashes = match self.tree.recent_tile(tile) {
            Some(hashes) => hashes,
            None => {
                stored = self.store.tile(tile)?.ok_or_else(missing)?;
                &stored
            }
        };
        Ok(perfect_root(hashes.get(within).ok_or_else(missing)?))
    }
}
