//! Numbers in SQLite.

use super::error::{AlertStoreError, damaged};

/// Indices and sizes as SQLite integers; no log has more than 2^63 entries.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> Result<u64, AlertStoreError> {
    u64::try_from(number).map_err(|_| damaged(format!("an index of {number}")))
}
