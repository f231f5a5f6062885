//! Evidence of misbehaviour: self-contained files that anyone checks with nothing but the log's
//! vkey (SPEC.md section 9). Evidence that is forged or incomplete never convicts an honest log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    audit::{AuditError, AuditState, audit_batch},
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    encoding::MAX_INDEX,
    entry::{Entry, EntryError, Observation, Seal, Seen},
    index::{RecordReader, commitment},
    merkle::{Frontier, Hash, NodeReader, ProofError, fold_right, leaf_hash, subtree_root, verify_inclusion},
    multiproof,
    name::{Image, NameError, Repository, WitnessId},
    note::VerifierKey,
    prefix_tree::{PrefixError, PrefixProof, ProvenUpdate, updated_root},
    record::{RecordError, RepositoryRecord, Sighting, TagLine, TagRecord, repository_key, tag_key},
    rules::{SignatureVerdict, judge_signature},
    tag_proof::{IndexAnswer, IndexedEntry, TagProof, TagProofError, from_strict_json},
};

/// The most bytes of an evidence file that are read.
pub const MAX_EVIDENCE: usize = 256 * 1024 * 1024;

/// Why evidence does not convict.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvidenceError {
    /// Not JSON of this shape, or over [`MAX_EVIDENCE`].
    #[error("not an evidence file: {0}")]
    Json(String),
    /// A checkpoint that the log did not sign.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Entries that the checkpoint does not prove.
    #[error("the evidence's entries are not proven by the checkpoint: {0}")]
    Proof(#[from] ProofError),
    /// Index proofs that fail.
    #[error(transparent)]
    Index(#[from] PrefixError),
    /// A tag proof that fails by itself.
    #[error(transparent)]
    TagProof(#[from] TagProofError),
    /// A record that is malformed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A name that is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something that is needed is not in the file.
    #[error("the evidence lacks {0}")]
    Incomplete(String),
    /// Everything in it is compatible with an honest log.
    #[error("the evidence is true but convicts nobody: {0}")]
    Innocent(&'static str),
}

/// A later version's entries are no misbehaviour.
const UNKNOWN_KIND: EvidenceError =
    EvidenceError::Innocent("an entry is of a kind that this version does not know: upgrade");

/// One piece of evidence, as it is written to a file: JSON with the kind as `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Evidence {
    /// Two checkpoints of one size with different roots.
    #[serde(rename = "taglog/evidence/fork@v1")]
    Fork(Fork),
    /// Two checkpoints of different sizes, the older no prefix of the newer.
    #[serde(rename = "taglog/evidence/inconsistency@v1")]
    Inconsistency(Inconsistency),
    /// An observation in the log that a tag proof leaves out.
    #[serde(rename = "taglog/evidence/omission@v1")]
    Omission(Omission),
    /// A tag record that cites an entry which says otherwise.
    #[serde(rename = "taglog/evidence/phantom@v1")]
    Phantom(Phantom),
    /// A seal that does not follow from the seal before and the entries between.
    #[serde(rename = "taglog/evidence/false-seal@v1")]
    FalseSeal(FalseSeal),
    /// A checkpoint whose last entry is no seal of its size.
    #[serde(rename = "taglog/evidence/no-seal@v1")]
    NoSeal(NoSeal),
    /// A statement that the roster in force does not allow, or that its witness has not signed.
    #[serde(rename = "taglog/evidence/false-entry@v1")]
    FalseEntry(FalseEntry),
}

/// Fork at equal sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Two signed checkpoints.
    pub checkpoints: [String; 2],
}

/// Fork at sizes m < n.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inconsistency {
    /// The signed checkpoint of size m.
    pub old: String,
    /// The signed checkpoint of size n.
    pub new: String,
    /// The roots of the maximal perfect subtrees of the entries [0, m) in the tree of n, largest
    /// first: one for each one bit of m.
    pub prefix: Vec<Hash>,
    /// The other nodes that lead to the root of n, left to right.
    pub rest: Vec<Hash>,
}

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

/// A checkpoint whose last entry is no seal of its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSeal {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Its last entry.
    pub entry: String,
    /// The inclusion of that entry.
    pub inclusion: Vec<Hash>,
}

/// A statement by a witness outside the roster in force, or with a false signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalseEntry {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// A roster, the statement, and a seal after it that names the roster: sorted. No other roster stands between a
    /// roster and a seal that names it, so it is in force for the statement.
    pub entries: [IndexedEntry; 3],
    /// The multiproof of these entries.
    pub multiproof: Vec<Hash>,
}

