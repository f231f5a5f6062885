//! Whose word counts, what may move, and what follows for one image.

mod verdict;

use std::time::Duration;

use taglog_proto::{name::Tag, name::WitnessId};

pub use verdict::{Judgement, Verdict, judge};

/// What a verifier demands.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose sightings count; empty means every witness of the log.
    pub witnesses: Vec<WitnessId>,
    /// How many of them must have sighted a digest before it passes.
    pub quorum: usize,
    /// Tags that may move.
    pub moving: Vec<Tag>,
    /// How old a witness's word may be: its latest observation or confirmation.
    pub freshness: Duration,
}

impl Policy {
    /// Whether this witness's word counts.
    pub fn trusts(&self, witness: &WitnessId) -> bool {
        self.witnesses.is_empty() || self.witnesses.contains(witness)
    }

    /// Whether this tag may move.
    pub fn may_move(&self, tag: &Tag) -> bool {
        self.moving.contains(tag)
    }
}
