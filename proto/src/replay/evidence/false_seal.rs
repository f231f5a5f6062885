//! A seal that the entries of its batch, and the index before them, do not lead to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EvidenceError, UNKNOWN_KIND, fork::check_fold, record::complete_list, signed};
use crate::{
    c2sp::{
        checkpoint::Checkpoint,
        merkle::{Frontier, Hash, ProofError, leaf_hash, verify_inclusion},
        note::VerifierKey,
    },
    formats::{
        entry::{Entry, Roster, Seal},
        name::{Image, Repository},
        record::{
            RecordReader, RepositoryRecord, Sighting, TagLine, TagRecord, commitment, repository_key,
            sightings_frontier, tag_key,
        },
    },
    replay::audit::{AuditError, AuditState, audit_batch},
    verify::{
        prefix_tree::{Key, PrefixProof, ProvenUpdate, updated_root},
        tag_proof::{IndexAnswer, IndexedEntry},
    },
};

/// A seal that does not follow from what is before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalseSeal {
    /// A signed checkpoint of any size from the seal on.
    pub checkpoint: String,
    /// The roots of the maximal perfect subtrees before the previous seal, largest first.
    pub prefix: Vec<Hash>,
    /// The index of the previous seal.
    pub start: u64,
    /// The previous seal, all entries of the batch, and the seal.
    pub entries: Vec<String>,
    /// The nodes after the seal that lead to the checkpoint's root, left to right.
    pub rest: Vec<Hash>,
    /// The roster that the previous seal names, with its inclusion.
    pub roster: IndexedEntry,
    /// Its inclusion under the checkpoint.
    pub roster_inclusion: Vec<Hash>,
    /// What the index held, as of the previous seal, of each tag in the batch.
    pub tags: Vec<OldTag>,
    /// What the index held of each repository in the batch.
    pub repositories: Vec<OldRepository>,
}

/// What the index held of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldTag {
    /// `repository:tag`.
    pub image: String,
    /// The record and its proof.
    pub answer: IndexAnswer,
    /// For each line of the record, the complete list of sightings.
    pub sightings: Vec<Vec<String>>,
}

/// What the index held of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldRepository {
    /// The repository.
    pub repository: String,
    /// The record and its proof.
    pub answer: IndexAnswer,
}

/// The records that false-seal evidence brings along, each proven under the old root.
struct OldRecords {
    tags: BTreeMap<Image, OldTagRecord>,
    repositories: BTreeMap<Repository, (Option<RepositoryRecord>, PrefixProof)>,
}

/// A tag record, the complete list of sightings of each of its lines, and its proof.
type OldTagRecord = (Option<TagRecord>, Vec<Vec<Sighting>>, PrefixProof);

impl OldRecords {
    fn prove(evidence: &FalseSeal, root: &Hash) -> Result<OldRecords, EvidenceError> {
        let mut old = OldRecords { tags: BTreeMap::new(), repositories: BTreeMap::new() };
        for OldTag { image, answer, sightings } in &evidence.tags {
            let image = Image::parse(image)?;
            let record = answer.record.as_deref().map(TagRecord::parse).transpose()?;
            answer.proof.verify(&tag_key(&image), record.as_ref().map(commitment).as_ref(), root)?;
            let lines = record.as_ref().map_or(&[][..], TagRecord::lines);
            if lines.len() != sightings.len() {
                return Err(EvidenceError::Incomplete(format!("the lists of sightings of {image}")));
            }
            let lists = lines.iter().zip(sightings).map(|(line, leaves)| complete_list(leaves, line));
            let lists = lists.collect::<Result<_, _>>()?;
            old.tags.insert(image, (record, lists, answer.proof.clone()));
        }
        for OldRepository { repository, answer } in &evidence.repositories {
            let repository = Repository::parse(repository)?;
            let record = answer.record.as_deref().map(RepositoryRecord::parse).transpose()?;
            answer.proof.verify(&repository_key(&repository), record.as_ref().map(commitment).as_ref(), root)?;
            old.repositories.insert(repository, (record, answer.proof.clone()));
        }
        Ok(old)
    }
}

fn lacks(name: impl std::fmt::Display) -> EvidenceError {
    EvidenceError::Incomplete(format!("what the index held of {name}"))
}

impl RecordReader for OldRecords {
    type Error = EvidenceError;
    type Place = ();

