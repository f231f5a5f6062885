//! JSON, SARIF, JUnit XML, GitHub's workflow commands, and reports in files.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use roxmltree::{Document, Node};
use serde_json::{Value, json};
use taglog_tests::witness::digest;

use super::{
    fixture::{EVERYTHING, FINE, MOVED, OutputFixture, SILENT, YOUNG},
    schemas::{check_json, check_junit, check_sarif},
};
use taglog_tests::cli_fixture::{pinned, proxy::Proxy};

fn run(fixture: &OutputFixture, format: &str) -> String {
    fixture.user.run(&[&EVERYTHING[..], &["--output", format]].concat()).exits(1).stdout
}

#[test]
fn json_is_complete_and_matches_the_schema() {
    let fixture = OutputFixture::new();
    let answer = check_json(&run(&fixture, "json"));
    assert_eq!((&answer["passes"], &answer["exit"]), (&false.into(), &1.into()));
    let totals = json!({ "passed": 3, "warnings": 1, "ignored": 0, "failed": 1, "problems": 2, "excluded": 0 });
    assert_eq!(answer["totals"], totals);
    let rows = answer["images"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["image"].as_str().unwrap(), row["verdict"].as_str().unwrap())).collect();
    assert_eq!(told, [(FINE, "ok"), (YOUNG, "new"), (MOVED, "retagged")]);
    let places = json!([{ "file": "fine.yaml", "line": 8 }, { "file": "moved.yaml", "line": 8 }]);
    assert_eq!((&rows[0]["places"], &rows[0]["warning"]), (&places, &false.into()));
    assert_eq!((&rows[1]["passes"], &rows[1]["warning"]), (&true.into(), &true.into()));
    let moved = &rows[2]["logs"][0]["moves"][0];
    assert_eq!(
        (&moved["from"], &moved["to"]),
        (&digest("good").to_string().into(), &digest("evil").to_string().into())
    );
    assert_eq!((&rows[2]["digest"], &rows[2]["passes"]), (&Value::Null, &false.into()));
    assert_eq!(answer["unanswered"][0]["image"], SILENT);
    assert_eq!((&answer["leftOut"][0]["file"], &answer["leftOut"][0]["line"]), (&"Dockerfile".into(), &3.into()));
    assert_eq!(answer["untagged"][0]["places"], json!([{ "file": "untagged.yaml", "line": 8 }]));
    assert_eq!(answer["errors"].as_array().unwrap().len(), 2, "{answer}");
}

#[test]
fn json_of_every_other_exit_matches_the_schema() {
    let fixture = OutputFixture::new();
    let passes = check_json(&fixture.user.run_json(&["verify", &pinned(FINE, "fine")]).exits(0).stdout);
    assert_eq!((&passes["passes"], &passes["images"][0]["places"]), (&true.into(), &json!([])));
    let unknown = fixture.user.run_json(&["verify", &pinned("registry.example/team/fine:9", "x")]).exits(1);
    check_json(&unknown.stdout);
    check_json(&fixture.user.run_json(&["verify", SILENT]).exits(3).stdout);
    let proxy = Proxy::editing(&fixture.server, "/api/v1/lookup", |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer["images"][0]["sightings"] = json!([]);
        answer.to_string()
    });
    let false_answer = fixture.user.run_json(&["verify", "--log", &proxy.url, &pinned(FINE, "fine")]).exits(4);
    let answer = check_json(&false_answer.stdout);
    assert_eq!((answer["misbehaviour"].as_array().unwrap().len(), &answer["exit"]), (1, &4.into()), "{answer}");
    assert!(false_answer.stderr.contains("THE LOG MISBEHAVES"), "{false_answer:?}");
}

/// Results by rule, with the places that they are shown at.
fn results(sarif: &Value) -> Vec<(&str, &str, Option<&str>, Option<u64>)> {
    let results = sarif["runs"][0]["results"].as_array().unwrap().iter();
    results
        .map(|result| {
            let physical = &result["locations"][0]["physicalLocation"];
            let (file, line) = (physical["artifactLocation"]["uri"].as_str(), physical["region"]["startLine"].as_u64());
            (result["ruleId"].as_str().unwrap(), result["level"].as_str().unwrap(), file, line)
        })
        .collect()
}

