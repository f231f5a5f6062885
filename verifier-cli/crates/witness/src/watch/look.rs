//! One look at a tag: ask, decide, sign, keep.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taglog_proto::{
    entry::{Confirmation, Observation, Seen},
    name::{Digest, Repository, Tag},
    note::SigningKey,
    time::Timestamp,
};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};

use super::{Watched, pace::Pace};
use crate::{
    alarm::{AlarmKind, Alarms},
    clock::Clock,
    config::Gone,
    decision::{Decision, Found, TagState, decide},
    spool::{RawManifest, Spool, SpoolError, Statement},
};
use taglog_oci_registry::{Circumstances, Looked, ManifestReference, Registry, RegistryError};

/// How many digests are remembered as fetched and checked, so that several tags of one image cost one pull.
const CHECKED: usize = 10_000;
/// How long all pages of a list may take.
const LIST_TIME: Duration = Duration::from_secs(600);
/// How far a look may be behind a confirmation that was made meanwhile.
const OVERTAKEN: Duration = Duration::from_secs(60);
/// How soon to look again while the clock is wrong or the spool is full.
const HELD_UP: Duration = Duration::from_secs(30);

/// How a look ended.
#[derive(Debug)]
pub enum Ended {
    /// It is settled; whether a change was reported.
    Settled {
        /// Whether the tag was reported.
        reported: bool,
    },
    /// Look again after this long.
    Again(Duration),
    /// The registry gave no usable answer.
    Failed(RegistryError),
    /// Nothing could be signed or kept, for this reason; look again after a while.
    HeldUp(Duration, String),
}

/// Why a look that was answered could not be brought to an end.
#[derive(Debug, Error)]
enum Obstacle {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("{0}")]
    Clock(String),
    #[error("the clock is {} s behind what was signed already", .0.as_secs())]
    ClockBehind(Duration),
    #[error("the pull budget of the registry is used up for {} s", .0.as_secs())]
    NoPulls(Duration),
    #[error("the observation cannot be signed: {0}")]
    Sign(#[from] taglog_proto::entry::EntryError),
}

/// What looks at one registry share: how it is asked, and where reports go.
#[derive(Debug)]
pub struct Looker {
    /// The registry, as `host[:port]`.
    pub host: String,
    /// Access without credentials.
    pub anonymous: Registry,
    /// Access with the stored credentials, for repositories that may be made public all the same.
    pub logged_in: Registry,
    /// How fast it may be asked.
    pub pace: Pace,
    /// Signs and keeps.
    pub reporter: Reporter,
    checked: Checked,
}

/// Signs what was seen, and keeps it in the spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// The witness's key.
    pub key: std::sync::Arc<SigningKey>,
    /// Where signed entries are kept.
    pub spool: Spool,
    /// What a person must look at.
    pub alarms: Alarms,
    /// What time it is.
    pub clock: Clock,
    /// What must happen before a tag is gone.
    pub gone: Gone,
    /// After how long what is unchanged is said again.
    pub confirm: Duration,
    /// Changes with every entry that is kept.
    pub recorded: watch::Sender<u64>,
}

