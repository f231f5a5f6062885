//! Derives alerts from audited batches: retags, new tags, disagreeing witnesses, silent witnesses.
//!
//! The alerts depend only on the entries and on the log's own time, that of its seals: the same batches, in groups of
//! any size and with any number of crashes in between, raise the same alerts with the same ids.

mod disagreement;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use taglog_proto::{
    entry::{Entry, Roster, Seen},
    merkle::Hash,
    name::{Digest, Image, WitnessId},
    note::VerifierKey,
    time::Timestamp,
};
use thiserror::Error;

use super::{
    alert::{Alert, AlertKind, AlertState},
    alert_store::{AlertStore, AlertStoreError, Disagreement, WitnessActivity, WitnessTagState},
    config::Config,
    watches::{Wanted, wanted},
};
use taglog_audit::{BatchReport, Index, TagChange};

/// Why a batch could not be processed.
#[derive(Clone, Debug, Error)]
pub enum TrackerError {
    #[error(transparent)]
    AlertStore(#[from] AlertStoreError),
    /// The auditor's state is ahead of the alert store.
    #[error(
        "the auditor's state is at entry {audited}, but alerts were raised only up to entry {tracked}; another program \
         has audited in this directory, and alerts would be missing; move the directory 'audit' in the state directory \
         away, and the log is audited again"
    )]
    Gap {
        /// The auditor's size.
        audited: u64,
        /// The size that the alert store has reached.
        tracked: u64,
    },
}

/// The records of tags in the auditor's index, for tags without a state in the alert store.
pub trait TagRecords {
    /// For each witness that ever reported the tag: its id, what it last saw, and its number of sightings, as of the
    /// end of the batches that are being processed.
    fn lines(&self, image: &Image) -> Vec<(WitnessId, Seen, u64)>;
}

impl TagRecords for Index {
    fn lines(&self, image: &Image) -> Vec<(WitnessId, Seen, u64)> {
        let Some(tag) = self.tag(image) else { return Vec::new() };
        tag.current().map(|line| (line.witness.clone(), line.seen, line.sightings)).collect()
    }
}

/// The state of the auditor when the monitor starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baseline<'a> {
    /// The audited size.
    pub size: u64,
    /// The time of the last seal.
    pub time: Option<Timestamp>,
    /// The roster in force.
    pub roster: Option<&'a Roster>,
}

/// Turns audited batches into alerts.
#[derive(Debug)]
pub struct Tracker {
    log: VerifierKey,
    config: Config,
    /// The size up to which batches were processed.
    size: u64,
    /// Entries before this index raise no alerts; `None` before the first checkpoint.
    past: Option<u64>,
    /// The witnesses in the roster in force.
    witnesses: BTreeMap<WitnessId, WitnessActivity>,
    /// The witnesses whose activity has changed since it was last stored.
    changed_witnesses: BTreeSet<WitnessId>,
    disagreements: BTreeMap<Image, Disagreement>,
}

/// The log index of an entry, and the time of the seal that covers it.
#[derive(Clone, Copy)]
struct EntryPosition {
    index: u64,
    time: Timestamp,
}

impl Tracker {
    /// Continues from the state in the alert store, which is never behind the auditor.
    pub fn open(
        store: &mut AlertStore,
        config: &Config,
        log: &VerifierKey,
        baseline: Baseline<'_>,
    ) -> Result<Tracker, TrackerError> {
        store.begin()?;
        let watched = Hash::of(format!("{:?}{:?}", config.watches, config.witnesses).as_bytes()).to_string();
        store.clear_unless_watched(&watched)?;
        let mut tracker = Tracker {
            log: log.clone(),
            config: config.clone(),
            size: 0,
            past: store.past()?,
            witnesses: store.witnesses()?.into_iter().collect(),
            changed_witnesses: BTreeSet::new(),
            disagreements: store.disagreements()?.into_iter().collect(),
        };
        match store.size()? {
            Some(size) if size < baseline.size => {
                return Err(TrackerError::Gap { audited: baseline.size, tracked: size });
            }
            Some(size) => tracker.size = size,
            None => tracker.initialize(store, baseline)?,
        }
        store.commit()?;
        Ok(tracker)
    }

