//! Decides for each image which digest to write, or why none.

use std::collections::{BTreeMap, BTreeSet};

use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
    time::Timestamp,
};

use taglog_policy::{Demands, EvaluationInput, Expectation, Ignore, Verdict, WARN_AGE, newest_settled};
use taglog_verify::{ImageQuery, ImageResult, UnresolvedImage, Verification, Verifier, VerifyError};

/// What to do with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// Write digests for the images that have none.
    Pin,
    /// Write nothing; check that every image is pinned and every pin still verifies.
    Check,
    /// As [`PinMode::Pin`], and write newer digests for pinned images whose tags may move.
    Update,
}

/// An image as files name it, with its digest if it has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedImage {
    pub image: Image,
    /// The digest in the file.
    pub pin: Option<Digest>,
}

/// What to do with one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinAction {
    /// Write this digest.
    Write(Digest),
    /// Keep the pin.
    Keep,
    /// The image is not pinned; only with [`PinMode::Check`].
    Unpinned,
    /// Policy ignores the image for now: it passes, but its digest does not verify and is not written.
    Ignored,
    /// The image does not verify. Then no file is changed.
    Refused,
    /// The registry gave no digest. Then no file is changed.
    Unresolved,
}

/// What to do with one image, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDecision {
    pub action: PinAction,
    /// The verdict on the digest; `None` if nothing was verified.
    pub verdict: Option<Verdict>,
    /// Why, in one sentence; may be empty.
    pub reason: String,
    /// Further facts, one line each.
    pub notes: Vec<String>,
}

impl PinDecision {
    fn new(action: PinAction, result: &ImageResult) -> PinDecision {
        let evaluation = &result.evaluation;
        let ignored = result.ignored.iter().map(ignored_note);
        PinDecision {
            action,
            verdict: Some(evaluation.verdict),
            reason: evaluation.reason.clone(),
            notes: evaluation.notes.iter().cloned().chain(ignored).collect(),
        }
    }

    fn with_note(mut self, note: impl Into<String>) -> PinDecision {
        self.notes.insert(0, note.into());
        self
    }

    fn without_verdict(action: PinAction, reason: impl Into<String>) -> PinDecision {
        PinDecision { action, verdict: None, reason: reason.into(), notes: Vec::new() }
    }

    /// Policy makes an exception for an image that was not verified.
    fn ignored(ignore: &Ignore, reason: impl Into<String>) -> PinDecision {
        PinDecision { notes: vec![ignored_note(ignore)], ..PinDecision::without_verdict(PinAction::Ignored, reason) }
    }
}

fn ignored_note(ignore: &Ignore) -> String {
    format!("ignored until {}: {}", ignore.until, ignore.reason)
}

/// The decisions for all images.
#[derive(Debug, Default)]
pub struct PinDecisions {
    pub by_image: BTreeMap<NamedImage, PinDecision>,
    /// What each misbehaving log did, and where the evidence is kept.
    pub misbehaviour: Vec<String>,
}

/// Decides about all images with one look-up in each log. A second look-up verifies digests that are older than the
/// ones that the registries serve.
pub async fn decide(
    verifier: &Verifier,
    mode: PinMode,
    named: &BTreeSet<NamedImage>,
) -> Result<PinDecisions, VerifyError> {
    let queries = named.iter().flat_map(|named| queries(mode, named)).collect();
    let results = ResultsByQuery::new(verifier.verify(distinct(queries)).await?);
    let mut decisions = PinDecisions { by_image: BTreeMap::new(), misbehaviour: results.misbehaviour.clone() };
    let mut to_verify = Vec::new();
    for named in named {
        let ignored = verifier.ignored(&named.image);
        match first_step(mode, named, ignored, &results) {
            NextStep::Decided(decision) => drop(decisions.by_image.insert(named.clone(), decision)),
            NextStep::Verify(candidate) => to_verify.push((named, candidate)),
        }
    }
    let query = |(named, candidate): &(&NamedImage, Digest)| query(&named.image, Some(*candidate));
    let candidates = ResultsByQuery::new(verifier.verify(distinct(to_verify.iter().map(query).collect())).await?);
    for (named, candidate) in to_verify {
        let decision = decide_candidate(candidate, named, &results, &candidates);
        decisions.by_image.insert(named.clone(), decision);
    }
    decisions.misbehaviour.extend(candidates.misbehaviour);
    Ok(decisions)
}