#[test]
fn sarif_matches_the_official_schema() {
    let fixture = OutputFixture::new();
    let sarif = check_sarif(&run(&fixture, "sarif"));
    let want = [
        ("taglog/new", "warning", Some("young.yaml"), Some(8)),
        ("taglog/retagged", "error", Some("moved.yaml"), Some(10)),
    ];
    assert_eq!(results(&sarif), want);
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        assert_eq!(rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"], result["ruleId"]);
    }
    let invocation = &run["invocations"][0];
    assert_eq!((&invocation["exitCode"], &invocation["executionSuccessful"]), (&1.into(), &true.into()));
    let told = invocation["toolExecutionNotifications"].as_array().unwrap();
    let told: Vec<&str> = told.iter().map(|told| told["descriptor"]["id"].as_str().unwrap()).collect();
    assert_eq!(told, ["taglog/unanswered", "taglog/left-out"], "what could not be told is told too");

    // The same again has the same fingerprints, whatever the line.
    let text = fixture.user.read("moved.yaml");
    fixture.user.write("moved.yaml", format!("# one line more\n{text}"));
    let again = check_sarif(&self::run(&fixture, "sarif"));
    let prints = |sarif: &Value| {
        let results = sarif["runs"][0]["results"].as_array().unwrap().iter();
        results.map(|result| result["partialFingerprints"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(results(&again)[1].3, Some(11));
    assert_eq!(prints(&again), prints(&sarif));
    assert_ne!(prints(&sarif)[0], prints(&sarif)[1]);
}

/// An image of the command line stands in no file, and a run that passes has no results.
#[test]
fn sarif_without_files() {
    let fixture = OutputFixture::new();
    let ran = fixture.user.run(&["verify", "--output", "sarif", &pinned(MOVED, "evil")]).exits(1);
    let sarif = check_sarif(&ran.stdout);
    assert_eq!(results(&sarif), [("taglog/retagged", "error", None, None)]);
    assert_eq!(sarif["runs"][0]["results"][0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], MOVED);
    let ran = fixture.user.run(&["verify", "--output", "sarif", &pinned(FINE, "fine")]).exits(0);
    assert_eq!(results(&check_sarif(&ran.stdout)), []);
}

fn cases<'a>(document: &'a Document) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name("testcase")).collect()
}

/// What became of a test case.
fn outcome<'a>(case: &Node<'a, 'a>) -> &'a str {
    let mut names = case.children().filter(Node::is_element).map(|child| child.tag_name().name());
    names.find(|name| *name != "properties").unwrap()
}

#[test]
fn junit_has_a_case_for_each_image_in_each_file() {
    let fixture = OutputFixture::new();
    let xml = run(&fixture, "junit");
    check_junit(&xml);
    let document = Document::parse(&xml).unwrap();
    let told: Vec<(&str, &str)> =
        cases(&document).iter().map(|case| (case.attribute("classname").unwrap(), outcome(case))).collect();
    let want = [
        ("fine.yaml", "system-out"),
        ("moved.yaml", "system-out"),
        ("moved.yaml", "failure"),
        ("young.yaml", "system-out"),
        ("silent.yaml", "error"),
        ("Dockerfile", "error"),
        ("untagged.yaml", "system-out"),
    ];
    assert_eq!(told, want);
    let failed = cases(&document)[2];
    assert_eq!(
        (failed.attribute("line"), failed.attribute("name")),
        (Some("10"), Some(&*format!("{MOVED} (line 10)")))
    );
    let failure = failed.children().find(|node| node.has_tag_name("failure")).unwrap();
    assert_eq!(failure.attribute("type"), Some("retagged"));
    assert!(failure.text().unwrap().contains(&digest("good").to_string()), "what the tag has been");
    let root = document.root_element();
    let counts = ["tests", "failures", "errors"].map(|name| root.attribute(name).unwrap());
    assert_eq!(counts, ["7", "1", "2"]);
}

