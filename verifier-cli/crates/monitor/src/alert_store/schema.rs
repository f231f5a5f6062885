//! The database file of the alert store: its tables, and how it is opened.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use taglog_state::{IntegrityCheck, StateFile};

use super::error::AlertStoreError;

const STATE: StateFile = StateFile {
    version: 1,
    tables: TABLES,
    integrity: IntegrityCheck::Quick,
    // As long as a batch of the longest log may take.
    busy: Duration::from_secs(120),
};

/// How many bytes of the write-ahead log are kept between commits.
const WAL_LIMIT: i64 = 16 << 20;

const TABLES: &str = "
-- The log that is monitored, and the processed size.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Alerts in the order in which they were raised. Numbers are never used again.
CREATE TABLE alert (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    json TEXT NOT NULL
) STRICT;

-- Which sink gets which alert, and whether it has.
CREATE TABLE delivery (
    sink TEXT NOT NULL,
    sequence INTEGER NOT NULL REFERENCES alert (sequence) ON DELETE CASCADE,
    done INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_pending ON delivery (sink, attempts, sequence) WHERE done = 0;
CREATE INDEX delivery_by_alert ON delivery (sequence);

-- What each witness last said of a watched tag: `seen`; its last digest, and the entry with which it came to that.
CREATE TABLE word (
    image TEXT NOT NULL,
    witness TEXT NOT NULL,
    seen TEXT NOT NULL,
    digest TEXT,
    arrived INTEGER NOT NULL,
    PRIMARY KEY (image, witness)
) STRICT, WITHOUT ROWID;

-- The last entry with which any witness came to a digest of a watched tag.
CREATE TABLE arrival (
    image TEXT NOT NULL,
    digest TEXT NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (image, digest)
) STRICT, WITHOUT ROWID;

-- Tags that witnesses disagree about: since when (Unix seconds, by seals) and with which entry that began.
CREATE TABLE dispute (
    image TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    raised INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The witnesses in the roster in force, and when (by seals) and with which entry each was last heard of.
CREATE TABLE witness (
    id TEXT PRIMARY KEY,
    heard INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    silent INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- What is wrong with the log as a whole, and since when.
CREATE TABLE condition (
    kind TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    raised INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
";

/// Opens the file, making it if it is not there.
pub(super) fn open(path: &Path) -> Result<Connection, AlertStoreError> {
    with_settings(STATE.open(path)?)
}

/// A further connection to a file that [`open`] has opened.
pub(super) fn connect(path: &Path) -> Result<Connection, AlertStoreError> {
    with_settings(STATE.connect(path)?)
}

fn with_settings(connection: Connection) -> Result<Connection, AlertStoreError> {
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
