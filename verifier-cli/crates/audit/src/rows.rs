//! The rows of the auditor's database.

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Roster, Seal, Seen},
    merkle::Hash,
    name::{Repository, Tag, WitnessId},
    time::Timestamp,
};

use super::batch::Counts;

/// Everything that one commit writes.
#[derive(Debug)]
pub(crate) struct Rows {
    pub seal: Option<Seal>,
    pub counts: Counts,
    pub tiles_checked: u64,
    pub rosters: Vec<(u64, Roster)>,
    pub index: IndexRows,
    pub tiles: Vec<TileRow>,
    pub sightings: Vec<StoredSighting>,
    pub lax: Vec<u64>,
    pub checkpoints: Vec<SignedCheckpoint>,
}

/// The records of the tag index that were added or changed since the last commit.
#[derive(Debug)]
pub(crate) struct IndexRows {
    /// New witnesses, by number.
    pub witnesses: Vec<(u32, WitnessId)>,
    pub repositories: Vec<RepositoryRow>,
    pub tags: Vec<TagRow>,
}

#[derive(Debug)]
pub(crate) struct RepositoryRow {
    pub id: u32,
    pub name: Repository,
    pub lines: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct TagRow {
    pub id: u32,
    pub repository: u32,
    pub name: Tag,
    pub first: Option<Hash>,
    pub retagged: Option<u64>,
    pub lines: Vec<u8>,
}

/// The leaf hashes of one tile, and its root if it is full.
#[derive(Debug)]
pub(crate) struct TileRow {
    pub index: u64,
    pub hashes: Vec<Hash>,
    pub root: Option<Hash>,
}

/// A sighting with the numbers of its tag and its witness in place of their names.
#[derive(Clone, Debug)]
pub(crate) struct StoredSighting {
    pub index: u64,
    pub tag: u32,
    pub witness: u32,
    pub observed: Timestamp,
    pub seen: Seen,
}
