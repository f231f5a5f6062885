//! Every verdict that `evaluate` gives.

use taglog_proto::{record::Confirmed, tag_proof::ImageReport, tag_proof::WitnessReport};

use super::make::*;
use crate::{Demands, EvaluationInput, Expectation, TrustedWitness, Verdict, evaluate, evaluate_history};

#[test]
fn fixed_tags() {
    for expectation in [Expectation::Unstated, Expectation::Immutable, Expectation::Rebuilds] {
        let p = expecting(expectation);
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("A"), &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A"])], None, &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("B"), &p), Verdict::Mismatch);
        assert_eq!(verdict(vec![witness("x", &["A", "B"])], Some("B"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "B"])], Some("A"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "B"])], Some("C"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "B"])], None, &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "B", "A"])], Some("A"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A"]), witness("y", &["B"])], Some("A"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "gone", "A"])], Some("A"), &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A", "gone"])], Some("A"), &p), Verdict::Stale);
        assert_eq!(verdict(vec![witness("x", &["gone"])], Some("A"), &p), Verdict::Mismatch);
        assert_eq!(verdict(vec![witness("x", &["gone"])], None, &p), Verdict::Unknown);
        assert_eq!(verdict(vec![], Some("A"), &p), Verdict::Unknown);
    }
    let uncovered = ImageReport { repository_covered: false, ..report(vec![]) };
    let demands = Demands::default();
    let input = EvaluationInput { report: &uncovered, served: None, demands: &demands, approved: &[], now: time(NOW) };
    assert_eq!(evaluate(&input).verdict, Verdict::Uncovered);
}

#[test]
fn moving_tags() {
    let p = expecting(Expectation::Moving);
    let history = || vec![witness("x", &["A", "B"])];
    assert_eq!(verdict(history(), Some("B"), &p), Verdict::Moving);
    assert_eq!(verdict(history(), None, &p), Verdict::Moving);
    assert_eq!(verdict(history(), Some("A"), &p), Verdict::Behind);
    assert_eq!(verdict(history(), Some("C"), &p), Verdict::Mismatch);
    assert_eq!(verdict(vec![witness("x", &["A", "gone"])], Some("A"), &p), Verdict::Stale);
    assert_eq!(verdict(vec![witness("x", &["A", "gone"])], Some("B"), &p), Verdict::Mismatch);
}

#[test]
fn the_newest_digest_of_a_moving_tag_is_the_last_sighting_of_enough_witnesses() {
    let two = Demands { agree: 2, ..expecting(Expectation::Moving) };
    let behind = || vec![witness("x", &["A", "B"]), witness("y", &["A"])];
    assert_eq!(verdict(behind(), Some("B"), &two), Verdict::New);
    assert_eq!(verdict(behind(), None, &two), Verdict::New);
    assert_eq!(verdict(vec![witness("x", &["A", "B"]), witness("y", &["B"])], Some("B"), &two), Verdict::Moving);
    // Two still see A. One witness of B neither makes A an older digest nor vouches for B.
    let early = || vec![witness("x", &["A", "B"]), witness("y", &["A"]), witness("z", &["A"])];
    assert_eq!(verdict(early(), Some("A"), &two), Verdict::Moving);
    let evaluation = evaluated(early(), Some("B"), &two);
    assert_eq!(evaluation.verdict, Verdict::New);
    assert!(evaluation.reason.starts_with("only 1 of the 2 required witnesses"), "{}", evaluation.reason);
}

#[test]
fn only_trusted_witnesses_count() {
    let only_y = trusting(&["y"]);
    let both = || vec![witness("x", &["A", "B"]), witness("y", &["B"])];
    let evaluation = evaluated(both(), Some("B"), &only_y);
    assert_eq!(evaluation.verdict, Verdict::Ok);
    assert!(
        evaluation.notes[0].contains("1 witness that policy does not trust has sighted other digests"),
        "{evaluation:?}"
    );
    assert_eq!(verdict(vec![witness("x", &["A"])], Some("A"), &only_y), Verdict::Unknown);
    let two = agreeing(2);
    let evaluation = evaluated(vec![witness("x", &["A"])], Some("A"), &two);
    assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::New, false));
    assert_eq!(verdict(vec![witness("x", &["A"]), witness("y", &["A"])], Some("A"), &two), Verdict::Ok);
    let mut cut = witness("x", &["A"]);
    cut.complete = false;
    assert_eq!(verdict(vec![cut.clone()], Some("A"), &Demands::default()), Verdict::Incomplete);
    assert_eq!(verdict(vec![cut, witness("y", &["A"])], Some("A"), &only_y), Verdict::Ok, "x is not asked");
}

