//! Cosigners: a quorum publishes, a faulty cosigner does not hold up the others, an old backup is refused.

mod crash_recovery;
mod fixture;
mod invalid_responses;
mod quorum;
mod rollback;