impl Evidence {
    /// Reads an evidence file; nothing is verified.
    ///
    /// # Errors
    /// [`EvidenceError::Json`].
    pub fn from_json(bytes: &[u8]) -> Result<Evidence, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE {
            return Err(EvidenceError::Json(format!("it is over {MAX_EVIDENCE} bytes")));
        }
        let evidence: Evidence = from_strict_json(bytes).map_err(EvidenceError::Json)?;
        evidence.check_values()?;
        Ok(evidence)
    }

    /// What the shape alone does not say: the type of a tag proof, and the range of indices.
    fn check_values(&self) -> Result<(), EvidenceError> {
        let indices = match self {
            Evidence::Omission(evidence) => {
                evidence.tag_proof.check_values()?;
                vec![evidence.observation.index]
            }
            Evidence::Phantom(evidence) => {
                evidence.entries.iter().map(|entry| entry.index).chain([evidence.cited]).collect()
            }
            Evidence::FalseSeal(evidence) => vec![evidence.start, evidence.roster.index],
            Evidence::FalseEntry(evidence) => evidence.entries.iter().map(|entry| entry.index).collect(),
            Evidence::Fork(_) | Evidence::Inconsistency(_) | Evidence::NoSeal(_) => Vec::new(),
        };
        if indices.into_iter().all(|index| index < MAX_INDEX) {
            Ok(())
        } else {
            Err(EvidenceError::Json("an index is not below 2^53".to_owned()))
        }
    }

    /// The evidence as JSON.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks the evidence. `Ok` convicts the log with this key, and says of what in one sentence.
    ///
    /// # Errors
    /// [`EvidenceError`] when the evidence is forged, incomplete, or compatible with an honest log.
    pub fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        match self {
            Evidence::Fork(evidence) => evidence.convict(log),
            Evidence::Inconsistency(evidence) => evidence.convict(log),
            Evidence::Omission(evidence) => evidence.convict(log),
            Evidence::Phantom(evidence) => evidence.convict(log),
            Evidence::FalseSeal(evidence) => evidence.convict(log),
            Evidence::NoSeal(evidence) => evidence.convict(log),
            Evidence::FalseEntry(evidence) => evidence.convict(log),
        }
    }
}

fn signed(text: &str, log: &VerifierKey) -> Result<Checkpoint, EvidenceError> {
    Ok(SignedCheckpoint::parse(text.as_bytes())?.verify(log)?.clone())
}

impl Fork {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let [a, b] = [signed(&self.checkpoints[0], log)?, signed(&self.checkpoints[1], log)?];
        if a.size != b.size {
            return Err(EvidenceError::Innocent("the checkpoints have different sizes"));
        }
        if a.root == b.root {
            return Err(EvidenceError::Innocent("the checkpoints have the same root"));
        }
        Ok(format!("{} signed two different roots for size {}", log.name(), a.size))
    }
}

impl Inconsistency {
    /// Collects the nodes of the newer tree that show that the older is no prefix of it.
    ///
    /// # Errors
    /// What the reader, which gives the nodes of the newer tree, says.
    pub fn collect<R: NodeReader>(
        old: &SignedCheckpoint,
        new: &SignedCheckpoint,
        reader: &R,
    ) -> Result<Inconsistency, R::Error> {
        let (m, n) = (old.unverified().size, new.unverified().size);
        Ok(Inconsistency {
            old: old.to_string(),
            new: new.to_string(),
            prefix: Frontier::read(reader, m)?.nodes().to_vec(),
            rest: rest_nodes(reader, m, n)?,
        })
    }

    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let (old, new) = (signed(&self.old, log)?, signed(&self.new, log)?);
        if old.size >= new.size {
            return Err(EvidenceError::Innocent("the first checkpoint is not the smaller one"));
        }
        check_fold(&self.prefix, old.size, &self.rest, &new)?;
        if fold_right(&self.prefix) == Some(old.root) {
            return Err(EvidenceError::Innocent("the older checkpoint is a prefix of the newer"));
        }
        Ok(format!("{}'s checkpoint of size {} is no prefix of the one of size {}", log.name(), old.size, new.size))
    }
}

/// The subtrees to the right of the first `from` leaves in the tree of `size`, left to right: the
/// fewest that, with the perfect subtrees before `from`, lead to the root.
fn rest_subtrees(from: u64, size: u64) -> Vec<(u64, u64)> {
    let mut right = Vec::new();
    let (mut start, mut end) = (0, size);
    while end > from && end - start > 1 && start < from {
        let middle = start + (1 << (end - start - 1).ilog2());
        if middle >= from {
            right.push((middle, end));
            end = middle;
        } else {
            start = middle;
        }
    }
    right.reverse();
    right
}