#[test]
fn witnesses_outside_the_roster_are_history_and_vouch_for_nothing() {
    let left = |saw: &[&str]| WitnessReport { in_roster: false, ..witness("y", saw) };
    let plain = Demands::default();
    assert_eq!(verdict(vec![left(&["A"])], Some("A"), &plain), Verdict::Stale);
    assert_eq!(verdict(vec![witness("x", &["A"]), left(&["A"])], Some("A"), &agreeing(2)), Verdict::New);
    assert_eq!(verdict(vec![witness("x", &["B"]), left(&["A"])], Some("B"), &plain), Verdict::Retagged);
    let gone = vec![witness("x", &["A", "gone"]), left(&["A"])];
    assert_eq!(verdict(gone, Some("A"), &plain), Verdict::Stale);
    // A log that invents witnesses cannot invent an agreement of others.
    let invented = |name: &str| WitnessReport { in_roster: false, ..witness(name, &["B"]) };
    let against = vec![witness("x", &["A"]), invented("y"), invented("z")];
    assert_eq!(verdict(against, Some("B"), &plain), Verdict::Retagged);
}

#[test]
fn entries_of_a_compromised_key_do_not_count_from_an_index_on() {
    let until = |index| Demands {
        trusted: vec![TrustedWitness::new(id("x"), Some(index)), TrustedWitness::new(id("y"), None)],
        ..Demands::default()
    };
    let forged = || vec![at("x", &[(10, 1, "A"), (20, DAY, "evil")], Some(NOW)), at("y", &[(12, 2, "A")], Some(NOW))];
    assert_eq!(verdict(forged(), Some("A"), &until(21)), Verdict::Retagged);
    assert_eq!(verdict(forged(), Some("A"), &until(20)), Verdict::Ok);
    assert_eq!(verdict(forged(), Some("evil"), &until(20)), Verdict::Mismatch);
    assert_eq!(verdict(forged(), Some("A"), &Demands { agree: 2, ..until(20) }), Verdict::Ok);
    assert_eq!(verdict(forged(), Some("A"), &Demands { agree: 2, ..until(10) }), Verdict::New, "x has said nothing");
    // Nor does a later confirmation make the earlier sighting fresh.
    let only_x = |index| Demands { trusted: vec![TrustedWitness::new(id("x"), Some(index))], ..until(index) };
    let kept_up = || vec![at("x", &[(10, 1, "A")], Some(20 * DAY))];
    let fresh = |index| evaluated_at(kept_up(), Some("A"), &only_x(index), 20 * DAY).verdict;
    assert_eq!(fresh(1_000_001), Verdict::Ok);
    assert_eq!(fresh(1_000_000), Verdict::Stale, "its confirmation has index 1,000,000");
}

#[test]
fn freshness_is_the_later_of_observation_and_confirmation() {
    let demands = Demands { freshness: days(1), min_age: Some(days(0)), ..Demands::default() };
    let at = |confirmed: Option<i64>, now| {
        let mut old = witness("x", &["A"]);
        old.confirmed = confirmed.map(|seconds| Confirmed { index: 9, observed: time(seconds) });
        evaluated_at(vec![old], Some("A"), &demands, now).verdict
    };
    assert_eq!(at(None, 1 + DAY), Verdict::Ok);
    assert_eq!(at(None, 2 + DAY), Verdict::Stale);
    assert_eq!(at(Some(DAY), 2 + DAY), Verdict::Ok);
}

