//! Tag proofs: the answer to a look-up of one or more images, and the offline bundle (SPEC.md
//! section 7).
//!
//! A tag proof that verifies shows every sighting that the log holds for each of its images, or
//! that there is none, as of one signed checkpoint. [`build`] is the log's side, [`TagProof::verify`]
//! the verifier's.

mod build;
mod verify;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    c2sp::{
        checkpoint::CheckpointError,
        encoding::MAX_INDEX,
        merkle::{Hash, ProofError},
        note::NoteError,
    },
    formats::{entry::EntryError, name::NameError, record::RecordError},
    verify::prefix_tree::{Leaf, PrefixError, PrefixProof, SearchResult},
};

pub use build::{LookupError, LookupRequest, LookupSource, build};
pub use verify::{ImageReport, Sighted, VerifiedLookup, WitnessReport};

/// The `type` of a tag proof.
pub const TYPE: &str = "taglog/tag-proof@v1";
/// The most images in one look-up.
pub const MAX_IMAGES: usize = 1000;
/// Sightings of one witness in one page.
pub const PAGE: u64 = 256;
/// The most bytes of a tag proof that are read.
pub const MAX_TAG_PROOF: usize = 64 * 1024 * 1024;

/// A tag proof as it is sent: JSON, not verified. Unknown and repeated fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagProof {
    /// [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The signed checkpoint, a note.
    pub checkpoint: String,
    /// An answer for each image asked for, in that order.
    pub images: Vec<ImageAnswer>,
    /// The entries behind the answers, each once, sorted by index.
    pub entries: Vec<IndexedEntry>,
    /// The further nodes that prove all `entries` under the checkpoint.
    pub multiproof: Vec<Hash>,
    /// The proof that an earlier checkpoint is a prefix of this one, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
}

/// What the log answers for one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageAnswer {
    /// `repository:tag`.
    pub image: String,
    /// What the index holds for the tag.
    pub tag: IndexAnswer,
    /// What the index holds for the repository.
    pub repository: IndexAnswer,
    /// For each line of the tag record, in its order, a page of that witness's sightings.
    pub sightings: Vec<SightingPage>,
}

/// What the tag index holds under one key, with the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexAnswer {
    /// The record's text; absent when the proof is one of absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The proof under the seal's index root.
    pub proof: PrefixProof,
}

/// Part of a witness's list of sightings: at most [`PAGE`] from `start` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SightingPage {
    /// The witness's id.
    pub witness: String,
    /// The number of sightings before this page, a multiple of [`PAGE`].
    pub start: u64,
    /// The leaf texts `<log index> <digest or gone>`.
    pub leaves: Vec<String>,
}

/// An entry with its log index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedEntry {
    /// The log index.
    pub index: u64,
    /// The entry's text.
    pub entry: String,
}

/// A consistency proof from an earlier size to the checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// The earlier size.
    pub from: u64,
    /// RFC 6962 section 2.1.2.
    pub proof: Vec<Hash>,
}

/// Why a tag proof was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TagProofError {
    /// Not JSON of this shape, or over [`MAX_TAG_PROOF`].
    #[error("not a tag proof: {0}")]
    Json(String),
    /// Another `type`.
    #[error("type {0:?}: this version reads taglog/tag-proof@v1 only")]
    Type(String),
    /// The checkpoint is malformed or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An entry is malformed.
    #[error("entry {0}: {1}")]
    Entry(u64, EntryError),
    /// The multiproof or the consistency proof fails.
    #[error("the entries are not proven by the checkpoint: {0}")]
    Multiproof(ProofError),
    /// The checkpoint's last entry is not its seal.
    #[error("the last entry of the checkpoint is not a seal of its size")]
    Seal,
    /// The entry that the seal names as the roster is none.
    #[error("the entry that the seal names as roster is not a roster")]
    Roster,
    /// A name in the proof is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The same image twice, none, or too many.
    #[error("a tag proof has 1 to 1000 images, each once")]
    Images,
    /// A proof of the tag index fails.
    #[error("{0}: {1}")]
    Index(String, PrefixError),
    /// A record is malformed.
    #[error("{0}: {1}")]
    Record(String, RecordError),
    /// Records, lists and entries that contradict each other.
    #[error("{image}: {why}")]
    Contradiction {
        /// The image.
        image: String,
        /// What does not fit.
        why: String,
    },
    /// An entry that nothing refers to.
    #[error("entry {0} has nothing to do with the images asked for")]
    Superfluous(u64),
    /// A witness's signature is false.
    #[error("entry {0}: {1}")]
    Signature(u64, NoteError),
    /// The log is smaller than, or inconsistent with, a checkpoint seen before.
    #[error("not consistent with the checkpoint of size {from} seen before: {why}")]
    Inconsistent {
        /// The size seen before.
        from: u64,
        /// What fails.
        why: String,
    },
}

