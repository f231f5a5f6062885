//! What audited batches say that people want to hear: retags, new tags, witnesses that disagree or fall silent.
//!
//! Everything here follows from the entries and from the log's own time, its seals: whoever takes the same batches,
//! in pieces of any size and with any number of crashes in between, raises the same alerts with the same ids.

#[cfg(test)]
mod tests;
mod words;

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
    alert::{Alert, AlertKind, State},
    config::Config,
    ledger::{Dispute, Heard, Ledger, LedgerError, Standing},
    watches::{Wanted, wanted},
};
use taglog_audit::{BatchReport, Change, Index};

/// Why a batch could not be taken.
#[derive(Clone, Debug, Error)]
pub enum TrackerError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The auditor has gone on without the ledger.
    #[error(
        "the auditor's state is at entry {audited}, but alerts were raised only up to entry {tracked}: something else \
         has audited there; move the directory 'audit' in the state directory away, and the log is audited again"
    )]
    Gap {
        /// Where the auditor is.
        audited: u64,
        /// Where the ledger is.
        tracked: u64,
    },
}

/// What is known of a tag besides the ledger: for tags that are watched only since a while.
pub trait Known {
    /// Each witness that ever reported the tag, what it last saw, and how many sightings it has; as of the end of the
    /// batches that are being taken.
    fn words(&self, image: &Image) -> Vec<(WitnessId, Seen, u64)>;
}

impl Known for Index {
    fn words(&self, image: &Image) -> Vec<(WitnessId, Seen, u64)> {
        let Some(tag) = self.tag(image) else { return Vec::new() };
        tag.current().map(|line| (line.witness.clone(), line.seen, line.sightings)).collect()
    }
}

/// Where the auditor stands when the monitor starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baseline<'a> {
    /// The size of the log up to which it has audited.
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
    /// Batches up to here were taken.
    size: u64,
    /// What happened up to here is past, and not said; unknown before the first checkpoint.
    past: Option<u64>,
    /// The witnesses in the roster in force.
    witnesses: BTreeMap<WitnessId, Heard>,
    /// Those that were heard of since they were last written down.
    heard: BTreeSet<WitnessId>,
    disputes: BTreeMap<Image, Dispute>,
}

/// A place in the log: an entry, and the time of the seal that covers it.
#[derive(Clone, Copy)]
struct Place {
    index: u64,
    time: Timestamp,
}

