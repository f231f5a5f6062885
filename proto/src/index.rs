//! The tag index: how entries change tag records, repository records and the prefix tree.
//!
//! A [`Batch`] reads what it needs through [`RecordReader`], takes entries one by one in log order,
//! and ends in [`IndexChanges`], which the caller stores all together or not at all. A new record
//! follows from the old record, the old list and the new entries alone.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::{
    entry::{Confirmation, Observation},
    merkle::{Frontier, Hash},
    name::{Image, Repository, WitnessId},
    prefix_tree::{self, Key, PageReader, TreeChanges},
    record::{Confirmed, RepositoryRecord, Sighting, TagLine, TagRecord, repository_key, tag_key},
    time::Timestamp,
};

/// Gives the records that the index holds as of the last seal.
pub trait RecordReader {
    /// What can go wrong in reading.
    type Error;

    /// The record of a tag, if any witness has reported it.
    ///
    /// # Errors
    /// When storage fails.
    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, Self::Error>;

    /// The record of a repository, if any witness has reported a tag of it.
    ///
    /// # Errors
    /// When storage fails.
    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Self::Error>;

    /// The right edge of a witness's list of sightings of a tag; `line` is its line in the record.
    ///
    /// # Errors
    /// When storage fails, or the list is not `line.sightings` long.
    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, Self::Error>;

    /// As [`RecordReader::tag_record`], with the number of the tag, if this reader numbers tags and has it: whoever has
    /// all records in memory need not search for a name again.
    ///
    /// # Errors
    /// When storage fails.
    fn numbered_record(&self, image: &Image) -> Result<(Option<TagRecord>, Option<u32>), Self::Error> {
        Ok((self.tag_record(image)?, None))
    }

    /// As [`RecordReader::sightings_frontier`], with the number that [`RecordReader::numbered_record`] gave.
    ///
    /// # Errors
    /// When storage fails, or the list is not `line.sightings` long.
    fn numbered_frontier(&self, image: &Image, _: Option<u32>, line: &TagLine) -> Result<Frontier, Self::Error> {
        self.sightings_frontier(image, line)
    }
}

/// Gives the whole index as of the last seal: records, and the pages of the tree over them.
pub trait IndexReader: RecordReader + PageReader<Error = <Self as RecordReader>::Error> {}

impl<T: RecordReader + PageReader<Error = <T as RecordReader>::Error>> IndexReader for T {}

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
pub struct ChangedTag {
    /// The record after the batch.
    pub record: TagRecord,
    /// The number that [`RecordReader::numbered_record`] gave before the batch.
    pub number: Option<u32>,
}

/// The records that a batch changes.
#[derive(Clone, Debug)]
pub struct RecordChanges {
    /// The number of tag records after the batch.
    pub tags: u64,
    /// Changed tag records.
    pub tag_records: Vec<ChangedTag>,
    /// Changed repository records.
    pub repository_records: Vec<RepositoryRecord>,
    /// Additions to lists of sightings, each tag and witness once, in the order of `tag_records`.
    pub sightings: Vec<((Image, WitnessId), NewSightings)>,
}

impl RecordChanges {
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
pub struct IndexChanges {
    /// Changed records and lists.
    pub records: RecordChanges,
    /// Changed pages of the prefix tree, and its new root.
    pub tree: TreeChanges,
}

struct TagState {
    record: TagRecord,
    number: Option<u32>,
    /// What this batch has appended, by witness.
    lists: Vec<(WitnessId, NewSightings)>,
    changed: bool,
}

impl TagState {
    fn list(&self, witness: &WitnessId) -> Option<usize> {
        self.lists.iter().position(|(of, _)| of == witness)
    }
}

struct RepositoryState {
    record: RepositoryRecord,
    changed: bool,
}

/// Values by name, with one search for each use.
struct ByName<N, V> {
    places: HashMap<N, usize>,
    values: Vec<V>,
}

impl<N: Clone + Eq + std::hash::Hash, V> ByName<N, V> {
    fn new() -> ByName<N, V> {
        ByName { places: HashMap::new(), values: Vec::new() }
    }

    /// The value of this name, read when it is needed for the first time.
    fn get<E>(&mut self, name: &N, read: impl FnOnce() -> Result<V, E>) -> Result<&mut V, E> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.values.push(read()?);
                self.places.insert(name.clone(), self.values.len() - 1);
                self.values.len() - 1
            }
        };
        Ok(&mut self.values[place])
    }
}

/// Entries between two seals, on their way into the index.
pub struct Batch<'a, R: RecordReader> {
    reader: &'a R,
    tags: u64,
    tag_states: ByName<Image, TagState>,
    repository_states: ByName<Repository, RepositoryState>,
}

