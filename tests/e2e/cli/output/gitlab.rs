//! The GitLab CI template, as far as it can be run without GitLab: its inputs, its variables, its script.

use std::{collections::BTreeMap, os::unix::fs::symlink, process::Command};

use serde::Deserialize as _;
use taglog_tests::binary;
use yaml_serde::{Deserializer, Value};

use super::{
    fixture::{FINE, OutputFixture},
    schemas::{check_json, check_junit, checkout},
};
use taglog_tests::cli_fixture::{User, pinned};

fn text() -> String {
    std::fs::read_to_string(checkout().join("deploy/gitlab-ci/taglog.yml")).unwrap()
}

/// The header and the jobs.
fn template() -> (Value, Value) {
    let text = text();
    let mut documents = Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    let both = (documents.next().unwrap(), documents.next().unwrap());
    assert!(documents.next().is_none());
    both
}

/// The jobs with `$[[ inputs.NAME ]]` filled in. GitLab does so in the text, before it is parsed; up to version 16 it
/// did so in what was parsed already. Both must come to the same.
fn included(with: &[(&str, &str)]) -> Value {
    let (header, mut jobs) = template();
    let with: BTreeMap<&str, &str> = with.iter().copied().collect();
    let mut text = text().split_once("---\n").unwrap().1.to_owned();
    for (name, input) in header["spec"]["inputs"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        let value = with.get(name).copied().or(input["default"].as_str());
        let value = value.unwrap_or_else(|| panic!("{name} has no default"));
        let what = format!("$[[ inputs.{name} ]]");
        text = text.replace(&what, value);
        fill_in(&mut jobs, &what, value);
    }
    assert!(!text.contains("$[["), "an input is not declared: {text}");
    let parsed: Value = yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // What parsing takes off the end of a block means nothing in a list of words.
    let trimmed = |jobs: &Value| yaml_serde::to_string(jobs).unwrap().replace(" \n", "\n").replace(" '\n", "'\n");
    assert_eq!(trimmed(&parsed), trimmed(&jobs));
    parsed
}

fn fill_in(node: &mut Value, what: &str, value: &str) {
    match node {
        Value::String(text) => *text = text.replace(what, value),
        Value::Sequence(items) => items.iter_mut().for_each(|item| fill_in(item, what, value)),
        Value::Mapping(fields) => {
            let filled = std::mem::take(fields).into_iter().map(|(mut key, mut field)| {
                fill_in(&mut key, what, value);
                fill_in(&mut field, what, value);
                (key, field)
            });
            *fields = filled.collect();
        }
        _ => {}
    }
}

/// The script, a line for each of its items.
fn script(job: &Value) -> String {
    let lines = job["script"].as_sequence().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap()));
    lines.collect()
}

/// Runs the job in the user's home the way GitLab's runner does; the exit code.
fn run(user: &User, with: &[(&str, &str)]) -> (i32, String) {
    let jobs = included(&[&[("image", "registry.example/taglog@sha256:…")], with].concat());
    let job = &jobs["taglog-verify"];
    std::fs::create_dir_all(user.path("bin")).unwrap();
    // It is there already when a test runs a second job.
    let _ = symlink(binary("taglog"), user.path("bin/taglog"));
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &script(job)]).env_clear().current_dir(user.path(""));
    command.env("PATH", format!("{}:/usr/bin:/bin", user.argument("bin"))).env("HOME", user.path(""));
    command.env("CI_PROJECT_DIR", user.path(""));
    for (name, value) in job["variables"].as_mapping().unwrap() {
        command.env(name.as_str().unwrap(), value.as_str().unwrap());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_retag_fails_the_job_and_leaves_reports() {
    let fixture = OutputFixture::new();
    let user = &fixture.user;
    let (code, said) = run(user, &[("trust", "trust"), ("files", "fine.yaml moved.yaml")]);
    assert!(code == 1 && said.contains("retagged "), "{code} {said}");
    check_junit(&user.read("taglog-junit.xml"));
    assert_eq!(check_json(&user.read("taglog.json"))["exit"], 1);
    assert!(std::fs::read_dir(user.path(".taglog-state")).unwrap().count() > 0, "the log's state is remembered");
    // What the job leaves is what it says it leaves.
    let jobs = included(&[("image", "x")]);
    let job = &jobs["taglog-verify"];
    assert_eq!(job["artifacts"]["reports"]["junit"], "taglog-junit.xml");
    assert_eq!((&job["artifacts"]["paths"][0], &job["artifacts"]["when"]), (&"taglog.json".into(), &"always".into()));
    assert_eq!(job["cache"]["paths"][0], ".taglog-state/");
}

#[test]
fn inputs_reach_the_command_and_are_never_executed() {
    let fixture = OutputFixture::new();
    let (user, image) = (&fixture.user, pinned(FINE, "fine"));
    let passes = [("trust", "trust"), ("files", "fine.yaml"), ("images", &*image)];
    assert_eq!(run(user, &passes).0, 0);
    let (code, said) = run(user, &[&passes[..], &[("options", "--witnesses 2 --quiet")]].concat());
    assert!(code == 1 && said.contains("new ") && !said.contains("images:"), "{said}");
    for input in ["files", "images", "options", "trust"] {
        let hostile = "$(touch pwned) `touch pwned` ; touch pwned * 'a\" b: {c #";
        run(user, &[&passes[..], &[(input, hostile)]].concat());
        assert!(!user.path("pwned").exists(), "{input}");
    }
    let renamed = included(&[("image", "x"), ("job", "images"), ("stage", "deploy")]);
    assert_eq!(renamed["images"]["stage"], "deploy");
}

#[test]
fn the_script_passes_shellcheck() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script.sh");
    let jobs = included(&[("image", "x")]);
    std::fs::write(&file, script(&jobs["taglog-verify"])).unwrap();
    let output = Command::new("shellcheck").args(["--shell", "sh", "--exclude", "SC2154"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
