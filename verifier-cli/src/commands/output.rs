//! How histories and verdicts are shown, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use taglog_proto::{
    entry::Seen,
    name::WitnessId,
    tag_proof::{ImageReport, VerifiedLookup},
    time::Timestamp,
};

use crate::policy::Judgement;

/// One sighting of an image, by whom and when.
pub struct Event<'a> {
    /// The log index of the observation.
    pub index: u64,
    /// When the witness looked.
    pub observed: Timestamp,
    /// What it saw.
    pub seen: Seen,
    /// Who.
    pub witness: &'a WitnessId,
    /// Whether this witness had seen the same before, and something else since: a rollback.
    pub rollback: bool,
}

/// All sightings of an image in the order of the log, newest last.
pub fn events(report: &ImageReport) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    for witness in &report.witnesses {
        let mut before: Vec<Seen> = Vec::new();
        for sighted in &witness.sightings {
            let seen = sighted.sighting.seen;
            // Gone and back unchanged is no rollback: only another digest in between makes it one.
            let rollback = before.contains(&seen) && before.last() != Some(&seen);
            if seen != Seen::Gone {
                before.push(seen);
            }
            let (index, observed) = (sighted.sighting.index, sighted.observed);
            events.push(Event { index, observed, seen, witness: &witness.line.witness, rollback });
        }
    }
    events.sort_by_key(|event| event.index);
    events
}

/// The history as lines for people.
pub fn history_lines(report: &ImageReport, indent: &str) -> String {
    let mut text = String::new();
    for event in events(report) {
        let rollback = if event.rollback { "  (rolled back to this)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{indent}{}  {}  {}  entry {}{rollback}",
            event.observed, event.seen, event.witness, event.index
        );
    }
    for witness in report.witnesses.iter().filter(|witness| !witness.complete) {
        let _ = writeln!(text, "{indent}(the list of {} is longer than what was fetched)", witness.line.witness);
    }
    text
}

/// The history as JSON.
pub fn history_json(report: &ImageReport) -> Value {
    let sightings: Vec<Value> = events(report)
        .iter()
        .map(|event| {
            json!({
                "index": event.index,
                "observed": event.observed.to_string(),
                "digest": event.seen.to_string(),
                "witness": event.witness.to_string(),
                "rollback": event.rollback,
            })
        })
        .collect();
    let witnesses: Vec<Value> = report
        .witnesses
        .iter()
        .map(|witness| {
            json!({
                "witness": witness.line.witness.to_string(),
                "inRoster": witness.in_roster,
                "observations": witness.line.observations,
                "sightings": witness.line.sightings,
                "complete": witness.complete,
                "latest": witness.line.seen.to_string(),
                "vouched": witness.vouched().to_string(),
            })
        })
        .collect();
    json!({ "sightings": sightings, "witnesses": witnesses })
}

/// What a verdict says, as JSON.
pub fn judgement_json(
    report: Option<&ImageReport>,
    image: &str,
    served: Option<String>,
    judgement: &Judgement,
) -> Value {
    json!({
        "image": image,
        "verdict": judgement.verdict,
        "passes": judgement.verdict.passes(),
        "reason": judgement.reason,
        "served": served,
        "digest": judgement.digest.map(|digest| digest.to_string()),
        "history": report.map(history_json),
    })
}

/// The state of the log that an answer refers to, as JSON.
pub fn log_json(lookup: &VerifiedLookup, now: Timestamp) -> Value {
    json!({
        "origin": lookup.checkpoint.origin,
        "size": lookup.checkpoint.size,
        "sealed": lookup.seal.time.to_string(),
        "ageSeconds": now.unix() - lookup.seal.time.unix(),
        "tags": lookup.seal.tags,
    })
}

/// An age in words: `3 s`, `5 min`, `2 h`, `4 days`.
pub fn age(from: Timestamp, now: Timestamp) -> String {
    match now.unix() - from.unix() {
        seconds @ ..0 => format!("{} s in the future", -seconds),
        seconds @ 0..120 => format!("{seconds} s old"),
        seconds @ 120..7200 => format!("{} min old", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h old", seconds / 3600),
        seconds => format!("{} days old", seconds / 86_400),
    }
}
