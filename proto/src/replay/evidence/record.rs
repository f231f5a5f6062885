//! Tag records that contradict the entries that they cite.

use serde::{Deserialize, Serialize};

use super::{EvidenceError, UNKNOWN_KIND, entry::proven, signed};
use crate::{
    c2sp::{
        merkle::{Hash, leaf_hash, verify_inclusion},
        note::VerifierKey,
        time::Timestamp,
    },
    formats::{
        entry::{Entry, EntryError, Observation, Seen},
        name::{Image, WitnessId},
        record::{Sighting, TagLine, TagRecord, tag_key},
    },
    verify::tag_proof::{IndexAnswer, IndexedEntry, TagProof},
};

/// An observation that a tag proof leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    /// The tag proof, with the complete list of the observation's witness.
    pub tag_proof: TagProof,
    /// The observation.
    pub observation: IndexedEntry,
    /// Its inclusion under the tag proof's checkpoint.
    pub inclusion: Vec<Hash>,
}

/// A tag record that cites an entry which says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phantom {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// `repository:tag`.
    pub image: String,
    /// The tag record, with its proof under the seal.
    pub tag: IndexAnswer,
    /// The witness whose line cites the entry.
    pub witness: String,
    /// The complete list of its sightings, when one of them is what cites; absent when it is the
    /// latest observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sightings: Option<Vec<String>>,
    /// The log index that is cited.
    pub cited: u64,
    /// The seal and the cited entry (the seal alone when the index is not below it), sorted.
    pub entries: Vec<IndexedEntry>,
    /// The multiproof of these entries.
    pub multiproof: Vec<Hash>,
}

impl Omission {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let lookup = self.tag_proof.verify(log)?;
        let IndexedEntry { index, entry } = &self.observation;
        verify_inclusion(
            &leaf_hash(entry.as_bytes()),
            *index,
            lookup.checkpoint.size,
            &self.inclusion,
            &lookup.checkpoint.root,
        )?;
        let Ok(Entry::Observation(observation)) = Entry::parse(entry.as_bytes()) else {
            return Err(EvidenceError::ProvesNothing("the entry is not an observation"));
        };
        if *index >= lookup.seal.size {
            return Err(EvidenceError::ProvesNothing("the observation is not before the seal"));
        }
        let image = &observation.image;
        let report = lookup.report(image).ok_or_else(|| EvidenceError::Incomplete(format!("an answer for {image}")))?;
        let witness = &observation.signature.witness;
        let accused = format!("{} leaves entry {index} out of the tag index: {image} by {witness}", log.name());
        let Some(line) = report.witnesses.iter().find(|report| report.line.witness == *witness) else {
            return Ok(accused);
        };
        if line.line.index < *index || line.line.observed < observation.observed {
            return Ok(accused);
        }
        if !line.complete {
            return Err(EvidenceError::Incomplete("the complete list of sightings".to_owned()));
        }
        let listed = line.sightings.iter().any(|sighted| sighted.sighting.seen == observation.seen);
        if listed { Err(EvidenceError::ProvesNothing("the index has the observation")) } else { Ok(accused) }
    }
}

impl Phantom {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        let entries = proven(&self.entries, &self.multiproof, &checkpoint)?;
        let last = checkpoint.size - 1;
        // A seal that states another index is for `NoSeal`: what its index root commits to is not this checkpoint's.
        let seal = entries.get(&last).and_then(|entry| entry.as_ref().ok()?.seal_at(last));
        let seal = seal.ok_or_else(|| EvidenceError::Incomplete("the checkpoint's seal".to_owned()))?;
        let image = Image::parse(&self.image)?;
        let record = self.tag.record.as_deref().ok_or(EvidenceError::Incomplete("the tag record".to_owned()))?;
        self.tag.proof.verify(&tag_key(&image), Some(&Hash::of(record.as_bytes())), &seal.index)?;
        let record = TagRecord::parse(record)?;
        let witness = WitnessId::parse(&self.witness)?;
        let line = record.line(&witness).ok_or(EvidenceError::Incomplete("a line of the witness".to_owned()))?;

        let claim = self.claim(line)?;
        let accused =
            format!("{}'s tag record of {image} cites entry {}, which says otherwise", log.name(), self.cited);
        if self.cited >= seal.size {
            return Ok(accused);
        }
        let entry = entries.get(&self.cited).ok_or(EvidenceError::Incomplete("the cited entry".to_owned()))?;
        let agrees = match entry {
            Ok(Entry::Observation(entry)) => claim.is_made_by(entry, &image, &witness),
            Err(EntryError::UnknownKind(_)) => return Err(UNKNOWN_KIND),
            _ => false,
        };
        if agrees { Err(EvidenceError::ProvesNothing("the cited entry says the same")) } else { Ok(accused) }
    }

    /// What the record says of the cited entry.
    fn claim(&self, line: &TagLine) -> Result<Claim, EvidenceError> {
        let Some(leaves) = &self.sightings else {
            let latest = Claim { seen: line.seen, observed: Some(line.observed) };
            return if line.index == self.cited {
                Ok(latest)
            } else {
                Err(EvidenceError::ProvesNothing("the line does not cite this entry"))
            };
        };
        let sightings = complete_list(leaves, line)?;
        let cited = sightings.iter().find(|sighting| sighting.index == self.cited);
        let cited = cited.ok_or(EvidenceError::ProvesNothing("the list does not cite this entry"))?;
        Ok(Claim { seen: cited.seen, observed: None })
    }
}

struct Claim {
    seen: Seen,
    observed: Option<Timestamp>,
}

impl Claim {
    fn is_made_by(&self, entry: &Observation, image: &Image, witness: &WitnessId) -> bool {
        entry.image == *image
            && entry.signature.witness == *witness
            && entry.seen == self.seen
            && self.observed.is_none_or(|observed| observed == entry.observed)
    }
}

/// Parses a list of sightings and checks it against the record's line.
pub(super) fn complete_list(leaves: &[String], line: &TagLine) -> Result<Vec<Sighting>, EvidenceError> {
    let sightings: Vec<Sighting> = leaves.iter().map(|leaf| Sighting::parse(leaf)).collect::<Result<_, _>>()?;
    if line.commits_to(&sightings) {
        Ok(sightings)
    } else {
        Err(EvidenceError::Incomplete("a list of sightings that has the record's root".to_owned()))
    }
}
