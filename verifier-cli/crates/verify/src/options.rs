//! The options of a verification, and the time as of which it evaluates.

use std::time::Duration;

use taglog_policy::{Policy, lock::Lock};
use taglog_proto::time::Timestamp;

use crate::platform::Platform;

/// What is demanded of images.
#[derive(Clone, Debug)]
pub struct VerificationOptions {
    /// Which witnesses are trusted, and which tags may move.
    pub policy: Policy,
    /// The digests that people have approved.
    pub lock: Lock,
    /// Whether only digests in the lock pass.
    pub locked: bool,
    /// Whether to choose the newest digest that is old enough, and not the one that the registry serves.
    pub settled: bool,
    /// The platform whose own manifest passes if the index that lists it passes. Moved tags are compared for it, or for
    /// this machine's platform.
    pub platform: Option<Platform>,
}

/// The time as of which images are evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) enum EvaluationTime {
    /// Now, with a new answer of the log.
    Live(Timestamp),
    /// Now, with the saved answer of a proof file, which may be at most as old as this; ages and freshness are measured
    /// as of the seal in the file.
    Saved(Timestamp, Option<Duration>),
}

impl EvaluationTime {
    pub(super) fn now(self) -> Timestamp {
        match self {
            EvaluationTime::Live(now) | EvaluationTime::Saved(now, _) => now,
        }
    }
}
