//! The verifier's side, which trusts nothing but the log's key and the names that it asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImageAnswer, IndexAnswer, MAX_IMAGES, PAGE, SightingPage, TagProof, TagProofError};
use crate::{
    c2sp::{
        checkpoint::{Checkpoint, SignedCheckpoint},
        merkle::{Hash, verify_consistency},
        note::VerifierKey,
        time::Timestamp,
    },
    formats::{
        entry::{Entry, Observation, Roster, Seal, Seen},
        name::Image,
        record::{
            Confirmed, RecordError, RepositoryRecord, Sighting, TagLine, TagRecord, commitment, repository_key, tag_key,
        },
    },
    verify::{multiproof, prefix_tree::Key},
};

/// A tag proof that has been verified under the log's key.
#[derive(Clone, Debug)]
pub struct VerifiedLookup {
    /// The verified checkpoint.
    pub checkpoint: Checkpoint,
    /// The signed form, to remember or to show.
    pub signed_checkpoint: SignedCheckpoint,
    /// The seal of the checkpoint: time, number of tags.
    pub seal: Seal,
    /// The roster in force.
    pub roster: Roster,
    /// What the log holds, image by image, in the order of the proof.
    pub images: Vec<ImageReport>,
}

/// What the log holds of one image.
#[derive(Clone, Debug)]
pub struct ImageReport {
    /// Repository and tag.
    pub image: Image,
    /// Whether any witness has ever reported a tag of the repository.
    pub repository_covered: bool,
    /// One report for each witness that ever reported the tag; none when the tag is unknown.
    pub witnesses: Vec<WitnessReport>,
}

/// What one witness has reported of one image.
#[derive(Clone, Debug)]
pub struct WitnessReport {
    /// Its line in the tag record: counts and latest observation.
    pub line: TagLine,
    /// Its sightings, oldest first, from number `start` on.
    pub sightings: Vec<Sighted>,
    /// Sightings before those listed.
    pub start: u64,
    /// Whether `sightings` is all of them, checked against the root in the record.
    pub complete: bool,
    /// Its latest confirmation of the repository.
    pub confirmed: Option<Confirmed>,
    /// Whether it is in the roster in force, so that its signatures could be checked.
    pub in_roster: bool,
}

/// A sighting and when the witness observed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighted {
    /// Log index, and digest or `gone`.
    pub sighting: Sighting,
    /// When the witness resolved the tag.
    pub observed: Timestamp,
}

impl WitnessReport {
    /// The last time at which this witness vouched for its latest observation: the later of that
    /// and of its latest confirmation of the repository.
    pub fn vouched(&self) -> Timestamp {
        self.confirmed.map_or(self.line.observed, |confirmed| confirmed.observed.max(self.line.observed))
    }
}

impl VerifiedLookup {
    /// The report on an image, if the proof answers for it.
    pub fn report(&self, image: &Image) -> Option<&ImageReport> {
        self.images.iter().find(|report| report.image == *image)
    }

    /// Takes further pages of the lists of sightings from other look-ups that were verified, and
    /// marks each list complete whose root then fits. They may be of other checkpoints of the same
    /// log: lists only grow, so what is beyond this record's count is left out.
    pub fn join_pages(&mut self, pages: &[VerifiedLookup]) {
        for report in &mut self.images {
            let pages: Vec<&ImageReport> = pages.iter().filter_map(|page| page.report(&report.image)).collect();
            for witness in report.witnesses.iter_mut().filter(|witness| !witness.complete) {
                witness.join(pages.iter().flat_map(|page| &page.witnesses));
            }
        }
    }
}

impl WitnessReport {
    fn join<'a>(&mut self, pages: impl Iterator<Item = &'a WitnessReport>) {
        let own = pages.filter(|page| page.line.witness == self.line.witness);
        let mut by_start: BTreeMap<u64, &Vec<Sighted>> = own.map(|page| (page.start, &page.sightings)).collect();
        by_start.insert(self.start, &self.sightings);
        let joined = by_start.into_values().flatten().take(self.line.sightings as usize);
        let joined: Vec<Sighted> = joined.copied().collect();
        let changes = |pair: &[Sighted]| {
            let [a, b] = [pair[0].sighting, pair[1].sighting];
            a.index < b.index && a.seen != b.seen
        };
        let ends_right = joined.last().is_some_and(|last| last.sighting.seen == self.line.seen);
        if is_complete(&joined, &self.line) && ends_right && joined.windows(2).all(changes) {
            (self.sightings, self.start, self.complete) = (joined, 0, true);
        }
    }
}

