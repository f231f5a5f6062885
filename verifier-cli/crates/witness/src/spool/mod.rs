//! The durable spool: what was signed stays on disk until a receipt for it verifies, and with it what the
//! witness remembers of each tag.
//!
//! One thread owns the database; [`Spool`] is the way to it. What arrives at the same time shares one commit,
//! and nothing is answered before that commit is on disk, so that whoever has an answer may go on: after a
//! `kill -9` between any two lines, an entry is in the spool with the state it stands for, or neither is.
//!
//! - `schema`: the file and its tables; `rows`: what is read and written in them; `salvage`: what is done with a
//!   damaged file; `reserve`: room for saying that there is none; `thread`: the one that owns the database.

mod reserve;
mod rows;
mod salvage;
mod schema;
mod thread;

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode};
pub use taglog_proto::entry::Statement;
use taglog_proto::{
    name::{Digest, Image, Repository},
    note::VerifierKey,
    time::Timestamp,
};
use thiserror::Error;

use super::decision::TagState;
use reserve::Reserve;
use thread::Thread;

pub use rows::{Alarm, LogStatus, Pending, RepositoryRow, TagRow};

/// The database in the state directory.
const FILE: &str = "spool.sqlite";

/// Why the spool cannot be used.
#[derive(Clone, Debug, Error)]
pub enum SpoolError {
    /// The directory cannot be made, or locked.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another agent runs on the same state.
    #[error("{0} is in use by another witness agent: one state directory is for one agent")]
    InUse(PathBuf),
    /// It was made by another version.
    #[error("{path} was written by another version of taglog (tables of version {version}): use that one")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        version: i64,
    },
    /// It belongs to another key.
    #[error("the spool belongs to witness {0}: give each witness a state directory of its own")]
    OtherWitness(String),
    /// What is in the file does not hold together.
    #[error("the spool is damaged: {0}")]
    Damaged(String),
    /// The disk is full, or the spool has reached its limit.
    #[error("no room in the spool: free disk space or raise spool-limit-mib; nothing is signed until then")]
    Full,
    /// The database failed in another way.
    #[error("the spool cannot be read or written: {0}")]
    Database(String),
    /// The spool's thread has ended.
    #[error("the spool is closed")]
    Closed,
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> SpoolError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => SpoolError::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SpoolError::Damaged(error.to_string()),
            // What was written by this program is readable by it.
            _ if is_bad_value(&error) => SpoolError::Damaged(error.to_string()),
            _ => SpoolError::Database(error.to_string()),
        }
    }
}

fn is_bad_value(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

/// A manifest that goes to the logs once its digest is logged.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, which hash to the digest.
    pub bytes: Vec<u8>,
}

/// A log's number in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub(super) i64);

/// What a log said of one pending entry, and what its receipt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// A receipt verified: the entry leaves the spool.
    Delivered,
    /// The log gave this index, and has not published it yet.
    Acknowledged(u64),
    /// The log will never take it, for this reason: it is kept, and not submitted again.
    Refused(String),
}

/// What was found when the spool was opened.
#[derive(Debug)]
pub struct Opened {
    /// The logs, in the order they were given.
    pub logs: Vec<LogId>,
    /// What is remembered of tags.
    pub tags: Vec<TagRow>,
    /// Whether every tag that was ever reported is among them: not after the spool was damaged.
    pub complete: bool,
    /// What is remembered of repositories.
    pub repositories: Vec<RepositoryRow>,
    /// Alarms that are up.
    pub alarms: Vec<Alarm>,
    /// Where a damaged file was set aside, if what could be saved out of it is in here now.
    pub salvaged: Option<PathBuf>,
}

/// The way to the spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    thread: Thread,
    reserve: Reserve,
}

/// Held for as long as the spool is in use; [`Guard::close`] waits until all is on disk.
#[derive(Debug)]
pub struct Guard {
    thread: std::thread::JoinHandle<()>,
    _lock: File,
}

impl Guard {
    /// Waits for the last commit. Every [`Spool`] must have been dropped.
    pub fn close(self) {
        // A panic in the thread has been reported there; there is nothing left to save.
        let _ = self.thread.join();
    }
}

