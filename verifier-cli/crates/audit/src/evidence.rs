//! Builds evidence from the state of an auditor and from what the log serves. Callers must check that it proves misbehaviour
//! ([`with_accusation`]) before they use it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use taglog_proto::{
    OperationError,
    checkpoint::SignedCheckpoint,
    entry::Entry,
    evidence::{Evidence, FalseEntry, FalseSeal, Fork, Inconsistency, NoSeal, OldRepository, OldTag, rest_nodes},
    index::RecordReader as _,
    merkle::{Frontier, Hash, NodeReader, inclusion_proof},
    multiproof,
    name::{Image, Repository},
    note::VerifierKey,
    prefix_tree::Key,
    record::{Sighting, TagRecord, repository_key, tag_key},
    tag_proof::{IndexAnswer, IndexedEntry},
    tile::TilePath,
};
use thiserror::Error;

use super::{auditor::Auditor, error::AuditorError, rows::StoredSighting};
use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    tile_nodes::{self, Tiles},
};

/// The maximum number of tiles that are fetched for one proof; a tree of 2⁵³ leaves needs no more.
const MAX_TILES: usize = 512;

/// Why a node of the log's tree is not available.
#[derive(Debug, Error)]
pub enum NodeError {
    /// This tile must be fetched first.
    #[error("tile {0} is needed")]
    Tile(TilePath),
    /// The tree does not have the node.
    #[error("the tree has no node {0}/{1}")]
    Beyond(u8, u64),
    /// The auditor's state could not be read.
    #[error(transparent)]
    Auditor(#[from] AuditorError),
    /// A tile could not be read.
    #[error(transparent)]
    Static(#[from] StaticError),
}

/// The tree of a log: nodes over audited entries come from the auditor, all others from served tiles. The latter are not
/// verified, so anything computed from this tree must be.
pub struct ServedNodes<'a> {
    /// `None` if it is in question whether the audited entries are a prefix of the tree.
    auditor: Option<&'a Auditor>,
    tiles: Tiles,
}

impl ServedNodes<'_> {
    /// A tree of `size` leaves. Fetches nothing yet.
    pub fn new(auditor: Option<&Auditor>, size: u64) -> ServedNodes<'_> {
        ServedNodes { auditor, tiles: Tiles::new(size) }
    }

    /// Runs `compute`, and again after fetching each tile that it reports as missing.
    pub async fn with<T>(
        &mut self,
        log: &StaticLog,
        compute: impl Fn(&Self) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        loop {
            match compute(self) {
                Err(NodeError::Tile(path)) if self.tiles.count() < MAX_TILES => self.tiles.fetch(log, path).await?,
                outcome => return outcome,
            }
        }
    }
}

impl NodeReader for ServedNodes<'_> {
    type Error = NodeError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, NodeError> {
        let end = index.checked_add(1).and_then(|next| next.checked_mul(1_u64.checked_shl(level.into())?));
        match self.auditor.filter(|auditor| end.is_some_and(|end| end <= auditor.size())) {
            Some(auditor) => Ok(auditor.node(level, index)?),
            None => self.tiles.node(level, index).map_err(|error| match error {
                tile_nodes::TileNodeError::Needs(path) => NodeError::Tile(path),
                tile_nodes::TileNodeError::NoSuchNode => NodeError::Beyond(level, index),
            }),
        }
    }
}

/// The evidence and its accusation (one sentence), if it proves misbehaviour of this log.
pub fn with_accusation(evidence: Evidence, log: &VerifierKey) -> Option<(Evidence, String)> {
    evidence.proves_misbehaviour(log).ok().map(|sentence| (evidence, sentence))
}

/// Evidence of two checkpoints of the same size with different roots.
pub fn fork(one: &SignedCheckpoint, other: &SignedCheckpoint) -> Evidence {
    Evidence::Fork(Fork { checkpoints: [one.to_string(), other.to_string()] })
}

