//! `check-config`: errors of a configuration, what it would make public, and what `import` makes.

use std::process::Command;

use taglog_tests::{
    agent::{AgentExit, watch_table},
    binary,
    hostile_registry::ManifestResponse,
};

use taglog_tests::agent_fixture::{AgentFixture, HEALTHY, watch};

const APP: &str = "team/app:1.0";

fn check(fixture: &AgentFixture, arguments: &[&str]) -> AgentExit {
    AgentExit::of(fixture.agent.command("check-config").args(arguments).output().unwrap())
}

fn good() -> (AgentFixture, String) {
    let fixture = AgentFixture::new();
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    fixture.configure(&[], &[watch(&fixture.registry, &[APP], "")]);
    let text = std::fs::read_to_string(fixture.agent.path("witness.toml")).unwrap();
    (fixture, text)
}

#[test]
fn errors_are_reported_with_their_line() {
    let (fixture, good) = good();
    fixture.agent.write("garbage.key", "no key");
    fixture.agent.write("no-url", &format!("log {}\nquorum none\n", fixture.server.vkey));
    fixture
        .agent
        .write("cosigned", &format!("log {} http://127.0.0.1:1\nwitness a b\nquorum a\n", fixture.server.vkey));
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from:?} is not in {good}");
        good.replace(from, to)
    };
    let first = |line: &str| format!("{line}\n{good}");
    let last = |lines: &str| format!("{good}\n{lines}");
    let push = "[[push]]\nkind = \"generic\"\nregistry = \"r.example\"";
    for (text, words) in [
        ("this is no TOML".to_owned(), &["witness.toml", "line 1"][..]),
        (first("intervall = \"1h\""), &["witness.toml", "line 1", "intervall"]),
        (with("interval = \"1s\"", "interval = \"soon\""), &["witness.toml", "soon", "24h"]),
        (with("interval = \"1s\"", "interval = \"0s\""), &["interval", "1s"]),
        (with("[[log]]\ntrust = \"trust\"\n", ""), &["log"]),
        (with("trust = \"trust\"", "trust = \"nowhere\""), &["nowhere", "taglog init"]),
        (with("trust = \"trust\"", "trust = \"witness.key\""), &["witness.key", "line 1"]),
        (with("trust = \"trust\"", "trust = \"no-url\""), &["no-url", "url"]),
        (with("trust = \"trust\"", "trust = \"cosigned\""), &["cosigned", "line 2", "verifier key"]),
        (last("[[log]]\ntrust = \"trust\""), &["log.example/test", "twice"]),
        (with("witness.key", "nowhere.key"), &["nowhere.key", "taglog keygen"]),
        (with("witness.key", "garbage.key"), &["garbage.key"]),
        (with("team/app\"", "team/app:1.0\""), &["team/app:1.0", "tags"]),
        (with("team/app\"", "Team/App\""), &["Team/App", "repository"]),
        (with("[\"1.0\"]", "[]"), &["tags", "at least one"]),
        (with("[\"1.0\"]", "[\"glob:[\"]"), &["glob:["]),
        (with("[\"1.0\"]", "[\"semver:one\"]"), &["semver:one"]),
        (with("[\"1.0\"]", "[\"range:1\"]"), &["range:1"]),
        (last(&watch(&fixture.registry, &[APP], "")), &["team/app", "twice"]),
        (first("gone-looks = 1"), &["gone-looks", "404"]),
        (first("spool-limit-mib = 0"), &["spool-limit-mib"]),
        (first("alarm-webhook = \"mailto:a@b.example\""), &["alarm-webhook"]),
        (with("concurrency = 4", "concurrency = 0"), &["concurrency"]),
        (last("[registry.\"https://r.example\"]\nconcurrency = 1"), &["https://r.example", "host"]),
        (last(push).replace("listen = \"127.0.0.1:0\"", ""), &["r.example", "listen"]),
        (last(push).replace("127.0.0.1:0", "0.0.0.0:0"), &["r.example", "secret"]),
        (last(&format!("{push}\nsecret-file = \"nowhere\"")), &["nowhere"]),
        (last(&format!("{push}\n{push}")), &["/push/generic", "taken"]),
        (last("[[push]]\nkind = \"quay\"\nregistry = \"r.example\""), &["quay", "harbor"]),
    ] {
        fixture.agent.write("witness.toml", &text);
        for arguments in [&["--offline"][..], &[]] {
            let ended = check(&fixture, arguments);
            assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
            assert_eq!(ended.stdout, "", "{words:?}");
            for word in words {
                assert!(ended.stderr.contains(word), "no {word:?} in {}", ended.stderr);
            }
        }
        // The agent says the same, and so does a run of it by cron.
        assert_eq!(fixture.agent.once().code, Some(2), "{words:?}");
    }
    assert!(fixture.registry.seen().is_empty(), "a wrong configuration asks nobody");
    assert!(!fixture.agent.path("state").exists(), "a wrong configuration leaves no traces");
}

