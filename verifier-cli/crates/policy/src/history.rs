//! The history of one tag, as the trusted witnesses reported it.

use std::collections::{BTreeMap, BTreeSet};

use taglog_proto::{
    entry::Seen,
    name::{Digest, WitnessId},
    tag_proof::{ImageReport, Sighted, WitnessReport},
    time::Timestamp,
};

use crate::{demands::Demands, verdict::Move};

/// Changes up to this many seconds after the first sighting of a tag still belong to one release.
const RELEASE: i64 = 48 * 3600;

/// What one witness has reported, up to the log index until which its entries count.
pub(super) struct WitnessHistory<'a> {
    pub(super) id: &'a WitnessId,
    /// The sightings that count, oldest first; at least one.
    pub(super) sightings: &'a [Sighted],
    /// The latest sighting.
    pub(super) seen: Seen,
    /// When the witness last observed or confirmed that.
    pub(super) vouched: Timestamp,
    /// Whether its reports can make an image pass. The signatures of a witness that is not in the roster were not
    /// checked, so the log could have invented its entries. Its sightings still count as history.
    pub(super) in_roster: bool,
}

impl<'a> WitnessHistory<'a> {
    /// Entries from log index `until` on do not count; `None` if no sighting is left.
    fn of(report: &'a WitnessReport, until: Option<u64>) -> Option<WitnessHistory<'a>> {
        let counts = |index: u64| until.is_none_or(|until| index < until);
        let counted = report.sightings.partition_point(|sighted| counts(sighted.sighting.index));
        let sightings = &report.sightings[..counted];
        let last = sightings.last()?;
        let latest = Some(report.line.observed).filter(|_| counts(report.line.index));
        let confirmed =
            report.confirmed.filter(|confirmed| counts(confirmed.index)).map(|confirmed| confirmed.observed);
        Some(WitnessHistory {
            id: &report.line.witness,
            sightings,
            seen: last.sighting.seen,
            vouched: [latest, confirmed].into_iter().flatten().fold(last.observed, Ord::max),
            in_roster: report.in_roster,
        })
    }

    /// The digests that it saw, in order of time; one that came back is listed again.
    fn changes(&self) -> Vec<(Digest, Timestamp)> {
        let mut changes: Vec<(Digest, Timestamp)> = Vec::new();
        for sighted in self.sightings {
            if let Seen::Digest(digest) = sighted.sighting.seen
                // A tag that disappeared and came back unchanged has not changed.
                && changes.last().is_none_or(|(last, _)| *last != digest)
            {
                changes.push((digest, sighted.observed));
            }
        }
        changes
    }

    /// The digest that it saw, if it has only ever seen one.
    fn only(&self) -> Option<Digest> {
        match self.changes()[..] {
            [(only, _)] => Some(only),
            _ => None,
        }
    }

    /// When it first saw this digest.
    fn first_saw(&self, digest: Digest) -> Option<Timestamp> {
        let is_it = |sighted: &&Sighted| sighted.sighting.seen == Seen::Digest(digest);
        self.sightings.iter().find(is_it).map(|sighted| sighted.observed)
    }
}

/// Why there is no history to evaluate.
pub(super) enum NoHistory<'a> {
    /// No trusted witness has reported the tag.
    Nothing,
    /// The list of sightings of this witness is not complete.
    Incomplete(&'a WitnessId),
}

/// What all trusted witnesses have reported of one tag.
pub(super) struct History<'a> {
    pub(super) witnesses: Vec<WitnessHistory<'a>>,
    /// How many witnesses could have reported the tag: those that policy names, else those that have.
    pub(super) expected: usize,
    /// The number of untrusted witnesses that have sighted a digest which no trusted witness has sighted.
    pub(super) untrusted_dissenters: usize,
}

impl<'a> History<'a> {
    pub(super) fn of(report: &'a ImageReport, demands: &Demands) -> Result<History<'a>, NoHistory<'a>> {
        let mut witnesses = Vec::new();
        let mut untrusted = Vec::new();
        for reported in &report.witnesses {
            match demands.trusts(&reported.line.witness) {
                Some(_) if !reported.complete => return Err(NoHistory::Incomplete(&reported.line.witness)),
                Some(trusted) => witnesses.extend(WitnessHistory::of(reported, trusted.until)),
                None => untrusted.extend(WitnessHistory::of(reported, None)),
            }
        }
        if witnesses.is_empty() {
            return Err(NoHistory::Nothing);
        }
        let expected = if demands.trusted.is_empty() { witnesses.len() } else { demands.trusted.len() };
        let mut history = History { witnesses, expected, untrusted_dissenters: 0 };
        let known: BTreeSet<Digest> = history.digests().into_iter().collect();
        let differs = |witness: &&WitnessHistory| witness.changes().iter().any(|(digest, _)| !known.contains(digest));
        history.untrusted_dissenters = untrusted.iter().filter(differs).count();
        Ok(history)
    }

