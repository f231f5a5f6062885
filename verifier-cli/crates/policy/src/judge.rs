//! From what was verified to one verdict for each image.

use std::{collections::BTreeSet, time::Duration};

use taglog_proto::{
    entry::Seen,
    name::{Digest, WitnessId},
    tag_proof::ImageReport,
    time::Timestamp,
};

use super::{
    Demands, Expectation, Finding, Judgement, Verdict, WARN_AGE, finding,
    history::{History, NoHistory, Word},
};
use taglog_base::duration::in_words;

/// All that one verdict follows from.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the log holds of the image, verified.
    pub report: &'a ImageReport,
    /// What the registry serves or what was asked about; `None` when only the history is judged.
    pub served: Option<Digest>,
    /// What applies to the image.
    pub demands: &'a Demands,
    /// Digests that a person approved for the image (`taglog.lock`).
    pub approved: &'a [Digest],
    /// The time from which freshness and ages count.
    pub now: Timestamp,
}

/// The verdict on one image.
pub fn judge(case: &Case) -> Judgement {
    if !case.report.repository_covered {
        return Judgement::fails(Verdict::Uncovered, "no witness has ever reported a tag of this repository");
    }
    let history = match History::of(case.report, case.demands) {
        Err(NoHistory::Nothing) => {
            return Judgement::fails(Verdict::Unknown, "no witness that counts has ever reported this tag");
        }
        Err(NoHistory::Incomplete(witness)) => {
            let reason = format!("the list of sightings of {witness} is not complete");
            return Judgement::fails(Verdict::Incomplete, reason);
        }
        Ok(history) => history,
    };
    let bench = Bench { history: &history, demands: case.demands, now: case.now };
    let mut judgement = match case.demands.expectation {
        Expectation::Moving => bench.moving(case.served),
        _ => bench.fixed(case.served),
    };
    if history.uncounted > 0 {
        let (count, have) = (history.uncounted, if history.uncounted == 1 { "witness has" } else { "witnesses have" });
        judgement.notes.push(format!("{count} {have} sighted other digests, whose word policy does not count"));
    }
    approved(judgement, case)
}

/// What the log alone can tell of an image, whatever a registry serves: the judgement on its history; `approved`, where a
/// person approved the digest that enough witnesses see last. Whether moves are explained, only manifests say.
pub fn judge_history(case: &Case) -> Judgement {
    let judgement = judge(&Case { served: None, ..*case });
    let newest = History::of(case.report, case.demands).ok().and_then(|history| history.newest(case.demands.agree));
    approved(judgement, &Case { served: newest, ..*case })
}

/// Lets a digest pass that a person approved, if it is the one in question and that is what the verdict is about.
fn approved(judgement: Judgement, case: &Case) -> Judgement {
    match case.served.filter(|served| case.approved.contains(served)) {
        Some(served) if !judgement.passes && judgement.verdict.can_be_approved() => {
            let note = format!("without the approval: {}: {}", judgement.verdict, judgement.reason);
            let notes = [vec![note], judgement.notes].concat();
            let reason = "a person approved this very digest (taglog.lock)";
            Judgement { notes, moves: judgement.moves, ..Judgement::passes(Verdict::Approved, served, reason) }
        }
        _ => judgement,
    }
}

/// What is to be thought of a retagged image, given what was found for each of its moves, in their order. Any other
/// judgement stays what it is. If every move is explained, the image is `rebuilt`; or what it would be if its tag might
/// move, where that fails: the registry may still serve an older digest, or the newest may be too young.
pub fn explained(judgement: Judgement, demands: &Demands, findings: &[Finding]) -> Judgement {
    if judgement.verdict != Verdict::Retagged {
        return judgement;
    }
    let explains = |finding: &Finding| finding.explains(demands.expectation);
    let all = !findings.is_empty() && findings.len() == judgement.moves.len() && findings.iter().all(explains);
    let notes = [finding::notes(findings, &judgement.moves), judgement.notes.clone()].concat();
    match (&judgement.otherwise, all) {
        (Some(otherwise), true) => {
            let mut otherwise = (**otherwise).clone();
            if otherwise.passes {
                otherwise.verdict = Verdict::Rebuilt;
                otherwise.warning = true;
                otherwise.reason = format!(
                    "{}, and each is explained: {}",
                    moved(judgement.moves.len()),
                    told(&findings.iter().collect::<Vec<_>>())
                );
            }
            Judgement { notes, moves: judgement.moves, ..otherwise }
        }
        _ => {
            let unexplained: Vec<&Finding> = findings.iter().filter(|finding| !explains(finding)).collect();
            let reason = match unexplained[..] {
                [] => judgement.reason,
                _ => format!("{}; {}", judgement.reason, told(&unexplained)),
            };
            Judgement { reason, notes, ..judgement }
        }
    }
}

