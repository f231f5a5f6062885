//! What a look leads to: the rules by which the witness reports, without clock, network or storage.
//!
//! A look found a digest or nothing. Out of that, and of what was reported before, follows whether something
//! is signed, whether to look again soon, or whether all is as it was. Times are whole seconds, as in entries.

use std::time::Duration;

use taglog_proto::{entry::Seen, name::Digest, time::Timestamp};

use super::config::Gone;

/// What a look at a tag found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The tag points to this.
    Digest(Digest),
    /// The registry has no such tag (404).
    Nothing,
}

/// What this witness last signed about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// What it saw.
    pub seen: Seen,
    /// When it looked.
    pub observed: Timestamp,
}

/// What is remembered of a tag from look to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagState {
    /// What was last reported; `None` before the first report.
    pub reported: Option<Reported>,
    /// The latest look that found what was last reported.
    pub looked: Option<Timestamp>,
    /// How many looks in a row found nothing where a digest was reported.
    pub missing: u32,
    /// The latest of these.
    pub missing_at: Option<Timestamp>,
    /// Whether the next look is to be reported even if nothing has changed, because a log does not know yet what
    /// was reported before.
    pub again: bool,
}

/// When what is unchanged is said again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// After how long.
    pub confirm: Duration,
    /// How much longer to wait for a confirmation of the whole repository before single observations are made.
    pub grace: Duration,
    /// Whether all tags that were ever reported of the repository are still watched: without that, it cannot be
    /// confirmed as a whole.
    pub whole: bool,
    /// The latest confirmation of the repository.
    pub confirmed: Option<Timestamp>,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Sign this, dated at the look.
    Report(Seen),
    /// All is as reported, or there is nothing to report.
    Nothing,
    /// Not to be judged yet: look again after this long.
    LookAgain(Duration),
    /// The look is dated before what was signed already: the clock went back by this long.
    ClockWentBack(Duration),
}

fn since(earlier: Timestamp, later: Timestamp) -> Option<Duration> {
    u64::try_from(later.unix() - earlier.unix()).ok().map(Duration::from_secs)
}

/// What a look at time `at` leads to.
pub fn decide(state: &TagState, found: Found, at: Timestamp, gone: Gone, freshness: &Freshness) -> Decision {
    let signed = [state.reported.map(|reported| reported.observed), freshness.confirmed].into_iter().flatten().max();
    if let Some(back) = signed.and_then(|signed| since(at, signed)).filter(|back| !back.is_zero()) {
        return Decision::ClockWentBack(back);
    }
    let Some(reported) = state.reported else {
        return match found {
            Found::Digest(digest) => Decision::Report(Seen::Digest(digest)),
            Found::Nothing => Decision::Nothing,
        };
    };
    let seen = match found {
        Found::Digest(digest) => Seen::Digest(digest),
        Found::Nothing if reported.seen == Seen::Gone => Seen::Gone,
        Found::Nothing => match confirm_missing(state, at, gone) {
            Some(wait) => return Decision::LookAgain(wait),
            None => Seen::Gone,
        },
    };
    if seen == reported.seen && !state.again && !is_stale(reported.observed, at, freshness) {
        return Decision::Nothing;
    }
    // Two texts about one tag in one second could be equal, and the log would take the second for a repetition
    // (SPEC.md section 6.2).
    if at == reported.observed { Decision::LookAgain(Duration::from_secs(1)) } else { Decision::Report(seen) }
}

/// How long to wait before the tag may be called gone; `None` if this look settles it.
fn confirm_missing(state: &TagState, at: Timestamp, gone: Gone) -> Option<Duration> {
    let waited = state.missing_at.and_then(|last| since(last, at));
    match waited {
        Some(waited) if waited < gone.interval => Some(gone.interval - waited),
        _ if state.missing + 1 < gone.looks => Some(gone.interval),
        _ => None,
    }
}

/// Whether a single observation must say again what is unchanged.
fn is_stale(observed: Timestamp, at: Timestamp, freshness: &Freshness) -> bool {
    let vouched = freshness.confirmed.map_or(observed, |confirmed| confirmed.max(observed));
    let limit = if freshness.whole { freshness.confirm + freshness.grace } else { freshness.confirm };
    since(vouched, at).is_some_and(|age| age >= limit)
}

