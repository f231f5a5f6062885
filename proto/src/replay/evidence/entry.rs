//! Entries that must not be where they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EvidenceError, UNKNOWN_KIND, signed};
use crate::{
    c2sp::{
        checkpoint::Checkpoint,
        merkle::{Hash, leaf_hash, verify_inclusion},
        note::VerifierKey,
    },
    formats::entry::{Entry, EntryError},
    replay::rules::{SignatureVerdict, check_signature},
    verify::{multiproof, tag_proof::IndexedEntry},
};

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

/// Entries by index; those that do not parse count against the log, unless of an unknown kind.
type ProvenEntries = BTreeMap<u64, Result<Entry, EntryError>>;

/// Proves entries by a multiproof and parses them.
pub(super) fn proven(
    entries: &[IndexedEntry],
    proof: &[Hash],
    checkpoint: &Checkpoint,
) -> Result<ProvenEntries, EvidenceError> {
    let leaves: Vec<(u64, &[u8])> = entries.iter().map(|e| (e.index, e.entry.as_bytes())).collect();
    multiproof::verify(&leaves, checkpoint.size, proof, &checkpoint.root)?;
    Ok(leaves.into_iter().map(|(index, bytes)| (index, Entry::parse(bytes))).collect())
}

impl NoSeal {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
        let checkpoint = signed(&self.checkpoint, log)?;
        let last = checkpoint.size - 1;
        verify_inclusion(&leaf_hash(self.entry.as_bytes()), last, checkpoint.size, &self.inclusion, &checkpoint.root)?;
        match Entry::parse(self.entry.as_bytes()) {
            Ok(entry) if entry.seal_at(last).is_some() => Err(EvidenceError::ProvesNothing("the last entry is a seal")),
            Err(EntryError::UnknownKind(_)) => Err(UNKNOWN_KIND),
            _ => Ok(format!("{}'s checkpoint of size {} does not end in a seal", log.name(), checkpoint.size)),
        }
    }
}

impl FalseEntry {
    pub(super) fn proves_misbehaviour(&self, log: &VerifierKey) -> Result<String, EvidenceError> {
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
            _ => return Err(EvidenceError::ProvesNothing("the entry is no statement of a witness")),
        };
        let signature =
            entry.signature().ok_or(EvidenceError::ProvesNothing("the entry is no statement of a witness"))?;
        let (log, witness) = (log.name(), &signature.witness);
        let Some(key) = roster.key(witness) else {
            return Ok(format!("{log} has logged entry {index} by {witness}, who is not in the roster in force"));
        };
        match check_signature(key, entry.signed_text().as_bytes(), &signature.bytes) {
            SignatureVerdict::Invalid => {
                Ok(format!("{log} has logged entry {index}, which {witness} has not signed: the signature is false"))
            }
            SignatureVerdict::Strict | SignatureVerdict::Lax => {
                Err(EvidenceError::ProvesNothing("the entry is signed by a witness in the roster in force"))
            }
        }
    }
}
