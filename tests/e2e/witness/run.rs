//! Status, metrics and logs of a running agent.

use serde_json::Value;
use taglog_tests::{
    agent::{AgentExit, metric},
    hostile_registry::ManifestResponse,
};

use taglog_tests::agent_fixture::{AgentFixture, HEALTHY, digest_of, get, wait_for_agent, watch};

const REFUSED: &str = "team/refused:1.0";

#[test]
fn metrics_and_health_are_served() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(REFUSED, ManifestResponse::status(401));
    fixture.configure(&[], &[watch(&fixture.registry, &[REFUSED], "")]);
    fixture.start();
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    fixture.wait_polls(&[HEALTHY, REFUSED], 2);
    let url = fixture.agent.url().to_owned();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/push/generic", 404)] {
        assert_eq!(get(&format!("{url}{path}")).status, status, "{path}");
    }
    let registry = format!("registry=\"{}\"", fixture.registry.host);
    let value = |name: &str, labels: &[&str]| {
        let text = get(&format!("{url}/metrics")).text();
        let lines: Vec<&str> = text.lines().filter(|line| labels.iter().all(|label| line.contains(label))).collect();
        metric(&lines.join("\n"), name, "")
    };
    let looks = "taglog_witness_looks_total";
    assert!(value(looks, &[&registry, "outcome=\"unchanged\""]) >= 1.0);
    assert_eq!(value(looks, &[&registry, "outcome=\"report\""]), 2.0);
    assert!(value(looks, &[&registry, "outcome=\"unauthorized\""]) >= 2.0);
    assert_eq!(value("taglog_witness_reports_total", &[&registry, "kind=\"digest\""]), 2.0);
    assert_eq!(value("taglog_witness_tags", &[&registry]), 2.0);
    let log = "log=\"log.example/test\"";
    wait_for_agent(&fixture.agent, "the metrics of the log", || {
        let delivered = value("taglog_witness_delivered_total", &[log]) == 4.0;
        (delivered && value("taglog_witness_pending", &[log]) == 0.0).then_some(())
    });
    let text = get(&format!("{url}/metrics")).text();
    for kind in ["misbehaviour", "unpublished", "refused", "not-admitted", "clock", "spool", "spool-damaged"] {
        assert!(text.contains(&format!("taglog_witness_alarms{{kind=\"{kind}\"}} 0")), "{kind}: {text}");
    }
}

#[test]
fn status_tells_running_from_stopped() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(REFUSED, ManifestResponse::status(401));
    fixture.configure(&[], &[watch(&fixture.registry, &[REFUSED], "")]);
    // Before it has ever run.
    let before = AgentExit::of(fixture.agent.command("status").output().unwrap());
    assert_eq!(before.code, Some(3), "{before:?}");

    fixture.start();
    fixture.wait_healthy_logged(&["one"]);
    fixture.wait_error(REFUSED, &["refuses access"]);
    let server = &fixture.server;
    fixture.agent.wait_until("delivery", |status| status.log(&server.vkey)["delivered"] == 2);
    let status = fixture.agent.status();
    let key = fixture.witness.vkey();
    assert_eq!(status.0["witness"], format!("{}+{}", key.name(), key.key_id()), "{status:?}");
    assert_eq!((&status.0["running"], &status.0["healthy"]), (&true.into(), &true.into()));
    let tag = status.tag(&fixture.registry.name(HEALTHY)).clone();
    assert_eq!(tag["seen"], digest_of("one"));
    assert!(tag["observed"].is_string() && tag["looked"].is_string() && tag["error"].is_null(), "{tag}");
    let hosts: Vec<(&Value, &Value, &Value)> = status.0["registries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|registry| (&registry["registry"], &registry["tags"], &registry["failing"]))
        .collect();
    for (registry, tags, failing) in [(&fixture.registry, 2, 1), (&fixture.other, 1, 0)] {
        let row = (&Value::from(registry.host.clone()), &tags.into(), &failing.into());
        assert!(hosts.contains(&row), "{row:?} is not in {hosts:?}");
    }
    let log = status.log(&fixture.server.vkey);
    assert!(log["checkpoint"]["size"].as_u64() >= Some(4) && log["checkpoint"]["verified"].is_string(), "{log}");
    let text = AgentExit::of(fixture.agent.command("status").output().unwrap());
    assert_eq!(text.code, Some(0), "{text:?}");
    for word in [&*fixture.registry.name(REFUSED), "refuses access", "log.example/test", &fixture.other.host] {
        assert!(text.stdout.contains(word), "no {word:?} in {text:?}");
    }

    fixture.agent.terminate();
    for _ in 0..2 {
        let status = fixture.agent.status();
        assert_eq!((&status.0["running"], status.exit_code()), (&false.into(), 3), "{status:?}");
        assert_eq!(status.seen(&fixture.registry.name(HEALTHY)), Some(&*digest_of("one")), "what is known is shown");
        fixture.start();
        fixture.agent.wait_until("the agent", |status| status.0["running"] == true);
        fixture.agent.kill();
    }
}

