//! Numbers as SQLite keeps them.

use super::error::{LedgerError, damaged};

/// Indices and sizes as SQLite keeps them; no log gets that long.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> Result<u64, LedgerError> {
    u64::try_from(number).map_err(|_| damaged(format!("an index of {number}")))
}