#[test]
fn github_annotations_point_to_lines() {
    let fixture = OutputFixture::new();
    let text = run(&fixture, "github");
    let lines: Vec<&str> = text.lines().collect();
    let begins = [
        "::warning file=young.yaml,line=8,title=taglog%3A new::registry.example/team/young:1.0: ",
        "::error file=moved.yaml,line=10,title=taglog%3A retagged::registry.example/team/moved:1.0: ",
        "::error file=silent.yaml,line=8,title=taglog%3A unanswered::127.0.0.1:1/team/silent:1.0: ",
        "::error file=Dockerfile,line=3,title=taglog%3A left-out::",
        "6 images: 3 pass",
    ];
    assert_eq!(lines.len(), begins.len(), "{text}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\n{begin}");
    }
    assert!(lines[1].contains("%0A") && lines[1].contains(&digest("good").to_string()), "{text}");
    let quiet = fixture.user.run(&[&EVERYTHING[..], &["--output", "github", "--quiet"]].concat()).exits(1).stdout;
    assert!(quiet.lines().all(|line| line.starts_with("::error ")) && quiet.lines().count() == 3, "{quiet}");
}

#[test]
fn reports_go_to_files_in_the_same_run() {
    let fixture = OutputFixture::new();
    fixture.user.write("old.xml", "an older report");
    let files = ["json=r.json", "sarif=r.sarif", "junit=old.xml", "github=r.github", "text=r.txt"];
    let reports: Vec<&str> = files.iter().flat_map(|file| ["--report", file]).collect();
    let ran = fixture.user.run(&[&EVERYTHING[..], &["--quiet"], &reports].concat()).exits(1);
    assert!(ran.stdout.starts_with("retagged"), "{ran:?}");
    check_json(&fixture.user.read("r.json"));
    check_sarif(&fixture.user.read("r.sarif"));
    check_junit(&fixture.user.read("old.xml"));
    assert!(
        fixture.user.read("r.github").contains("::warning "),
        "a file has everything, even if the terminal is quiet"
    );
    assert!(fixture.user.read("r.txt").contains("6 images:"));
    let mode = std::fs::metadata(fixture.user.path("r.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "whoever collects reports can read them: {mode:o}");

    let image = pinned(FINE, "fine");
    for (report, words) in [
        ("json", "FORMAT=FILE"),
        ("xml=r.xml", "unknown format xml"),
        ("json=", "no name"),
        ("json=no/such/directory/r.json", "no/such/directory/r.json"),
    ] {
        fixture.user.run(&["verify", "--report", report, &image]).exits(2).prints(&[words]);
    }
    fixture.user.run(&["verify", "--report", "text=/dev/null", &image]).exits(0);
    // A pipe gets the report as it is: nothing is put in its place.
    let shell = format!("taglog=$0; \"$taglog\" verify -q --report json=/dev/stderr {image} 2>&1 | cat");
    let mut command = Command::new("sh");
    let taglog = fixture.user.command(&[]);
    command.args(["-c", &shell]).arg(taglog.get_program()).env_clear();
    command.envs(taglog.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", "/usr/bin:/bin");
    let output = command.output().unwrap();
    check_json(&String::from_utf8(output.stdout).unwrap());
}

/// Pins are checked in the same formats.
#[test]
fn failing_pins_are_shown_with_their_line() {
    let fixture = OutputFixture::new();
    let check =
        |format: &str| fixture.user.run(&["pin", "--check", "-f", "moved.yaml", "--output", format]).exits(1).stdout;
    let sarif = check_sarif(&check("sarif"));
    assert_eq!(results(&sarif), [("taglog/pin-fails", "error", Some("moved.yaml"), Some(10))]);
    check_junit(&check("junit"));
    let text = check("github");
    assert!(text.starts_with("::error file=moved.yaml,line=10,title=taglog%3A pin-fails::"), "{text}");
    let ran = fixture.user.run(&["pin", "-f", "moved.yaml", "--output", "sarif"]);
    ran.exits(2).has_empty_stdout().prints(&["'pin --check'"]);
}

#[test]
fn other_commands_refuse_unsupported_formats() {
    let fixture = OutputFixture::new();
    for format in ["sarif", "junit", "github"] {
        for command in [&["history", FINE][..], &["keygen", "witness.example/a"], &["completions", "bash"]] {
            let ran = fixture.user.run(&[command, &["--output", format]].concat());
            ran.exits(2).has_empty_stdout().prints(&["'verify' and 'pin'"]);
        }
    }
    assert_eq!(fixture.user.read("trust").lines().count(), 2, "and nothing was done");
}
