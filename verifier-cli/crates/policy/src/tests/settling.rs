//! The newest digest that is old enough.

use taglog_proto::{name::Digest, tag_proof::WitnessReport};

use super::make::*;
use crate::{Demands, EvaluationInput, Expectation, newest_settled};

fn settles(witnesses: Vec<WitnessReport>, demands: &Demands, approved: &[Digest], age: u64) -> Result<Digest, String> {
    settles_in(vec![witnesses], demands, approved, age)
}

/// With one list of witnesses for each log.
fn settles_in(
    logs: Vec<Vec<WitnessReport>>,
    demands: &Demands,
    approved: &[Digest],
    age: u64,
) -> Result<Digest, String> {
    let reports: Vec<_> = logs.into_iter().map(report).collect();
    let input = |report| EvaluationInput { report, served: None, demands, approved, now: time(NOW) };
    newest_settled(&reports.iter().map(input).collect::<Vec<_>>(), days(age))
}

/// A was first seen on day 0, B on day 2, C on day 4; now is day 5.
fn moved() -> WitnessReport {
    at("x", &[(1, 0, "A"), (2, 2 * DAY, "B"), (3, 4 * DAY, "C")], None)
}

#[test]
fn of_a_moving_tag_the_newest_old_enough_digest_settles() {
    for expectation in [Expectation::Moving, Expectation::Rebuilds] {
        let demands = expecting(expectation);
        for (age, want) in [(0, "C"), (1, "C"), (2, "B"), (3, "B"), (4, "A"), (5, "A")] {
            assert_eq!(settles(vec![moved()], &demands, &[], age), Ok(digest(want)), "{age}");
        }
        assert!(settles(vec![moved()], &demands, &[], 6).unwrap_err().contains("6 days ago"));
    }
    // A digest that was rolled back is not the newest.
    let rolled_back = at("x", &[(1, 0, "A"), (2, DAY, "B"), (3, 4 * DAY, "A")], None);
    assert_eq!(settles(vec![rolled_back], &expecting(Expectation::Moving), &[], 3), Ok(digest("A")));
}

#[test]
fn enough_witnesses_must_have_known_the_digest_for_min_age() {
    let late = at("y", &[(5, 3 * DAY, "B"), (6, 4 * DAY, "C")], None);
    let two = Demands { agree: 2, ..expecting(Expectation::Moving) };
    let both = || vec![moved(), late.clone()];
    assert_eq!(settles(both(), &two, &[], 1), Ok(digest("C")));
    assert_eq!(settles(both(), &two, &[], 2), Ok(digest("B")));
    assert!(settles(both(), &two, &[], 3).is_err());
    let mut left = moved();
    left.in_roster = false;
    assert!(settles(vec![left], &expecting(Expectation::Moving), &[], 0).is_err());
}

#[test]
fn of_a_fixed_tag_the_only_or_an_approved_digest_settles() {
    let plain = Demands::default();
    assert_eq!(settles(vec![witness("x", &["A"])], &plain, &[], 4), Ok(digest("A")));
    assert!(settles(vec![moved()], &plain, &[], 1).unwrap_err().contains("3 different digests"));
    assert_eq!(settles(vec![moved()], &plain, &[digest("B")], 1), Ok(digest("B")));
    assert!(settles(vec![moved()], &plain, &[digest("C")], 2).is_err());
}

#[test]
fn nothing_settles_when_the_witnesses_are_not_fresh() {
    let demands = Demands { freshness: days(1), ..Demands::default() };
    assert!(settles(vec![witness("x", &["A"])], &demands, &[], 1).unwrap_err().contains("too long ago"));
    assert!(settles(vec![], &demands, &[], 1).is_err());
}

#[test]
fn a_settled_digest_has_settled_in_every_log_that_has_the_tag() {
    let moving = expecting(Expectation::Moving);
    let behind = || vec![at("x", &[(1, 0, "A"), (2, 2 * DAY, "B")], None)];
    let settle = |logs, age| settles_in(logs, &moving, &[], age);
    assert_eq!(settle(vec![vec![moved()], behind()], 0), Ok(digest("B")), "C is not in both");
    assert_eq!(settle(vec![behind(), vec![moved()]], 0), Ok(digest("B")));
    assert_eq!(settle(vec![vec![moved()], behind()], 4), Ok(digest("A")));
    assert_eq!(settle(vec![vec![moved()], vec![]], 0), Ok(digest("C")), "one that knows nothing is not asked");
    let other = vec![at("x", &[(1, 0, "D")], None)];
    assert_eq!(settle(vec![vec![moved()], other], 0).unwrap_err(), "no digest has been known long enough in every log");
    // Two logs with one different digest each settle on none.
    let plain = Demands::default();
    let [a, b] = ["A", "B"].map(|only| vec![witness("x", &[only])]);
    assert!(settles_in(vec![a.clone(), b], &plain, &[], 0).is_err());
    assert_eq!(settles_in(vec![a.clone(), a], &plain, &[], 0), Ok(digest("A")));
}