fn query(image: &Image, digest: Option<Digest>) -> ImageQuery {
    ImageQuery { image: image.clone(), digest, places: Vec::new() }
}

/// Registries are asked only about images without a digest, and images that may get a new one.
fn queries(mode: PinMode, named: &NamedImage) -> Vec<ImageQuery> {
    let served = || query(&named.image, None);
    let pinned = named.pin.map(|pin| query(&named.image, Some(pin)));
    match (mode, pinned) {
        (PinMode::Check, pinned) => pinned.into_iter().collect(),
        (PinMode::Pin, Some(pinned)) => vec![pinned],
        (PinMode::Update, Some(pinned)) => vec![pinned, served()],
        (_, None) => vec![served()],
    }
}

fn distinct(mut queries: Vec<ImageQuery>) -> Vec<ImageQuery> {
    let mut seen = BTreeSet::new();
    queries.retain(|query| seen.insert((query.image.clone(), query.digest)));
    queries
}

/// The results of a verification by image and digest.
struct ResultsByQuery {
    results: BTreeMap<(Image, Option<Digest>), ImageResult>,
    unresolved: BTreeMap<String, UnresolvedImage>,
    misbehaviour: Vec<String>,
}

impl ResultsByQuery {
    fn new(verification: Verification) -> ResultsByQuery {
        let Verification { results, unresolved, misbehaviour, .. } = verification;
        let key = |result: &ImageResult| (result.query.image.clone(), result.query.digest);
        ResultsByQuery {
            results: results.into_iter().map(|result| (key(&result), result)).collect(),
            unresolved: unresolved.into_iter().map(|unresolved| (unresolved.image.clone(), unresolved)).collect(),
            misbehaviour,
        }
    }

    fn of(&self, image: &Image, digest: Option<Digest>) -> Result<&ImageResult, PinDecision> {
        self.results.get(&(image.clone(), digest)).ok_or_else(|| match self.unresolved.get(&image.to_string()) {
            Some(UnresolvedImage { problem, ignored: Some(ignore), .. }) => PinDecision::ignored(ignore, problem),
            Some(UnresolvedImage { problem, .. }) => PinDecision::without_verdict(PinAction::Unresolved, problem),
            None => PinDecision::without_verdict(PinAction::Unresolved, "it was not verified"),
        })
    }
}

enum NextStep {
    Decided(PinDecision),
    /// Write this digest, if it verifies.
    Verify(Digest),
}

fn first_step(mode: PinMode, named: &NamedImage, ignored: Option<Ignore>, results: &ResultsByQuery) -> NextStep {
    let decided = match (mode, named.pin) {
        (PinMode::Check, None) => Ok(match ignored {
            Some(ignore) => PinDecision::ignored(&ignore, ""),
            None => PinDecision::without_verdict(PinAction::Unpinned, ""),
        }),
        (PinMode::Update, Some(pin)) => return decide_update(pin, named, results).unwrap_or_else(NextStep::Decided),
        (_, None) => results.of(&named.image, None).map(decide_unpinned),
        (_, Some(pin)) => results.of(&named.image, Some(pin)).map(keep_or_refuse),
    };
    NextStep::Decided(decided.unwrap_or_else(|unresolved| unresolved))
}

/// An image without a digest gets the one that passed.
fn decide_unpinned(result: &ImageResult) -> PinDecision {
    let evaluation = &result.evaluation;
    let action = match evaluation.digest.filter(|_| evaluation.passes) {
        Some(digest) => PinAction::Write(digest),
        None if result.passes() => PinAction::Ignored,
        None => PinAction::Refused,
    };
    PinDecision::new(action, result)
}