fn is_complete(sightings: &[Sighted], line: &TagLine) -> bool {
    line.commits_to(sightings.iter().map(|sighted| &sighted.sighting))
}

/// The entries of a proof, all proven by the multiproof; remembers which were referred to.
struct ProvenEntries {
    entries: BTreeMap<u64, Entry>,
    used: BTreeSet<u64>,
}

impl ProvenEntries {
    fn take(&mut self, index: u64) -> Option<&Entry> {
        self.used.insert(index);
        self.entries.get(&index)
    }

    fn check_all_used(&self) -> Result<(), TagProofError> {
        match self.entries.keys().find(|index| !self.used.contains(index)) {
            Some(index) => Err(TagProofError::Superfluous(*index)),
            None => Ok(()),
        }
    }
}

impl TagProof {
    /// Verifies everything in the proof under the log's key: checkpoint, multiproof, seal, roster,
    /// index proofs, records, lists of sightings, and the witnesses' signatures (for those in the
    /// roster in force). The caller then asks [`VerifiedLookup::report`] for the names it requested.
    ///
    /// # Errors
    /// [`TagProofError`]: a proof with an error must be treated as misbehaviour, or as a bad copy.
    pub fn verify(&self, log: &VerifierKey) -> Result<VerifiedLookup, TagProofError> {
        let signed_checkpoint = SignedCheckpoint::parse(self.checkpoint.as_bytes())?;
        let checkpoint = signed_checkpoint.verify(log)?.clone();
        let mut entries = self.proven_entries(&checkpoint)?;
        let seal = take_seal(&mut entries, checkpoint.size)?;
        let Some(Entry::Roster(roster)) = entries.take(seal.roster).cloned() else {
            return Err(TagProofError::Roster);
        };
        if !(1..=MAX_IMAGES).contains(&self.images.len()) {
            return Err(TagProofError::Images);
        }
        let mut images: Vec<ImageReport> = Vec::with_capacity(self.images.len());
        let mut names = BTreeSet::new();
        for answer in &self.images {
            let image = Image::parse(&answer.image)?;
            if !names.insert(image.clone()) {
                return Err(TagProofError::Images);
            }
            images.push(verify_answer(answer, image, &seal, &roster, &mut entries)?);
        }
        entries.check_all_used()?;
        Ok(VerifiedLookup { checkpoint, signed_checkpoint, seal, roster, images })
    }

    /// Checks that the log has only grown since `old`, a checkpoint verified before.
    ///
    /// # Errors
    /// [`TagProofError::Inconsistent`]; `new` must be this proof's verified checkpoint.
    pub fn verify_consistency(&self, old: &Checkpoint, new: &Checkpoint) -> Result<(), TagProofError> {
        let inconsistent = |why: String| TagProofError::Inconsistent { from: old.size, why };
        if new.size < old.size {
            return Err(inconsistent(format!("the log has shrunk to {}", new.size)));
        }
        let proof = match &self.consistency {
            _ if new.size == old.size => &[][..],
            Some(consistency) if consistency.from == old.size => &consistency.proof[..],
            _ => return Err(inconsistent("the answer has no consistency proof from there".to_owned())),
        };
        verify_consistency(old.size, new.size, proof, &old.root, &new.root)
            .map_err(|error| inconsistent(error.to_string()))
    }

    fn proven_entries(&self, checkpoint: &Checkpoint) -> Result<ProvenEntries, TagProofError> {
        let leaves: Vec<(u64, &[u8])> = self.entries.iter().map(|e| (e.index, e.entry.as_bytes())).collect();
        multiproof::verify(&leaves, checkpoint.size, &self.multiproof, &checkpoint.root)
            .map_err(TagProofError::Multiproof)?;
        let parse = |(index, bytes): (u64, &[u8])| {
            Entry::parse(bytes).map(|entry| (index, entry)).map_err(|error| TagProofError::Entry(index, error))
        };
        let entries = leaves.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(ProvenEntries { entries, used: BTreeSet::new() })
    }
}

