//! Entries: the leaves of the log (SPEC.md section 3).
//!
//! Every entry is text whose first line names its kind. What [`Entry::parse`] accepts,
//! `to_string` returns byte for byte: an entry has exactly one canonical encoding.

mod roster;
mod seal;
mod statement;

use std::fmt;

use thiserror::Error;

use crate::{
    c2sp::{
        encoding::is_text,
        note::NoteError,
        time::{Timestamp, TimestampError},
    },
    formats::name::NameError,
};

pub use crate::c2sp::tile::MAX_ENTRY;
pub use roster::{Limits, Roster};
pub use seal::Seal;
pub use statement::{Confirmation, Observation, Seen, Statement, WitnessSignature};

/// The most bytes of an observation or confirmation, signature included.
pub const MAX_STATEMENT: usize = 1024;

/// Why an entry was refused. Each message names the line and the rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EntryError {
    /// Over [`MAX_STATEMENT`] or [`MAX_ENTRY`] bytes.
    #[error("an entry of {got} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes of the entry.
        got: usize,
        /// Bytes allowed for its kind.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("the entry is not UTF-8")]
    NotUtf8,
    /// A `taglog/…` kind that this version does not know: not misbehaviour, but a newer log.
    #[error("entry of unknown kind {0:?}: upgrade taglog to read it")]
    UnknownKind(String),
    /// The first line is not `taglog/…`.
    #[error("the entry's first line {0:?} is not a taglog kind")]
    NotAnEntry(String),
    /// A line is missing, misplaced or superfluous.
    #[error("want a line '{0} …' here; the lines of an entry have one order and nothing between")]
    Line(&'static str),
    /// A value is malformed or not in canonical encoding.
    #[error("the value of '{0}' is malformed or not in its canonical encoding")]
    Value(&'static str),
    /// The text is understood but not in canonical encoding.
    #[error("the entry is not in its canonical encoding")]
    NotCanonical,
    /// A name in it is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A time in it is refused.
    #[error(transparent)]
    Time(#[from] TimestampError),
    /// A key in it is refused.
    #[error(transparent)]
    Key(#[from] NoteError),
    /// An observation or confirmation bears one signature of 64 bytes by a witness.
    #[error("want exactly one signature line '— <witness name> <base64 of 4 + 64 bytes>' after one empty line")]
    Signature,
    /// The witnesses of a roster are sorted by their bytes and have distinct ids.
    #[error("the witnesses of a roster must be sorted and have distinct ids")]
    RosterOrder,
}

/// One leaf of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A witness saw this digest, or none, behind a tag.
    Observation(Observation),
    /// A witness resolved again all tags that it had reported of a repository, and nothing had changed.
    Confirmation(Confirmation),
    /// The log names its witnesses.
    Roster(Roster),
    /// The log closes a batch.
    Seal(Seal),
}

impl Entry {
    /// Parses an entry of any kind. No signature is checked.
    ///
    /// # Errors
    /// Every variant of [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Entry, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLong { got: bytes.len(), limit: MAX_ENTRY });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EntryError::NotUtf8)?;
        let (kind, body) = text.split_once('\n').unwrap_or((text, ""));
        let entry = match kind {
            Observation::KIND => Entry::Observation(Observation::parse_body(text, body)?),
            Confirmation::KIND => Entry::Confirmation(Confirmation::parse_body(text, body)?),
            Roster::KIND => Entry::Roster(Roster::parse_body(body)?),
            Seal::KIND => Entry::Seal(Seal::parse_body(body)?),
            _ => return Err(unknown_kind(kind)),
        };
        // The parsers are strict line by line; this comparison makes sure that the encoding is canonical.
        if is_text(&entry, text) { Ok(entry) } else { Err(EntryError::NotCanonical) }
    }

    /// The witness's signature, of an observation or a confirmation.
    pub fn signature(&self) -> Option<&WitnessSignature> {
        match self {
            Entry::Observation(entry) => Some(&entry.signature),
            Entry::Confirmation(entry) => Some(&entry.signature),
            Entry::Roster(_) | Entry::Seal(_) => None,
        }
    }

    /// The roster, if it is one.
    pub fn roster(&self) -> Option<&Roster> {
        if let Entry::Roster(roster) = self { Some(roster) } else { None }
    }

    /// The seal, if it is one and states that it stands at `index`: what the last entry of every checkpoint must be.
    /// The second condition refuses a seal that was copied to a later place.
    pub fn seal_at(&self, index: u64) -> Option<&Seal> {
        match self {
            Entry::Seal(seal) if seal.size == index => Some(seal),
            _ => None,
        }
    }

    /// The text that is signed; empty for what bears no signature.
    pub(crate) fn signed_text(&self) -> String {
        match self {
            Entry::Observation(entry) => entry.text(),
            Entry::Confirmation(entry) => entry.text(),
            Entry::Roster(_) | Entry::Seal(_) => String::new(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Observation(entry) => entry.fmt(f),
            Entry::Confirmation(entry) => entry.fmt(f),
            Entry::Roster(entry) => entry.fmt(f),
            Entry::Seal(entry) => entry.fmt(f),
        }
    }
}

fn unknown_kind(kind: &str) -> EntryError {
    let shown: String = kind.chars().take(80).collect();
    if kind.starts_with("taglog/") { EntryError::UnknownKind(shown) } else { EntryError::NotAnEntry(shown) }
}

/// Takes `<key> <value>` lines off the front of a text, one after the other.
struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        Lines { rest: text }
    }

    /// The value of the next line, whose key must be `key`.
    fn field(&mut self, key: &'static str) -> Result<&'a str, EntryError> {
        self.try_field(key).ok_or(EntryError::Line(key))
    }

    /// The value of the next line, if its key is `key`.
    fn try_field(&mut self, key: &'static str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        let value = crate::c2sp::encoding::field(line, key)?;
        self.rest = rest;
        Some(value)
    }

    fn time(&mut self, key: &'static str) -> Result<Timestamp, EntryError> {
        Ok(self.field(key)?.parse()?)
    }

    fn number(&mut self, key: &'static str) -> Result<u64, EntryError> {
        crate::c2sp::encoding::from_decimal(self.field(key)?).ok_or(EntryError::Value(key))
    }

    fn end(self) -> Result<(), EntryError> {
        if self.rest.is_empty() { Ok(()) } else { Err(EntryError::NotCanonical) }
    }
}
