//! One registry: when to ask it for what, at most so much at once.

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
    Watched,
    look::{Ended, Looker},
    pace::concerns_registry,
    queue::{Job, Queue, Slot},
};
use crate::{config::Interval, progress::FirstLooks, push::Hint};
use taglog_oci_registry::RegistryError;

/// The most tags that a repository's list may have; a longer one is not used at all.
const MOST_TAGS: usize = 200_000;
/// The first wait after a failure, doubled each time up to the tag's own interval.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// How often something that fails is asked in a single pass.
const ATTEMPTS: u32 = 3;
/// How long a single pass waits for a registry that asks to wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// When to look again after a push: registries tell of it before their tag has moved (Distribution does), and answer
/// from caches for a while.
const AFTER_HINT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// By how much times are scattered, as a part of the interval, so that not everything is asked at once.
const JITTER: f64 = 0.1;

/// What is said of a job that panicked.
const DIED: &str = "ended unexpectedly: this is a fault of taglog, please report it with the log of the agent";

/// How a job ended.
enum Done {
    /// With when it was begun.
    Listed(Result<Vec<Tag>, RegistryError>, Instant),
    Looked(Ended),
    /// By a fault of this program, which has said so.
    Died,
}

/// What follows from it.
enum Next {
    Settled { changed: bool },
    After(Duration),
    Failed { whole_registry: bool, why: String },
    HeldUp(Duration, String),
}

/// One registry's repositories, and what is to be asked about them.
pub struct Lane {
    looker: Arc<Looker>,
    repositories: Vec<Arc<Watched>>,
    by_path: HashMap<String, u32>,
    hints: mpsc::Receiver<Hint>,
    queue: Queue,
    /// What each task is about: one that dies cannot say so.
    tasks: HashMap<task::Id, Job>,
    concurrency: usize,
    /// Whether pushes tell of changes in this registry.
    told: bool,
    /// Whether everything is asked once and no more.
    once: bool,
    progress: FirstLooks,
    /// What a single pass could not find out.
    failures: Vec<String>,
}

impl Lane {
    /// A lane for the repositories of one registry.
    pub fn new(
        looker: Arc<Looker>,
        repositories: Vec<Arc<Watched>>,
        hints: mpsc::Receiver<Hint>,
        concurrency: usize,
        told: bool,
        once: bool,
        progress: FirstLooks,
    ) -> Lane {
        let path = |(watched, number): (&Arc<Watched>, u32)| (watched.repository().path().to_owned(), number);
        let by_path = repositories.iter().zip(0..).map(path).collect();
        let (queue, tasks, failures) = (Queue::default(), HashMap::new(), Vec::new());
        Lane { looker, repositories, by_path, hints, queue, tasks, concurrency, told, once, progress, failures }
    }

    fn watched(&self, number: u32) -> Arc<Watched> {
        Arc::clone(&self.repositories[number as usize])
    }

    /// Asks until told to stop, or, for a single pass, until everything was asked; what is under way is finished.
    /// Returns what a single pass could not find out.
    pub async fn run(mut self, stop: CancellationToken) -> Vec<String> {
        self.fill();
        let mut under_way: JoinSet<Done> = JoinSet::new();
        loop {
            self.start_due(&mut under_way);
            if self.once && under_way.is_empty() && (self.queue.is_empty() || self.is_paused_for_long()) {
                break;
            }
            let wake = self.next_start().filter(|_| under_way.len() < self.concurrency);
            tokio::select! {
                Some(done) = under_way.join_next_with_id(), if !under_way.is_empty() => self.finish(done),
                Some(hint) = self.hints.recv() => self.take_hint(hint),
                () = sleep_until(wake) => {}
                () = stop.cancelled() => break,
            }
        }
        while let Some(done) = under_way.join_next_with_id().await {
            self.finish(done);
        }
        self.failures
    }

    /// Everything that is to be asked, when it was not asked lately.
    fn fill(&mut self) {
        for number in (0..).take(self.repositories.len()) {
            if self.watched(number).watch.selection.needs_list() {
                self.queue.ask(Job::List(number), Instant::now());
            }
            self.ask_for_tags(number);
        }
    }

    /// Looks at all watched tags of a repository that are new to the queue; forgets those that are not watched.
    fn ask_for_tags(&mut self, number: u32) {
        let watched = self.watched(number);
        let tags = watched.watched_tags();
        self.queue.retain(|job| match job {
            // The tags are in order.
            Job::Look(other, tag) if *other == number => tags.binary_search(tag).is_ok(),
            _ => true,
        });
        let (now, clock) = (Instant::now(), Timestamp::from_system_time(SystemTime::now()));
        for tag in tags {
            // Pushes that came while nobody listened are lost: where they are relied on, a start looks at everything.
            let wait = if self.once || self.told { Duration::ZERO } else { rest(&watched, &tag, clock) };
            let job = Job::Look(number, tag);
            if !self.queue.knows(&job) {
                self.queue.ask(job, now + wait);
            }
        }
        self.progress.set_tags(&self.looker.host, self.queue.looks());
    }

