//! Evaluation is total: any history gets a verdict, and no digest passes that no trusted witness has seen.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*, sample::select};
use taglog_proto::tag_proof::WitnessReport;

use super::make::*;
use crate::{
    Demands, EvaluationInput, Expectation, MoveComparison, TrustedWitness, Verdict, apply_comparisons, evaluate,
    newest_settled,
};

const DIGESTS: [&str; 4] = ["A", "B", "C", "gone"];
const WITNESSES: [&str; 4] = ["w", "x", "y", "z"];

/// A history as a verified proof can hold it: changes only, indices and times growing.
fn history() -> impl Strategy<Value = Vec<(u64, i64, &'static str)>> {
    vec((1..9u64, 0..3 * DAY, select(&DIGESTS[..])), 1..6).prop_map(|steps| {
        let (mut index, mut observed) = (0, 0);
        let mut history: Vec<(u64, i64, &'static str)> = Vec::new();
        for (more, later, name) in steps {
            (index, observed) = (index + more, observed + later);
            if history.last().is_none_or(|(_, _, last)| *last != name) {
                history.push((index, observed, name));
            }
        }
        history
    })
}

fn witnesses() -> impl Strategy<Value = Vec<WitnessReport>> {
    vec((history(), option::of(0..20 * DAY), any::<bool>(), prop::bool::weighted(0.95)), 0..4).prop_map(|reports| {
        let made = reports.into_iter().zip(WITNESSES).map(|((saw, confirmed, in_roster, complete), name)| {
            WitnessReport { in_roster, complete, ..at(name, &saw, confirmed) }
        });
        made.collect()
    })
}

fn demands() -> impl Strategy<Value = Demands> {
    let expectation =
        select(vec![Expectation::Immutable, Expectation::Rebuilds, Expectation::Moving, Expectation::Unstated]);
    let seconds = || (0..30 * DAY as u64).prop_map(Duration::from_secs);
    let trusted = vec((select(&WITNESSES[..]), option::of(0..30u64)), 0..3);
    (expectation, 1..4usize, option::of(seconds()), seconds(), trusted).prop_map(
        |(expectation, agree, min_age, freshness, trusted)| {
            let trusted = trusted.into_iter().map(|(name, until)| TrustedWitness::new(id(name), until)).collect();
            Demands { expectation, agree, min_age, freshness, trusted, ..Demands::default() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn every_history_gets_a_consistent_verdict(
        witnesses in witnesses(),
        demands in demands(),
        served in option::of(select(&["A", "B", "C", "D"][..])),
        approve in any::<bool>(),
        now in 0..40 * DAY,
        comparisons in vec(any::<bool>(), 0..8),
    ) {
        let report = report(witnesses);
        let served = served.map(digest);
        let approved = if approve { vec![digest("B")] } else { vec![] };
        let input = EvaluationInput { report: &report, served, demands: &demands, approved: &approved, now: time(now) };
        let counts = |witness: &&WitnessReport| demands.trusts(&witness.line.witness).is_some();
        let seen = |wanted| report.witnesses.iter().filter(counts).any(|witness| {
            witness.sightings.iter().any(|sighted| sighted.sighting.seen == taglog_proto::entry::Seen::Digest(wanted))
        });
        let evaluation = evaluate(&input);
        let unchanged = || MoveComparison::PlatformUnchanged { platform: "linux/amd64".to_owned() };
        let comparisons: Vec<MoveComparison> = comparisons
            .into_iter()
            .map(|good| if good { unchanged() } else { MoveComparison::Unexplained { reason: "it differs".to_owned().into() } })
            .collect();
        for evaluation in [evaluation.clone(), apply_comparisons(evaluation, &demands, &comparisons)] {
            prop_assert_eq!(evaluation.passes, evaluation.digest.is_some());
            prop_assert!(!evaluation.warning || evaluation.passes);
            prop_assert!(!evaluation.reason.is_empty());
            if let Some(passes) = evaluation.digest {
                prop_assert!(served.is_none_or(|served| served == passes), "what passes is what was asked about");
                prop_assert!(seen(passes) || evaluation.verdict == Verdict::Approved && approved.contains(&passes));
            }
            if evaluation.verdict == Verdict::Retagged {
                prop_assert!(!evaluation.moves.is_empty() && evaluation.if_explained.is_some());
                prop_assert!(evaluation.moves.iter().all(|change| change.from != change.to));
                prop_assert!(evaluation.moves.is_sorted_by_key(|change| change.at));
            }
        }
        if let Ok(settled) = newest_settled(&[input], Duration::ZERO) {
            prop_assert!(seen(settled));
        }
    }
}
