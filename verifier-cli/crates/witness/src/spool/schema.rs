//! The spool's file: its tables, how it is opened, and a bound on its size.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use taglog_state::{IntegrityCheck, StateFile};

use super::error::SpoolError;

const STATE: StateFile = StateFile {
    version: 1,
    tables: TABLES,
    integrity: IntegrityCheck::Quick,
    // How long another process's read may hold up a write.
    busy: Duration::from_secs(10),
};

/// How many bytes of the write-ahead log are kept between commits.
const WAL_LIMIT: i64 = 16 << 20;

/// How many statements are kept prepared: more than there are.
const STATEMENTS: usize = 64;

/// Pages beyond the limit for what must find room all the same.
const RESERVED_PAGES: u32 = 16;

const TABLES: &str = "
-- Whose spool this is.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    vkey TEXT NOT NULL UNIQUE,
    -- Entries whose receipts verified.
    delivered INTEGER NOT NULL DEFAULT 0,
    -- Size of the last verified checkpoint, and when it was verified (Unix seconds).
    size INTEGER,
    verified INTEGER,
    -- The last error of the delivery, gone with the next success.
    error TEXT
) STRICT;

CREATE TABLE repository (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, confirmed INTEGER, error TEXT) STRICT;

-- What is remembered of a tag from look to look; times are Unix seconds.
CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository (id),
    name TEXT NOT NULL,
    seen TEXT,
    observed INTEGER,
    looked INTEGER,
    missing INTEGER NOT NULL DEFAULT 0,
    missing_at INTEGER,
    again INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;

-- Signed entries that at least one log has still to take; `seq` is the order in which they were signed.
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    tag TEXT,
    digest TEXT,
    note TEXT NOT NULL
) STRICT;

-- Which log has still to take which entry; `acknowledged` is the index it gave.
CREATE TABLE pending (
    log INTEGER NOT NULL REFERENCES log (id),
    seq INTEGER NOT NULL REFERENCES entry (seq),
    acknowledged INTEGER,
    acknowledged_at INTEGER,
    -- Why the log will never take it; kept for the operator.
    refused TEXT,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_by_entry ON pending (seq);
CREATE INDEX pending_refused ON pending (log) WHERE refused IS NOT NULL;

-- Raw manifests of reported digests, until each log has them.
CREATE TABLE manifest (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE upload (
    log INTEGER NOT NULL REFERENCES log (id),
    digest TEXT NOT NULL REFERENCES manifest (digest),
    -- Whether the log has the digest, without which it takes no manifest.
    ready INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (log, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_by_digest ON upload (digest);
CREATE INDEX upload_ready ON upload (log) WHERE ready = 1;

CREATE TABLE alarm (
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    evidence TEXT,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    notified INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (subject, kind)
) STRICT, WITHOUT ROWID;
";

/// Opens the file for writing, making it if it is not there; at most `limit` bytes of it are used.
pub(super) fn open(path: &Path, limit: u64) -> Result<Connection, SpoolError> {
    let connection = STATE.open(path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // What a burst has made of the write-ahead log is given back.
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    let page_size: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    // SQLite knows no more pages than these; its smallest useful file is about a dozen.
    let pages = u32::try_from(limit / u64::from(page_size)).unwrap_or(u32::MAX - 1).max(64);
    connection.pragma_update(None, "max_page_count", pages)?;
    Ok(connection)
}

/// Does something that must find room in a spool that has reached its limit.
pub(super) fn with_more_pages<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, SpoolError>,
) -> Result<T, SpoolError> {
    let limit: u32 = connection.pragma_query_value(None, "max_page_count", |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", limit.saturating_add(RESERVED_PAGES))?;
    let done = work();
    // A limit below the pages that are used is one that lets no page be added.
    connection.pragma_update(None, "max_page_count", limit)?;
    done
}

/// Whether there is room for so many bytes that are wanted but not needed: half of the limit is kept for entries.
pub(super) fn has_room_for_extra(connection: &Connection, bytes: usize) -> Result<bool, SpoolError> {
    let number = |pragma: &str| connection.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0));
    let page_size = number("PRAGMA page_size")?;
    let used = (number("PRAGMA page_count")? - number("PRAGMA freelist_count")?) * page_size;
    let limit = number("PRAGMA max_page_count")?.saturating_mul(page_size);
    Ok(i64::try_from(bytes).is_ok_and(|bytes| used + bytes < limit / 2))
}

/// Opens the file for reading, while an agent may be writing.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, SpoolError> {
    Ok(STATE.open_read_only(path)?)
}