    /// The witnesses whose reports can make an image pass.
    pub(super) fn vouching(&self) -> impl Iterator<Item = &WitnessHistory<'a>> {
        self.witnesses.iter().filter(|witness| witness.in_roster)
    }

    /// Every digest ever sighted, in the order of their first sighting in the log.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let mut first: BTreeMap<Digest, u64> = BTreeMap::new();
        for sighted in self.witnesses.iter().flat_map(|witness| witness.sightings) {
            if let Seen::Digest(digest) = sighted.sighting.seen {
                let index = first.entry(digest).or_insert(sighted.sighting.index);
                *index = (*index).min(sighted.sighting.index);
            }
        }
        let mut digests: Vec<(u64, Digest)> = first.into_iter().map(|(digest, index)| (index, digest)).collect();
        digests.sort();
        digests.into_iter().map(|(_, digest)| digest).collect()
    }

    /// The digest that at least `enough` witnesses sighted last; of several, the one with the latest log index.
    pub(super) fn newest(&self, enough: usize) -> Option<Digest> {
        let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
        for witness in self.vouching() {
            if let (Seen::Digest(digest), Some(last)) = (witness.seen, witness.sightings.last()) {
                let (count, index) = seen.entry(digest).or_default();
                *count += 1;
                *index = (*index).max(last.sighting.index);
            }
        }
        let enough = seen.into_iter().filter(|(_, (count, _))| *count >= enough);
        enough.max_by_key(|(_, (_, index))| *index).map(|(digest, _)| digest)
    }

    /// The time at which `enough` vouching witnesses had seen this digest for the first time.
    pub(super) fn first_seen(&self, digest: Digest, enough: usize) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = self.vouching().filter_map(|witness| witness.first_saw(digest)).collect();
        times.sort();
        times.get(enough.saturating_sub(1)).copied()
    }

    /// The digests that at least `enough` witnesses had seen by this time, ordered by their latest sighting.
    pub(super) fn settled(&self, enough: usize, before: Timestamp) -> Vec<Digest> {
        let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
        for witness in self.vouching() {
            // Sightings are in order of time, so the first one of a digest decides.
            let mut by_then: BTreeMap<Digest, bool> = BTreeMap::new();
            for sighted in witness.sightings {
                if let Seen::Digest(digest) = sighted.sighting.seen {
                    by_then.entry(digest).or_insert(sighted.observed <= before);
                    let (_, index) = seen.entry(digest).or_default();
                    *index = (*index).max(sighted.sighting.index);
                }
            }
            for digest in by_then.into_iter().filter(|(_, seen_by_then)| *seen_by_then).map(|(digest, _)| digest) {
                seen.entry(digest).or_default().0 += 1;
            }
        }
        let mut settled: Vec<(u64, Digest)> = seen
            .into_iter()
            .filter(|(_, (count, _))| *count >= enough)
            .map(|(digest, (_, index))| (index, digest))
            .collect();
        settled.sort();
        settled.into_iter().map(|(_, digest)| digest).collect()
    }

    /// The one witness that contradicts all others, and the only digest that the others have ever seen. At least two of
    /// the others must be in the roster, so that their signatures were checked.
    pub(super) fn lone_dissenter(&self) -> Option<(&WitnessHistory<'a>, Digest)> {
        let saw: Vec<&WitnessHistory> = self.witnesses.iter().filter(|witness| !witness.changes().is_empty()).collect();
        let mut agree: BTreeMap<Digest, (usize, usize)> = BTreeMap::new();
        for witness in &saw {
            if let Some(only) = witness.only() {
                let (all, checked) = agree.entry(only).or_default();
                *all += 1;
                *checked += usize::from(witness.in_roster);
            }
        }
        let alone = |(_, (all, checked)): &(Digest, (usize, usize))| *all + 1 == saw.len() && *checked >= 2;
        let (digest, _) = agree.into_iter().find(alone)?;
        saw.into_iter().find(|witness| witness.only() != Some(digest)).map(|witness| (witness, digest))
    }

    /// How the tag moved: the changes that each witness saw, each of them once. Merging the witnesses' lists into one
    /// would show changes that nobody saw. A digest that no witness saw the tag move to is taken to follow the digest
    /// that was sighted before it.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves: BTreeMap<(Digest, Digest, usize), Timestamp> = BTreeMap::new();
        for witness in &self.witnesses {
            let mut times: BTreeMap<(Digest, Digest), usize> = BTreeMap::new();
            for pair in witness.changes().windows(2) {
                let [(from, _), (to, at)] = [pair[0], pair[1]];
                let time = times.entry((from, to)).or_default();
                let first = moves.entry((from, to, *time)).or_insert(at);
                *first = (*first).min(at);
                *time += 1;
            }
        }
        let moved_to: BTreeSet<Digest> = moves.keys().map(|(_, to, _)| *to).collect();
        for pair in self.digests().windows(2) {
            let (from, to) = (pair[0], pair[1]);
            if !moved_to.contains(&to)
                && let Some(at) = self.witnesses.iter().filter_map(|witness| witness.first_saw(to)).min()
            {
                moves.insert((from, to, 0), at);
            }
        }
        let began =
            self.witnesses.iter().filter_map(|witness| witness.sightings.first()).map(|first| first.observed).min();
        let limit = began.map_or(i64::MIN, |began| began.unix().saturating_add(RELEASE));
        let moved = |((from, to, _), at): ((Digest, Digest, usize), Timestamp)| Move {
            from,
            to,
            at,
            within_release: at.unix() <= limit,
        };
        let mut moves: Vec<Move> = moves.into_iter().map(moved).collect();
        moves.sort_by_key(|change| change.at);
        moves
    }
}
