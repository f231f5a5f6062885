//! The queue of polls by due time; each job runs at most once at a time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use taglog_proto::name::Tag;
use tokio::time::Instant;

/// A request to a registry. Repositories are numbered within their scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PollJob {
    /// List the tags.
    List(u32),
    /// Resolve a tag.
    Resolve(u32, Tag),
}

impl PollJob {
    pub(super) fn repository(&self) -> u32 {
        match self {
            PollJob::List(number) | PollJob::Resolve(number, _) => *number,
        }
    }
}

/// The state of a job between runs.
#[derive(Debug, Default)]
pub(super) struct JobState {
    due: Option<Instant>,
    under_way: bool,
    /// Whether it was queued while it was running, so that its result may be outdated.
    asked_again: bool,
    /// Consecutive failures.
    pub(super) failures: u32,
    /// The current interval, where it adapts.
    pub(super) interval: Option<Duration>,
    /// Whether it has been done at least once.
    pub(super) done: bool,
    /// How many more polls follow soon because of a push.
    pub(super) requested_polls: usize,
}

/// Jobs by the time at which they are due.
#[derive(Debug, Default)]
pub(super) struct PollQueue {
    heap: BinaryHeap<Reverse<(Instant, PollJob)>>,
    slots: HashMap<PollJob, JobState>,
}

impl PollQueue {
    /// Makes a job due at a time, unless it is due earlier. A running job becomes due as soon as it has finished.
    pub(super) fn ask(&mut self, job: PollJob, at: Instant) {
        let slot = self.slots.entry(job.clone()).or_default();
        if slot.under_way {
            slot.asked_again = true;
        } else if slot.due.is_none_or(|due| at < due) {
            slot.due = Some(at);
            self.heap.push(Reverse((at, job)));
        }
    }

    /// Makes a job due now, and `more` times soon afterwards.
    pub(super) fn request_poll(&mut self, job: PollJob, more: usize) {
        self.slots.entry(job.clone()).or_default().requested_polls = more;
        self.ask(job, Instant::now());
    }

    pub(super) fn knows(&self, job: &PollJob) -> bool {
        self.slots.contains_key(job)
    }

    /// The number of tags in the queue.
    pub(super) fn polls(&self) -> usize {
        self.slots.keys().filter(|job| matches!(job, PollJob::Resolve(..))).count()
    }

    pub(super) fn forget(&mut self, job: &PollJob) {
        self.slots.remove(job);
    }

    /// Removes the jobs that `keep` rejects, except running ones.
    pub(super) fn retain(&mut self, keep: impl Fn(&PollJob) -> bool) {
        self.slots.retain(|job, slot| slot.under_way || keep(job));
    }

    /// When the next job is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, job))) = self.heap.peek() {
            if self.slots.get(job).is_some_and(|slot| slot.due == Some(*at)) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Starts the next job that is due.
    pub(super) fn start(&mut self, now: Instant) -> Option<PollJob> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, job)) = self.heap.pop()?;
        let slot = self.slots.get_mut(&job)?;
        (slot.due, slot.under_way) = (None, true);
        Some(job)
    }

    /// Marks a running job as finished, and returns its state; `None` if the job was removed. The caller queues it again.
    pub(super) fn finish(&mut self, job: &PollJob) -> Option<&mut JobState> {
        let slot = self.slots.get_mut(job)?;
        slot.under_way = false;
        if std::mem::take(&mut slot.asked_again) {
            let now = Instant::now();
            slot.due = Some(now);
            self.heap.push(Reverse((now, job.clone())));
        }
        Some(slot)
    }

    /// Whether no job is due at any time.
    pub(super) fn is_empty(&mut self) -> bool {
        self.next_due().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(tag: &str) -> PollJob {
        PollJob::Resolve(0, Tag::parse(tag).unwrap())
    }

    #[test]
    fn a_job_runs_once_at_a_time_and_at_its_earliest_due_time() {
        let mut queue = PollQueue::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        queue.ask(poll("a"), later);
        queue.ask(poll("b"), now);
        queue.ask(poll("a"), now);
        queue.ask(poll("a"), later);
        assert_eq!(queue.start(now), Some(poll("a")));
        assert_eq!(queue.start(now), Some(poll("b")));
        assert_eq!(queue.start(later), None, "what has become outdated is not started");
        queue.ask(poll("a"), later);
        assert!(queue.is_empty());
        assert!(queue.finish(&poll("a")).is_some());
        assert_eq!(queue.start(Instant::now()), Some(poll("a")), "asked for while it was under way");
        queue.finish(&poll("b"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_removed_job_is_not_started() {
        let mut queue = PollQueue::default();
        let now = Instant::now();
        queue.ask(poll("a"), now);
        queue.ask(poll("b"), now);
        queue.retain(|job| *job == poll("b"));
        assert!(!queue.knows(&poll("a")));
        assert_eq!(queue.start(now), Some(poll("b")));
        queue.retain(|_| false);
        assert!(queue.finish(&poll("b")).is_some(), "what is under way is finished");
        assert!(queue.is_empty());
    }
}
