//! SARIF 2.1.0 (OASIS), for code scanning. Images that pass without a warning are only counted.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    item::{Item, Level, clean},
    rules::{self, RULES, ReportRule},
    totals::Totals,
};
use taglog_image_sources::Place;

/// All but the unreserved characters of RFC 3986 and the slash.
const NOT_IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The document, on one line.
pub fn render(items: &[Item], totals: &Totals, exit: u8) -> String {
    let shown = items.iter().filter(|item| !matches!(item.level, Level::Pass | Level::Problem));
    let problems = items.iter().filter(|item| item.level == Level::Problem);
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "taglog",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": exit < 2,
                "exitCode": exit,
                "toolExecutionNotifications": problems.flat_map(notifications).collect::<Vec<_>>(),
            }],
            "results": shown.flat_map(results).collect::<Vec<_>>(),
            "properties": { "totals": totals },
        }],
    });
    format!("{log}\n")
}

fn rule(rule: &ReportRule) -> Value {
    json!({
        "id": rules::id(rule.name),
        "name": pascal_case(rule.name),
        "shortDescription": { "text": rule.short },
        "fullDescription": { "text": rule.meaning },
        "help": { "text": format!("{} What to do: {}", rule.meaning, rule.remedy) },
        "properties": { "tags": ["security", "supply-chain"], "security-severity": rule.severity },
    })
}

fn pascal_case(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(word).collect()
}

/// One result for each place: viewers show the first location of a result alone.
fn results(item: &Item) -> Vec<Value> {
    everywhere(item).map(|place| result(item, place)).collect()
}

fn result(item: &Item, place: Option<&Place>) -> Value {
    let mut result = json!({
        "ruleId": rules::id(item.rule),
        "level": level(item.level),
        "message": { "text": escape(&item.text()) },
        "locations": [location(item, place)],
        "partialFingerprints": { "taglogImage/v1": item.fingerprint(place) },
    });
    if let Some(index) = rules::index(item.rule) {
        result["ruleIndex"] = index.into();
    }
    if item.level == Level::Ignored {
        result["suppressions"] = suppressed(item.details.first().map(String::as_str).unwrap_or_default());
    } else if item.level == Level::Excluded {
        result["suppressions"] = suppressed(&item.message);
    }
    result
}

fn suppressed(reason: &str) -> Value {
    json!([{ "kind": "external", "status": "accepted", "justification": clean(reason) }])
}

/// Items without a verdict are notifications about the run, not results about the code.
fn notifications(item: &Item) -> Vec<Value> {
    let notification = |place| {
        json!({
            "descriptor": { "id": rules::id(item.rule) },
            "level": "error",
            "message": { "text": escape(&item.text()) },
            "locations": [location(item, place)],
        })
    };
    everywhere(item).map(notification).collect()
}

/// The places of an item; once `None` if it has none.
fn everywhere(item: &Item) -> impl Iterator<Item = Option<&Place>> {
    let nowhere = item.places.is_empty().then_some(None);
    item.places.iter().map(Some).chain(nowhere)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Failure | Level::Problem => "error",
        Level::Warning => "warning",
        Level::Ignored | Level::Excluded => "note",
        Level::Pass => "none",
    }
}

/// The location; an image of the command line has only its name.
fn location(item: &Item, place: Option<&Place>) -> Value {
    let mut location = json!({});
    if !item.image.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": clean(&item.image) }]);
    }
    if let Some(place) = place {
        location["physicalLocation"] = json!({
            "artifactLocation": artifact(&place.file),
            "region": { "startLine": place.line.max(1) },
        });
    }
    location
}

/// A relative path is relative to the root of the repository: code is scanned from there.
fn artifact(file: &str) -> Value {
    let relative = file.strip_prefix("./").unwrap_or(file);
    let path = utf8_percent_encode(relative, NOT_IN_A_PATH).to_string();
    match file {
        "-" => json!({ "uri": "stdin", "description": { "text": "standard input" } }),
        _ if Path::new(file).is_absolute() => json!({ "uri": format!("file://{path}") }),
        _ => json!({ "uri": path, "uriBaseId": "%SRCROOT%" }),
    }
}

/// Braces are placeholders and brackets are links in SARIF's messages (3.11.5, 3.11.6), unless escaped.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '{' | '}' => escaped.push(c),
            '[' | ']' | '\\' => escaped.push('\\'),
            _ => {}
        }
        escaped.push(c);
    }
    escaped
}
