//! Compares a saved tag proof with the log's entries and finds phantoms (the proof cites entries that say something else) and
//! omissions (the proof leaves out an observation).
//!
//! Neither the entries nor the proof are trusted: a finding is reported only if its evidence proves misbehaviour by itself.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use taglog_base::progress::Progress;
use taglog_proto::{
    OperationError,
    checkpoint::{CheckpointError, SignedCheckpoint},
    entry::{Entry, Observation},
    evidence::{Evidence, Omission, Phantom},
    merkle::{inclusion_proof, leaf_hash, verify_inclusion},
    multiproof,
    name::{Image, WitnessId},
    note::VerifierKey,
    record::{Sighting, TagLine, TagRecord},
    tag_proof::{ImageAnswer, IndexedEntry, TagProof},
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle},
};
use thiserror::Error;

use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    tile_nodes::TileNodes,
};

/// How many entry bundles are fetched concurrently.
const PARALLEL: usize = 16;

/// Why a tag proof could not be compared with the log. None of these is proof of misbehaviour.
#[derive(Debug, Error)]
pub enum FromProofError {
    /// The proof's checkpoint is malformed or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entries could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// The tiles are damaged or belong to another tree.
    #[error("entry {index} at {location} is not what the log has signed")]
    Untrue {
        /// The entry's log index.
        index: u64,
        /// Where the tiles were read.
        location: String,
    },
}

/// A misbehaviour that a tag proof and the log's entries prove together.
#[derive(Clone, Debug)]
pub struct ProofFinding {
    pub evidence: Evidence,
    /// What the evidence proves, in one sentence.
    pub accusation: String,
}

/// Compares one tag proof with the entries of its log.
pub struct Comparer<'a> {
    log: &'a VerifierKey,
    proof: &'a TagProof,
    /// Other saved proofs. Those under the same checkpoint may have further pages of long lists.
    pages: &'a [TagProof],
    tiles: &'a StaticLog,
    nodes: TileNodes,
    checkpoint: SignedCheckpoint,
    size: u64,
}

/// A log index that a record cites.
struct Citation {
    index: u64,
    /// The list of sightings that cites it; `None` if it is the latest observation in the line.
    list: Option<Vec<String>>,
}

