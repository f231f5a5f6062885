//! Watching: one [`lane::Lane`] for each registry decides when to look, [`look::Looker`] looks and reports,
//! [`confirm`] says again what is unchanged, [`pace::Pace`] keeps to what a registry can bear.
//!
//! What is known of a repository and its tags is [`Watched`].

pub mod confirm;
pub mod lane;
pub mod look;
pub mod pace;
mod queue;

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
    config::{Interval, Watch},
    decision::{Freshness, Reported, TagState, confirmable},
    spool::TagRow,
};

/// A tag that is gone and stays so is looked at more and more rarely, down to once in this part of the time after which
/// repositories are confirmed. Less often, and its repository could not be confirmed as a whole in time: each look that
/// is scattered by a tenth must fall well within the grace of [`Watched::freshness`].
const GONE_LOOKS_A_CONFIRMATION: u32 = 5;

/// How soon a tag that a log has refused is reported again once more.
const OWED_AGAIN: Duration = Duration::from_secs(3600);

/// A watched repository, and what is remembered of its tags.
#[derive(Debug)]
pub struct Watched {
    /// How it is watched.
    pub watch: Watch,
    known: Mutex<Known>,
    /// Looks share it from the decision to the commit; a confirmation excludes them, so that none of them reports
    /// a change while it is said that nothing has changed.
    order: RwLock<()>,
}

#[derive(Debug, Default)]
struct Known {
    tags: BTreeMap<Tag, TagEntry>,
    confirmed: Option<Timestamp>,
    /// Reported tags that are not watched.
    unwatched: usize,
    /// Whether all tags that were ever reported are known.
    complete: bool,
}

#[derive(Debug, Default)]
struct TagEntry {
    state: TagState,
    watched: bool,
    /// When it was last to be reported again because a log refused it.
    owed: Option<Instant>,
}

impl Known {
    /// Whether every tag that was ever reported is watched.
    fn is_whole(&self) -> bool {
        self.complete && self.unwatched == 0
    }

    fn count_unwatched(&mut self) {
        let unwatched = |entry: &&TagEntry| !entry.watched && entry.state.reported.is_some();
        self.unwatched = self.tags.values().filter(unwatched).count();
    }
}

impl Watched {
    /// A repository as it is remembered. Until there is a list of its tags, those named one by one are watched, and
    /// those reported before that the selection still covers. `complete`: whether all tags that were ever reported
    /// are among the remembered; without that, it is never confirmed as a whole.
    pub fn new(watch: Watch, remembered: Vec<TagRow>, confirmed: Option<Timestamp>, complete: bool) -> Watched {
        let tags = remembered.into_iter().map(|row| {
            let watched = row.state.reported.is_some() && watch.selection.covers(&row.image.tag);
            (row.image.tag, TagEntry { state: row.state, watched, owed: None })
        });
        let known = Known { tags: tags.collect(), confirmed, unwatched: 0, complete };
        let watched = Watched { watch, known: Mutex::new(known), order: RwLock::new(()) };
        watched.watch_tags(watched.watch.selection.named());
        watched
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that is done with it can panic halfway through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.watch.repository
    }

    /// A tag of it with its full name.
    pub fn image(&self, tag: &Tag) -> Image {
        Image { repository: self.repository().clone(), tag: tag.clone() }
    }

    /// The tags that are watched.
    pub fn watched_tags(&self) -> Vec<Tag> {
        self.known().tags.iter().filter(|(_, entry)| entry.watched).map(|(tag, _)| tag.clone()).collect()
    }

    /// What is remembered of a tag.
    pub fn state(&self, tag: &Tag) -> TagState {
        self.known().tags.get(tag).map(|entry| entry.state).unwrap_or_default()
    }

    /// Remembers this of a tag, also of one that a list has left out while it was looked at.
    pub fn set_state(&self, tag: &Tag, state: TagState) {
        let mut known = self.known();
        let is_known = known.tags.contains_key(tag);
        let entry = known.tags.entry(tag.clone()).or_default();
        entry.state = state;
        if !is_known {
            entry.watched = self.watch.selection.covers(tag);
            known.count_unwatched();
        }
    }

    /// Forgets a tag that is not there and never was, unless it is watched by name; whether it did.
    pub fn forget_stranger(&self, tag: &Tag) -> bool {
        let mut known = self.known();
        let is_stranger =
            known.tags.get(tag).is_some_and(|entry| entry.state.reported.is_none()) && !self.watch.selection.names(tag);
        if is_stranger {
            known.tags.remove(tag);
        }
        is_stranger
    }

    /// A log will never have what was last reported of a tag: the next look is reported again, changed or not. A log
    /// that refuses whatever comes does not get its way more than once an hour.
    pub fn owe(&self, tag: &Tag) {
        let now = Instant::now();
        if let Some(entry) = self.known().tags.get_mut(tag)
            && entry.owed.is_none_or(|last| now - last >= OWED_AGAIN)
        {
            entry.owed = Some(now);
            entry.state.again = true;
        }
    }

    /// How often a tag is looked at.
    pub fn interval(&self, tag: &Tag, confirm: Duration) -> Interval {
        let interval = self.watch.interval;
        match self.state(tag).reported {
            Some(Reported { seen: Seen::Gone, .. }) => {
                Interval { max: interval.max.max(confirm / GONE_LOOKS_A_CONFIRMATION), ..interval }
            }
            _ => interval,
        }
    }

