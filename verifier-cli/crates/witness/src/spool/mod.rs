//! The durable spool: signed entries stay on disk until a receipt for them verifies, together with the state of each tag.
//!
//! One thread owns the database; [`Spool`] sends jobs to it. Concurrent jobs share one commit, and results are returned only
//! after that commit is on disk: after a `kill -9` at any time, an entry is in the spool together with the tag state that it
//! reports, or neither is.
//!
//! - `entries`: the jobs' data; `error`: why the spool cannot be used; `schema`: the file and its tables; `rows`: what is
//!   read and written in them; `recovery`: extracts the entries of a damaged file; `reserve`: disk space for alarms when the
//!   disk is full; `thread`: the one that owns the database.

mod entries;
mod error;
mod recovery;
mod reserve;
mod rows;
mod schema;
mod thread;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use taglog_base::directory_lock::{DirectoryLock, LockFile};
pub use taglog_proto::entry::Statement;
use taglog_proto::{
    name::{Digest, Image, Repository},
    note::VerifierKey,
    time::Timestamp,
};

use super::decision::WatchedTagState;
use reserve::Reserve;
use thread::SpoolThread;

pub use entries::{LogId, RawManifest, Settlement};
pub use error::SpoolError;
pub use rows::{Alarm, LogStatus, PendingEntry, WatchedRepositoryRow, WatchedTagRow};

/// The database in the state directory.
const FILE: &str = "spool.sqlite";
const LOCK: LockFile = LockFile {
    name: "agent.lock",
    program: "witness agent",
    remedy: "stop that one, or give each agent a state directory of its own",
};

/// The content of the spool when it was opened.
#[derive(Debug)]
pub struct OpenedSpool {
    /// The logs, in the order they were given.
    pub logs: Vec<LogId>,
    pub tags: Vec<WatchedTagRow>,
    /// Whether every tag that was ever reported is among them: not after the spool was damaged.
    pub complete: bool,
    /// What is remembered of repositories.
    pub repositories: Vec<WatchedRepositoryRow>,
    /// Active alarms.
    pub alarms: Vec<Alarm>,
    /// Where a damaged file was set aside, if the spool was recovered from it.
    pub recovered: Option<PathBuf>,
}

/// A handle of the spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    thread: SpoolThread,
    reserve: Reserve,
}

/// Held for as long as the spool is in use; [`SpoolGuard::close`] waits until all is on disk.
#[derive(Debug)]
pub struct SpoolGuard {
    thread: std::thread::JoinHandle<()>,
    _lock: DirectoryLock,
}

impl SpoolGuard {
    /// Waits for the last commit. Every [`Spool`] must have been dropped.
    pub fn close(self) {
        // A panic in the thread has been reported there; there is nothing left to save.
        let _ = self.thread.join();
    }
}

