//! Names of files and images chosen by an attacker (a pull request brings both) do not break any output format.

use roxmltree::Document;

use super::{
    fixture::{MOVED, OutputFixture, pod},
    schemas::{check_json, check_junit, check_sarif},
};
use taglog_tests::cli_fixture::pinned;

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
fn fixture() -> OutputFixture {
    let fixture = OutputFixture::new();
    std::fs::create_dir(fixture.user.path("files")).unwrap();
    for name in NAMES {
        fixture.user.write(&format!("files/{name}"), pod(&[&pinned(MOVED, "evil")]));
    }
    fixture
}

fn run(fixture: &OutputFixture, format: &str) -> String {
    fixture.user.run(&["verify", "-f", "files", "--output", format]).exits(1).stdout
}

#[test]
fn json_keeps_names_unchanged() {
    let answer = check_json(&run(&fixture(), "json"));
    let places = answer["images"][0]["places"].as_array().unwrap();
    let mut files: Vec<&str> = places.iter().map(|place| place["file"].as_str().unwrap()).collect();
    files.sort_unstable();
    let mut want = NAMES.map(|name| format!("files/{name}"));
    want.sort_unstable();
    assert_eq!(files, want);
}

#[test]
fn names_cannot_control_the_terminal() {
    let fixture = fixture();
    for arguments in [&["verify", "-f", "files"][..], &["verify", "-f", "files", "--print-digest"]] {
        let ran = fixture.user.run(arguments).exits(1);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{ran:?}");
            assert!(!text.lines().any(|line| line.starts_with("::")), "{ran:?}");
        }
    }
}

#[test]
fn sarif_and_junit_stay_valid() {
    let fixture = fixture();
    let sarif = check_sarif(&run(&fixture, "sarif"));
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), NAMES.len());
    let xml = run(&fixture, "junit");
    check_junit(&xml);
    let document = Document::parse(&xml).unwrap();
    let failures = document.descendants().filter(|node| node.has_tag_name("failure")).count();
    assert_eq!(failures, NAMES.len(), "{xml}");
}

/// Every line is a command of ours, and says what it is about in the right file.
#[test]
fn names_cannot_inject_github_workflow_commands() {
    let text = run(&fixture(), "github");
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
