//! What is to be done when, each thing at most once at a time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use taglog_proto::name::Tag;
use tokio::time::Instant;

/// One thing to ask a registry. Repositories are numbered within their lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Job {
    /// Which tags there are.
    List(u32),
    /// What a tag points to.
    Look(u32, Tag),
}

impl Job {
    /// The number of the repository it is about.
    pub(super) fn repository(&self) -> u32 {
        match self {
            Job::List(number) | Job::Look(number, _) => *number,
        }
    }
}

/// What is remembered of a job from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Slot {
    due: Option<Instant>,
    under_way: bool,
    /// Whether it was asked for while it was under way: then what it brings may be outdated.
    asked_again: bool,
    /// How often it failed in a row.
    pub(super) failures: u32,
    /// How long until the next time, where that adapts.
    pub(super) interval: Option<Duration>,
    /// Whether it was done before.
    pub(super) done: bool,
    /// How many more times it is to be done soon, because a push said that something changes.
    pub(super) hinted: usize,
}

/// Jobs by the time at which they are due.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, Job)>>,
    slots: HashMap<Job, Slot>,
}

impl Queue {
    /// Makes a job due at a time, or earlier if it is due earlier already. One that is under way is due again as soon
    /// as it is finished.
    pub(super) fn ask(&mut self, job: Job, at: Instant) {
        let slot = self.slots.entry(job.clone()).or_default();
        if slot.under_way {
            slot.asked_again = true;
        } else if slot.due.is_none_or(|due| at < due) {
            slot.due = Some(at);
            self.heap.push(Reverse((at, job)));
        }
    }

    /// Makes a job due now, and `more` times soon afterwards.
    pub(super) fn hint(&mut self, job: Job, more: usize) {
        self.slots.entry(job.clone()).or_default().hinted = more;
        self.ask(job, Instant::now());
    }

    /// Whether a job is known.
    pub(super) fn knows(&self, job: &Job) -> bool {
        self.slots.contains_key(job)
    }

    /// How many tags are looked at.
    pub(super) fn looks(&self) -> usize {
        self.slots.keys().filter(|job| matches!(job, Job::Look(..))).count()
    }

    /// Forgets a job.
    pub(super) fn forget(&mut self, job: &Job) {
        self.slots.remove(job);
    }

    /// Forgets jobs that are not to be done any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&Job) -> bool) {
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

    /// Takes the next job that is due by now.
    pub(super) fn start(&mut self, now: Instant) -> Option<Job> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, job)) = self.heap.pop()?;
        let slot = self.slots.get_mut(&job)?;
        (slot.due, slot.under_way) = (None, true);
        Some(job)
    }

    /// Ends a job that was under way, and gives what is remembered of it; `None` if it is not to be done any more.
    /// Whoever calls this asks for the next time.
    pub(super) fn finish(&mut self, job: &Job) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(job)?;
        slot.under_way = false;
        if std::mem::take(&mut slot.asked_again) {
            let now = Instant::now();
            slot.due = Some(now);
            self.heap.push(Reverse((now, job.clone())));
        }
        Some(slot)
    }

    /// Whether nothing is to be done ever again.
    pub(super) fn is_empty(&mut self) -> bool {
        self.next_due().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(tag: &str) -> Job {
        Job::Look(0, Tag::parse(tag).unwrap())
    }

    #[test]
    fn each_job_once_at_a_time_and_the_earliest_time_counts() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        queue.ask(look("a"), later);
        queue.ask(look("b"), now);
        queue.ask(look("a"), now);
        queue.ask(look("a"), later);
        assert_eq!(queue.start(now), Some(look("a")));
        assert_eq!(queue.start(now), Some(look("b")));
        assert_eq!(queue.start(later), None, "what has become outdated is not started");
        queue.ask(look("a"), later);
        assert!(queue.is_empty());
        assert!(queue.finish(&look("a")).is_some());
        assert_eq!(queue.start(Instant::now()), Some(look("a")), "asked for while it was under way");
        queue.finish(&look("b"));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_forgotten_is_not_started() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.ask(look("a"), now);
        queue.ask(look("b"), now);
        queue.retain(|job| *job == look("b"));
        assert!(!queue.knows(&look("a")));
        assert_eq!(queue.start(now), Some(look("b")));
        queue.retain(|_| false);
        assert!(queue.finish(&look("b")).is_some(), "what is under way is finished");
        assert!(queue.is_empty());
    }
}