impl<'a> Comparer<'a> {
    /// Prepares the comparison of a tag proof with the entries that `tiles` serves. Sends no request.
    ///
    /// # Errors
    /// Only [`FromProofError::Checkpoint`].
    pub fn new(
        log: &'a VerifierKey,
        proof: &'a TagProof,
        pages: &'a [TagProof],
        tiles: &'a StaticLog,
    ) -> Result<Comparer<'a>, FromProofError> {
        let checkpoint = SignedCheckpoint::parse(proof.checkpoint.as_bytes())?;
        let size = checkpoint.verify(log)?.size;
        Ok(Comparer { log, proof, pages, tiles, nodes: TileNodes::new(tiles, size), checkpoint, size })
    }

    /// Finds records of the tag proof that cite entries which say something else. A proof that verifies has none, because it
    /// includes the entries that it cites.
    pub async fn phantoms(&mut self) -> Result<Vec<ProofFinding>, FromProofError> {
        if self.proof.verify(self.log).is_ok() {
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        for answer in &self.proof.images {
            let record = answer.tag.record.as_deref().and_then(|record| TagRecord::parse(record).ok());
            for line in record.iter().flat_map(TagRecord::lines) {
                let mut found = BTreeSet::new();
                for citation in self.citations(answer, line) {
                    let index = citation.index;
                    if found.contains(&index) {
                        continue;
                    }
                    if let Some(finding) = self.phantom(answer, line, citation).await? {
                        found.insert(index);
                        findings.push(finding);
                    }
                }
            }
        }
        Ok(findings)
    }

    fn citations(&self, answer: &ImageAnswer, line: &TagLine) -> Vec<Citation> {
        let list = self.list(answer, line);
        let sightings = list.iter().filter_map(|leaf| Sighting::parse(leaf).ok());
        let cited = sightings.map(|sighting| Citation { index: sighting.index, list: Some(list.clone()) });
        cited.chain([Citation { index: line.index, list: None }]).collect()
    }

    /// The list of sightings of a line, joined from all available pages.
    fn list(&self, answer: &ImageAnswer, line: &TagLine) -> Vec<String> {
        let witness = line.witness.to_string();
        let proofs = [self.proof].into_iter().chain(self.pages).filter(|page| page.checkpoint == self.proof.checkpoint);
        let answers = proofs.flat_map(|proof| &proof.images).filter(|other| other.image == answer.image);
        let pages = answers.flat_map(|answer| &answer.sightings).filter(|page| page.witness == witness);
        let pages: BTreeMap<u64, &Vec<String>> = pages.map(|page| (page.start, &page.leaves)).collect();
        pages.into_values().flatten().cloned().collect()
    }

    async fn phantom(
        &mut self,
        answer: &ImageAnswer,
        line: &TagLine,
        citation: Citation,
    ) -> Result<Option<ProofFinding>, FromProofError> {
        let seal = self.size - 1;
        let indices: BTreeSet<u64> = [citation.index, seal].into_iter().filter(|index| *index <= seal).collect();
        let mut entries = Vec::new();
        for index in &indices {
            entries.push(IndexedEntry { index: *index, entry: self.entry(*index).await? });
        }
        let (indices, size) = (indices.into_iter().collect::<Vec<_>>(), self.size);
        let proof =
            self.nodes.run(|tiles| OperationError::unless_refused(multiproof::build(tiles, &indices, size))).await?;
        let phantom = Phantom {
            checkpoint: self.checkpoint.to_string(),
            image: answer.image.clone(),
            tag: answer.tag.clone(),
            witness: line.witness.to_string(),
            sightings: citation.list,
            cited: citation.index,
            entries,
            // The indices are increasing and below the size.
            multiproof: proof.unwrap_or_default(),
        };
        Ok(self.finding(Evidence::Phantom(phantom)))
    }

    /// Reads an entry and verifies its inclusion proof.
    async fn entry(&mut self, index: u64) -> Result<String, FromProofError> {
        let start = index - index % FULL_WIDTH;
        let width = (self.size - start).min(FULL_WIDTH) as u16;
        let path = TilePath { kind: TileKind::Entries, index: start / FULL_WIDTH, width };
        let bundle = self.tiles.tile(&path).await?;
        let untrue = || FromProofError::Untrue { index, location: self.tiles.location() };
        let entries = decode_bundle(&bundle, usize::from(width)).map_err(|_| untrue())?;
        let entry = entries.get((index - start) as usize).ok_or_else(untrue)?;
        let entry = String::from_utf8(entry.to_vec()).map_err(|_| untrue())?;
        self.prove(index, &entry).await?;
        Ok(entry)
    }

    /// Builds the inclusion proof of an entry and verifies it.
    async fn prove(&mut self, index: u64, entry: &str) -> Result<Vec<taglog_proto::merkle::Hash>, FromProofError> {
        let (size, root) = (self.size, self.checkpoint.unverified().root);
        let proof = self.nodes.run(|tiles| OperationError::unless_refused(inclusion_proof(tiles, index, size))).await?;
        let proof = proof.unwrap_or_default();
        let proven = verify_inclusion(&leaf_hash(entry.as_bytes()), index, size, &proof, &root);
        proven.map_err(|_| FromProofError::Untrue { index, location: self.tiles.location() })?;
        Ok(proof)
    }

    /// Reads all entries up to the proof's checkpoint and finds observations that the proof leaves out, at most one per image
    /// and witness. `progress` counts entries.
    pub async fn omissions(&mut self, progress: &dyn Progress) -> Result<Vec<ProofFinding>, FromProofError> {
        // Evidence of an omission needs a tag proof that verifies.
        if self.proof.verify(self.log).is_err() {
            return Ok(Vec::new());
        }
        let images: BTreeSet<Image> = self.proof.images.iter().filter_map(|a| Image::parse(&a.image).ok()).collect();
        progress.start(0, self.size);
        let (tiles, size) = (self.tiles.clone(), self.size);
        let bundles = (0..size.div_ceil(FULL_WIDTH)).map(|index| observations(&tiles, index, size, &images));
        let mut bundles = stream::iter(bundles).buffered(PARALLEL);
        let mut findings = Vec::new();
        let mut found: BTreeSet<(Image, WitnessId)> = BTreeSet::new();
        while let Some(observations) = bundles.try_next().await? {
            for (entry, observation) in observations {
                let whose = (observation.image.clone(), observation.signature.witness.clone());
                if found.contains(&whose) || !self.may_be_left_out(entry.index, &observation) {
                    continue;
                }
                let inclusion = self.prove(entry.index, &entry.entry).await?;
                let omission = Omission { tag_proof: self.proof.clone(), observation: entry, inclusion };
                if let Some(finding) = self.finding(Evidence::Omission(omission)) {
                    found.insert(whose);
                    findings.push(finding);
                }
            }
            progress.advance(FULL_WIDTH);
        }
        progress.finish();
        Ok(findings)
    }

    /// A cheap check of whether the record may leave out the observation, before evidence is built.
    fn may_be_left_out(&self, index: u64, observation: &Observation) -> bool {
        let name = observation.image.to_string();
        let Some(answer) = self.proof.images.iter().find(|answer| answer.image == name) else { return false };
        let record = answer.tag.record.as_deref().and_then(|record| TagRecord::parse(record).ok());
        let line = record.as_ref().and_then(|record| record.line(&observation.signature.witness));
        let Some(line) = line else { return true };
        let seen = format!(" {}", observation.seen);
        let listed = self.list(answer, line).iter().any(|leaf| leaf.ends_with(&seen));
        line.index < index || line.observed < observation.observed || !listed
    }

    fn finding(&self, evidence: Evidence) -> Option<ProofFinding> {
        let accusation = evidence.proves_misbehaviour(self.log).ok()?;
        Some(ProofFinding { evidence, accusation })
    }
}

/// The observations of these images in one entry bundle.
async fn observations(
    tiles: &StaticLog,
    bundle: u64,
    size: u64,
    images: &BTreeSet<Image>,
) -> Result<Vec<(IndexedEntry, Observation)>, StaticError> {
    let start = bundle * FULL_WIDTH;
    let width = (size - start).min(FULL_WIDTH) as u16;
    let bytes = tiles.tile(&TilePath { kind: TileKind::Entries, index: bundle, width }).await?;
    // [`StaticLog`] has already checked that the bundle parses and has this many entries.
    let entries = decode_bundle(&bytes, usize::from(width)).unwrap_or_default();
    let observations = (start..).zip(entries).filter_map(|(index, bytes)| match Entry::parse(bytes) {
        Ok(Entry::Observation(observation)) if images.contains(&observation.image) => {
            let entry = String::from_utf8(bytes.to_vec()).ok()?;
            Some((IndexedEntry { index, entry }, observation))
        }
        _ => None,
    });
    Ok(observations.collect())
}