    /// Initializes a new alert store for an auditor that may have audited before.
    fn initialize(&mut self, store: &AlertStore, baseline: Baseline<'_>) -> Result<(), TrackerError> {
        self.size = baseline.size;
        store.set_size(self.size)?;
        if let (Some(time), Some(roster)) = (baseline.time, baseline.roster) {
            self.admit(EntryPosition { index: self.size.saturating_sub(1), time }, roster);
        }
        self.save_witnesses(store)
    }

    /// The size of the log up to which batches were processed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether [`Tracker::set_past`] was called.
    pub fn has_past(&self) -> bool {
        self.past.is_some()
    }

    /// Sets, permanently, that entries before `size` raise no alerts.
    pub fn set_past(&mut self, store: &AlertStore, size: u64) -> Result<(), TrackerError> {
        store.set_past(size)?;
        self.past = Some(size);
        Ok(())
    }

    /// Processes complete batches in log order, and raises their alerts in the store, which the caller commits before
    /// the auditor. Batches that were processed before are skipped. `known` is as of the end of the last batch.
    ///
    /// # Errors
    /// Neither the tracker nor the store can be used afterwards.
    pub fn process(
        &mut self,
        store: &mut AlertStore,
        reports: &[BatchReport],
        known: &impl TagRecords,
    ) -> Result<(), TrackerError> {
        let reports = &reports[reports.iter().take_while(|report| report.seal.size < self.size).count()..];
        let Some(first) = reports.first() else { return Ok(()) };
        if first.first != self.size {
            return Err(TrackerError::Gap { audited: first.first, tracked: self.size });
        }
        store.begin()?;
        let before = disagreement::RecordsBefore::new(reports, known);
        for report in reports {
            self.process_batch(store, report, &before)?;
        }
        store.set_size(self.size)?;
        self.save_witnesses(store)
    }

    /// Processes one batch from its first entry to its seal.
    fn process_batch(
        &mut self,
        store: &mut AlertStore,
        report: &BatchReport,
        before: &disagreement::RecordsBefore<'_, impl TagRecords>,
    ) -> Result<(), TrackerError> {
        let time = report.seal.time;
        for (index, entry) in (report.first..).zip(&report.entries) {
            let position = EntryPosition { index, time };
            match entry {
                Entry::Roster(roster) => self.process_roster(store, position, roster)?,
                Entry::Observation(entry) => self.record_activity(store, position, &entry.signature.witness)?,
                Entry::Confirmation(entry) => self.record_activity(store, position, &entry.signature.witness)?,
                Entry::Seal(_) => {}
            }
        }
        for change in &report.changes {
            let wanted = wanted(&self.config.watches, &change.image);
            if wanted.any() && self.config.counts(&change.witness) {
                self.process_change(store, change, time, wanted, before)?;
            }
        }
        self.size = report.seal.size + 1;
        // Conditions that hold after the entries that raise no alerts are reported.
        if self.past.is_some_and(|past| self.size >= past) {
            self.raise_silent_witnesses(store, time)?;
            self.raise_disagreements(store, time)?;
        }
        Ok(())
    }

    fn raise(&self, store: &mut AlertStore, alert: &Alert) -> Result<(), TrackerError> {
        store.raise(alert)?;
        Ok(())
    }

    /// Whether this entry may raise an alert.
    fn may_alert(&self, index: u64) -> bool {
        self.past.is_some_and(|past| index >= past)
    }

    // The activity of witnesses.

    fn admit(&mut self, position: EntryPosition, roster: &Roster) {
        for id in roster.ids() {
            let new = WitnessActivity { time: position.time, entry: position.index, silent: false };
            self.witnesses.entry(id.clone()).or_insert(new);
            self.changed_witnesses.insert(id);
        }
    }

    fn process_roster(
        &mut self,
        store: &mut AlertStore,
        position: EntryPosition,
        roster: &Roster,
    ) -> Result<(), TrackerError> {
        let ids: BTreeSet<WitnessId> = roster.ids().collect();
        let gone: Vec<WitnessId> = self.witnesses.keys().filter(|id| !ids.contains(id)).cloned().collect();
        for id in gone {
            if let Some(activity) = self.witnesses.remove(&id).filter(|activity| activity.silent) {
                self.end_silence(store, position.time, &id, activity, "is no longer in the roster")?;
            }
            self.changed_witnesses.remove(&id);
            store.set_witness(&id, None)?;
        }
        self.admit(position, roster);
        // Witnesses that have left the roster no longer count.
        let disputed: Vec<Image> = self.disagreements.keys().cloned().collect();
        for image in disputed {
            let tag_states = store.tag_states(&image)?;
            self.update_disagreement(store, position, &image, &tag_states)?;
        }
        Ok(())
    }

