//! What several logs say of one image, as one judgement.

use taglog_proto::name::Digest;

use super::LogAnswer;
use taglog_log_client::printable;
use taglog_policy::{Judgement, Verdict};

/// The gravest of the logs' judgements. A log that has nothing of the image is not held against it where another has
/// something. Where there are several logs the reason says which one it is from; of two that are equally grave, the
/// first.
pub(super) fn weigh(logs: &[LogAnswer]) -> Judgement {
    let Some(standing) = counting(logs).min_by_key(|log| std::cmp::Reverse(log.judgement.gravity())) else {
        return Judgement::fails(Verdict::Incomplete, "no log was asked");
    };
    let judgement = standing.judgement.clone();
    if logs.len() == 1 {
        return judgement;
    }
    let reason = format!("{}: {}", printable(&standing.log), judgement.reason);
    Judgement { reason, ..judgement }
}

/// The logs that have something of the image; if none has, all.
fn counting(logs: &[LogAnswer]) -> impl Iterator<Item = &LogAnswer> {
    let knows = |log: &LogAnswer| !log.judgement.verdict.knows_nothing();
    let any = logs.iter().any(knows);
    logs.iter().filter(move |log| !any || knows(log))
}

/// The digest that the first log lets pass, where all that count let one pass, and not the same: different histories
/// then lead to different digests, and none of these judgements is about what the others let pass.
pub(super) fn contested(logs: &[LogAnswer]) -> Option<Digest> {
    let passing = |log: &LogAnswer| log.judgement.digest.filter(|_| log.judgement.passes);
    let digests: Vec<_> = counting(logs).map(passing).collect::<Option<_>>()?;
    let (first, more) = digests.split_first()?;
    more.iter().any(|digest| digest != first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, judgement: Judgement) -> LogAnswer {
        LogAnswer { log: name.to_owned(), judgement, report: None }
    }

    fn passes(content: &str) -> Judgement {
        Judgement::passes(Verdict::Ok, Digest::sha256(content.as_bytes()), "fine")
    }

    fn fails(verdict: Verdict) -> Judgement {
        Judgement::fails(verdict, format!("it is {verdict}"))
    }

    #[test]
    fn one_log_stands_for_itself() {
        for verdict in Verdict::ALL {
            let judgement = weigh(&[log("a", fails(verdict))]);
            assert_eq!((judgement.verdict, judgement.reason), (verdict, format!("it is {verdict}")));
        }
        assert!(!weigh(&[]).passes, "nobody vouches for anything");
    }

    #[test]
    fn of_several_the_gravest_stands_and_is_named_whatever_their_order() {
        for one in Verdict::ALL {
            for other in Verdict::ALL {
                let (a, b) = (log("a", fails(one)), log("b", fails(other)));
                let [judgement, swapped] = [weigh(&[a.clone(), b.clone()]), weigh(&[b, a])];
                assert_eq!(judgement.verdict, swapped.verdict, "{one} {other}");
                let of = if judgement.verdict == one { "a" } else { "b" };
                assert_eq!(judgement.reason, format!("{of}: it is {}", judgement.verdict));
                let knowing = [one, other].into_iter().find(|verdict| !verdict.knows_nothing());
                assert!(knowing.is_none() || !judgement.verdict.knows_nothing(), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_passes_passes_in_all_that_have_something() {
        for nothing in [Verdict::Unknown, Verdict::Uncovered] {
            let judgement = weigh(&[log("a", fails(nothing)), log("b", passes("x"))]);
            assert!(judgement.passes && judgement.reason == "b: fine", "{judgement:?}");
        }
        for verdict in Verdict::ALL.into_iter().filter(|verdict| !verdict.knows_nothing()) {
            let judgement = weigh(&[log("a", passes("x")), log("b", fails(verdict))]);
            assert!(!judgement.passes && judgement.digest.is_none(), "{verdict}");
        }
        let warns = Judgement { warning: true, ..passes("x") };
        assert!(weigh(&[log("a", passes("x")), log("b", warns)]).warning);
    }

    #[test]
    fn different_digests_that_pass_are_contested() {
        let (x, y, nothing) = (log("a", passes("x")), log("b", passes("y")), log("c", fails(Verdict::Unknown)));
        assert_eq!(contested(&[x.clone(), y.clone(), nothing.clone()]), x.judgement.digest);
        assert_eq!(contested(&[nothing.clone(), y.clone(), x.clone()]), y.judgement.digest);
        assert_eq!(contested(&[x.clone(), x.clone(), nothing.clone()]), None);
        assert_eq!(contested(&[x.clone(), y, log("d", fails(Verdict::Stale))]), None, "it fails in any case");
        assert_eq!((contested(&[x]), contested(&[nothing]), contested(&[])), (None, None, None));
    }
}
