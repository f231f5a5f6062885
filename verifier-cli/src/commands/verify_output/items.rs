//! Turns a verification into report items.

use taglog_proto::{name::Image, tag_proof::ImageReport};

use super::{
    item::{Item, Level},
    rules,
};
use crate::commands::output;
use taglog_policy::{Evaluation, Ignore, Verdict};
use taglog_verify::{ImageResult, LogEvaluation, UnresolvedImage, UntaggedImage, Verification};

/// The most sightings in an item, the newest ones.
const MAX_SIGHTINGS: usize = 20;
/// The most notes in an item.
const MAX_NOTES: usize = 5;

/// One item for each image: results, then images without a verdict, then images without a tag, then what is excluded. The alarm about a
/// misbehaving log is an item of its own if there are no results.
pub fn items(verification: &Verification) -> Vec<Item> {
    let results = verification.results.iter().map(result);
    let alarm = verification.misbehaviour.iter().filter(|_| verification.results.is_empty()).map(|said| alarm(said));
    let unresolved = verification.unresolved.iter().map(unresolved);
    let left_out = verification.left_out.iter().map(Item::left_out);
    let untagged = verification.untagged.iter().map(untagged);
    let excluded = verification.excluded.iter().map(Item::excluded);
    results.chain(alarm).chain(unresolved).chain(left_out).chain(untagged).chain(excluded).collect()
}

fn result(result: &ImageResult) -> Item {
    Item {
        rule: result.evaluation.verdict.name(),
        level: level(result),
        image: result.query.image.to_string(),
        digest: result.digest(),
        places: result.query.places.clone(),
        message: result.evaluation.reason.clone(),
        details: details(result),
    }
}

fn level(result: &ImageResult) -> Level {
    let evaluation = &result.evaluation;
    match (evaluation.passes, result.passes()) {
        (true, _) if evaluation.warning => Level::Warning,
        (true, _) => Level::Pass,
        (false, true) => Level::Ignored,
        (false, false) => Level::Failure,
    }
}

/// The reason of an `ignore` comes first: SARIF shows it as the justification.
fn details(result: &ImageResult) -> Vec<String> {
    let ImageResult { query, logged, served, evaluation, ignored, .. } = result;
    let ignored = ignored.as_ref().map(ignored_until);
    let mut details: Vec<String> = ignored.into_iter().collect();
    details.extend(notes(evaluation));
    if *logged != query.image {
        details.push(format!("logged as {logged}"));
    }
    if !evaluation.passes {
        details.extend(served.map(|digest| format!("now {digest}")));
        details.extend(histories(result));
    }
    details.extend(remedy(result));
    details
}

fn ignored_until(ignore: &Ignore) -> String {
    format!("ignored until {}: {}", ignore.until, ignore.reason)
}

/// The notes that the reason does not contain already, up to a limit.
fn notes(evaluation: &Evaluation) -> Vec<String> {
    // A note on a move begins with its time.
    let repeated = |note: &&String| note.split_once(": ").is_some_and(|(_, said)| evaluation.reason.contains(said));
    let mut notes: Vec<String> = evaluation.notes.iter().filter(|note| !repeated(note)).cloned().collect();
    let more = notes.len().saturating_sub(MAX_NOTES);
    notes.truncate(MAX_NOTES);
    notes.extend((more > 0).then(|| format!("and {more} more notes: see --output json")));
    notes
}

/// The history of the tag in each log, with the name of the log if there are several. Empty if a log misbehaves.
fn histories(result: &ImageResult) -> Vec<String> {
    let several = result.logs.len() > 1;
    let one = |log: &LogEvaluation| {
        let heading = several.then(|| format!("in {}: {}", log.log, log.evaluation.verdict));
        let history = log.report.as_ref().map(|report| history(report, &result.logged));
        heading.into_iter().chain(history.into_iter().flatten()).collect::<Vec<_>>()
    };
    result.logs.iter().flat_map(one).collect()
}

/// What to do about an image that does not pass.
fn remedy(result: &ImageResult) -> Option<String> {
    let rule = rules::rule_of(result.evaluation.verdict.name()).filter(|_| level(result) == Level::Failure)?;
    Some(format!("what to do: {}", rule.remedy))
}

fn history(report: &ImageReport, logged: &Image) -> Vec<String> {
    let history = output::history_lines(report, "");
    let lines: Vec<String> = history.lines().map(str::to_owned).collect();
    let earlier = lines.len().saturating_sub(MAX_SIGHTINGS);
    let note = (earlier > 0).then(|| format!("{earlier} earlier: taglog history {logged}"));
    note.into_iter().chain(lines.into_iter().skip(earlier)).collect()
}

fn alarm(alarm: &str) -> Item {
    Item {
        rule: Verdict::Misbehaved.name(),
        level: Level::Failure,
        image: String::new(),
        digest: None,
        places: Vec::new(),
        message: alarm.to_owned(),
        details: Vec::new(),
    }
}

fn unresolved(unresolved: &UnresolvedImage) -> Item {
    Item {
        rule: "unanswered",
        level: if unresolved.ignored.is_some() { Level::Ignored } else { Level::Problem },
        image: unresolved.image.clone(),
        digest: None,
        places: unresolved.places.clone(),
        message: unresolved.problem.clone(),
        details: unresolved.ignored.iter().map(ignored_until).collect(),
    }
}

fn untagged(untagged: &UntaggedImage) -> Item {
    Item {
        rule: "untagged",
        level: Level::Pass,
        image: untagged.image.clone(),
        digest: None,
        places: untagged.places.clone(),
        message: "names no tag: a digest alone cannot be retagged, there is nothing to check".to_owned(),
        details: Vec::new(),
    }
}