impl Spool {
    /// Opens the spool in a state directory, making both if they are not there. A damaged file is set aside, and
    /// what can be saved out of it goes into a new one.
    ///
    /// `limit` bounds the bytes on disk. A log that was not there before gets what is in the spool from now on;
    /// one that is no longer named loses what is pending for it.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(
        directory: &Path,
        witness: &VerifierKey,
        logs: &[VerifierKey],
        limit: u64,
    ) -> Result<(Spool, Guard, Opened), SpoolError> {
        let file_error =
            |error: std::io::Error| SpoolError::File { path: directory.to_owned(), reason: error.to_string() };
        std::fs::create_dir_all(directory).map_err(file_error)?;
        let lock = lock(directory)?;
        let reserve = Reserve::new(directory);
        // On a full disk, this is what a start needs.
        reserve.release();
        let path = directory.join(FILE);
        let mut salvaged = salvage::finish(&path).map_err(file_error)?;
        let (connection, mut opened) = match Self::open_and_read(&path, witness, logs, limit) {
            Err(SpoolError::Damaged(why)) => {
                tracing::error!("the spool is damaged: {why}");
                salvage::salvage(&path, witness, logs, limit)?;
                salvaged = salvage::finish(&path).map_err(file_error)?;
                Self::open_and_read(&path, witness, logs, limit)?
            }
            outcome => outcome?,
        };
        opened.salvaged = salvaged;
        reserve.make();
        let (thread, handle) = Thread::start(connection).map_err(file_error)?;
        Ok((Spool { thread, reserve }, Guard { thread: handle, _lock: lock }, opened))
    }

    fn open_and_read(
        path: &Path,
        witness: &VerifierKey,
        logs: &[VerifierKey],
        limit: u64,
    ) -> Result<(Connection, Opened), SpoolError> {
        let connection = schema::open(path, limit)?;
        rows::claim(&connection, witness)?;
        let logs = rows::set_logs(&connection, logs)?;
        rows::start_afresh(&connection)?;
        let opened = Opened {
            logs,
            tags: rows::tags(&connection)?,
            complete: rows::is_complete(&connection)?,
            repositories: rows::repositories(&connection)?,
            alarms: rows::alarms(&connection, false)?,
            salvaged: None,
        };
        Ok((connection, opened))
    }

    /// Keeps a signed entry for every log, with the state that it stands for and the manifest it is about.
    /// When this returns, all of it is on disk.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing is kept.
    pub async fn record(&self, statement: Statement, manifest: Option<RawManifest>) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::record(connection, &statement, manifest.as_ref())).await
    }

    /// Remembers the state of a tag and the last error about it; on disk within seconds.
    pub fn remember(&self, image: Image, state: TagState, error: Option<String>) {
        self.thread.send(move |connection| rows::remember(connection, &image, &state, error.as_deref()));
    }

    /// Remembers why a repository's tags could not be listed, or that they could; on disk within seconds.
    pub fn remember_list(&self, repository: Repository, error: Option<String>) {
        self.thread.send(move |connection| rows::remember_list(connection, &repository, error.as_deref()));
    }

    /// What a log has still to take, in the order of signing; what it has refused for good is left out.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn pending(&self, log: LogId, most: usize) -> Result<Vec<Pending>, SpoolError> {
        self.thread.call(move |connection| rows::pending(connection, log, most)).await
    }

    /// Settles entries of one log at time `at`, all together.
    ///
    /// # Errors
    /// [`SpoolError`]; then none is settled.
    pub async fn settle(&self, log: LogId, settled: Vec<(i64, Settlement)>, at: Timestamp) -> Result<(), SpoolError> {
        // What a log has acknowledged takes a little more room, and must be kept for what it gives back to get that far.
        self.call_even_if_full(move |connection| rows::settle(connection, log, &settled, at)).await
    }

    /// Does what must find room even where there is none.
    async fn call_even_if_full(
        &self,
        work: impl Fn(&Connection) -> Result<(), SpoolError> + Send + Sync + 'static,
    ) -> Result<(), SpoolError> {
        let work = Arc::new(work);
        let again = Arc::clone(&work);
        match self.thread.call(move |connection| work(connection)).await {
            Err(SpoolError::Full) => {
                self.reserve.release();
                // So that the reserve is taken back.
                self.thread.note_failure();
                self.thread
                    .call_alone(move |connection| schema::with_more_pages(connection, || again(connection)))
                    .await
            }
            outcome => outcome,
        }
    }

    /// Remembers how it stands with a log: the size of the checkpoint that was verified at `at`, or the error.
    pub fn remember_log(&self, log: LogId, at: Timestamp, outcome: Result<u64, String>) {
        self.thread.send(move |connection| rows::remember_log(connection, log, at, &outcome));
    }

    /// Manifests that a log can be given now, since it has logged their digests: at most so many, of about so many
    /// bytes.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn next_manifests(&self, log: LogId, most: usize, bytes: usize) -> Result<Vec<RawManifest>, SpoolError> {
        self.thread.call(move |connection| rows::next_manifests(connection, log, most, bytes)).await
    }

    /// The log has these manifests, or will never take them.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn manifests_done(&self, log: LogId, digests: Vec<Digest>) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::manifests_done(connection, log, &digests)).await
    }

    /// Raises an alarm, or counts it again.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn raise(&self, alarm: Alarm) -> Result<(), SpoolError> {
        // That there is no room is the last thing that must find some.
        self.call_even_if_full(move |connection| rows::raise(connection, &alarm)).await
    }

    /// Ends an alarm.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn clear(&self, subject: String, kind: String) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::clear(connection, &subject, &kind)).await
    }

    /// Whether something that need not be durable at once could not be written since this was last asked.
    pub fn has_failed(&self) -> bool {
        self.thread.has_failed()
    }

    /// Finds out whether there is room again, and takes the reserve back.
    ///
    /// # Errors
    /// [`SpoolError`]; [`SpoolError::Full`] while there is none.
    pub async fn try_room(&self) -> Result<(), SpoolError> {
        self.thread.call(rows::try_room).await?;
        if self.reserve.make() { Ok(()) } else { Err(SpoolError::Full) }
    }

    /// Alarms that are up.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn alarms(&self) -> Result<Vec<Alarm>, SpoolError> {
        self.thread.call(|connection| rows::alarms(connection, false)).await
    }

    /// Alarms that have not been sent on yet.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn unsent_alarms(&self) -> Result<Vec<Alarm>, SpoolError> {
        self.thread.call(|connection| rows::alarms(connection, true)).await
    }

    /// The alarm was sent on.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn alarm_sent(&self, subject: String, kind: String) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::alarm_sent(connection, &subject, &kind)).await
    }

    /// How it stands with each log.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn logs(&self) -> Result<Vec<LogStatus>, SpoolError> {
        self.thread.call(rows::logs).await
    }
}