    fn place(&self, _: &Image) -> Result<(), EvidenceError> {
        Ok(())
    }

    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, EvidenceError> {
        let (record, ..) = self.tags.get(image).ok_or_else(|| lacks(image))?;
        Ok(record.clone())
    }

    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, EvidenceError> {
        let (record, _) = self.repositories.get(repository).ok_or_else(|| lacks(repository))?;
        Ok(record.clone())
    }

    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, EvidenceError> {
        let (record, lists, _) = self.tags.get(image).ok_or_else(|| lacks(image))?;
        let lines = record.as_ref().map_or(&[][..], TagRecord::lines);
        let list = lines.iter().zip(lists).find(|(l, _)| l.witness == line.witness).map(|(_, list)| list);
        Ok(sightings_frontier(list.ok_or_else(|| lacks(&line.witness))?))
    }
}

impl FalseSeal {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        self.check_entries(&checkpoint)?;
        let previous = self.previous_seal()?;
        let roster = self.roster(&previous, &checkpoint)?;
        let old = OldRecords::prove(self, &previous.index)?;
        let state = AuditState {
            size: self.start + 1,
            seal: Some(previous),
            roster: Some((self.roster.index, roster)),
            keys: Default::default(),
        };
        let batch: Vec<&[u8]> = self.entries[1..].iter().map(|entry| entry.as_bytes()).collect();
        let accused = |why: String| Ok(format!("{}'s seal is false: {why}", log.name()));
        let audited = match audit_batch(&state, &batch, &old, false) {
            Ok(audited) => audited,
            Err(AuditError::Violation { index, violation }) => return accused(format!("entry {index}: {violation}")),
            Err(AuditError::Reader(error)) => return Err(error),
            Err(AuditError::UnknownKind { .. }) => return Err(UNKNOWN_KIND),
            Err(AuditError::Unsealed(_)) => return Err(EvidenceError::Incomplete("the seal of the batch".to_owned())),
        };
        if audited.state.size != self.start + self.entries.len() as u64 {
            return Err(EvidenceError::ProvesNothing("there are entries after the seal"));
        }
        let root = updated_root(&previous.index, &self.updates(&audited.records.leaves(), &old)?)?;
        match audited.check_root::<EvidenceError>(&root) {
            Err(error) => accused(error.to_string()),
            Ok(()) => Err(EvidenceError::ProvesNothing("the seal follows from the entries")),
        }
    }

    /// The entries stand in the log where the evidence says: appended to what is before them, and
    /// with what is after them, they lead to the signed root.
    fn check_entries(&self, checkpoint: &Checkpoint) -> Result<(), EvidenceError> {
        let mut frontier = Frontier::from_parts(self.start, self.prefix.clone())
            .ok_or(ProofError::WrongLength { got: self.prefix.len() })?;
        let end = self.start.checked_add(self.entries.len() as u64).filter(|end| *end <= checkpoint.size);
        let end = end.ok_or(EvidenceError::ProvesNothing("the entries reach beyond the checkpoint"))?;
        for entry in &self.entries {
            frontier.append(leaf_hash(entry.as_bytes()), |_, _, _| {});
        }
        check_fold(frontier.nodes(), end, &self.rest, checkpoint)
    }

    fn previous_seal(&self) -> Result<Seal, EvidenceError> {
        match self.entries.first().map(|entry| Entry::parse(entry.as_bytes())) {
            Some(Ok(Entry::Seal(seal))) => Ok(seal),
            _ => Err(EvidenceError::Incomplete("the previous seal".to_owned())),
        }
    }

    fn roster(&self, previous: &Seal, checkpoint: &Checkpoint) -> Result<Roster, EvidenceError> {
        let IndexedEntry { index, entry } = &self.roster;
        let hash = leaf_hash(entry.as_bytes());
        verify_inclusion(&hash, *index, checkpoint.size, &self.roster_inclusion, &checkpoint.root)?;
        match Entry::parse(entry.as_bytes()) {
            Ok(Entry::Roster(roster)) if *index == previous.roster => Ok(roster),
            _ => Err(EvidenceError::Incomplete("the roster that the previous seal names".to_owned())),
        }
    }

    fn updates(&self, leaves: &BTreeMap<Key, Hash>, old: &OldRecords) -> Result<Vec<ProvenUpdate>, EvidenceError> {
        let tags =
            old.tags.iter().map(|(image, (record, _, proof))| (tag_key(image), record.as_ref().map(commitment), proof));
        let repositories = old
            .repositories
            .iter()
            .map(|(repository, (record, proof))| (repository_key(repository), record.as_ref().map(commitment), proof));
        let changed = tags.chain(repositories).filter_map(|(key, old, proof)| {
            leaves.get(&key).map(|new| ProvenUpdate { key, old, proof: proof.clone(), new: *new })
        });
        let changed: Vec<ProvenUpdate> = changed.collect();
        if changed.len() == leaves.len() {
            Ok(changed)
        } else {
            Err(EvidenceError::Incomplete("the proof of a record that the batch changes".to_owned()))
        }
    }
}
