//! The result of an audit.

use taglog_proto::{entry::EntryError, evidence::Evidence};
use thiserror::Error;

use super::error::AuditorError;

/// The kind of a misbehaviour that an audit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFindingKind {
    /// An entry breaks a rule of SPEC.md section 8.
    Violation,
    /// The last entry of a checkpoint is not a seal.
    NoSeal,
    /// The log signed two different roots for one tree size.
    Fork,
    /// A signed checkpoint is not a prefix of a larger signed one.
    Inconsistency,
    /// The served entries and tiles do not have the root that the log signed.
    FalseData,
}

impl AuditFindingKind {
    /// The name in JSON output and in the names of evidence files.
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

/// One misbehaviour of the log.
#[derive(Clone, Debug)]
pub struct AuditFinding {
    pub kind: AuditFindingKind,
    /// The log index of the entry concerned, if it is a single entry.
    pub index: Option<u64>,
    /// A sentence for users, without the log index.
    pub reason: String,
    /// Evidence that proves the misbehaviour to third parties, if it can be proven.
    pub evidence: Option<Evidence>,
}

/// The result of an audit.
#[derive(Debug, Default)]
pub struct AuditOutcome {
    pub findings: Vec<AuditFinding>,
    /// The log index of an entry of an unknown kind, at which the audit stopped. It needs a newer version of taglog; this is
    /// not misbehaviour.
    pub upgrade: Option<(u64, EntryError)>,
    /// Why data could not be fetched, which stopped the audit. This is unavailability, not misbehaviour.
    pub unavailable: Option<String>,
    /// The largest tree size seen before, if the checkpoint is smaller.
    pub behind: Option<u64>,
    /// The number of entries audited in this run.
    pub audited: u64,
    /// Whether every entry of the checkpoint was audited and nothing is wrong.
    pub complete: bool,
}

/// Why an audit could not be run to a result.
#[derive(Debug, Error)]
pub enum AuditRunError {
    #[error(transparent)]
    Auditor(#[from] AuditorError),
    /// The auditor's thread panicked.
    #[error("the audit ended early: {0}")]
    Thread(String),
    /// The [`super::Follower`] failed.
    #[error("{0}")]
    Follower(String),
}
