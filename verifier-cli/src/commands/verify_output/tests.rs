//! No text in names and reasons breaks a format.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;
use taglog_proto::name::Digest;

use super::{
    item::{Item, Level, clean},
    render_relative, rules,
    totals::Totals,
};
use crate::commands::context::ReportFormat;
use taglog_image_sources::Place;
use taglog_policy::Verdict;

/// A text that would break one of the formats if it were not escaped.
const HOSTILE: &str = "a\u{1b}[31mb\nc\r::error file=x::gotcha %0A%25 , <![CDATA[&]]></failure>\"'{0}[x](http://y)\\ \u{202e}\u{0}\u{fffe}##[add-mask]x";

fn item(level: Level, image: &str, places: &[&str], text: &str) -> Item {
    let places = places.iter().map(|file| Place { file: (*file).to_owned(), line: 7 }).collect();
    let (image, message) = (image.to_owned(), text.to_owned());
    Item {
        rule: "retagged",
        level,
        image,
        digest: None,
        places,
        message,
        details: vec![text.to_owned(), "more".to_owned()],
    }
}

fn rendered(format: ReportFormat, items: &[Item]) -> String {
    render_relative(format, items, 1, false).unwrap().unwrap()
}

fn all_levels(image: &str, places: &[&str], text: &str) -> Vec<Item> {
    [Level::Pass, Level::Warning, Level::Ignored, Level::Excluded, Level::Failure, Level::Problem]
        .map(|level| item(level, image, places, text))
        .to_vec()
}

/// Reads a line as GitHub's runner does: the command, its properties, its message.
fn command(line: &str) -> (String, Vec<(String, String)>, String) {
    let line = line.strip_prefix("::").unwrap_or_else(|| panic!("{line}"));
    let (head, message) = line.split_once("::").unwrap();
    let (name, properties) = head.split_once(' ').unwrap();
    let unescape = |text: &str| {
        text.replace("%3A", ":").replace("%2C", ",").replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    };
    let properties = properties.split(',').map(|property| {
        let (name, value) = property.split_once('=').unwrap();
        (name.to_owned(), unescape(value))
    });
    (name.to_owned(), properties.collect(), unescape(message))
}

fn check_github(items: &[Item]) {
    let text = rendered(ReportFormat::Github, items);
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.pop(), Some(Totals::of(items).to_string().as_str()));
    let told: Vec<&Item> = items.iter().filter(|item| item.level != Level::Pass).collect();
    let at: Vec<(&Item, Option<&Place>)> = told
        .iter()
        .flat_map(|item| {
            let nowhere = item.places.is_empty().then_some(None);
            item.places.iter().map(Some).chain(nowhere).map(|place| (*item, place))
        })
        .collect();
    assert_eq!(lines.len(), at.len(), "{text}");
    for (line, (item, place)) in lines.iter().zip(at) {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        let (name, properties, message) = command(line);
        assert!(["error", "warning", "notice"].contains(&name.as_str()));
        assert_eq!(message, item.text());
        let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
        let in_a_file = place.is_some_and(|place| place.file != "-");
        assert_eq!(names, if in_a_file { &["file", "line", "title"][..] } else { &["title"] });
    }
}

fn check_sarif(items: &[Item]) {
    let text = rendered(ReportFormat::Sarif, items);
    assert_eq!(text.lines().count(), 1, "{text}");
    let log: Value = serde_json::from_str(&text).unwrap();
    let run = &log["runs"][0];
    let told = run["results"].as_array().unwrap().iter();
    for result in told.chain(run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap()) {
        let message = result["message"]["text"].as_str().unwrap();
        assert!(!message.contains(|c: char| c.is_control() && c != '\n'), "{message:?}");
        let plain =
            message.replace("\\\\", "").replace("\\[", "").replace("\\]", "").replace("{{", "").replace("}}", "");
        assert!(!plain.contains(['[', ']', '{', '}', '\\']), "{message:?}");
        let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/%:".contains(c);
        assert!(uri.as_str().is_none_or(|uri| uri.chars().all(allowed)), "{uri}");
    }
}

fn check_junit(items: &[Item]) {
    let text = rendered(ReportFormat::Junit, items);
    let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase")).count();
    let want: usize = items.iter().map(|item| item.places.len().max(1)).sum();
    assert_eq!(cases, want, "{text}");
    let elements =
        ["testsuites", "testsuite", "testcase", "properties", "property", "system-out", "failure", "error", "skipped"];
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(elements.contains(&node.tag_name().name()), "{text}");
    }
}

#[test]
fn hostile_text_breaks_no_format() {
    for places in [&[][..], &["Dockerfile"], &[HOSTILE], &["-", "./a b/%2e,x:y", "/abs"]] {
        let items = all_levels(HOSTILE, places, HOSTILE);
        check_github(&items);
        check_sarif(&items);
        check_junit(&items);
    }
}

proptest! {
    #[test]
    fn any_text_breaks_no_format(image in any::<String>(), file in any::<String>(), text in any::<String>()) {
        let items = all_levels(&image, &[&file], &text);
        check_github(&items);
        check_sarif(&items);
        check_junit(&items);
    }

    #[test]
    fn clean_text_is_one_line_without_control_characters(text in any::<String>()) {
        let clean = clean(&text);
        prop_assert!(!clean.contains(|c: char| c.is_control()));
        prop_assert_eq!(super::item::clean(&clean), clean);
    }
}

