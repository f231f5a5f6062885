//! Quotas of each witness, so that none can flood the log or a tag.

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use taglog_proto::name::{Image, WitnessId};
use thiserror::Error;

use crate::config::QuotaConfig;

/// A quota that is used up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuotaError {
    #[error("this witness has submitted more than {0} entries per second")]
    Entries(u32),
    /// Tags that the witness has not reported before.
    #[error("this witness has reported more than {0} new tags in an hour")]
    NewTags(u32),
    #[error("this witness has reported more than {0} changes of this tag in an hour")]
    Sightings(u32),
}

/// The quotas of all witnesses. They are kept in memory only: a restart resets them.
pub struct Quotas {
    config: QuotaConfig,
    entries: DefaultKeyedRateLimiter<WitnessId>,
    new_tags: DefaultKeyedRateLimiter<WitnessId>,
    sightings: DefaultKeyedRateLimiter<(WitnessId, Image)>,
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

impl Quotas {
    pub fn new(config: QuotaConfig) -> Quotas {
        let burst = at_least_one(config.entries_per_second.saturating_mul(10));
        let entries = Quota::per_second(at_least_one(config.entries_per_second)).allow_burst(burst);
        Quotas {
            config,
            entries: RateLimiter::keyed(entries),
            new_tags: RateLimiter::keyed(Quota::per_hour(at_least_one(config.new_tags_per_hour))),
            sightings: RateLimiter::keyed(Quota::per_hour(at_least_one(config.sightings_per_tag_per_hour))),
        }
    }

    /// Counts one entry with a valid signature.
    pub fn take_entry(&self, witness: &WitnessId) -> Result<(), QuotaError> {
        self.entries.check_key(witness).map_err(|_| QuotaError::Entries(self.config.entries_per_second))
    }

    /// Counts a tag that the witness has not reported before.
    pub fn take_new_tag(&self, witness: &WitnessId) -> Result<(), QuotaError> {
        self.new_tags.check_key(witness).map_err(|_| QuotaError::NewTags(self.config.new_tags_per_hour))
    }

    /// Counts a change of a tag.
    pub fn take_sighting(&self, witness: &WitnessId, image: &Image) -> Result<(), QuotaError> {
        let key = (witness.clone(), image.clone());
        self.sightings.check_key(&key).map_err(|_| QuotaError::Sightings(self.config.sightings_per_tag_per_hour))
    }

    /// Drops keys whose quota is full again, to bound the memory.
    pub fn forget_idle(&self) {
        self.sightings.retain_recent();
        self.sightings.shrink_to_fit();
    }
}
