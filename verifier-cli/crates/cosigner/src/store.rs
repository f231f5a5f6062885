//! The state on disk: one record of the latest cosigned checkpoint for each log, in one SQLite file that one thread
//! owns.
//!
//! A cosigner that loses its state can be made to cosign two histories. So a record is replaced only if it is the one
//! that the caller has read, in one transaction, and nothing is answered before that is on disk. Changes that arrive at
//! the same time share a commit. A file that is damaged, or missing from a directory that had one, is never replaced by
//! a new one.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use taglog_base::directory_lock::{DirectoryLock, LockFile};
use taglog_proto::{checkpoint::SignedCheckpoint, cosignature::CosignerKey, merkle::empty_root, time::Timestamp};
use taglog_state::{FailureKind, IntegrityCheck, OpenError, StateFile};
use thiserror::Error;
use tokio::sync::oneshot;

use super::evidence::Violation;
use taglog_base::text::path_line;

/// The database in the state directory.
const FILE: &str = "cosigner.sqlite";
/// The lock of the state directory. Its file has text once there is a database.
const LOCK: LockFile = LockFile {
    name: "cosigner.lock",
    program: "cosigner",
    remedy: "stop that one, or give each cosigner a state directory of its own",
};
const STATE: StateFile = StateFile {
    version: 1,
    tables: TABLES,
    // A full check is fast, because there is one row for each log; a lost record would allow a second history.
    integrity: IntegrityCheck::Full,
    // No other process writes to it while the directory is locked.
    busy: Duration::from_secs(5),
};
/// The most changes in one commit.
const GROUP: usize = 64;
/// The most changes that wait for the thread.
const QUEUE: usize = 256;

const TABLES: &str = "
-- The latest checkpoint that was cosigned of each log: the log's lines and the cosignatures that were returned. A
-- record stays when its log is no longer configured.
CREATE TABLE record (origin TEXT PRIMARY KEY, note TEXT NOT NULL, cosigned INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Every key that ever cosigned here, and whether its cosignature says that it has audited.
CREATE TABLE signer (vkey TEXT PRIMARY KEY, audits INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- A log that broke a rule is never cosigned again.
CREATE TABLE violation (origin TEXT PRIMARY KEY, reason TEXT NOT NULL, evidence TEXT) STRICT, WITHOUT ROWID;
";

/// Why the state cannot be used.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The state directory is in use, or the file cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    #[error("{path}: {reason}", path = path_line(.path))]
    File { path: PathBuf, reason: String },
    /// There was a database, and it is missing.
    #[error(
        "{0} is gone, and with it the record of what was cosigned; this key must not cosign without it, because it \
         could cosign a second history; put the file back as it last was, or make a new key and a new state directory"
    )]
    Gone(PathBuf),
    /// The content of the file is inconsistent.
    #[error(
        "{path} is damaged ({why}); this key must not cosign without the record of what was cosigned, because it could \
         cosign a second history; put back an intact copy of exactly this state, or make a new key and a new state \
         directory",
        path = path_line(.path)
    )]
    Damaged { path: PathBuf, why: String },
    /// A key whose cosignatures stated something else before.
    #[error(
        "{vkey} has cosigned {before} before, and now would cosign {now}; a key must keep the meaning of its \
         cosignatures; make another key"
    )]
    OtherStatement { vkey: String, before: &'static str, now: &'static str },
    /// The database failed in another way; nothing was changed.
    #[error("the state cannot be read or written: {0}")]
    Database(String),
    #[error("the state is closed")]
    Closed,
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> StoreError {
        match error {
            // With another file in its place, this state is as lost as with a damaged one.
            OpenError::Damaged { path, why } | OpenError::OtherFile { path, why } => StoreError::Damaged { path, why },
            error => StoreError::Open(error),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match FailureKind::of(&error) {
            FailureKind::Damaged => StoreError::Damaged { path: FILE.into(), why: error.to_string() },
            FailureKind::Full | FailureKind::Other => StoreError::Database(error.to_string()),
        }
    }
}