impl TagProof {
    /// Reads a tag proof; nothing is verified.
    ///
    /// # Errors
    /// [`TagProofError::Json`], [`TagProofError::Type`].
    pub fn from_json(bytes: &[u8]) -> Result<TagProof, TagProofError> {
        if bytes.len() > MAX_TAG_PROOF {
            return Err(TagProofError::Json(format!("it is over {MAX_TAG_PROOF} bytes")));
        }
        let proof: TagProof = from_strict_json(bytes).map_err(TagProofError::Json)?;
        proof.check_values()?;
        Ok(proof)
    }

    /// What the shape alone does not say: type and range of indices.
    pub(crate) fn check_values(&self) -> Result<(), TagProofError> {
        if self.kind != TYPE {
            return Err(TagProofError::Type(self.kind.chars().take(80).collect()));
        }
        if self.indices().any(|index| index >= MAX_INDEX) {
            return Err(TagProofError::Json("an index is not below 2^53".to_owned()));
        }
        Ok(())
    }

    /// The proof as JSON.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn indices(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = self.entries.iter().map(|entry| entry.index);
        let pages = self.images.iter().flat_map(|answer| answer.sightings.iter().map(|page| page.start));
        entries.chain(pages).chain(self.consistency.iter().map(|consistency| consistency.from))
    }
}

/// Reads JSON of which exactly one shape is accepted. The derived readers refuse unknown and repeated
/// fields, but also take an array for an object and null for what is absent; comparing with what is
/// printed back refuses these.
pub(crate) fn from_strict_json<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let parsed: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let given: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match serde_json::to_value(&parsed) {
        Ok(printed) if printed == given => Ok(parsed),
        _ => Err("a value has another shape than this format gives it".to_owned()),
    }
}

/// A prefix proof in JSON: `result`, `depth`, `leaf` (for `nonInclusionLeaf` alone), `copath`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefixProofJson {
    result: ResultJson,
    depth: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<LeafJson>,
    copath: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ResultJson {
    Inclusion,
    NonInclusionLeaf,
    NonInclusionParent,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeafJson {
    key: Hash,
    commitment: Hash,
}

impl Serialize for PrefixProof {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (result, leaf) = match self.result {
            SearchResult::Inclusion => (ResultJson::Inclusion, None),
            SearchResult::NonInclusionParent => (ResultJson::NonInclusionParent, None),
            SearchResult::NonInclusionLeaf(Leaf { key, commitment }) => {
                (ResultJson::NonInclusionLeaf, Some(LeafJson { key: Hash(key), commitment }))
            }
        };
        let copath = self.copath.clone();
        PrefixProofJson { result, depth: copath.len(), leaf, copath }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PrefixProof {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PrefixProof, D::Error> {
        let error = |why| Err(serde::de::Error::custom(why));
        let json = PrefixProofJson::deserialize(deserializer)?;
        let result = match (json.result, json.leaf) {
            (ResultJson::Inclusion, None) => SearchResult::Inclusion,
            (ResultJson::NonInclusionParent, None) => SearchResult::NonInclusionParent,
            (ResultJson::NonInclusionLeaf, Some(leaf)) => {
                SearchResult::NonInclusionLeaf(Leaf { key: leaf.key.0, commitment: leaf.commitment })
            }
            _ => return error("a prefix proof has a leaf for nonInclusionLeaf and for no other result"),
        };
        if json.depth != json.copath.len() {
            return error("the copath of a prefix proof is as long as its depth");
        }
        Ok(PrefixProof { result, copath: json.copath })
    }
}
