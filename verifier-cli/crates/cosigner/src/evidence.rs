//! The evidence that a cosigner writes when a log breaks a rule.

use std::path::{Path, PathBuf};

use taglog_proto::evidence::Evidence;

use taglog_log_client::memory::Memory;

/// A rule that a log broke. The log is never cosigned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where, and which rule.
    pub reason: String,
    /// The evidence file, if one could be written.
    pub evidence: Option<PathBuf>,
}

/// Writes evidence into the state directory, and returns its path; `None`, with a log line, if that fails.
pub fn write(state: &Path, evidence: &Evidence) -> Option<PathBuf> {
    let memory = Memory::new(state.to_owned());
    match memory.keep_evidence("misbehaviour", evidence.to_json().as_bytes()) {
        Ok(path) => Some(path),
        Err(error) => {
            tracing::error!(%error, "the evidence file could not be written");
            None
        }
    }
}
