//! Renders histories, evaluations and the state of a log, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use taglog_proto::{entry::Seen, name::WitnessId, policy::Quorate, tag_proof::ImageReport, time::Timestamp};

use taglog_base::{duration::in_words, text::one_line};
use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::{Evaluation, Move, TrustedWitness};

/// One sighting of an image.
pub struct SightingEvent<'a> {
    /// The log index of the observation.
    pub index: u64,
    pub observed: Timestamp,
    pub seen: Seen,
    pub witness: &'a WitnessId,
    /// Whether the witness had seen the same digest before, and another one in between.
    pub rollback: bool,
}

/// All sightings of an image in the order of the log, newest last.
pub fn events(report: &ImageReport) -> Vec<SightingEvent<'_>> {
    let mut events = Vec::new();
    for witness in &report.witnesses {
        let mut before: Vec<Seen> = Vec::new();
        for sighted in &witness.sightings {
            let seen = sighted.sighting.seen;
            // A tag that disappeared and came back unchanged is not rolled back.
            let rollback = before.contains(&seen) && before.last() != Some(&seen);
            if seen != Seen::Gone {
                before.push(seen);
            }
            let (index, observed) = (sighted.sighting.index, sighted.observed);
            events.push(SightingEvent { index, observed, seen, witness: &witness.line.witness, rollback });
        }
    }
    events.sort_by_key(|event| event.index);
    events
}

/// The history as lines of text.
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

/// The evaluation of an image in one log, as JSON.
pub fn log_evaluation_json(log: &str, evaluation: &Evaluation, report: Option<&ImageReport>) -> Value {
    json!({
        "log": log,
        "verdict": evaluation.verdict,
        "passes": evaluation.passes,
        "warning": evaluation.warning,
        "reason": evaluation.reason,
        "notes": evaluation.notes,
        "moves": evaluation.moves.iter().map(move_json).collect::<Vec<_>>(),
        "history": report.map(history_json),
    })
}

fn move_json(moved: &Move) -> Value {
    json!({
        "from": moved.from.to_string(),
        "to": moved.to.to_string(),
        "at": moved.at.to_string(),
        "withinRelease": moved.within_release,
    })
}

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

/// A trusted witness as JSON, with the index until which it counts, for all logs or for each.
pub fn trusted_json(trusted: &TrustedWitness) -> Value {
    let anywhere = trusted.until.filter(|_| trusted.until_in.is_empty());
    json!({ "witness": trusted.id.to_string(), "until": anywhere, "untilIn": trusted.until_in })
}

/// The checkpoint of a look-up, as JSON.
pub fn log_json(part: &CosignedLookup, now: Timestamp) -> Value {
    let CosignedLookup { lookup, cosigned } = part;
    json!({
        "origin": lookup.checkpoint.origin,
        "size": lookup.checkpoint.size,
        "sealed": lookup.seal.time.to_string(),
        "cosignatures": cosignatures_json(cosigned),
        "freshAsOf": part.time().to_string(),
        "ageSeconds": now.unix() - part.time().unix(),
        "tags": lookup.seal.tags,
    })
}

/// The cosigners and times, as JSON.
pub fn cosignatures_json(cosigned: &Quorate) -> Vec<Value> {
    let row = |(name, time): &(String, Timestamp)| json!({ "cosigner": name, "time": time.to_string() });
    cosigned.cosignatures.iter().map(row).collect()
}

/// The state of the log that an answer refers to, and its cosignatures, as lines of text.
pub fn log_lines(part: &CosignedLookup, now: Timestamp) -> String {
    let CosignedLookup { lookup, cosigned } = part;
    let (checkpoint, sealed) = (&lookup.checkpoint, lookup.seal.time);
    let log = format!("log {} at {} entries, sealed {sealed}", checkpoint.origin, checkpoint.size);
    match cosigned.fresh {
        Some(fresh) => format!("{log}\n{}quorum as of {fresh} ({})\n", cosigned_lines(cosigned), age(fresh, now)),
        None => format!("{log} ({})\n{}", age(sealed, now), cosigned_lines(cosigned)),
    }
}

/// Who cosigned and when, as lines of text.
pub fn cosigned_lines(cosigned: &Quorate) -> String {
    let good = cosigned.cosignatures.iter().map(|(name, time)| format!("cosigned by {} at {time}\n", one_line(name)));
    let faulty = cosigned.faulty.iter().map(|name| format!("a cosignature of {} does not verify\n", one_line(name)));
    good.chain(faulty).collect()
}

/// An age as text: `3 s old`, `5 min old`, `2 h old`, `4 days old`.
pub fn age(from: Timestamp, now: Timestamp) -> String {
    let seconds = now.unix().saturating_sub(from.unix());
    match u64::try_from(seconds) {
        Ok(seconds) => format!("{} old", in_words(seconds)),
        Err(_) => format!("{} s in the future", seconds.unsigned_abs()),
    }
}
