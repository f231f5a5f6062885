//! The GitHub Action, as far as it can be run without GitHub: its steps, in order, by the rules of composite actions.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use github_actions_models::action::{Action, Runs};
use taglog_tests::binary;
use yaml_serde::Value;

use super::{
    fixture::{FINE, OutputFixture},
    schemas::{check_json, check_sarif, checkout},
};
use taglog_tests::cli_fixture::{User, pinned};

fn directory() -> PathBuf {
    checkout().join("deploy/github-action")
}

fn action() -> Value {
    yaml_serde::from_str(&std::fs::read_to_string(directory().join("action.yml")).unwrap()).unwrap()
}

/// A job that uses the action.
struct ActionJob<'a> {
    user: &'a User,
    inputs: BTreeMap<String, String>,
    /// `steps.ID.outputs.NAME`, as expressions spell it.
    outputs: BTreeMap<String, String>,
    path: String,
}

/// How the job ended.
struct JobResult {
    succeeded: bool,
    log: String,
    summary: String,
    outputs: BTreeMap<String, String>,
}

impl<'a> ActionJob<'a> {
    fn new(user: &'a User, with: &[(&str, &str)]) -> ActionJob<'a> {
        let action = action();
        let defaults = action["inputs"].as_mapping().unwrap().iter().map(|(name, input)| {
            (name.as_str().unwrap().to_owned(), input["default"].as_str().unwrap_or_default().to_owned())
        });
        let mut inputs: BTreeMap<String, String> = defaults.collect();
        for (name, value) in with {
            assert!(inputs.insert((*name).to_owned(), (*value).to_owned()).is_some(), "no input {name}");
        }
        std::fs::create_dir_all(user.path("runner")).unwrap();
        ActionJob { user, inputs, outputs: BTreeMap::new(), path: std::env::var("PATH").unwrap() }
    }

    /// The value of an expression.
    fn value(&self, expression: &str) -> String {
        match expression.trim() {
            "runner.temp" => self.user.argument("runner"),
            "runner.os" => "Linux".to_owned(),
            "runner.arch" => "X64".to_owned(),
            "github.run_id" | "github.run_attempt" | "github.job" => "1".to_owned(),
            other => match other.strip_prefix("inputs.") {
                Some(input) => self.inputs.get(input).unwrap_or_else(|| panic!("no input {input}")).clone(),
                None if other.starts_with("steps.") => self.outputs.get(other).cloned().unwrap_or_default(),
                None => panic!("this test knows no {other}"),
            },
        }
    }

    fn expand(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut expanded = parts.next().unwrap().to_owned();
        for part in parts {
            let (expression, rest) = part.split_once("}}").unwrap();
            expanded += &self.value(expression);
            expanded += rest;
        }
        expanded
    }

    /// Whether a step runs: conjunctions of comparisons with a text, or `always()`.
    fn condition(&self, condition: Option<&str>, failed: bool) -> bool {
        match condition {
            Some("always()") => true,
            _ if failed => false,
            None => true,
            Some(condition) => condition.split("&&").all(|comparison| {
                let (equal, (left, right)) = match comparison.split_once("==") {
                    Some(sides) => (true, sides),
                    None => (false, comparison.split_once("!=").unwrap()),
                };
                (self.value(left) == right.trim().trim_matches('\'')) == equal
            }),
        }
    }

    fn run(mut self) -> JobResult {
        let action = action();
        let (mut failed, mut log) = (false, String::new());
        for step in action["runs"]["steps"].as_sequence().unwrap() {
            if self.condition(step["if"].as_str(), failed)
                && let Some(script) = step["run"].as_str()
            {
                assert_eq!(step["shell"].as_str(), Some("bash"));
                failed |= !self.step(step, script, &mut log);
            }
        }
        let outputs =
            action["outputs"].as_mapping().unwrap().iter().map(|(name, output)| {
                (name.as_str().unwrap().to_owned(), self.expand(output["value"].as_str().unwrap()))
            });
        let summary = std::fs::read_to_string(self.user.path("runner/summary")).unwrap_or_default();
        JobResult { succeeded: !failed, log, summary, outputs: outputs.collect() }
    }

    /// Runs a script the way the runner does, and reads the outputs that it sets.
    fn step(&mut self, step: &Value, script: &str, log: &mut String) -> bool {
        assert!(!script.contains("${{"), "inputs in a script are injections: {script}");
        let file = self.user.write("runner/step.sh", script);
        let output = self.user.argument("runner/output");
        std::fs::write(&output, "").unwrap();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(file).env_clear();
        command.env("PATH", &self.path).env("HOME", self.user.path("")).current_dir(self.user.path(""));
        command.env("GITHUB_ACTION_PATH", directory()).env("RUNNER_TEMP", self.user.path("runner"));
        command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", self.user.path("runner/summary"));
        for (name, value) in step["env"].as_mapping().into_iter().flatten() {
            command.env(name.as_str().unwrap(), self.expand(value.as_str().unwrap()));
        }
        let ran = command.output().unwrap();
        log.push_str(&String::from_utf8(ran.stdout).unwrap());
        log.push_str(&String::from_utf8(ran.stderr).unwrap());
        if let Some(id) = step["id"].as_str() {
            for line in std::fs::read_to_string(&output).unwrap().lines() {
                let (name, value) = line.split_once('=').unwrap();
                self.outputs.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
            }
        }
        ran.status.success()
    }
}

fn taglog() -> String {
    binary("taglog").to_str().unwrap().to_owned()
}

#[test]
fn the_action_metadata_is_valid() {
    let text = std::fs::read_to_string(directory().join("action.yml")).unwrap();
    let parsed: Action = yaml_serde::from_str(&text).unwrap();
    assert!(matches!(parsed.runs, Runs::Composite(_)) && parsed.name.is_some() && parsed.description.is_some());
    for step in action()["runs"]["steps"].as_sequence().unwrap() {
        // What it uses is pinned: a tag of an action is a tag that can be moved.
        if let Some(uses) = step["uses"].as_str() {
            let (_, commit) = uses.split_once('@').unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{uses}");
        }
    }
}

#[test]
fn a_retag_fails_the_job_and_names_the_line() {
    let fixture = OutputFixture::new();
    fixture.user.write("taglog trust", fixture.user.read("trust"));
    let inputs = [
        ("taglog", taglog()),
        ("trust", "taglog trust".to_owned()),
        ("files", "fine.yaml\n\n  moved.yaml  \n".to_owned()),
        ("sarif", "found.sarif".to_owned()),
    ];
    let with: Vec<(&str, &str)> = inputs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ended = ActionJob::new(&fixture.user, &with).run();
    assert!(!ended.succeeded, "{}", ended.log);
    assert!(ended.log.contains("::error file=moved.yaml,line=10,title=taglog%3A retagged::"), "{}", ended.log);
    assert!(ended.summary.contains("\n    retagged    registry.example/team/moved:1.0"), "{}", ended.summary);
    assert_eq!((ended.outputs["passes"].as_str(), ended.outputs["exit-code"].as_str()), ("false", "1"));
    check_json(&std::fs::read_to_string(&ended.outputs["report"]).unwrap());
    let sarif = check_sarif(&fixture.user.read("found.sarif"));
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "taglog/retagged");
    let remembered = std::fs::read_dir(fixture.user.path("runner/taglog-state")).unwrap().count();
    assert!(remembered > 0, "the log's state is remembered for the next run");
}

