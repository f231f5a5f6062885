//! The table for people.

use std::process::Command;

use taglog_tests::{binary, witness::digest};

use crate::{
    cli_common::{Ran, pinned},
    scene::{EVERYTHING, FINE, MOVED, SILENT, Scene, YOUNG},
};

/// The lines of the table that begin with this word.
fn rows<'a>(ran: &'a Ran, word: &str) -> Vec<&'a str> {
    ran.stdout.lines().filter(|line| line.split_whitespace().next() == Some(word)).collect()
}

#[test]
fn one_line_an_image_what_failing_tags_have_been_and_totals() {
    let scene = Scene::new();
    let ran = scene.user.run(&EVERYTHING).exits(1);
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
    let totals = "6 images: 3 pass (1 with a warning), 2 could not be told, 1 fails";
    assert!(lines.contains(&totals), "{ran:?}");
    assert!(!ran.stdout.contains('\x1b'), "no colour in a pipe: {ran:?}");
}

#[test]
fn quiet_prints_what_does_not_pass_and_else_nothing() {
    let scene = Scene::new();
    let quiet = scene.user.run(&[&EVERYTHING[..], &["--quiet"]].concat()).exits(1);
    for (verdict, count) in
        [("ok", 0), ("new", 0), ("untagged", 0), ("retagged", 1), ("unanswered", 1), ("left-out", 1)]
    {
        assert_eq!(rows(&quiet, verdict).len(), count, "{verdict}: {quiet:?}");
    }
    assert!(!quiet.stdout.contains("images:"), "{quiet:?}");
    let passes = scene.user.run(&["verify", "-q", "-f", "fine.yaml", "-f", "young.yaml"]).exits(0);
    assert_eq!((passes.stdout.as_str(), passes.stderr.as_str()), ("", ""));
}

/// What a terminal would show: `script` gives the command a pseudo-terminal.
fn on_a_terminal(scene: &Scene, variable: Option<(&str, &str)>) -> String {
    let command = format!("{} verify {}", binary("taglog").display(), pinned(FINE, "fine"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env_clear();
    script.env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").envs(variable);
    script.env("TAGLOG_TRUST", scene.user.path("trust")).env("TAGLOG_STATE", scene.user.path("state"));
    let output = script.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(FINE), "{text}");
    text
}

#[test]
fn colour_on_a_terminal_only_and_not_against_one_s_will() {
    let scene = Scene::new();
    assert!(on_a_terminal(&scene, None).contains("\x1b["));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(&scene, Some(variable));
        assert!(!text.contains('\x1b'), "{variable:?}: {text:?}");
    }
}

#[test]
fn a_long_history_is_cut_to_what_is_new() {
    let scene = Scene::new();
    let witness = taglog_tests::Witness::new(1);
    let at = taglog_tests::witness::now() - 3600;
    let name = "registry.example/team/restless:1.0";
    for i in 0..30 {
        crate::cli_common::add(&scene.server, &[witness.observe(name, &format!("{i}"), at + i)]);
    }
    let ran = scene.user.run(&["verify", &pinned(name, "29")]).exits(1);
    assert!(ran.stdout.contains(&format!("10 earlier: taglog history {name}")), "{ran:?}");
    let sightings: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("  entry ")).collect();
    let tells_of = |name: &str| sightings.iter().any(|line| line.contains(&digest(name).to_string()));
    assert!(sightings.len() == 20 && tells_of("29") && !tells_of("9"), "{ran:?}");
    assert!(ran.stdout.lines().count() < 35, "each move is told of at length: {ran:?}");
}
