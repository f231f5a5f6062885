//! Evaluates the verified history of an image into a verdict.

use std::{collections::BTreeSet, time::Duration};

use taglog_proto::{
    entry::Seen,
    name::{Digest, WitnessId},
    tag_proof::ImageReport,
    time::Timestamp,
};

use crate::{
    demands::{Demands, Expectation, WARN_AGE},
    history::{History, NoHistory, WitnessHistory},
    move_comparison::{MoveComparison, move_notes, summary_lines},
    verdict::{Evaluation, Verdict},
};
use taglog_base::duration::in_words;

/// Everything that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationInput<'a> {
    /// What the log holds of the image, verified.
    pub report: &'a ImageReport,
    /// The digest that the registry serves or that was asked about; `None` to evaluate the history alone.
    pub served: Option<Digest>,
    /// What applies to the image.
    pub demands: &'a Demands,
    /// The digests that a person approved for the image (`taglog.lock`).
    pub approved: &'a [Digest],
    /// The time at which freshness and ages are measured.
    pub now: Timestamp,
}

/// Evaluates one image.
pub fn evaluate(input: &EvaluationInput) -> Evaluation {
    if !input.report.repository_covered {
        return Evaluation::fails(Verdict::Uncovered, "no witness has ever reported a tag of this repository");
    }
    let history = match History::of(input.report, input.demands) {
        Err(NoHistory::Nothing) => {
            return Evaluation::fails(Verdict::Unknown, "no trusted witness has ever reported this tag");
        }
        Err(NoHistory::Incomplete(witness)) => {
            let reason = format!("the log did not give the complete list of sightings of {witness}");
            return Evaluation::fails(Verdict::Incomplete, reason);
        }
        Ok(history) => history,
    };
    let evaluator = Evaluator { history: &history, demands: input.demands, now: input.now };
    let mut evaluation = match input.demands.expectation {
        Expectation::Moving => evaluator.moving(input.served),
        _ => evaluator.fixed(input.served),
    };
    match history.untrusted_dissenters {
        0 => {}
        1 => evaluation.notes.push("1 witness that policy does not trust has sighted other digests".to_owned()),
        count => {
            evaluation.notes.push(format!("{count} witnesses that policy does not trust have sighted other digests"))
        }
    }
    approved(evaluation, input)
}

/// Evaluates the history of an image alone, whatever a registry serves. The verdict is `approved` if a person approved
/// the digest that enough witnesses sighted last. Moves are not explained: that takes manifests.
pub fn evaluate_history(input: &EvaluationInput) -> Evaluation {
    let evaluation = evaluate(&EvaluationInput { served: None, ..*input });
    let newest = History::of(input.report, input.demands).ok().and_then(|history| history.newest(input.demands.agree));
    approved(evaluation, &EvaluationInput { served: newest, ..*input })
}

/// Lets an approved digest pass, if it is the one that was evaluated and the verdict is one that an approval can
/// override.
fn approved(evaluation: Evaluation, input: &EvaluationInput) -> Evaluation {
    match input.served.filter(|served| input.approved.contains(served)) {
        Some(served) if !evaluation.passes && evaluation.verdict.can_be_approved() => {
            let note = format!("without the approval: {}: {}", evaluation.verdict, evaluation.reason);
            let notes = [vec![note], evaluation.notes].concat();
            let reason = "a person approved this digest in taglog.lock";
            Evaluation { notes, moves: evaluation.moves, ..Evaluation::passes(Verdict::Approved, served, reason) }
        }
        _ => evaluation,
    }
}

/// Applies the comparisons of all moves, in their order, to the evaluation of a retagged image. Any other evaluation is
/// returned unchanged. If every move is explained, the image gets the verdict that it would have if its tag might move,
/// with `rebuilt` in the place of one that passes: the registry may still serve an older digest, or the newest may be
/// too young.
pub fn apply_comparisons(evaluation: Evaluation, demands: &Demands, comparisons: &[MoveComparison]) -> Evaluation {
    if evaluation.verdict != Verdict::Retagged {
        return evaluation;
    }
    let explains = |comparison: &MoveComparison| comparison.explains(demands.expectation);
    let all =
        !comparisons.is_empty() && comparisons.len() == evaluation.moves.len() && comparisons.iter().all(explains);
    let notes = [move_notes(comparisons, &evaluation.moves), evaluation.notes.clone()].concat();
    match (&evaluation.if_explained, all) {
        (Some(if_explained), true) => {
            let mut explained = (**if_explained).clone();
            if explained.passes {
                explained.verdict = Verdict::Rebuilt;
                explained.warning = true;
                explained.reason = format!(
                    "{}: {}",
                    all_explained(evaluation.moves.len()),
                    summary(&comparisons.iter().collect::<Vec<_>>())
                );
            }
            Evaluation { notes, moves: evaluation.moves, ..explained }
        }
        _ => {
            let unexplained: Vec<&MoveComparison> =
                comparisons.iter().filter(|comparison| !explains(comparison)).collect();
            let reason = match unexplained[..] {
                [] => evaluation.reason,
                _ => format!("{}; {}", evaluation.reason, summary(&unexplained)),
            };
            Evaluation { reason, notes, ..evaluation }
        }
    }
}

