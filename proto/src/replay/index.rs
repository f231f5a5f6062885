//! The tag index: how entries change tag records, repository records and the prefix tree.
//!
//! A [`Batch`] reads what it needs through [`RecordReader`], takes entries one by one in log order,
//! and ends in [`IndexChanges`], which the caller stores all together or not at all. A new record
//! follows from the old record, the old list and the new entries alone.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use thiserror::Error;

use crate::{
    c2sp::{
        OperationError,
        merkle::{Frontier, Hash},
        time::Timestamp,
    },
    formats::{
        entry::{Confirmation, Observation},
        name::{Image, Repository, WitnessId},
        record::{Confirmed, RepositoryRecord, Sighting, TagLine, TagRecord, repository_key, tag_key},
    },
    verify::prefix_tree::{self, Key, TreeChanges},
};
pub use crate::{
    formats::record::{RecordReader, commitment},
    verify::prefix_tree::IndexReader,
};

/// An entry that is older than what the same witness has said already (SPEC.md section 3.5).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OrderError {
    /// Before the witness's previous observation of the tag.
    #[error("observed {observed}, but the same witness has observed this tag at {previous} already")]
    BeforeObservation {
        /// The time of the refused entry.
        observed: Timestamp,
        /// The time of the previous observation.
        previous: Timestamp,
    },
    /// Before the witness's latest confirmation of the repository.
    #[error("observed {observed}, but the same witness has confirmed this repository at {previous} already")]
    BeforeConfirmation {
        /// The time of the refused entry.
        observed: Timestamp,
        /// The time of the latest confirmation.
        previous: Timestamp,
    },
    /// A confirmation by a witness that has reported nothing of the repository.
    #[error("a confirmation needs at least one observation by the same witness in the repository")]
    NothingToConfirm,
}

/// What a batch did to one witness's list of sightings of one tag.
#[derive(Clone, Debug)]
pub struct NewSightings {
    /// How long the list was before.
    pub before: u64,
    /// What was added, in log order.
    pub added: Vec<Sighting>,
    /// The right edge of the list after that.
    pub frontier: Frontier,
}

/// A tag record that a batch has changed.
#[derive(Clone, Debug)]
pub struct ChangedTag<P = ()> {
    /// The record after the batch.
    pub record: TagRecord,
    /// Where the reader keeps the tag.
    pub place: P,
}

/// The records that a batch changes.
#[derive(Clone, Debug)]
pub struct RecordChanges<P = ()> {
    /// The number of tag records after the batch.
    pub tags: u64,
    /// Changed tag records.
    pub tag_records: Vec<ChangedTag<P>>,
    /// Changed repository records.
    pub repository_records: Vec<RepositoryRecord>,
    /// Additions to lists of sightings, each tag and witness once, in the order of `tag_records`.
    pub sightings: Vec<((Image, WitnessId), NewSightings)>,
}

impl<P> RecordChanges<P> {
    /// The leaves of the prefix tree that the changed records stand for.
    pub fn leaves(&self) -> BTreeMap<Key, Hash> {
        let tags = self.tag_records.iter().map(|tag| (tag_key(&tag.record.image), commitment(&tag.record)));
        let repositories = self.repository_records.iter();
        let repositories = repositories.map(|record| (repository_key(&record.repository), commitment(record)));
        tags.chain(repositories).collect()
    }
}

/// All that a batch changes in the index, to be stored atomically.
#[derive(Clone, Debug)]
pub struct IndexChanges<P = ()> {
    /// Changed records and lists.
    pub records: RecordChanges<P>,
    /// Changed pages of the prefix tree, and its new root.
    pub tree: TreeChanges,
}

struct TagState<P> {
    record: TagRecord,
    place: P,
    /// What this batch has appended, by witness.
    lists: Vec<(WitnessId, NewSightings)>,
    changed: bool,
}

impl<P> TagState<P> {
    fn list(&self, witness: &WitnessId) -> Option<usize> {
        self.lists.iter().position(|(of, _)| of == witness)
    }
}

struct RepositoryState {
    record: RepositoryRecord,
    changed: bool,
}