impl Tracker {
    /// Goes on where the ledger stands, which is never behind the auditor.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub fn open(
        ledger: &mut Ledger,
        config: &Config,
        log: &VerifierKey,
        baseline: Baseline<'_>,
    ) -> Result<Tracker, TrackerError> {
        ledger.begin()?;
        let watched = Hash::of(format!("{:?}{:?}", config.watches, config.witnesses).as_bytes()).to_string();
        ledger.forget_unless_watched(&watched)?;
        let mut tracker = Tracker {
            log: log.clone(),
            config: config.clone(),
            size: 0,
            past: ledger.past()?,
            witnesses: ledger.witnesses()?.into_iter().collect(),
            heard: BTreeSet::new(),
            disputes: ledger.disputes()?.into_iter().collect(),
        };
        match ledger.size()? {
            Some(size) if size < baseline.size => {
                return Err(TrackerError::Gap { audited: baseline.size, tracked: size });
            }
            Some(size) => tracker.size = size,
            None => tracker.begin_at(ledger, baseline)?,
        }
        ledger.commit()?;
        Ok(tracker)
    }

    /// A new ledger beside an auditor that may have audited before.
    fn begin_at(&mut self, ledger: &Ledger, baseline: Baseline<'_>) -> Result<(), TrackerError> {
        self.size = baseline.size;
        ledger.set_size(self.size)?;
        if let (Some(time), Some(roster)) = (baseline.time, baseline.roster) {
            self.admit(Place { index: self.size.saturating_sub(1), time }, roster);
        }
        self.write_down(ledger)
    }

    /// The size of the log up to which batches were taken.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is decided what is past.
    pub fn has_past(&self) -> bool {
        self.past.is_some()
    }

    /// Decides, once and for all, that what the log has up to this size is past, and not alerted on.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub fn set_past(&mut self, ledger: &Ledger, size: u64) -> Result<(), TrackerError> {
        ledger.set_past(size)?;
        self.past = Some(size);
        Ok(())
    }

    /// Takes batches in log order, each whole, and raises what follows from them in the ledger, which the caller
    /// commits before the auditor. Batches that were taken before are passed over. `known` is as of the end of the
    /// last batch.
    ///
    /// # Errors
    /// [`TrackerError`]; then neither this nor the ledger can be used any more.
    pub fn take(
        &mut self,
        ledger: &mut Ledger,
        reports: &[BatchReport],
        known: &impl Known,
    ) -> Result<(), TrackerError> {
        let reports = &reports[reports.iter().take_while(|report| report.seal.size < self.size).count()..];
        let Some(first) = reports.first() else { return Ok(()) };
        if first.first != self.size {
            return Err(TrackerError::Gap { audited: first.first, tracked: self.size });
        }
        ledger.begin()?;
        let before = words::Before::new(reports, known);
        for report in reports {
            self.batch(ledger, report, &before)?;
        }
        ledger.set_size(self.size)?;
        self.write_down(ledger)
    }

    /// One batch, from its roster to its seal.
    fn batch(
        &mut self,
        ledger: &mut Ledger,
        report: &BatchReport,
        before: &words::Before<'_, impl Known>,
    ) -> Result<(), TrackerError> {
        let time = report.seal.time;
        for (index, entry) in (report.first..).zip(&report.entries) {
            let place = Place { index, time };
            match entry {
                Entry::Roster(roster) => self.roster(ledger, place, roster)?,
                Entry::Observation(entry) => self.hear(ledger, place, &entry.signature.witness)?,
                Entry::Confirmation(entry) => self.hear(ledger, place, &entry.signature.witness)?,
                Entry::Seal(_) => {}
            }
        }
        for change in &report.changes {
            let wanted = wanted(&self.config.watches, &change.image);
            if wanted.any() && self.config.counts(&change.witness) {
                self.change(ledger, change, time, wanted, before)?;
            }
        }
        self.size = report.seal.size + 1;
        // Conditions that hold at the end of what is past are present.
        if self.past.is_some_and(|past| self.size >= past) {
            self.say_who_is_silent(ledger, time)?;
            self.say_who_disagrees(ledger, time)?;
        }
        Ok(())
    }

    fn raise(&self, ledger: &mut Ledger, alert: &Alert) -> Result<(), TrackerError> {
        ledger.raise(alert)?;
        Ok(())
    }

    /// Whether what happens with this entry is news.
    fn is_news(&self, index: u64) -> bool {
        self.past.is_some_and(|past| index >= past)
    }

    // Witnesses, and when they were heard of.

    fn admit(&mut self, place: Place, roster: &Roster) {
        for id in roster.ids() {
            let new = Heard { time: place.time, entry: place.index, silent: false };
            self.witnesses.entry(id.clone()).or_insert(new);
            self.heard.insert(id);
        }
    }

    fn roster(&mut self, ledger: &mut Ledger, place: Place, roster: &Roster) -> Result<(), TrackerError> {
        let ids: BTreeSet<WitnessId> = roster.ids().collect();
        let gone: Vec<WitnessId> = self.witnesses.keys().filter(|id| !ids.contains(id)).cloned().collect();
        for id in gone {
            if let Some(heard) = self.witnesses.remove(&id).filter(|heard| heard.silent) {
                self.end_silence(ledger, place.time, &id, heard, "is no longer in the roster")?;
            }
            self.heard.remove(&id);
            ledger.set_witness(&id, None)?;
        }
        self.admit(place, roster);
        // Those who have left disagree with nobody.
        let disputed: Vec<Image> = self.disputes.keys().cloned().collect();
        for image in disputed {
            let standings = ledger.standings(&image)?;
            self.dispute(ledger, place, &image, &standings)?;
        }
        Ok(())
    }

    fn hear(&mut self, ledger: &mut Ledger, place: Place, id: &WitnessId) -> Result<(), TrackerError> {
        let heard = Heard { time: place.time, entry: place.index, silent: false };
        // Who makes a statement is in the roster: the auditor has seen to it.
        let Some(before) = self.witnesses.insert(id.clone(), heard) else { return Ok(()) };
        self.heard.insert(id.clone());
        if before.silent {
            self.end_silence(ledger, place.time, id, before, "speaks again")?;
        }
        Ok(())
    }

    fn end_silence(
        &self,
        ledger: &mut Ledger,
        time: Timestamp,
        id: &WitnessId,
        heard: Heard,
        how: &str,
    ) -> Result<(), TrackerError> {
        let about = [id.to_string(), heard.entry.to_string()];
        let message = format!("witness {id} {how}; it was last heard of at {}", heard.time);
        let about = about.each_ref().map(String::as_str);
        let alert = Alert::condition(&self.log, AlertKind::SilentWitness, State::Ended, &about, time, message);
        self.raise(ledger, &alert.with_witness(id).with_since(heard.time))
    }

    fn say_who_is_silent(&mut self, ledger: &mut Ledger, now: Timestamp) -> Result<(), TrackerError> {
        let patience = self.config.patience.silence;
        let config = &self.config;
        let silent =
            |id: &WitnessId, heard: &Heard| !heard.silent && config.counts(id) && has_lasted(heard.time, now, patience);
        let silent: Vec<WitnessId> =
            self.witnesses.iter().filter(|(id, heard)| silent(id, heard)).map(|(id, _)| id.clone()).collect();
        for id in silent {
            let Some(heard) = self.witnesses.get_mut(&id) else { continue };
            heard.silent = true;
            let heard = *heard;
            let message = format!("witness {id} says nothing any more: it was last heard of at {}", heard.time);
            let about = [id.to_string(), heard.entry.to_string()];
            let about = about.each_ref().map(String::as_str);
            let alert = Alert::condition(&self.log, AlertKind::SilentWitness, State::Raised, &about, now, message);
            self.raise(ledger, &alert.with_witness(&id).with_since(heard.time))?;
            self.heard.insert(id);
        }
        Ok(())
    }

    fn write_down(&mut self, ledger: &Ledger) -> Result<(), TrackerError> {
        for id in std::mem::take(&mut self.heard) {
            ledger.set_witness(&id, self.witnesses.get(&id))?;
        }
        Ok(())
    }

    // Tags, and what witnesses say of them.

    /// A witness says something else of a watched tag than before.
    fn change(
        &mut self,
        ledger: &mut Ledger,
        change: &Change,
        time: Timestamp,
        wanted: Wanted,
        before: &words::Before<'_, impl Known>,
    ) -> Result<(), TrackerError> {
        let mut standings = ledger.standings(&change.image)?;
        if standings.is_empty() {
            standings = before.standings(&change.image, |id| self.config.counts(id));
            standings.iter().try_for_each(|standing| ledger.set_standing(&change.image, standing))?;
        }
        let mine = standings.iter().position(|standing| standing.witness == change.witness);
        let new = match (change.new, mine) {
            // What never was cannot have gone.
            (Seen::Gone, None) => return Ok(()),
            (Seen::Gone, Some(mine)) => Standing { seen: Seen::Gone, ..standings[mine].clone() },
            (Seen::Digest(digest), Some(mine)) if standings[mine].digest == Some(digest) => {
                Standing { seen: change.new, ..standings[mine].clone() }
            }
            (Seen::Digest(digest), _) => {
                self.arrive(ledger, change, time, wanted, digest, &standings)?;
                let (witness, arrived) = (change.witness.clone(), change.index);
                Standing { witness, seen: change.new, digest: Some(digest), arrived }
            }
        };
        ledger.set_standing(&change.image, &new)?;
        match mine {
            Some(mine) => standings[mine] = new,
            None => standings.push(new),
        }
        if wanted.disagreement {
            self.dispute(ledger, Place { index: change.index, time }, &change.image, &standings)?;
        }
        Ok(())
    }

    /// A witness comes to a digest that it had not seen before, or not last. It is told once of all witnesses that
    /// see the same happen: when one comes to a digest, and another one's coming to it was told since the first one's
    /// own last change, then that was what it sees now.
    fn arrive(
        &self,
        ledger: &mut Ledger,
        change: &Change,
        time: Timestamp,
        wanted: Wanted,
        digest: Digest,
        standings: &[Standing],
    ) -> Result<(), TrackerError> {
        let told = ledger.arrival(&change.image, &digest)?;
        let is_told = match standings.iter().find(|standing| standing.witness == change.witness) {
            Some(mine) => told.is_some_and(|told| told > mine.arrived),
            None => standings.iter().any(|other| other.seen == change.new),
        };
        if is_told {
            return Ok(());
        }
        ledger.set_arrival(&change.image, &digest, change.index)?;
        if !self.is_news(change.index) {
            return Ok(());
        }
        match standings {
            [] if wanted.new_tag => self.raise(ledger, &self.new_tag(change, time, &digest)),
            [_, ..] if wanted.retag => {
                self.raise(ledger, &self.retag(change, time, &digest, standings, told.is_some()))
            }
            _ => Ok(()),
        }
    }

    fn new_tag(&self, change: &Change, time: Timestamp, digest: &Digest) -> Alert {
        let Change { image, witness, observed, .. } = change;
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
        change: &Change,
        time: Timestamp,
        digest: &Digest,
        standings: &[Standing],
        rollback: bool,
    ) -> Alert {
        let Change { image, witness, observed, .. } = change;
        let mine = standings.iter().find(|standing| standing.witness == *witness).and_then(|mine| mine.digest);
        let others = standings.iter().filter_map(|other| other.digest);
        // By its own witness if that had seen it before, else by the others.
        let previous: BTreeSet<String> = match mine {
            Some(mine) => [mine.to_string()].into(),
            None => others.filter(|other| other != digest).map(|other| other.to_string()).collect(),
        };
        let previous: Vec<String> = previous.into_iter().collect();
        let was = if previous.is_empty() { "something unknown".to_owned() } else { previous.join(" or ") };
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

/// Whether what began then has lasted longer than this by now.
fn has_lasted(since: Timestamp, now: Timestamp, patience: Duration) -> bool {
    let patience = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    now.unix().saturating_sub(since.unix()) > patience
}
