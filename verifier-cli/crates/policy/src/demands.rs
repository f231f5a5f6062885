//! What is demanded of one image, and by whom.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use taglog_proto::{name::WitnessId, time::Timestamp};

/// A digest that was first seen less than this ago is `new` where policy sets no `min-age`: it passes with a warning.
pub const WARN_AGE: Duration = Duration::from_secs(24 * 3600);
/// The oldest state of the log that is accepted where nothing else is said.
pub const MAX_AGE: Duration = Duration::from_secs(3600);
/// How old a witness's word may be where nothing else is said.
pub const FRESHNESS: Duration = Duration::from_secs(7 * 86_400);

/// What is expected of a tag over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// It never moves.
    Immutable,
    /// It moves when its publisher rebuilds it on a new base.
    Rebuilds,
    /// It moves as it likes.
    Moving,
    /// Nobody says.
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

/// A witness whose word counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedWitness {
    /// Who.
    pub id: WitnessId,
    /// Its entries at this log index and later do not count: its key was compromised.
    pub until: Option<u64>,
    /// The same for several logs, by their origins. Where it says anything, what the witness said in logs that it does
    /// not name does not count at all; [`Demands::in_log`] has what applies to one log.
    pub until_in: BTreeMap<String, u64>,
}

impl TrustedWitness {
    /// A witness whose entries count, in any log, up to this index if there is one.
    pub fn new(id: WitnessId, until: Option<u64>) -> TrustedWitness {
        TrustedWitness { id, until, until_in: BTreeMap::new() }
    }

    /// A witness whose entries count in these logs, up to these indices.
    pub fn until_in(id: WitnessId, until_in: BTreeMap<String, u64>) -> TrustedWitness {
        // Nothing counts where nobody asks about one log.
        TrustedWitness { id, until: Some(0), until_in }
    }

    fn in_log(&self, origin: &str) -> TrustedWitness {
        if self.until_in.is_empty() {
            return self.clone();
        }
        TrustedWitness::new(self.id.clone(), self.until_in.get(origin).copied().or(Some(0)))
    }
}

/// An image that passes whatever its verdict, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    /// Why.
    pub reason: String,
    /// From this time on it is judged like any other.
    pub until: Timestamp,
}

impl Ignore {
    /// Whether the image is still ignored at this time.
    pub fn applies(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// All that applies to one image, and why.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Whether the tag may move.
    pub expectation: Expectation,
    /// How many witnesses must see the digest last; at least 1.
    pub agree: usize,
    /// How long ago that many of them must have seen it first. Where it is set, a younger digest fails; `None` warns
    /// below [`WARN_AGE`], zero asks for no age at all.
    pub min_age: Option<Duration>,
    /// The oldest state of the log to accept.
    pub max_age: Duration,
    /// How recently a witness must have vouched for the digest.
    pub freshness: Duration,
    /// Whether it passes anyway, and until when; see [`Ignore::applies`].
    pub ignore: Option<Ignore>,
    /// Whose word counts; empty means every witness of the log.
    pub trusted: Vec<TrustedWitness>,
    /// Which line decided what, one line each.
    pub because: Vec<String>,
}

impl Default for Demands {
    /// What applies where nothing is said.
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
    /// Whether this witness's word counts, and if so up to which log index.
    pub fn trusts(&self, witness: &WitnessId) -> Option<TrustedWitness> {
        match self.trusted.iter().find(|trusted| trusted.id == *witness) {
            None if self.trusted.is_empty() => Some(TrustedWitness::new(witness.clone(), None)),
            found => found.cloned(),
        }
    }

    /// What of this applies to the log of this origin.
    pub fn in_log(&self, origin: &str) -> Demands {
        let trusted = self.trusted.iter().map(|trusted| trusted.in_log(origin)).collect();
        Demands { trusted, ..self.clone() }
    }
}
