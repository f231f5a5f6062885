//! Schedules the polls of one registry, with limited concurrency.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use taglog_proto::{name::Tag, time::Timestamp};
use tokio::{
    sync::mpsc,
    task::{self, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    WatchedRepository,
    limiter::concerns_registry,
    queue::{JobState, PollJob, PollQueue},
    resolver::{PollOutcome, TagResolver},
};
use crate::{config::Interval, progress::FirstPolls, push::PollRequest};
use taglog_oci_registry::RegistryError;

/// The most tags in a repository's list; a longer list is an error.
const MOST_TAGS: usize = 200_000;
/// The first wait after a failure, doubled each time up to the tag's own interval.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Attempts for a failing job with `--once`.
const ATTEMPTS: u32 = 3;
/// The longest `Retry-After` that is awaited with `--once`.
const PATIENCE: Duration = Duration::from_secs(60);
/// The times of further polls after a push: some registries (Distribution) send the notification before the tag has moved,
/// or answer from caches for a while.
const POLLS_AFTER_REQUEST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Random variation of intervals, as a fraction, so that polls are spread over time.
const JITTER: f64 = 0.1;

/// The end of the message about a job that panicked.
const PANICKED: &str = "ended unexpectedly: this is a fault of taglog, please report it with the log of the agent";

enum JobResult {
    /// The list and when it was requested.
    Listed(Result<Vec<Tag>, RegistryError>, Instant),
    Polled(PollOutcome),
    Panicked,
}

/// When a job is to be done again.
enum Reschedule {
    Settled { changed: bool },
    After(Duration),
    Failed { whole_registry: bool, why: String },
    Deferred(Duration, String),
}

/// The repositories of one registry, and the jobs for them.
pub struct RegistryScheduler {
    resolver: Arc<TagResolver>,
    repositories: Vec<Arc<WatchedRepository>>,
    by_path: HashMap<String, u32>,
    poll_requests: mpsc::Receiver<PollRequest>,
    queue: PollQueue,
    /// The job of each task, since a panicked task returns nothing.
    tasks: HashMap<task::Id, PollJob>,
    concurrency: usize,
    /// Whether a push source is configured for this registry.
    has_pushes: bool,
    /// Whether every job is done once (`--once`).
    once: bool,
    progress: FirstPolls,
    /// Failures to report with `--once`.
    failures: Vec<String>,
}

impl RegistryScheduler {
    pub fn new(
        resolver: Arc<TagResolver>,
        repositories: Vec<Arc<WatchedRepository>>,
        poll_requests: mpsc::Receiver<PollRequest>,
        concurrency: usize,
        has_pushes: bool,
        once: bool,
        progress: FirstPolls,
    ) -> RegistryScheduler {
        let path = |(watched, number): (&Arc<WatchedRepository>, u32)| (watched.repository().path().to_owned(), number);
        let by_path = repositories.iter().zip(0..).map(path).collect();
        let (queue, tasks, failures) = (PollQueue::default(), HashMap::new(), Vec::new());
        RegistryScheduler {
            resolver,
            repositories,
            by_path,
            poll_requests,
            queue,
            tasks,
            concurrency,
            has_pushes,
            once,
            progress,
            failures,
        }
    }

    fn watched(&self, number: u32) -> Arc<WatchedRepository> {
        Arc::clone(&self.repositories[number as usize])
    }

    /// Runs jobs until `stop` is cancelled or, with `--once`, until every job is done; then waits for running jobs.
    /// Returns the failures with `--once`.
    pub async fn run(mut self, stop: CancellationToken) -> Vec<String> {
        self.fill();
        let mut under_way: JoinSet<JobResult> = JoinSet::new();
        loop {
            self.start_due(&mut under_way);
            if self.once && under_way.is_empty() && (self.queue.is_empty() || self.is_paused_for_long()) {
                break;
            }
            let wake = self.next_start().filter(|_| under_way.len() < self.concurrency);
            tokio::select! {
                Some(done) = under_way.join_next_with_id(), if !under_way.is_empty() => self.finish(done),
                Some(poll_request) = self.poll_requests.recv() => self.handle_poll_request(poll_request),
                () = sleep_until(wake) => {}
                () = stop.cancelled() => break,
            }
        }
        while let Some(done) = under_way.join_next_with_id().await {
            self.finish(done);
        }
        self.failures
    }

    /// Queues the jobs of all repositories; tags that were polled recently wait for the rest of their interval.
    fn fill(&mut self) {
        for number in (0..).take(self.repositories.len()) {
            if self.watched(number).watch.selection.needs_list() {
                self.queue.ask(PollJob::List(number), Instant::now());
            }
            self.queue_tags(number);
        }
    }

    /// Queues the watched tags of a repository that are not queued yet; drops those that are no longer watched.
    fn queue_tags(&mut self, number: u32) {
        let watched = self.watched(number);
        let tags = watched.watched_tags();
        self.queue.retain(|job| match job {
            // The tags are sorted.
            PollJob::Resolve(other, tag) if *other == number => tags.binary_search(tag).is_ok(),
            _ => true,
        });
        let (now, clock) = (Instant::now(), Timestamp::from_system_time(SystemTime::now()));
        for tag in tags {
            // Pushes during downtime are lost: where pushes are used, all tags are polled at the start.
            let wait =
                if self.once || self.has_pushes { Duration::ZERO } else { remaining_interval(&watched, &tag, clock) };
            let job = PollJob::Resolve(number, tag);
            if !self.queue.knows(&job) {
                self.queue.ask(job, now + wait);
            }
        }
        self.progress.set_tags(&self.resolver.host, self.queue.polls());
    }

    fn next_start(&mut self) -> Option<Instant> {
        let due = self.queue.next_due()?;
        Some(self.resolver.limiter.paused_until().map_or(due, |until| until.max(due)))
    }

    /// With `--once`: whether the registry asks for too long a wait; records it as a failure.
    fn is_paused_for_long(&mut self) -> bool {
        let Some(until) = self.resolver.limiter.paused_until().filter(|until| *until > Instant::now() + PATIENCE)
        else {
            return false;
        };
        let wait = until.saturating_duration_since(Instant::now()).as_secs();
        self.failures.push(format!("{} asks to wait {wait} s before the next request", self.resolver.host));
        true
    }

    fn start_due(&mut self, under_way: &mut JoinSet<JobResult>) {
        while under_way.len() < self.concurrency && self.resolver.limiter.paused_until().is_none() {
            let Some(job) = self.queue.start(Instant::now()) else { return };
            let (resolver, watched) = (Arc::clone(&self.resolver), self.watched(job.repository()));
            let asked = job.clone();
            let task = under_way.spawn(async move {
                match &asked {
                    PollJob::List(_) => {
                        let started = Instant::now();
                        JobResult::Listed(resolver.list(&watched, MOST_TAGS).await, started)
                    }
                    PollJob::Resolve(_, tag) => JobResult::Polled(resolver.poll(&watched, tag).await),
                }
            });
            self.tasks.insert(task.id(), job);
        }
    }

    fn finish(&mut self, done: Result<(task::Id, JobResult), JoinError>) {
        let (id, done) = done.unwrap_or_else(|panicked| (panicked.id(), JobResult::Panicked));
        // Every task was entered when it was started.
        let Some(job) = self.tasks.remove(&id) else { return };
        let watched = self.watched(job.repository());
        let interval = match &job {
            PollJob::List(_) => fixed(watched.watch.list_interval),
            PollJob::Resolve(_, tag) => watched.interval(tag, self.resolver.reporter.confirm),
        };
        let next = match done {
            JobResult::Listed(outcome, started) => self.listed(&job, &watched, outcome, started),
            JobResult::Polled(ended) => polled(ended),
            JobResult::Panicked => self.panicked(&job, &watched),
        };
        let Some(slot) = self.queue.finish(&job) else { return };
        let is_unlisted = match &job {
            // A tag that only a push or an old list has named is not polled forever.
            PollJob::Resolve(_, tag) => {
                matches!(next, Reschedule::Settled { .. }) && slot.requested_polls == 0 && watched.forget_unlisted(tag)
            }
            PollJob::List(_) => false,
        };
        if matches!(job, PollJob::Resolve(..)) && !std::mem::replace(&mut slot.done, true) {
            self.progress.polled();
        }
        let wait = match self.once {
            true => retry_in_single_pass(slot, next, &mut self.failures),
            false => Some(next_time(slot, next, interval)),
        };
        if is_unlisted {
            self.queue.forget(&job);
        } else if let Some(wait) = wait {
            self.queue.ask(job, Instant::now() + wait);
        }
    }

    fn listed(
        &mut self,
        job: &PollJob,
        watched: &WatchedRepository,
        outcome: Result<Vec<Tag>, RegistryError>,
        started: Instant,
    ) -> Reschedule {
        let spool = self.resolver.reporter.spool.clone();
        match outcome {
            Ok(tags) => {
                let back = watched.apply_list(&tags);
                spool.remember_list(watched.repository().clone(), None);
                self.queue_tags(job.repository());
                for tag in back {
                    self.queue.ask(PollJob::Resolve(job.repository(), tag), Instant::now());
                }
                Reschedule::Settled { changed: false }
            }
            Err(error) => {
                self.resolver.limiter.record_failure(&error, started);
                tracing::warn!(repository = %watched.repository(), "its tags cannot be listed: {error}");
                spool.remember_list(watched.repository().clone(), Some(error.to_string()));
                failed(&error)
            }
        }
    }

    /// Records the panic of a job; the job is retried like any failed one.
    fn panicked(&self, job: &PollJob, watched: &WatchedRepository) -> Reschedule {
        let why = match job {
            PollJob::List(_) => format!("the list of {}'s tags {PANICKED}", watched.repository()),
            PollJob::Resolve(_, tag) => format!("the poll of {} {PANICKED}", watched.image(tag)),
        };
        let spool = &self.resolver.reporter.spool;
        match job {
            PollJob::List(_) => spool.remember_list(watched.repository().clone(), Some(why.clone())),
            PollJob::Resolve(_, tag) => spool.remember(watched.image(tag), watched.state(tag), Some(why.clone())),
        }
        tracing::error!("{why}");
        Reschedule::Failed { whole_registry: false, why }
    }

    /// Polls the requested tags now, if they are watched or covered by the selection.
    fn handle_poll_request(&mut self, poll_request: PollRequest) {
        let Some(number) = self.by_path.get(poll_request.repository.path()).copied() else { return };
        let watched = self.watched(number);
        let tags = match poll_request.tag {
            Some(tag) if watched.watch.selection.covers(&tag) => {
                watched.watch_tags(vec![tag.clone()]);
                vec![tag]
            }
            Some(_) => Vec::new(),
            None => watched.watched_tags(),
        };
        for tag in tags {
            self.queue.request_poll(PollJob::Resolve(number, tag), POLLS_AFTER_REQUEST.len());
        }
    }
}

fn fixed(interval: Duration) -> Interval {
    Interval { min: interval, max: interval }
}

fn failed(error: &RegistryError) -> Reschedule {
    Reschedule::Failed { whole_registry: concerns_registry(error), why: error.to_string() }
}

fn polled(ended: PollOutcome) -> Reschedule {
    match ended {
        PollOutcome::Settled { reported } => Reschedule::Settled { changed: reported },
        PollOutcome::PollAgain(wait) => Reschedule::After(wait),
        PollOutcome::Failed(error) => failed(&error),
        PollOutcome::Deferred(wait, why) => Reschedule::Deferred(wait, why),
    }
}

/// The wait until a job is done again.
fn next_time(slot: &mut JobState, next: Reschedule, interval: Interval) -> Duration {
    let settled = matches!(next, Reschedule::Settled { .. });
    slot.failures = if settled { 0 } else { slot.failures };
    match next {
        Reschedule::Settled { .. } if slot.requested_polls > 0 => {
            slot.requested_polls -= 1;
            POLLS_AFTER_REQUEST[POLLS_AFTER_REQUEST.len() - 1 - slot.requested_polls]
        }
        Reschedule::Settled { changed } => {
            let unchanged = slot.interval.map_or(interval.min, |last| last + last / 2);
            let wait = if changed { interval.min } else { unchanged }.clamp(interval.min, interval.max);
            slot.interval = Some(wait);
            wait.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
        }
        Reschedule::After(wait) => wait,
        Reschedule::Failed { .. } => {
            slot.failures = slot.failures.saturating_add(1);
            let doubled = 1_u32.checked_shl(slot.failures - 1).unwrap_or(u32::MAX);
            FIRST_RETRY.saturating_mul(doubled).min(interval.max)
        }
        Reschedule::Deferred(wait, _) => wait.min(interval.max),
    }
}

/// With `--once`: the wait before another attempt; `None` when the job is done, or given up as a failure.
fn retry_in_single_pass(slot: &mut JobState, next: Reschedule, failures: &mut Vec<String>) -> Option<Duration> {
    match next {
        Reschedule::Settled { .. } => None,
        // Longer waits are left to the next run.
        Reschedule::After(wait) => Some(wait).filter(|wait| *wait < FIRST_RETRY),
        Reschedule::Failed { whole_registry: true, .. } if slot.failures + 1 < ATTEMPTS => {
            slot.failures += 1;
            Some(Duration::from_secs(1))
        }
        Reschedule::Failed { why, .. } | Reschedule::Deferred(_, why) => {
            failures.push(why);
            None
        }
    }
}

/// What is left of a tag's interval since its last poll.
fn remaining_interval(watched: &WatchedRepository, tag: &Tag, now: Timestamp) -> Duration {
    let state = watched.state(tag);
    let Some(polled) = state.polled.filter(|_| state.missing == 0 && !state.report_again) else {
        return Duration::ZERO;
    };
    // A poll in the future was dated by a clock that was set back since.
    let age = u64::try_from(now.unix() - polled.unix()).unwrap_or(u64::MAX);
    watched.watch.interval.min.saturating_sub(Duration::from_secs(age))
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::{name::Repository, note::SigningKey};

    use taglog_base::progress::Silent;

    use super::*;
    use crate::{
        alarm::Alarms,
        clock::Clock,
        config::{GoneRule, RegistryConfig, RepositoryWatch},
        spool::Spool,
        watch::{limiter::RequestLimiter, resolver::Reporter},
    };
    use taglog_oci_registry::{Registry, RegistryOptions};
    use taglog_tag_selection::{Pattern, Selection};

    const MINUTE: Duration = Duration::from_secs(60);
    const ADAPTIVE: Interval = Interval { min: MINUTE, max: Duration::from_secs(240) };

    fn settled(changed: bool) -> Reschedule {
        Reschedule::Settled { changed }
    }

    fn failure(whole_registry: bool) -> Reschedule {
        Reschedule::Failed { whole_registry, why: "broken".to_owned() }
    }

    /// Whether a wait is this many seconds, give or take a tenth.
    fn about(wait: Duration, seconds: f64) -> bool {
        (0.9 * seconds..=1.1 * seconds).contains(&wait.as_secs_f64())
    }

    #[test]
    fn intervals_grow_while_nothing_changes() {
        let mut slot = JobState::default();
        let waits: Vec<Duration> = [false, false, false, false, false, true, false]
            .map(|changed| next_time(&mut slot, settled(changed), ADAPTIVE))
            .into();
        for (wait, seconds) in waits.iter().zip([60.0, 90.0, 135.0, 202.5, 240.0, 60.0, 90.0]) {
            assert!(about(*wait, seconds), "{waits:?}");
        }
        let mut slot = JobState::default();
        for _ in 0..3 {
            assert!(about(next_time(&mut slot, settled(false), fixed(MINUTE)), 60.0), "one that is fixed stays so");
        }
        let scattered: std::collections::HashSet<Duration> =
            (0..20).map(|_| next_time(&mut slot, settled(false), fixed(MINUTE))).collect();
        assert!(scattered.len() > 1, "not everything at once");
    }

    #[test]
    fn the_wait_after_failures_doubles_up_to_the_poll_interval() {
        let mut slot = JobState::default();
        let waits: Vec<u64> = (0..5).map(|_| next_time(&mut slot, failure(false), ADAPTIVE).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80]);
        slot.failures = 1000;
        assert_eq!(next_time(&mut slot, failure(true), ADAPTIVE), ADAPTIVE.max);
        next_time(&mut slot, settled(false), ADAPTIVE);
        assert_eq!(next_time(&mut slot, failure(false), ADAPTIVE).as_secs(), 5, "the wait is reset by a success");
    }

    /// A scheduler with one tag of a registry that does not answer.
    fn scheduler(once: bool) -> (RegistryScheduler, PollJob, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let key = Arc::new(SigningKey::from_seed("w.example/a", &[1; 32]).unwrap());
        let (spool, _guard, opened) = Spool::open(home.path(), key.verifier_key(), &[], 64 << 20).unwrap();
        let reporter = Reporter {
            alarms: Alarms::new(spool.clone(), &opened.alarms),
            key,
            spool,
            clock: Clock::start(),
            gone: GoneRule { polls: 3, interval: MINUTE },
            confirm: 1440 * MINUTE,
            recorded: tokio::sync::watch::Sender::new(0),
        };
        let registry = Registry::new(RegistryOptions::default()).unwrap();
        let (host, limiter) = ("127.0.0.1:1".to_owned(), RequestLimiter::new(RegistryConfig::default()));
        let resolver = Arc::new(TagResolver::new(host, registry.clone(), registry, limiter, reporter));
        let watch = RepositoryWatch {
            repository: Repository::parse("127.0.0.1:1/team/app").unwrap(),
            selection: Selection { include: vec![Pattern::parse("1.0").unwrap()], exclude: Vec::new(), newest: None },
            interval: fixed(60 * MINUTE),
            list_interval: 60 * MINUTE,
            private: false,
        };
        let watched = Arc::new(WatchedRepository::new(watch, Vec::new(), None, true));
        let poll_requests = mpsc::channel(1).1;
        let scheduler = RegistryScheduler::new(
            resolver,
            vec![watched],
            poll_requests,
            1,
            false,
            once,
            FirstPolls::new(Silent::shared()),
        );
        (scheduler, PollJob::Resolve(0, Tag::parse("1.0").unwrap()), home)
    }

    #[tokio::test]
    async fn a_panicked_job_is_retried_after_a_while() {
        for once in [false, true] {
            let (mut scheduler, job, _home) = scheduler(once);
            scheduler.fill();
            let mut spawned: JoinSet<JobResult> = JoinSet::new();
            assert_eq!(scheduler.queue.start(Instant::now()), Some(job.clone()));
            let task = spawned.spawn(async { panic!("broken") });
            scheduler.tasks.insert(task.id(), job);
            let panicked = spawned.join_next_with_id().await.unwrap();
            assert!(panicked.is_err());
            scheduler.finish(panicked);
            let next = scheduler.queue.next_due().map(|due| (due - Instant::now()).as_secs_f64().ceil());
            assert_eq!(next, (!once).then_some(5.0), "after a wait");
            let named = scheduler.failures.iter().any(|why| why.contains("team/app:1.0"));
            assert_eq!(named, once, "{:?}", scheduler.failures);
        }
    }

    #[test]
    fn with_once_a_job_is_given_up_after_a_few_attempts() {
        let mut failures = Vec::new();
        let mut slot = JobState::default();
        let waits: Vec<bool> =
            (0..ATTEMPTS).map(|_| retry_in_single_pass(&mut slot, failure(true), &mut failures).is_some()).collect();
        assert_eq!((waits, failures.len()), (vec![true, true, false], 1));
        assert_eq!(
            retry_in_single_pass(&mut JobState::default(), failure(false), &mut failures),
            None,
            "asking again changes nothing"
        );
        let second = Duration::from_secs(1);
        assert_eq!(retry_in_single_pass(&mut slot, Reschedule::After(second), &mut failures), Some(second));
        assert_eq!(retry_in_single_pass(&mut slot, Reschedule::After(MINUTE), &mut failures), None);
        assert_eq!(retry_in_single_pass(&mut slot, settled(true), &mut failures), None);
        assert_eq!(failures.len(), 2);
    }
}