#[test]
fn file_names_become_uris() {
    let uri = |file: &str| {
        let text = rendered(ReportFormat::Sarif, &[item(Level::Failure, "x", &[file], "y")]);
        let log: Value = serde_json::from_str(&text).unwrap();
        log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"].clone()
    };
    for (file, want) in [
        ("a/b.yaml", "a/b.yaml"),
        ("./a/b.yaml", "a/b.yaml"),
        ("a b/ü:1.yaml", "a%20b/%C3%BC%3A1.yaml"),
        ("/etc/x.yaml", "file:///etc/x.yaml"),
        ("-", "stdin"),
    ] {
        assert_eq!(uri(file)["uri"], want);
    }
    assert_eq!((&uri("a")["uriBaseId"], &uri("/a")["uriBaseId"]), (&"%SRCROOT%".into(), &Value::Null));
}

#[test]
fn ignored_images_are_suppressed_not_hidden() {
    let items = [item(Level::Ignored, "x", &["a"], "ignored until 2027-03-01T00:00:00Z: not logged yet")];
    let log: Value = serde_json::from_str(&rendered(ReportFormat::Sarif, &items)).unwrap();
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["suppressions"][0]["justification"], "ignored until 2027-03-01T00:00:00Z: not logged yet");
    assert_eq!(result["level"], "note");
    assert!(rendered(ReportFormat::Junit, &items).contains("<skipped"));
    assert!(rendered(ReportFormat::Github, &items).starts_with("::notice "));
    let items = [item(Level::Excluded, "app", &["a"], "built here")];
    let log: Value = serde_json::from_str(&rendered(ReportFormat::Sarif, &items)).unwrap();
    let result = &log["runs"][0]["results"][0];
    assert_eq!((&result["suppressions"][0]["justification"], &result["level"]), (&"built here".into(), &"note".into()));
    assert!(rendered(ReportFormat::Junit, &items).contains("<skipped"));
    assert!(rendered(ReportFormat::Github, &items).starts_with("::notice "));
    assert!(table(&items, false).ends_with("0 images: 0 pass; 1 excluded\n"));
}

#[test]
fn every_verdict_has_a_rule_and_rule_names_are_unique() {
    for verdict in Verdict::ALL {
        assert!(rules::index(verdict.name()).is_some(), "{verdict}");
    }
    for (index, rule) in rules::RULES.iter().enumerate() {
        assert_eq!(rules::index(rule.name), Some(index), "{} occurs twice", rule.name);
        assert!((0.0..=10.0).contains(&rule.severity.parse::<f32>().unwrap()));
    }
}

#[test]
fn every_rule_is_documented() {
    let page = include_str!("../../../docs/OUTPUTS.md");
    let mut missing = String::new();
    for rule in rules::RULES.iter().filter(|rule| !page.contains(&format!("`{}`", rule.name))) {
        writeln!(missing, "{}", rule.name).unwrap();
    }
    assert_eq!(missing, "");
}

fn table(items: &[Item], colour: bool) -> String {
    let options = super::RenderOptions { format: ReportFormat::Text, quiet: false, colour, now: super::now() };
    super::table::render(&taglog_verify::Verification::default(), items, &options)
}

/// Verdict, image and shortened digest fit into 80 columns, each in one column, whatever the places.
#[test]
fn table_columns_are_aligned_and_fit_80_columns() {
    let digest = Digest::sha256(b"");
    let passing = |image: &str, place: &str| Item {
        rule: "ok",
        digest: Some(digest),
        details: Vec::new(),
        ..item(Level::Pass, image, &[place], "2 witnesses vouch for it, and no other digest was ever sighted")
    };
    let failing = Item { details: Vec::new(), ..item(Level::Failure, "registry.example/b:1", &["b.yaml"], "it moved") };
    let far = "a/very/long/path/to/a/file/of/which/there/are/many/in/some/repositories/compose.yaml";
    let items =
        [passing("docker.io/library/busybox:1.36.1", far), failing.clone(), passing("registry.example/a:1", "a.yaml")];
    let text = table(&items, false);
    let lines: Vec<&str> = text.lines().collect();
    let column = |line: &str, what: &str| line.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    for line in [lines[0], lines[2]] {
        let at = column(line, "sha256:e3b0c44298fc…  ");
        assert_eq!(at, column(lines[0], "sha256:"));
        assert!(line[..at].chars().count() + "sha256:e3b0c44298fc…".chars().count() <= 80, "{text}");
        assert!(!line.contains(&digest.to_string()), "{text}");
    }
    assert!(lines[0].contains(far) && !lines[1].contains("sha256:"), "{text}");
    assert_eq!(column(lines[1], "b.yaml:7"), column(lines[2], "a.yaml:7") - '…'.len_utf8() + 1, "{text}");
    assert!(!text.contains('\u{1b}') && table(&items, true).contains('\u{1b}'));
    // Without digests there is no digest column.
    assert!(table(&[failing], false).starts_with("retagged    registry.example/b:1  b.yaml:7  it moved\n"));
}

#[test]
fn totals_as_text() {
    let totals = |passed, warnings, ignored, failed, problems, excluded| {
        Totals { passed, warnings, ignored, failed, problems, excluded }.to_string()
    };
    assert_eq!(totals(1, 0, 0, 0, 0, 0), "1 image: 1 passes");
    assert_eq!(totals(3, 1, 0, 0, 0, 2), "3 images: 3 pass (1 with a warning); 2 excluded");
    assert_eq!(totals(0, 0, 1, 2, 1, 0), "4 images: 0 pass, 1 ignored, 1 without a verdict, 2 fail");
}
