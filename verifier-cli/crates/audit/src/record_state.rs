//! Compact records in memory: numbers in place of names, and digests without unused bytes.

use taglog_proto::{
    entry::Seen,
    merkle::Hash,
    name::{Digest, Repository, Tag},
    record::Confirmed,
    time::Timestamp,
};

/// The line of one witness in the record of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineState {
    pub witness: u32,
    pub observations: u64,
    pub sightings: u64,
    pub index: u64,
    pub observed: Timestamp,
    pub seen: StoredSeen,
    /// The right edge of the tree over the witness's sightings.
    pub edge: Box<[Hash]>,
    /// The root of that tree, kept because every read of the record needs it.
    pub root: Hash,
}

/// A [`Seen`] that takes less memory for SHA-256, the usual digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredSeen {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
    Gone,
}

impl From<Seen> for StoredSeen {
    fn from(seen: Seen) -> StoredSeen {
        match seen {
            Seen::Digest(Digest::Sha256(digest)) => StoredSeen::Sha256(digest),
            Seen::Digest(Digest::Sha512(digest)) => StoredSeen::Sha512(Box::new(digest)),
            Seen::Gone => StoredSeen::Gone,
        }
    }
}

impl StoredSeen {
    pub fn get(&self) -> Seen {
        match self {
            StoredSeen::Sha256(digest) => Seen::Digest(Digest::Sha256(*digest)),
            StoredSeen::Sha512(digest) => Seen::Digest(Digest::Sha512(**digest)),
            StoredSeen::Gone => Seen::Gone,
        }
    }
}

/// The record of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagState {
    pub repository: u32,
    pub tag: Tag,
    /// The first digest that any witness sighted, as 32 bytes: a SHA-512 digest is hashed.
    pub first: Option<Hash>,
    /// The log index of the first sighting of a different digest.
    pub retagged: Option<u64>,
    pub lines: Vec<LineState>,
    /// Whether the next commit writes it.
    pub dirty: bool,
}

impl TagState {
    pub fn line(&self, witness: u32) -> Option<&LineState> {
        self.lines.iter().find(|line| line.witness == witness)
    }

    pub fn line_mut(&mut self, witness: u32) -> Option<&mut LineState> {
        self.lines.iter_mut().find(|line| line.witness == witness)
    }
}

/// The line of one witness in the record of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryLineState {
    pub witness: u32,
    pub tags: u64,
    pub confirmed: Option<Confirmed>,
}

/// The record of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryState {
    pub name: Repository,
    pub lines: Vec<RepositoryLineState>,
    pub dirty: bool,
}