#[test]
fn a_missing_file_is_reported() {
    let fixture = AgentFixture::new();
    let ended = check(&fixture, &["--offline"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for word in ["cannot read", "witness.toml", "taglog witness import"] {
        assert!(ended.stderr.contains(word), "no {word:?} in {ended:?}");
    }
}

#[test]
fn a_valid_configuration_lists_what_becomes_public() {
    let (fixture, _) = good();
    let offline = check(&fixture, &["--offline"]);
    assert_eq!(offline.code, Some(0), "{offline:?}");
    assert!(fixture.registry.seen().is_empty(), "offline");
    let ended = check(&fixture, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in [&*fixture.registry.name("team/app"), &fixture.other.name("team/healthy"), "log.example/test"] {
        assert!(ended.stdout.contains(word), "no {word:?} in {ended:?}");
    }
    assert!(!fixture.agent.path("state").exists(), "a check leaves no traces");
    let json = check(&fixture, &["--output", "json"]);
    assert_eq!(json.code, Some(0), "{json:?}");
    serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap();
}

#[test]
fn a_registry_that_fails_is_named() {
    let (fixture, _) = good();
    fixture.registry.everything(Some(taglog_tests::hostile_registry::FixedResponse::status(500)));
    let ended = check(&fixture, &[]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let text = format!("{}{}", ended.stdout, ended.stderr);
    for word in [&*fixture.registry.name("team/app"), "500", &fixture.other.name("team/healthy")] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert_eq!(fixture.other.polls(HEALTHY), 1, "the others are asked all the same");
}

/// What `import` makes of files that name images can be appended to a configuration as it is.
#[test]
fn import_makes_a_valid_watch_list() {
    let fixture = AgentFixture::new();
    fixture
        .agent
        .write("Dockerfile", "FROM registry.example/base/go:1.25 AS build\nFROM busybox\nCOPY --from=build /a /a\n");
    fixture.agent.write(
        "compose.yaml",
        "services:\n  web:\n    image: registry.example:5000/team/web:2.0\n  db:\n    image: postgres:18\n",
    );
    fixture.agent.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n    - name: c\n      image: ghcr.io/team/c:v1\n");
    let files = ["-f", "Dockerfile", "-f", "compose.yaml", "-f", "pod.yaml"];
    let mut import = Command::new(binary("taglog"));
    import.env_clear().current_dir(fixture.agent.path("")).args(["witness", "import"]).args(files);
    let imported = AgentExit::of(import.output().unwrap());
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let own = watch_table(&fixture.registry.name("team/app"), &["1.0"], "");
    fixture.configure(&[], &[own]);
    let config = std::fs::read_to_string(fixture.agent.path("witness.toml")).unwrap();
    fixture.agent.write("witness.toml", &format!("{config}\n{}", imported.stdout));
    let checked = check(&fixture, &["--offline"]);
    assert_eq!(checked.code, Some(0), "{checked:?}\n{}", imported.stdout);
    for name in [
        "registry.example/base/go",
        "library/busybox",
        "registry.example:5000/team/web",
        "library/postgres",
        "ghcr.io/team/c",
    ] {
        assert!(checked.stdout.contains(name), "no {name} in {checked:?}");
    }
}