#[test]
fn an_image_that_passes_passes_the_job() {
    let fixture = OutputFixture::new();
    let (taglog, trust, image) = (taglog(), fixture.user.argument("trust"), pinned(FINE, "fine"));
    let with = [("taglog", &*taglog), ("trust", &*trust), ("files", "fine.yaml"), ("images", &*image)];
    let ended = ActionJob::new(&fixture.user, &with).run();
    assert!(ended.succeeded && !ended.log.contains("::error"), "{}", ended.log);
    assert_eq!((ended.outputs["passes"].as_str(), ended.outputs["exit-code"].as_str()), ("true", "0"));
    // Options reach the command, an argument a line; a star stays a star.
    let with = [&with[..], &[("options", "--witnesses\n2\n--moving\n*")]].concat();
    let ended = ActionJob::new(&fixture.user, &with).run();
    assert!(!ended.succeeded && ended.outputs["exit-code"] == "2" && ended.log.contains('*'), "{}", ended.log);
    let with = [&with[..4], &[("options", "--witnesses\n2")]].concat();
    let ended = ActionJob::new(&fixture.user, &with).run();
    assert!(!ended.succeeded && ended.log.contains("title=taglog%3A new::"), "{}", ended.log);
}

#[test]
fn a_job_that_could_verify_nothing_reports_so() {
    let fixture = OutputFixture::new();
    let (taglog, nowhere) = (taglog(), fixture.user.argument("no-such-trust"));
    let ended =
        ActionJob::new(&fixture.user, &[("taglog", &*taglog), ("trust", &*nowhere), ("files", "fine.yaml")]).run();
    assert!(!ended.succeeded && ended.outputs["exit-code"] == "2", "{}", ended.log);
    assert!(ended.log.contains("::error title=taglog::nothing could be verified (exit code 2)"), "{}", ended.log);
}

