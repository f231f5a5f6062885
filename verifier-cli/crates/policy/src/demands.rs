//! The requirements that apply to one image, and the witnesses that are trusted for it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use taglog_proto::{name::WitnessId, time::Timestamp};

/// A digest first seen more recently than this is `new`, and passes with a warning, where policy sets no `min-age`.
pub const WARN_AGE: Duration = Duration::from_secs(24 * 3600);
/// The default for the oldest state of the log that is accepted.
pub const MAX_AGE: Duration = Duration::from_secs(3600);
/// The default for the longest time since a witness vouched for a digest.
pub const FRESHNESS: Duration = Duration::from_secs(7 * 86_400);

/// How a tag is expected to change over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// It never moves.
    Immutable,
    /// It moves when its publisher rebuilds it on a new base.
    Rebuilds,
    /// It may move at any time.
    Moving,
    /// No rule and no profile states an expectation.
    #[serde(skip_deserializing)]
    Unstated,
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Expectation::Immutable => "immutable",
            Expectation::Rebuilds => "rebuilds",
            Expectation::Moving => "moving",
            Expectation::Unstated => "unstated",
        })
    }
}

/// A trusted witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedWitness {
    /// The name and key id.
    pub id: WitnessId,
    /// Entries at this log index and later do not count, because the key was compromised.
    pub until: Option<u64>,
    /// `until` for each of several logs, by origin. If it is not empty, entries in logs that it does not name do not
    /// count at all. [`Demands::in_log`] resolves it for one log.
    pub until_in: BTreeMap<String, u64>,
}

impl TrustedWitness {
    /// A witness whose entries count in every log, up to this index if there is one.
    pub fn new(id: WitnessId, until: Option<u64>) -> TrustedWitness {
        TrustedWitness { id, until, until_in: BTreeMap::new() }
    }

    /// A witness whose entries count in these logs, up to these indices.
    pub fn until_in(id: WitnessId, until_in: BTreeMap<String, u64>) -> TrustedWitness {
        // Without `in_log`, no entry counts.
        TrustedWitness { id, until: Some(0), until_in }
    }

    fn in_log(&self, origin: &str) -> TrustedWitness {
        if self.until_in.is_empty() {
            return self.clone();
        }
        TrustedWitness::new(self.id.clone(), self.until_in.get(origin).copied().or(Some(0)))
    }
}

/// An exception that lets an image pass whatever its verdict, until a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    /// Why the image may pass, as the policy file states it.
    pub reason: String,
    /// The end of the exception.
    pub until: Timestamp,
}

impl Ignore {
    /// Whether the image is still ignored at this time.
    pub fn applies(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// All that policy demands of one image, and why.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Whether the tag may move.
    pub expectation: Expectation,
    /// How many witnesses must have sighted the digest last; at least 1.
    pub agree: usize,
    /// How long ago that many witnesses must have seen it first. If it is set, a younger digest fails; `None` warns
    /// below [`WARN_AGE`]; zero accepts any age.
    pub min_age: Option<Duration>,
    /// The oldest state of the log to accept.
    pub max_age: Duration,
    /// How recently a witness must have vouched for the digest.
    pub freshness: Duration,
    /// The exception for the image; see [`Ignore::applies`].
    pub ignore: Option<Ignore>,
    /// The trusted witnesses; empty means every witness of the log.
    pub trusted: Vec<TrustedWitness>,
    /// Which line of which file decided each requirement, one line each.
    pub because: Vec<String>,
}

impl Default for Demands {
    /// What applies where no rule says otherwise.
    fn default() -> Demands {
        Demands {
            expectation: Expectation::Unstated,
            agree: 1,
            min_age: None,
            max_age: MAX_AGE,
            freshness: FRESHNESS,
            ignore: None,
            trusted: Vec::new(),
            because: Vec::new(),
        }
    }
}

impl Demands {
    /// The entry of this witness if it is trusted.
    pub fn trusts(&self, witness: &WitnessId) -> Option<TrustedWitness> {
        match self.trusted.iter().find(|trusted| trusted.id == *witness) {
            None if self.trusted.is_empty() => Some(TrustedWitness::new(witness.clone(), None)),
            found => found.cloned(),
        }
    }

    /// These demands with `until` resolved for the log of this origin.
    pub fn in_log(&self, origin: &str) -> Demands {
        let trusted = self.trusted.iter().map(|trusted| trusted.in_log(origin)).collect();
        Demands { trusted, ..self.clone() }
    }
}