#[test]
fn a_digest_without_history_is_new() {
    let plain = Demands::default();
    let at_age = |age, demands: &Demands| evaluated_at(vec![witness("x", &["A"])], Some("A"), demands, 1 + age);
    let young = at_age(12 * 60, &plain);
    assert_eq!((young.verdict, young.passes, young.warning), (Verdict::New, true, true));
    assert!(young.reason.contains("first seen 12 min ago"), "{}", young.reason);
    assert_eq!(at_age(DAY - 1, &plain).verdict, Verdict::New);
    let old = at_age(DAY, &plain);
    assert_eq!((old.verdict, old.warning), (Verdict::Ok, false));

    let three_days = Demands { min_age: Some(days(3)), ..Demands::default() };
    let young = at_age(2 * DAY, &three_days);
    assert_eq!((young.verdict, young.passes, young.warning), (Verdict::New, false, false));
    assert!(young.reason.contains("policy asks for 3 days"), "{}", young.reason);
    assert_eq!(at_age(3 * DAY, &three_days).verdict, Verdict::Ok);
    assert_eq!(at_age(0, &Demands { min_age: Some(days(0)), ..Demands::default() }).verdict, Verdict::Ok);

    // A moving tag needs no age, unless policy sets one.
    let moving = expecting(Expectation::Moving);
    assert_eq!(at_age(0, &moving).verdict, Verdict::Moving);
    assert_eq!(at_age(2 * DAY, &Demands { min_age: Some(days(3)), ..moving }).verdict, Verdict::New);
}

/// One witness alone cannot make a digest older than it is for the others.
#[test]
fn the_age_of_a_digest_counts_from_when_enough_witnesses_knew_it() {
    let early_and_late = || vec![witness("x", &["A"]), at("y", &[(7, 4 * DAY, "A")], None)];
    let aged = |agree| Demands { agree, min_age: Some(days(3)), ..Demands::default() };
    assert_eq!(verdict(early_and_late(), Some("A"), &aged(1)), Verdict::Ok);
    let evaluation = evaluated(early_and_late(), Some("A"), &aged(2));
    assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::New, false));
    assert!(evaluation.reason.contains("first seen 24 h ago"), "{}", evaluation.reason);
}

#[test]
fn one_contradicting_witness_gives_disputed_not_retagged() {
    let plain = Demands::default();
    let alone = |saw: &[&str]| vec![witness("x", saw), witness("y", &["A"]), witness("z", &["A"])];
    for saw in [&["B"][..], &["A", "B"], &["A", "B", "A"], &["B", "gone"]] {
        assert_eq!(verdict(alone(saw), Some("A"), &plain), Verdict::Disputed, "{saw:?}");
        assert_eq!(verdict(alone(saw), None, &plain), Verdict::Disputed, "{saw:?}");
        // The registry serves the digest that the one witness saw, so it does not stand alone.
        assert_eq!(verdict(alone(saw), Some("B"), &plain), Verdict::Retagged, "{saw:?}");
        assert_eq!(verdict(alone(saw), Some("C"), &plain), Verdict::Mismatch, "{saw:?}");
    }
    // One against one is no majority, and two dissenters are not alone.
    let one_each = vec![witness("x", &["B"]), witness("y", &["A"])];
    assert_eq!(verdict(one_each, Some("A"), &plain), Verdict::Retagged);
    let two_each = vec![witness("u", &["B"]), witness("x", &["B"]), witness("y", &["A"]), witness("z", &["A"])];
    assert_eq!(verdict(two_each, Some("A"), &plain), Verdict::Retagged);
    let all_moved = vec![witness("x", &["B"]), witness("y", &["A", "B"]), witness("z", &["A", "B"])];
    assert_eq!(verdict(all_moved, Some("B"), &plain), Verdict::Retagged);
    // A witness that only ever found the tag missing takes no side.
    let gone = vec![witness("x", &["B"]), witness("y", &["A"]), witness("z", &["gone"])];
    assert_eq!(verdict(gone, Some("A"), &plain), Verdict::Retagged);
    // An untrusted witness takes no side either.
    let evaluation = evaluated(alone(&["B"]), Some("A"), &trusting(&["y", "z"]));
    assert_eq!(evaluation.verdict, Verdict::Ok);
}

#[test]
fn one_witness_alone_does_not_put_a_moving_tag_behind() {
    let moving = expecting(Expectation::Moving);
    let others = |confirmed| [at("y", &[(1, 1, "A")], confirmed), at("z", &[(2, 2, "A")], confirmed)];
    let with_x = |confirmed| [vec![at("x", &[(9, HOUR, "B")], None)], others(confirmed).to_vec()].concat();
    assert_eq!(verdict(with_x(Some(2 * HOUR)), Some("A"), &moving), Verdict::Disputed);
    assert_eq!(verdict(with_x(None), Some("A"), &moving), Verdict::Behind, "the others have not looked since");
    assert_eq!(verdict(with_x(Some(2 * HOUR)), Some("B"), &moving), Verdict::Moving);
}

