//! Why an entry was not accepted. Every refusal has a stable problem type (SPEC.md section 6).

use taglog_proto::{entry::EntryError, index::OrderError, rules::TimeError};
use thiserror::Error;

use crate::{clock::ClockError, quota::QuotaError};

/// Why an entry was not accepted. Nothing is recorded then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It does not parse.
    #[error("{0}")]
    Malformed(EntryError),
    /// Rosters and seals are the log's own.
    #[error("only observations and confirmations can be submitted")]
    NotAStatement,
    /// The witness is not in the roster in force.
    #[error("witness {0} is not in this log's roster: ask its operator to admit the key")]
    UnknownWitness(String),
    /// The signature is not by the key in the roster.
    #[error("the signature does not verify under the roster's key of {0}")]
    BadSignature(String),
    /// The time rule.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The order rule.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A quota is used up.
    #[error("{0}; wait and submit again")]
    Quota(#[from] QuotaError),
    /// The log's own clock is wrong.
    #[error("the log is not sealing: {0}")]
    Clock(ClockError),
}

impl Refusal {
    /// The last part of the problem type, and the HTTP status.
    pub fn kind(&self) -> (&'static str, u16) {
        match self {
            Refusal::Malformed(EntryError::TooLong { .. }) => ("entry-too-long", 413),
            Refusal::Malformed(_) => ("malformed-entry", 400),
            Refusal::NotAStatement => ("not-a-statement", 400),
            Refusal::UnknownWitness(_) => ("unknown-witness", 403),
            Refusal::BadSignature(_) => ("bad-signature", 403),
            Refusal::Time(TimeError::TooOld { .. }) => ("too-old", 422),
            Refusal::Time(TimeError::InFuture { .. }) => ("in-future", 422),
            Refusal::Order(OrderError::NothingToConfirm) => ("nothing-to-confirm", 409),
            Refusal::Order(_) => ("out-of-order", 409),
            Refusal::Quota(_) => ("quota", 429),
            Refusal::Clock(_) => ("clock", 503),
        }
    }
}