/// A pin is kept while it verifies. A tag that may move may have moved on since.
fn keep_or_refuse(result: &ImageResult) -> PinDecision {
    match result.evaluation.verdict {
        Verdict::Behind => {
            PinDecision::new(PinAction::Keep, result).with_note("a newer digest is available: run with --update")
        }
        _ if result.passes() => PinDecision::new(PinAction::Keep, result),
        _ => PinDecision::new(PinAction::Refused, result),
    }
}

/// Decides about a pin with `--update`.
fn decide_update(pin: Digest, named: &NamedImage, results: &ResultsByQuery) -> Result<NextStep, PinDecision> {
    let old = results.of(&named.image, Some(pin))?;
    let served = results.of(&named.image, None)?;
    if served.evaluation.verdict == Verdict::Approved {
        return Ok(NextStep::Decided(new_pin(pin, served)));
    }
    if old.logs.is_empty() || !may_move(&old.demands) {
        return Ok(NextStep::Decided(keep_or_refuse(old)));
    }
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let logs = in_each_log(old);
    let input = |(report, demands)| EvaluationInput { report, served: None, demands, approved: &[], now };
    let inputs: Vec<EvaluationInput> = logs.iter().map(|(report, demands)| (*report, demands)).map(input).collect();
    let newest = match newest_settled(&inputs, old.demands.min_age.unwrap_or(WARN_AGE)) {
        Ok(newest) => newest,
        Err(reason) => return Ok(NextStep::Decided(keep_or_refuse(old).with_note(format!("no update: {reason}")))),
    };
    if newest == pin || !is_later(newest, pin, old) {
        return Ok(NextStep::Decided(with_newer_note(keep_or_refuse(old), served, pin)));
    }
    if served.served == Some(newest) {
        Ok(NextStep::Decided(new_pin(pin, served)))
    } else {
        Ok(NextStep::Verify(newest))
    }
}

fn may_move(demands: &Demands) -> bool {
    matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds)
}

/// Notes why the registry's newer digest is not written.
fn with_newer_note(decision: PinDecision, served: &ImageResult, pin: Digest) -> PinDecision {
    match served.served.filter(|served| *served != pin) {
        Some(newer) => PinDecision {
            notes: vec![format!(
                "the registry serves {newer}, which has not settled yet: {}",
                served.evaluation.reason
            )],
            ..decision
        },
        None => decision,
    }
}

fn new_pin(pin: Digest, result: &ImageResult) -> PinDecision {
    match decide_unpinned(result) {
        PinDecision { action: PinAction::Write(digest), .. } if digest == pin => keep_or_refuse(result),
        decision => decision,
    }
}

/// Decides about the newest settled digest if it is not the one that the registry serves: it is written if it verifies,
/// or if it only fails because there is a newer one.
fn decide_candidate(
    candidate: Digest,
    named: &NamedImage,
    results: &ResultsByQuery,
    candidates: &ResultsByQuery,
) -> PinDecision {
    let result = match candidates.of(&named.image, Some(candidate)) {
        Ok(result) => result,
        Err(unresolved) => return unresolved,
    };
    if result.evaluation.passes || result.evaluation.verdict == Verdict::Behind {
        let decision = PinDecision::new(PinAction::Write(candidate), result);
        return match results.of(&named.image, None) {
            Ok(served) => with_newer_note(decision, served, candidate),
            Err(_) => decision,
        };
    }
    keep_or_refuse(result)
}

/// What each log has about an image, and what is demanded in it.
fn in_each_log(result: &ImageResult) -> Vec<(&ImageReport, Demands)> {
    let logs = result.logs.iter();
    logs.filter_map(|log| Some((log.report.as_ref()?, result.demands.in_log(&log.log)))).collect()
}

/// Whether trusted witnesses have sighted `newer` after they last sighted `older`, in every log that has it.
fn is_later(newer: Digest, older: Digest, result: &ImageResult) -> bool {
    let logs = in_each_log(result);
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
