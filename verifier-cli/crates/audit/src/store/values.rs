//! Conversion between values and SQLite columns.

use taglog_proto::{merkle::Hash, time::Timestamp};

use crate::{codec, rows::StoredSighting};

/// A log index as SQLite integer. Log indices are below 2⁵³, so none is changed.
pub(super) fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

pub(super) fn index(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).ok())
}

pub(super) fn sighting(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<StoredSighting>> {
    let (tag, witness) = (row.get(1)?, row.get(2)?);
    let observed = Timestamp::from_unix(row.get(3)?);
    let seen = codec::seen_from(&row.get::<_, Vec<u8>>(4)?);
    let parts = index(row, 0)?.zip(observed).zip(seen);
    Ok(parts.map(|((index, observed), seen)| StoredSighting { index, tag, witness, observed, seen }))
}

pub(super) fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}
