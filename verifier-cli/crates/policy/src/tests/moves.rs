//! How a tag moved, and what follows when the moves are explained.

use taglog_proto::tag_proof::WitnessReport;

use super::make::*;
use crate::{Demands, Expectation, Finding, Judgement, Verdict, Why, explained};

fn rebuild() -> Finding {
    Finding::Rebuild { base: "docker.io/library/debian:12".to_owned(), what: vec!["base layer".to_owned()] }
}

fn unchanged() -> Finding {
    Finding::PlatformUnchanged { platform: "linux/amd64".to_owned() }
}

fn unexplained() -> Finding {
    Finding::Unexplained { why: "another entrypoint".to_owned().into() }
}

fn moves(witnesses: Vec<WitnessReport>) -> Vec<(&'static str, &'static str, i64, bool)> {
    let name = |wanted| ["A", "B", "C"].into_iter().find(|name| digest(name) == wanted).unwrap();
    let judgement = judged(witnesses, None, &Demands::default());
    judgement.moves.iter().map(|m| (name(m.from), name(m.to), m.at.unix(), m.within_release)).collect()
}

#[test]
fn moves_are_each_witnesss_own_each_once() {
    let (hour, late) = (HOUR, 3 * DAY);
    assert_eq!(moves(vec![at("x", &[(1, 0, "A"), (2, hour, "B")], None)]), [("A", "B", hour, true)]);
    // A slow witness makes no move back.
    let slow = vec![
        at("x", &[(1, 0, "A"), (4, hour, "B"), (6, late, "C")], None),
        at("y", &[(2, 1, "A"), (7, late + 1, "B"), (8, late + 2, "C")], None),
    ];
    assert_eq!(moves(slow), [("A", "B", hour, true), ("B", "C", late, false)]);
    // A rollback is a move, at its own time, and so is the same move again.
    let rolled = vec![at("x", &[(1, 0, "A"), (2, 1, "B"), (3, late, "A"), (4, late + 1, "B")], None)];
    assert_eq!(moves(rolled), [("A", "B", 1, true), ("B", "A", late, false), ("A", "B", late + 1, false)]);
    // Gone between is no move by itself.
    let gone = vec![at("x", &[(1, 0, "A"), (2, 1, "gone"), (3, 2, "A"), (4, 3, "gone"), (5, 4, "B")], None)];
    assert_eq!(moves(gone), [("A", "B", 4, true)]);
    // What no witness saw the tag move to, it must have moved to.
    assert_eq!(moves(vec![at("x", &[(1, 0, "A")], None), at("y", &[(2, late, "B")], None)]), [("A", "B", late, false)]);
    assert_eq!(
        moves(vec![at("x", &[(1, 0, "A"), (2, 48 * HOUR, "B"), (3, 48 * HOUR + 1, "C")], None)]),
        [("A", "B", 48 * HOUR, true), ("B", "C", 48 * HOUR + 1, false)]
    );
}

fn moved_twice() -> Vec<WitnessReport> {
    vec![witness("x", &["A", "B", "C"])]
}

fn explain(served: Option<&str>, demands: &Demands, findings: &[Finding]) -> Judgement {
    let judgement = explained(judged(moved_twice(), served, demands), demands, findings);
    assert_eq!(judgement.passes, judgement.digest.is_some(), "{judgement:?}");
    judgement
}

#[test]
fn a_tag_whose_moves_are_all_explained_is_rebuilt() {
    for expectation in [Expectation::Unstated, Expectation::Rebuilds] {
        let demands = expecting(expectation);
        let judgement = explain(Some("C"), &demands, &[rebuild(), unchanged()]);
        assert_eq!((judgement.verdict, judgement.passes, judgement.warning), (Verdict::Rebuilt, true, true));
        assert_eq!((judgement.digest, judgement.moves.len()), (Some(digest("C")), 2));
        for said in [&judgement.reason, &judgement.notes.join("\n")] {
            assert!(said.contains("rebuild on another revision of docker.io/library/debian:12"), "{said}");
            assert!(!said.contains("safe"), "{said}");
        }
        for findings in [
            &[][..],
            &[rebuild()],
            &[rebuild(), unexplained()],
            &[unexplained(), rebuild()],
            &[rebuild(), rebuild(), rebuild()],
        ] {
            let judgement = explain(Some("C"), &demands, findings);
            assert_eq!((judgement.verdict, judgement.passes), (Verdict::Retagged, false), "{findings:?}");
        }
        let judgement = explain(Some("C"), &demands, &[rebuild(), unexplained()]);
        assert!(judgement.reason.contains("another entrypoint"), "{}", judgement.reason);
    }
}