    fn record_activity(
        &mut self,
        store: &mut AlertStore,
        position: EntryPosition,
        id: &WitnessId,
    ) -> Result<(), TrackerError> {
        let activity = WitnessActivity { time: position.time, entry: position.index, silent: false };
        // A witness with a statement is in the roster: the auditor has checked that.
        let Some(before) = self.witnesses.insert(id.clone(), activity) else { return Ok(()) };
        self.changed_witnesses.insert(id.clone());
        if before.silent {
            self.end_silence(store, position.time, id, before, "submits entries again")?;
        }
        Ok(())
    }

    fn end_silence(
        &self,
        store: &mut AlertStore,
        time: Timestamp,
        id: &WitnessId,
        activity: WitnessActivity,
        how: &str,
    ) -> Result<(), TrackerError> {
        let about = [id.to_string(), activity.entry.to_string()];
        let message = format!("witness {id} {how}; its last entry before was sealed at {}", activity.time);
        let about = about.each_ref().map(String::as_str);
        let alert = Alert::condition(&self.log, AlertKind::SilentWitness, AlertState::Ended, &about, time, message);
        self.raise(store, &alert.with_witness(id).with_since(activity.time))
    }

    fn raise_silent_witnesses(&mut self, store: &mut AlertStore, now: Timestamp) -> Result<(), TrackerError> {
        let delays = self.config.delays.silence;
        let config = &self.config;
        let silent = |id: &WitnessId, activity: &WitnessActivity| {
            !activity.silent && config.counts(id) && exceeds(activity.time, now, delays)
        };
        let silent: Vec<WitnessId> =
            self.witnesses.iter().filter(|(id, activity)| silent(id, activity)).map(|(id, _)| id.clone()).collect();
        for id in silent {
            let Some(activity) = self.witnesses.get_mut(&id) else { continue };
            activity.silent = true;
            let activity = *activity;
            let message = format!("witness {id} is silent: its last entry was sealed at {}", activity.time);
            let about = [id.to_string(), activity.entry.to_string()];
            let about = about.each_ref().map(String::as_str);
            let alert = Alert::condition(&self.log, AlertKind::SilentWitness, AlertState::Raised, &about, now, message);
            self.raise(store, &alert.with_witness(&id).with_since(activity.time))?;
            self.changed_witnesses.insert(id);
        }
        Ok(())
    }

    fn save_witnesses(&mut self, store: &AlertStore) -> Result<(), TrackerError> {
        for id in std::mem::take(&mut self.changed_witnesses) {
            store.set_witness(&id, self.witnesses.get(&id))?;
        }
        Ok(())
    }

    // The state of tags by witness.

    /// Processes a changed sighting of a watched tag by a witness.
    fn process_change(
        &mut self,
        store: &mut AlertStore,
        change: &TagChange,
        time: Timestamp,
        wanted: Wanted,
        before: &disagreement::RecordsBefore<'_, impl TagRecords>,
    ) -> Result<(), TrackerError> {
        let mut tag_states = store.tag_states(&change.image)?;
        if tag_states.is_empty() {
            tag_states = before.tag_states(&change.image, |id| self.config.counts(id));
            tag_states.iter().try_for_each(|tag_state| store.set_tag_state(&change.image, tag_state))?;
        }
        let own = tag_states.iter().position(|tag_state| tag_state.witness == change.witness);
        let new = match (change.new, own) {
            // A tag that never existed is not removed.
            (Seen::Gone, None) => return Ok(()),
            (Seen::Gone, Some(own)) => WitnessTagState { seen: Seen::Gone, ..tag_states[own].clone() },
            (Seen::Digest(digest), Some(own)) if tag_states[own].digest == Some(digest) => {
                WitnessTagState { seen: change.new, ..tag_states[own].clone() }
            }
            (Seen::Digest(digest), _) => {
                self.process_arrival(store, change, time, wanted, digest, &tag_states)?;
                let (witness, arrived) = (change.witness.clone(), change.index);
                WitnessTagState { witness, seen: change.new, digest: Some(digest), arrived }
            }
        };
        store.set_tag_state(&change.image, &new)?;
        match own {
            Some(own) => tag_states[own] = new,
            None => tag_states.push(new),
        }
        if wanted.disagreement {
            self.update_disagreement(store, EntryPosition { index: change.index, time }, &change.image, &tag_states)?;
        }
        Ok(())
    }

