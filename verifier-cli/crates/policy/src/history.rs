//! What the witnesses that count have said of one tag.

use std::collections::{BTreeMap, BTreeSet};

use taglog_proto::{
    entry::Seen,
    name::{Digest, WitnessId},
    tag_proof::{ImageReport, Sighted, WitnessReport},
    time::Timestamp,
};

use super::{Demands, Move};

/// Changes so long after the first sighting of a tag, in seconds, still belong to one release.
const RELEASE: i64 = 48 * 3600;

/// What one witness has said, as far as its word counts.
pub(super) struct Word<'a> {
    pub(super) witness: &'a WitnessId,
    /// Its sightings that count, oldest first; at least one.
    pub(super) sightings: &'a [Sighted],
    /// What it saw last.
    pub(super) seen: Seen,
    /// When it last vouched for that.
    pub(super) vouched: Timestamp,
    /// Whether its word can let something pass. Of a witness that is not in the roster nobody has checked the
    /// signatures: the log may say anything in its name. What it sighted still counts as history.
    pub(super) in_roster: bool,
}

impl<'a> Word<'a> {
    /// Its entries from log index `until` on do not count; without any before that it has said nothing.
    fn of(report: &'a WitnessReport, until: Option<u64>) -> Option<Word<'a>> {
        let counts = |index: u64| until.is_none_or(|until| index < until);
        let counted = report.sightings.partition_point(|sighted| counts(sighted.sighting.index));
        let sightings = &report.sightings[..counted];
        let last = sightings.last()?;
        let latest = Some(report.line.observed).filter(|_| counts(report.line.index));
        let confirmed =
            report.confirmed.filter(|confirmed| counts(confirmed.index)).map(|confirmed| confirmed.observed);
        Some(Word {
            witness: &report.line.witness,
            sightings,
            seen: last.sighting.seen,
            vouched: [latest, confirmed].into_iter().flatten().fold(last.observed, Ord::max),
            in_roster: report.in_roster,
        })
    }

    /// The digests that it ever saw, in its order; one that came back is there again.
    fn changes(&self) -> Vec<(Digest, Timestamp)> {
        let mut changes: Vec<(Digest, Timestamp)> = Vec::new();
        for sighted in self.sightings {
            if let Seen::Digest(digest) = sighted.sighting.seen
                // Gone and back unchanged is no change.
                && changes.last().is_none_or(|(last, _)| *last != digest)
            {
                changes.push((digest, sighted.observed));
            }
        }
        changes
    }

    /// The digest that it saw, if it only ever saw one.
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

/// Why there is no history to judge.
pub(super) enum NoHistory<'a> {
    /// No witness that counts has said anything.
    Nothing,
    /// This witness's list of sightings is not whole.
    Incomplete(&'a WitnessId),
}

/// What all witnesses that count have said of one tag.
pub(super) struct History<'a> {
    pub(super) words: Vec<Word<'a>>,
    /// How many witnesses could have said something: those that policy names, else those that have.
    pub(super) asked: usize,
    /// Digests that only witnesses have sighted whose word does not count, and how many of those there are.
    pub(super) uncounted: usize,
}

impl<'a> History<'a> {
    pub(super) fn of(report: &'a ImageReport, demands: &Demands) -> Result<History<'a>, NoHistory<'a>> {
        let mut words = Vec::new();
        let mut others = Vec::new();
        for witness in &report.witnesses {
            match demands.trusts(&witness.line.witness) {
                Some(_) if !witness.complete => return Err(NoHistory::Incomplete(&witness.line.witness)),
                Some(trusted) => words.extend(Word::of(witness, trusted.until)),
                None => others.extend(Word::of(witness, None)),
            }
        }
        if words.is_empty() {
            return Err(NoHistory::Nothing);
        }
        let asked = if demands.trusted.is_empty() { words.len() } else { demands.trusted.len() };
        let mut history = History { words, asked, uncounted: 0 };
        let known: BTreeSet<Digest> = history.digests().into_iter().collect();
        let differs = |word: &&Word| word.changes().iter().any(|(digest, _)| !known.contains(digest));
        history.uncounted = others.iter().filter(differs).count();
        Ok(history)
    }

