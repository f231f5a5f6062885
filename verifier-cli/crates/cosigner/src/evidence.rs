//! What a cosigner keeps when a log breaks a rule.

use std::path::{Path, PathBuf};

use taglog_proto::evidence::Evidence;

use taglog_log_client::memory::Memory;

/// A rule that a log broke: it is not cosigned any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where, and which rule.
    pub reason: String,
    /// The file that shows it to others, if one could be written.
    pub evidence: Option<PathBuf>,
}

/// Writes evidence into the state directory, and says where.
pub fn keep(state: &Path, evidence: &Evidence) -> Option<PathBuf> {
    let memory = Memory::new(state.to_owned());
    match memory.keep_evidence("misbehaviour", evidence.to_json().as_bytes()) {
        Ok(path) => Some(path),
        Err(error) => {
            tracing::error!(%error, "evidence could not be kept");
            None
        }
    }
}
