//! Which digest is old enough.

use taglog_proto::{name::Digest, tag_proof::WitnessReport};

use super::make::*;
use crate::{Case, Demands, Expectation, settled};

fn settles(witnesses: Vec<WitnessReport>, demands: &Demands, approved: &[Digest], age: u64) -> Result<Digest, String> {
    settles_in(vec![witnesses], demands, approved, age)
}

/// In several logs at once.
fn settles_in(
    logs: Vec<Vec<WitnessReport>>,
    demands: &Demands,
    approved: &[Digest],
    age: u64,
) -> Result<Digest, String> {
    let reports: Vec<_> = logs.into_iter().map(report).collect();
    let case = |report| Case { report, served: None, demands, approved, now: time(NOW) };
    settled(&reports.iter().map(case).collect::<Vec<_>>(), days(age))
}

/// A was first seen at 0, B after two days, C after four; it is the fifth now.
fn moved() -> WitnessReport {
    at("x", &[(1, 0, "A"), (2, 2 * DAY, "B"), (3, 4 * DAY, "C")], None)
}

#[test]
fn of_a_tag_that_moves_the_last_that_is_old_enough() {
    for expectation in [Expectation::Moving, Expectation::Rebuilds] {
        let demands = expecting(expectation);
        for (age, want) in [(0, "C"), (1, "C"), (2, "B"), (3, "B"), (4, "A"), (5, "A")] {
            assert_eq!(settles(vec![moved()], &demands, &[], age), Ok(digest(want)), "{age}");
        }
        assert!(settles(vec![moved()], &demands, &[], 6).unwrap_err().contains("6 days ago"));
    }
    // What was rolled back is not the newest, however old.
    let rolled_back = at("x", &[(1, 0, "A"), (2, DAY, "B"), (3, 4 * DAY, "A")], None);
    assert_eq!(settles(vec![rolled_back], &expecting(Expectation::Moving), &[], 3), Ok(digest("A")));
}

#[test]
fn enough_witnesses_must_have_known_it_for_that_long() {
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
fn of_a_tag_that_does_not_move_the_only_one_or_one_approved() {
    let plain = Demands::default();
    assert_eq!(settles(vec![witness("x", &["A"])], &plain, &[], 4), Ok(digest("A")));
    assert!(settles(vec![moved()], &plain, &[], 1).unwrap_err().contains("3 different digests"));
    assert_eq!(settles(vec![moved()], &plain, &[digest("B")], 1), Ok(digest("B")));
    assert!(settles(vec![moved()], &plain, &[digest("C")], 2).is_err());
}

#[test]
fn what_nobody_has_looked_at_for_long_settles_nothing() {
    let demands = Demands { freshness: days(1), ..Demands::default() };
    assert!(settles(vec![witness("x", &["A"])], &demands, &[], 1).unwrap_err().contains("too long ago"));
    assert!(settles(vec![], &demands, &[], 1).is_err());
}

#[test]
fn what_has_settled_has_settled_in_every_log_that_has_anything() {
    let moving = expecting(Expectation::Moving);
    let behind = || vec![at("x", &[(1, 0, "A"), (2, 2 * DAY, "B")], None)];
    let settle = |logs, age| settles_in(logs, &moving, &[], age);
    assert_eq!(settle(vec![vec![moved()], behind()], 0), Ok(digest("B")), "C is not in both");
    assert_eq!(settle(vec![behind(), vec![moved()]], 0), Ok(digest("B")));
    assert_eq!(settle(vec![vec![moved()], behind()], 4), Ok(digest("A")));
    assert_eq!(settle(vec![vec![moved()], vec![]], 0), Ok(digest("C")), "one that knows nothing is not asked");
    let other = vec![at("x", &[(1, 0, "D")], None)];
    assert_eq!(settle(vec![vec![moved()], other], 0).unwrap_err(), "no digest has settled in every log");
    // Two logs that know one digest each settle on none.
    let plain = Demands::default();
    let [a, b] = ["A", "B"].map(|only| vec![witness("x", &[only])]);
    assert!(settles_in(vec![a.clone(), b], &plain, &[], 0).is_err());
    assert_eq!(settles_in(vec![a.clone(), a], &plain, &[], 0), Ok(digest("A")));
}
