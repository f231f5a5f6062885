//! SIGHUP, SIGTERM, and notifications to systemd.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use taglog_tests::{hostile_registry::ManifestResponse, process::TIMEOUT};

use taglog_tests::agent_fixture::{AgentFixture, HEALTHY, start_by, wait_for_agent, watch};

const OLD: &str = "team/old:1.0";
const NEW: &str = "team/new:1.0";

fn fixture() -> AgentFixture {
    let fixture = AgentFixture::new();
    fixture.registry.set(OLD, ManifestResponse::serves("old"));
    fixture.registry.set(NEW, ManifestResponse::serves("new"));
    fixture.configure(&[], &[watch(&fixture.registry, &[OLD], "")]);
    fixture
}

#[test]
fn a_new_configuration_replaces_the_old_one() {
    let mut fixture = fixture();
    fixture.start();
    fixture.wait_logged(OLD, &["old"]);
    fixture.wait_healthy_logged(&["one"]);
    fixture.configure(&[], &[watch(&fixture.registry, &[NEW], "")]);
    fixture.agent.hangup();
    fixture.wait_logged(NEW, &["new"]);
    let looks = fixture.registry.polls(OLD);
    fixture.wait_polls(&[NEW, HEALTHY], 3);
    assert_eq!(fixture.registry.polls(OLD), looks, "the old tag is still looked at");
    // What was reported before the reload is known after it.
    let delivered = |status: &taglog_tests::Status| status.log(&fixture.server.vkey)["delivered"] == 4;
    fixture.agent.wait_until("four deliveries", delivered);
    // It is the same process, and answers at the same address.
    let url = fixture.agent.url().to_owned();
    assert_eq!(taglog_tests::agent_fixture::get(&format!("{url}/readyz")).status, 200);

    // And back again: the old tag has moved meanwhile.
    fixture.registry.set(OLD, ManifestResponse::serves("older"));
    fixture.configure(&[], &[watch(&fixture.registry, &[OLD], "")]);
    fixture.agent.hangup();
    fixture.wait_logged(OLD, &["old", "older"]);
}

#[test]
fn an_invalid_configuration_is_refused_and_the_old_one_stays() {
    let mut fixture = fixture();
    fixture.start();
    fixture.wait_logged(OLD, &["old"]);
    let good = std::fs::read_to_string(fixture.agent.path("witness.toml")).unwrap();
    let wrong = [
        ("this is no TOML".to_owned(), "witness.toml"),
        (good.replace("interval = \"1s\"", "interval = \"soon\""), "soon"),
        (good.replace("trust = \"trust\"", "trust = \"nowhere\""), "nowhere"),
        (good.replace("witness.key", "other.key"), "other.key"),
        (good.replace("state = \"state\"", "state = \"elsewhere\""), "state"),
        (good.replace("tags = [\"1.0\"]", "tags = [\"regex:(\"]"), "regex:("),
    ];
    for (text, words) in wrong {
        assert_ne!(text, good, "{words}");
        let said = fixture.agent.stderr().len();
        fixture.agent.write("witness.toml", &text);
        fixture.agent.hangup();
        wait_for_agent(&fixture.agent, &format!("an error that says {words:?}"), || {
            let stderr = fixture.agent.stderr();
            let (_, error) = stderr[said..].split_once("ERROR")?;
            error.contains(words).then_some(())
        });
        fixture.wait_polls(&[OLD, HEALTHY], 2);
        assert!(fixture.agent.ended().is_none(), "{words}");
    }
    fixture.registry.set(OLD, ManifestResponse::serves("older"));
    fixture.wait_logged(OLD, &["old", "older"]);
    fixture.agent.write("witness.toml", &good.replace("team/old", "team/new"));
    fixture.agent.hangup();
    fixture.wait_logged(NEW, &["new"]);
}

/// Waits for a message with this line.
fn wait_message(socket: &UnixDatagram, line: &str) {
    let deadline = Instant::now() + TIMEOUT;
    let mut heard = Vec::new();
    while Instant::now() < deadline {
        let mut buffer = [0; 4096];
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if message.lines().any(|said| said == line) {
            return;
        }
        heard.push(message);
    }
    panic!("waited for {line}, heard {heard:?}");
}

#[test]
fn systemd_is_notified() {
    let mut fixture = fixture();
    let path = fixture.agent.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut command = fixture.agent.command("run");
    command.env("NOTIFY_SOCKET", &path);
    start_by(&mut fixture.agent, &mut command);
    wait_message(&socket, "READY=1");
    fixture.agent.hangup();
    wait_message(&socket, "RELOADING=1");
    wait_message(&socket, "READY=1");
    // A refused configuration must not leave it reloading for ever: it is ready, or was never anything else.
    fixture.agent.write("witness.toml", "this is no TOML");
    fixture.agent.hangup();
    wait_for_agent(&fixture.agent, "the refusal", || fixture.agent.stderr().contains("ERROR").then_some(()));
    fixture.wait_polls(&[OLD], 2);
    fixture.agent.terminate();
    wait_message(&socket, "STOPPING=1");
}

/// What is under way is finished, or given up, soon.
#[test]
fn sigterm_ends_it_even_when_a_registry_stalls() {
    let mut fixture = fixture();
    fixture.registry.set("team/stalls:1.0", ManifestResponse::Stalls);
    fixture.configure(&[], &[watch(&fixture.registry, &["team/stalls:1.0"], "")]);
    // With the time for an answer that it has by itself.
    fixture.agent.start();
    wait_for_agent(&fixture.agent, "the look", || (fixture.registry.polls("team/stalls:1.0") >= 1).then_some(()));
    fixture.wait_healthy_logged(&["one"]);
    let asked = Instant::now();
    fixture.agent.terminate();
    assert!(asked.elapsed() < Duration::from_secs(25), "it took {:?}", asked.elapsed());
    // Nothing was lost by it.
    fixture.set_healthy("two");
    fixture.start();
    fixture.wait_healthy_logged(&["one", "two"]);
}

#[test]
fn sigint_ends_it_like_sigterm() {
    let mut fixture = fixture();
    fixture.start();
    fixture.wait_logged(OLD, &["old"]);
    let process = fixture.agent.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let ended = fixture.agent.wait_end(TIMEOUT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