/// Evidence of a checkpoint that is not a prefix of a larger one. `nodes` reads the tree of the larger one.
///
/// # Errors
/// Those of the reader.
pub fn inconsistency<R: NodeReader>(
    one: &SignedCheckpoint,
    other: &SignedCheckpoint,
    nodes: &R,
) -> Result<Evidence, R::Error> {
    let (old, new) = if one.unverified().size < other.unverified().size { (one, other) } else { (other, one) };
    Inconsistency::collect(old, new, nodes).map(Evidence::Inconsistency)
}

/// Evidence of a checkpoint whose last entry is not a seal; `None` if the entry is not UTF-8, which an evidence file cannot
/// hold.
///
/// # Errors
/// Those of the reader.
pub fn no_seal<R: NodeReader>(
    checkpoint: &SignedCheckpoint,
    last: &[u8],
    nodes: &R,
) -> Result<Option<Evidence>, R::Error> {
    let Ok(entry) = String::from_utf8(last.to_vec()) else { return Ok(None) };
    let size = checkpoint.unverified().size;
    let inclusion = OperationError::unless_refused(inclusion_proof(nodes, size - 1, size))?.unwrap_or_default();
    Ok(Some(Evidence::NoSeal(NoSeal { checkpoint: checkpoint.to_string(), entry, inclusion })))
}

/// Evidence of a batch that breaks a rule at the log index `index`. `batch` has the entries that follow the audited ones, and
/// `checkpoint` covers them. If the entry alone proves misbehaviour, the evidence has only that entry, otherwise the batch.
///
/// # Errors
/// Those of the reader, or that the auditor's state cannot be read.
pub fn broken_rule<R: NodeReader>(
    auditor: &Auditor,
    batch: &[&[u8]],
    index: u64,
    checkpoint: &SignedCheckpoint,
    nodes: &R,
) -> Result<Option<Evidence>, R::Error>
where
    R::Error: From<AuditorError>,
{
    match false_entry(auditor, batch, index, checkpoint, nodes)? {
        Some(evidence) if evidence.proves_misbehaviour(auditor.log()).is_ok() => Ok(Some(evidence)),
        _ => false_seal(auditor, batch, checkpoint, nodes),
    }
}

/// Evidence of a statement without a valid signature by a witness in the roster in force. `None` if the roster, the statement
/// or the seal cannot be put into an evidence file.
fn false_entry<R: NodeReader>(
    auditor: &Auditor,
    batch: &[&[u8]],
    index: u64,
    checkpoint: &SignedCheckpoint,
    nodes: &R,
) -> Result<Option<Evidence>, R::Error> {
    let (first, text) = (auditor.size(), |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok());
    let in_force = match batch.first().map(|entry| Entry::parse(entry)) {
        Some(Ok(Entry::Roster(roster))) => Some((first, roster.to_string())),
        _ => auditor.roster().map(|(index, roster)| (index, roster.to_string())),
    };
    let entry = batch.get((index - first) as usize).and_then(|entry| text(entry));
    let seal = batch.last().and_then(|seal| text(seal));
    let (Some((roster_index, roster)), Some(entry), Some(seal)) = (in_force, entry, seal) else { return Ok(None) };
    let indices = [roster_index, index, first + batch.len() as u64 - 1];
    let multiproof = multiproof::build(nodes, &indices, checkpoint.unverified().size);
    let Some(multiproof) = OperationError::unless_refused(multiproof)? else { return Ok(None) };
    let [roster_index, index, end] = indices;
    Ok(Some(Evidence::FalseEntry(FalseEntry {
        checkpoint: checkpoint.to_string(),
        entries: [(roster_index, roster), (index, entry), (end, seal)]
            .map(|(index, entry)| IndexedEntry { index, entry }),
        multiproof,
    })))
}