    /// When what is unchanged is said again.
    pub fn freshness(&self, confirm: Duration) -> Freshness {
        let known = self.known();
        let grace = self.watch.interval.max + confirm / 4;
        Freshness { confirm, grace, whole: known.is_whole(), confirmed: known.confirmed }
    }

    /// Watches these tags too.
    pub fn watch_tags(&self, tags: Vec<Tag>) {
        let mut known = self.known();
        for tag in tags {
            known.tags.entry(tag).or_default().watched = true;
        }
        known.count_unwatched();
    }

    /// Takes the registry's list of tags: what the selection makes of it is watched from now on, and whatever was
    /// reported before and is covered still. What was never reported and is listed no more is forgotten. Returns what is
    /// listed again although it was reported as gone.
    pub fn take_list(&self, listed: &[Tag]) -> Vec<Tag> {
        let selection = &self.watch.selection;
        let selected = selection.select(listed);
        let mut known = self.known();
        for (tag, entry) in &mut known.tags {
            // `newest` bounds what is taken up. An old tag that is moved is the very thing to watch for.
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

    /// The time that the repository can be confirmed for now.
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

    fn watched(include: &[&str], newest: Option<usize>, reported: &[&str]) -> Watched {
        let repository = Repository::parse("registry.example/team/app").unwrap();
        let include = include.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let hour = Duration::from_secs(3600);
        let watch = Watch {
            repository: repository.clone(),
            selection: Selection { include, exclude: Vec::new(), newest },
            interval: Interval { min: hour, max: hour },
            list_interval: hour,
            private: false,
        };
        let at = Timestamp::from_unix(1_800_000_000).unwrap();
        let seen = Seen::Digest(Digest::sha256(b"a"));
        let state =
            TagState { reported: Some(Reported { seen, observed: at }), looked: Some(at), ..TagState::default() };
        let row = |text: &&str| TagRow {
            image: Image { repository: repository.clone(), tag: tag(text) },
            state,
            error: None,
        };
        Watched::new(watch, reported.iter().map(row).collect(), None, true)
    }

    fn tags(watched: &Watched) -> Vec<String> {
        watched.watched_tags().iter().map(Tag::to_string).collect()
    }

    #[test]
    fn what_is_not_there_and_never_was_is_forgotten() {
        let watched = watched(&["latest", "glob:1.*"], None, &["1.1"]);
        watched.watch_tags(vec![tag("1.9")]);
        assert!(watched.forget_stranger(&tag("1.9")));
        assert!(!watched.forget_stranger(&tag("1.1")), "it was reported");
        assert!(!watched.forget_stranger(&tag("latest")), "it is watched by name");
        assert_eq!(tags(&watched), ["1.1", "latest"]);
    }

    #[test]
    fn a_refused_tag_is_owed_once_an_hour() {
        let watched = watched(&["1.1"], None, &["1.1"]);
        let state = watched.state(&tag("1.1"));
        watched.owe(&tag("1.1"));
        assert!(watched.state(&tag("1.1")).again);
        watched.set_state(&tag("1.1"), state);
        watched.owe(&tag("1.1"));
        assert!(!watched.state(&tag("1.1")).again);
    }

    #[test]
    fn what_is_gone_is_looked_at_rarely_and_soon_when_it_is_listed_again() {
        let watched = watched(&["latest", "glob:1.*"], None, &["1.1", "1.2", "0.9"]);
        let day = Duration::from_secs(86_400);
        let state = watched.state(&tag("1.1"));
        let gone = Reported { seen: Seen::Gone, ..state.reported.unwrap() };
        for gone_one in ["1.1", "0.9"] {
            watched.set_state(&tag(gone_one), TagState { reported: Some(gone), ..state });
        }
        let usual = watched.watch.interval;
        assert_eq!(watched.interval(&tag("1.2"), day), usual);
        let rare = watched.interval(&tag("1.1"), day);
        assert_eq!((rare.min, rare.max), (usual.min, day / 5));
        assert_eq!(watched.interval(&tag("1.1"), Duration::from_secs(5)), usual, "no more often than others");
        // Scattered by a tenth, it must not make single observations of what a confirmation could have said.
        let freshness = watched.freshness(day);
        assert!(rare.max + rare.max / 10 < freshness.grace);
        assert_eq!(watched.take_list(&["1.2"].map(tag)), []);
        assert_eq!(watched.take_list(&["0.9", "1.1", "1.2"].map(tag)), ["1.1"].map(tag), "0.9 is not covered");
    }

    #[test]
    fn what_was_reported_stays_watched_as_long_as_it_is_covered() {
        let watched = watched(&["latest", "glob:1.*"], Some(2), &["1.1", "0.9"]);
        assert_eq!(tags(&watched), ["1.1", "latest"]);
        assert!(!watched.freshness(Duration::from_secs(1)).whole, "0.9 was reported and is covered no more");
        watched.take_list(&["1.1", "1.2", "1.3", "1.4", "2.0"].map(tag));
        assert_eq!(tags(&watched), ["1.1", "1.3", "1.4", "latest"]);
        watched.take_list(&["1.4", "1.5"].map(tag));
        assert_eq!(tags(&watched), ["1.1", "1.4", "1.5", "latest"], "1.3 was never reported");
        // Looked at while the list was on its way, and not in it.
        let state = watched.state(&tag("1.1"));
        watched.set_state(&tag("1.6"), state);
        assert_eq!(tags(&watched), ["1.1", "1.4", "1.5", "1.6", "latest"]);
    }
}
