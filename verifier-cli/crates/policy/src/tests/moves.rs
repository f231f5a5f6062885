//! The moves of a tag, and evaluations with explained moves.

use taglog_proto::tag_proof::WitnessReport;

use super::make::*;
use crate::{Demands, Evaluation, Expectation, MoveComparison, UnexplainedReason, Verdict, apply_comparisons};

fn rebuild() -> MoveComparison {
    MoveComparison::Rebuild { base: "docker.io/library/debian:12".to_owned(), facts: vec!["base layer".to_owned()] }
}

fn unchanged() -> MoveComparison {
    MoveComparison::PlatformUnchanged { platform: "linux/amd64".to_owned() }
}

fn unexplained() -> MoveComparison {
    MoveComparison::Unexplained { reason: "another entrypoint".to_owned().into() }
}

fn moves(witnesses: Vec<WitnessReport>) -> Vec<(&'static str, &'static str, i64, bool)> {
    let name = |wanted| ["A", "B", "C"].into_iter().find(|name| digest(name) == wanted).unwrap();
    let evaluation = evaluated(witnesses, None, &Demands::default());
    evaluation.moves.iter().map(|m| (name(m.from), name(m.to), m.at.unix(), m.within_release)).collect()
}

#[test]
fn each_move_of_each_witness_is_listed_once() {
    let (hour, late) = (HOUR, 3 * DAY);
    assert_eq!(moves(vec![at("x", &[(1, 0, "A"), (2, hour, "B")], None)]), [("A", "B", hour, true)]);
    // A witness that sees a change later adds no move.
    let slow = vec![
        at("x", &[(1, 0, "A"), (4, hour, "B"), (6, late, "C")], None),
        at("y", &[(2, 1, "A"), (7, late + 1, "B"), (8, late + 2, "C")], None),
    ];
    assert_eq!(moves(slow), [("A", "B", hour, true), ("B", "C", late, false)]);
    // A rollback is a move, at its own time, and so is the same move again.
    let rolled = vec![at("x", &[(1, 0, "A"), (2, 1, "B"), (3, late, "A"), (4, late + 1, "B")], None)];
    assert_eq!(moves(rolled), [("A", "B", 1, true), ("B", "A", late, false), ("A", "B", late + 1, false)]);
    // A tag that disappeared has not moved.
    let gone = vec![at("x", &[(1, 0, "A"), (2, 1, "gone"), (3, 2, "A"), (4, 3, "gone"), (5, 4, "B")], None)];
    assert_eq!(moves(gone), [("A", "B", 4, true)]);
    // A digest without an observed move follows the one that was sighted before it.
    assert_eq!(moves(vec![at("x", &[(1, 0, "A")], None), at("y", &[(2, late, "B")], None)]), [("A", "B", late, false)]);
    assert_eq!(
        moves(vec![at("x", &[(1, 0, "A"), (2, 48 * HOUR, "B"), (3, 48 * HOUR + 1, "C")], None)]),
        [("A", "B", 48 * HOUR, true), ("B", "C", 48 * HOUR + 1, false)]
    );
}

fn moved_twice() -> Vec<WitnessReport> {
    vec![witness("x", &["A", "B", "C"])]
}

fn explain(served: Option<&str>, demands: &Demands, comparisons: &[MoveComparison]) -> Evaluation {
    let evaluation = apply_comparisons(evaluated(moved_twice(), served, demands), demands, comparisons);
    assert_eq!(evaluation.passes, evaluation.digest.is_some(), "{evaluation:?}");
    evaluation
}

#[test]
fn a_tag_whose_moves_are_all_explained_is_rebuilt() {
    for expectation in [Expectation::Unstated, Expectation::Rebuilds] {
        let demands = expecting(expectation);
        let evaluation = explain(Some("C"), &demands, &[rebuild(), unchanged()]);
        assert_eq!((evaluation.verdict, evaluation.passes, evaluation.warning), (Verdict::Rebuilt, true, true));
        assert_eq!((evaluation.digest, evaluation.moves.len()), (Some(digest("C")), 2));
        for said in [&evaluation.reason, &evaluation.notes.join("\n")] {
            assert!(said.contains("rebuild on another revision of docker.io/library/debian:12"), "{said}");
            assert!(!said.contains("safe"), "{said}");
        }
        for comparisons in [
            &[][..],
            &[rebuild()],
            &[rebuild(), unexplained()],
            &[unexplained(), rebuild()],
            &[rebuild(), rebuild(), rebuild()],
        ] {
            let evaluation = explain(Some("C"), &demands, comparisons);
            assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::Retagged, false), "{comparisons:?}");
        }
        let evaluation = explain(Some("C"), &demands, &[rebuild(), unexplained()]);
        assert!(evaluation.reason.contains("another entrypoint"), "{}", evaluation.reason);
    }
}

