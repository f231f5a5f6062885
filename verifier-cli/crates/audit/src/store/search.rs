//! Searches the state of an auditor for the tags that ever had a digest.

use std::path::Path;

use rusqlite::OptionalExtension as _;
use taglog_proto::{
    entry::{Entry, Seal, Seen},
    name::{Image, WitnessId},
    note::VerifierKey,
    time::Timestamp,
};

use super::{
    file::{FILE, open_read_only},
    values::index,
};
use crate::{codec, error::AuditorError};

/// A sighting of the digest that was searched for.
#[derive(Clone, Debug)]
pub struct SearchMatch {
    pub image: Image,
    pub witness: WitnessId,
    /// The log index of the sighting.
    pub index: u64,
    /// When the witness resolved the tag.
    pub observed: Timestamp,
    /// Whether the digest is also in the witness's latest observation of the tag.
    pub current: bool,
}

/// The result of a search for a digest.
#[derive(Clone, Debug)]
pub struct DigestSearchResult {
    /// The last audited seal, if any.
    pub seal: Option<Seal>,
    /// Every sighting of the digest, in log order.
    pub found: Vec<SearchMatch>,
}

/// Finds every sighting of a digest in the state of an auditor, which may run at the same time.
pub fn search(directory: &Path, log: &VerifierKey, seen: &Seen) -> Result<DigestSearchResult, AuditorError> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Err(AuditorError::NotAudited(directory.to_owned()));
    }
    let connection = open_read_only(&path)?;
    // All queries of a transaction see the same commit.
    connection.execute_batch("BEGIN")?;
    let meta = |key: &str| {
        let value = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, String>(0));
        value.optional()
    };
    if meta("log")?.as_deref() != Some(&log.to_string()) {
        return Err(AuditorError::OtherLog { path, of: meta("log")?.unwrap_or_default() });
    }
    let seal = meta("seal")?.and_then(|text| Entry::parse(text.as_bytes()).ok());
    let seal = if let Some(Entry::Seal(seal)) = seal { Some(seal) } else { None };
    let mut statement = connection.prepare(
        "SELECT s.idx, s.observed, s.witness, w.name, r.name, t.name, t.lines FROM sighting s
        JOIN tag t ON t.id = s.tag JOIN repository r ON r.id = t.repository JOIN witness w ON w.id = s.witness
        WHERE s.seen = ?1 ORDER BY s.idx",
    )?;
    let mut rows = statement.query([codec::seen_bytes(seen)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let damaged = || AuditorError::Damaged { path: path.clone(), what: "a sighting".to_owned() };
        found.push(found_row(row, seen)?.ok_or_else(damaged)?);
    }
    Ok(DigestSearchResult { seal, found })
}

fn found_row(row: &rusqlite::Row<'_>, seen: &Seen) -> rusqlite::Result<Option<SearchMatch>> {
    let (observed, witness): (i64, u32) = (row.get(1)?, row.get(2)?);
    let (name, repository, tag): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let (index, lines) = (index(row, 0)?, codec::tag_lines_from(&row.get::<_, Vec<u8>>(6)?));
    let found = || {
        Some(SearchMatch {
            image: Image::parse(&format!("{repository}:{tag}")).ok()?,
            witness: WitnessId::parse(&name).ok()?,
            index: index?,
            observed: Timestamp::from_unix(observed)?,
            current: lines?.iter().any(|line| line.witness == witness && line.seen.get() == *seen),
        })
    };
    Ok(found())
}