    fn next_start(&mut self) -> Option<Instant> {
        let due = self.queue.next_due()?;
        Some(self.looker.pace.paused_until().map_or(due, |until| until.max(due)))
    }

    /// Whether a single pass must end here, and says so.
    fn is_paused_for_long(&mut self) -> bool {
        let Some(until) = self.looker.pace.paused_until().filter(|until| *until > Instant::now() + PATIENCE) else {
            return false;
        };
        let wait = until.saturating_duration_since(Instant::now()).as_secs();
        self.failures.push(format!("{} asks to wait {wait} s before anything else is asked", self.looker.host));
        true
    }

    fn start_due(&mut self, under_way: &mut JoinSet<Done>) {
        while under_way.len() < self.concurrency && self.looker.pace.paused_until().is_none() {
            let Some(job) = self.queue.start(Instant::now()) else { return };
            let (looker, watched) = (Arc::clone(&self.looker), self.watched(job.repository()));
            let asked = job.clone();
            let task = under_way.spawn(async move {
                match &asked {
                    Job::List(_) => {
                        let started = Instant::now();
                        Done::Listed(looker.list(&watched, MOST_TAGS).await, started)
                    }
                    Job::Look(_, tag) => Done::Looked(looker.look(&watched, tag).await),
                }
            });
            self.tasks.insert(task.id(), job);
        }
    }

    fn finish(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let (id, done) = done.unwrap_or_else(|died| (died.id(), Done::Died));
        // Every task has been entered when it was started.
        let Some(job) = self.tasks.remove(&id) else { return };
        let watched = self.watched(job.repository());
        let interval = match &job {
            Job::List(_) => fixed(watched.watch.list_interval),
            Job::Look(_, tag) => watched.interval(tag, self.looker.reporter.confirm),
        };
        let next = match done {
            Done::Listed(outcome, started) => self.listed(&job, &watched, outcome, started),
            Done::Looked(ended) => looked(ended),
            Done::Died => self.died(&job, &watched),
        };
        let Some(slot) = self.queue.finish(&job) else { return };
        let is_stranger = match &job {
            // What a push or an old list has made up is not looked at for ever.
            Job::Look(_, tag) => {
                matches!(next, Next::Settled { .. }) && slot.hinted == 0 && watched.forget_stranger(tag)
            }
            Job::List(_) => false,
        };
        if matches!(job, Job::Look(..)) && !std::mem::replace(&mut slot.done, true) {
            self.progress.looked();
        }
        let wait = match self.once {
            true => once_more(slot, next, &mut self.failures),
            false => Some(next_time(slot, next, interval)),
        };
        if is_stranger {
            self.queue.forget(&job);
        } else if let Some(wait) = wait {
            self.queue.ask(job, Instant::now() + wait);
        }
    }

    fn listed(
        &mut self,
        job: &Job,
        watched: &Watched,
        outcome: Result<Vec<Tag>, RegistryError>,
        started: Instant,
    ) -> Next {
        let spool = self.looker.reporter.spool.clone();
        match outcome {
            Ok(tags) => {
                let back = watched.take_list(&tags);
                spool.remember_list(watched.repository().clone(), None);
                self.ask_for_tags(job.repository());
                for tag in back {
                    self.queue.ask(Job::Look(job.repository(), tag), Instant::now());
                }
                Next::Settled { changed: false }
            }
            Err(error) => {
                self.looker.pace.failed(&error, started);
                tracing::warn!(repository = %watched.repository(), "its tags cannot be listed: {error}");
                spool.remember_list(watched.repository().clone(), Some(error.to_string()));
                failed(&error)
            }
        }
    }

    /// Remembers that this program is at fault. What it was about is asked again like anything that fails.
    fn died(&self, job: &Job, watched: &Watched) -> Next {
        let why = match job {
            Job::List(_) => format!("the list of {}'s tags {DIED}", watched.repository()),
            Job::Look(_, tag) => format!("the look at {} {DIED}", watched.image(tag)),
        };
        let spool = &self.looker.reporter.spool;
        match job {
            Job::List(_) => spool.remember_list(watched.repository().clone(), Some(why.clone())),
            Job::Look(_, tag) => spool.remember(watched.image(tag), watched.state(tag), Some(why.clone())),
        }
        tracing::error!("{why}");
        Next::Failed { whole_registry: false, why }
    }