impl TagState {
    /// The state after a look at `at` that was decided on, and, if it led to a report, after the report is durable.
    pub fn after(mut self, found: Found, at: Timestamp, decision: Decision, gone: Gone) -> TagState {
        match decision {
            Decision::Report(seen) => {
                TagState { reported: Some(Reported { seen, observed: at }), looked: Some(at), ..TagState::default() }
            }
            Decision::Nothing => {
                let looked = self.reported.map(|_| at).or(self.looked);
                TagState { looked, missing: 0, missing_at: None, ..self }
            }
            Decision::LookAgain(_) if found == Found::Nothing => {
                // A look too soon after the last one does not count.
                let counts =
                    self.missing_at.and_then(|last| since(last, at)).is_none_or(|waited| waited >= gone.interval);
                if counts {
                    self.missing += 1;
                    self.missing_at = Some(at);
                }
                self
            }
            Decision::LookAgain(_) | Decision::ClockWentBack(_) => self,
        }
    }
}

/// The time that a repository can be confirmed for, given all tags that were ever reported of it; `None` if it is
/// not due, or if one of them was not looked at since, or is in doubt.
///
/// It is the time of the oldest of the latest looks: the witness vouches for no moment at which it had not
/// looked at every tag since.
pub fn confirmable<'a>(
    tags: impl IntoIterator<Item = &'a TagState>,
    confirmed: Option<Timestamp>,
    confirm: Duration,
) -> Option<Timestamp> {
    let (mut oldest_look, mut first_report) = (None::<Timestamp>, None::<Timestamp>);
    for state in tags {
        let Some(reported) = state.reported else { continue };
        let looked = state.looked.filter(|_| state.missing == 0 && !state.again)?;
        oldest_look = Some(oldest_look.map_or(looked, |oldest| oldest.min(looked)));
        first_report = Some(first_report.map_or(reported.observed, |first| first.min(reported.observed)));
    }
    let base = confirmed.or(first_report)?;
    oldest_look.filter(|oldest| since(base, *oldest).is_some_and(|age| age >= confirm))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Gone = Gone { looks: 3, interval: Duration::from_secs(60) };
    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
    }

    fn fresh() -> Freshness {
        Freshness { confirm: Duration::from_secs(DAY), grace: Duration::from_secs(3600), whole: true, confirmed: None }
    }

    fn digest(content: &str) -> Found {
        Found::Digest(Digest::sha256(content.as_bytes()))
    }

    fn seen(content: &str) -> Seen {
        Seen::Digest(Digest::sha256(content.as_bytes()))
    }

    /// Looks in order at the seconds given; what was signed, with its second.
    fn story(looks: &[(u64, Found)]) -> Vec<(u64, Seen)> {
        let (mut state, mut signed) = (TagState::default(), Vec::new());
        for (second, found) in looks {
            let decision = decide(&state, *found, at(*second), GONE, &fresh());
            state = state.after(*found, at(*second), decision, GONE);
            if let Decision::Report(what) = decision {
                signed.push((*second, what));
            }
        }
        signed
    }

    #[test]
    fn first_digest_and_every_change_and_no_repetition() {
        let looks = [(0, digest("a")), (10, digest("a")), (20, digest("b")), (30, digest("a")), (40, digest("a"))];
        assert_eq!(story(&looks), [(0, seen("a")), (20, seen("b")), (30, seen("a"))]);
    }

    #[test]
    fn a_change_within_the_second_waits_for_the_next() {
        let looks = [(0, digest("a")), (0, digest("b")), (1, digest("b")), (1, digest("a")), (2, digest("a"))];
        assert_eq!(story(&looks), [(0, seen("a")), (1, seen("b")), (2, seen("a"))]);
    }

    #[test]
    fn gone_needs_several_looks_well_apart() {
        let none = Found::Nothing;
        assert_eq!(story(&[(0, none), (100, none), (200, none), (300, none)]), [], "never seen, never gone");
        let a = (0, digest("a"));
        assert_eq!(story(&[a, (100, none), (160, none)]), [(0, seen("a"))]);
        assert_eq!(story(&[a, (100, none), (160, none), (220, none)]), [(0, seen("a")), (220, Seen::Gone)]);
        // Looks that come too soon, as after a push, do not count.
        assert_eq!(story(&[a, (100, none), (101, none), (102, none), (160, none)]), [(0, seen("a"))]);
        // One look that finds it starts the count anew.
        assert_eq!(
            story(&[a, (100, none), (160, none), (170, digest("a")), (220, none), (280, none)]),
            [(0, seen("a"))]
        );
        let back = [a, (100, none), (160, none), (220, none), (300, none), (400, digest("a"))];
        assert_eq!(story(&back), [(0, seen("a")), (220, Seen::Gone), (400, seen("a"))]);
    }

    #[test]
    fn a_clock_that_goes_back_signs_nothing() {
        let state = TagState::default().after(digest("a"), at(100), Decision::Report(seen("a")), GONE);
        let decide_at = |second, confirmed: Option<u64>| {
            let freshness = Freshness { confirmed: confirmed.map(at), ..fresh() };
            decide(&state, digest("b"), at(second), GONE, &freshness)
        };
        assert_eq!(decide_at(99, None), Decision::ClockWentBack(Duration::from_secs(1)));
        assert_eq!(decide_at(101, Some(200)), Decision::ClockWentBack(Duration::from_secs(99)));
        assert_eq!(decide_at(200, Some(200)), Decision::Report(seen("b")));
    }

    #[test]
    fn what_is_unchanged_is_said_again_where_no_confirmation_comes() {
        let state = TagState::default().after(digest("a"), at(0), Decision::Report(seen("a")), GONE);
        let decide_at = |second, whole, confirmed: Option<u64>| {
            decide(&state, digest("a"), at(second), GONE, &Freshness { whole, confirmed: confirmed.map(at), ..fresh() })
        };
        assert_eq!(decide_at(DAY + 3599, true, None), Decision::Nothing);
        assert_eq!(decide_at(DAY + 3600, true, None), Decision::Report(seen("a")));
        assert_eq!(decide_at(DAY - 1, false, None), Decision::Nothing);
        assert_eq!(decide_at(DAY, false, None), Decision::Report(seen("a")));
        assert_eq!(decide_at(DAY + 3600, true, Some(3600)), Decision::Nothing);
    }

    #[test]
    fn what_a_new_log_does_not_know_is_reported_again() {
        let state = TagState::default().after(digest("a"), at(0), Decision::Report(seen("a")), GONE);
        let owed = TagState { again: true, ..state };
        assert_eq!(decide(&owed, digest("a"), at(5), GONE, &fresh()), Decision::Report(seen("a")));
        assert!(!owed.after(digest("a"), at(5), Decision::Report(seen("a")), GONE).again);
    }

    #[test]
    fn a_confirmation_is_dated_when_every_tag_had_been_looked_at() {
        let tag = |reported: u64, looked: u64| TagState {
            reported: Some(Reported { seen: seen("a"), observed: at(reported) }),
            looked: Some(at(looked)),
            ..TagState::default()
        };
        let confirm = Duration::from_secs(DAY);
        let due = |tags: &[TagState], confirmed: Option<u64>| confirmable(tags, confirmed.map(at), confirm);
        assert_eq!(due(&[], None), None);
        assert_eq!(due(&[TagState::default()], None), None);
        assert_eq!(due(&[tag(0, DAY + 5), tag(7, DAY + 9), TagState::default()], None), Some(at(DAY + 5)));
        assert_eq!(due(&[tag(0, DAY - 1), tag(7, DAY + 9)], None), None, "one was not looked at since");
        assert_eq!(due(&[tag(0, DAY + 5)], Some(10)), None, "not due");
        assert_eq!(due(&[tag(0, DAY + 10)], Some(10)), Some(at(DAY + 10)));
        for in_doubt in [TagState { missing: 1, ..tag(0, DAY + 9) }, TagState { again: true, ..tag(0, DAY + 9) }] {
            assert_eq!(due(&[tag(0, DAY + 5), in_doubt], None), None);
        }
    }
}