impl Reporter {
    /// Keeps a signed entry; when this returns, it is on disk. Where there is no room for the manifest, it is kept
    /// without.
    async fn keep(&self, statement: Statement, manifest: Option<RawManifest>) -> Result<(), SpoolError> {
        let has_manifest = manifest.is_some();
        let mut outcome = self.spool.record(statement.clone(), manifest).await;
        if let Err(error) = &outcome {
            self.alarms.raise("spool", AlarmKind::Spool, &error.to_string(), None).await;
            if has_manifest {
                outcome = self.spool.record(statement, None).await;
            }
        }
        outcome?;
        self.recorded.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Confirms a repository if that is due; whether it was.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing is said.
    pub async fn confirm_if_due(&self, watched: &Watched) -> Result<bool, SpoolError> {
        if watched.confirmable(self.confirm).is_none() {
            return Ok(false);
        }
        let _alone = watched.order.write().await;
        let Some(at) = watched.confirmable(self.confirm) else { return Ok(false) };
        // Fails only for a key whose name is no witness's, which is found when the key is read.
        let Ok(entry) = Confirmation::sign(watched.repository().clone(), at, &self.key) else { return Ok(false) };
        self.keep(Statement::Confirmation(entry), None).await?;
        watched.set_confirmed(at);
        tracing::info!(repository = %watched.repository(), "confirmed as of {at}");
        Ok(true)
    }
}

impl Looker {
    /// Looks at one registry this way.
    pub fn new(host: String, anonymous: Registry, logged_in: Registry, pace: Pace, reporter: Reporter) -> Looker {
        Looker { host, anonymous, logged_in, pace, reporter, checked: Checked::default() }
    }

    fn registry(&self, watched: &Watched) -> &Registry {
        if watched.watch.private { &self.logged_in } else { &self.anonymous }
    }

    /// The registry's list of a repository's tags, at most `most`.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn list(&self, watched: &Watched, most: usize) -> Result<Vec<Tag>, RegistryError> {
        let listed = self.registry(watched).tags_in_turn(watched.repository(), most, self.pace.limiter());
        let list = tokio::time::timeout(LIST_TIME, listed).await.map_err(|_| RegistryError::Timeout {
            target: watched.repository().to_string(),
            registry: self.host.clone(),
            after: LIST_TIME,
        })??;
        if list.malformed > 0 {
            tracing::warn!(repository = %watched.repository(), malformed = list.malformed, "listed tags that are none");
        }
        Ok(list.tags)
    }

    /// Looks at a tag, and reports what is to be reported.
    pub async fn look(&self, watched: &Watched, tag: &Tag) -> Ended {
        let started = Instant::now();
        let (found, ended) = match self.ask(watched, tag, &watched.state(tag)).await {
            Ok((found, circumstances)) => {
                self.pace.answered(&circumstances);
                (Some(found), self.judge(watched, tag, found, &circumstances).await)
            }
            Err(error) => (None, Err(Obstacle::Registry(error))),
        };
        let ended = ended.unwrap_or_else(ended_by);
        if let Ended::Failed(error) = &ended {
            self.pace.failed(error, started);
            // What is to be missing several times in a row has not been in a row.
            watched.set_state(tag, TagState { missing: 0, missing_at: None, ..watched.state(tag) });
        }
        self.remember(watched, tag, found, &ended);
        ended
    }

    fn not_found(&self, watched: &Watched, tag: &Tag) -> RegistryError {
        RegistryError::NotFound { target: watched.image(tag).to_string(), registry: self.host.clone() }
    }

    /// What the tag points to. Nothing at all is an answer too.
    async fn ask(
        &self,
        watched: &Watched,
        tag: &Tag,
        state: &TagState,
    ) -> Result<(Found, Circumstances), RegistryError> {
        let known = state.reported.and_then(|reported| match reported.seen {
            Seen::Digest(digest) => Some(digest),
            Seen::Gone => None,
        });
        self.pace.ready().await;
        match self.registry(watched).look(&watched.image(tag), known.as_ref()).await {
            Ok((Looked::Digest(digest), circumstances)) => Ok((Found::Digest(digest), circumstances)),
            Ok((Looked::Unchanged, circumstances)) => match known {
                Some(digest) => Ok((Found::Digest(digest), circumstances)),
                None => Err(self.not_found(watched, tag)),
            },
            Err(RegistryError::NotFound { .. }) => Ok((Found::Nothing, Circumstances::default())),
            Err(error) => Err(error),
        }
    }

