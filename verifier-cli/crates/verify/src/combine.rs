//! Combines the evaluations of one image in several logs.

use taglog_proto::name::Digest;

use super::LogEvaluation;
use taglog_base::text::one_line;
use taglog_policy::{Evaluation, Verdict};

/// The most severe of the logs' evaluations; of equally severe ones, the first. A log in which the image is not logged
/// is ignored if it is logged in another. If there are several logs, the reason names the one that decided.
pub(super) fn combine(logs: &[LogEvaluation]) -> Evaluation {
    let Some(decisive) = relevant(logs).min_by_key(|log| std::cmp::Reverse(log.evaluation.severity())) else {
        return Evaluation::fails(Verdict::Incomplete, "no log was asked");
    };
    let evaluation = decisive.evaluation.clone();
    if logs.len() == 1 {
        return evaluation;
    }
    let reason = format!("{}: {}", one_line(&decisive.log), evaluation.reason);
    Evaluation { reason, ..evaluation }
}

/// The logs in which the image is logged; if there are none, all.
fn relevant(logs: &[LogEvaluation]) -> impl Iterator<Item = &LogEvaluation> {
    let is_logged = |log: &LogEvaluation| !log.evaluation.verdict.is_not_logged();
    let any = logs.iter().any(is_logged);
    logs.iter().filter(move |log| !any || is_logged(log))
}

/// The digest that passes in the first relevant log, if every relevant log lets a digest pass and they are not all the
/// same. Then no evaluation is about the digests that pass in the other logs.
pub(super) fn conflicting_digest(logs: &[LogEvaluation]) -> Option<Digest> {
    let passing = |log: &LogEvaluation| log.evaluation.digest.filter(|_| log.evaluation.passes);
    let digests: Vec<_> = relevant(logs).map(passing).collect::<Option<_>>()?;
    let (first, more) = digests.split_first()?;
    more.iter().any(|digest| digest != first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, evaluation: Evaluation) -> LogEvaluation {
        LogEvaluation { log: name.to_owned(), evaluation, report: None }
    }

    fn passes(content: &str) -> Evaluation {
        Evaluation::passes(Verdict::Ok, Digest::sha256(content.as_bytes()), "fine")
    }

    fn fails(verdict: Verdict) -> Evaluation {
        Evaluation::fails(verdict, format!("it is {verdict}"))
    }

    #[test]
    fn one_log_decides_alone() {
        for verdict in Verdict::ALL {
            let evaluation = combine(&[log("a", fails(verdict))]);
            assert_eq!((evaluation.verdict, evaluation.reason), (verdict, format!("it is {verdict}")));
        }
        assert!(!combine(&[]).passes, "nobody vouches for anything");
    }

    #[test]
    fn the_most_severe_evaluation_decides_in_any_order_and_its_log_is_named() {
        for one in Verdict::ALL {
            for other in Verdict::ALL {
                let (a, b) = (log("a", fails(one)), log("b", fails(other)));
                let [evaluation, swapped] = [combine(&[a.clone(), b.clone()]), combine(&[b, a])];
                assert_eq!(evaluation.verdict, swapped.verdict, "{one} {other}");
                let of = if evaluation.verdict == one { "a" } else { "b" };
                assert_eq!(evaluation.reason, format!("{of}: it is {}", evaluation.verdict));
                let knowing = [one, other].into_iter().find(|verdict| !verdict.is_not_logged());
                assert!(knowing.is_none() || !evaluation.verdict.is_not_logged(), "{one} {other}");
            }
        }
    }

    #[test]
    fn an_image_passes_only_if_it_passes_in_every_log_that_has_it() {
        for nothing in [Verdict::Unknown, Verdict::Uncovered] {
            let evaluation = combine(&[log("a", fails(nothing)), log("b", passes("x"))]);
            assert!(evaluation.passes && evaluation.reason == "b: fine", "{evaluation:?}");
        }
        for verdict in Verdict::ALL.into_iter().filter(|verdict| !verdict.is_not_logged()) {
            let evaluation = combine(&[log("a", passes("x")), log("b", fails(verdict))]);
            assert!(!evaluation.passes && evaluation.digest.is_none(), "{verdict}");
        }
        let warns = Evaluation { warning: true, ..passes("x") };
        assert!(combine(&[log("a", passes("x")), log("b", warns)]).warning);
    }

    #[test]
    fn different_passing_digests_conflict() {
        let (x, y, nothing) = (log("a", passes("x")), log("b", passes("y")), log("c", fails(Verdict::Unknown)));
        assert_eq!(conflicting_digest(&[x.clone(), y.clone(), nothing.clone()]), x.evaluation.digest);
        assert_eq!(conflicting_digest(&[nothing.clone(), y.clone(), x.clone()]), y.evaluation.digest);
        assert_eq!(conflicting_digest(&[x.clone(), x.clone(), nothing.clone()]), None);
        assert_eq!(conflicting_digest(&[x.clone(), y, log("d", fails(Verdict::Stale))]), None, "it fails in any case");
        assert_eq!(
            (conflicting_digest(&[x]), conflicting_digest(&[nothing]), conflicting_digest(&[])),
            (None, None, None)
        );
    }
}
