//! The log's side: collects what answers a look-up.

use std::collections::{BTreeMap, btree_map::Entry};

use thiserror::Error;

use super::{Consistency, ImageAnswer, IndexAnswer, IndexedEntry, MAX_IMAGES, PAGE, SightingPage, TYPE, TagProof};
use crate::{
    c2sp::{
        OperationError,
        checkpoint::SignedCheckpoint,
        encoding::MAX_INDEX,
        merkle::{NodeReader, consistency_proof},
    },
    formats::{
        entry,
        name::Image,
        record::{RecordReader, Sighting, TagLine, TagRecord, repository_key, tag_key},
    },
    verify::{
        multiproof,
        prefix_tree::{self, IndexReader},
    },
};

/// Gives all that a look-up needs, as of one checkpoint.
pub trait LookupSource: IndexReader + NodeReader<Error = <Self as RecordReader>::Error> {
    /// The bytes of the entry at `index`.
    ///
    /// # Errors
    /// When there is none, or storage fails.
    fn entry(&self, index: u64) -> Result<Vec<u8>, <Self as RecordReader>::Error>;

    /// At most [`PAGE`] sightings of a witness from number `start` on; `start` is a multiple of it.
    ///
    /// # Errors
    /// When storage fails.
    fn sightings(
        &self,
        image: &Image,
        line: &TagLine,
        start: u64,
    ) -> Result<Vec<Sighting>, <Self as RecordReader>::Error>;
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRequest {
    /// The images, each once, at most [`MAX_IMAGES`].
    pub images: Vec<Image>,
    /// Which page of each list of sightings, from 0.
    pub page: u64,
    /// Also prove consistency from this size.
    pub from: Option<u64>,
}

/// A look-up that the log cannot answer as asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LookupError {
    /// None, too many, or one twice.
    #[error("ask for 1 to 1000 images, each once")]
    Images,
    /// More entries than one multiproof takes.
    #[error("the answer needs {0} entries, and one proof takes 4096: ask for fewer images at once")]
    TooManyEntries(usize),
    /// `from` is 0 or above the published size.
    #[error("no consistency proof from size {from}: the published size is {size}")]
    From {
        /// The size asked for.
        from: u64,
        /// The published size.
        size: u64,
    },
    /// A page beyond any list.
    #[error("no list of sightings has a page {0}")]
    Page(u64),
    /// The store does not hold what the checkpoint signs.
    #[error("the log's last entry is no seal")]
    NoSeal,
}

type Entries = BTreeMap<u64, Vec<u8>>;
type BuildError<S> = OperationError<LookupError, <S as RecordReader>::Error>;

/// Builds the tag proof under `checkpoint`; `source` must be as of that checkpoint.
///
/// # Errors
/// [`LookupError`] as a refusal.
pub fn build<S: LookupSource>(
    source: &S,
    checkpoint: &SignedCheckpoint,
    request: &LookupRequest,
) -> Result<TagProof, BuildError<S>> {
    use OperationError::{Reader, Refused};
    let size = checkpoint.unverified().size;
    check_request(request, size).map_err(Refused)?;
    let mut entries = Entries::new();
    if !collect_seal(source, size, &mut entries).map_err(Reader)? {
        return Err(Refused(LookupError::NoSeal));
    }
    let mut images = Vec::with_capacity(request.images.len());
    for image in &request.images {
        images.push(answer(source, image, request.page, &mut entries).map_err(Reader)?);
        if entries.len() > multiproof::MAX_LEAVES {
            return Err(Refused(LookupError::TooManyEntries(entries.len())));
        }
    }
    let indices: Vec<u64> = entries.keys().copied().collect();
    let multiproof =
        multiproof::build(source, &indices, size).map_err(|error| error.replace_refusal(LookupError::NoSeal))?;
    let consistency = match request.from {
        Some(from) => {
            let proof = consistency_proof(source, from, size);
            let proof = proof.map_err(|error| error.replace_refusal(LookupError::From { from, size }))?;
            Some(Consistency { from, proof })
        }
        None => None,
    };
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    Ok(TagProof {
        kind: TYPE.to_owned(),
        checkpoint: checkpoint.to_string(),
        images,
        entries: entries.iter().map(|(index, bytes)| IndexedEntry { index: *index, entry: text(bytes) }).collect(),
        multiproof,
        consistency,
    })
}

fn check_request(request: &LookupRequest, size: u64) -> Result<(), LookupError> {
    let mut distinct: Vec<&Image> = request.images.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if !(1..=MAX_IMAGES).contains(&request.images.len()) || distinct.len() != request.images.len() {
        return Err(LookupError::Images);
    }
    if request.page >= MAX_INDEX / PAGE {
        return Err(LookupError::Page(request.page));
    }
    match request.from {
        Some(from) if from == 0 || from > size => Err(LookupError::From { from, size }),
        _ => Ok(()),
    }
}

/// Adds the last seal and the roster it names; false when the last entry is no seal. That the seal states its own
/// index is the log's to ensure when it writes, and the verifier's to check.
fn collect_seal<S: LookupSource>(
    source: &S,
    size: u64,
    entries: &mut Entries,
) -> Result<bool, <S as RecordReader>::Error> {
    let last = source.entry(size - 1)?;
    let Ok(entry::Entry::Seal(seal)) = entry::Entry::parse(&last) else { return Ok(false) };
    entries.insert(size - 1, last);
    entries.insert(seal.roster, source.entry(seal.roster)?);
    Ok(true)
}

fn answer<S: LookupSource>(
    source: &S,
    image: &Image,
    page: u64,
    entries: &mut Entries,
) -> Result<ImageAnswer, <S as RecordReader>::Error> {
    let tag = source.tag_record(image)?;
    let repository = source.repository_record(&image.repository)?;
    let mut sightings = Vec::new();
    let start = page * PAGE;
    for line in tag.iter().flat_map(TagRecord::lines) {
        let leaves = if start < line.sightings { source.sightings(image, line, start)? } else { Vec::new() };
        let confirmed = repository.as_ref().and_then(|record| record.line(&line.witness)?.confirmed);
        let cited = leaves.iter().map(|leaf| leaf.index).chain([line.index]).chain(confirmed.map(|c| c.index));
        for index in cited {
            if let Entry::Vacant(place) = entries.entry(index) {
                place.insert(source.entry(index)?);
            }
        }
        let leaves = leaves.iter().map(Sighting::to_string).collect();
        sightings.push(SightingPage { witness: line.witness.to_string(), start, leaves });
    }
    Ok(ImageAnswer {
        image: image.to_string(),
        tag: IndexAnswer {
            record: tag.map(|record| record.to_string()),
            proof: prefix_tree::prove(source, &tag_key(image))?,
        },
        repository: IndexAnswer {
            record: repository.map(|record| record.to_string()),
            proof: prefix_tree::prove(source, &repository_key(&image.repository))?,
        },
        sightings,
    })
}
