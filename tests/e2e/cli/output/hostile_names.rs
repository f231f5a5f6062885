//! Names of files and images are an attacker's to choose: a pull request brings both. No format loses its shape.

use roxmltree::Document;

use crate::{
    cli_common::pinned,
    scene::{MOVED, Scene, pod},
    schemas::{check_json, check_junit, check_sarif},
};

const NAMES: [&str; 8] = [
    "a::error file=x::pwned.yaml",
    "b%0A::error::pwned%25.yaml",
    "c\n::stop-commands::x\r.yaml",
    "d\u{1b}[2J\u{1b}]0;pwned\u{7}.yaml",
    "e<&\"']]>.yaml",
    "f,line=1,title=[pwned](http:{0}\\).yaml",
    "g \u{202e}lmay.yaml",
    "-h.yaml",
];

/// A user with a failing image in a file of each of these names.
fn scene() -> Scene {
    let scene = Scene::new();
    std::fs::create_dir(scene.user.path("files")).unwrap();
    for name in NAMES {
        scene.user.write(&format!("files/{name}"), pod(&[&pinned(MOVED, "evil")]));
    }
    scene
}

fn run(scene: &Scene, format: &str) -> String {
    scene.user.run(&["verify", "-f", "files", "--output", format]).exits(1).stdout
}

#[test]
fn json_keeps_names_as_they_are() {
    let answer = check_json(&run(&scene(), "json"));
    let places = answer["images"][0]["places"].as_array().unwrap();
    let mut files: Vec<&str> = places.iter().map(|place| place["file"].as_str().unwrap()).collect();
    files.sort_unstable();
    let mut want = NAMES.map(|name| format!("files/{name}"));
    want.sort_unstable();
    assert_eq!(files, want);
}

#[test]
fn nothing_steers_a_terminal() {
    let scene = scene();
    for arguments in [&["verify", "-f", "files"][..], &["verify", "-f", "files", "--print-digest"]] {
        let ran = scene.user.run(arguments).exits(1);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{ran:?}");
            assert!(!text.lines().any(|line| line.starts_with("::")), "{ran:?}");
        }
    }
}

#[test]
fn sarif_and_junit_stay_what_they_are() {
    let scene = scene();
    let sarif = check_sarif(&run(&scene, "sarif"));
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), NAMES.len());
    let xml = run(&scene, "junit");
    check_junit(&xml);
    let document = Document::parse(&xml).unwrap();
    let failures = document.descendants().filter(|node| node.has_tag_name("failure")).count();
    assert_eq!(failures, NAMES.len(), "{xml}");
}

/// Every line is a command of ours, and says what it is about in the right file.
#[test]
fn github_runs_no_command_of_theirs() {
    let text = run(&scene(), "github");
    let (totals, commands) = text.lines().collect::<Vec<_>>().split_last().map(|(l, c)| (*l, c.to_vec())).unwrap();
    assert_eq!(totals, "1 image: 0 pass, 1 fails");
    assert_eq!(commands.len(), NAMES.len(), "{text}");
    for command in &commands {
        let begins = command.starts_with("::error file=files/");
        let title = ",line=8,title=taglog%3A retagged::registry.example/team/moved:1.0: ";
        assert!(begins && command.matches("::").count() == 2 && command.contains(title), "{command}");
    }
    let escaped = "::error file=files/c%0A%3A%3Astop-commands%3A%3Ax%0D.yaml,line=8,";
    assert!(commands.iter().any(|command| command.starts_with(escaped)), "{text}");
    let escaped = "::error file=files/b%250A%3A%3Aerror%3A%3Apwned%2525.yaml,line=8,";
    assert!(commands.iter().any(|command| command.starts_with(escaped)), "{text}");
}
