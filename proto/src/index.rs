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
}

/// The records that a batch changes.
#[derive(Clone, Debug)]
pub struct RecordChanges {
    /// The number of tag records after the batch.
    pub tags: u64,
    /// Changed tag records.
    pub tag_records: Vec<TagRecord>,
    /// Changed repository records.
    pub repository_records: Vec<RepositoryRecord>,
    /// Additions to lists of sightings, by tag and witness.
    pub sightings: HashMap<(Image, WitnessId), NewSightings>,
}

impl RecordChanges {
    /// The leaves of the prefix tree that the changed records stand for.
    pub fn leaves(&self) -> BTreeMap<Key, Hash> {
        let tags = self.tag_records.iter().map(|record| (tag_key(&record.image), commitment(record)));
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
    /// Right edges of lists that this batch has appended to.
    frontiers: HashMap<WitnessId, Frontier>,
    changed: bool,
}

struct RepositoryState {
    record: RepositoryRecord,
    changed: bool,
}

/// Entries between two seals, on their way into the index.
pub struct Batch<'a, R: RecordReader> {
    reader: &'a R,
    tags: u64,
    tag_states: HashMap<Image, TagState>,
    repository_states: HashMap<Repository, RepositoryState>,
    sightings: HashMap<(Image, WitnessId), NewSightings>,
}

impl<'a, R: RecordReader> Batch<'a, R> {
    /// A batch on top of an index that holds `tags` tag records.
    pub fn new(reader: &'a R, tags: u64) -> Batch<'a, R> {
        Batch { reader, tags, tag_states: HashMap::new(), repository_states: HashMap::new(), sightings: HashMap::new() }
    }

    /// The line that the witness of `entry` has for its tag so far, this batch included.
    ///
    /// # Errors
    /// What the reader says.
    pub fn line(&mut self, image: &Image, witness: &WitnessId) -> Result<Option<&TagLine>, R::Error> {
        Ok(self.tag_state(image)?.record.line(witness))
    }

    /// The record of a tag so far, this batch included; without lines if nobody has reported it.
    ///
    /// # Errors
    /// What the reader says.
    pub fn record(&mut self, image: &Image) -> Result<&TagRecord, R::Error> {
        Ok(&self.tag_state(image)?.record)
    }

    /// What this batch has added to a witness's list of sightings of a tag.
    pub fn new_sightings(&self, image: &Image, witness: &WitnessId) -> &[Sighting] {
        self.sightings.get(&(image.clone(), witness.clone())).map_or(&[], |new| &new.added)
    }

    /// Takes an observation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] (inner; nothing is changed then), or what the reader says (outer).
    pub fn observe(&mut self, index: u64, entry: &Observation) -> Result<Result<(), OrderError>, R::Error> {
        let witness = &entry.signature.witness;
        let confirmed = self.confirmed(&entry.image.repository, witness)?;
        let line = self.line(&entry.image, witness)?.cloned();
        if let Err(error) = check_observation(entry.observed, line.as_ref(), confirmed.as_ref()) {
            return Ok(Err(error));
        }
        if line.is_none() {
            let repository = self.repository_state(&entry.image.repository)?;
            repository.record.line_mut(witness).tags += 1;
            repository.changed = true;
        }
        self.update_line(index, entry, line)?;
        Ok(Ok(()))
    }

    /// Takes a confirmation at log index `index`, or refuses it by the order rule.
    ///
    /// # Errors
    /// [`OrderError`] (inner; nothing is changed then), or what the reader says (outer).
    pub fn confirm(&mut self, index: u64, entry: &Confirmation) -> Result<Result<(), OrderError>, R::Error> {
        let witness = &entry.signature.witness;
        let state = self.repository_state(&entry.repository)?;
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
        let tag_records = self.tag_states.into_values().filter(|state| state.changed).map(|state| state.record);
        let repositories = self.repository_states.into_values().filter(|state| state.changed);
        RecordChanges {
            tags: self.tags,
            tag_records: tag_records.collect(),
            repository_records: repositories.map(|state| state.record).collect(),
            sightings: self.sightings,
        }
    }

    fn update_line(&mut self, index: u64, entry: &Observation, old: Option<TagLine>) -> Result<(), R::Error> {
        let witness = &entry.signature.witness;
        let is_sighting = old.as_ref().is_none_or(|line| line.seen != entry.seen);
        let mut line = TagLine {
            witness: witness.clone(),
            observations: old.as_ref().map_or(0, |line| line.observations) + 1,
            sightings: old.as_ref().map_or(0, |line| line.sightings),
            root: old.as_ref().map_or_else(crate::merkle::empty_root, |line| line.root),
            index,
            observed: entry.observed,
            seen: entry.seen,
        };
        if is_sighting {
            let sighting = Sighting { index, seen: entry.seen };
            let frontier = self.frontier(&entry.image, witness, old.as_ref())?;
            frontier.append(sighting.leaf_hash(), |_, _, _| {});
            line.root = frontier.root();
            self.add_sighting(entry, line.sightings, sighting);
            line.sightings += 1;
        }
        let state = self.tag_state(&entry.image)?;
        let is_new = state.record.lines().is_empty();
        state.record.set_line(line);
        state.changed = true;
        self.tags += u64::from(is_new);
        Ok(())
    }

    fn add_sighting(&mut self, entry: &Observation, before: u64, sighting: Sighting) {
        let key = (entry.image.clone(), entry.signature.witness.clone());
        let list = self.sightings.entry(key).or_insert_with(|| NewSightings { before, added: Vec::new() });
        list.added.push(sighting);
    }

    fn frontier(
        &mut self,
        image: &Image,
        witness: &WitnessId,
        line: Option<&TagLine>,
    ) -> Result<&mut Frontier, R::Error> {
        let reader = self.reader;
        let state = self.tag_state(image)?;
        if !state.frontiers.contains_key(witness) {
            let stored = line.map(|line| reader.sightings_frontier(image, line)).transpose()?;
            state.frontiers.insert(witness.clone(), stored.unwrap_or_default());
        }
        Ok(state.frontiers.entry(witness.clone()).or_default())
    }

    fn confirmed(&mut self, repository: &Repository, witness: &WitnessId) -> Result<Option<Confirmed>, R::Error> {
        Ok(self.repository_state(repository)?.record.line(witness).and_then(|line| line.confirmed))
    }

    fn tag_state(&mut self, image: &Image) -> Result<&mut TagState, R::Error> {
        if !self.tag_states.contains_key(image) {
            let stored = self.reader.tag_record(image)?;
            let record = stored.unwrap_or_else(|| TagRecord::new(image.clone()));
            let state = TagState { record, frontiers: HashMap::new(), changed: false };
            self.tag_states.insert(image.clone(), state);
        }
        // Inserted just above when it was not there.
        #[allow(clippy::expect_used)]
        Ok(self.tag_states.get_mut(image).expect("the state was inserted above"))
    }

    fn repository_state(&mut self, repository: &Repository) -> Result<&mut RepositoryState, R::Error> {
        if !self.repository_states.contains_key(repository) {
            let stored = self.reader.repository_record(repository)?;
            let record = stored.unwrap_or_else(|| RepositoryRecord::new(repository.clone()));
            self.repository_states.insert(repository.clone(), RepositoryState { record, changed: false });
        }
        // Inserted just above when it was not there.
        #[allow(clippy::expect_used)]
        Ok(self.repository_states.get_mut(repository).expect("the state was inserted above"))
    }
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
    Hash::of(record.to_string().as_bytes())
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
