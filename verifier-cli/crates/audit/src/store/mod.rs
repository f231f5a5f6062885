//! The state of an auditor in one SQLite file. A separate thread ([`write`]) writes each commit in one transaction; reads wait
//! until it is durable.

mod file;
mod search;
mod values;
mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use taglog_base::directory_lock::DirectoryLock;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Entry, Roster, Seal},
    merkle::Hash,
    name::{Repository, Tag, WitnessId},
    note::VerifierKey,
};

use super::{
    batch::Counts,
    codec,
    error::AuditorError,
    index::Index,
    record_state::{RepositoryState, TagState},
    rows::{Rows, StoredSighting},
    tree::Tree,
};
use file::LOCK;
use values::{hashes, index, sighting, signed};
use write::Writer;

pub(super) use file::FILE;
pub use search::{DigestSearchResult, SearchMatch, search};

/// The stored state of an auditor.
pub(super) struct Loaded {
    pub seal: Option<Seal>,
    pub rosters: Vec<(u64, Roster)>,
    pub counts: Counts,
    pub index: Index,
    pub tree: Tree,
    pub tiles_checked: u64,
}

/// The open database, locked against other auditors.
#[derive(Debug)]
pub(super) struct Store {
    /// Dropped first, so that the lock is held until the last write has ended.
    writer: Writer,
    /// Creates the tables; afterwards only used for reading.
    connection: Connection,
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Store {
    /// Opens or creates the database in this directory.
    pub fn open(directory: &Path, log: &VerifierKey) -> Result<Store, AuditorError> {
        let lock = LOCK.acquire(directory)?;
        let path = directory.join(FILE);
        let connection = file::open(&path, log)?;
        let writer = Writer::start(file::connect(&path)?).map_err(AuditorError::Thread)?;
        let store = Store { writer, connection, path, _lock: lock };
        match store.meta("log")? {
            Some(of) if of == log.to_string() => Ok(store),
            of => Err(AuditorError::OtherLog { path: store.path, of: of.unwrap_or_default() }),
        }
    }

    /// Starts to write rows, and returns once the rows of the previous call are durable.
    ///
    /// # Errors
    /// The previous write failed; the next one writes the rows of both.
    pub fn begin_commit(&self, rows: Rows) -> Result<(), AuditorError> {
        self.writer.begin(rows)
    }

    /// Writes rows and waits until they are durable.
    ///
    /// # Errors
    /// Nothing was written; the next commit writes these rows as well.
    pub fn commit(&self, rows: Rows) -> Result<(), AuditorError> {
        // An error is that of the previous write, which `settle` retries.
        let _ = self.writer.begin(rows);
        self.writer.settle()
    }

    /// Waits until all commits that were begun are durable.
    ///
    /// # Errors
    /// A write failed; the next call retries it.
    pub fn settle(&self) -> Result<(), AuditorError> {
        self.writer.settle()
    }

    /// The connection for reading, after waiting for all commits that were begun.
    fn settled(&self) -> Result<&Connection, AuditorError> {
        self.settle()?;
        Ok(&self.connection)
    }

    fn damaged(&self, what: &str) -> AuditorError {
        AuditorError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }

    fn meta(&self, key: &str) -> Result<Option<String>, AuditorError> {
        let query = "SELECT value FROM meta WHERE key = ?1";
        Ok(self.settled()?.query_row(query, [key], |row| row.get(0)).optional()?)
    }

    fn number(&self, key: &str) -> Result<u64, AuditorError> {
        let value = self.meta(key)?.unwrap_or_else(|| "0".to_owned());
        value.parse().map_err(|_| self.damaged(key))
    }

    fn rows<T>(
        &self,
        query: &str,
        read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, AuditorError> {
        let mut statement = self.settled()?.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(row)?.ok_or_else(|| self.damaged(query))?);
        }
        Ok(all)
    }

    /// Reads the complete state.
    pub fn load(&self) -> Result<Loaded, AuditorError> {
        let seal = match self.meta("seal")? {
            Some(text) => match Entry::parse(text.as_bytes()) {
                Ok(Entry::Seal(seal)) => Some(seal),
                _ => return Err(self.damaged("the last seal")),
            },
            None => None,
        };
        let rosters = self.rows("SELECT idx, entry FROM roster ORDER BY idx", |row| {
            let text: String = row.get(1)?;
            let roster = match Entry::parse(text.as_bytes()) {
                Ok(Entry::Roster(roster)) => Some(roster),
                _ => None,
            };
            Ok(roster.zip(index(row, 0)?).map(|(roster, index)| (index, roster)))
        })?;
        let counts = Counts {
            observations: self.number("observations")?,
            confirmations: self.number("confirmations")?,
            seals: self.number("seals")?,
            rosters: rosters.len() as u64,
            lax_signatures: self.number("lax")?,
        };
        let (index, tree, tiles_checked) = (self.load_index()?, self.load_tree()?, self.number("tiles")?);
        Ok(Loaded { seal, rosters, counts, index, tree, tiles_checked })
    }

