//! What an auditor knows, in one SQLite file. Everything that a commit writes becomes durable at once or not at all.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, params};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Entry, Roster, Seal, Seen},
    merkle::Hash,
    name::{Image, Repository, Tag, WitnessId},
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
    connection: Connection,
    path: PathBuf,
    _lock: File,
}

/// All that a commit writes.
pub(super) struct Commit<'a> {
    pub seal: Option<&'a Seal>,
    pub rosters: &'a [(u64, Roster)],
    pub counts: &'a Counts,
    pub tiles_checked: u64,
    pub index: &'a Index,
    /// How many witnesses are on disk already.
    pub stored_witnesses: usize,
    pub tree: &'a Tree,
    pub sightings: &'a [StoredSighting],
    pub lax: &'a [u64],
    pub checkpoints: &'a [SignedCheckpoint],
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
        let connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // With WAL, FULL is what makes a commit survive a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -65_536)?;
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
        let store = Store { connection, path, _lock: lock };
        match store.meta("log")? {
            Some(of) if of == log.to_string() => Ok(store),
            of => Err(AuditorError::OtherLog { path: store.path, of: of.unwrap_or_default() }),
        }
    }

    fn damaged(&self, what: &str) -> AuditorError {
        AuditorError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }

    fn meta(&self, key: &str) -> Result<Option<String>, AuditorError> {
        let query = "SELECT value FROM meta WHERE key = ?1";
        Ok(self.connection.query_row(query, [key], |row| row.get(0)).optional()?)
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
        let mut statement = self.connection.prepare(query)?;
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
        let bytes: Option<Vec<u8>> = self.connection.query_row(query, [signed(tile)], |row| row.get(0)).optional()?;
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
            .connection
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
        let mut statement = self.connection.prepare(
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
        let found = self.connection.query_row(query, [signed(index)], sighting).optional()?;
        found.map(|found| found.ok_or_else(|| self.damaged("a sighting"))).transpose()
    }

    /// Writes all of it, durably, or nothing.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<(), AuditorError> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        write(&transaction, commit)?;
        Ok(transaction.commit()?)
    }
}

fn write(transaction: &Transaction<'_>, commit: &Commit<'_>) -> Result<(), AuditorError> {
    write_meta(transaction, commit)?;
    write_index(transaction, commit)?;
    write_tree(transaction, commit.tree)?;
    let mut put = transaction.prepare_cached("INSERT INTO sighting VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for StoredSighting { index, tag, witness, observed, seen } in commit.sightings {
        put.execute(params![signed(*index), tag, witness, observed.unix(), codec::seen_bytes(seen)])?;
    }
    let mut put = transaction.prepare_cached("INSERT INTO lax VALUES (?1)")?;
    for index in commit.lax {
        put.execute([signed(*index)])?;
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2, ?3)")?;
    for checkpoint in commit.checkpoints {
        let says = checkpoint.unverified();
        put.execute(params![signed(says.size), says.root.0, checkpoint.to_string()])?;
    }
    Ok(())
}

fn write_meta(transaction: &Transaction<'_>, commit: &Commit<'_>) -> Result<(), AuditorError> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    if let Some(seal) = commit.seal {
        put.execute(["seal", &seal.to_string()])?;
    }
    let Counts { observations, confirmations, seals, lax_signatures, rosters: _ } = commit.counts;
    let numbers = [
        ("observations", observations),
        ("confirmations", confirmations),
        ("seals", seals),
        ("lax", lax_signatures),
        ("tiles", &commit.tiles_checked),
    ];
    for (key, value) in numbers {
        put.execute([key, &value.to_string()])?;
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO roster VALUES (?1, ?2)")?;
    for (index, roster) in commit.rosters {
        put.execute(params![signed(*index), roster.to_string()])?;
    }
    Ok(())
}

