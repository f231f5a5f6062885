//! Writes the changes of one commit.

use std::collections::HashSet;

use rocksdb::{DB, WriteBatch};
use taglog_proto::{
    entry::Seen,
    index::{ChangedTag, NewSightings},
    name::{Image, WitnessId},
    record::Sighting,
    tag_proof::PAGE,
};

use super::{family, view::read_sightings_page};
use crate::store::{
    Commit, StatementKey, StoreError,
    codec::{SightingsPage, digest_image_key, node_key, sightings_key},
};

/// Collects the writes of one commit.
pub struct Writer {
    db: &'static DB,
    batch: WriteBatch,
    /// The images that this commit lists under a digest, by their keys.
    listed: HashSet<Vec<u8>>,
}

impl Writer {
    pub fn new(db: &'static DB) -> Writer {
        Writer { db, batch: WriteBatch::default(), listed: HashSet::new() }
    }

    pub fn finish(self) -> WriteBatch {
        self.batch
    }

    pub fn put(&mut self, name: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.batch.put_cf(family::handle(self.db, name)?, key, value);
        Ok(())
    }

    /// Adds entries, tree nodes, statement keys and admitted witnesses.
    pub fn put_log(&mut self, commit: &Commit<'_>) -> Result<(), StoreError> {
        for (index, entry) in (commit.first..).zip(commit.entries) {
            self.put(family::ENTRIES, index.to_be_bytes(), entry)?;
        }
        for (level, index, hash) in commit.nodes {
            self.put(family::NODES, node_key(*level, *index), hash.0)?;
        }
        for (StatementKey(key), index) in commit.statements {
            self.put(family::STATEMENTS, key, index.to_be_bytes())?;
        }
        for (witness, key) in commit.admitted {
            self.put(family::KEYS, witness.to_string(), key)?;
        }
        Ok(())
    }

    /// Adds the changes of the tag index.
    pub fn put_index(&mut self, commit: &Commit<'_>) -> Result<(), StoreError> {
        for (path, page) in &commit.index.tree.pages {
            self.put(family::PAGES, path.to_bytes(), page.to_bytes())?;
        }
        let records = &commit.index.records;
        for ChangedTag { record, .. } in &records.tag_records {
            self.put(family::TAGS, record.image.to_string(), record.to_string())?;
        }
        for record in &records.repository_records {
            self.put(family::REPOSITORIES, record.repository.to_string(), record.to_string())?;
        }
        for ((image, witness), new) in &records.sightings {
            self.put_sightings(image, witness, new)?;
        }
        for (index, image) in commit.retags {
            self.put(family::RETAGS, index.to_be_bytes(), image.to_string())?;
        }
        Ok(())
    }

    /// Appends to a list of sightings: rewrites its last page, and adds pages as needed.
    fn put_sightings(&mut self, image: &Image, witness: &WitnessId, new: &NewSightings) -> Result<(), StoreError> {
        let mut number = new.before / PAGE;
        let mut page = match new.before {
            0 => SightingsPage::default(),
            // A full last page is read too: the next page starts with its right edge.
            before => {
                let last = (before - 1) / PAGE;
                let read = read_sightings_page(self.db, None, image, witness, last)?;
                if last == number { read } else { next_page(&read, last, image)? }
            }
        };
        for sighting in &new.added {
            if page.sightings.len() as u64 == PAGE {
                self.put(family::SIGHTINGS, sightings_key(image, witness, number), page.to_bytes())?;
                page = next_page(&page, number, image)?;
                number += 1;
            }
            page.sightings.push(*sighting);
            self.put_digest(image, sighting)?;
        }
        self.put(family::SIGHTINGS, sightings_key(image, witness, number), page.to_bytes())
    }

    /// Lists the image under the digest with the log index of the first sighting.
    fn put_digest(&mut self, image: &Image, sighting: &Sighting) -> Result<(), StoreError> {
        let Seen::Digest(digest) = sighting.seen else { return Ok(()) };
        let key = digest_image_key(&digest, image);
        let stored = self.db.get_pinned_cf(family::handle(self.db, family::DIGESTS)?, &key)?.is_some();
        if !stored && self.listed.insert(key.clone()) {
            self.put(family::DIGESTS, key, sighting.index.to_be_bytes())?;
        }
        Ok(())
    }
}

fn next_page(full: &SightingsPage, number: u64, image: &Image) -> Result<SightingsPage, StoreError> {
    let edge = full.frontier(number).ok_or_else(|| StoreError::Corrupt(format!("sightings of {image}")))?;
    Ok(SightingsPage { before: edge.nodes().to_vec(), sightings: Vec::new() })
}