    /// Looks now where a hint says so and the tag is watched, or is to be.
    fn take_hint(&mut self, hint: Hint) {
        let Some(number) = self.by_path.get(hint.repository.path()).copied() else { return };
        let watched = self.watched(number);
        let tags = match hint.tag {
            Some(tag) if watched.watch.selection.covers(&tag) => {
                watched.watch_tags(vec![tag.clone()]);
                vec![tag]
            }
            Some(_) => Vec::new(),
            None => watched.watched_tags(),
        };
        for tag in tags {
            self.queue.hint(Job::Look(number, tag), AFTER_HINT.len());
        }
    }
}

fn fixed(interval: Duration) -> Interval {
    Interval { min: interval, max: interval }
}

fn failed(error: &RegistryError) -> Next {
    Next::Failed { whole_registry: concerns_registry(error), why: error.to_string() }
}

fn looked(ended: Ended) -> Next {
    match ended {
        Ended::Settled { reported } => Next::Settled { changed: reported },
        Ended::Again(wait) => Next::After(wait),
        Ended::Failed(error) => failed(&error),
        Ended::HeldUp(wait, why) => Next::HeldUp(wait, why),
    }
}

/// How long until the next time.
fn next_time(slot: &mut Slot, next: Next, interval: Interval) -> Duration {
    let settled = matches!(next, Next::Settled { .. });
    slot.failures = if settled { 0 } else { slot.failures };
    match next {
        Next::Settled { .. } if slot.hinted > 0 => {
            slot.hinted -= 1;
            AFTER_HINT[AFTER_HINT.len() - 1 - slot.hinted]
        }
        Next::Settled { changed } => {
            let unchanged = slot.interval.map_or(interval.min, |last| last + last / 2);
            let wait = if changed { interval.min } else { unchanged }.clamp(interval.min, interval.max);
            slot.interval = Some(wait);
            wait.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
        }
        Next::After(wait) => wait,
        Next::Failed { .. } => {
            slot.failures = slot.failures.saturating_add(1);
            let doubled = 1_u32.checked_shl(slot.failures - 1).unwrap_or(u32::MAX);
            FIRST_RETRY.saturating_mul(doubled).min(interval.max)
        }
        Next::HeldUp(wait, _) => wait.min(interval.max),
    }
}

/// Whether a single pass asks once more, and after how long; what it gives up is a failure.
fn once_more(slot: &mut Slot, next: Next, failures: &mut Vec<String>) -> Option<Duration> {
    match next {
        Next::Settled { .. } => None,
        // Other looks that must be some time apart are for another pass.
        Next::After(wait) => Some(wait).filter(|wait| *wait < FIRST_RETRY),
        Next::Failed { whole_registry: true, .. } if slot.failures + 1 < ATTEMPTS => {
            slot.failures += 1;
            Some(Duration::from_secs(1))
        }
        Next::Failed { why, .. } | Next::HeldUp(_, why) => {
            failures.push(why);
            None
        }
    }
}