/// The roots of the subtrees to the right of the first `from` leaves in the tree of `size`, left to right: `rest` of
/// evidence.
///
/// # Errors
/// What the reader says.
pub fn rest_nodes<R: NodeReader>(reader: &R, from: u64, size: u64) -> Result<Vec<Hash>, R::Error> {
    rest_subtrees(from, size).into_iter().map(|(start, end)| subtree_root(reader, start, end)).collect()
}

/// Checks that the perfect subtrees before `from` and the nodes after it lead to the root.
fn check_fold(prefix: &[Hash], from: u64, rest: &[Hash], checkpoint: &Checkpoint) -> Result<(), EvidenceError> {
    if prefix.len() != from.count_ones() as usize || rest.len() != rest_subtrees(from, checkpoint.size).len() {
        return Err(ProofError::WrongLength { got: prefix.len() + rest.len() }.into());
    }
    let (mut prefix, mut rest) = (prefix.iter(), rest.iter());
    let root = fold(0, checkpoint.size, from, &mut prefix, &mut rest);
    if root == Some(checkpoint.root) { Ok(()) } else { Err(ProofError::WrongRoot.into()) }
}

/// The root of [start, end) from subtrees before and after `from`, taken left to right.
fn fold<'a>(
    start: u64,
    end: u64,
    from: u64,
    prefix: &mut impl Iterator<Item = &'a Hash>,
    rest: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    // The whole tree may end at `from`; then its perfect subtrees are joined like any others.
    let one_subtree = (end - start).is_power_of_two();
    if end <= from && one_subtree {
        return prefix.next().copied();
    }
    if start >= from {
        return rest.next().copied();
    }
    let middle = start + (1 << (end - start - 1).ilog2());
    let left = fold(start, middle, from, prefix, rest)?;
    let right = fold(middle, end, from, prefix, rest)?;
    Some(crate::merkle::node_hash(&left, &right))
}

impl Omission {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
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
            return Err(EvidenceError::Innocent("the entry is not an observation"));
        };
        if *index >= lookup.seal.size {
            return Err(EvidenceError::Innocent("the observation is not before the seal"));
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
        if listed { Err(EvidenceError::Innocent("the index has the observation")) } else { Ok(accused) }
    }
}

/// Entries by index; those that do not parse count against the log, unless of an unknown kind.
type ProvenEntries = BTreeMap<u64, Result<Entry, EntryError>>;

/// Proves entries by a multiproof and parses them.
fn proven(entries: &[IndexedEntry], proof: &[Hash], checkpoint: &Checkpoint) -> Result<ProvenEntries, EvidenceError> {
    let leaves: Vec<(u64, &[u8])> = entries.iter().map(|e| (e.index, e.entry.as_bytes())).collect();
    multiproof::verify(&leaves, checkpoint.size, proof, &checkpoint.root)?;
    Ok(leaves.into_iter().map(|(index, bytes)| (index, Entry::parse(bytes))).collect())
}

impl Phantom {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        let entries = proven(&self.entries, &self.multiproof, &checkpoint)?;
        let Some(Ok(Entry::Seal(seal))) = entries.get(&(checkpoint.size - 1)) else {
            return Err(EvidenceError::Incomplete("the checkpoint's seal".to_owned()));
        };
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
        let true_to_it = match entry {
            Ok(Entry::Observation(entry)) => claim.is_made_by(entry, &image, &witness),
            Err(EntryError::UnknownKind(_)) => return Err(UNKNOWN_KIND),
            _ => false,
        };
        if true_to_it { Err(EvidenceError::Innocent("the cited entry says the same")) } else { Ok(accused) }
    }

    /// What the record says of the cited entry.
    fn claim(&self, line: &TagLine) -> Result<Claim, EvidenceError> {
        let Some(leaves) = &self.sightings else {
            let latest = Claim { seen: line.seen, observed: Some(line.observed) };
            return if line.index == self.cited {
                Ok(latest)
            } else {
                Err(EvidenceError::Innocent("the line does not cite this entry"))
            };
        };
        let sightings = complete_list(leaves, line)?;
        let cited = sightings.iter().find(|sighting| sighting.index == self.cited);
        let cited = cited.ok_or(EvidenceError::Innocent("the list does not cite this entry"))?;
        Ok(Claim { seen: cited.seen, observed: None })
    }
}

