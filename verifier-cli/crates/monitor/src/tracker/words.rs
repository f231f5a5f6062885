//! What witnesses say of one tag, and whether they agree.

use std::collections::{BTreeMap, HashMap, HashSet};

use taglog_proto::{
    entry::Seen,
    name::{Image, WitnessId},
    time::Timestamp,
};

use super::{Known, Place, Tracker, TrackerError, has_lasted};
use crate::{
    alert::{Alert, AlertKind, State, Word},
    ledger::{Dispute, Ledger, Standing},
};
use taglog_audit::BatchReport;

/// What was known of tags before some batches, from what is known after them.
pub(super) struct Before<'a, K> {
    known: &'a K,
    /// The first entry of the batches.
    first: u64,
    /// What each witness had last seen before its first change in the batches, and how many changes it has in them.
    changed: HashMap<(&'a Image, &'a WitnessId), (Option<Seen>, u64)>,
    /// Tags that nobody had reported before.
    new: HashSet<&'a Image>,
}

impl<'a, K: Known> Before<'a, K> {
    pub(super) fn new(reports: &'a [BatchReport], known: &'a K) -> Before<'a, K> {
        let mut before = Before {
            known,
            first: reports.first().map_or(0, |report| report.first),
            changed: HashMap::new(),
            new: HashSet::new(),
        };
        for change in reports.iter().flat_map(|report| &report.changes) {
            before.changed.entry((&change.image, &change.witness)).or_insert((change.old, 0)).1 += 1;
            // A tag that is new in one batch has been reported before in the next.
            if change.new_tag {
                before.new.insert(&change.image);
            }
        }
        before
    }

    /// Where each witness that counts stood before the batches; none that had never seen a digest.
    pub(super) fn standings(&self, image: &Image, counts: impl Fn(&WitnessId) -> bool) -> Vec<Standing> {
        if self.new.contains(image) {
            return Vec::new();
        }
        let words = self.known.words(image);
        let standing = |(witness, seen, sightings): (WitnessId, Seen, u64)| {
            let (seen, changes) = match self.changed.get(&(image, &witness)) {
                Some((old, changes)) => ((*old)?, *changes),
                None => (seen, 0),
            };
            let digest = match seen {
                Seen::Digest(digest) => Some(digest),
                Seen::Gone if sightings.saturating_sub(changes) < 2 => return None,
                // It was something once; what, the records do not say.
                Seen::Gone => None,
            };
            Some(Standing { witness, seen, digest, arrived: self.first.saturating_sub(1) })
        };
        words.into_iter().filter(|(witness, _, _)| counts(witness)).filter_map(standing).collect()
    }
}

impl Tracker {
    /// The words that count in a comparison: those of witnesses in the roster.
    fn words<'s>(&self, standings: &'s [Standing]) -> Vec<&'s Standing> {
        let counts = |standing: &&Standing| {
            self.config.counts(&standing.witness) && self.witnesses.contains_key(&standing.witness)
        };
        standings.iter().filter(counts).collect()
    }

    /// Takes note that witnesses begin or cease to disagree about a tag.
    pub(super) fn dispute(
        &mut self,
        ledger: &mut Ledger,
        place: Place,
        image: &Image,
        standings: &[Standing],
    ) -> Result<(), TrackerError> {
        let words = self.words(standings);
        let disagree = words.iter().any(|word| word.seen != words[0].seen);
        match (disagree, self.disputes.get(image).copied()) {
            (true, None) => {
                let dispute = Dispute { since: place.time, entry: place.index, raised: false };
                ledger.set_dispute(image, Some(&dispute))?;
                self.disputes.insert(image.clone(), dispute);
            }
            (false, Some(dispute)) => {
                self.disputes.remove(image);
                ledger.set_dispute(image, None)?;
                if dispute.raised {
                    let what = words.first().map_or("nothing".to_owned(), |word| word.seen.to_string());
                    let message = format!("witnesses agree about {image} again: {what}");
                    let alert = self.disagreement(image, &dispute, State::Ended, place.time, message);
                    self.raise(ledger, &with_words(alert, &words))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Says of which tags witnesses have disagreed for too long.
    pub(super) fn say_who_disagrees(&mut self, ledger: &mut Ledger, now: Timestamp) -> Result<(), TrackerError> {
        let patience = self.config.patience.disagreement;
        let lasting = |dispute: &Dispute| !dispute.raised && has_lasted(dispute.since, now, patience);
        let images: Vec<Image> =
            self.disputes.iter().filter(|(_, dispute)| lasting(dispute)).map(|(image, _)| image.clone()).collect();
        for image in images {
            let Some(dispute) = self.disputes.get_mut(&image) else { continue };
            dispute.raised = true;
            let dispute = *dispute;
            ledger.set_dispute(&image, Some(&dispute))?;
            let standings = ledger.standings(&image)?;
            let words = self.words(&standings);
            let groups = groups(&words);
            let minority = minority(&groups, words.len());
            let message =
                format!("witnesses disagree about {image} since {}: {}", dispute.since, describe(&groups, &minority));
            let alert = self.disagreement(&image, &dispute, State::Raised, now, message);
            self.raise(ledger, &Alert { minority, ..with_words(alert, &words) })?;
        }
        Ok(())
    }

    fn disagreement(&self, image: &Image, dispute: &Dispute, state: State, time: Timestamp, message: String) -> Alert {
        let about = [image.to_string(), dispute.entry.to_string()];
        let about = about.each_ref().map(String::as_str);
        let alert = Alert::condition(&self.log, AlertKind::Disagreement, state, &about, time, message);
        alert.with_image(image).with_index(dispute.entry).with_since(dispute.since)
    }
}

fn with_words(mut alert: Alert, words: &[&Standing]) -> Alert {
    let word = |word: &&Standing| Word { witness: word.witness.to_string(), seen: word.seen.to_string() };
    alert.words = words.iter().map(word).collect();
    alert
}

/// Who says what.
fn groups(words: &[&Standing]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in words {
        groups.entry(word.seen.to_string()).or_default().push(word.witness.to_string());
    }
    groups
}

/// Who stands against more than half of all; nobody where there is no such majority.
fn minority(groups: &BTreeMap<String, Vec<String>>, all: usize) -> Vec<String> {
    let is_majority = |group: &Vec<String>| 2 * group.len() > all;
    match groups.values().any(is_majority) {
        true => groups.values().filter(|group| !is_majority(group)).flatten().cloned().collect(),
        false => Vec::new(),
    }
}

fn describe(groups: &BTreeMap<String, Vec<String>>, minority: &[String]) -> String {
    let said: Vec<String> = groups.iter().map(|(seen, group)| format!("{seen} ({})", group.join(", "))).collect();
    let against = if minority.is_empty() { String::new() } else { format!("; alone: {}", minority.join(", ")) };
    said.join("; ") + &against
}