    /// Decides what the look leads to, and does it.
    async fn judge(
        &self,
        watched: &Watched,
        tag: &Tag,
        found: Found,
        circumstances: &Circumstances,
    ) -> Result<Ended, Obstacle> {
        let at = self.date(circumstances).await?;
        let support = match self.decide(watched, tag, found, at) {
            Decision::Report(seen) => self.support(watched, tag, seen).await?,
            _ => Support::default(),
        };
        // From the decision to the commit nothing else is said about the repository as a whole.
        let _shared = watched.order.read().await;
        let state = watched.state(tag);
        let decision = self.decide(watched, tag, found, at);
        let ended = match decision {
            Decision::Report(seen) => self.report(watched, tag, &state, seen, at, support).await?,
            Decision::Nothing => Ended::Settled { reported: false },
            Decision::LookAgain(after) => Ended::Again(after),
            Decision::ClockWentBack(by) => return Err(self.clock_went_back(by).await),
        };
        if circumstances.date.is_some() {
            self.reporter.alarms.clear(&self.host, AlarmKind::Clock).await;
        }
        watched.set_state(tag, state.after(found, at, decision, self.reporter.gone));
        Ok(ended)
    }

    fn decide(&self, watched: &Watched, tag: &Tag, found: Found, at: Timestamp) -> Decision {
        let freshness = watched.freshness(self.reporter.confirm);
        decide(&watched.state(tag), found, at, self.reporter.gone, &freshness)
    }

    async fn date(&self, circumstances: &Circumstances) -> Result<Timestamp, Obstacle> {
        match self.reporter.clock.date(circumstances.date) {
            Ok(at) => Ok(at),
            Err(error) => {
                self.reporter.alarms.raise(&self.host, AlarmKind::Clock, &error.to_string(), None).await;
                Err(Obstacle::Clock(error.to_string()))
            }
        }
    }

    async fn clock_went_back(&self, by: Duration) -> Obstacle {
        let obstacle = Obstacle::ClockBehind(by);
        // A look that was overtaken by a confirmation is a moment behind; that is no fault of the clock.
        if by > OVERTAKEN {
            let message = format!("{obstacle}: nothing is signed until it has caught up");
            self.reporter.alarms.raise(&self.host, AlarmKind::Clock, &message, None).await;
        }
        obstacle
    }

    /// Asks for what a report needs besides the look itself.
    async fn support(&self, watched: &Watched, tag: &Tag, seen: Seen) -> Result<Support, Obstacle> {
        let state = watched.state(tag);
        let is_new = state.reported.is_none_or(|reported| reported.seen != seen);
        match seen {
            Seen::Digest(digest) if is_new || state.again => self.checked_manifest(watched, digest).await,
            Seen::Digest(_) => Ok(Support::default()),
            Seen::Gone => {
                self.check_health(watched).await?;
                Ok(Support::default())
            }
        }
    }

    /// Signs and keeps what was seen.
    async fn report(
        &self,
        watched: &Watched,
        tag: &Tag,
        state: &TagState,
        seen: Seen,
        at: Timestamp,
        support: Support,
    ) -> Result<Ended, Obstacle> {
        let is_new = state.reported.is_none_or(|reported| reported.seen != seen);
        let observation = Observation::sign(watched.image(tag), seen, at, &self.reporter.key)?;
        self.reporter.keep(Statement::Observation(observation), support.manifest).await?;
        // Not before it is on disk: the next tag of the same image relies on it.
        if let Some(digest) = support.fetched {
            self.checked.add(watched.repository(), digest);
        }
        let kind = match seen {
            _ if !is_new => "again",
            Seen::Gone => "gone",
            Seen::Digest(_) => "digest",
        };
        metrics::counter!("taglog_witness_reports_total", "registry" => self.host.clone(), "kind" => kind).increment(1);
        match state.reported {
            Some(before) if is_new => {
                tracing::info!(image = %watched.image(tag), before = %before.seen, now = %seen, "the tag has moved");
            }
            _ => tracing::debug!(image = %watched.image(tag), %seen, "reported"),
        }
        Ok(Ended::Settled { reported: is_new })
    }

