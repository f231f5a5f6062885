//! What a verifier works with: trusted logs, remembered checkpoints, registries.

use taglog_log_client::{LogClient, memory::Memory, trust::Trust};
use taglog_oci_registry::Registry;

use crate::options::VerificationOptions;

/// A trusted log and a client for it.
#[derive(Clone)]
pub struct TrustedLog {
    /// The client.
    pub client: LogClient,
    /// The key and the quorum that an answer is verified against.
    pub trust: Trust,
}

/// What a verifier works with.
pub struct Dependencies {
    /// The logs, each with a different origin. All are asked. A log in which an image is not logged does not make it
    /// fail if it is logged in another.
    pub logs: Vec<TrustedLog>,
    /// Remembers checkpoints, and keeps evidence of misbehaviour.
    pub memory: Memory,
    /// The client of the registries.
    pub registry: Registry,
    /// What is demanded of images.
    pub options: VerificationOptions,
}