/// The last leaf of a checkpoint is a seal of its own index; so no proof says where the seal is,
/// and an old seal cannot be replayed.
fn take_seal(entries: &mut ProvenEntries, size: u64) -> Result<Seal, TagProofError> {
    let last = entries.take(size - 1).and_then(|entry| entry.seal_at(size - 1));
    last.copied().ok_or(TagProofError::Seal)
}

fn verify_answer(
    answer: &ImageAnswer,
    image: Image,
    seal: &Seal,
    roster: &Roster,
    entries: &mut ProvenEntries,
) -> Result<ImageReport, TagProofError> {
    let name = &answer.image;
    let tag = verify_index(&answer.tag, name, &tag_key(&image), &seal.index, TagRecord::parse)?;
    let repository_name = image.repository.as_str();
    let repository_key = repository_key(&image.repository);
    let repository =
        verify_index(&answer.repository, repository_name, &repository_key, &seal.index, RepositoryRecord::parse)?;

    let contradiction = |why: String| TagProofError::Contradiction { image: name.clone(), why };
    if tag.as_ref().is_some_and(|record| record.image != image) {
        return Err(contradiction("the tag record is another image's".to_owned()));
    }
    if repository.as_ref().is_some_and(|record| record.repository != image.repository) {
        return Err(contradiction("the repository record is another repository's".to_owned()));
    }
    let lines = tag.as_ref().map_or(&[][..], TagRecord::lines);
    if lines.len() != answer.sightings.len() {
        return Err(contradiction("want one list of sightings for each line of the tag record".to_owned()));
    }
    let mut witnesses = Vec::with_capacity(lines.len());
    for (line, page) in lines.iter().zip(&answer.sightings) {
        let Some(repository_line) = repository.as_ref().and_then(|record| record.line(&line.witness)) else {
            return Err(contradiction(format!("{} is missing in the repository record", line.witness)));
        };
        let confirmed = repository_line.confirmed;
        let witness = WitnessCheck { image: &image, line, roster, seal };
        let report = witness.verify(page, confirmed, entries);
        witnesses.push(report.map_err(|error| match error {
            Refused::Because(why) => contradiction(format!("{}: {why}", line.witness)),
            Refused::Error(error) => error,
        })?);
    }
    Ok(ImageReport { image, repository_covered: repository.is_some(), witnesses })
}

/// Checks what the index holds under a key that the verifier computed itself.
fn verify_index<T: std::fmt::Display>(
    answer: &IndexAnswer,
    name: &str,
    key: &Key,
    root: &Hash,
    parse: impl Fn(&str) -> Result<T, RecordError>,
) -> Result<Option<T>, TagProofError> {
    let record = answer.record.as_deref().map(&parse).transpose();
    let record = record.map_err(|error| TagProofError::Record(name.to_owned(), error))?;
    // A record is committed to by its bytes, so one that prints differently cannot match.
    let commitment = record.as_ref().map(commitment);
    answer
        .proof
        .verify(key, commitment.as_ref(), root)
        .map_err(|error| TagProofError::Index(name.to_owned(), error))?;
    match (&record, &answer.record) {
        (Some(parsed), Some(text)) if parsed.to_string() != *text => {
            Err(TagProofError::Record(name.to_owned(), RecordError::Order))
        }
        _ => Ok(record),
    }
}

enum Refused {
    Because(String),
    Error(TagProofError),
}

impl From<&str> for Refused {
    fn from(why: &str) -> Refused {
        Refused::Because(why.to_owned())
    }
}

/// One line of a tag record, to be checked against its list and its entries.
struct WitnessCheck<'a> {
    image: &'a Image,
    line: &'a TagLine,
    roster: &'a Roster,
    seal: &'a Seal,
}

