//! What becomes of each image: the digest to write, or why there is none.

use std::collections::{BTreeMap, BTreeSet};

use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
    time::Timestamp,
};

use taglog_policy::{Case, Demands, Expectation, Verdict, WARN_AGE, settled};
use taglog_verify::{Answer, Question, Unanswered, Verification, Verifier, VerifyError};

/// What is wanted of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Digests for the images that have none.
    Pin,
    /// No change, but an answer: is everything pinned, and does every pin still verify?
    Check,
    /// As [`Mode::Pin`], and newer digests for pinned images whose tags may move.
    Update,
}

/// An image as files name it, with its digest if it has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The image.
    pub image: Image,
    /// The digest that is written after it.
    pub pin: Option<Digest>,
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This digest is to be written after it.
    Write(Digest),
    /// It is pinned and stays as it is.
    Keep,
    /// It is not pinned, and stays so.
    Unpinned,
    /// Policy ignores it for now: it passes, but nothing is written that does not verify.
    Ignored,
    /// It does not verify. Then nothing at all is written.
    Refused,
    /// Its registry could not be asked. Then nothing at all is written.
    Unanswered,
}

/// What becomes of an image, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub fate: Fate,
    /// What is thought of the digest in question.
    pub verdict: Option<Verdict>,
    /// Why, in one sentence; empty where there is nothing to say.
    pub reason: String,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Decision {
    fn new(fate: Fate, answer: &Answer) -> Decision {
        let judgement = &answer.judgement;
        let ignored = answer.ignored.iter().map(|ignore| format!("ignored until {}: {}", ignore.until, ignore.reason));
        Decision {
            fate,
            verdict: Some(judgement.verdict),
            reason: judgement.reason.clone(),
            notes: judgement.notes.iter().cloned().chain(ignored).collect(),
        }
    }

    fn with_note(mut self, note: impl Into<String>) -> Decision {
        self.notes.insert(0, note.into());
        self
    }

    fn unjudged(fate: Fate, reason: impl Into<String>) -> Decision {
        Decision { fate, verdict: None, reason: reason.into(), notes: Vec::new() }
    }
}

/// A decision for each image, and what logs did that misbehaved.
#[derive(Debug, Default)]
pub struct Decisions {
    /// By image.
    pub of: BTreeMap<Named, Decision>,
    /// What each log did that misbehaves, and where that is kept as evidence.
    pub misbehaviour: Vec<String>,
}

/// Decides about all images with one look-up in each log; with a second one only where a digest older than the one that the
/// registry serves is to be written, which then is verified like any other.
///
/// # Errors
/// [`VerifyError`].
pub async fn decide(verifier: &Verifier, mode: Mode, named: &BTreeSet<Named>) -> Result<Decisions, VerifyError> {
    let questions = named.iter().flat_map(|named| questions(mode, named)).collect();
    let heard = Heard::new(verifier.verify(distinct(questions)).await?);
    let mut decisions = Decisions { of: BTreeMap::new(), misbehaviour: heard.misbehaviour.clone() };
    let mut asked = Vec::new();
    for named in named {
        match first(mode, named, &heard) {
            Next::Decided(decision) => drop(decisions.of.insert(named.clone(), decision)),
            Next::Verify(candidate) => asked.push((named, candidate)),
        }
    }
    let question = |(named, candidate): &(&Named, Digest)| question(&named.image, Some(*candidate));
    let candidates = Heard::new(verifier.verify(distinct(asked.iter().map(question).collect())).await?);
    for (named, candidate) in asked {
        let decision = moved_to(candidate, named, &heard, &candidates);
        decisions.of.insert(named.clone(), decision);
    }
    decisions.misbehaviour.extend(candidates.misbehaviour);
    Ok(decisions)
}

fn question(image: &Image, digest: Option<Digest>) -> Question {
    Question { image: image.clone(), digest, places: Vec::new() }
}

/// The registry is asked for what has no digest, and for what may get a new one.
fn questions(mode: Mode, named: &Named) -> Vec<Question> {
    let served = || question(&named.image, None);
    let pinned = named.pin.map(|pin| question(&named.image, Some(pin)));
    match (mode, pinned) {
        (Mode::Check, pinned) => pinned.into_iter().collect(),
        (Mode::Pin, Some(pinned)) => vec![pinned],
        (Mode::Update, Some(pinned)) => vec![pinned, served()],
        (_, None) => vec![served()],
    }
}

fn distinct(mut questions: Vec<Question>) -> Vec<Question> {
    let mut seen = BTreeSet::new();
    questions.retain(|question| seen.insert((question.image.clone(), question.digest)));
    questions
}

/// What was answered, by what was asked.
struct Heard {
    answers: BTreeMap<(Image, Option<Digest>), Answer>,
    unanswered: BTreeMap<String, String>,
    misbehaviour: Vec<String>,
}

impl Heard {
    fn new(verification: Verification) -> Heard {
        let Verification { answers, unanswered, misbehaviour, .. } = verification;
        let key = |answer: &Answer| (answer.question.image.clone(), answer.question.digest);
        let problem = |Unanswered { what, problem, .. }: Unanswered| (what, problem);
        Heard {
            answers: answers.into_iter().map(|answer| (key(&answer), answer)).collect(),
            unanswered: unanswered.into_iter().map(problem).collect(),
            misbehaviour,
        }
    }

    fn of(&self, image: &Image, digest: Option<Digest>) -> Result<&Answer, Decision> {
        self.answers.get(&(image.clone(), digest)).ok_or_else(|| {
            let problem = self.unanswered.get(&image.to_string()).cloned();
            Decision::unjudged(Fate::Unanswered, problem.unwrap_or_else(|| "was not answered".to_owned()))
        })
    }
}

