//! A record of what a test has pushed, to compare the log with.

use std::collections::{BTreeMap, BTreeSet};

use taglog_tests::{QuickPush, Server, Status, Witness, witness::now};

/// One sighting in a history: what, and in which second since 1970.
pub type Sighting = (String, i64);

/// The sightings that a log has of each image, in log order, verified. One witness has made them all.
pub async fn histories(server: &Server, witness: &Witness, images: &[String]) -> BTreeMap<String, Vec<Sighting>> {
    let mut histories = BTreeMap::new();
    for images in images.chunks(50) {
        let names: Vec<&str> = images.iter().map(String::as_str).collect();
        let looked = server.lookup(&names, "").await;
        for report in &looked.images {
            let sightings = match &report.witnesses[..] {
                [] => Vec::new(),
                [only] => {
                    assert!(only.complete && only.line.witness == witness.id(), "{}", report.image);
                    let sightings = only.sightings.iter();
                    sightings.map(|seen| (seen.sighting.seen.to_string(), seen.observed.unix())).collect()
                }
                more => panic!("{}: {} witnesses", report.image, more.len()),
            };
            histories.insert(report.image.to_string(), sightings);
        }
    }
    histories
}

/// An image to be pushed.
#[derive(Clone)]
pub struct Push {
    /// Where.
    pub to: QuickPush,
    /// The full name.
    pub image: String,
    /// What it holds.
    pub content: String,
}

/// A state that a tag was put in.
#[derive(Clone, Debug)]
pub struct Pushed {
    image: String,
    digest: String,
    /// The second in which the registry was asked; before it, no client can have seen this state.
    begun: i64,
    /// The second in which the registry had it; after it, no client can have seen the state before.
    done: i64,
}

/// Pushes one after the other.
pub async fn push(moves: Vec<Push>) -> Vec<Pushed> {
    let mut pushed = Vec::with_capacity(moves.len());
    for Push { to, image, content } in moves {
        let begun = now();
        let (_, tag) = image.rsplit_once(':').unwrap();
        let digest = to.push(tag, &content).await.to_string();
        pushed.push(Pushed { image, digest, begun, done: now() });
    }
    pushed
}

/// What is known of one tag without asking the log.
#[derive(Debug, Default)]
struct TagHistory {
    /// Every state it was put in, in order.
    pushed: Vec<Pushed>,
    /// Every state that the agent said it had signed, in order: the log must have them.
    shown: Vec<String>,
}

/// All tags that the test pushes.
#[derive(Debug, Default)]
pub struct PushRecord {
    tags: BTreeMap<String, TagHistory>,
    /// Pushed and overwritten while no agent was running: the log must not have them.
    invisible: BTreeSet<String>,
}

impl PushRecord {
    /// Records what was pushed.
    pub fn add(&mut self, pushed: Vec<Pushed>) {
        for one in pushed {
            self.tags.entry(one.image.clone()).or_default().pushed.push(one);
        }
    }

    /// Records what was pushed, and will be overwritten before it can be polled.
    pub fn add_invisible(&mut self, pushed: Vec<Pushed>) {
        self.invisible.extend(pushed.iter().map(|one| one.digest.clone()));
        self.add(pushed);
    }

    /// The images, in order of their names.
    pub fn images(&self) -> Vec<String> {
        self.tags.keys().cloned().collect()
    }

    /// Records what the status of an agent says it has signed.
    pub fn add_status(&mut self, status: &Status) {
        for row in status.tags() {
            let (Some(image), Some(seen)) = (row["image"].as_str(), row["seen"].as_str()) else { continue };
            let known = self.tags.get_mut(image).unwrap_or_else(|| panic!("{image} was never pushed"));
            assert!(known.pushed.iter().any(|one| one.digest == seen), "{image} never was {seen}");
            if known.shown.last().is_none_or(|last| last != seen) {
                known.shown.push(seen.to_owned());
            }
        }
    }

    /// Whether the agent has signed the present state of every tag.
    pub fn is_up_to_date(&self, status: &Status) -> bool {
        let seen: BTreeMap<&str, &str> =
            status.tags().iter().filter_map(|row| Some((row["image"].as_str()?, row["seen"].as_str()?))).collect();
        let last = |known: &TagHistory| known.pushed.last().map(|one| one.digest.clone());
        self.tags.iter().all(|(image, known)| seen.get(image.as_str()).copied() == last(known).as_deref())
    }