/// The latest cosigned checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The checkpoint, with the log's lines and the cosignatures that were returned.
    pub signed: SignedCheckpoint,
    /// The time of these cosignatures.
    pub cosigned: Timestamp,
}

impl Record {
    pub fn size(&self) -> u64 {
        self.signed.unverified().size
    }
}

/// The stored state of one log.
#[derive(Clone, Debug, Default)]
pub struct StoredLog {
    pub record: Option<Record>,
    pub violation: Option<Violation>,
}

/// A change, and where its result is sent when it is on disk.
struct StoreJob {
    change: StoreChange,
    reply: oneshot::Sender<Result<ChangeResult, StoreError>>,
}

/// The expected record, and its replacement.
struct Step {
    from: Option<Record>,
    to: Record,
}

enum StoreChange {
    Advance { origin: String, step: Box<Step> },
    RecordViolation { origin: String, violation: Violation },
}

enum ChangeResult {
    Changed,
    /// The record is not the expected one but this one; nothing was changed.
    Conflict(Option<Record>),
}

/// A handle to the state. The file is closed when the last clone is dropped and [`StoreGuard::close`] returns.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::SyncSender<StoreJob>,
}

impl std::fmt::Debug for StoreJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// Held while the state is in use.
#[derive(Debug)]
pub struct StoreGuard {
    closed: oneshot::Receiver<()>,
    _lock: DirectoryLock,
}

impl StoreGuard {
    /// Waits until the file is closed, after every [`Store`] was dropped.
    pub async fn close(self) {
        // Nothing is ever sent: the thread drops the sender when it ends, even by a panic.
        let _ = self.closed.await;
    }
}

impl Store {
    /// Opens the state in a directory; both are created if they never existed. `audits` is whether the cosignatures by
    /// the keys state that the log was audited. Returns the stored state of each log by origin.
    pub fn open(
        directory: &Path,
        keys: &[&CosignerKey],
        audits: bool,
    ) -> Result<(Store, StoreGuard, HashMap<String, StoredLog>), StoreError> {
        let mut lock = LOCK.acquire(directory).map_err(OpenError::from)?;
        let path = directory.join(FILE);
        let named = |error| match error {
            StoreError::Damaged { why, .. } => StoreError::Damaged { path: path.clone(), why },
            other => other,
        };
        let connection = open(&path, &mut lock, directory).map_err(named)?;
        record_key_statements(&connection, keys, audits).map_err(named)?;
        let stored = read_all(&connection, keys).map_err(named)?;
        let (jobs, receiver) = mpsc::sync_channel(QUEUE);
        let builder = std::thread::Builder::new().name("cosigner state".to_owned());
        let (closing, closed) = oneshot::channel();
        let own = move || {
            serve(&connection, &receiver);
            drop(connection);
            drop(closing);
        };
        builder.spawn(own).map_err(file_error(&path))?;
        Ok((Store { jobs }, StoreGuard { closed, _lock: lock }, stored))
    }

    /// Replaces the record `from` of a log by `to`, durably. The inner error is the record that was found instead of
    /// `from`; then nothing was changed.
    ///
    /// # Errors
    /// Nothing was changed, unless the disk failed during the commit: then it is unknown.
    pub async fn advance(
        &self,
        origin: &str,
        from: Option<Record>,
        to: Record,
    ) -> Result<Result<(), Option<Record>>, StoreError> {
        match self.call(StoreChange::Advance { origin: origin.to_owned(), step: Box::new(Step { from, to }) }).await? {
            ChangeResult::Changed => Ok(Ok(())),
            ChangeResult::Conflict(record) => Ok(Err(record)),
        }
    }

    /// Stores permanently that a log broke a rule. Only the first violation is kept.
    pub async fn record_violation(&self, origin: &str, violation: Violation) -> Result<(), StoreError> {
        self.call(StoreChange::RecordViolation { origin: origin.to_owned(), violation }).await.map(drop)
    }

