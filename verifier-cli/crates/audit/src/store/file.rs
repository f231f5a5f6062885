//! The auditor's database file: its tables and how it is opened.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use taglog_base::directory_lock::LockFile;
use taglog_proto::note::VerifierKey;
use taglog_state::{IntegrityCheck, OpenError, StateFile};

/// The name of the database in an auditor's directory.
pub(crate) const FILE: &str = "audit.db";

pub(super) const LOCK: LockFile =
    LockFile { name: "audit.lock", program: "auditor", remedy: "wait for it, or give another --state" };

const STATE: StateFile = StateFile {
    version: 1,
    tables: TABLES,
    // The auditor compares the loaded tree size and tag index with the last seal.
    integrity: IntegrityCheck::ByContent,
    // How long a write waits for a search in another process.
    busy: Duration::from_secs(10),
};

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

/// Opens the file, or creates it for this log.
pub(super) fn open(path: &Path, log: &VerifierKey) -> Result<Connection, OpenError> {
    let claim = |connection: &Connection| {
        connection.execute("INSERT INTO meta VALUES ('log', ?1)", [log.to_string()]).map(drop)
    };
    with_large_cache(path, STATE.open_or_create(path, claim)?)
}

/// Opens another connection to a file that [`open`] has opened.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    with_large_cache(path, STATE.connect(path)?)
}

/// Opens the file for reading; an auditor may write to it at the same time.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, OpenError> {
    STATE.open_read_only(path)
}

/// Sets the page cache to 64 MiB.
fn with_large_cache(path: &Path, connection: Connection) -> Result<Connection, OpenError> {
    let set = connection.pragma_update(None, "cache_size", -65_536);
    set.map(|()| connection).map_err(|error| OpenError::Sqlite { path: path.to_owned(), reason: error.to_string() })
}