/// The value of this name, read when it is needed for the first time.
fn get_or_read<'a, N: Clone + Eq + std::hash::Hash, V, E>(
    values: &'a mut IndexMap<N, V>,
    name: &N,
    read: impl FnOnce() -> Result<V, E>,
) -> Result<&'a mut V, E> {
    match values.get_index_of(name) {
        Some(place) => Ok(&mut values[place]),
        None => Ok(values.entry(name.clone()).or_insert(read()?)),
    }
}

/// Why a batch did not take an entry: it breaks the order rule, or the reader failed.
pub type BatchError<R> = OperationError<OrderError, <R as RecordReader>::Error>;

/// Entries between two seals, on their way into the index.
pub struct Batch<'a, R: RecordReader> {
    reader: &'a R,
    tags: u64,
    tag_states: IndexMap<Image, TagState<R::Place>>,
    repository_states: IndexMap<Repository, RepositoryState>,
}

impl<'a, R: RecordReader> Batch<'a, R> {
    /// A batch on top of an index that holds `tags` tag records.
    pub fn new(reader: &'a R, tags: u64) -> Batch<'a, R> {
        Batch { reader, tags, tag_states: IndexMap::new(), repository_states: IndexMap::new() }
    }

    /// The line that the witness of `entry` has for its tag so far, this batch included.
    pub fn line(&mut self, image: &Image, witness: &WitnessId) -> Result<Option<&TagLine>, R::Error> {
        Ok(self.record(image)?.line(witness))
    }

    /// The record of a tag so far, this batch included; without lines if nobody has reported it.
    pub fn record(&mut self, image: &Image) -> Result<&TagRecord, R::Error> {
        let reader = self.reader;
        Ok(&get_or_read(&mut self.tag_states, image, || read_tag(reader, image))?.record)
    }

    /// What this batch has added to a witness's list of sightings of a tag.
    pub fn new_sightings(&self, image: &Image, witness: &WitnessId) -> &[Sighting] {
        let state = self.tag_states.get(image);
        let list = state.and_then(|state| Some(&state.lists[state.list(witness)?].1.added));
        list.map_or(&[], Vec::as_slice)
    }

    /// Takes an observation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] as a refusal, which changes nothing.
    pub fn observe(&mut self, index: u64, entry: &Observation) -> Result<(), BatchError<R>> {
        let (reader, image, witness) = (self.reader, &entry.image, &entry.signature.witness);
        let read = || read_repository(reader, &image.repository);
        let repository =
            get_or_read(&mut self.repository_states, &image.repository, read).map_err(OperationError::Reader)?;
        let confirmed = repository.record.line(witness).and_then(|line| line.confirmed);
        let tag =
            get_or_read(&mut self.tag_states, image, || read_tag(reader, image)).map_err(OperationError::Reader)?;
        let line = tag.record.line(witness);
        check_observation(entry.observed, line, confirmed.as_ref()).map_err(OperationError::Refused)?;
        if line.is_none() {
            repository.record.line_mut(witness).tags += 1;
            repository.changed = true;
        }
        self.tags += u64::from(tag.record.lines().is_empty());
        update_line(reader, tag, index, entry).map_err(OperationError::Reader)
    }

    /// Takes a confirmation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] as a refusal, which changes nothing.
    pub fn confirm(&mut self, index: u64, entry: &Confirmation) -> Result<(), BatchError<R>> {
        let (reader, witness) = (self.reader, &entry.signature.witness);
        let read = || read_repository(reader, &entry.repository);
        let state =
            get_or_read(&mut self.repository_states, &entry.repository, read).map_err(OperationError::Reader)?;
        let line = state.record.line(witness).ok_or(OperationError::Refused(OrderError::NothingToConfirm))?;
        check_after_confirmation(entry.observed, line.confirmed.as_ref()).map_err(OperationError::Refused)?;
        state.record.line_mut(witness).confirmed = Some(Confirmed { index, observed: entry.observed });
        state.changed = true;
        Ok(())
    }

    /// Ends the batch: the changed records, without the tree over them.
    pub fn into_records(self) -> RecordChanges<R::Place> {
        let mut changes = RecordChanges {
            tags: self.tags,
            tag_records: Vec::with_capacity(self.tag_states.len()),
            repository_records: Vec::new(),
            // Seldom does more than one witness see something new.
            sightings: Vec::with_capacity(self.tag_states.len()),
        };
        for state in self.tag_states.into_values().filter(|state| state.changed) {
            let image = &state.record.image;
            changes.sightings.extend(state.lists.into_iter().map(|(witness, new)| ((image.clone(), witness), new)));
            changes.tag_records.push(ChangedTag { record: state.record, place: state.place });
        }
        let repositories = self.repository_states.into_values().filter(|state| state.changed);
        changes.repository_records.extend(repositories.map(|state| state.record));
        changes
    }
}

fn read_tag<R: RecordReader>(reader: &R, image: &Image) -> Result<TagState<R::Place>, R::Error> {
    let place = reader.place(image)?;
    let record = reader.tag_record_at(image, &place)?.unwrap_or_else(|| TagRecord::new(image.clone()));
    Ok(TagState { record, place, lists: Vec::new(), changed: false })
}

fn read_repository<R: RecordReader>(reader: &R, repository: &Repository) -> Result<RepositoryState, R::Error> {
    let record = reader.repository_record(repository)?.unwrap_or_else(|| RepositoryRecord::new(repository.clone()));
    Ok(RepositoryState { record, changed: false })
}

/// What an observation does to its tag's record.
fn update_line<R: RecordReader>(
    reader: &R,
    tag: &mut TagState<R::Place>,
    index: u64,
    entry: &Observation,
) -> Result<(), R::Error> {
    let witness = &entry.signature.witness;
    let is_sighting = tag.record.line(witness).is_none_or(|line| line.seen != entry.seen);
    let root = if is_sighting { Some(append_sighting(reader, tag, index, entry)?) } else { None };
    tag.changed = true;
    let line = tag.record.line_mut(witness, entry.seen);
    if let Some(root) = root {
        line.root = root;
        line.sightings += 1;
    }
    line.observations += 1;
    (line.index, line.observed, line.seen) = (index, entry.observed, entry.seen);
    Ok(())
}

/// Appends to the witness's list of sightings; returns its new root.
fn append_sighting<R: RecordReader>(
    reader: &R,
    tag: &mut TagState<R::Place>,
    index: u64,
    entry: &Observation,
) -> Result<Hash, R::Error> {
    let witness = &entry.signature.witness;
    let place = match tag.list(witness) {
        Some(place) => place,
        None => {
            let line = tag.record.line(witness);
            let stored = line.map(|line| reader.frontier_at(&entry.image, &tag.place, line)).transpose()?;
            let before = line.map_or(0, |line| line.sightings);
            let list = NewSightings { before, added: Vec::new(), frontier: stored.unwrap_or_default() };
            tag.lists.push((witness.clone(), list));
            tag.lists.len() - 1
        }
    };
    let list = &mut tag.lists[place].1;
    let sighting = Sighting { index, seen: entry.seen };
    list.frontier.append(sighting.leaf_hash(), |_, _, _| {});
    list.added.push(sighting);
    Ok(list.frontier.root())
}

impl<R: IndexReader> Batch<'_, R> {
    /// Ends the batch: the changed records, hashed into the prefix tree.
    pub fn finish(self) -> Result<IndexChanges<R::Place>, <R as RecordReader>::Error> {
        let reader = self.reader;
        let records = self.into_records();
        let tree = prefix_tree::update(reader, &records.leaves())?;
        Ok(IndexChanges { records, tree })
    }
}

/// The order rule for observations: not before the same witness's previous observation of the tag,
/// nor before its latest confirmation of the repository.
fn check_observation(
    observed: Timestamp,
    line: Option<&TagLine>,
    confirmed: Option<&Confirmed>,
) -> Result<(), OrderError> {
    if let Some(previous) = line.map(|line| line.observed).filter(|previous| observed < *previous) {
        return Err(OrderError::BeforeObservation { observed, previous });
    }
    check_after_confirmation(observed, confirmed)
}

/// The order rule for confirmations, and the second half of the one for observations.
fn check_after_confirmation(observed: Timestamp, confirmed: Option<&Confirmed>) -> Result<(), OrderError> {
    match confirmed.map(|confirmed| confirmed.observed).filter(|previous| observed < *previous) {
        Some(previous) => Err(OrderError::BeforeConfirmation { observed, previous }),
        None => Ok(()),
    }
}
