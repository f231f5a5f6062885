//! The rules by which the witness reports, without clock, network or storage.
//!
//! A poll finds a digest or nothing. From that and from the last report follows whether an observation is signed, whether
//! to poll again soon, or whether nothing is to be done. Times are whole seconds, as in entries.

use std::time::Duration;

use taglog_proto::{entry::Seen, name::Digest, time::Timestamp};

use super::config::GoneRule;

/// What a tag points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagTarget {
    Digest(Digest),
    /// The registry has no such tag (404).
    Missing,
}

/// What this witness last signed about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastReport {
    /// What it saw.
    pub seen: Seen,
    /// When it was polled.
    pub observed: Timestamp,
}

/// The state of a tag between polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchedTagState {
    /// `None` before the first report.
    pub reported: Option<LastReport>,
    /// The latest poll that found what was last reported.
    pub polled: Option<Timestamp>,
    /// Consecutive polls that found nothing where a digest was reported.
    pub missing: u32,
    /// The latest of these.
    pub missing_at: Option<Timestamp>,
    /// Whether the next poll is reported even if nothing has changed, because a log does not have the last report.
    pub report_again: bool,
}

/// When an unchanged tag is reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The interval of confirmations.
    pub confirm: Duration,
    /// How much longer to wait for a confirmation of the whole repository before single tags are reported again.
    pub grace: Duration,
    /// Whether all tags that were ever reported of the repository are still watched; otherwise it cannot be confirmed.
    pub whole: bool,
    /// The latest confirmation of the repository.
    pub confirmed: Option<Timestamp>,
}

/// What to do after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportDecision {
    /// Sign this, dated at the poll.
    Report(Seen),
    /// Nothing has changed, or there is nothing to report.
    Nothing,
    /// Undecided: poll again after this long.
    PollAgain(Duration),
    /// The poll is dated before the last signed entry: the clock went back by this long.
    ClockWentBack(Duration),
}

fn since(earlier: Timestamp, later: Timestamp) -> Option<Duration> {
    u64::try_from(later.unix() - earlier.unix()).ok().map(Duration::from_secs)
}

/// Decides what follows from a poll at time `at`.
pub fn decide(
    state: &WatchedTagState,
    found: TagTarget,
    at: Timestamp,
    gone: GoneRule,
    freshness: &Freshness,
) -> ReportDecision {
    let signed = [state.reported.map(|reported| reported.observed), freshness.confirmed].into_iter().flatten().max();
    if let Some(back) = signed.and_then(|signed| since(at, signed)).filter(|back| !back.is_zero()) {
        return ReportDecision::ClockWentBack(back);
    }
    let Some(reported) = state.reported else {
        return match found {
            TagTarget::Digest(digest) => ReportDecision::Report(Seen::Digest(digest)),
            TagTarget::Missing => ReportDecision::Nothing,
        };
    };
    let seen = match found {
        TagTarget::Digest(digest) => Seen::Digest(digest),
        TagTarget::Missing if reported.seen == Seen::Gone => Seen::Gone,
        TagTarget::Missing => match confirm_missing(state, at, gone) {
            Some(wait) => return ReportDecision::PollAgain(wait),
            None => Seen::Gone,
        },
    };
    if seen == reported.seen && !state.report_again && !is_stale(reported.observed, at, freshness) {
        return ReportDecision::Nothing;
    }
    // Two entries for one tag in one second could have the same text, and the log would treat the second as a duplicate
    // (SPEC.md section 6.2).
    if at == reported.observed {
        ReportDecision::PollAgain(Duration::from_secs(1))
    } else {
        ReportDecision::Report(seen)
    }
}

/// How long to wait before the tag may be reported as gone; `None` if this poll decides it.
fn confirm_missing(state: &WatchedTagState, at: Timestamp, gone: GoneRule) -> Option<Duration> {
    let waited = state.missing_at.and_then(|last| since(last, at));
    match waited {
        Some(waited) if waited < gone.interval => Some(gone.interval - waited),
        _ if state.missing + 1 < gone.polls => Some(gone.interval),
        _ => None,
    }
}

/// Whether an unchanged tag must be reported again.
fn is_stale(observed: Timestamp, at: Timestamp, freshness: &Freshness) -> bool {
    let vouched = freshness.confirmed.map_or(observed, |confirmed| confirmed.max(observed));
    let limit = if freshness.whole { freshness.confirm + freshness.grace } else { freshness.confirm };
    since(vouched, at).is_some_and(|age| age >= limit)
}

