//! Watching: one [`scheduler::RegistryScheduler`] for each registry decides when to poll, [`resolver::TagResolver`] resolves
//! tags and reports changes, [`confirm`] confirms unchanged repositories, [`limiter::RequestLimiter`] limits requests.
//!
//! [`WatchedRepository`] has the state of a repository and its tags.

pub mod confirm;
pub mod limiter;
mod queue;
pub mod resolver;
pub mod scheduler;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use taglog_proto::{
    entry::Seen,
    name::{Image, Repository, Tag},
    time::Timestamp,
};
use tokio::sync::RwLock;

use super::{
    config::{Interval, RepositoryWatch},
    decision::{Freshness, LastReport, WatchedTagState, confirmable},
    spool::WatchedTagRow,
};

/// The poll interval of a tag that stays gone grows up to the confirmation interval divided by this. With a longer one the
/// repository could not be confirmed as a whole in time: polls must fall within the grace of
/// [`WatchedRepository::freshness`] even with jitter.
const GONE_POLLS_PER_CONFIRMATION: u32 = 5;

/// The least time between two forced reports of a tag whose reports a log refuses.
const REPORT_AGAIN_INTERVAL: Duration = Duration::from_secs(3600);

/// A watched repository, and the state of its tags.
#[derive(Debug)]
pub struct WatchedRepository {
    pub watch: RepositoryWatch,
    known: Mutex<WatchState>,
    /// Polls hold it shared from the decision to the commit, a confirmation exclusively, so that no change is reported while
    /// the repository is confirmed as unchanged.
    order: RwLock<()>,
}

#[derive(Debug, Default)]
struct WatchState {
    tags: BTreeMap<Tag, WatchedTag>,
    confirmed: Option<Timestamp>,
    /// Reported tags that are not watched.
    unwatched: usize,
    /// Whether all tags that were ever reported are known.
    complete: bool,
}

#[derive(Debug, Default)]
struct WatchedTag {
    state: WatchedTagState,
    watched: bool,
    /// When a new report was last forced because a log refused one.
    report_required_at: Option<Instant>,
}

impl WatchState {
    /// Whether every tag that was ever reported is watched.
    fn is_whole(&self) -> bool {
        self.complete && self.unwatched == 0
    }

    fn count_unwatched(&mut self) {
        let unwatched = |entry: &&WatchedTag| !entry.watched && entry.state.reported.is_some();
        self.unwatched = self.tags.values().filter(unwatched).count();
    }
}

impl WatchedRepository {
    /// Restores a repository from the spool. Until its tags are listed, the tags named in the configuration are watched, and
    /// those reported before that the selection still covers. `complete`: whether the spool has all tags that were ever
    /// reported; otherwise the repository is never confirmed as a whole.
    pub fn new(
        watch: RepositoryWatch,
        remembered: Vec<WatchedTagRow>,
        confirmed: Option<Timestamp>,
        complete: bool,
    ) -> WatchedRepository {
        let tags = remembered.into_iter().map(|row| {
            let watched = row.state.reported.is_some() && watch.selection.covers(&row.image.tag);
            (row.image.tag, WatchedTag { state: row.state, watched, report_required_at: None })
        });
        let known = WatchState { tags: tags.collect(), confirmed, unwatched: 0, complete };
        let watched = WatchedRepository { watch, known: Mutex::new(known), order: RwLock::new(()) };
        watched.watch_tags(watched.watch.selection.named());
        watched
    }