fn all_explained(moves: usize) -> String {
    match moves {
        1 => "the tag moved once, and the move is explained".to_owned(),
        _ => format!("the tag moved {moves} times, and each move is explained"),
    }
}

/// The most comparisons that a reason contains.
const MAX_SUMMARY: usize = 2;

/// Each different comparison once; of many, the first ones and the number of the others.
fn summary(comparisons: &[&MoveComparison]) -> String {
    let mut lines = summary_lines(comparisons);
    let more = lines.len().saturating_sub(MAX_SUMMARY);
    lines.truncate(MAX_SUMMARY);
    if more > 0 {
        lines.push(format!("and {more} more reasons"));
    }
    lines.join("; ")
}

/// The newest settled digest: one that enough witnesses have known for at least `min_age` in every log in which the
/// image is logged, whatever the registry serves. `inputs` has one element for each log; the first log decides which
/// digest is newer.
///
/// Of a tag that may move or is rebuilt, that is the newest of the settled digests; of any other tag, the only digest
/// that it ever pointed to, or one that was approved. This function gives no verdict on the tag; [`evaluate`] does.
///
/// # Errors
/// Why there is no such digest, for users.
pub fn newest_settled(inputs: &[EvaluationInput], min_age: Duration) -> Result<Digest, String> {
    let mut common: Option<Vec<Digest>> = None;
    for input in inputs.iter().filter(|input| !evaluate(input).verdict.is_not_logged()) {
        let settled = settled_in_one(input, min_age)?;
        common = Some(match common {
            None => settled,
            Some(common) => {
                let here: BTreeSet<Digest> = settled.into_iter().collect();
                common.into_iter().filter(|digest| here.contains(digest)).collect()
            }
        });
    }
    let common = common.ok_or("nothing is logged for this tag")?;
    common.last().copied().ok_or_else(|| "no digest has been known long enough in every log".to_owned())
}

/// All settled digests of one log, the newest last; at least one.
fn settled_in_one(input: &EvaluationInput, min_age: Duration) -> Result<Vec<Digest>, String> {
    let demands = input.demands;
    let history = History::of(input.report, demands)
        .map_err(|_| "the log did not give a complete history of this tag".to_owned())?;
    let evaluator = Evaluator { history: &history, demands, now: input.now };
    let fresh = history.vouching().filter(|witness| evaluator.is_fresh(witness)).count();
    if fresh < demands.agree {
        return Err("the witnesses last checked this tag too long ago".to_owned());
    }
    let before = input.now.unix().saturating_sub_unsigned(min_age.as_secs());
    let before = Timestamp::from_unix(before).unwrap_or(Timestamp::UNIX_EPOCH);
    let digests = history.digests();
    let may_move = matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds);
    let counts = |digest: &Digest| may_move || digests.len() == 1 || input.approved.contains(digest);
    let settled: Vec<Digest> = history.settled(demands.agree, before).into_iter().filter(counts).collect();
    if !settled.is_empty() {
        return Ok(settled);
    }
    let age = in_words(min_age.as_secs());
    Err(match digests.len() {
        count if count > 1 && !may_move => format!("this tag has pointed to {count} different digests"),
        _ => format!("no digest was seen {age} ago or earlier by {} or more witnesses", demands.agree),
    })
}

/// Evaluates one history against what policy demands.
struct Evaluator<'a> {
    history: &'a History<'a>,
    demands: &'a Demands,
    now: Timestamp,
}