/// What a spool says to a reader, while an agent may be running on it.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose spool it is: the vkey.
    pub witness: String,
    /// Whether an agent runs on it now.
    pub running: bool,
    /// How it stands with each log.
    pub logs: Vec<LogStatus>,
    /// What is remembered of tags, by repository and tag.
    pub tags: Vec<TagRow>,
    /// What is remembered of repositories, by name.
    pub repositories: Vec<RepositoryRow>,
    /// Alarms, the latest first.
    pub alarms: Vec<Alarm>,
}

impl Snapshot {
    /// Reads the spool in a state directory.
    ///
    /// # Errors
    /// [`SpoolError`]; [`SpoolError::File`] where no agent has run yet.
    pub fn read(directory: &Path) -> Result<Snapshot, SpoolError> {
        let path = directory.join(FILE);
        if !path.exists() {
            let reason = "no witness agent has run here yet".to_owned();
            return Err(SpoolError::File { path, reason });
        }
        let mut connection = schema::open_read_only(&path)?;
        // One transaction, so that everything is as of one commit.
        let transaction = connection.transaction()?;
        Ok(Snapshot {
            witness: rows::witness(&transaction)?.unwrap_or_default(),
            running: matches!(lock(directory), Err(SpoolError::InUse(_))),
            logs: rows::logs(&transaction)?,
            tags: rows::tags(&transaction)?,
            repositories: rows::repositories(&transaction)?,
            alarms: rows::alarms(&transaction, false)?,
        })
    }
}

/// Ends all alarms, which a person has seen. Returns how many there were.
///
/// # Errors
/// [`SpoolError`].
pub fn acknowledge_alarms(directory: &Path) -> Result<usize, SpoolError> {
    // The agent's own limit is not known here, and deleting needs no room.
    let connection = schema::open(&directory.join(FILE), u64::MAX >> 1)?;
    rows::clear_all(&connection)
}

/// One agent for a state directory: the lock is held until the file is closed.
fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join("agent.lock");
    let file_error = |error: std::io::Error| SpoolError::File { path: path.clone(), reason: error.to_string() };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(error)),
    }
}

#[cfg(test)]
mod tests;