#[test]
fn inputs_are_never_executed() {
    let fixture = OutputFixture::new();
    let (taglog, trust) = (taglog(), fixture.user.argument("trust"));
    let hostile = "$(touch pwned) `touch pwned`; touch pwned\n\"; touch pwned; \"";
    for input in ["files", "images", "options", "sarif", "trust"] {
        let with = [("taglog", &*taglog), ("trust", &*trust), ("files", "fine.yaml"), (input, hostile)];
        let ended = ActionJob::new(&fixture.user, &with).run();
        assert!(!fixture.user.path("pwned").exists(), "{input}: {}", ended.log);
    }
}

/// Programs that stand for the real ones: `cargo install` takes minutes.
fn with_fake_cargo(user: &User) -> String {
    std::fs::create_dir_all(user.path("fake")).unwrap();
    let cargo = format!(
        "#!/bin/sh\necho \"$@\" >cargo.log\npwd >>cargo.log\nwhile [ $# -gt 0 ]; do\n  [ \"$1\" = --root ] && root=\"$2\"\n  \
         shift\ndone\nmkdir -p \"$root/bin\" && ln -s {} \"$root/bin/taglog\"\n",
        taglog()
    )
    .replace("cargo.log", &user.argument("cargo.log"));
    for (name, text) in [("cargo", cargo.as_str()), ("rustc", "#!/bin/sh\necho rustc 1.89.0\n")] {
        let path = user.write(&format!("fake/{name}"), text);
        make_executable(Path::new(&path));
    }
    format!("{}:{}", user.argument("fake"), std::env::var("PATH").unwrap())
}

fn make_executable(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn without_a_binary_the_action_builds_from_source() {
    let fixture = OutputFixture::new();
    let (user, trust) = (&fixture.user, fixture.user.argument("trust"));
    let mut job = ActionJob::new(user, &[("trust", &trust), ("files", "moved.yaml")]);
    job.path = with_fake_cargo(user);
    let ended = job.run();
    assert!(!ended.succeeded && ended.log.contains("retagged::"), "{}", ended.log);
    let cargo = user.read("cargo.log");
    assert!(cargo.contains("install --quiet --locked --path verifier-cli --root"), "{cargo}");
    assert!(cargo.contains(checkout().to_str().unwrap()), "in the checkout of the action: {cargo}");

    // The same source has the same key, and another compiler another one.
    let key = |job: ActionJob| {
        let mut job = job;
        job.path = with_fake_cargo(user);
        let mut log = String::new();
        let step = action()["runs"]["steps"][0].clone();
        assert!(job.step(&step, step["run"].as_str().unwrap(), &mut log), "{log}");
        job.outputs["steps.source.outputs.key"].clone()
    };
    let first = key(ActionJob::new(user, &[]));
    assert!(first.len() == 64 && first == key(ActionJob::new(user, &[])), "{first}");
    user.write("fake/rustc", "#!/bin/sh\necho rustc 1.90.0\n");
    let other = {
        let mut job = ActionJob::new(user, &[]);
        job.path = format!("{}:{}", user.argument("fake"), std::env::var("PATH").unwrap());
        let (step, mut log) = (action()["runs"]["steps"][0].clone(), String::new());
        assert!(job.step(&step, step["run"].as_str().unwrap(), &mut log), "{log}");
        job.outputs["steps.source.outputs.key"].clone()
    };
    assert_ne!(first, other);
}

#[test]
fn the_scripts_pass_shellcheck() {
    let scripts = ["install.sh", "verify.sh"].map(|name| directory().join(name));
    let output = Command::new("shellcheck").args(&scripts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