/// What is left of a tag's interval since it was last looked at.
fn rest(watched: &Watched, tag: &Tag, now: Timestamp) -> Duration {
    let state = watched.state(tag);
    let Some(looked) = state.looked.filter(|_| state.missing == 0 && !state.again) else { return Duration::ZERO };
    // A look in the future was made by a clock that has been set since.
    let age = u64::try_from(now.unix() - looked.unix()).unwrap_or(u64::MAX);
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
        config::{Gone, RegistryConfig, Watch},
        spool::Spool,
        watch::{look::Reporter, pace::Pace},
    };
    use taglog_oci_registry::{Registry, RegistryOptions};
    use taglog_tag_selection::{Pattern, Selection};

    const MINUTE: Duration = Duration::from_secs(60);
    const ADAPTIVE: Interval = Interval { min: MINUTE, max: Duration::from_secs(240) };

    fn settled(changed: bool) -> Next {
        Next::Settled { changed }
    }

    fn failure(whole_registry: bool) -> Next {
        Next::Failed { whole_registry, why: "broken".to_owned() }
    }

    /// Whether a wait is this many seconds, scattered by a tenth.
    fn about(wait: Duration, seconds: f64) -> bool {
        (0.9 * seconds..=1.1 * seconds).contains(&wait.as_secs_f64())
    }

    #[test]
    fn intervals_grow_while_nothing_changes() {
        let mut slot = Slot::default();
        let waits: Vec<Duration> = [false, false, false, false, false, true, false]
            .map(|changed| next_time(&mut slot, settled(changed), ADAPTIVE))
            .into();
        for (wait, seconds) in waits.iter().zip([60.0, 90.0, 135.0, 202.5, 240.0, 60.0, 90.0]) {
            assert!(about(*wait, seconds), "{waits:?}");
        }
        let mut slot = Slot::default();
        for _ in 0..3 {
            assert!(about(next_time(&mut slot, settled(false), fixed(MINUTE)), 60.0), "one that is fixed stays so");
        }
        let scattered: std::collections::HashSet<Duration> =
            (0..20).map(|_| next_time(&mut slot, settled(false), fixed(MINUTE))).collect();
        assert!(scattered.len() > 1, "not everything at once");
    }

    #[test]
    fn failures_wait_longer_and_longer_but_no_longer_than_a_look() {
        let mut slot = Slot::default();
        let waits: Vec<u64> = (0..5).map(|_| next_time(&mut slot, failure(false), ADAPTIVE).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80]);
        slot.failures = 1000;
        assert_eq!(next_time(&mut slot, failure(true), ADAPTIVE), ADAPTIVE.max);
        next_time(&mut slot, settled(false), ADAPTIVE);
        assert_eq!(next_time(&mut slot, failure(false), ADAPTIVE).as_secs(), 5, "begins anew after an answer");
    }

    /// A lane with one tag of a registry that nobody is at.
    fn lane(once: bool) -> (Lane, Job, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let key = Arc::new(SigningKey::from_seed("w.example/a", &[1; 32]).unwrap());
        let (spool, _guard, opened) = Spool::open(home.path(), key.verifier_key(), &[], 64 << 20).unwrap();
        let reporter = Reporter {
            alarms: Alarms::new(spool.clone(), &opened.alarms),
            key,
            spool,
            clock: Clock::start(),
            gone: Gone { looks: 3, interval: MINUTE },
            confirm: 1440 * MINUTE,
            recorded: tokio::sync::watch::Sender::new(0),
        };
        let registry = Registry::new(RegistryOptions::default()).unwrap();
        let (host, pace) = ("127.0.0.1:1".to_owned(), Pace::new(RegistryConfig::default()));
        let looker = Arc::new(Looker::new(host, registry.clone(), registry, pace, reporter));
        let watch = Watch {
            repository: Repository::parse("127.0.0.1:1/team/app").unwrap(),
            selection: Selection { include: vec![Pattern::parse("1.0").unwrap()], exclude: Vec::new(), newest: None },
            interval: fixed(60 * MINUTE),
            list_interval: 60 * MINUTE,
            private: false,
        };
        let watched = Arc::new(Watched::new(watch, Vec::new(), None, true));
        let hints = mpsc::channel(1).1;
        let lane = Lane::new(looker, vec![watched], hints, 1, false, once, FirstLooks::new(Silent::shared()));
        (lane, Job::Look(0, Tag::parse("1.0").unwrap()), home)
    }

    #[tokio::test]
    async fn what_died_is_asked_again_after_a_while() {
        for once in [false, true] {
            let (mut lane, job, _home) = lane(once);
            lane.fill();
            let mut spawned: JoinSet<Done> = JoinSet::new();
            assert_eq!(lane.queue.start(Instant::now()), Some(job.clone()));
            let task = spawned.spawn(async { panic!("broken") });
            lane.tasks.insert(task.id(), job);
            let died = spawned.join_next_with_id().await.unwrap();
            assert!(died.is_err());
            lane.finish(died);
            let next = lane.queue.next_due().map(|due| (due - Instant::now()).as_secs_f64().ceil());
            assert_eq!(next, (!once).then_some(5.0), "not at once, and not never");
            let named = lane.failures.iter().any(|why| why.contains("team/app:1.0"));
            assert_eq!(named, once, "{:?}", lane.failures);
        }
    }

    #[test]
    fn a_single_pass_gives_up_after_a_few_attempts() {
        let mut failures = Vec::new();
        let mut slot = Slot::default();
        let waits: Vec<bool> =
            (0..ATTEMPTS).map(|_| once_more(&mut slot, failure(true), &mut failures).is_some()).collect();
        assert_eq!((waits, failures.len()), (vec![true, true, false], 1));
        assert_eq!(
            once_more(&mut Slot::default(), failure(false), &mut failures),
            None,
            "asking again changes nothing"
        );
        let second = Duration::from_secs(1);
        assert_eq!(once_more(&mut slot, Next::After(second), &mut failures), Some(second));
        assert_eq!(once_more(&mut slot, Next::After(MINUTE), &mut failures), None);
        assert_eq!(once_more(&mut slot, settled(true), &mut failures), None);
        assert_eq!(failures.len(), 2);
    }
}