    /// Fetches the manifest of a new digest, which must hash to it; nothing, if that was done for another tag.
    async fn checked_manifest(&self, watched: &Watched, digest: Digest) -> Result<Support, Obstacle> {
        if self.checked.has(watched.repository(), digest) {
            return Ok(Support::default());
        }
        if let Some(wait) = self.pace.pull_wait() {
            return Err(Obstacle::NoPulls(wait));
        }
        self.pace.ready().await;
        let reference = ManifestReference::Digest(digest);
        let (manifest, circumstances) = self.registry(watched).fetch(watched.repository(), &reference).await?;
        self.pace.answered(&circumstances);
        Ok(Support { manifest: Some(RawManifest { digest, bytes: manifest.bytes }), fetched: Some(digest) })
    }

    /// A registry that is ill may answer 404 for anything. One that is not tells the time, too.
    async fn check_health(&self, watched: &Watched) -> Result<(), Obstacle> {
        self.pace.ready().await;
        let circumstances = self.registry(watched).ping(watched.repository()).await?;
        self.date(&circumstances).await?;
        Ok(())
    }

    /// Counts the look, and remembers what a person may want to know of it.
    fn remember(&self, watched: &Watched, tag: &Tag, found: Option<Found>, ended: &Ended) {
        let state = watched.state(tag);
        let is_gone = state.reported.is_some_and(|reported| reported.seen == Seen::Gone);
        let (outcome, error) = match ended {
            Ended::Failed(error) => (error.kind(), Some(error.to_string())),
            Ended::HeldUp(_, why) => ("held-up", Some(why.clone())),
            Ended::Settled { .. } | Ended::Again(_) if found == Some(Found::Nothing) && !is_gone => {
                ("missing", Some(self.not_found(watched, tag).to_string()))
            }
            Ended::Settled { reported: true } => ("report", None),
            Ended::Settled { reported: false } => ("unchanged", None),
            Ended::Again(_) => ("again", None),
        };
        metrics::counter!("taglog_witness_looks_total", "registry" => self.host.clone(), "outcome" => outcome)
            .increment(1);
        if let Some(error) = &error {
            tracing::warn!(image = %watched.image(tag), "{error}");
        }
        // A report has put its state into the spool already.
        if outcome != "report" {
            self.reporter.spool.remember(watched.image(tag), state, error);
        }
    }
}

fn ended_by(obstacle: Obstacle) -> Ended {
    let why = obstacle.to_string();
    match obstacle {
        Obstacle::Registry(error) => Ended::Failed(error),
        Obstacle::NoPulls(wait) => Ended::HeldUp(wait, why),
        Obstacle::ClockBehind(by) => Ended::HeldUp(HELD_UP.min(by + Duration::from_secs(1)), why),
        Obstacle::Spool(_) | Obstacle::Clock(_) | Obstacle::Sign(_) => Ended::HeldUp(HELD_UP, why),
    }
}

/// What a report needs besides the look itself.
#[derive(Debug, Default)]
struct Support {
    manifest: Option<RawManifest>,
    fetched: Option<Digest>,
}

/// The digests that were fetched and checked lately, by repository.
#[derive(Debug, Default)]
struct Checked(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    known: HashSet<(Repository, Digest)>,
    order: VecDeque<(Repository, Digest)>,
}

impl Checked {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Nothing that is done with it can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, repository: &Repository, digest: Digest) -> bool {
        self.latest().known.contains(&(repository.clone(), digest))
    }

    fn add(&self, repository: &Repository, digest: Digest) {
        let mut latest = self.latest();
        if latest.known.insert((repository.clone(), digest)) {
            latest.order.push_back((repository.clone(), digest));
        }
        while latest.order.len() > CHECKED {
            if let Some(oldest) = latest.order.pop_front() {
                latest.known.remove(&oldest);
            }
        }
    }
}