impl WatchedTagState {
    /// The state after a poll at `at` with this decision and, if it was a report, after the report is durable.
    pub fn after(
        mut self,
        found: TagTarget,
        at: Timestamp,
        decision: ReportDecision,
        gone: GoneRule,
    ) -> WatchedTagState {
        match decision {
            ReportDecision::Report(seen) => WatchedTagState {
                reported: Some(LastReport { seen, observed: at }),
                polled: Some(at),
                ..WatchedTagState::default()
            },
            ReportDecision::Nothing => {
                let polled = self.reported.map(|_| at).or(self.polled);
                WatchedTagState { polled, missing: 0, missing_at: None, ..self }
            }
            ReportDecision::PollAgain(_) if found == TagTarget::Missing => {
                // A poll too soon after the last one does not count.
                let counts =
                    self.missing_at.and_then(|last| since(last, at)).is_none_or(|waited| waited >= gone.interval);
                if counts {
                    self.missing += 1;
                    self.missing_at = Some(at);
                }
                self
            }
            ReportDecision::PollAgain(_) | ReportDecision::ClockWentBack(_) => self,
        }
    }
}

/// The time as of which a repository can be confirmed, given all tags that were ever reported of it; `None` if that is not
/// due, or if one of them was not polled since, or is missing or to be reported again.
///
/// It is the earliest of the tags' latest polls, since every tag was polled at or after that time.
pub fn confirmable<'a>(
    tags: impl IntoIterator<Item = &'a WatchedTagState>,
    confirmed: Option<Timestamp>,
    confirm: Duration,
) -> Option<Timestamp> {
    let (mut oldest_look, mut first_report) = (None::<Timestamp>, None::<Timestamp>);
    for state in tags {
        let Some(reported) = state.reported else { continue };
        let polled = state.polled.filter(|_| state.missing == 0 && !state.report_again)?;
        oldest_look = Some(oldest_look.map_or(polled, |oldest| oldest.min(polled)));
        first_report = Some(first_report.map_or(reported.observed, |first| first.min(reported.observed)));
    }
    let base = confirmed.or(first_report)?;
    oldest_look.filter(|oldest| since(base, *oldest).is_some_and(|age| age >= confirm))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: GoneRule = GoneRule { polls: 3, interval: Duration::from_secs(60) };
    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
    }

    fn fresh() -> Freshness {
        Freshness { confirm: Duration::from_secs(DAY), grace: Duration::from_secs(3600), whole: true, confirmed: None }
    }

    fn digest(content: &str) -> TagTarget {
        TagTarget::Digest(Digest::sha256(content.as_bytes()))
    }

    fn seen(content: &str) -> Seen {
        Seen::Digest(Digest::sha256(content.as_bytes()))
    }

    /// Polls at the given seconds; returns what was signed, with its second.
    fn signed_after(polls: &[(u64, TagTarget)]) -> Vec<(u64, Seen)> {
        let (mut state, mut signed) = (WatchedTagState::default(), Vec::new());
        for (second, found) in polls {
            let decision = decide(&state, *found, at(*second), GONE, &fresh());
            state = state.after(*found, at(*second), decision, GONE);
            if let ReportDecision::Report(what) = decision {
                signed.push((*second, what));
            }
        }
        signed
    }

    #[test]
    fn first_digest_and_every_change_and_no_repetition() {
        let polls = [(0, digest("a")), (10, digest("a")), (20, digest("b")), (30, digest("a")), (40, digest("a"))];
        assert_eq!(signed_after(&polls), [(0, seen("a")), (20, seen("b")), (30, seen("a"))]);
    }

    #[test]
    fn a_change_within_the_second_waits_for_the_next() {
        let polls = [(0, digest("a")), (0, digest("b")), (1, digest("b")), (1, digest("a")), (2, digest("a"))];
        assert_eq!(signed_after(&polls), [(0, seen("a")), (1, seen("b")), (2, seen("a"))]);
    }

    #[test]
    fn gone_needs_several_polls_at_intervals() {
        let none = TagTarget::Missing;
        assert_eq!(signed_after(&[(0, none), (100, none), (200, none), (300, none)]), [], "never seen, never gone");
        let a = (0, digest("a"));
        assert_eq!(signed_after(&[a, (100, none), (160, none)]), [(0, seen("a"))]);
        assert_eq!(signed_after(&[a, (100, none), (160, none), (220, none)]), [(0, seen("a")), (220, Seen::Gone)]);
        // Polls that come too soon, as after a push, do not count.
        assert_eq!(signed_after(&[a, (100, none), (101, none), (102, none), (160, none)]), [(0, seen("a"))]);
        // A poll that finds it resets the count.
        assert_eq!(
            signed_after(&[a, (100, none), (160, none), (170, digest("a")), (220, none), (280, none)]),
            [(0, seen("a"))]
        );
        let back = [a, (100, none), (160, none), (220, none), (300, none), (400, digest("a"))];
        assert_eq!(signed_after(&back), [(0, seen("a")), (220, Seen::Gone), (400, seen("a"))]);
    }

    #[test]
    fn a_clock_that_goes_back_signs_nothing() {
        let state = WatchedTagState::default().after(digest("a"), at(100), ReportDecision::Report(seen("a")), GONE);
        let decide_at = |second, confirmed: Option<u64>| {
            let freshness = Freshness { confirmed: confirmed.map(at), ..fresh() };
            decide(&state, digest("b"), at(second), GONE, &freshness)
        };
        assert_eq!(decide_at(99, None), ReportDecision::ClockWentBack(Duration::from_secs(1)));
        assert_eq!(decide_at(101, Some(200)), ReportDecision::ClockWentBack(Duration::from_secs(99)));
        assert_eq!(decide_at(200, Some(200)), ReportDecision::Report(seen("b")));
    }

    #[test]
    fn an_unchanged_tag_is_reported_again_without_a_confirmation() {
        let state = WatchedTagState::default().after(digest("a"), at(0), ReportDecision::Report(seen("a")), GONE);
        let decide_at = |second, whole, confirmed: Option<u64>| {
            decide(&state, digest("a"), at(second), GONE, &Freshness { whole, confirmed: confirmed.map(at), ..fresh() })
        };
        assert_eq!(decide_at(DAY + 3599, true, None), ReportDecision::Nothing);
        assert_eq!(decide_at(DAY + 3600, true, None), ReportDecision::Report(seen("a")));
        assert_eq!(decide_at(DAY - 1, false, None), ReportDecision::Nothing);
        assert_eq!(decide_at(DAY, false, None), ReportDecision::Report(seen("a")));
        assert_eq!(decide_at(DAY + 3600, true, Some(3600)), ReportDecision::Nothing);
    }

    #[test]
    fn a_tag_that_a_new_log_does_not_have_is_reported_again() {
        let state = WatchedTagState::default().after(digest("a"), at(0), ReportDecision::Report(seen("a")), GONE);
        let report_required_at = WatchedTagState { report_again: true, ..state };
        assert_eq!(decide(&report_required_at, digest("a"), at(5), GONE, &fresh()), ReportDecision::Report(seen("a")));
        assert!(!report_required_at.after(digest("a"), at(5), ReportDecision::Report(seen("a")), GONE).report_again);
    }

    #[test]
    fn a_confirmation_is_dated_at_the_earliest_of_the_latest_polls() {
        let tag = |reported: u64, polled: u64| WatchedTagState {
            reported: Some(LastReport { seen: seen("a"), observed: at(reported) }),
            polled: Some(at(polled)),
            ..WatchedTagState::default()
        };
        let confirm = Duration::from_secs(DAY);
        let due = |tags: &[WatchedTagState], confirmed: Option<u64>| confirmable(tags, confirmed.map(at), confirm);
        assert_eq!(due(&[], None), None);
        assert_eq!(due(&[WatchedTagState::default()], None), None);
        assert_eq!(due(&[tag(0, DAY + 5), tag(7, DAY + 9), WatchedTagState::default()], None), Some(at(DAY + 5)));
        assert_eq!(due(&[tag(0, DAY - 1), tag(7, DAY + 9)], None), None, "one was not looked at since");
        assert_eq!(due(&[tag(0, DAY + 5)], Some(10)), None, "not due");
        assert_eq!(due(&[tag(0, DAY + 10)], Some(10)), Some(at(DAY + 10)));
        for in_doubt in [
            WatchedTagState { missing: 1, ..tag(0, DAY + 9) },
            WatchedTagState { report_again: true, ..tag(0, DAY + 9) },
        ] {
            assert_eq!(due(&[tag(0, DAY + 5), in_doubt], None), None);
        }
    }
}
