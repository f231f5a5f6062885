//! A whole log in memory: entries, tree and tag index. For tests, tools and small auditors.

// A test fails where a fixture unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod fixtures;

use std::collections::HashMap;

use thiserror::Error;

use taglog_proto::{
    audit::{AuditError, AuditState, AuditedBatch, audit_batch},
    checkpoint::Checkpoint,
    index::{ChangedTag, RecordChanges, RecordReader},
    merkle::{Frontier, Hash, NodeReader, leaf_hash},
    name::{Image, Repository, WitnessId},
    prefix_tree::{self, Page, PagePath, PageReader, TreeChanges},
    record::{RepositoryRecord, Sighting, TagLine, TagRecord},
    tag_proof::{LookupSource, PAGE},
};

/// Something that a [`MemoryLog`] does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the log in memory has no {0}")]
pub struct Missing(pub String);

/// A log that has been audited batch by batch.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    entries: Vec<Vec<u8>>,
    nodes: HashMap<(u8, u64), Hash>,
    frontier: Frontier,
    pages: HashMap<PagePath, Page>,
    tag_records: HashMap<Image, TagRecord>,
    repository_records: HashMap<Repository, RepositoryRecord>,
    sightings: HashMap<(Image, WitnessId), Vec<Sighting>>,
    state: AuditState,
}

impl MemoryLog {
    /// Audits and appends the next batch: the front of `entries` up to the first seal.
    ///
    /// # Errors
    /// [`AuditError`]; nothing is changed then.
    pub fn push_batch(&mut self, entries: &[&[u8]]) -> Result<AuditedBatch, AuditError<Missing>> {
        let batch = audit_batch(&self.state, entries, self, true)?;
        let tree = prefix_tree::update(self, &batch.records.leaves()).map_err(AuditError::Reader)?;
        batch.check_root(&tree.root)?;
        let count = (batch.state.size - self.state.size) as usize;
        self.append(&entries[..count]);
        self.apply(&batch.records, tree);
        self.state = batch.state.clone();
        Ok(batch)
    }

    /// Appends entries without an audit, as a dishonest log does; the index stays as it is.
    pub fn append(&mut self, entries: &[&[u8]]) {
        for entry in entries {
            let nodes = &mut self.nodes;
            self.frontier.append(leaf_hash(entry), |level, index, hash| {
                nodes.insert((level, index), hash);
            });
            self.entries.push(entry.to_vec());
        }
    }

    /// Applies index changes without an audit.
    pub fn apply(&mut self, records: &RecordChanges, tree: TreeChanges) {
        self.pages.extend(tree.pages);
        for ChangedTag { record, .. } in &records.tag_records {
            self.tag_records.insert(record.image.clone(), record.clone());
        }
        for record in &records.repository_records {
            self.repository_records.insert(record.repository.clone(), record.clone());
        }
        for (list, new) in &records.sightings {
            self.sightings.entry(list.clone()).or_default().extend(&new.added);
        }
    }

    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The state of the audit after the last batch.
    pub fn state(&self) -> &AuditState {
        &self.state
    }

    /// The checkpoint over all entries.
    pub fn checkpoint(&self, origin: &str) -> Checkpoint {
        Checkpoint { origin: origin.to_owned(), size: self.frontier.size(), root: self.frontier.root() }
    }

    /// A witness's whole list of sightings of a tag.
    pub fn all_sightings(&self, image: &Image, witness: &WitnessId) -> &[Sighting] {
        self.sightings.get(&(image.clone(), witness.clone())).map_or(&[], Vec::as_slice)
    }

    /// All tag records, in no order.
    pub fn tag_records(&self) -> impl Iterator<Item = &TagRecord> {
        self.tag_records.values()
    }

    /// All repository records, in no order.
    pub fn repository_records(&self) -> impl Iterator<Item = &RepositoryRecord> {
        self.repository_records.values()
    }
}

impl NodeReader for MemoryLog {
    type Error = Missing;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        self.nodes.get(&(level, index)).copied().ok_or_else(|| Missing(format!("node {level}/{index}")))
    }
}

impl PageReader for MemoryLog {
    type Error = Missing;

    fn page(&self, path: &PagePath) -> Result<Page, Missing> {
        match self.pages.get(path) {
            Some(page) => Ok(page.clone()),
            None if *path == PagePath::ROOT => Ok(Page::default()),
            None => Err(Missing(format!("index page {path:?}"))),
        }
    }
}

impl RecordReader for MemoryLog {
    type Error = Missing;
    type Place = ();

    fn place(&self, _: &Image) -> Result<(), Missing> {
        Ok(())
    }

    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, Missing> {
        Ok(self.tag_records.get(image).cloned())
    }

    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Missing> {
        Ok(self.repository_records.get(repository).cloned())
    }

    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, Missing> {
        let mut frontier = Frontier::default();
        for sighting in self.all_sightings(image, &line.witness) {
            frontier.append(sighting.leaf_hash(), |_, _, _| {});
        }
        Ok(frontier)
    }
}

impl LookupSource for MemoryLog {
    fn entry(&self, index: u64) -> Result<Vec<u8>, Missing> {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        entry.cloned().ok_or_else(|| Missing(format!("entry {index}")))
    }

    fn sightings(&self, image: &Image, line: &TagLine, start: u64) -> Result<Vec<Sighting>, Missing> {
        let all = self.all_sightings(image, &line.witness);
        Ok(all.iter().skip(start as usize).take(PAGE as usize).copied().collect())
    }
}