fn write_index(transaction: &Transaction<'_>, commit: &Commit<'_>) -> Result<(), AuditorError> {
    let index = commit.index;
    let mut put = transaction.prepare_cached("INSERT INTO witness VALUES (?1, ?2)")?;
    for (id, witness) in index.witnesses.iter().enumerate().skip(commit.stored_witnesses) {
        put.execute(params![signed(id as u64), witness.to_string()])?;
    }
    // In the order of the table, which is then written from one end to the other.
    let mut changed = index.dirty_repositories.clone();
    changed.sort_unstable();
    let mut put = transaction.prepare_cached(
        "INSERT INTO repository VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET lines = excluded.lines",
    )?;
    for id in changed {
        let state = &index.repositories[id as usize];
        put.execute(params![id, state.name.as_str(), codec::repository_lines(&state.lines)])?;
    }
    let mut changed = index.dirty_tags.clone();
    changed.sort_unstable();
    let mut put = transaction.prepare_cached(
        "INSERT INTO tag VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET
        first = excluded.first, retagged = excluded.retagged, lines = excluded.lines",
    )?;
    for id in changed {
        let TagState { repository, tag, first, retagged, lines, dirty: _ } = &index.tags[id as usize];
        let (first, retagged) = (first.map(|hash| hash.0), retagged.map(signed));
        put.execute(params![id, repository, tag.as_str(), first, retagged, codec::tag_lines(lines)])?;
    }
    Ok(())
}

fn write_tree(transaction: &Transaction<'_>, tree: &Tree) -> Result<(), AuditorError> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO tile VALUES (?1, ?2, ?3)")?;
    for (tile, hashes) in &tree.pending {
        put.execute(params![signed(*tile), bytes(hashes), tree.tile_root(*tile).map(|root| root.0)])?;
    }
    if !tree.open().is_empty() {
        let tile = tree.size() / taglog_proto::tile::FULL_WIDTH;
        put.execute(params![signed(tile), bytes(tree.open()), None::<[u8; 32]>])?;
    }
    Ok(())
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

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
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

/// A sighting of a digest that was searched for.
#[derive(Clone, Debug)]
pub struct Found {
    /// The tag that had it.
    pub image: Image,
    /// Who saw it.
    pub witness: WitnessId,
    /// The log index of the sighting.
    pub index: u64,
    /// When the witness looked.
    pub observed: Timestamp,
    /// Whether it is what this witness saw last.
    pub current: bool,
}

/// What a search for a digest found.
#[derive(Clone, Debug)]
pub struct Searched {
    /// The last seal of what was audited, if anything was.
    pub seal: Option<Seal>,
    /// Every sighting of the digest, in log order.
    pub found: Vec<Found>,
}

/// Every sighting of a digest in the state of an auditor, which may be at work meanwhile.
///
/// # Errors
/// [`AuditorError`].
pub fn search(directory: &Path, log: &VerifierKey, seen: &Seen) -> Result<Searched, AuditorError> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Err(AuditorError::NotAudited(directory.to_owned()));
    }
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY)?;
    // One transaction sees one commit.
    connection.execute_batch("BEGIN")?;
    let meta = |key: &str| {
        let value = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, String>(0));
        value.optional()
    };
    if meta("log")?.as_deref() != Some(&log.to_string()) {
        return Err(AuditorError::OtherLog { path, of: meta("log")?.unwrap_or_default() });
    }
    let seal = meta("seal")?.and_then(|text| Entry::parse(text.as_bytes()).ok());
    let seal = if let Some(Entry::Seal(seal)) = seal { Some(seal) } else { None };
    let mut statement = connection.prepare(
        "SELECT s.idx, s.observed, s.witness, w.name, r.name, t.name, t.lines FROM sighting s
        JOIN tag t ON t.id = s.tag JOIN repository r ON r.id = t.repository JOIN witness w ON w.id = s.witness
        WHERE s.seen = ?1 ORDER BY s.idx",
    )?;
    let mut rows = statement.query([codec::seen_bytes(seen)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let damaged = || AuditorError::Damaged { path: path.clone(), what: "a sighting".to_owned() };
        found.push(found_row(row, seen)?.ok_or_else(damaged)?);
    }
    Ok(Searched { seal, found })
}

fn found_row(row: &rusqlite::Row<'_>, seen: &Seen) -> rusqlite::Result<Option<Found>> {
    let (observed, witness): (i64, u32) = (row.get(1)?, row.get(2)?);
    let (name, repository, tag): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let (index, lines) = (index(row, 0)?, codec::tag_lines_from(&row.get::<_, Vec<u8>>(6)?));
    let found = || {
        Some(Found {
            image: Image::parse(&format!("{repository}:{tag}")).ok()?,
            witness: WitnessId::parse(&name).ok()?,
            index: index?,
            observed: Timestamp::from_unix(observed)?,
            current: lines?.iter().any(|line| line.witness == witness && line.seen == *seen),
        })
    };
    Ok(found())
}
