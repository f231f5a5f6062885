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

use super::SpoolError;

/// The most jobs that share one commit.
const GROUP: usize = 256;
/// How long what need not be durable at once waits for a commit to join.
const IDLE: Duration = Duration::from_secs(1);
/// How many of those wait at most.
const LAZY: usize = 4096;

/// Tells whoever waits how it went, once the commit has.
type Reply = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;
/// Reads and writes within the transaction of its group, or hears why there is none. Without a reply, it has
/// failed and said so.
type Work = Box<dyn FnOnce(Result<&Connection, SpoolError>) -> Option<Reply> + Send>;

struct Job {
    work: Work,
    /// Whether somebody waits for the commit.
    urgent: bool,
    /// Whether it has a transaction of its own: SQLite may undo a whole transaction for one job that finds no room.
    alone: bool,
}

/// Sends work to the thread. The thread ends once the last of these is dropped and all work is done.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    jobs: mpsc::Sender<Job>,
    /// Whether something could not be done that nobody waits for.
    failing: Arc<AtomicBool>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("urgent", &self.urgent).finish_non_exhaustive()
    }
}

impl Thread {
    pub(super) fn start(connection: Connection) -> std::io::Result<(Thread, JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel();
        let handle =
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || serve(&connection, &receiver))?;
        Ok((Thread { jobs, failing: Arc::default() }, handle))
    }

    /// Does the work and waits until what it wrote is on disk.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.call_in(false, work).await
    }

    /// The same, in a transaction that no other job can spoil.
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
            // Nobody listens any more when the waiting task was given up; the work is done all the same.
            Ok(value) => Some(Box::new(move |committed: Result<(), SpoolError>| {
                let _ = answer.send(committed.map(|()| value));
            })),
            Err(error) => {
                let _ = answer.send(Err(error));
                None
            }
        });
        self.jobs.send(Job { work, urgent: true, alone }).map_err(|_| SpoolError::Closed)?;
        wait.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Whether something that nobody waits for could not be done, since this was last asked.
    pub(super) fn has_failed(&self) -> bool {
        self.failing.swap(false, Relaxed)
    }

    /// Lets [`Thread::has_failed`] know of a failure.
    pub(super) fn note_failure(&self) {
        self.failing.store(true, Relaxed);
    }

    /// Does the work soon; if it fails, [`Thread::has_failed`] knows.
    pub(super) fn send(&self, work: impl FnOnce(&Connection) -> Result<(), SpoolError> + Send + 'static) {
        let failing = Arc::clone(&self.failing);
        let complain = move |outcome: Result<(), SpoolError>| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "could not remember what was looked at");
                failing.store(true, Relaxed);
            }
        };
        let work: Work = Box::new(move |connection| match connection.and_then(work) {
            Ok(()) => Some(Box::new(complain)),
            Err(error) => {
                complain(Err(error));
                None
            }
        });
        // After the thread's end there is nothing to remember it in.
        let _ = self.jobs.send(Job { work, urgent: false, alone: false });
    }
}

fn serve(connection: &Connection, jobs: &mpsc::Receiver<Job>) {
    let mut waiting: Vec<Job> = Vec::new();
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

/// Does all jobs in their order, together as far as they may be.
fn commit_in_order(connection: &Connection, jobs: Vec<Job>) {
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

/// Does all jobs in one transaction; one that fails takes no other along.
fn commit(connection: &Connection, jobs: Vec<Job>) {
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
        // If even this fails, the next BEGIN does too, and says so.
        let _ = connection.execute_batch("ROLLBACK");
    }
    replies.into_iter().for_each(|reply| reply(outcome.clone()));
}

/// Whether SQLite has rolled back the whole transaction by itself, as it may when the disk is full.
fn rolled_back(connection: &Connection) -> bool {
    connection.is_autocommit()
}

fn within_savepoint(connection: &Connection, job: Job) -> Option<Reply> {
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
