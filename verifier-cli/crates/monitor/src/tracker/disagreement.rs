//! Disagreement of witnesses about a tag.

use std::collections::{BTreeMap, HashMap, HashSet};

use taglog_proto::{
    entry::Seen,
    name::{Image, WitnessId},
    time::Timestamp,
};

use super::{EntryPosition, TagRecords, Tracker, TrackerError, exceeds};
use crate::{
    alert::{Alert, AlertKind, AlertState, WitnessSighting},
    alert_store::{AlertStore, Disagreement, WitnessTagState},
};
use taglog_audit::BatchReport;

/// The records of tags before some batches, derived from those after them.
pub(super) struct RecordsBefore<'a, K> {
    records: &'a K,
    /// The first entry of the batches.
    first: u64,
    /// What each witness had last seen before its first change in the batches, and the number of its changes in them.
    changed: HashMap<(&'a Image, &'a WitnessId), (Option<Seen>, u64)>,
    /// Tags that no witness had reported before.
    new: HashSet<&'a Image>,
}

impl<'a, K: TagRecords> RecordsBefore<'a, K> {
    pub(super) fn new(reports: &'a [BatchReport], records: &'a K) -> RecordsBefore<'a, K> {
        let mut before = RecordsBefore {
            records,
            first: reports.first().map_or(0, |report| report.first),
            changed: HashMap::new(),
            new: HashSet::new(),
        };
        for change in reports.iter().flat_map(|report| &report.changes) {
            before.changed.entry((&change.image, &change.witness)).or_insert((change.old, 0)).1 += 1;
            // `new_tag` is set only in the batch in which the tag appears first.
            if change.new_tag {
                before.new.insert(&change.image);
            }
        }
        before
    }

    /// The state of each counted witness before the batches, without those that had never seen a digest.
    pub(super) fn tag_states(&self, image: &Image, counts: impl Fn(&WitnessId) -> bool) -> Vec<WitnessTagState> {
        if self.new.contains(image) {
            return Vec::new();
        }
        let lines = self.records.lines(image);
        let tag_state = |(witness, seen, sightings): (WitnessId, Seen, u64)| {
            let (seen, changes) = match self.changed.get(&(image, &witness)) {
                Some((old, changes)) => ((*old)?, *changes),
                None => (seen, 0),
            };
            let digest = match seen {
                Seen::Digest(digest) => Some(digest),
                Seen::Gone if sightings.saturating_sub(changes) < 2 => return None,
                // It had a digest once, which the records do not contain.
                Seen::Gone => None,
            };
            Some(WitnessTagState { witness, seen, digest, arrived: self.first.saturating_sub(1) })
        };
        lines.into_iter().filter(|(witness, _, _)| counts(witness)).filter_map(tag_state).collect()
    }
}

impl Tracker {
    /// The states that are compared: those of counted witnesses in the roster.
    fn compared_states<'s>(&self, tag_states: &'s [WitnessTagState]) -> Vec<&'s WitnessTagState> {
        let counts = |tag_state: &&WitnessTagState| {
            self.config.counts(&tag_state.witness) && self.witnesses.contains_key(&tag_state.witness)
        };
        tag_states.iter().filter(counts).collect()
    }

    /// Records that a disagreement about a tag starts or ends.
    pub(super) fn update_disagreement(
        &mut self,
        store: &mut AlertStore,
        position: EntryPosition,
        image: &Image,
        tag_states: &[WitnessTagState],
    ) -> Result<(), TrackerError> {
        let compared_states = self.compared_states(tag_states);
        let disagree = compared_states.iter().any(|tag_state| tag_state.seen != compared_states[0].seen);
        match (disagree, self.disagreements.get(image).copied()) {
            (true, None) => {
                let disagreement = Disagreement { since: position.time, entry: position.index, raised: false };
                store.set_disagreement(image, Some(&disagreement))?;
                self.disagreements.insert(image.clone(), disagreement);
            }
            (false, Some(disagreement)) => {
                self.disagreements.remove(image);
                store.set_disagreement(image, None)?;
                if disagreement.raised {
                    let what =
                        compared_states.first().map_or("nothing".to_owned(), |tag_state| tag_state.seen.to_string());
                    let message = format!("witnesses agree about {image} again: {what}");
                    let alert =
                        self.disagreement_alert(image, &disagreement, AlertState::Ended, position.time, message);
                    self.raise(store, &with_sightings(alert, &compared_states))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Raises alerts for disagreements that have lasted too long.
    pub(super) fn raise_disagreements(&mut self, store: &mut AlertStore, now: Timestamp) -> Result<(), TrackerError> {
        let delays = self.config.delays.disagreement;
        let lasting = |disagreement: &Disagreement| !disagreement.raised && exceeds(disagreement.since, now, delays);
        let images: Vec<Image> = self
            .disagreements
            .iter()
            .filter(|(_, disagreement)| lasting(disagreement))
            .map(|(image, _)| image.clone())
            .collect();
        for image in images {
            let Some(disagreement) = self.disagreements.get_mut(&image) else { continue };
            disagreement.raised = true;
            let disagreement = *disagreement;
            store.set_disagreement(&image, Some(&disagreement))?;
            let tag_states = store.tag_states(&image)?;
            let compared_states = self.compared_states(&tag_states);
            let groups = groups(&compared_states);
            let minority = minority(&groups, compared_states.len());
            let message = format!(
                "witnesses disagree about {image} since {}: {}",
                disagreement.since,
                describe(&groups, &minority)
            );
            let alert = self.disagreement_alert(&image, &disagreement, AlertState::Raised, now, message);
            self.raise(store, &Alert { minority, ..with_sightings(alert, &compared_states) })?;
        }
        Ok(())
    }

    fn disagreement_alert(
        &self,
        image: &Image,
        disagreement: &Disagreement,
        state: AlertState,
        time: Timestamp,
        message: String,
    ) -> Alert {
        let about = [image.to_string(), disagreement.entry.to_string()];
        let about = about.each_ref().map(String::as_str);
        let alert = Alert::condition(&self.log, AlertKind::Disagreement, state, &about, time, message);
        alert.with_image(image).with_index(disagreement.entry).with_since(disagreement.since)
    }
}

fn with_sightings(mut alert: Alert, compared_states: &[&WitnessTagState]) -> Alert {
    let sighting = |tag_state: &&WitnessTagState| WitnessSighting {
        witness: tag_state.witness.to_string(),
        seen: tag_state.seen.to_string(),
    };
    alert.words = compared_states.iter().map(sighting).collect();
    alert
}

/// The witnesses by what they last saw.
fn groups(compared_states: &[&WitnessTagState]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tag_state in compared_states {
        groups.entry(tag_state.seen.to_string()).or_default().push(tag_state.witness.to_string());
    }
    groups
}

/// The witnesses outside the majority; empty if there is no majority of more than half.
fn minority(groups: &BTreeMap<String, Vec<String>>, all: usize) -> Vec<String> {
    let is_majority = |group: &Vec<String>| 2 * group.len() > all;
    match groups.values().any(is_majority) {
        true => groups.values().filter(|group| !is_majority(group)).flatten().cloned().collect(),
        false => Vec::new(),
    }
}

fn describe(groups: &BTreeMap<String, Vec<String>>, minority: &[String]) -> String {
    let parts: Vec<String> = groups.iter().map(|(seen, group)| format!("{seen} ({})", group.join(", "))).collect();
    let suffix =
        if minority.is_empty() { String::new() } else { format!("; in the minority: {}", minority.join(", ")) };
    parts.join("; ") + &suffix
}
