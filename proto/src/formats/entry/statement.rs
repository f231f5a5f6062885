//! The entries that witnesses sign: observations and confirmations.

use std::fmt;

use super::{Entry, EntryError, Lines, MAX_STATEMENT};
use crate::{
    c2sp::{
        encoding::{from_base64_array, write_base64},
        note::{NoteError, SigningKey, VerifierKey},
        time::Timestamp,
    },
    formats::name::{Digest, Image, KeyId, Repository, Tag, WitnessId, WitnessName},
};

/// What a witness saw behind a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// The digest of what the tag points to.
    Digest(Digest),
    /// The tag no longer resolves.
    Gone,
}

impl Seen {
    /// Parses a digest or the word `gone`.
    ///
    /// # Errors
    /// [`crate::formats::name::NameError::Digest`].
    pub fn parse(text: &str) -> Result<Seen, crate::formats::name::NameError> {
        if text == "gone" { Ok(Seen::Gone) } else { Digest::parse(text).map(Seen::Digest) }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Digest(digest) => digest.fmt(f),
            Seen::Gone => f.write_str("gone"),
        }
    }
}

/// Who signed a statement, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessSignature {
    /// Name and key id of the witness.
    pub witness: WitnessId,
    /// The Ed25519 signature over the note's text.
    pub bytes: [u8; 64],
}

impl WitnessSignature {
    /// Reads `— <witness name> <base64 of 4 bytes key id || 64 bytes signature>`.
    fn parse(line: &str) -> Result<WitnessSignature, EntryError> {
        let (name, encoded) =
            line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or(EntryError::Signature)?;
        let bytes: [u8; 68] = from_base64_array(encoded).ok_or(EntryError::Signature)?;
        let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or(EntryError::Signature)?;
        Ok(WitnessSignature {
            witness: WitnessId { name: WitnessName::parse(name)?, key_id: KeyId(*key_id) },
            bytes: signature.try_into().map_err(|_| EntryError::Signature)?,
        })
    }

    fn sign(text: &str, key: &SigningKey) -> Result<WitnessSignature, EntryError> {
        let line = key.sign(text);
        let name = WitnessName::parse(&line.name)?;
        let bytes = line.signature.try_into().map_err(|_| EntryError::Signature)?;
        Ok(WitnessSignature { witness: WitnessId { name, key_id: line.key_id }, bytes })
    }
}

impl fmt::Display for WitnessSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 68];
        bytes[..4].copy_from_slice(&self.witness.key_id.0);
        bytes[4..].copy_from_slice(&self.bytes);
        write!(f, "— {} ", self.witness.name)?;
        write_base64(&bytes, f)?;
        f.write_str("\n")
    }
}

/// A signed statement by a witness: repository, tag, digest (or `gone`), time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Repository and tag.
    pub image: Image,
    /// What the tag pointed to.
    pub seen: Seen,
    /// When the witness resolved the tag.
    pub observed: Timestamp,
    /// The witness and its signature.
    pub signature: WitnessSignature,
}

impl Observation {
    pub(super) const KIND: &'static str = "taglog/observation@v1";

    /// Makes and signs an observation.
    ///
    /// # Errors
    /// [`EntryError::Name`] when the key's name is no witness name.
    pub fn sign(image: Image, seen: Seen, observed: Timestamp, key: &SigningKey) -> Result<Observation, EntryError> {
        let text = ObservationText { image: &image, seen: &seen, observed }.to_string();
        let signature = WitnessSignature::sign(&text, key)?;
        Ok(Observation { image, seen, observed, signature })
    }

    fn signed(&self) -> ObservationText<'_> {
        ObservationText { image: &self.image, seen: &self.seen, observed: self.observed }
    }

    /// The text that is signed: all but the empty line and the signature. Two notes with the same
    /// text by the same witness are the same observation (SPEC.md section 6.2).
    pub fn text(&self) -> String {
        self.signed().to_string()
    }

    /// Checks the witness's signature in the strict sense.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], [`NoteError::NotSigned`] when the key is another witness's.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        verify_statement(&self.text(), &self.signature, key)
    }

    pub(super) fn parse_body(whole: &str, body: &str) -> Result<Observation, EntryError> {
        let (body, signature) = split_signature(whole, body)?;
        let mut lines = Lines::new(body);
        let repository = Repository::parse(lines.field("repository")?)?;
        let tag = Tag::parse(lines.field("tag")?)?;
        let seen = Seen::parse(lines.field("digest")?)?;
        let observed = lines.time("observed")?;
        lines.end()?;
        Ok(Observation { image: Image { repository, tag }, seen, observed, signature })
    }
}