impl WitnessCheck<'_> {
    fn verify(
        &self,
        page: &SightingPage,
        confirmed: Option<Confirmed>,
        entries: &mut ProvenEntries,
    ) -> Result<WitnessReport, Refused> {
        let line = self.line;
        if page.witness != line.witness.to_string() {
            return Err("the list of sightings is another witness's".into());
        }
        let sightings = self.parse_page(page)?;
        let mut sighted = Vec::with_capacity(sightings.len());
        for sighting in sightings {
            let observation = self.observation(sighting.index, entries)?;
            if observation.seen != sighting.seen {
                return Err("a sighting differs from the observation it cites".into());
            }
            sighted.push(Sighted { sighting, observed: observation.observed });
        }
        let latest = self.observation(line.index, entries)?;
        if latest.seen != line.seen || latest.observed != line.observed {
            return Err("the latest observation differs from the record".into());
        }
        if let Some(confirmed) = &confirmed {
            self.check_confirmation(confirmed, entries)?;
        }
        let complete = self.check_list(page.start, &sighted)?;
        let in_roster = self.roster.key(&line.witness).is_some();
        Ok(WitnessReport { line: line.clone(), sightings: sighted, start: page.start, complete, confirmed, in_roster })
    }

    /// Reads the page, which has exactly the sightings that belong on it.
    fn parse_page(&self, page: &SightingPage) -> Result<Vec<Sighting>, Refused> {
        let expected = self.line.sightings.saturating_sub(page.start).min(PAGE);
        if !page.start.is_multiple_of(PAGE) || page.leaves.len() as u64 != expected {
            return Err("the list of sightings is cut short or too long".into());
        }
        let sightings: Vec<Sighting> = page
            .leaves
            .iter()
            .map(|leaf| Sighting::parse(leaf))
            .collect::<Result<_, _>>()
            .map_err(|error| Refused::Because(error.to_string()))?;
        let changes = |pair: &[Sighting]| pair[0].index < pair[1].index && pair[0].seen != pair[1].seen;
        if !sightings.windows(2).all(changes) {
            return Err("the list of sightings is not one of changes in log order".into());
        }
        Ok(sightings)
    }

    /// Whether the page is the whole list; if it is, it must have the record's root.
    fn check_list(&self, start: u64, sighted: &[Sighted]) -> Result<bool, Refused> {
        let whole = start == 0 && sighted.len() as u64 == self.line.sightings;
        if whole && !is_complete(sighted, self.line) {
            return Err("the list of sightings does not have the root in the record".into());
        }
        let reaches_the_end = start + sighted.len() as u64 == self.line.sightings;
        let times = sighted.iter().map(|sighted| sighted.observed).chain([self.line.observed]);
        if !times.is_sorted() || sighted.last().is_some_and(|last| last.sighting.index > self.line.index) {
            return Err("the latest observation is not after the sightings".into());
        }
        let last_seen: Option<Seen> = sighted.last().map(|last| last.sighting.seen);
        if reaches_the_end && last_seen.is_some_and(|seen| seen != self.line.seen) {
            return Err("the last sighting is not what the witness last saw".into());
        }
        Ok(whole)
    }

    /// The observation at `index`, which must be by this witness, of this image, and signed.
    fn observation<'e>(&self, index: u64, entries: &'e mut ProvenEntries) -> Result<&'e Observation, Refused> {
        if index >= self.seal.size {
            return Err("an observation after the seal is cited".into());
        }
        let Some(Entry::Observation(entry)) = entries.take(index) else {
            return Err("the entry cited is not an observation, or is not in the proof".into());
        };
        if entry.image != *self.image || entry.signature.witness != self.line.witness {
            return Err("the observation cited is of another image or by another witness".into());
        }
        if let Some(key) = self.roster.key(&self.line.witness) {
            entry.verify(key).map_err(|error| Refused::Error(TagProofError::Signature(index, error)))?;
        }
        Ok(entry)
    }

    fn check_confirmation(&self, confirmed: &Confirmed, entries: &mut ProvenEntries) -> Result<(), Refused> {
        let Some(Entry::Confirmation(entry)) = entries.take(confirmed.index) else {
            return Err("the entry cited is not a confirmation, or is not in the proof".into());
        };
        let fits = confirmed.index < self.seal.size
            && entry.repository == self.image.repository
            && entry.signature.witness == self.line.witness
            && entry.observed == confirmed.observed;
        if !fits {
            return Err("the confirmation cited is another one".into());
        }
        match self.roster.key(&self.line.witness) {
            Some(key) => {
                entry.verify(key).map_err(|error| Refused::Error(TagProofError::Signature(confirmed.index, error)))
            }
            None => Ok(()),
        }
    }
}
