//! The one way in which programs of taglog open the SQLite files that they keep state in: durable commits, one version of
//! the tables, and damage found before the work begins.
//!
//! What one store needs beyond that (a larger cache, a limit on the file, recovery of a damaged file) it does itself with
//! the connection that it gets.

#![warn(missing_docs)]

mod error;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use error::{FailureKind, OpenError};

/// How much of an existing file is checked before it is used.
///
/// SQLite notices damage only where it reads, and a program that has begun its work on a damaged file may already have
/// acted on what was missing in it. So a file is checked at every open, by the dearest check that it can afford:
///
/// - [`IntegrityCheck::Full`] where a row that is not found does harm that cannot be undone, and the file is small: the
///   cosigner, which would cosign a second history.
/// - [`IntegrityCheck::Quick`] by default. It finds damaged pages and rows, in a time that grows with the file; what it
///   leaves out, whether the entries of indexes agree with their rows, costs several times as much.
/// - [`IntegrityCheck::ByContent`] where the file grows with the log without bound, so that even a quick check would read
///   gigabytes before each short audit: the auditor. It compares the tag index that it loads with the root in the log's last
///   seal, which no damage to the index passes; damage elsewhere shows where it is read; and all of it can be made again
///   from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// SQLite's `integrity_check`: as `quick_check`, and every entry of an index against its row.
    Full,
    /// SQLite's `quick_check`: pages, rows, and the numbers of entries in indexes.
    Quick,
    /// None by SQLite: the store verifies what it loads.
    ByContent,
}

impl IntegrityCheck {
    fn pragma(self) -> Option<&'static str> {
        match self {
            IntegrityCheck::Full => Some("integrity_check"),
            IntegrityCheck::Quick => Some("quick_check"),
            IntegrityCheck::ByContent => None,
        }
    }
}

/// One kind of state file.
///
/// The version of its tables is SQLite's `user_version`. The crate `rusqlite_migration` keeps it in the same place and the
/// same way, and would read the files that there are; but each of its releases is bound to one release of rusqlite (2.6.0
/// to 0.40), older than the one used here, and a program can link only one. While each file has had only one version of
/// its tables, there is nothing to migrate, and what is left is one comparison. The first change of tables adds its
/// migration to [`StateFile::open`].
#[derive(Clone, Copy, Debug)]
pub struct StateFile {
    /// The version of the tables, from 1 on. Changes with every change of the tables.
    pub version: i64,
    /// SQL that makes the tables.
    pub tables: &'static str,
    /// How much of an existing file is checked.
    pub integrity: IntegrityCheck,
    /// How long a connection waits for another one's transaction.
    pub busy: Duration,
}

impl StateFile {
    /// Opens the file for reading and writing, and makes it with its tables if there is none. Who may make one holds the
    /// lock on its directory: of two that do so at the same moment, one may be told that the file is locked.
    pub fn open(&self, path: &Path) -> Result<Connection, OpenError> {
        self.open_or_create(path, |_| Ok(()))
    }

    /// As [`StateFile::open`]; what `fill` writes into a new file becomes durable together with the tables.
    pub fn open_or_create(
        &self,
        path: &Path,
        fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Connection, OpenError> {
        let (error, connection) = (OpenError::sqlite(path), self.begin(path, OpenFlags::default())?);
        if is_empty(&connection).map_err(&error)? {
            configure(&connection).map_err(&error)?;
            self.create(&connection, fill).map_err(&error)?;
        }
        // Not only in the other case: while this connection waited to create the file, another one may have.
        self.accept(&connection, path)?;
        configure(&connection).map_err(&error)?;
        Ok(connection)
    }

    /// Opens a file that must be there with its tables: an empty one is damaged.
    pub fn open_existing(&self, path: &Path) -> Result<Connection, OpenError> {
        let connection = self.begin(path, OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
        self.accept(&connection, path)?;
        configure(&connection).map_err(OpenError::sqlite(path))?;
        Ok(connection)
    }

    /// Opens a file that must be there with its tables for reading, while another process may be writing. Damage shows
    /// where it is read: it is for whoever writes to check the whole file.
    pub fn open_read_only(&self, path: &Path) -> Result<Connection, OpenError> {
        let connection = self.begin(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        self.check_tables(&connection, path)?;
        Ok(connection)
    }

    /// A further connection to a file that this program has opened and checked.
    pub fn connect(&self, path: &Path) -> Result<Connection, OpenError> {
        let connection = self.begin(path, OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
        configure(&connection).map_err(OpenError::sqlite(path))?;
        Ok(connection)
    }

    fn begin(&self, path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
        let error = OpenError::sqlite(path);
        let connection = Connection::open_with_flags(path, flags).map_err(&error)?;
        connection.busy_timeout(self.busy).map_err(&error)?;
        Ok(connection)
    }

    fn create(
        &self,
        connection: &Connection,
        fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        if !is_empty(&transaction)? {
            return Ok(());
        }
        transaction.execute_batch(self.tables)?;
        transaction.pragma_update(None, "user_version", self.version)?;
        fill(&transaction)?;
        transaction.commit()
    }

    /// Accepts a file with these tables that is not damaged.
    fn accept(&self, connection: &Connection, path: &Path) -> Result<(), OpenError> {
        self.check_tables(connection, path)?;
        let Some(pragma) = self.integrity.pragma() else { return Ok(()) };
        let found = connection.pragma_query_value(None, pragma, |row| row.get::<_, String>(0));
        match found.map_err(OpenError::sqlite(path))? {
            found if found == "ok" => Ok(()),
            why => Err(OpenError::Damaged { path: path.to_owned(), why }),
        }
    }

    /// Accepts a file whose tables are of this version, without looking into them.
    fn check_tables(&self, connection: &Connection, path: &Path) -> Result<(), OpenError> {
        let error = OpenError::sqlite(path);
        let other_file = |why: String| OpenError::OtherFile { path: path.to_owned(), why };
        let version = version(connection).map_err(&error)?;
        let tables = tables(connection).map_err(&error)?;
        if version == 0 && tables.is_empty() {
            return Err(OpenError::Damaged { path: path.to_owned(), why: "it has no tables".to_owned() });
        }
        if version > self.version {
            return Err(OpenError::NewerVersion { path: path.to_owned(), version, known: self.version });
        }
        if version != self.version {
            return Err(other_file(format!("its tables are of version {version}, not {}", self.version)));
        }
        match self.expected_tables().map_err(&error)?.difference(&tables).next() {
            Some(missing) => Err(other_file(format!("it has no table {missing:?}"))),
            None => Ok(()),
        }
    }

    fn expected_tables(&self) -> rusqlite::Result<BTreeSet<String>> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(self.tables)?;
        tables(&connection)
    }
}

/// Settings of a connection that writes. The first also holds for the file.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL, FULL is what makes a commit survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == 0 && tables(connection)?.is_empty())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn tables(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