struct Claim {
    seen: Seen,
    observed: Option<crate::time::Timestamp>,
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
fn complete_list(leaves: &[String], line: &TagLine) -> Result<Vec<Sighting>, EvidenceError> {
    let sightings: Vec<Sighting> = leaves.iter().map(|leaf| Sighting::parse(leaf)).collect::<Result<_, _>>()?;
    let frontier = frontier_of(&sightings);
    if frontier.size() == line.sightings && frontier.root() == line.root {
        Ok(sightings)
    } else {
        Err(EvidenceError::Incomplete("a list of sightings that has the record's root".to_owned()))
    }
}

fn frontier_of(sightings: &[Sighting]) -> Frontier {
    let mut frontier = Frontier::default();
    sightings.iter().for_each(|sighting| frontier.append(sighting.leaf_hash(), |_, _, _| {}));
    frontier
}

impl NoSeal {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        let last = checkpoint.size - 1;
        verify_inclusion(&leaf_hash(self.entry.as_bytes()), last, checkpoint.size, &self.inclusion, &checkpoint.root)?;
        match Entry::parse(self.entry.as_bytes()) {
            Ok(Entry::Seal(seal)) if seal.size == last => Err(EvidenceError::Innocent("the last entry is a seal")),
            Err(EntryError::UnknownKind(_)) => Err(UNKNOWN_KIND),
            _ => Ok(format!("{}'s checkpoint of size {} does not end in a seal", log.name(), checkpoint.size)),
        }
    }
}

impl FalseEntry {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        let entries = proven(&self.entries, &self.multiproof, &checkpoint)?;
        let parsed = |place: usize| entries.get(&self.entries[place].index);
        let [in_force, index] = [self.entries[0].index, self.entries[1].index];
        let Some(Ok(Entry::Roster(roster))) = parsed(0) else {
            return Err(EvidenceError::Incomplete("a roster before the entry".to_owned()));
        };
        if !matches!(parsed(2), Some(Ok(Entry::Seal(seal))) if seal.roster == in_force) {
            return Err(EvidenceError::Incomplete("a seal after the entry that names the roster".to_owned()));
        }
        let entry = match parsed(1) {
            Some(Ok(entry)) => entry,
            Some(Err(EntryError::UnknownKind(_))) => return Err(UNKNOWN_KIND),
            _ => return Err(EvidenceError::Innocent("the entry is no statement of a witness")),
        };
        let signature = entry.signature().ok_or(EvidenceError::Innocent("the entry is no statement of a witness"))?;
        let (log, witness) = (log.name(), &signature.witness);
        let Some(key) = roster.key(witness) else {
            return Ok(format!("{log} has logged entry {index} by {witness}, who is not in the roster in force"));
        };
        match judge_signature(key, entry.signed_text().as_bytes(), &signature.bytes) {
            SignatureVerdict::Invalid => {
                Ok(format!("{log} has logged entry {index}, which {witness} has not signed: the signature is false"))
            }
            SignatureVerdict::Strict | SignatureVerdict::Lax => {
                Err(EvidenceError::Innocent("the entry is signed by a witness in the roster in force"))
            }
        }
    }
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
        Ok(frontier_of(list.ok_or_else(|| lacks(&line.witness))?))
    }
}

impl FalseSeal {
    fn convict(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
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
            return Err(EvidenceError::Innocent("there are entries after the seal"));
        }
        let root = updated_root(&previous.index, &self.updates(&audited.records.leaves(), &old)?)?;
        match audited.check_root::<EvidenceError>(&root) {
            Err(error) => accused(error.to_string()),
            Ok(()) => Err(EvidenceError::Innocent("the seal follows from the entries")),
        }
    }

    /// The entries stand in the log where the evidence says: appended to what is before them, and
    /// with what is after them, they lead to the signed root.
    fn check_entries(&self, checkpoint: &Checkpoint) -> Result<(), EvidenceError> {
        let mut frontier = Frontier::from_parts(self.start, self.prefix.clone())
            .ok_or(ProofError::WrongLength { got: self.prefix.len() })?;
        let end = self.start.checked_add(self.entries.len() as u64).filter(|end| *end <= checkpoint.size);
        let end = end.ok_or(EvidenceError::Innocent("the entries reach beyond the checkpoint"))?;
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

    fn roster(&self, previous: &Seal, checkpoint: &Checkpoint) -> Result<crate::entry::Roster, EvidenceError> {
        let IndexedEntry { index, entry } = &self.roster;
        let hash = leaf_hash(entry.as_bytes());
        verify_inclusion(&hash, *index, checkpoint.size, &self.roster_inclusion, &checkpoint.root)?;
        match Entry::parse(entry.as_bytes()) {
            Ok(Entry::Roster(roster)) if *index == previous.roster => Ok(roster),
            _ => Err(EvidenceError::Incomplete("the roster that the previous seal names".to_owned())),
        }
    }

    fn updates(
        &self,
        leaves: &BTreeMap<crate::prefix_tree::Key, Hash>,
        old: &OldRecords,
    ) -> Result<Vec<ProvenUpdate>, EvidenceError> {
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