    async fn call(&self, change: StoreChange) -> Result<ChangeResult, StoreError> {
        let (reply, answer) = oneshot::channel();
        // Callers hold the lock of their log, so at most one for each log waits. A full queue must not block the
        // runtime.
        self.jobs.try_send(StoreJob { change, reply }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => StoreError::Database("too many changes at once".to_owned()),
            mpsc::TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::File { path: path.clone(), reason: error.to_string() }
}

/// Opens the file. The lock file says whether there has ever been one: then it must be there, with its tables.
fn open(path: &Path, lock: &mut DirectoryLock, directory: &Path) -> Result<Connection, StoreError> {
    let lock_path = directory.join(LOCK.name);
    let lock_error = file_error(&lock_path);
    let mut said = String::new();
    lock.file().read_to_string(&mut said).map_err(&lock_error)?;
    if !said.is_empty() {
        return if path.exists() { Ok(STATE.open_existing(path)?) } else { Err(StoreError::Gone(path.to_owned())) };
    }
    // A crash before the lines below leaves a file without tables, or with empty ones: nothing was ever promised in it.
    let connection = STATE.open(path)?;
    let mut write = || {
        lock.file().write_all(format!("{FILE} belongs here\n").as_bytes())?;
        lock.file().sync_all()?;
        File::open(directory)?.sync_all()
    };
    write().map_err(lock_error)?;
    Ok(connection)
}

/// Stores for new keys whether they audit. A key must not change that (c2sp.org/tlog-cosignature, "Additional
/// statements").
fn record_key_statements(connection: &Connection, keys: &[&CosignerKey], audits: bool) -> Result<(), StoreError> {
    let statement = |audits| if audits { "as an auditor" } else { "without auditing" };
    for vkey in keys.iter().map(ToString::to_string) {
        connection.execute("INSERT OR IGNORE INTO signer (vkey, audits) VALUES (?1, ?2)", params![vkey, audits])?;
        let before: bool =
            connection.query_row("SELECT audits FROM signer WHERE vkey = ?1", params![vkey], |row| row.get(0))?;
        if before != audits {
            return Err(StoreError::OtherStatement { vkey, before: statement(before), now: statement(audits) });
        }
    }
    Ok(())
}

fn read_all(connection: &Connection, keys: &[&CosignerKey]) -> Result<HashMap<String, StoredLog>, StoreError> {
    let mut stored: HashMap<String, StoredLog> = HashMap::new();
    let mut statement = connection.prepare("SELECT origin FROM record")?;
    for origin in statement.query_map([], |row| row.get::<_, String>(0))? {
        let origin = origin?;
        let record = read(connection, &origin)?;
        let good = record.as_ref().is_none_or(|record| keys.iter().all(|key| key.cosigned(&record.signed).is_ok()));
        if !good {
            return Err(damaged(&origin, "its cosignature does not verify"));
        }
        stored.entry(origin).or_default().record = record;
    }
    let mut statement = connection.prepare("SELECT origin, reason, evidence FROM violation")?;
    let violation = |row: &rusqlite::Row<'_>| {
        let violation =
            Violation { reason: row.get(1)?, evidence: row.get::<_, Option<String>>(2)?.map(PathBuf::from) };
        Ok((row.get::<_, String>(0)?, violation))
    };
    for row in statement.query_map([], violation)? {
        let (origin, violation) = row?;
        stored.entry(origin).or_default().violation = Some(violation);
    }
    Ok(stored)
}

fn damaged(origin: &str, why: &str) -> StoreError {
    StoreError::Damaged { path: FILE.into(), why: format!("record of {origin:?}: {why}") }
}

/// Reads and checks the record of a log.
fn read(connection: &Connection, origin: &str) -> Result<Option<Record>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT note, cosigned FROM record WHERE origin = ?1")?;
    let row = statement.query_row([origin], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()?;
    let Some((note, cosigned)) = row else { return Ok(None) };
    let signed = SignedCheckpoint::parse_any(note.as_bytes()).map_err(|error| damaged(origin, &error.to_string()))?;
    let cosigned = Timestamp::from_unix(cosigned).ok_or_else(|| damaged(origin, "it has no time"))?;
    let checkpoint = signed.unverified();
    if checkpoint.origin != origin || (checkpoint.size == 0 && checkpoint.root != empty_root()) {
        return Err(damaged(origin, "it is of another log, or of no tree"));
    }
    Ok(Some(Record { signed, cosigned }))
}

fn serve(connection: &Connection, jobs: &mpsc::Receiver<StoreJob>) {
    while let Ok(first) = jobs.recv() {
        let group: Vec<StoreJob> = std::iter::once(first).chain(jobs.try_iter().take(GROUP - 1)).collect();
        commit(connection, group);
    }
}

/// Makes all changes in one transaction.
fn commit(connection: &Connection, jobs: Vec<StoreJob>) {
    let (changes, replies): (Vec<StoreChange>, Vec<_>) = jobs.into_iter().map(|job| (job.change, job.reply)).unzip();
    let outcome = within_transaction(connection, &changes);
    // A caller that no longer waits asks again.
    match outcome {
        Ok(done) => replies.into_iter().zip(done).for_each(|(reply, done)| drop(reply.send(Ok(done)))),
        Err(error) => {
            // If this fails, the next BEGIN fails too, and reports it.
            let _ = connection.execute_batch("ROLLBACK");
            replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
        }
    }
}

fn within_transaction(connection: &Connection, changes: &[StoreChange]) -> Result<Vec<ChangeResult>, StoreError> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done =
        changes.iter().map(|change| apply(connection, change)).collect::<Result<Vec<ChangeResult>, StoreError>>()?;
    connection.execute_batch("COMMIT")?;
    Ok(done)
}

