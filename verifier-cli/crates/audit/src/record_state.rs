//! Records as they are held in memory: names by their numbers, digests as short as they are.

use taglog_proto::{
    entry::Seen,
    merkle::Hash,
    name::{Digest, Repository, Tag},
    record::Confirmed,
    time::Timestamp,
};

/// What one witness has reported of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineState {
    pub witness: u32,
    pub observations: u64,
    pub sightings: u64,
    pub index: u64,
    pub observed: Timestamp,
    pub seen: StoredSeen,
    /// The right edge of its list of sightings.
    pub edge: Box<[Hash]>,
    /// The root over it, which every look at the record wants.
    pub root: Hash,
}

/// A [`Seen`] in less memory, as digests are.
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

/// What witnesses have reported of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagState {
    pub repository: u32,
    pub tag: Tag,
    /// A hash of the first digest that any witness has sighted.
    pub first: Option<Hash>,
    /// The log index of the sighting that was the first of a second digest.
    pub retagged: Option<u64>,
    pub lines: Vec<LineState>,
    /// Whether it is on the list of what the next commit writes.
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

/// What one witness has reported of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryLineState {
    pub witness: u32,
    pub tags: u64,
    pub confirmed: Option<Confirmed>,
}

/// Who has reported tags of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryState {
    pub name: Repository,
    pub lines: Vec<RepositoryLineState>,
    pub dirty: bool,
}