    fn load_index(&self) -> Result<Index, AuditorError> {
        let witnesses = self
            .rows("SELECT name FROM witness ORDER BY id", |row| Ok(WitnessId::parse(&row.get::<_, String>(0)?).ok()))?;
        let repositories = self.rows("SELECT name, lines FROM repository ORDER BY id", |row| {
            let (name, lines): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let name = Repository::parse(&name).ok();
            let lines = codec::repository_lines_from(&lines);
            Ok(name.zip(lines).map(|(name, lines)| RepositoryState { name, lines, dirty: false }))
        })?;
        let tags = self.rows("SELECT repository, name, first, retagged, lines FROM tag ORDER BY id", |row| {
            let (name, lines): (String, Vec<u8>) = (row.get(1)?, row.get(4)?);
            let first: Option<[u8; 32]> = row.get(2)?;
            let retagged: Option<i64> = row.get(3)?;
            let tag = Tag::parse(&name).ok();
            let lines = codec::tag_lines_from(&lines);
            let repository = row.get(0)?;
            Ok(tag.zip(lines).map(|(tag, lines)| TagState {
                repository,
                tag,
                first: first.map(Hash),
                retagged: retagged.and_then(|index| u64::try_from(index).ok()),
                lines,
                dirty: false,
            }))
        })?;
        Index::from_parts(witnesses, repositories, tags).ok_or_else(|| self.damaged("the tag index"))
    }

    fn load_tree(&self) -> Result<Tree, AuditorError> {
        let query = "SELECT root FROM tile WHERE root IS NOT NULL ORDER BY idx";
        let roots = self.rows(query, |row| Ok(Some(Hash(row.get(0)?))))?;
        let query = "SELECT hashes FROM tile WHERE root IS NULL";
        let open = self.rows(query, |row| Ok(hashes(&row.get::<_, Vec<u8>>(0)?)))?;
        let open = open.into_iter().next().unwrap_or_default();
        Tree::from_parts(roots, open).ok_or_else(|| self.damaged("the tree"))
    }

    /// The leaf hashes of a stored tile.
    pub fn tile(&self, tile: u64) -> Result<Option<Vec<Hash>>, AuditorError> {
        let query = "SELECT hashes FROM tile WHERE idx = ?1";
        let bytes: Option<Vec<u8>> = self.settled()?.query_row(query, [signed(tile)], |row| row.get(0)).optional()?;
        bytes.map(|bytes| hashes(&bytes).ok_or_else(|| self.damaged("a tile"))).transpose()
    }

    /// All stored checkpoints, the smallest first.
    pub fn checkpoints(&self) -> Result<Vec<SignedCheckpoint>, AuditorError> {
        self.rows("SELECT note FROM checkpoint ORDER BY size, root", |row| {
            Ok(SignedCheckpoint::parse(row.get::<_, String>(0)?.as_bytes()).ok())
        })
    }

    /// The sightings below a log index, in log order, of the tags whose number satisfies `wanted`.
    pub fn sightings(&self, wanted: &dyn Fn(u32) -> bool, below: u64) -> Result<Vec<StoredSighting>, AuditorError> {
        let mut statement = self
            .settled()?
            .prepare("SELECT idx, tag, witness, observed, seen FROM sighting WHERE idx < ?1 ORDER BY idx")?;
        let mut rows = statement.query([signed(below)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if wanted(row.get(1)?) {
                found.push(sighting(row)?.ok_or_else(|| self.damaged("a sighting"))?);
            }
        }
        Ok(found)
    }

    /// Calls `each` with every sighting of the retagged tags, grouped by tag and in log order. SQLite sorts them in a temporary
    /// file, so their number is not limited by memory.
    pub fn each_retagged_sighting(&self, mut each: impl FnMut(StoredSighting)) -> Result<(), AuditorError> {
        let mut statement = self.settled()?.prepare(
            "SELECT idx, tag, witness, observed, seen FROM sighting
            WHERE tag IN (SELECT id FROM tag WHERE retagged IS NOT NULL) ORDER BY tag, idx",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(sighting(row)?.ok_or_else(|| self.damaged("a sighting"))?);
        }
        Ok(())
    }

    /// The sighting at this log index.
    pub fn sighting(&self, index: u64) -> Result<Option<StoredSighting>, AuditorError> {
        let query = "SELECT idx, tag, witness, observed, seen FROM sighting WHERE idx = ?1";
        let found = self.settled()?.query_row(query, [signed(index)], sighting).optional()?;
        found.map(|found| found.ok_or_else(|| self.damaged("a sighting"))).transpose()
    }
}
