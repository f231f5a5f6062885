//! Why an entry was not accepted. Every rejection has a stable problem type (SPEC.md section 6).

use taglog_proto::{entry::EntryError, index::OrderError, rules::TimeError};
use thiserror::Error;

use crate::{clock::ClockError, quota::QuotaError};

/// Why an entry was not accepted. A rejected entry leaves no trace in the log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    #[error("{0}")]
    Malformed(EntryError),
    /// A roster or a seal: only the log itself writes these.
    #[error("only observations and confirmations can be submitted")]
    NotAStatement,
    #[error("witness {0} is not in this log's roster; ask the log's operator to admit its key")]
    UnknownWitness(String),
    #[error("the signature does not verify with the key that the roster has for {0}")]
    BadSignature(String),
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("{0}; wait and submit again")]
    Quota(#[from] QuotaError),
    /// The log's own clock is wrong.
    #[error("the log does not seal entries now: {0}")]
    Clock(ClockError),
}

impl Rejection {
    /// The last part of the problem type, and the HTTP status.
    pub fn problem(&self) -> (&'static str, u16) {
        match self {
            Rejection::Malformed(EntryError::TooLong { .. }) => ("entry-too-long", 413),
            Rejection::Malformed(_) => ("malformed-entry", 400),
            Rejection::NotAStatement => ("not-a-statement", 400),
            Rejection::UnknownWitness(_) => ("unknown-witness", 403),
            Rejection::BadSignature(_) => ("bad-signature", 403),
            Rejection::Time(TimeError::TooOld { .. }) => ("too-old", 422),
            Rejection::Time(TimeError::InFuture { .. }) => ("in-future", 422),
            Rejection::Order(OrderError::NothingToConfirm) => ("nothing-to-confirm", 409),
            Rejection::Order(_) => ("out-of-order", 409),
            Rejection::Quota(_) => ("quota", 429),
            Rejection::Clock(_) => ("clock", 503),
        }
    }
}
