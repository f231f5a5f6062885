//! Evidence of misbehaviour: self-contained files that anyone checks with nothing but the log's
//! vkey (SPEC.md section 9). Evidence that is forged or incomplete never proves anything against an honest log.
//!
//! - `fork` is about checkpoints that contradict each other;
//! - `record` about tag records that contradict entries;
//! - `entry` about entries that must not be where they are;
//! - `false_seal` about seals that do not follow from what is before them.

mod entry;
mod false_seal;
mod fork;
mod record;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    entry::{FalseEntry, NoSeal},
    false_seal::{FalseSeal, OldRepository, OldTag},
    fork::{Fork, Inconsistency, rest_nodes},
    record::{Omission, Phantom},
};
use crate::{
    c2sp::{
        checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
        encoding::MAX_INDEX,
        merkle::ProofError,
        note::VerifierKey,
    },
    formats::{name::NameError, record::RecordError},
    verify::{
        prefix_tree::PrefixError,
        tag_proof::{TagProofError, from_strict_json},
    },
};

/// The most bytes of an evidence file that are read.
pub const MAX_EVIDENCE: usize = 256 * 1024 * 1024;

/// Why evidence does not prove misbehaviour.
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
    #[error("the evidence is true but proves no misbehaviour: {0}")]
    ProvesNothing(&'static str),
}

/// A later version's entries are no misbehaviour.
const UNKNOWN_KIND: EvidenceError =
    EvidenceError::ProvesNothing("an entry is of a kind that this version does not know: upgrade");

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

    /// Checks what the shape alone does not ensure: the type of a tag proof, and the range of indices.
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

    /// Checks the evidence. `Ok` proves that the log with this key misbehaved, and has what it did as one sentence.
    ///
    /// # Errors
    /// [`EvidenceError`] when the evidence is forged, incomplete, or compatible with an honest log.
    pub fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        match self {
            Evidence::Fork(evidence) => evidence.proves_misbehaviour(log),
            Evidence::Inconsistency(evidence) => evidence.proves_misbehaviour(log),
            Evidence::Omission(evidence) => evidence.proves_misbehaviour(log),
            Evidence::Phantom(evidence) => evidence.proves_misbehaviour(log),
            Evidence::FalseSeal(evidence) => evidence.proves_misbehaviour(log),
            Evidence::NoSeal(evidence) => evidence.proves_misbehaviour(log),
            Evidence::FalseEntry(evidence) => evidence.proves_misbehaviour(log),
        }
    }
}

fn signed(text: &str, log: &VerifierKey) -> Result<Checkpoint, EvidenceError> {
    Ok(SignedCheckpoint::parse(text.as_bytes())?.verify(log)?.clone())
}
