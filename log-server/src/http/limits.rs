//! Limits of requests.

use serde_json::json;
use taglog_proto::tag_proof::MAX_IMAGES;

use crate::config::Config;

/// The most bytes of a submission: about 20,000 observations.
pub const MAX_SUBMISSION: usize = 8 << 20;
/// The most entries of a submission.
pub const MAX_SUBMITTED_ENTRIES: usize = 16_384;
/// The most bytes of a raw manifest, as registries limit them.
pub const MAX_MANIFEST: usize = 4 << 20;
/// The most bytes of the body of a look-up.
pub const MAX_LOOKUP_BODY: usize = 512 << 10;

/// The limits that clients have to keep, as `GET log` shows them.
pub fn limits_json(config: &Config) -> serde_json::Value {
    json!({
        "batchIntervalMs": config.batch_interval_ms,
        "submissionBytes": MAX_SUBMISSION,
        "submissionEntries": MAX_SUBMITTED_ENTRIES,
        "manifestBytes": MAX_MANIFEST,
        "lookupImages": MAX_IMAGES,
        "entriesPerSecond": config.quota.entries_per_second,
        "newTagsPerHour": config.quota.new_tags_per_hour,
        "sightingsPerTagPerHour": config.quota.sightings_per_tag_per_hour,
    })
}