    /// Processes a sighting of a digest that is not the witness's last one. One alert is raised for a change that
    /// several witnesses see: if an arrival of another witness at this digest was recorded after this witness's own
    /// last change, then this is the same change.
    fn process_arrival(
        &self,
        store: &mut AlertStore,
        change: &TagChange,
        time: Timestamp,
        wanted: Wanted,
        digest: Digest,
        tag_states: &[WitnessTagState],
    ) -> Result<(), TrackerError> {
        let recorded = store.arrival(&change.image, &digest)?;
        let is_recorded = match tag_states.iter().find(|tag_state| tag_state.witness == change.witness) {
            Some(own) => recorded.is_some_and(|recorded| recorded > own.arrived),
            None => tag_states.iter().any(|other| other.seen == change.new),
        };
        if is_recorded {
            return Ok(());
        }
        store.set_arrival(&change.image, &digest, change.index)?;
        if !self.may_alert(change.index) {
            return Ok(());
        }
        match tag_states {
            [] if wanted.new_tag => self.raise(store, &self.new_tag(change, time, &digest)),
            [_, ..] if wanted.retag => {
                self.raise(store, &self.retag(change, time, &digest, tag_states, recorded.is_some()))
            }
            _ => Ok(()),
        }
    }

    fn new_tag(&self, change: &TagChange, time: Timestamp, digest: &Digest) -> Alert {
        let TagChange { image, witness, observed, .. } = change;
        let message = format!("new tag {image}: {witness} saw {digest} at {observed}");
        let about = [image.to_string(), change.index.to_string()];
        let alert = Alert::event(&self.log, AlertKind::NewTag, &about.each_ref().map(String::as_str), time, message);
        Alert { observed: Some(observed.to_string()), ..alert }
            .with_image(image)
            .with_witness(witness)
            .with_digest(digest)
            .with_index(change.index)
    }

    fn retag(
        &self,
        change: &TagChange,
        time: Timestamp,
        digest: &Digest,
        tag_states: &[WitnessTagState],
        rollback: bool,
    ) -> Alert {
        let TagChange { image, witness, observed, .. } = change;
        let own = tag_states.iter().find(|tag_state| tag_state.witness == *witness).and_then(|own| own.digest);
        let others = tag_states.iter().filter_map(|other| other.digest);
        // The witness's own last digest, or else those of the other witnesses.
        let previous: BTreeSet<String> = match own {
            Some(own) => [own.to_string()].into(),
            None => others.filter(|other| other != digest).map(|other| other.to_string()).collect(),
        };
        let previous: Vec<String> = previous.into_iter().collect();
        let was = if previous.is_empty() { "an unknown digest".to_owned() } else { previous.join(" or ") };
        let back = if rollback { "ROLLED BACK" } else { "RETAGGED" };
        let message = format!("{image} was {back}: {witness} saw {digest} at {observed}; before, it was {was}");
        let about = [image.to_string(), change.index.to_string()];
        let alert = Alert::event(&self.log, AlertKind::Retag, &about.each_ref().map(String::as_str), time, message);
        Alert { observed: Some(observed.to_string()), previous, rollback: Some(rollback), ..alert }
            .with_image(image)
            .with_witness(witness)
            .with_digest(digest)
            .with_index(change.index)
    }
}

/// Whether the time from `since` to `now` is greater than `delays`.
fn exceeds(since: Timestamp, now: Timestamp, delays: Duration) -> bool {
    let delays = i64::try_from(delays.as_secs()).unwrap_or(i64::MAX);
    now.unix().saturating_sub(since.unix()) > delays
}
