//! From a verification to what is said of each image.

use taglog_proto::{name::Image, tag_proof::ImageReport};

use super::item::{Item, Level};
use crate::commands::output;
use taglog_policy::{Judgement, Verdict};
use taglog_verify::{Answer, LogAnswer, Unanswered, Untagged, Verification};

/// Sightings that a report lists: the newest.
const SIGHTINGS: usize = 20;
/// The most notes on one image.
const NOTES: usize = 5;

/// One item for each image, in the order of the table: answers, then what could not be told, then what has no tag. A log
/// that misbehaves is told of even where no image is known.
pub fn items(verification: &Verification) -> Vec<Item> {
    let answers = verification.answers.iter().map(answer);
    let alarm = verification.misbehaviour.iter().filter(|_| verification.answers.is_empty()).map(|said| alarm(said));
    let unanswered = verification.unanswered.iter().map(unanswered);
    let left_out = verification.left_out.iter().map(Item::left_out);
    let untagged = verification.untagged.iter().map(untagged);
    answers.chain(alarm).chain(unanswered).chain(left_out).chain(untagged).collect()
}

fn answer(answer: &Answer) -> Item {
    Item {
        rule: answer.judgement.verdict.name(),
        level: level(answer),
        image: answer.question.image.to_string(),
        digest: answer.digest(),
        places: answer.question.places.clone(),
        message: answer.judgement.reason.clone(),
        details: details(answer),
    }
}

fn level(answer: &Answer) -> Level {
    let judgement = &answer.judgement;
    match (judgement.passes, answer.passes()) {
        (true, _) if judgement.warning => Level::Warning,
        (true, _) => Level::Pass,
        (false, true) => Level::Ignored,
        (false, false) => Level::Failure,
    }
}

/// Why it is ignored comes first: formats that know of ignoring show it as the reason.
fn details(answer: &Answer) -> Vec<String> {
    let Answer { question, logged, served, judgement, ignored, .. } = answer;
    let ignored = ignored.as_ref().map(|ignore| format!("ignored until {}: {}", ignore.until, ignore.reason));
    let mut details: Vec<String> = ignored.into_iter().collect();
    details.extend(notes(judgement));
    if *logged != question.image {
        details.push(format!("logged as {logged}"));
    }
    if !judgement.passes {
        details.extend(served.map(|digest| format!("now {digest}")));
        details.extend(histories(answer));
    }
    details
}

/// What the reason has not told already; of much, the beginning.
fn notes(judgement: &Judgement) -> Vec<String> {
    // A note on a move begins with its time.
    let told = |note: &&String| note.split_once(": ").is_some_and(|(_, said)| judgement.reason.contains(said));
    let mut notes: Vec<String> = judgement.notes.iter().filter(|note| !told(note)).cloned().collect();
    let more = notes.len().saturating_sub(NOTES);
    notes.truncate(NOTES);
    notes.extend((more > 0).then(|| format!("and {more} more notes: --output json has all")));
    notes
}

/// What the tag has been, in each log; where there are several, which one is told. Where a log misbehaves nothing is
/// told: nothing is known.
fn histories(answer: &Answer) -> Vec<String> {
    let several = answer.logs.len() > 1;
    let one = |log: &LogAnswer| {
        let heading = several.then(|| format!("in {}: {}", log.log, log.judgement.verdict));
        let history = log.report.as_ref().map(|report| history(report, &answer.logged));
        heading.into_iter().chain(history.into_iter().flatten()).collect::<Vec<_>>()
    };
    answer.logs.iter().flat_map(one).collect()
}

fn history(report: &ImageReport, logged: &Image) -> Vec<String> {
    let history = output::history_lines(report, "");
    let lines: Vec<String> = history.lines().map(str::to_owned).collect();
    let earlier = lines.len().saturating_sub(SIGHTINGS);
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

fn unanswered(unanswered: &Unanswered) -> Item {
    Item {
        rule: "unanswered",
        level: Level::Problem,
        image: unanswered.what.clone(),
        digest: None,
        places: unanswered.places.clone(),
        message: unanswered.problem.clone(),
        details: Vec::new(),
    }
}

fn untagged(untagged: &Untagged) -> Item {
    Item {
        rule: "untagged",
        level: Level::Pass,
        image: untagged.what.clone(),
        digest: None,
        places: untagged.places.clone(),
        message: "names no tag: a digest alone cannot be retagged, there is nothing to check".to_owned(),
        details: Vec::new(),
    }
}