#[test]
fn an_approved_digest_passes_and_no_other() {
    let approved = [digest("B")];
    let evaluate = |witnesses: Vec<WitnessReport>, served: Option<&str>, demands: &Demands, now| {
        let input = EvaluationInput {
            report: &report(witnesses),
            served: served.map(digest),
            demands,
            approved: &approved,
            now: time(now),
        };
        evaluate(&input)
    };
    let plain = Demands::default();
    let history = || vec![witness("x", &["A", "B", "C"])];
    let evaluation = evaluate(history(), Some("B"), &plain, NOW);
    assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::Approved, true));
    assert_eq!(evaluation.digest, Some(digest("B")));
    assert!(evaluation.notes[0].starts_with("without the approval: retagged"), "{:?}", evaluation.notes);
    for other in [Some("A"), Some("C"), Some("D"), None] {
        assert_eq!(evaluate(history(), other, &plain, NOW).verdict, Verdict::Retagged, "{other:?}");
    }
    let moving = expecting(Expectation::Moving);
    assert_eq!(evaluate(history(), Some("B"), &moving, NOW).verdict, Verdict::Approved, "held back on purpose");
    assert_eq!(evaluate(vec![witness("x", &["A"])], Some("B"), &plain, NOW).verdict, Verdict::Approved, "unseen");
    let dispute = vec![witness("x", &["A"]), witness("y", &["B"]), witness("z", &["B"])];
    assert_eq!(evaluate(dispute, Some("B"), &plain, NOW).verdict, Verdict::Approved);
    let hasty = Demands { min_age: Some(days(3)), ..Demands::default() };
    assert_eq!(evaluate(vec![witness("x", &["B"])], Some("B"), &hasty, DAY).verdict, Verdict::Approved);
    // An approval changes no verdict that passes, and none about what is missing or too old.
    assert_eq!(evaluate(vec![witness("x", &["B"])], Some("B"), &plain, NOW).verdict, Verdict::Ok);
    assert_eq!(evaluate(vec![witness("x", &["B"])], Some("B"), &plain, 9 * DAY).verdict, Verdict::Stale);
    assert_eq!(evaluate(vec![], Some("B"), &plain, NOW).verdict, Verdict::Unknown);
    let mut cut = witness("x", &["A"]);
    cut.complete = false;
    assert_eq!(evaluate(vec![cut], Some("B"), &plain, NOW).verdict, Verdict::Incomplete);
}

/// No registry is asked: the digest that the witnesses sighted last is only looked up in the lock.
#[test]
fn histories_are_evaluated_without_a_registry() {
    let evaluated = |witnesses: Vec<WitnessReport>, demands: &Demands, approved: &[&str], served: Option<&str>| {
        let approved: Vec<_> = approved.iter().copied().map(digest).collect();
        let (report, served) = (report(witnesses), served.map(digest));
        evaluate_history(&EvaluationInput { report: &report, served, demands, approved: &approved, now: time(NOW) })
            .verdict
    };
    let (plain, moving) = (Demands::default(), expecting(Expectation::Moving));
    let moved = || vec![witness("x", &["A", "B"]), witness("y", &["A", "B"])];
    let alone = || vec![witness("x", &["A", "B"]), witness("y", &["A"]), witness("z", &["A"])];
    // `served` is ignored.
    for served in [None, Some("A"), Some("B"), Some("C")] {
        assert_eq!(evaluated(moved(), &plain, &[], served), Verdict::Retagged);
        assert_eq!(evaluated(moved(), &plain, &["B"], served), Verdict::Approved);
        assert_eq!(evaluated(moved(), &plain, &["A", "C"], served), Verdict::Retagged);
        assert_eq!(evaluated(moved(), &moving, &[], served), Verdict::Moving);
        assert_eq!(evaluated(alone(), &plain, &["A"], served), Verdict::Disputed);
        assert_eq!(evaluated(alone(), &plain, &["B"], served), Verdict::Approved);
    }
    // Two witnesses that differ have no common latest digest that an approval could apply to.
    let differ = || vec![witness("x", &["A", "B"]), witness("y", &["B", "A"])];
    assert_eq!(evaluated(differ(), &agreeing(2), &["A", "B"], None), Verdict::Retagged);
    assert_eq!(evaluated(moved(), &agreeing(2), &["B"], None), Verdict::Approved);
    assert_eq!(evaluated(moved(), &trusting(&["z"]), &["B"], None), Verdict::Unknown);
}