impl Spool {
    /// Opens the spool in a state directory, creating both if necessary. A damaged file is set aside, and its entries are
    /// recovered into a new one.
    ///
    /// `limit` bounds the bytes on disk. A new log gets the entries stored from now on; the pending entries of a log that is
    /// no longer configured are deleted.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(
        directory: &Path,
        witness: &VerifierKey,
        logs: &[VerifierKey],
        limit: u64,
    ) -> Result<(Spool, SpoolGuard, OpenedSpool), SpoolError> {
        let file_error =
            |error: std::io::Error| SpoolError::File { path: directory.to_owned(), reason: error.to_string() };
        let lock = LOCK.acquire(directory)?;
        let reserve = Reserve::new(directory);
        // A start on a full disk needs this room.
        reserve.release();
        let path = directory.join(FILE);
        let mut recovered = recovery::finish(&path).map_err(file_error)?;
        let (connection, mut opened) = match Self::open_and_read(&path, witness, logs, limit) {
            Err(SpoolError::Damaged(why)) => {
                tracing::error!("the spool is damaged: {why}");
                recovery::recover(&path, witness, logs, limit)?;
                recovered = recovery::finish(&path).map_err(file_error)?;
                Self::open_and_read(&path, witness, logs, limit)?
            }
            outcome => outcome?,
        };
        opened.recovered = recovered;
        reserve.make();
        let (thread, handle) = SpoolThread::start(connection).map_err(file_error)?;
        Ok((Spool { thread, reserve }, SpoolGuard { thread: handle, _lock: lock }, opened))
    }

    fn open_and_read(
        path: &Path,
        witness: &VerifierKey,
        logs: &[VerifierKey],
        limit: u64,
    ) -> Result<(Connection, OpenedSpool), SpoolError> {
        let connection = schema::open(path, limit)?;
        rows::claim(&connection, witness)?;
        let logs = rows::set_logs(&connection, logs)?;
        rows::reset_transient_state(&connection)?;
        let opened = OpenedSpool {
            logs,
            tags: rows::tags(&connection)?,
            complete: rows::is_complete(&connection)?,
            repositories: rows::repositories(&connection)?,
            alarms: rows::alarms(&connection, false)?,
            recovered: None,
        };
        Ok((connection, opened))
    }

    /// Stores a signed entry for every log durably, with the tag state that it reports and its manifest.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing is stored.
    pub async fn record(&self, statement: Statement, manifest: Option<RawManifest>) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::record(connection, &statement, manifest.as_ref())).await
    }

    /// Remembers the state of a tag and the last error about it; on disk within seconds.
    pub fn remember(&self, image: Image, state: WatchedTagState, error: Option<String>) {
        self.thread.send(move |connection| rows::remember(connection, &image, &state, error.as_deref()));
    }

    /// Remembers why a repository's tags could not be listed, or that they could; on disk within seconds.
    pub fn remember_list(&self, repository: Repository, error: Option<String>) {
        self.thread.send(move |connection| rows::remember_list(connection, &repository, error.as_deref()));
    }

    /// The entries not yet delivered to a log, in the order of signing, without those that it refused permanently.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn pending(&self, log: LogId, most: usize) -> Result<Vec<PendingEntry>, SpoolError> {
        self.thread.call(move |connection| rows::pending(connection, log, most)).await
    }

    /// Settles entries of one log at time `at`, all together.
    ///
    /// # Errors
    /// [`SpoolError`]; then none is settled.
    pub async fn settle(&self, log: LogId, settled: Vec<(i64, Settlement)>, at: Timestamp) -> Result<(), SpoolError> {
        // Storing acknowledgements needs a little room, and must succeed even if full, since delivery frees room.
        self.call_even_if_full(move |connection| rows::settle(connection, log, &settled, at)).await
    }

    /// Runs a job that must succeed even if the spool is full.
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

    /// Stores the state of a log: the size of the checkpoint that was verified at `at`, or the error.
    pub fn remember_log(&self, log: LogId, at: Timestamp, outcome: Result<u64, String>) {
        self.thread.send(move |connection| rows::remember_log(connection, log, at, &outcome));
    }

    /// Manifests to upload to a log, whose digests it has logged: at most `most`, of about `bytes` in total.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn next_manifests(&self, log: LogId, most: usize, bytes: usize) -> Result<Vec<RawManifest>, SpoolError> {
        self.thread.call(move |connection| rows::next_manifests(connection, log, most, bytes)).await
    }

    /// Marks manifests as uploaded, or as refused permanently.
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
        // The alarm about a full spool must be stored too.
        self.call_even_if_full(move |connection| rows::raise(connection, &alarm)).await
    }

    /// Ends an alarm.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn clear(&self, subject: String, kind: String) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::clear(connection, &subject, &kind)).await
    }

    /// Whether a write without a waiting caller has failed since the last call.
    pub fn has_failed(&self) -> bool {
        self.thread.has_failed()
    }

    /// Checks whether there is room again, and recreates the reserve.
    ///
    /// # Errors
    /// [`SpoolError`]; [`SpoolError::Full`] while there is none.
    pub async fn try_room(&self) -> Result<(), SpoolError> {
        self.thread.call(rows::try_room).await?;
        if self.reserve.make() { Ok(()) } else { Err(SpoolError::Full) }
    }

    /// Active alarms.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn alarms(&self) -> Result<Vec<Alarm>, SpoolError> {
        self.thread.call(|connection| rows::alarms(connection, false)).await
    }

    /// Alarms that have not been sent to the webhook.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn unsent_alarms(&self) -> Result<Vec<Alarm>, SpoolError> {
        self.thread.call(|connection| rows::alarms(connection, true)).await
    }

    /// Marks an alarm as sent.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn alarm_sent(&self, subject: String, kind: String) -> Result<(), SpoolError> {
        self.thread.call(move |connection| rows::alarm_sent(connection, &subject, &kind)).await
    }

    /// The state of each log.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn logs(&self) -> Result<Vec<LogStatus>, SpoolError> {
        self.thread.call(rows::logs).await
    }
}

/// The content of a spool, also while an agent is running on it.
#[derive(Debug)]
pub struct SpoolSnapshot {
    /// Whose spool it is: the vkey.
    pub witness: String,
    /// Whether an agent runs on it now.
    pub running: bool,
    /// How it stands with each log.
    pub logs: Vec<LogStatus>,
    /// What is remembered of tags, by repository and tag.
    pub tags: Vec<WatchedTagRow>,
    /// What is remembered of repositories, by name.
    pub repositories: Vec<WatchedRepositoryRow>,
    /// Alarms, the latest first.
    pub alarms: Vec<Alarm>,
}

impl SpoolSnapshot {
    /// Reads the spool in a state directory.
    ///
    /// # Errors
    /// [`SpoolError`]; [`SpoolError::File`] where no agent has run yet.
    pub fn read(directory: &Path) -> Result<SpoolSnapshot, SpoolError> {
        let path = directory.join(FILE);
        if !path.exists() {
            let reason = "no witness agent has run here yet".to_owned();
            return Err(SpoolError::File { path, reason });
        }
        let mut connection = schema::open_read_only(&path)?;
        // One transaction, so that everything is as of one commit.
        let transaction = connection.transaction()?;
        Ok(SpoolSnapshot {
            witness: rows::witness(&transaction)?.unwrap_or_default(),
            running: LOCK.acquire(directory).is_err_and(|error| error.is_in_use()),
            logs: rows::logs(&transaction)?,
            tags: rows::tags(&transaction)?,
            repositories: rows::repositories(&transaction)?,
            alarms: rows::alarms(&transaction, false)?,
        })
    }
}

/// Ends all alarms (`status --acknowledge`). Returns how many there were.
///
/// # Errors
/// [`SpoolError`].
pub fn acknowledge_alarms(directory: &Path) -> Result<usize, SpoolError> {
    // The agent's own limit is not known here, and deleting needs no room.
    let connection = schema::open(&directory.join(FILE), u64::MAX >> 1)?;
    rows::clear_all(&connection)
}

#[cfg(test)]
mod tests;