/// Who moves a tag soon after its first sighting has explained nothing by that, unless rebuilds were promised.
#[test]
fn to_be_quick_is_no_explanation() {
    let quick = [rebuild(), Finding::WithinRelease { why: "x".to_owned().into() }];
    for (expectation, verdict) in
        [(Expectation::Rebuilds, Verdict::Rebuilt), (Expectation::Unstated, Verdict::Retagged)]
    {
        assert_eq!(explain(Some("C"), &expecting(expectation), &quick).verdict, verdict);
    }
}

#[test]
fn a_tag_that_never_moves_is_not_rebuilt() {
    let immutable = expecting(Expectation::Immutable);
    assert_eq!(explain(Some("C"), &immutable, &[rebuild(), rebuild()]).verdict, Verdict::Retagged);
    assert_eq!(
        explain(Some("C"), &immutable, &[unchanged(), Finding::WithinRelease { why: "x".to_owned().into() }]).verdict,
        Verdict::Retagged
    );
    assert_eq!(explain(Some("C"), &immutable, &[unchanged(), unchanged()]).verdict, Verdict::Rebuilt);
}

#[test]
fn explained_moves_excuse_nothing_else() {
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
    let fine = judged(vec![witness("x", &["A"])], Some("A"), &plain);
    assert_eq!(explained(fine, &plain, &[unexplained()]).verdict, Verdict::Ok, "only what is retagged is explained");
}

fn missing(name: &str) -> Why {
    let said = "the log does not keep it; registry.example does not have it".to_owned();
    Why::Missing { repository: "registry.example/app".parse().unwrap(), digest: digest(name), said }
}

/// However many documents are missing, and of however many moves: it is said once, and no digest is written out.
#[test]
fn what_cannot_be_had_is_told_once() {
    let demands = Demands::default();
    let (late, soon) =
        (|name| Finding::Unexplained { why: missing(name) }, |name| Finding::WithinRelease { why: missing(name) });
    let whole = digest("A").to_string();
    let short = &whole[.."sha256:".len() + 12];
    let who = "the log does not keep it; registry.example does not have it";
    for (findings, lead, told) in [
        ([late("A"), late("A")], "", format!("registry.example/app@{short}… cannot be had: {who}")),
        (
            [late("A"), late("B")],
            "",
            format!("2 documents cannot be had, such as registry.example/app@{short}…: {who}"),
        ),
        ([soon("A"), late("A")], "", format!("registry.example/app@{short}… cannot be had: {who}")),
        (
            [soon("A"), soon("A")],
            "moved within 48 hours",
            format!("registry.example/app@{short}… cannot be had: {who}"),
        ),
    ] {
        let judgement = explain(Some("C"), &demands, &findings);
        let reason = &judgement.reason;
        assert!(reason.contains(&format!("not explained: {told}")) && reason.contains(lead), "{reason}");
        assert_eq!((reason.matches(who).count(), reason.matches("explained").count()), (1, 1), "{reason}");
        assert!(!reason.contains(&whole), "{reason}");
        let [note] = &judgement.notes[..] else { panic!("{:?}", judgement.notes) };
        let (when, said) = note.split_once(": ").unwrap();
        assert!(when.ends_with("and 1 later") && reason.contains(said), "{note}");
    }
    // What differs is told of each move, beside what is missing.
    let judgement = explain(Some("C"), &demands, &[unexplained(), late("A")]);
    assert!(judgement.reason.contains("another entrypoint") && judgement.reason.contains("cannot be had"));
    assert_eq!(judgement.notes.len(), 2, "{:?}", judgement.notes);
}