fn moved(times: usize) -> String {
    if times == 1 { "the tag moved once".to_owned() } else { format!("the tag moved {times} times") }
}

/// The most findings that one sentence tells of.
const TOLD: usize = 2;

/// Each different finding once; of many, the first ones and how many more there are.
fn told(findings: &[&Finding]) -> String {
    let mut told = finding::told(findings);
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    if more > 0 {
        told.push(format!("and {more} more like it"));
    }
    told.join("; ")
}

/// The newest digest that enough witnesses have seen for at least `min_age` in every log that has anything of the
/// image, whatever the registry serves. `cases` has one for each log; which digest is newer, the first of them says.
///
/// Of a tag that may move, or is rebuilt, that is the last of those that have settled; of any other, the only digest
/// that it ever pointed to, or one that was approved. Whether the tag is all right is what [`judge`] says.
///
/// # Errors
/// Why there is none, in words.
pub fn settled(cases: &[Case], min_age: Duration) -> Result<Digest, String> {
    let mut common: Option<Vec<Digest>> = None;
    for case in cases.iter().filter(|case| !judge(case).verdict.knows_nothing()) {
        let settled = settled_in_one(case, min_age)?;
        common = Some(match common {
            None => settled,
            Some(common) => {
                let here: BTreeSet<Digest> = settled.into_iter().collect();
                common.into_iter().filter(|digest| here.contains(digest)).collect()
            }
        });
    }
    let common = common.ok_or("nothing is logged for this tag")?;
    common.last().copied().ok_or_else(|| "no digest has settled in every log".to_owned())
}

/// All that have settled in one log, the newest last; at least one.
fn settled_in_one(case: &Case, min_age: Duration) -> Result<Vec<Digest>, String> {
    let demands = case.demands;
    let history = History::of(case.report, demands).map_err(|_| "nothing whole is logged for this tag".to_owned())?;
    let bench = Bench { history: &history, demands, now: case.now };
    let fresh = history.vouching().filter(|word| bench.is_fresh(word)).count();
    if fresh < demands.agree {
        return Err("witnesses last looked too long ago".to_owned());
    }
    let before = case.now.unix().saturating_sub_unsigned(min_age.as_secs());
    let before = Timestamp::from_unix(before).unwrap_or(Timestamp::UNIX_EPOCH);
    let digests = history.digests();
    let may_move = matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds);
    let counts = |digest: &Digest| may_move || digests.len() == 1 || case.approved.contains(digest);
    let settled: Vec<Digest> = history.settled(demands.agree, before).into_iter().filter(counts).collect();
    if !settled.is_empty() {
        return Ok(settled);
    }
    let age = in_words(min_age.as_secs());
    Err(match digests.len() {
        count if count > 1 && !may_move => format!("this tag has pointed to {count} different digests"),
        _ => format!("no digest was first seen {age} ago or earlier, by {} of the witnesses", demands.agree),
    })
}

/// One history, held against what is demanded.
struct Bench<'a> {
    history: &'a History<'a>,
    demands: &'a Demands,
    now: Timestamp,
}