    /// The images that pointed to more than one observable digest.
    pub fn moved(&self) -> BTreeSet<String> {
        let digests = |known: &TagHistory| -> BTreeSet<String> {
            let digests = known.pushed.iter().map(|one| one.digest.clone());
            digests.filter(|digest| !self.invisible.contains(digest)).collect()
        };
        self.tags.iter().filter(|(_, known)| digests(known).len() > 1).map(|(image, _)| image.clone()).collect()
    }

    /// How many states the agent has shown, of all tags together.
    pub fn shown(&self) -> usize {
        self.tags.values().map(|known| known.shown.len()).sum()
    }

    /// Checks the history of each image, as the log has it, against what was pushed and what was shown.
    pub fn check(&self, histories: &BTreeMap<String, Vec<Sighting>>) {
        for (image, known) in &self.tags {
            let history = histories.get(image).unwrap_or_else(|| panic!("{image} is not in the log"));
            let explain = || format!("{image}\nin the log {history:#?}\nknown {known:#?}");
            let digests: Vec<&str> = history.iter().map(|(digest, _)| digest.as_str()).collect();
            let last = known.pushed.last().map(|one| one.digest.as_str());
            assert_eq!(digests.last().copied(), last, "not as it is now: {}", explain());
            assert!(is_within(&known.shown, &digests), "something that was signed is lost: {}", explain());
            assert!(digests.iter().all(|digest| !self.invisible.contains(*digest)), "not to be seen: {}", explain());
            assert!(was_so(history, &known.pushed), "it never was so at that time: {}", explain());
        }
    }
}

/// Whether all of `part` occurs in `whole`, in this order.
fn is_within(part: &[String], whole: &[&str]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|one| whole.any(|other| other == one))
}

/// Whether each sighting is of a state that was pushed, in the order of the pushes, and from the time between this
/// push and the next; or from the second after, since a poll is dated when its response has come.
fn was_so(history: &[Sighting], pushed: &[Pushed]) -> bool {
    let mut states = pushed.iter().zip(pushed.iter().skip(1).map(|next| next.done).chain([i64::MAX]));
    history.iter().all(|(digest, observed)| {
        states.any(|(state, over)| state.digest == *digest && (state.begun..=over.saturating_add(1)).contains(observed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(states: &[(&str, i64, i64)]) -> Vec<Pushed> {
        let state = |(digest, begun, done): &(&str, i64, i64)| Pushed {
            image: "a.example/b:1".to_owned(),
            digest: (*digest).to_owned(),
            begun: *begun,
            done: *done,
        };
        states.iter().map(state).collect()
    }

    fn history(sightings: &[(&str, i64)]) -> Vec<Sighting> {
        sightings.iter().map(|(digest, observed)| ((*digest).to_owned(), *observed)).collect()
    }

    /// The check itself must be able to fail.
    #[test]
    fn a_history_must_match_the_pushes_and_their_times() {
        let states = pushed(&[("a", 10, 11), ("b", 20, 20), ("a", 30, 31)]);
        let accepts = |sightings: &[(&str, i64)]| was_so(&history(sightings), &states);
        assert!(
            accepts(&[("a", 12), ("b", 25), ("a", 40)]) && accepts(&[("a", 20), ("a", 30)]) && accepts(&[("b", 32)])
        );
        assert!(!accepts(&[("c", 12)]), "never pushed");
        assert!(!accepts(&[("a", 9)]), "before it was pushed");
        assert!(!accepts(&[("b", 33)]), "after it was overwritten");
        assert!(!accepts(&[("b", 25), ("b", 26)]) && !accepts(&[("b", 25), ("a", 19)]), "in another order");
    }

    #[test]
    fn reported_states_must_be_logged_in_order() {
        let within =
            |part: &[&str]| is_within(&part.iter().map(ToString::to_string).collect::<Vec<_>>(), &["a", "b", "c"]);
        assert!(within(&[]) && within(&["a", "c"]) && within(&["a", "b", "c"]));
        assert!(!within(&["c", "a"]) && !within(&["a", "a"]) && !within(&["d"]));
    }
}