impl Evaluator<'_> {
    /// A tag that must not move, or for which no expectation is stated.
    fn fixed(&self, served: Option<Digest>) -> Evaluation {
        let digests = self.history.digests();
        match (&digests[..], served) {
            ([], Some(_)) => {
                Evaluation::fails(Verdict::Mismatch, "every trusted witness found the tag missing from the registry")
            }
            ([], None) => {
                Evaluation::fails(Verdict::Unknown, "every trusted witness found the tag missing from the registry")
            }
            ([only], Some(served)) if served != *only => {
                Evaluation::fails(Verdict::Mismatch, format!("no witness has seen {served}; all have only seen {only}"))
            }
            ([only], _) => self.vouched(*only, Verdict::Ok, "and no other digest was ever sighted"),
            _ => self.disputed(served).unwrap_or_else(|| self.retagged(&digests, served)),
        }
    }

    /// One witness alone does not prove a retag. But if the served digest is the one that it saw, the registry confirms
    /// it.
    fn disputed(&self, served: Option<Digest>) -> Option<Evaluation> {
        let (dissenter, agreed) = self.history.lone_dissenter()?;
        let (alone, others) = (dissenter.id, self.history.witnesses.len() - 1);
        let saw = |digest| dissenter.sightings.iter().any(|sighted| sighted.sighting.seen == Seen::Digest(digest));
        let reason = match served {
            Some(served) if served != agreed && saw(served) => return None,
            Some(served) if served != agreed => {
                let reason = format!("no witness has seen {served}; all but {alone} have only seen {agreed}");
                return Some(Evaluation::fails(Verdict::Mismatch, reason));
            }
            _ => {
                format!("only {alone} has sighted another digest; the {others} other witnesses have only seen {agreed}")
            }
        };
        Some(Evaluation::fails(Verdict::Disputed, reason))
    }

    fn retagged(&self, digests: &[Digest], served: Option<Digest>) -> Evaluation {
        let now = match served {
            Some(served) if digests.contains(&served) => ", including the one that is evaluated",
            Some(_) => ", and the one that is evaluated is another, which no witness has seen",
            None => "",
        };
        let expected = match self.demands.expectation {
            Expectation::Immutable => "; it is expected never to move",
            _ => "",
        };
        let reason = format!("this tag has pointed to {} different digests{now}{expected}", digests.len());
        Evaluation {
            moves: self.history.moves(),
            if_explained: Some(Box::new(self.moving(served))),
            ..Evaluation::fails(Verdict::Retagged, reason)
        }
    }

    /// A tag that may move.
    fn moving(&self, served: Option<Digest>) -> Evaluation {
        let enough = self.demands.agree;
        let Some(newest) = self.history.newest(enough) else { return self.no_newest(served) };
        match served.filter(|served| *served != newest) {
            None => self.vouched(newest, Verdict::Moving, "the newest digest of a tag that may move"),
            Some(served) if !self.history.digests().contains(&served) => {
                Evaluation::fails(Verdict::Mismatch, format!("no witness has seen {served}; the newest is {newest}"))
            }
            Some(served) => self.older(served, newest),
        }
    }

    /// There is no digest that enough witnesses sighted last.
    fn no_newest(&self, served: Option<Digest>) -> Evaluation {
        let enough = self.demands.agree;
        if let Some(served) = served.filter(|served| !self.history.digests().contains(served)) {
            return Evaluation::fails(Verdict::Mismatch, format!("no witness has seen {served}"));
        }
        if !self.history.vouching().any(|witness| witness.seen != Seen::Gone) {
            return self.nobody_vouches();
        }
        let reason = format!("fewer than {enough} witnesses agree on the current digest of this tag");
        Evaluation::fails(Verdict::New, reason)
    }

    /// A digest that was sighted, and is not the newest one of enough witnesses.
    fn older(&self, served: Digest, newest: Digest) -> Evaluation {
        let sees = |digest: Digest| move |witness: &&WitnessHistory| witness.seen == Seen::Digest(digest);
        let last_sighting = |digest| self.history.vouching().filter(sees(digest)).filter_map(index_of_last).max();
        let enough = self.demands.agree;
        let agree = self.history.vouching().filter(sees(served)).count();
        if agree > 0 && agree < enough && last_sighting(served) > last_sighting(newest) {
            let reason = format!(
                "only {agree} of the {enough} required witnesses have sighted {served}; the others see {newest}"
            );
            return Evaluation::fails(Verdict::New, reason);
        }
        if let Some(alone) = self.stands_alone(served, newest) {
            let reason =
                format!("only {alone} has sighted {newest}; {agree} other witnesses have seen {served} since then");
            return Evaluation::fails(Verdict::Disputed, reason);
        }
        Evaluation::fails(Verdict::Behind, format!("{served} is an older digest of this tag; the newest is {newest}"))
    }

    /// The only witness of the newest digest, if at least two others have checked the tag after it and still see the
    /// served digest.
    fn stands_alone(&self, served: Digest, newest: Digest) -> Option<&WitnessId> {
        let mut see_newest = self.history.witnesses.iter().filter(|witness| witness.seen == Seen::Digest(newest));
        let (Some(alone), None) = (see_newest.next(), see_newest.next()) else { return None };
        let since = alone.sightings.last()?.observed;
        let contradicts = |witness: &&WitnessHistory| witness.seen == Seen::Digest(served) && witness.vouched > since;
        (self.history.vouching().filter(contradicts).count() >= 2).then_some(alone.id)
    }

    fn nobody_vouches(&self) -> Evaluation {
        let reason = match self.history.vouching().next() {
            None => "only witnesses that have left the log's roster vouch for this tag",
            Some(_) => "the witnesses last found the tag missing from the registry, and have not seen it since",
        };
        Evaluation::fails(Verdict::Stale, reason)
    }

    fn is_fresh(&self, witness: &WitnessHistory) -> bool {
        witness.vouched.unix() >= self.now.unix().saturating_sub_unsigned(self.demands.freshness.as_secs())
    }

    /// Checks how many witnesses sighted `digest` last, how recently they vouched for it, and how long they have known
    /// it.
    fn vouched(&self, digest: Digest, verdict: Verdict, why: &str) -> Evaluation {
        let (enough, expected) = (self.demands.agree, self.history.expected);
        let agrees = |witness: &&WitnessHistory| witness.seen == Seen::Digest(digest);
        let agree: Vec<&WitnessHistory> = self.history.vouching().filter(agrees).collect();
        if agree.is_empty() && self.history.witnesses.iter().any(|witness| agrees(&witness)) {
            let reason = format!("only witnesses that have left the log's roster vouch for {digest}");
            return Evaluation::fails(Verdict::Stale, reason);
        }
        if agree.is_empty() {
            return self.nobody_vouches();
        }
        if agree.len() < enough {
            let reason = format!("only {} of the {enough} required witnesses have sighted {digest}", agree.len());
            return Evaluation::fails(Verdict::New, reason);
        }
        let fresh = agree.iter().filter(|witness| self.is_fresh(witness)).count();
        if fresh < enough {
            let last = agree.iter().map(|witness| witness.vouched).max();
            let last = last.map(|time| time.to_string()).unwrap_or_default();
            let allowed = in_words(self.demands.freshness.as_secs());
            let reason = format!("witnesses last vouched for {digest} at {last}, which is more than {allowed} ago");
            return Evaluation::fails(Verdict::Stale, reason);
        }
        let age = self.age(digest);
        let of = if expected == fresh { String::new() } else { format!(" of {expected}") };
        let vouch = if fresh == 1 && expected == 1 { "witness vouches" } else { "witnesses vouch" };
        let vouch = format!("{fresh}{of} {vouch} for it");
        let seen = format!("first seen {} ago", in_words(age));
        let limit = self.demands.min_age.unwrap_or(if verdict == Verdict::Moving { Duration::ZERO } else { WARN_AGE });
        if age >= limit.as_secs() {
            return Evaluation::passes(verdict, digest, format!("{vouch}, {why}; {seen}"));
        }
        match self.demands.min_age {
            Some(min_age) => {
                let min_age = in_words(min_age.as_secs());
                Evaluation::fails(Verdict::New, format!("{vouch}, but it was {seen}, and policy asks for {min_age}"))
            }
            None => Evaluation {
                warning: true,
                ..Evaluation::passes(Verdict::New, digest, format!("{vouch}, but it was {seen}: it has no history yet"))
            },
        }
    }

    /// How long enough witnesses have known this digest, in seconds.
    fn age(&self, digest: Digest) -> u64 {
        let first = self.history.first_seen(digest, self.demands.agree).unwrap_or(self.now);
        u64::try_from(self.now.unix().saturating_sub(first.unix())).unwrap_or(0)
    }
}

fn index_of_last(witness: &WitnessHistory) -> Option<u64> {
    witness.sightings.last().map(|last| last.sighting.index)
}