/// What a witness signs of an observation.
struct ObservationText<'a> {
    image: &'a Image,
    seen: &'a Seen,
    observed: Timestamp,
}

impl fmt::Display for ObservationText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObservationText { image: Image { repository, tag }, seen, observed } = self;
        let kind = Observation::KIND;
        write!(f, "{kind}\nrepository {repository}\ntag {tag}\ndigest {seen}\nobserved {observed}\n")
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.signed(), self.signature)
    }
}

/// A signed statement by a witness: all it last reported of one repository still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The repository.
    pub repository: Repository,
    /// When the witness had resolved the last of its tags.
    pub observed: Timestamp,
    /// The witness and its signature.
    pub signature: WitnessSignature,
}

impl Confirmation {
    pub(super) const KIND: &'static str = "taglog/confirmation@v1";

    /// Makes and signs a confirmation.
    ///
    /// # Errors
    /// [`EntryError::Name`] when the key's name is no witness name.
    pub fn sign(repository: Repository, observed: Timestamp, key: &SigningKey) -> Result<Confirmation, EntryError> {
        let signature = WitnessSignature::sign(&Self::text_of(&repository, observed), key)?;
        Ok(Confirmation { repository, observed, signature })
    }

    fn text_of(repository: &Repository, observed: Timestamp) -> String {
        format!("{}\nrepository {repository}\nobserved {observed}\n", Self::KIND)
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        Self::text_of(&self.repository, self.observed)
    }

    /// Checks the witness's signature in the strict sense.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], [`NoteError::NotSigned`] when the key is another witness's.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        verify_statement(&self.text(), &self.signature, key)
    }

    pub(super) fn parse_body(whole: &str, body: &str) -> Result<Confirmation, EntryError> {
        let (body, signature) = split_signature(whole, body)?;
        let mut lines = Lines::new(body);
        let repository = Repository::parse(lines.field("repository")?)?;
        let observed = lines.time("observed")?;
        lines.end()?;
        Ok(Confirmation { repository, observed, signature })
    }
}

impl fmt::Display for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.text(), self.signature)
    }
}

/// An entry that a witness signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// What a tag pointed to.
    Observation(Observation),
    /// That all tags of a repository are as the witness last reported them.
    Confirmation(Confirmation),
}

impl Statement {
    /// The statement in an entry; `None` for a roster or a seal.
    pub fn from_entry(entry: Entry) -> Option<Statement> {
        match entry {
            Entry::Observation(entry) => Some(Statement::Observation(entry)),
            Entry::Confirmation(entry) => Some(Statement::Confirmation(entry)),
            Entry::Roster(_) | Entry::Seal(_) => None,
        }
    }

    /// The witness that the statement names as its signer.
    pub fn witness(&self) -> &WitnessId {
        match self {
            Statement::Observation(entry) => &entry.signature.witness,
            Statement::Confirmation(entry) => &entry.signature.witness,
        }
    }

    /// When the witness had resolved the tags.
    pub fn observed(&self) -> Timestamp {
        match self {
            Statement::Observation(entry) => entry.observed,
            Statement::Confirmation(entry) => entry.observed,
        }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        match self {
            Statement::Observation(entry) => entry.text(),
            Statement::Confirmation(entry) => entry.text(),
        }
    }

    /// Checks the witness's signature in the strict sense.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], [`NoteError::NotSigned`] when the key is another witness's.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        match self {
            Statement::Observation(entry) => entry.verify(key),
            Statement::Confirmation(entry) => entry.verify(key),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Observation(entry) => entry.fmt(f),
            Statement::Confirmation(entry) => entry.fmt(f),
        }
    }
}

/// Splits a statement's lines from its one signature line.
fn split_signature<'a>(whole: &str, body: &'a str) -> Result<(&'a str, WitnessSignature), EntryError> {
    if whole.len() > MAX_STATEMENT {
        return Err(EntryError::TooLong { got: whole.len(), limit: MAX_STATEMENT });
    }
    let (_, line) = body.split_once("\n\n").ok_or(EntryError::Signature)?;
    let lines = &body[..body.len() - line.len() - 1];
    let line = line.strip_suffix('\n').ok_or(EntryError::Signature)?;
    Ok((lines, WitnessSignature::parse(line)?))
}

fn verify_statement(text: &str, signature: &WitnessSignature, key: &VerifierKey) -> Result<(), NoteError> {
    if signature.witness.name.as_str() != key.name() || signature.witness.key_id != key.key_id() {
        return Err(NoteError::NotSigned(key.to_string()));
    }
    key.verify(text.as_bytes(), &signature.bytes)
}
