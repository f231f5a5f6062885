//! Whether an answer of the log is recent enough.

use std::time::Duration;

use taglog_proto::time::Timestamp;

use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::{Evaluation, Verdict};

/// How far in the future a seal may be dated, in seconds: the clocks may differ.
const FUTURE_TOLERANCE: i64 = 300;

/// The evaluation for an answer that is too old or dated in the future; `None` for a usable answer. Without `max_age`
/// any age is accepted.
pub(super) fn stale(part: &CosignedLookup, max_age: Option<Duration>, now: Timestamp) -> Option<Evaluation> {
    let what = if part.cosigned.fresh.is_some() { "quorum of cosignatures" } else { "last seal" };
    let age = now.unix().saturating_sub(part.time().unix());
    let reason = if max_age.is_some_and(|limit| age > seconds(limit)) {
        format!("the log's {what} is {age} s old, which is more than policy allows: the log may be frozen")
    } else if age < -FUTURE_TOLERANCE {
        format!("the log's {what} is dated {} s in the future: check the clocks", -age)
    } else if let Some(limit) = max_age.filter(|limit| is_frozen(part, *limit, now)) {
        format!(
            "the log has sealed nothing since {}, and policy allows {} s beyond its own interval: it may be frozen, and \
             hide newer entries from its cosigners",
            part.lookup.seal.time,
            limit.as_secs()
        )
    } else {
        return None;
    };
    Some(Evaluation::fails(Verdict::Stale, reason))
}

/// Whether the log has stopped sealing. Cosigners only vouch that they were shown nothing newer, but a log must seal at
/// least every `quiet` seconds, even without entries.
fn is_frozen(part: &CosignedLookup, max_age: Duration, now: Timestamp) -> bool {
    let allowed = max_age.saturating_add(Duration::from_secs(part.lookup.roster.limits.quiet));
    now.unix().saturating_sub(part.lookup.seal.time.unix()) > seconds(allowed)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
