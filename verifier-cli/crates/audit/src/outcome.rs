//! How an audit ended.

use taglog_proto::{entry::EntryError, evidence::Evidence};
use thiserror::Error;

use super::error::AuditorError;

/// What kind of thing is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFindingKind {
    /// An entry breaks a rule.
    Violation,
    /// The last entry of a checkpoint is no seal.
    NoSeal,
    /// Two roots for one size.
    Fork,
    /// A checkpoint is no prefix of a larger one.
    Inconsistency,
    /// Entries and tiles do not have the root that the log signed.
    FalseData,
}

impl AuditFindingKind {
    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            AuditFindingKind::Violation => "violation",
            AuditFindingKind::NoSeal => "no-seal",
            AuditFindingKind::Fork => "fork",
            AuditFindingKind::Inconsistency => "inconsistency",
            AuditFindingKind::FalseData => "false-data",
        }
    }
}

/// Something that an honest log does not do.
#[derive(Clone, Debug)]
pub struct AuditFinding {
    /// What kind of thing.
    pub kind: AuditFindingKind,
    /// The log index where it shows, if it shows in one entry.
    pub index: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// What convicts the log to others, if something can.
    pub evidence: Option<Evidence>,
}

/// How an audit ended.
#[derive(Debug, Default)]
pub struct AuditOutcome {
    /// What is wrong with the log.
    pub findings: Vec<AuditFinding>,
    /// An entry of a kind that a later version knows stopped the audit. No misbehaviour.
    pub upgrade: Option<(u64, EntryError)>,
    /// Something could not be had, which stopped the audit. No evidence.
    pub unavailable: Option<String>,
    /// The greatest size that was seen before, when the checkpoint has less.
    pub behind: Option<u64>,
    /// Entries audited in this run.
    pub audited: u64,
    /// Whether every entry of the checkpoint was audited, and all is as the log signed it.
    pub complete: bool,
}

/// Why an audit could not be made at all.
#[derive(Debug, Error)]
pub enum AuditRunError {
    /// The auditor's own trouble.
    #[error(transparent)]
    Auditor(#[from] AuditorError),
    /// A thread of the auditor ended early.
    #[error("the audit ended early: {0}")]
    Thread(String),
    /// Who follows the audit cannot go on.
    #[error("{0}")]
    Follower(String),
}