/// Evidence of a batch that breaks a rule or whose seal is false. `None` if an evidence file cannot hold it: for the first batch
/// of a log, which has no seal before it, and if an entry is not UTF-8.
///
/// # Errors
/// Those of the reader, or that the auditor's state cannot be read.
fn false_seal<R: NodeReader>(
    auditor: &Auditor,
    batch: &[&[u8]],
    checkpoint: &SignedCheckpoint,
    nodes: &R,
) -> Result<Option<Evidence>, R::Error>
where
    R::Error: From<AuditorError>,
{
    let (Some(previous), Some((roster_index, roster))) = (auditor.seal(), auditor.roster()) else { return Ok(None) };
    let texts: Result<Vec<String>, _> = batch.iter().map(|entry| String::from_utf8(entry.to_vec())).collect();
    let Ok(texts) = texts else { return Ok(None) };
    let size = checkpoint.unverified().size;
    let start = previous.size;
    let entries: Vec<String> = std::iter::once(previous.to_string()).chain(texts).collect();
    let end = start + entries.len() as u64;
    let (images, repositories) = names(batch);
    Ok(Some(Evidence::FalseSeal(FalseSeal {
        checkpoint: checkpoint.to_string(),
        prefix: Frontier::read(nodes, start)?.nodes().to_vec(),
        start,
        entries,
        rest: rest_nodes(nodes, end, size)?,
        roster: IndexedEntry { index: roster_index, entry: roster.to_string() },
        roster_inclusion: OperationError::unless_refused(inclusion_proof(nodes, roster_index, size))?
            .unwrap_or_default(),
        tags: old_tags(auditor, &images)?,
        repositories: repositories.iter().map(|repository| old_repository(auditor, repository)).collect(),
    })))
}

/// The images and the repositories that the statements of a batch name.
fn names(batch: &[&[u8]]) -> (BTreeSet<Image>, BTreeSet<Repository>) {
    let mut names: (BTreeSet<Image>, BTreeSet<Repository>) = Default::default();
    for entry in batch {
        match Entry::parse(entry) {
            Ok(Entry::Observation(entry)) => {
                names.1.insert(entry.image.repository.clone());
                names.0.insert(entry.image);
            }
            Ok(Entry::Confirmation(entry)) => {
                names.1.insert(entry.repository);
            }
            _ => {}
        }
    }
    names
}

fn answer(auditor: &Auditor, record: Option<String>, key: &Key) -> IndexAnswer {
    IndexAnswer { record, proof: auditor.index().prove(key) }
}

fn old_repository(auditor: &Auditor, repository: &Repository) -> OldRepository {
    let Ok(record) = auditor.index().repository_record(repository);
    let record = record.map(|record| record.to_string());
    OldRepository { repository: repository.to_string(), answer: answer(auditor, record, &repository_key(repository)) }
}

fn old_tags(auditor: &Auditor, images: &BTreeSet<Image>) -> Result<Vec<OldTag>, AuditorError> {
    let numbers: BTreeMap<u32, &Image> =
        images.iter().filter_map(|image| Some((auditor.index().number(image)?, image))).collect();
    let mut lists: HashMap<(u32, String), Vec<String>> = HashMap::new();
    for StoredSighting { index, tag, witness, seen, .. } in auditor.sightings_of(&|tag| numbers.contains_key(&tag))? {
        let witness = auditor.index().witnesses[witness as usize].to_string();
        lists.entry((tag, witness)).or_default().push(Sighting { index, seen }.to_string());
    }
    let old = images.iter().map(|image| {
        let Ok(record) = auditor.index().tag_record(image);
        let number = auditor.index().number(image);
        let lines = record.as_ref().map_or(&[][..], TagRecord::lines);
        let list = |witness: String| number.and_then(|number| lists.get(&(number, witness))).cloned();
        let sightings = lines.iter().map(|line| list(line.witness.to_string()).unwrap_or_default()).collect();
        let record = record.as_ref().map(TagRecord::to_string);
        OldTag { image: image.to_string(), answer: answer(auditor, record, &tag_key(image)), sightings }
    });
    Ok(old.collect())
}