impl<'a, R: RecordReader> Batch<'a, R> {
    /// A batch on top of an index that holds `tags` tag records.
    pub fn new(reader: &'a R, tags: u64) -> Batch<'a, R> {
        Batch { reader, tags, tag_states: ByName::new(), repository_states: ByName::new() }
    }

    /// The line that the witness of `entry` has for its tag so far, this batch included.
    ///
    /// # Errors
    /// What the reader says.
    pub fn line(&mut self, image: &Image, witness: &WitnessId) -> Result<Option<&TagLine>, R::Error> {
        Ok(self.record(image)?.line(witness))
    }

    /// The record of a tag so far, this batch included; without lines if nobody has reported it.
    ///
    /// # Errors
    /// What the reader says.
    pub fn record(&mut self, image: &Image) -> Result<&TagRecord, R::Error> {
        let reader = self.reader;
        Ok(&self.tag_states.get(image, || read_tag(reader, image))?.record)
    }

    /// What this batch has added to a witness's list of sightings of a tag.
    pub fn new_sightings(&self, image: &Image, witness: &WitnessId) -> &[Sighting] {
        let state = self.tag_states.places.get(image).map(|place| &self.tag_states.values[*place]);
        let list = state.and_then(|state| Some(&state.lists[state.list(witness)?].1.added));
        list.map_or(&[], Vec::as_slice)
    }

    /// Takes an observation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] (inner; nothing is changed then), or what the reader says (outer).
    pub fn observe(&mut self, index: u64, entry: &Observation) -> Result<Result<(), OrderError>, R::Error> {
        let (reader, image, witness) = (self.reader, &entry.image, &entry.signature.witness);
        let repository =
            self.repository_states.get(&image.repository, || read_repository(reader, &image.repository))?;
        let confirmed = repository.record.line(witness).and_then(|line| line.confirmed);
        let tag = self.tag_states.get(image, || read_tag(reader, image))?;
        let line = tag.record.line(witness);
        if let Err(error) = check_observation(entry.observed, line, confirmed.as_ref()) {
            return Ok(Err(error));
        }
        if line.is_none() {
            repository.record.line_mut(witness).tags += 1;
            repository.changed = true;
        }
        self.tags += u64::from(tag.record.lines().is_empty());
        update_line(reader, tag, index, entry)?;
        Ok(Ok(()))
    }

    /// Takes a confirmation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] (inner; nothing is changed then), or what the reader says (outer).
    pub fn confirm(&mut self, index: u64, entry: &Confirmation) -> Result<Result<(), OrderError>, R::Error> {
        let (reader, witness) = (self.reader, &entry.signature.witness);
        let state = self.repository_states.get(&entry.repository, || read_repository(reader, &entry.repository))?;
        match state.record.line(witness) {
            None => return Ok(Err(OrderError::NothingToConfirm)),
            Some(line) => {
                if let Some(previous) = line.confirmed.map(|c| c.observed).filter(|p| entry.observed < *p) {
                    return Ok(Err(OrderError::BeforeConfirmation { observed: entry.observed, previous }));
                }
            }
        }
        state.record.line_mut(witness).confirmed = Some(Confirmed { index, observed: entry.observed });
        state.changed = true;
        Ok(Ok(()))
    }

    /// Ends the batch: the changed records, without the tree over them.
    pub fn into_records(self) -> RecordChanges {
        let mut changes = RecordChanges {
            tags: self.tags,
            tag_records: Vec::with_capacity(self.tag_states.values.len()),
            repository_records: Vec::new(),
            // Seldom does more than one witness see something new.
            sightings: Vec::with_capacity(self.tag_states.values.len()),
        };
        for state in self.tag_states.values.into_iter().filter(|state| state.changed) {
            let image = &state.record.image;
            changes.sightings.extend(state.lists.into_iter().map(|(witness, new)| ((image.clone(), witness), new)));
            changes.tag_records.push(ChangedTag { record: state.record, number: state.number });
        }
        let repositories = self.repository_states.values.into_iter().filter(|state| state.changed);
        changes.repository_records.extend(repositories.map(|state| state.record));
        changes
    }
}

fn read_tag<R: RecordReader>(reader: &R, image: &Image) -> Result<TagState, R::Error> {
    let (record, number) = reader.numbered_record(image)?;
    let record = record.unwrap_or_else(|| TagRecord::new(image.clone()));
    Ok(TagState { record, number, lists: Vec::new(), changed: false })
}

fn read_repository<R: RecordReader>(reader: &R, repository: &Repository) -> Result<RepositoryState, R::Error> {
    let record = reader.repository_record(repository)?.unwrap_or_else(|| RepositoryRecord::new(repository.clone()));
    Ok(RepositoryState { record, changed: false })
}

/// What an observation does to its tag's record.
fn update_line<R: RecordReader>(
    reader: &R,
    tag: &mut TagState,
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
    tag: &mut TagState,
    index: u64,
    entry: &Observation,
) -> Result<Hash, R::Error> {
    let witness = &entry.signature.witness;
    let place = match tag.list(witness) {
        Some(place) => place,
        None => {
            let line = tag.record.line(witness);
            let stored = line.map(|line| reader.numbered_frontier(&entry.image, tag.number, line)).transpose()?;
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
    ///
    /// # Errors
    /// What the reader says.
    pub fn finish(self) -> Result<IndexChanges, <R as RecordReader>::Error> {
        let reader = self.reader;
        let records = self.into_records();
        let tree = prefix_tree::update(reader, &records.leaves())?;
        Ok(IndexChanges { records, tree })
    }
}

/// The commitment to a record: SHA-256 of its text.
pub fn commitment(record: &impl std::fmt::Display) -> Hash {
    Hash::of_text(record)
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
    if let Some(previous) = confirmed.map(|confirmed| confirmed.observed).filter(|previous| observed < *previous) {
        return Err(OrderError::BeforeConfirmation { observed, previous });
    }
    Ok(())
}
