//! What a running agent shows of itself.

use serde_json::Value;
use taglog_tests::{
    agent::{Ended, metric},
    hostile_registry::Manner,
};

use crate::witness_scene::{HEALTHY, Scene, digest_of, get, wait_patiently, watch};

const REFUSED: &str = "team/refused:1.0";

#[test]
fn metrics_and_health_are_served() {
    let mut scene = Scene::new();
    scene.registry.set(REFUSED, Manner::status(401));
    scene.configure(&[], &[watch(&scene.registry, &[REFUSED], "")]);
    scene.start();
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    scene.wait_looks(&[HEALTHY, REFUSED], 2);
    let url = scene.agent.url().to_owned();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/push/generic", 404)] {
        assert_eq!(get(&format!("{url}{path}")).status, status, "{path}");
    }
    let registry = format!("registry=\"{}\"", scene.registry.host);
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
    wait_patiently(&scene.agent, "the metrics of the log", || {
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
    let mut scene = Scene::new();
    scene.registry.set(REFUSED, Manner::status(401));
    scene.configure(&[], &[watch(&scene.registry, &[REFUSED], "")]);
    // Before it has ever run.
    let before = Ended::of(scene.agent.command("status").output().unwrap());
    assert_eq!(before.code, Some(3), "{before:?}");

    scene.start();
    scene.wait_healthy_logged(&["one"]);
    scene.wait_error(REFUSED, &["refuses access"]);
    let server = &scene.server;
    scene.agent.wait_until("delivery", |status| status.log(&server.vkey)["delivered"] == 2);
    let status = scene.agent.status();
    let key = scene.witness.vkey();
    assert_eq!(status.0["witness"], format!("{}+{}", key.name(), key.key_id()), "{status:?}");
    assert_eq!((&status.0["running"], &status.0["healthy"]), (&true.into(), &true.into()));
    let tag = status.tag(&scene.registry.name(HEALTHY)).clone();
    assert_eq!(tag["seen"], digest_of("one"));
    assert!(tag["observed"].is_string() && tag["looked"].is_string() && tag["error"].is_null(), "{tag}");
    let hosts: Vec<(&Value, &Value, &Value)> = status.0["registries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|registry| (&registry["registry"], &registry["tags"], &registry["failing"]))
        .collect();
    for (registry, tags, failing) in [(&scene.registry, 2, 1), (&scene.other, 1, 0)] {
        let row = (&Value::from(registry.host.clone()), &tags.into(), &failing.into());
        assert!(hosts.contains(&row), "{row:?} is not in {hosts:?}");
    }
    let log = status.log(&scene.server.vkey);
    assert!(log["checkpoint"]["size"].as_u64() >= Some(4) && log["checkpoint"]["verified"].is_string(), "{log}");
    let text = Ended::of(scene.agent.command("status").output().unwrap());
    assert_eq!(text.code, Some(0), "{text:?}");
    for word in [&*scene.registry.name(REFUSED), "refuses access", "log.example/test", &scene.other.host] {
        assert!(text.stdout.contains(word), "no {word:?} in {text:?}");
    }

    scene.agent.terminate();
    for _ in 0..2 {
        let status = scene.agent.status();
        assert_eq!((&status.0["running"], status.exit_code()), (&false.into(), 3), "{status:?}");
        assert_eq!(status.seen(&scene.registry.name(HEALTHY)), Some(&*digest_of("one")), "what is known is shown");
        scene.start();
        scene.agent.wait_until("the agent", |status| status.0["running"] == true);
        scene.agent.kill();
    }
}

#[test]
fn one_state_directory_is_for_one_agent() {
    let mut scene = Scene::new();
    scene.configure(&[], &[]);
    scene.start();
    scene.wait_healthy_logged(&["one"]);
    for arguments in [&[][..], &["--once"]] {
        let second = Ended::of(scene.agent.command("run").args(arguments).output().unwrap());
        assert!(matches!(second.code, Some(2 | 3)) && second.stderr.contains("in use"), "{second:?}");
    }
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
}

/// A spool holds what one witness signed; another one's key must not go on with it.
#[test]
fn a_state_directory_of_another_witness_is_refused() {
    let scene = Scene::new();
    scene.configure(&[], &[]);
    assert_eq!(scene.agent.once().code, Some(0));
    let other = taglog_tests::Witness::new(2);
    scene.agent.write("witness.key", &format!("{}\n", other.key.to_secret_string()));
    let refused = scene.agent.once();
    assert!(matches!(refused.code, Some(2 | 3)), "{refused:?}");
    assert!(refused.stderr.contains("belongs to witness"), "{refused:?}");
}

#[test]
fn a_port_that_is_taken() {
    let scene = Scene::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    scene.configure(&[("listen", &format!("{address:?}"))], &[]);
    let ended = Ended::of(scene.agent.command("run").output().unwrap());
    assert!(matches!(ended.code, Some(2 | 3)) && ended.stderr.contains(&address), "{ended:?}");
}

#[test]
fn logs_in_json_are_one_object_a_line() {
    let mut scene = Scene::new();
    scene.registry.set(REFUSED, Manner::status(401));
    scene.configure(&[], &[watch(&scene.registry, &[REFUSED], "")]);
    let mut command = scene.agent.command("run");
    crate::witness_scene::start_by(&mut scene.agent, command.args(["--log-format", "json"]).env("RUST_LOG", "debug"));
    scene.wait_healthy_logged(&["one"]);
    scene.wait_error(REFUSED, &["refuses access"]);
    scene.agent.write("witness.toml", "this is no TOML");
    scene.agent.hangup();
    wait_patiently(&scene.agent, "the refusal", || scene.agent.stderr().contains("ERROR").then_some(()));
    let ended = scene.agent.terminate();
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
