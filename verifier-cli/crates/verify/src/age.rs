//! Whether an answer of the log is young enough to say anything about now.

use std::time::Duration;

use taglog_proto::time::Timestamp;

use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::{Judgement, Verdict};

/// How far a seal may be dated after our own clock, in seconds.
const FUTURE_TOLERANCE: i64 = 300;

/// The judgement on an answer that is too old or from the future; `None` for one that may be used. Without `max_age`
/// any age will do.
pub(super) fn stale(part: &CosignedLookup, max_age: Option<Duration>, now: Timestamp) -> Option<Judgement> {
    let what = if part.cosigned.fresh.is_some() { "quorum of cosignatures" } else { "last seal" };
    let age = now.unix().saturating_sub(part.time().unix());
    let reason = if max_age.is_some_and(|limit| age > seconds(limit)) {
        format!("the log's {what} is {age} s old: it may be frozen")
    } else if age < -FUTURE_TOLERANCE {
        format!("the log's {what} is dated {} s in the future: check the clocks", -age)
    } else if let Some(limit) = max_age.filter(|limit| is_frozen(part, *limit, now)) {
        format!(
            "the log has sealed nothing since {}, though it must when nothing comes, and {} s are allowed: it may be \
             frozen, and hide from its cosigners what is newer",
            part.lookup.seal.time,
            limit.as_secs()
        )
    } else {
        return None;
    };
    Some(Judgement::fails(Verdict::Stale, reason))
}

/// Cosigners vouch that nothing newer was shown to them. A log that shows them nothing newer is told by its seals: after
/// `quiet` seconds without entries there is one.
fn is_frozen(part: &CosignedLookup, max_age: Duration, now: Timestamp) -> bool {
    let allowed = max_age.saturating_add(Duration::from_secs(part.lookup.roster.limits.quiet));
    now.unix().saturating_sub(part.lookup.seal.time.unix()) > seconds(allowed)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
