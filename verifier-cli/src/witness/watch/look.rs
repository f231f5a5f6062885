//! One look at a tag: ask, decide, sign, keep.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use taglog_proto::{
    entry::{Confirmation, Observation, Seen},
    name::{Digest, Repository, Tag},
    note::SigningKey,
    time::Timestamp,
};
use thiserror::Error;
use tokio::sync::watch;

use super::{Watched, pace::Pace};
use crate::{
    registry::{Circumstances, Looked, ManifestReference, Registry, RegistryError},
    witness::{
        alarm::{AlarmKind, Alarms},
        clock::Clock,
        config::Gone,
        decision::{Decision, Found, TagState, decide},
        spool::{RawManifest, Spool, SpoolError, Statement},
    },
};

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
    /// Keeps a signed entry; when this returns, it is on disk.
    async fn keep(&self, statement: Statement, manifest: Option<RawManifest>) -> Result<(), SpoolError> {
        match self.spool.record(statement, manifest).await {
            Ok(()) => {
                self.recorded.send_modify(|count| *count += 1);
                self.alarms.clear("spool", AlarmKind::Spool).await;
                Ok(())
            }
            Err(error) => {
                self.alarms.raise("spool", AlarmKind::Spool, &error.to_string(), None).await;
                Err(error)
            }
        }
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
        self.pace.ready().await;
        let listed = self.registry(watched).tags(watched.repository(), most);
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
        let state = watched.state(tag);
        let ended = match self.ask(watched, tag, &state).await {
            Ok((found, circumstances)) => {
                self.pace.answered(&circumstances);
                self.judge(watched, tag, found, &circumstances).await
            }
            Err(error) => Err(Obstacle::Registry(error)),
        };
        let ended = ended.unwrap_or_else(ended_by);
        self.remember(watched, tag, &ended);
        ended
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
                None => {
                    Err(RegistryError::NotFound { target: watched.image(tag).to_string(), registry: self.host.clone() })
                }
            },
            Err(RegistryError::NotFound { .. }) => Ok((Found::Nothing, Circumstances::default())),
            Err(error) => Err(error),
        }
    }

    /// Decides what the look leads to, and does it. Between the decision and the commit nothing else is said
    /// about the repository as a whole.
    async fn judge(
        &self,
        watched: &Watched,
        tag: &Tag,
        found: Found,
        circumstances: &Circumstances,
    ) -> Result<Ended, Obstacle> {
        let at = self.date(circumstances).await?;
        let _shared = watched.order.read().await;
        let state = watched.state(tag);
        let freshness = watched.freshness(self.reporter.confirm);
        let decision = decide(&state, found, at, self.reporter.gone, &freshness);
        let ended = match decision {
            Decision::Report(seen) => {
                self.report(watched, tag, &state, seen, at).await?;
                Ended::Settled { reported: state.reported.is_none_or(|reported| reported.seen != seen) }
            }
            Decision::Nothing => Ended::Settled { reported: false },
            Decision::LookAgain(after) => Ended::Again(after),
            Decision::ClockWentBack(by) => return Err(self.clock_went_back(by).await),
        };
        self.reporter.alarms.clear(&self.host, AlarmKind::Clock).await;
        watched.set_state(tag, state.after(found, at, decision, self.reporter.gone));
        Ok(ended)
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

    async fn report(
        &self,
        watched: &Watched,
        tag: &Tag,
        state: &TagState,
        seen: Seen,
        at: Timestamp,
    ) -> Result<(), Obstacle> {
        let is_new = state.reported.is_none_or(|reported| reported.seen != seen);
        let manifest = match seen {
            Seen::Digest(digest) if is_new || state.again => self.checked_manifest(watched, digest).await?,
            Seen::Digest(_) => None,
            Seen::Gone => {
                self.check_health(watched).await?;
                None
            }
        };
        let observation = Observation::sign(watched.image(tag), seen, at, &self.reporter.key)?;
        self.reporter.keep(Statement::Observation(observation), manifest).await?;
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
        Ok(())
    }

    /// Fetches the manifest of a new digest, which must hash to it; nothing, if that was done for another tag.
    async fn checked_manifest(&self, watched: &Watched, digest: Digest) -> Result<Option<RawManifest>, Obstacle> {
        if self.checked.has(watched.repository(), digest) {
            return Ok(None);
        }
        if let Some(wait) = self.pace.pull_wait() {
            return Err(Obstacle::NoPulls(wait));
        }
        self.pace.ready().await;
        let reference = ManifestReference::Digest(digest);
        let (manifest, circumstances) = self.registry(watched).fetch(watched.repository(), &reference).await?;
        self.pace.answered(&circumstances);
        self.checked.add(watched.repository(), digest);
        Ok(Some(RawManifest { digest, bytes: manifest.bytes }))
    }

    /// A registry that is ill may answer 404 for anything.
    async fn check_health(&self, watched: &Watched) -> Result<(), Obstacle> {
        self.pace.ready().await;
        self.registry(watched).ping(watched.repository()).await?;
        Ok(())
    }

    fn remember(&self, watched: &Watched, tag: &Tag, ended: &Ended) {
        let (outcome, error) = match ended {
            Ended::Settled { reported: true } => ("report", None),
            Ended::Settled { reported: false } => ("unchanged", None),
            Ended::Again(_) => ("again", None),
            Ended::Failed(error) => {
                self.pace.failed(error);
                (error.kind(), Some(error.to_string()))
            }
            Ended::HeldUp(_, why) => ("held-up", Some(why.clone())),
        };
        metrics::counter!("taglog_witness_looks_total", "registry" => self.host.clone(), "outcome" => outcome)
            .increment(1);
        if let Some(error) = &error {
            tracing::warn!(image = %watched.image(tag), "{error}");
        }
        self.reporter.spool.remember(watched.image(tag), watched.state(tag), error);
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

/// The digests that were fetched and checked lately, by repository.
#[derive(Debug, Default)]
struct Checked(Mutex<(HashSet<(Repository, Digest)>, VecDeque<(Repository, Digest)>)>);

impl Checked {
    fn has(&self, repository: &Repository, digest: Digest) -> bool {
        let checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked.0.contains(&(repository.clone(), digest))
    }

    fn add(&self, repository: &Repository, digest: Digest) {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *checked;
        if known.insert((repository.clone(), digest)) {
            order.push_back((repository.clone(), digest));
        }
        while order.len() > CHECKED {
            if let Some(oldest) = order.pop_front() {
                known.remove(&oldest);
            }
        }
    }
}
