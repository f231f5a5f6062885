//! The submission queue: statements that wait for their batch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use taglog_proto::entry::Statement;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::problem::Problem;
use crate::sequencer::{StatementResult, Submission};

/// The sending side of the queue to the sequencer. The number of waiting entries is bounded.
#[derive(Clone)]
pub struct SubmissionQueue {
    sender: mpsc::Sender<Submission>,
    /// A permit for each entry that may wait.
    capacity: Arc<Semaphore>,
    open: Arc<AtomicBool>,
}

impl SubmissionQueue {
    /// A queue for `capacity` entries, which rejects entries until [`SubmissionQueue::open`] is called.
    pub fn new(sender: mpsc::Sender<Submission>, capacity: usize) -> SubmissionQueue {
        let capacity = Arc::new(Semaphore::new(capacity));
        SubmissionQueue { sender, capacity, open: Arc::new(AtomicBool::new(false)) }
    }

    /// Accepts entries from now on.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Fails before [`SubmissionQueue::open`].
    pub(super) fn check_open(&self) -> Result<(), Problem> {
        if self.open.load(Ordering::Acquire) { Ok(()) } else { Err(Problem::starting()) }
    }

    /// Whether the sequencer has ended.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn reserve(&self, entries: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        Arc::clone(&self.capacity).try_acquire_many_owned(entries).map_err(|_| Problem::overloaded(1))
    }

    /// Queues statements and waits until their batch is committed. The statements are not among the first
    /// `deduplicated_size` entries of the log.
    pub(super) async fn sequence(
        &self,
        statements: Vec<Statement>,
        deduplicated_size: u64,
    ) -> Result<Vec<StatementResult>, Problem> {
        let capacity = self.reserve(statements.len())?;
        let (reply, results) = oneshot::channel();
        let submission = Submission { statements, deduplicated_size, reply, capacity };
        self.sender.send(submission).await.map_err(|_| Problem::stopping())?;
        results.await.map_err(|_| Problem::stopping())
    }
}