#[test]
fn one_state_directory_is_for_one_agent() {
    let mut fixture = AgentFixture::new();
    fixture.configure(&[], &[]);
    fixture.start();
    fixture.wait_healthy_logged(&["one"]);
    for arguments in [&[][..], &["--once"]] {
        let second = AgentExit::of(fixture.agent.command("run").args(arguments).output().unwrap());
        assert!(matches!(second.code, Some(2 | 3)) && second.stderr.contains("in use"), "{second:?}");
    }
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
}

/// A spool holds what one witness signed; another one's key must not go on with it.
#[test]
fn a_state_directory_of_another_witness_is_refused() {
    let fixture = AgentFixture::new();
    fixture.configure(&[], &[]);
    assert_eq!(fixture.agent.once().code, Some(0));
    let other = taglog_tests::Witness::new(2);
    fixture.agent.write("witness.key", &format!("{}\n", other.key.to_secret_string()));
    let refused = fixture.agent.once();
    assert!(matches!(refused.code, Some(2 | 3)), "{refused:?}");
    assert!(refused.stderr.contains("belongs to witness"), "{refused:?}");
}

#[test]
fn a_port_in_use_is_refused() {
    let fixture = AgentFixture::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    fixture.configure(&[("listen", &format!("{address:?}"))], &[]);
    let ended = AgentExit::of(fixture.agent.command("run").output().unwrap());
    assert!(matches!(ended.code, Some(2 | 3)) && ended.stderr.contains(&address), "{ended:?}");
}

#[test]
fn logs_in_json_are_one_object_a_line() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(REFUSED, ManifestResponse::status(401));
    fixture.configure(&[], &[watch(&fixture.registry, &[REFUSED], "")]);
    let mut command = fixture.agent.command("run");
    taglog_tests::agent_fixture::start_by(
        &mut fixture.agent,
        command.args(["--log-format", "json"]).env("RUST_LOG", "debug"),
    );
    fixture.wait_healthy_logged(&["one"]);
    fixture.wait_error(REFUSED, &["refuses access"]);
    fixture.agent.write("witness.toml", "this is no TOML");
    fixture.agent.hangup();
    wait_for_agent(&fixture.agent, "the refusal", || fixture.agent.stderr().contains("ERROR").then_some(()));
    let ended = fixture.agent.terminate();
    let mut levels = Vec::new();
    for line in ended.stderr.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["timestamp"].is_string() && object["fields"]["message"].is_string(), "{line}");
        levels.push(object["level"].as_str().unwrap().to_owned());
    }
    for level in ["ERROR", "WARN", "INFO"] {
        assert!(levels.iter().any(|found| found == level), "no {level} in {levels:?}");
    }
}