#[test]
fn a_fast_move_is_explained_only_where_rebuilds_are_expected() {
    let quick = [rebuild(), MoveComparison::WithinRelease { reason: "x".to_owned().into() }];
    for (expectation, verdict) in
        [(Expectation::Rebuilds, Verdict::Rebuilt), (Expectation::Unstated, Verdict::Retagged)]
    {
        assert_eq!(explain(Some("C"), &expecting(expectation), &quick).verdict, verdict);
    }
}

#[test]
fn a_rebuild_does_not_explain_a_move_of_an_immutable_tag() {
    let immutable = expecting(Expectation::Immutable);
    assert_eq!(explain(Some("C"), &immutable, &[rebuild(), rebuild()]).verdict, Verdict::Retagged);
    assert_eq!(
        explain(Some("C"), &immutable, &[unchanged(), MoveComparison::WithinRelease { reason: "x".to_owned().into() }])
            .verdict,
        Verdict::Retagged
    );
    assert_eq!(explain(Some("C"), &immutable, &[unchanged(), unchanged()]).verdict, Verdict::Rebuilt);
}

#[test]
fn explained_moves_override_nothing_else() {
    let plain = Demands::default();
    let both = [rebuild(), rebuild()];
    assert_eq!(explain(Some("B"), &plain, &both).verdict, Verdict::Behind);
    assert_eq!(explain(Some("D"), &plain, &both).verdict, Verdict::Mismatch);
    assert_eq!(
        explain(Some("C"), &Demands { min_age: Some(days(6)), ..Demands::default() }, &both).verdict,
        Verdict::New
    );
    assert_eq!(explain(Some("C"), &agreeing(2), &both).verdict, Verdict::New);
    assert_eq!(
        explain(Some("C"), &Demands { freshness: days(1), ..Demands::default() }, &both).verdict,
        Verdict::Stale
    );
    assert_eq!(explain(None, &plain, &both).digest, Some(digest("C")));
    let fine = evaluated(vec![witness("x", &["A"])], Some("A"), &plain);
    assert_eq!(
        apply_comparisons(fine, &plain, &[unexplained()]).verdict,
        Verdict::Ok,
        "only what is retagged is explained"
    );
}

fn missing(name: &str) -> UnexplainedReason {
    let cause = "the log does not keep it; registry.example does not have it".to_owned();
    UnexplainedReason::MissingDocument {
        repository: "registry.example/app".parse().unwrap(),
        digest: digest(name),
        cause,
    }
}

/// Missing documents are one line, however many documents and moves there are, with shortened digests.
#[test]
fn missing_documents_are_reported_once() {
    let demands = Demands::default();
    let (late, soon) = (
        |name| MoveComparison::Unexplained { reason: missing(name) },
        |name| MoveComparison::WithinRelease { reason: missing(name) },
    );
    let whole = digest("A").to_string();
    let short = &whole[.."sha256:".len() + 12];
    let who = "the log does not keep it; registry.example does not have it";
    for (comparisons, lead, told) in [
        ([late("A"), late("A")], "", format!("registry.example/app@{short}… is not available: {who}")),
        (
            [late("A"), late("B")],
            "",
            format!("2 documents are not available, such as registry.example/app@{short}…: {who}"),
        ),
        ([soon("A"), late("A")], "", format!("registry.example/app@{short}… is not available: {who}")),
        (
            [soon("A"), soon("A")],
            "moved within 48 hours",
            format!("registry.example/app@{short}… is not available: {who}"),
        ),
    ] {
        let evaluation = explain(Some("C"), &demands, &comparisons);
        let reason = &evaluation.reason;
        assert!(reason.contains(&format!("not explained as a rebuild: {told}")) && reason.contains(lead), "{reason}");
        assert_eq!((reason.matches(who).count(), reason.matches("explained").count()), (1, 1), "{reason}");
        assert!(!reason.contains(&whole), "{reason}");
        let [note] = &evaluation.notes[..] else { panic!("{:?}", evaluation.notes) };
        let (when, said) = note.split_once(": ").unwrap();
        assert!(when.ends_with("and 1 later") && reason.contains(said), "{note}");
    }
    // Differences are reported for each move, in addition to missing documents.
    let evaluation = explain(Some("C"), &demands, &[unexplained(), late("A")]);
    assert!(evaluation.reason.contains("another entrypoint") && evaluation.reason.contains("is not available"));
    assert_eq!(evaluation.notes.len(), 2, "{:?}", evaluation.notes);
}