    fn known(&self) -> MutexGuard<'_, WatchState> {
        // Nothing that is done with it can panic halfway through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn repository(&self) -> &Repository {
        &self.watch.repository
    }

    pub fn image(&self, tag: &Tag) -> Image {
        Image { repository: self.repository().clone(), tag: tag.clone() }
    }

    /// The watched tags, sorted.
    pub fn watched_tags(&self) -> Vec<Tag> {
        self.known().tags.iter().filter(|(_, entry)| entry.watched).map(|(tag, _)| tag.clone()).collect()
    }

    pub fn state(&self, tag: &Tag) -> WatchedTagState {
        self.known().tags.get(tag).map(|entry| entry.state).unwrap_or_default()
    }

    /// Sets the state of a tag, also of one that was removed by a list while it was polled.
    pub fn set_state(&self, tag: &Tag, state: WatchedTagState) {
        let mut known = self.known();
        let is_known = known.tags.contains_key(tag);
        let entry = known.tags.entry(tag.clone()).or_default();
        entry.state = state;
        if !is_known {
            entry.watched = self.watch.selection.covers(tag);
            known.count_unwatched();
        }
    }

    /// Forgets a tag that was never reported, unless the configuration names it; returns whether it did.
    pub fn forget_unlisted(&self, tag: &Tag) -> bool {
        let mut known = self.known();
        let is_unlisted =
            known.tags.get(tag).is_some_and(|entry| entry.state.reported.is_none()) && !self.watch.selection.names(tag);
        if is_unlisted {
            known.tags.remove(tag);
        }
        is_unlisted
    }

    /// Makes the next poll of a tag report it even if unchanged, because a log has refused the last report permanently. At most
    /// once an hour, so that a log that refuses everything causes few reports.
    pub fn require_report(&self, tag: &Tag) {
        let now = Instant::now();
        if let Some(entry) = self.known().tags.get_mut(tag)
            && entry.report_required_at.is_none_or(|last| now - last >= REPORT_AGAIN_INTERVAL)
        {
            entry.report_required_at = Some(now);
            entry.state.report_again = true;
        }
    }

    pub fn interval(&self, tag: &Tag, confirm: Duration) -> Interval {
        let interval = self.watch.interval;
        match self.state(tag).reported {
            Some(LastReport { seen: Seen::Gone, .. }) => {
                Interval { max: interval.max.max(confirm / GONE_POLLS_PER_CONFIRMATION), ..interval }
            }
            _ => interval,
        }
    }

    /// When an unchanged tag is reported again.
    pub fn freshness(&self, confirm: Duration) -> Freshness {
        let known = self.known();
        let grace = self.watch.interval.max + confirm / 4;
        Freshness { confirm, grace, whole: known.is_whole(), confirmed: known.confirmed }
    }

    /// Adds tags to the watched ones.
    pub fn watch_tags(&self, tags: Vec<Tag>) {
        let mut known = self.known();
        for tag in tags {
            known.tags.entry(tag).or_default().watched = true;
        }
        known.count_unwatched();
    }

    /// Applies the registry's list of tags: watches the selected ones, and those that were reported before and are still
    /// covered; forgets tags that were never reported and are no longer listed. Returns the listed tags that were reported
    /// as gone.
    pub fn apply_list(&self, listed: &[Tag]) -> Vec<Tag> {
        let selection = &self.watch.selection;
        let selected = selection.select(listed);
        let mut known = self.known();
        for (tag, entry) in &mut known.tags {
            // `newest` limits new tags only: an old tag that moves is what matters most.
            entry.watched = entry.state.reported.is_some() && selection.covers(tag);
        }
        for tag in selected {
            known.tags.entry(tag).or_default().watched = true;
        }
        known.tags.retain(|_, entry| entry.watched || entry.state.reported.is_some());
        known.count_unwatched();
        let is_back = |tag: &&Tag| {
            let entry = known.tags.get(*tag).filter(|entry| entry.watched);
            entry.and_then(|entry| entry.state.reported).is_some_and(|reported| reported.seen == Seen::Gone)
        };
        listed.iter().filter(is_back).cloned().collect()
    }

    /// The time as of which the repository can be confirmed now.
    fn confirmable(&self, confirm: Duration) -> Option<Timestamp> {
        let known = self.known();
        if !known.is_whole() {
            return None;
        }
        confirmable(known.tags.values().map(|entry| &entry.state), known.confirmed, confirm)
    }

    fn set_confirmed(&self, at: Timestamp) {
        self.known().confirmed = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::name::Digest;

    use super::*;
    use taglog_tag_selection::{Pattern, Selection};

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    fn watched(include: &[&str], newest: Option<usize>, reported: &[&str]) -> WatchedRepository {
        let repository = Repository::parse("registry.example/team/app").unwrap();
        let include = include.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let hour = Duration::from_secs(3600);
        let watch = RepositoryWatch {
            repository: repository.clone(),
            selection: Selection { include, exclude: Vec::new(), newest },
            interval: Interval { min: hour, max: hour },
            list_interval: hour,
            private: false,
        };
        let at = Timestamp::from_unix(1_800_000_000).unwrap();
        let seen = Seen::Digest(Digest::sha256(b"a"));
        let state = WatchedTagState {
            reported: Some(LastReport { seen, observed: at }),
            polled: Some(at),
            ..WatchedTagState::default()
        };
        let row = |text: &&str| WatchedTagRow {
            image: Image { repository: repository.clone(), tag: tag(text) },
            state,
            error: None,
        };
        WatchedRepository::new(watch, reported.iter().map(row).collect(), None, true)
    }

    fn tags(watched: &WatchedRepository) -> Vec<String> {
        watched.watched_tags().iter().map(Tag::to_string).collect()
    }

    #[test]
    fn a_tag_that_was_never_reported_is_forgotten() {
        let watched = watched(&["latest", "glob:1.*"], None, &["1.1"]);
        watched.watch_tags(vec![tag("1.9")]);
        assert!(watched.forget_unlisted(&tag("1.9")));
        assert!(!watched.forget_unlisted(&tag("1.1")), "it was reported");
        assert!(!watched.forget_unlisted(&tag("latest")), "it is watched by name");
        assert_eq!(tags(&watched), ["1.1", "latest"]);
    }

    #[test]
    fn a_refused_tag_is_reported_again_at_most_once_an_hour() {
        let watched = watched(&["1.1"], None, &["1.1"]);
        let state = watched.state(&tag("1.1"));
        watched.require_report(&tag("1.1"));
        assert!(watched.state(&tag("1.1")).report_again);
        watched.set_state(&tag("1.1"), state);
        watched.require_report(&tag("1.1"));
        assert!(!watched.state(&tag("1.1")).report_again);
    }

    #[test]
    fn a_gone_tag_is_polled_rarely_and_at_once_when_it_is_listed_again() {
        let watched = watched(&["latest", "glob:1.*"], None, &["1.1", "1.2", "0.9"]);
        let day = Duration::from_secs(86_400);
        let state = watched.state(&tag("1.1"));
        let gone = LastReport { seen: Seen::Gone, ..state.reported.unwrap() };
        for gone_one in ["1.1", "0.9"] {
            watched.set_state(&tag(gone_one), WatchedTagState { reported: Some(gone), ..state });
        }
        let usual = watched.watch.interval;
        assert_eq!(watched.interval(&tag("1.2"), day), usual);
        let rare = watched.interval(&tag("1.1"), day);
        assert_eq!((rare.min, rare.max), (usual.min, day / 5));
        assert_eq!(watched.interval(&tag("1.1"), Duration::from_secs(5)), usual, "no more often than others");
        // With jitter, it must not cause single observations where a confirmation suffices.
        let freshness = watched.freshness(day);
        assert!(rare.max + rare.max / 10 < freshness.grace);
        assert_eq!(watched.apply_list(&["1.2"].map(tag)), []);
        assert_eq!(watched.apply_list(&["0.9", "1.1", "1.2"].map(tag)), ["1.1"].map(tag), "0.9 is not covered");
    }

    #[test]
    fn a_reported_tag_stays_watched_while_the_selection_covers_it() {
        let watched = watched(&["latest", "glob:1.*"], Some(2), &["1.1", "0.9"]);
        assert_eq!(tags(&watched), ["1.1", "latest"]);
        assert!(!watched.freshness(Duration::from_secs(1)).whole, "0.9 was reported and is covered no more");
        watched.apply_list(&["1.1", "1.2", "1.3", "1.4", "2.0"].map(tag));
        assert_eq!(tags(&watched), ["1.1", "1.3", "1.4", "latest"]);
        watched.apply_list(&["1.4", "1.5"].map(tag));
        assert_eq!(tags(&watched), ["1.1", "1.4", "1.5", "latest"], "1.3 was never reported");
        // Looked at while the list was on its way, and not in it.
        let state = watched.state(&tag("1.1"));
        watched.set_state(&tag("1.6"), state);
        assert_eq!(tags(&watched), ["1.1", "1.4", "1.5", "1.6", "latest"]);
    }
}