fn apply(connection: &Connection, change: &StoreChange) -> Result<ChangeResult, StoreError> {
    match change {
        StoreChange::Advance { origin, step } => advance(connection, origin, step.from.as_ref(), &step.to),
        StoreChange::RecordViolation { origin, violation: Violation { reason, evidence } } => {
            let evidence = evidence.as_ref().map(|path| path.display().to_string());
            let sql = "INSERT OR IGNORE INTO violation (origin, reason, evidence) VALUES (?1, ?2, ?3)";
            connection.prepare_cached(sql)?.execute(params![origin, reason, evidence])?;
            Ok(ChangeResult::Changed)
        }
    }
}

fn advance(
    connection: &Connection,
    origin: &str,
    from: Option<&Record>,
    to: &Record,
) -> Result<ChangeResult, StoreError> {
    let found = read(connection, origin)?;
    if found.as_ref() != from {
        return Ok(ChangeResult::Conflict(found));
    }
    let sql = "INSERT OR REPLACE INTO record (origin, note, cosigned) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![origin, to.signed.to_string(), to.cosigned.unix()])?;
    Ok(ChangeResult::Changed)
}

#[cfg(test)]
mod tests {
    use taglog_proto::{
        checkpoint::Checkpoint,
        cosignature::{Algorithm, CosignerSigningKey},
        merkle::Hash,
        note::SigningKey,
    };
    use tempfile::TempDir;

    use super::*;

    const ORIGIN: &str = "log.example/a";

    fn key() -> CosignerSigningKey {
        CosignerSigningKey::from_seed("cosigner.example/a", Algorithm::Ed25519, &[7; 32]).unwrap()
    }

    fn record(size: u64) -> Record {
        let log = SigningKey::from_seed(ORIGIN, &[1; 32]).unwrap();
        let cosigned = Timestamp::from_unix(1_000_000 + size as i64).unwrap();
        let signed = Checkpoint { origin: ORIGIN.to_owned(), size, root: Hash::of(b"x") }.sign(&log);
        let line = key().cosign(&signed, cosigned).unwrap();
        Record { signed: signed.with_signatures([line]), cosigned }
    }

    fn open_as(
        directory: &TempDir,
        audits: bool,
    ) -> Result<(Store, StoreGuard, HashMap<String, StoredLog>), StoreError> {
        Store::open(&directory.path().join("state"), &[key().key()], audits)
    }