    /// Those whose word can let something pass.
    pub(super) fn vouching(&self) -> impl Iterator<Item = &Word<'a>> {
        self.words.iter().filter(|word| word.in_roster)
    }

    /// Every digest ever sighted, in the order of their first sighting in the log.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let mut first: BTreeMap<Digest, u64> = BTreeMap::new();
        for sighted in self.words.iter().flat_map(|word| word.sightings) {
            if let Seen::Digest(digest) = sighted.sighting.seen {
                let index = first.entry(digest).or_insert(sighted.sighting.index);
                *index = (*index).min(sighted.sighting.index);
            }
        }
        let mut digests: Vec<(u64, Digest)> = first.into_iter().map(|(digest, index)| (index, digest)).collect();
        digests.sort();
        digests.into_iter().map(|(_, digest)| digest).collect()
    }

    /// The digest that at least `enough` witnesses see last; of several, the one that came last into the log.
    pub(super) fn newest(&self, enough: usize) -> Option<Digest> {
        let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
        for word in self.vouching() {
            if let (Seen::Digest(digest), Some(last)) = (word.seen, word.sightings.last()) {
                let (count, index) = seen.entry(digest).or_default();
                *count += 1;
                *index = (*index).max(last.sighting.index);
            }
        }
        let enough = seen.into_iter().filter(|(_, (count, _))| *count >= enough);
        enough.max_by_key(|(_, (_, index))| *index).map(|(digest, _)| digest)
    }

    /// When `enough` of those who vouch had first seen this digest.
    pub(super) fn first_seen(&self, digest: Digest, enough: usize) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = self.vouching().filter_map(|word| word.first_saw(digest)).collect();
        times.sort();
        times.get(enough.saturating_sub(1)).copied()
    }

    /// The digests that `enough` witnesses had all seen at this time, the one that a witness changed to last at the end.
    pub(super) fn settled(&self, enough: usize, before: Timestamp) -> Vec<Digest> {
        let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
        for word in self.vouching() {
            // Of one witness's sightings of a digest the first comes first, and decides.
            let mut own: BTreeMap<Digest, bool> = BTreeMap::new();
            for sighted in word.sightings {
                if let Seen::Digest(digest) = sighted.sighting.seen {
                    own.entry(digest).or_insert(sighted.observed <= before);
                    let (_, index) = seen.entry(digest).or_default();
                    *index = (*index).max(sighted.sighting.index);
                }
            }
            for digest in own.into_iter().filter(|(_, old_enough)| *old_enough).map(|(digest, _)| digest) {
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

    /// The one witness that stands alone, and the one digest that all the others have only ever seen; there must be
    /// two of them at least whose signatures were checked.
    pub(super) fn lone_dissenter(&self) -> Option<(&Word<'a>, Digest)> {
        let saw: Vec<&Word> = self.words.iter().filter(|word| !word.changes().is_empty()).collect();
        let mut agree: BTreeMap<Digest, (usize, usize)> = BTreeMap::new();
        for word in &saw {
            if let Some(only) = word.only() {
                let (all, checked) = agree.entry(only).or_default();
                *all += 1;
                *checked += usize::from(word.in_roster);
            }
        }
        let alone = |(_, (all, checked)): &(Digest, (usize, usize))| *all + 1 == saw.len() && *checked >= 2;
        let (digest, _) = agree.into_iter().find(alone)?;
        saw.into_iter().find(|word| word.only() != Some(digest)).map(|word| (word, digest))
    }

    /// How the tag moved. Each witness's own changes, each once whoever saw it: lists interleaved would show changes
    /// that nobody saw. A digest that no witness saw the tag move to follows the one that was sighted before it.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves: BTreeMap<(Digest, Digest, usize), Timestamp> = BTreeMap::new();
        for word in &self.words {
            let mut times: BTreeMap<(Digest, Digest), usize> = BTreeMap::new();
            for pair in word.changes().windows(2) {
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
                && let Some(at) = self.words.iter().filter_map(|word| word.first_saw(to)).min()
            {
                moves.insert((from, to, 0), at);
            }
        }
        let began = self.words.iter().filter_map(|word| word.sightings.first()).map(|first| first.observed).min();
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