enum Next {
    Decided(Decision),
    /// This digest is to be written, if it verifies.
    Verify(Digest),
}

fn first(mode: Mode, named: &Named, heard: &Heard) -> Next {
    let decided = match (mode, named.pin) {
        (Mode::Check, None) => Ok(Decision::unjudged(Fate::Unpinned, "")),
        (Mode::Update, Some(pin)) => return updated(pin, named, heard).unwrap_or_else(Next::Decided),
        (_, None) => heard.of(&named.image, None).map(pinned),
        (_, Some(pin)) => heard.of(&named.image, Some(pin)).map(kept),
    };
    Next::Decided(decided.unwrap_or_else(|unanswered| unanswered))
}

/// An image without a digest gets the one that was verified.
fn pinned(answer: &Answer) -> Decision {
    let judgement = &answer.judgement;
    let fate = match judgement.digest.filter(|_| judgement.passes) {
        Some(digest) => Fate::Write(digest),
        None if answer.passes() => Fate::Ignored,
        None => Fate::Refused,
    };
    Decision::new(fate, answer)
}

/// A pin stays while it verifies. That a tag which may move has moved on is what pins are for.
fn kept(answer: &Answer) -> Decision {
    match answer.judgement.verdict {
        Verdict::Behind => Decision::new(Fate::Keep, answer).with_note("a newer digest can be had with --update"),
        _ if answer.passes() => Decision::new(Fate::Keep, answer),
        _ => Decision::new(Fate::Refused, answer),
    }
}

/// What `--update` makes of a pin.
fn updated(pin: Digest, named: &Named, heard: &Heard) -> Result<Next, Decision> {
    let old = heard.of(&named.image, Some(pin))?;
    let served = heard.of(&named.image, None)?;
    if served.judgement.verdict == Verdict::Approved {
        return Ok(Next::Decided(moved(pin, served)));
    }
    if old.logs.is_empty() || !may_move(&old.demands) {
        return Ok(Next::Decided(kept(old)));
    }
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let logs = in_each_log(old);
    let case = |(report, demands)| Case { report, served: None, demands, approved: &[], now };
    let cases: Vec<Case> = logs.iter().map(|(report, demands)| (*report, demands)).map(case).collect();
    let newest = match settled(&cases, old.demands.min_age.unwrap_or(WARN_AGE)) {
        Ok(newest) => newest,
        Err(reason) => return Ok(Next::Decided(kept(old).with_note(format!("no update: {reason}")))),
    };
    if newest == pin || !is_later(newest, pin, old) {
        return Ok(Next::Decided(settling(kept(old), served, pin)));
    }
    if served.served == Some(newest) { Ok(Next::Decided(moved(pin, served))) } else { Ok(Next::Verify(newest)) }
}

fn may_move(demands: &Demands) -> bool {
    matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds)
}

/// Says why a pin stays though the registry serves something else.
fn settling(decision: Decision, served: &Answer, pin: Digest) -> Decision {
    match served.served.filter(|served| *served != pin) {
        Some(newer) => Decision {
            notes: vec![format!("the registry serves {newer}, which has not settled yet: {}", served.judgement.reason)],
            ..decision
        },
        None => decision,
    }
}

fn moved(pin: Digest, answer: &Answer) -> Decision {
    match pinned(answer) {
        Decision { fate: Fate::Write(digest), .. } if digest == pin => kept(answer),
        decision => decision,
    }
}

/// The newest digest that has settled is not what the registry serves: it is written if it verifies, or if all that is
/// to be said against it is that a newer one exists.
fn moved_to(candidate: Digest, named: &Named, heard: &Heard, candidates: &Heard) -> Decision {
    let answer = match candidates.of(&named.image, Some(candidate)) {
        Ok(answer) => answer,
        Err(unanswered) => return unanswered,
    };
    if answer.judgement.passes || answer.judgement.verdict == Verdict::Behind {
        let decision = Decision::new(Fate::Write(candidate), answer);
        return match heard.of(&named.image, None) {
            Ok(served) => settling(decision, served, candidate),
            Err(_) => decision,
        };
    }
    kept(answer)
}

/// What each log holds of an image, and what is demanded there.
fn in_each_log(answer: &Answer) -> Vec<(&ImageReport, Demands)> {
    let logs = answer.logs.iter();
    logs.filter_map(|log| Some((log.report.as_ref()?, answer.demands.in_log(&log.log)))).collect()
}

/// Whether witnesses that count have sighted `newer` after they last sighted `older`, in every log that has it.
fn is_later(newer: Digest, older: Digest, answer: &Answer) -> bool {
    let logs = in_each_log(answer);
    let last = |digest: Digest| logs.iter().map(move |(report, demands)| last_sighting(digest, report, demands));
    let mut pairs = last(newer).zip(last(older)).filter(|(newer, _)| newer.is_some()).peekable();
    pairs.peek().is_some() && pairs.all(|(newer, older)| newer > older)
}

fn last_sighting(digest: Digest, report: &ImageReport, demands: &Demands) -> Option<u64> {
    let witnesses = report.witnesses.iter();
    let counted = witnesses.filter_map(|witness| Some((witness, demands.trusts(&witness.line.witness)?.until)));
    let sightings = counted.flat_map(|(witness, until)| {
        let counts = move |index: u64| until.is_none_or(|until| index < until);
        witness.sightings.iter().map(|sighted| &sighted.sighting).filter(move |sighting| counts(sighting.index))
    });
    sightings.filter(|sighting| sighting.seen == Seen::Digest(digest)).map(|sighting| sighting.index).max()
}
