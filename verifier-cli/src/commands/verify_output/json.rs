//! The verification as JSON, `taglog/verify@v1`: one document on one line, described by `schemas/verify.schema.json`.

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
use taglog_image_sources::{Excluded, LeftOut, Place};
use taglog_policy::{Demands, Ignore};
use taglog_verify::{ImageResult, LogEvaluation, UnresolvedImage, UntaggedImage, Verification};

/// The schema of the document. An incompatible change gets another number.
const SCHEMA: &str = "taglog/verify@v1";

pub fn render(verification: &Verification, items: &[Item], now: Timestamp) -> String {
    let Verification { results, unresolved, left_out, excluded, untagged, lookups, misbehaviour, .. } = verification;
    let problems = items.iter().filter(|item| item.level == Level::Problem).map(Item::headline_with_places);
    let logs = lookups.iter().filter_map(|lookup| lookup.oldest()).map(|part| output::log_json(part, now));
    let document = json!({
        "schema": SCHEMA,
        "passes": exit_code(verification.conclusion()) == exit::OK,
        "exit": exit_code(verification.conclusion()),
        "totals": Totals::of(items),
        "logs": logs.collect::<Vec<_>>(),
        "images": results.iter().map(image).collect::<Vec<_>>(),
        "unanswered": unresolved.iter().map(unresolved_json).collect::<Vec<_>>(),
        "leftOut": left_out.iter().map(left_out_json).collect::<Vec<_>>(),
        "excluded": excluded.iter().map(excluded_json).collect::<Vec<_>>(),
        "untagged": untagged.iter().map(untagged_json).collect::<Vec<_>>(),
        "misbehaviour": misbehaviour,
        "errors": misbehaviour.iter().cloned().chain(problems).collect::<Vec<_>>(),
    });
    format!("{document}\n")
}

fn image(result: &ImageResult) -> Value {
    let ImageResult { query, logged, served, evaluation, ignored, demands, logs } = result;
    json!({
        "image": query.image.to_string(),
        "logged": logged.to_string(),
        "places": places(&query.places),
        "verdict": evaluation.verdict,
        "passes": result.passes(),
        "warning": evaluation.warning,
        "reason": evaluation.reason,
        "notes": evaluation.notes,
        "served": served.map(|digest| digest.to_string()),
        "digest": result.digest().map(|digest| digest.to_string()),
        "ignored": ignored.as_ref().map(ignored_json),
        "demands": demands_json(demands),
        "logs": logs.iter().map(log_evaluation_json).collect::<Vec<_>>(),
    })
}

fn log_evaluation_json(result: &LogEvaluation) -> Value {
    let LogEvaluation { log, evaluation, report } = result;
    output::log_evaluation_json(log, evaluation, report.as_ref())
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

fn unresolved_json(unresolved: &UnresolvedImage) -> Value {
    json!({
        "image": unresolved.image,
        "places": places(&unresolved.places),
        "problem": unresolved.problem,
        "ignored": unresolved.ignored.as_ref().map(ignored_json),
    })
}

fn left_out_json(left_out: &LeftOut) -> Value {
    json!({ "file": left_out.place.file, "line": left_out.place.line, "reason": left_out.reason })
}

/// What is deliberately not checked in a file.
pub fn excluded_json(excluded: &Excluded) -> Value {
    let Excluded { place, what, reason } = excluded;
    json!({ "file": place.file, "line": place.line, "what": what, "reason": reason })
}

fn untagged_json(untagged: &UntaggedImage) -> Value {
    json!({ "image": untagged.image, "places": places(&untagged.places) })
}