impl Bench<'_> {
    /// A tag that is not to move, or of which nobody says that it may.
    fn fixed(&self, served: Option<Digest>) -> Judgement {
        let digests = self.history.digests();
        match (&digests[..], served) {
            ([], Some(_)) => Judgement::fails(Verdict::Mismatch, "witnesses have only ever seen the tag gone"),
            ([], None) => Judgement::fails(Verdict::Unknown, "witnesses have only ever seen the tag gone"),
            ([only], Some(served)) if served != *only => {
                Judgement::fails(Verdict::Mismatch, format!("no witness has seen {served}; all have only seen {only}"))
            }
            ([only], _) => self.vouched(*only, Verdict::Ok, "and no other digest was ever sighted"),
            _ => self.disputed(served).unwrap_or_else(|| self.retagged(&digests, served)),
        }
    }

    /// One witness alone convicts nobody. But if what is in question is what it saw, it is not alone any more.
    fn disputed(&self, served: Option<Digest>) -> Option<Judgement> {
        let (dissenter, agreed) = self.history.lone_dissenter()?;
        let (alone, others) = (dissenter.witness, self.history.words.len() - 1);
        let saw = |digest| dissenter.sightings.iter().any(|sighted| sighted.sighting.seen == Seen::Digest(digest));
        let reason = match served {
            Some(served) if served != agreed && saw(served) => return None,
            Some(served) if served != agreed => {
                let reason = format!("no witness has seen {served}; all but {alone} have only seen {agreed}");
                return Some(Judgement::fails(Verdict::Mismatch, reason));
            }
            _ => {
                format!("{alone} alone has sighted another digest than the {others} others, who only ever saw {agreed}")
            }
        };
        Some(Judgement::fails(Verdict::Disputed, reason))
    }

    fn retagged(&self, digests: &[Digest], served: Option<Digest>) -> Judgement {
        let now = match served {
            Some(served) if digests.contains(&served) => "the one in question among them",
            Some(_) => "and the one in question is yet another, which no witness has seen",
            None => "all of them on record",
        };
        let expected = match self.demands.expectation {
            Expectation::Immutable => "; it is expected never to move",
            _ => "",
        };
        let reason = format!("this tag has pointed to {} different digests, {now}{expected}", digests.len());
        Judgement {
            moves: self.history.moves(),
            otherwise: Some(Box::new(self.moving(served))),
            ..Judgement::fails(Verdict::Retagged, reason)
        }
    }

    /// A tag that may move.
    fn moving(&self, served: Option<Digest>) -> Judgement {
        let enough = self.demands.agree;
        let Some(newest) = self.history.newest(enough) else { return self.no_newest(served) };
        match served.filter(|served| *served != newest) {
            None => self.vouched(newest, Verdict::Moving, "the newest digest of a tag that may move"),
            Some(served) if !self.history.digests().contains(&served) => {
                Judgement::fails(Verdict::Mismatch, format!("no witness has seen {served}; the newest is {newest}"))
            }
            Some(served) => self.older(served, newest),
        }
    }

    /// There is no digest that enough witnesses see last.
    fn no_newest(&self, served: Option<Digest>) -> Judgement {
        let enough = self.demands.agree;
        if let Some(served) = served.filter(|served| !self.history.digests().contains(served)) {
            return Judgement::fails(Verdict::Mismatch, format!("no witness has seen {served}"));
        }
        if !self.history.vouching().any(|word| word.seen != Seen::Gone) {
            return self.nobody_vouches();
        }
        let reason = format!("no digest is what at least {enough} of the witnesses see last");
        Judgement::fails(Verdict::New, reason)
    }

    /// A digest that was sighted, and is not the newest that enough witnesses see.
    fn older(&self, served: Digest, newest: Digest) -> Judgement {
        let sees = |digest: Digest| move |word: &&Word| word.seen == Seen::Digest(digest);
        let last_sighting = |digest| self.history.vouching().filter(sees(digest)).filter_map(index_of_last).max();
        let enough = self.demands.agree;
        let agree = self.history.vouching().filter(sees(served)).count();
        if agree > 0 && agree < enough && last_sighting(served) > last_sighting(newest) {
            let reason =
                format!("{agree} of the {enough} witnesses asked for have sighted {served}, the others {newest}");
            return Judgement::fails(Verdict::New, reason);
        }
        if let Some(alone) = self.stands_alone(served, newest) {
            let reason = format!("{alone} alone has sighted {newest}; {agree} others have seen {served} since then");
            return Judgement::fails(Verdict::Disputed, reason);
        }
        Judgement::fails(Verdict::Behind, format!("{served} is an older digest, the newest is {newest}"))
    }

    /// The one witness that sees the newest digest, if two others at least have looked after it, and still see the one
    /// in question.
    fn stands_alone(&self, served: Digest, newest: Digest) -> Option<&WitnessId> {
        let mut see_newest = self.history.words.iter().filter(|word| word.seen == Seen::Digest(newest));
        let (Some(alone), None) = (see_newest.next(), see_newest.next()) else { return None };
        let since = alone.sightings.last()?.observed;
        let contradicts = |word: &&Word| word.seen == Seen::Digest(served) && word.vouched > since;
        (self.history.vouching().filter(contradicts).count() >= 2).then_some(alone.witness)
    }

    fn nobody_vouches(&self) -> Judgement {
        let reason = match self.history.vouching().next() {
            None => "only witnesses that have left the log's roster vouch for it",
            Some(_) => "the witnesses last saw the tag gone, and have not seen it back",
        };
        Judgement::fails(Verdict::Stale, reason)
    }

    fn is_fresh(&self, word: &Word) -> bool {
        word.vouched.unix() >= self.now.unix().saturating_sub_unsigned(self.demands.freshness.as_secs())
    }

    /// Counts the witnesses whose latest word is `digest`, how fresh it is, and how long they have known it.
    fn vouched(&self, digest: Digest, verdict: Verdict, why: &str) -> Judgement {
        let (enough, asked) = (self.demands.agree, self.history.asked);
        let agrees = |word: &&Word| word.seen == Seen::Digest(digest);
        let agree: Vec<&Word> = self.history.vouching().filter(agrees).collect();
        if agree.is_empty() && self.history.words.iter().any(|word| agrees(&word)) {
            let reason = format!("only witnesses that have left the log's roster vouch for {digest}");
            return Judgement::fails(Verdict::Stale, reason);
        }
        if agree.is_empty() {
            return self.nobody_vouches();
        }
        if agree.len() < enough {
            let reason = format!("{} of the {enough} witnesses asked for have sighted {digest}", agree.len());
            return Judgement::fails(Verdict::New, reason);
        }
        let fresh = agree.iter().filter(|word| self.is_fresh(word)).count();
        if fresh < enough {
            let last = agree.iter().map(|word| word.vouched).max();
            let last = last.map(|time| time.to_string()).unwrap_or_default();
            let reason = format!("witnesses last vouched for {digest} at {last}, which is too long ago");
            return Judgement::fails(Verdict::Stale, reason);
        }
        let age = self.age(digest);
        let of = if asked == fresh { String::new() } else { format!(" of {asked}") };
        let vouch = if fresh == 1 && asked == 1 { "witness vouches" } else { "witnesses vouch" };
        let vouch = format!("{fresh}{of} {vouch} for it");
        let seen = format!("first seen {} ago", in_words(age));
        let limit = self.demands.min_age.unwrap_or(if verdict == Verdict::Moving { Duration::ZERO } else { WARN_AGE });
        if age >= limit.as_secs() {
            return Judgement::passes(verdict, digest, format!("{vouch}, {why}; {seen}"));
        }
        match self.demands.min_age {
            Some(min_age) => {
                let min_age = in_words(min_age.as_secs());
                Judgement::fails(Verdict::New, format!("{vouch}, but it was {seen}, and policy asks for {min_age}"))
            }
            None => Judgement {
                warning: true,
                ..Judgement::passes(Verdict::New, digest, format!("{vouch}, but it was {seen}: it has no history yet"))
            },
        }
    }

    /// How long ago enough witnesses had first seen this digest, in seconds.
    fn age(&self, digest: Digest) -> u64 {
        let first = self.history.first_seen(digest, self.demands.agree).unwrap_or(self.now);
        u64::try_from(self.now.unix().saturating_sub(first.unix())).unwrap_or(0)
    }
}

fn index_of_last(word: &Word) -> Option<u64> {
    word.sightings.last().map(|last| last.sighting.index)
}
