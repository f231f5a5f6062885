//! The human-readable output.

use std::process::Command;

use taglog_tests::{binary, witness::digest};

use super::fixture::{EVERYTHING, FINE, MOVED, OutputFixture, SILENT, YOUNG};
use taglog_tests::cli_fixture::{CommandOutput, pinned};

/// The lines of the table that begin with this word.
fn rows<'a>(ran: &'a CommandOutput, word: &str) -> Vec<&'a str> {
    ran.stdout.lines().filter(|line| line.split_whitespace().next() == Some(word)).collect()
}

#[test]
fn one_line_per_image_history_of_failing_tags_and_totals() {
    let fixture = OutputFixture::new();
    let ran = fixture.user.run(&EVERYTHING).exits(1);
    for (verdict, image, place) in [
        ("ok", FINE, "fine.yaml:8 +1"),
        ("new", YOUNG, "young.yaml:8"),
        ("retagged", MOVED, "moved.yaml:10"),
        ("unanswered", SILENT, "silent.yaml:8"),
        ("left-out", "-", "Dockerfile:3"),
        ("untagged", "registry.example/team/fine@sha256:", "untagged.yaml:8"),
    ] {
        let rows = rows(&ran, verdict);
        assert_eq!(rows.len(), 1, "{verdict}: {ran:?}");
        assert!(rows[0].contains(image) && rows[0].contains(place), "{ran:?}");
    }
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let row = lines.iter().position(|line| line.starts_with("retagged")).unwrap();
    let sightings: Vec<&str> = lines[row..].iter().filter(|line| line.contains("  entry ")).copied().collect();
    assert!(sightings[0].contains(&digest("good").to_string()), "{ran:?}");
    assert!(sightings[1].contains(&digest("evil").to_string()) && sightings.len() == 2, "{ran:?}");
    let totals = "6 images: 3 pass (1 with a warning), 2 without a verdict, 1 fails";
    assert!(lines.contains(&totals), "{ran:?}");
    assert!(!ran.stdout.contains('\x1b'), "no colour in a pipe: {ran:?}");
}

#[test]
fn quiet_prints_only_what_does_not_pass() {
    let fixture = OutputFixture::new();
    let quiet = fixture.user.run(&[&EVERYTHING[..], &["--quiet"]].concat()).exits(1);
    for (verdict, count) in
        [("ok", 0), ("new", 0), ("untagged", 0), ("retagged", 1), ("unanswered", 1), ("left-out", 1)]
    {
        assert_eq!(rows(&quiet, verdict).len(), count, "{verdict}: {quiet:?}");
    }
    assert!(!quiet.stdout.contains("images:"), "{quiet:?}");
    let passes = fixture.user.run(&["verify", "-q", "-f", "fine.yaml", "-f", "young.yaml"]).exits(0);
    assert_eq!((passes.stdout.as_str(), passes.stderr.as_str()), ("", ""));
}

/// What a terminal would show: `script` gives the command a pseudo-terminal.
fn on_a_terminal(fixture: &OutputFixture, variable: Option<(&str, &str)>) -> String {
    let command = format!("{} verify {}", binary("taglog").display(), pinned(FINE, "fine"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env_clear();
    script.env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").envs(variable);
    script.env("TAGLOG_TRUST", fixture.user.path("trust")).env("TAGLOG_STATE", fixture.user.path("state"));
    let output = script.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(FINE), "{text}");
    text
}

#[test]
fn colour_only_on_a_terminal_and_unless_disabled() {
    let fixture = OutputFixture::new();
    assert!(on_a_terminal(&fixture, None).contains("\x1b["));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(&fixture, Some(variable));
        assert!(!text.contains('\x1b'), "{variable:?}: {text:?}");
    }
}

#[test]
fn a_long_history_is_shortened_to_its_newest_part() {
    let fixture = OutputFixture::new();
    let witness = taglog_tests::Witness::new(1);
    let at = taglog_tests::witness::now() - 3600;
    let name = "registry.example/team/restless:1.0";
    for i in 0..30 {
        taglog_tests::cli_fixture::add(&fixture.server, &[witness.observe(name, &format!("{i}"), at + i)]);
    }
    let ran = fixture.user.run(&["verify", &pinned(name, "29")]).exits(1);
    assert!(ran.stdout.contains(&format!("10 earlier: taglog history {name}")), "{ran:?}");
    let sightings: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("  entry ")).collect();
    let tells_of = |name: &str| sightings.iter().any(|line| line.contains(&digest(name).to_string()));
    assert!(sightings.len() == 20 && tells_of("29") && !tells_of("9"), "{ran:?}");
    assert!(ran.stdout.lines().count() < 35, "each move is told of at length: {ran:?}");
}
