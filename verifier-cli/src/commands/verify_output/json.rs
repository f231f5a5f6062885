//! The answer as JSON, `taglog/verify@v1`: one document on one line, described by `schemas/verify.schema.json`.

use serde_json::{Value, json};
use taglog_proto::time::Timestamp;

use super::{
    item::{Item, Level},
    totals::Totals,
};
use crate::commands::{
    context::{exit, exit_code},
    output,
};
use taglog_image_sources::{LeftOut, Place};
use taglog_policy::{Demands, Ignore};
use taglog_verify::{Answer, LogAnswer, Unanswered, Untagged, Verification};

/// What this document is. A change that breaks a reader comes with another number.
const SCHEMA: &str = "taglog/verify@v1";

/// The whole document.
pub fn render(verification: &Verification, items: &[Item], now: Timestamp) -> String {
    let Verification { answers, unanswered, left_out, untagged, looked, misbehaviour, .. } = verification;
    let problems = items.iter().filter(|item| item.level == Level::Problem).map(Item::headline_with_places);
    let logs = looked.iter().filter_map(|looked| looked.oldest()).map(|part| output::log_json(part, now));
    let document = json!({
        "schema": SCHEMA,
        "passes": exit_code(verification.conclusion()) == exit::OK,
        "exit": exit_code(verification.conclusion()),
        "totals": Totals::of(items),
        "logs": logs.collect::<Vec<_>>(),
        "images": answers.iter().map(image).collect::<Vec<_>>(),
        "unanswered": unanswered.iter().map(unanswered_json).collect::<Vec<_>>(),
        "leftOut": left_out.iter().map(left_out_json).collect::<Vec<_>>(),
        "untagged": untagged.iter().map(untagged_json).collect::<Vec<_>>(),
        "misbehaviour": misbehaviour,
        "errors": misbehaviour.iter().cloned().chain(problems).collect::<Vec<_>>(),
    });
    format!("{document}\n")
}

fn image(answer: &Answer) -> Value {
    let Answer { question, logged, served, judgement, ignored, demands, logs } = answer;
    json!({
        "image": question.image.to_string(),
        "logged": logged.to_string(),
        "places": places(&question.places),
        "verdict": judgement.verdict,
        "passes": answer.passes(),
        "warning": judgement.warning,
        "reason": judgement.reason,
        "notes": judgement.notes,
        "served": served.map(|digest| digest.to_string()),
        "digest": answer.digest().map(|digest| digest.to_string()),
        "ignored": ignored.as_ref().map(ignored_json),
        "demands": demands_json(demands),
        "logs": logs.iter().map(log_answer_json).collect::<Vec<_>>(),
    })
}

fn log_answer_json(answer: &LogAnswer) -> Value {
    let LogAnswer { log, judgement, report } = answer;
    output::log_answer_json(log, judgement, report.as_ref())
}

fn places(places: &[Place]) -> Vec<Value> {
    places.iter().map(|place| json!({ "file": place.file, "line": place.line })).collect()
}

fn ignored_json(ignored: &Ignore) -> Value {
    json!({ "reason": ignored.reason, "until": ignored.until.to_string() })
}

fn demands_json(demands: &Demands) -> Value {
    json!({
        "expect": demands.expectation,
        "agree": demands.agree,
        "minAgeSeconds": demands.min_age.map(|age| age.as_secs()),
        "maxAgeSeconds": demands.max_age.as_secs(),
        "freshnessSeconds": demands.freshness.as_secs(),
        "trusted": demands.trusted.iter().map(output::trusted_json).collect::<Vec<_>>(),
        "because": demands.because,
    })
}

fn unanswered_json(unanswered: &Unanswered) -> Value {
    json!({ "image": unanswered.what, "places": places(&unanswered.places), "problem": unanswered.problem })
}

fn left_out_json(left_out: &LeftOut) -> Value {
    json!({ "file": left_out.place.file, "line": left_out.place.line, "reason": left_out.reason })
}

fn untagged_json(untagged: &Untagged) -> Value {
    json!({ "image": untagged.what, "places": places(&untagged.places) })
}