    fn open(directory: &TempDir) -> (Store, StoreGuard, StoredLog) {
        let (store, guard, mut stored) = open_as(directory, false).unwrap();
        (store, guard, stored.remove(ORIGIN).unwrap_or_default())
    }

    async fn close(store: Store, guard: StoreGuard) {
        drop(store);
        guard.close().await;
    }

    fn refusal(directory: &TempDir) -> String {
        open_as(directory, false).map(|_| ()).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_record_is_replaced_only_if_it_is_the_expected_one() {
        let directory = tempfile::tempdir().unwrap();
        let (store, guard, stored) = open(&directory);
        assert_eq!(stored.record, None);
        assert_eq!(store.advance(ORIGIN, None, record(5)).await.unwrap(), Ok(()));
        assert_eq!(store.advance(ORIGIN, None, record(6)).await.unwrap(), Err(Some(record(5))));
        assert_eq!(store.advance(ORIGIN, Some(record(4)), record(6)).await.unwrap(), Err(Some(record(5))));
        let racing = (6..40).map(|size| store.advance(ORIGIN, Some(record(5)), record(size)));
        let won = futures_util::future::join_all(racing).await;
        assert_eq!(won.iter().filter(|outcome| matches!(outcome, Ok(Ok(())))).count(), 1);
        let Ok(Err(Some(there))) = &won[1] else { panic!("{won:?}") };
        let there = there.clone();
        close(store, guard).await;
        let (_store, _guard, stored) = open(&directory);
        assert_eq!(stored.record, Some(there), "it is on disk");
    }

    #[tokio::test]
    async fn only_the_first_violation_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (store, guard, _) = open(&directory);
        let violation = |reason: &str| Violation { reason: reason.to_owned(), evidence: None };
        store.record_violation(ORIGIN, violation("first")).await.unwrap();
        store.record_violation(ORIGIN, violation("second")).await.unwrap();
        close(store, guard).await;
        let (_store, _guard, stored) = open(&directory);
        assert_eq!(stored.violation, Some(violation("first")));
    }

    #[tokio::test]
    async fn a_key_cannot_change_its_statement() {
        let directory = tempfile::tempdir().unwrap();
        let (store, guard, _) = open(&directory);
        close(store, guard).await;
        let error = open_as(&directory, true).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::OtherStatement { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_second_process_cannot_open_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (_store, _guard, _) = open(&directory);
        assert!(refusal(&directory).contains("in use by another cosigner"));
    }

    #[tokio::test]
    async fn a_damaged_or_missing_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (store, guard, _) = open(&directory);
        store.advance(ORIGIN, None, record(5)).await.unwrap().unwrap();
        close(store, guard).await;
        let path = directory.path().join("state").join(FILE);
        let good = std::fs::read(&path).unwrap();
        let sql = |sql: &str| {
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch(sql).unwrap();
        };
        sql("UPDATE record SET note = replace(note, char(10) || '5' || char(10), char(10) || '4' || char(10))");
        assert!(refusal(&directory).contains("does not verify"), "another size under the cosignature");
        sql("UPDATE record SET note = 'x'");
        assert!(refusal(&directory).contains("is damaged"), "no note");
        sql("PRAGMA user_version = 2");
        assert!(refusal(&directory).contains("newer version"));
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(refusal(&directory).contains("is damaged"), "cut");
        std::fs::write(&path, "no database at all, but some text that is long enough").unwrap();
        assert!(refusal(&directory).contains("is damaged"), "text");
        std::fs::write(&path, "").unwrap();
        assert!(refusal(&directory).contains("it has no tables"), "emptied");
        std::fs::remove_file(&path).unwrap();
        assert!(refusal(&directory).contains("is gone"), "removed");
        std::fs::write(&path, good).unwrap();
        let (_store, _guard, stored) = open(&directory);
        assert_eq!(stored.record, Some(record(5)), "put back");
    }
}
