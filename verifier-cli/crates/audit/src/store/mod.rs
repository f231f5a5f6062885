//! What an auditor knows, in one SQLite file. Everything that a commit writes becomes durable at once or not at all, on a
//! thread of its own ([`write`]); whoever reads waits until it is.

mod search;
pub(super) mod write;

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Entry, Roster, Seal, Seen},
    merkle::Hash,
    name::{Repository, Tag, WitnessId},
    note::VerifierKey,
    time::Timestamp,
};

use super::{
    auditor::AuditorError,
    batch::Counts,
    codec,
    index::{Index, RepositoryState, TagState},
    tree::Tree,
};
use write::{Rows, Writer};

pub use search::{Found, Searched, search};

/// Changes with every change of the tables; another number is refused, not guessed at.
const VERSION: i64 = 1;
/// How long another process's read may hold up a write.
const BUSY: Duration = Duration::from_secs(10);
/// The file in an auditor's directory.
pub(super) const FILE: &str = "audit.db";

const TABLES: &str = "
-- Whose state this is, and where the audit stands.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE roster (idx INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;
CREATE TABLE witness (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE repository (id INTEGER PRIMARY KEY, name TEXT NOT NULL, lines BLOB NOT NULL) STRICT;
CREATE TABLE tag (
    id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL,
    name TEXT NOT NULL,
    first BLOB,
    retagged INTEGER,
    lines BLOB NOT NULL
) STRICT;
-- Every sighting by its log index; an empty digest is `gone`.
CREATE TABLE sighting (
    idx INTEGER PRIMARY KEY,
    tag INTEGER NOT NULL,
    witness INTEGER NOT NULL,
    observed INTEGER NOT NULL,
    seen BLOB NOT NULL
) STRICT;
-- Leaf hashes, 256 to a row; the last row may have fewer, and has no root.
CREATE TABLE tile (idx INTEGER PRIMARY KEY, hashes BLOB NOT NULL, root BLOB) STRICT;
-- Entries whose signatures are valid only with the cofactor.
CREATE TABLE lax (idx INTEGER PRIMARY KEY) STRICT;
-- Every checkpoint that was ever verified.
CREATE TABLE checkpoint (size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (size, root)) STRICT, WITHOUT ROWID;
";

/// One sighting, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredSighting {
    pub index: u64,
    pub tag: u32,
    pub witness: u32,
    pub observed: Timestamp,
    pub seen: Seen,
}

/// What is on disk besides index and tree.
pub(super) struct Loaded {
    pub seal: Option<Seal>,
    pub rosters: Vec<(u64, Roster)>,
    pub counts: Counts,
    pub index: Index,
    pub tree: Tree,
    pub tiles_checked: u64,
}

/// The open file, and the lock that keeps other auditors away.
#[derive(Debug)]
pub(super) struct Store {
    /// Dropped first: the lock must not be given back while something is written.
    writer: Writer,
    /// Makes the tables; reads only from then on.
    connection: Connection,
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens or makes the file in this directory for one auditor of this log.
    pub fn open(directory: &Path, log: &VerifierKey) -> Result<Store, AuditorError> {
        let file_error = |path: &Path, error: &dyn std::fmt::Display| AuditorError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(directory).map_err(|error| file_error(directory, &error))?;
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let connection = connect(&path)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES}"))?;
                connection.execute("INSERT INTO meta VALUES ('log', ?1)", [log.to_string()])?;
                connection.execute_batch(&format!("PRAGMA user_version = {VERSION}; COMMIT;"))?;
            }
            VERSION => {}
            other => return Err(AuditorError::Version { path, version: other }),
        }
        let writer = Writer::start(connect(&path)?).map_err(AuditorError::Thread)?;
        let store = Store { writer, connection, path, _lock: lock };
        match store.meta("log")? {
            Some(of) if of == log.to_string() => Ok(store),
            of => Err(AuditorError::OtherLog { path: store.path, of: of.unwrap_or_default() }),
        }
    }

    /// Hands on what is to be written, and returns once what was handed on before is written.
    ///
    /// # Errors
    /// [`AuditorError`] when that could not be written; the next commit writes both.
    pub fn begin_commit(&self, rows: Rows) -> Result<(), AuditorError> {
        self.writer.begin(rows)
    }

    /// Writes all of it, durably, or nothing.
    ///
    /// # Errors
    /// [`AuditorError`]; nothing is on disk then, and the next commit writes it.
    pub fn commit(&self, rows: Rows) -> Result<(), AuditorError> {
        // If what was handed on before could not be written, this tries it once more.
        let _ = self.writer.begin(rows);
        self.writer.settle()
    }

    /// Waits until all commits that were begun are durable.
    ///
    /// # Errors
    /// [`AuditorError`] when one of them could not be written; the next call tries again.
    pub fn settle(&self) -> Result<(), AuditorError> {
        self.writer.settle()
    }

    /// The file as of all commits that were begun.
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

    /// Reads everything.
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

    /// The leaf hashes of a tile, if it is on disk.
    pub fn tile(&self, tile: u64) -> Result<Option<Vec<Hash>>, AuditorError> {
        let query = "SELECT hashes FROM tile WHERE idx = ?1";
        let bytes: Option<Vec<u8>> = self.settled()?.query_row(query, [signed(tile)], |row| row.get(0)).optional()?;
        bytes.map(|bytes| hashes(&bytes).ok_or_else(|| self.damaged("a tile"))).transpose()
    }

    /// The checkpoints that were verified, the smallest first.
    pub fn checkpoints(&self) -> Result<Vec<SignedCheckpoint>, AuditorError> {
        self.rows("SELECT note FROM checkpoint ORDER BY size, root", |row| {
            Ok(SignedCheckpoint::parse(row.get::<_, String>(0)?.as_bytes()).ok())
        })
    }

    /// The sightings of these tags below a log index, in log order.
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

    /// Tells `each` of every sighting of the retagged tags, tag by tag and in log order. SQLite sorts them in a temporary
    /// file, however many there are.
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

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL, FULL is what makes a commit survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    Ok(connection)
}

/// Indices are below 2⁵³, so this changes none.
fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn index(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).ok())
}

fn sighting(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<StoredSighting>> {
    let (tag, witness) = (row.get(1)?, row.get(2)?);
    let observed = Timestamp::from_unix(row.get(3)?);
    let seen = codec::seen_from(&row.get::<_, Vec<u8>>(4)?);
    let parts = index(row, 0)?.zip(observed).zip(seen);
    Ok(parts.map(|((index, observed), seen)| StoredSighting { index, tag, witness, observed, seen }))
}

fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// One auditor for a directory: the lock is held until the file is closed.
fn lock(directory: &Path) -> Result<File, AuditorError> {
    let path = directory.join("audit.lock");
    let file_error = |error: std::io::Error| AuditorError::File { path: path.clone(), reason: error.to_string() };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditorError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(error)),
    }
}
