//! The one thread that owns the database. What arrives at the same time shares one commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::SpoolError;

/// The most jobs that share one commit.
const GROUP: usize = 256;
/// How long jobs that are not urgent wait for a commit to join.
const IDLE: Duration = Duration::from_secs(1);
/// The most jobs that wait.
const LAZY: usize = 4096;

/// Sends the result to the caller after the commit.
type Reply = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;
/// Reads and writes within the transaction of its group, or receives the error that there is none. Returns no reply if it
/// has failed and sent the error.
type Work = Box<dyn FnOnce(Result<&Connection, SpoolError>) -> Option<Reply> + Send>;

struct SpoolJob {
    work: Work,
    /// Whether a caller waits for the commit.
    urgent: bool,
    /// Whether it has a transaction of its own: SQLite may undo a whole transaction for one job that finds no room.
    alone: bool,
}

/// Sends work to the thread. The thread ends once the last of these is dropped and all work is done.
#[derive(Clone, Debug)]
pub(super) struct SpoolThread {
    jobs: mpsc::Sender<SpoolJob>,
    /// Whether a job without a waiting caller has failed.
    failing: Arc<AtomicBool>,
}

impl std::fmt::Debug for SpoolJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("urgent", &self.urgent).finish_non_exhaustive()
    }
}

impl SpoolThread {
    pub(super) fn start(connection: Connection) -> std::io::Result<(SpoolThread, JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel();
        let handle =
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || serve(&connection, &receiver))?;
        Ok((SpoolThread { jobs, failing: Arc::default() }, handle))
    }

    /// Does the work and waits until what it wrote is on disk.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.call_in(false, work).await
    }

    /// As [`call`](Self::call), in a transaction of its own.
    pub(super) async fn call_alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.call_in(true, work).await
    }

    async fn call_in<T: Send + 'static>(
        &self,
        alone: bool,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let (answer, wait) = oneshot::channel();
        let work: Work = Box::new(move |connection| match connection.and_then(work) {
            // The receiver is gone if the waiting task was aborted; the work is done nevertheless.
            Ok(value) => Some(Box::new(move |committed: Result<(), SpoolError>| {
                let _ = answer.send(committed.map(|()| value));
            })),
            Err(error) => {
                let _ = answer.send(Err(error));
                None
            }
        });
        self.jobs.send(SpoolJob { work, urgent: true, alone }).map_err(|_| SpoolError::Closed)?;
        wait.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Whether a job without a waiting caller has failed since the last call.
    pub(super) fn has_failed(&self) -> bool {
        self.failing.swap(false, Relaxed)
    }

    /// Makes [`SpoolThread::has_failed`] return true.
    pub(super) fn note_failure(&self) {
        self.failing.store(true, Relaxed);
    }

    /// Does the work soon, without waiting; [`SpoolThread::has_failed`] tells if it fails.
    pub(super) fn send(&self, work: impl FnOnce(&Connection) -> Result<(), SpoolError> + Send + 'static) {
        let failing = Arc::clone(&self.failing);
        let note_failure = move |outcome: Result<(), SpoolError>| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "the state of a tag could not be stored");
                failing.store(true, Relaxed);
            }
        };
        let work: Work = Box::new(move |connection| match connection.and_then(work) {
            Ok(()) => Some(Box::new(note_failure)),
            Err(error) => {
                note_failure(Err(error));
                None
            }
        });
        // After the thread's end the job is dropped.
        let _ = self.jobs.send(SpoolJob { work, urgent: false, alone: false });
    }
}

fn serve(connection: &Connection, jobs: &mpsc::Receiver<SpoolJob>) {
    let mut waiting: Vec<SpoolJob> = Vec::new();
    let mut last_commit = Instant::now();
    loop {
        let first = match jobs.recv_timeout(IDLE) {
            Err(RecvTimeoutError::Disconnected) => return commit_in_order(connection, waiting),
            other => other.ok(),
        };
        waiting.extend(first.into_iter().chain(jobs.try_iter().take(GROUP - 1)));
        let urgent = waiting.iter().any(|job| job.urgent);
        if urgent || waiting.len() >= LAZY || last_commit.elapsed() >= IDLE {
            commit_in_order(connection, std::mem::take(&mut waiting));
            last_commit = Instant::now();
        }
    }
}

/// Does all jobs in order, sharing transactions where possible.
fn commit_in_order(connection: &Connection, jobs: Vec<SpoolJob>) {
    let mut together = Vec::new();
    for job in jobs {
        if job.alone {
            commit(connection, std::mem::take(&mut together));
            commit(connection, vec![job]);
        } else {
            together.push(job);
        }
    }
    commit(connection, together);
}

/// Does all jobs in one transaction; a failing job does not affect the others.
fn commit(connection: &Connection, jobs: Vec<SpoolJob>) {
    if jobs.is_empty() {
        return;
    }
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = SpoolError::from(error);
        return jobs.into_iter().for_each(|job| drop((job.work)(Err(error.clone()))));
    }
    let replies: Vec<Reply> = jobs.into_iter().filter_map(|job| within_savepoint(connection, job)).collect();
    let outcome = match rolled_back(connection) {
        true => Err(SpoolError::Full),
        false => connection.execute_batch("COMMIT").map_err(SpoolError::from),
    };
    if outcome.is_err() && !rolled_back(connection) {
        // If this fails, the next BEGIN fails too and returns the error.
        let _ = connection.execute_batch("ROLLBACK");
    }
    replies.into_iter().for_each(|reply| reply(outcome.clone()));
}

/// Whether SQLite has rolled back the whole transaction by itself, as it may when the disk is full.
fn rolled_back(connection: &Connection) -> bool {
    connection.is_autocommit()
}

fn within_savepoint(connection: &Connection, job: SpoolJob) -> Option<Reply> {
    let begun = match rolled_back(connection) {
        true => Err(SpoolError::Full),
        false => execute(connection, "SAVEPOINT job").map_err(SpoolError::from),
    };
    if let Err(error) = begun {
        return (job.work)(Err(error));
    }
    let reply = (job.work)(Ok(connection));
    let end = if reply.is_some() { &["RELEASE job"][..] } else { &["ROLLBACK TO job", "RELEASE job"] };
    // Fails only when the whole transaction is gone, which `commit` sees.
    let _ = end.iter().try_for_each(|statement| execute(connection, statement));
    reply
}

/// Executes a statement that is needed for every job, and so is kept prepared.
fn execute(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}
