//! SIGHUP, SIGTERM, and what systemd is told.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use taglog_tests::{hostile_registry::Manner, process::PATIENCE};

use crate::witness_scene::{HEALTHY, Scene, start_by, wait_patiently, watch};

const OLD: &str = "team/old:1.0";
const NEW: &str = "team/new:1.0";

fn scene() -> Scene {
    let scene = Scene::new();
    scene.registry.set(OLD, Manner::serves("old"));
    scene.registry.set(NEW, Manner::serves("new"));
    scene.configure(&[], &[watch(&scene.registry, &[OLD], "")]);
    scene
}

#[test]
fn a_new_configuration_takes_the_place_of_the_old_one() {
    let mut scene = scene();
    scene.start();
    scene.wait_logged(OLD, &["old"]);
    scene.wait_healthy_logged(&["one"]);
    scene.configure(&[], &[watch(&scene.registry, &[NEW], "")]);
    scene.agent.hangup();
    scene.wait_logged(NEW, &["new"]);
    let looks = scene.registry.looks(OLD);
    scene.wait_looks(&[NEW, HEALTHY], 3);
    assert_eq!(scene.registry.looks(OLD), looks, "the old tag is still looked at");
    // What was reported before the reload is known after it.
    let delivered = |status: &taglog_tests::Status| status.log(&scene.server.vkey)["delivered"] == 4;
    scene.agent.wait_until("four deliveries", delivered);
    // It is the same process, and answers at the same address.
    let url = scene.agent.url().to_owned();
    assert_eq!(crate::witness_scene::get(&format!("{url}/readyz")).status, 200);

    // And back again: the old tag has moved meanwhile.
    scene.registry.set(OLD, Manner::serves("older"));
    scene.configure(&[], &[watch(&scene.registry, &[OLD], "")]);
    scene.agent.hangup();
    scene.wait_logged(OLD, &["old", "older"]);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_and_the_old_one_stays() {
    let mut scene = scene();
    scene.start();
    scene.wait_logged(OLD, &["old"]);
    let good = std::fs::read_to_string(scene.agent.path("witness.toml")).unwrap();
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
        let said = scene.agent.stderr().len();
        scene.agent.write("witness.toml", &text);
        scene.agent.hangup();
        wait_patiently(&scene.agent, &format!("an error that says {words:?}"), || {
            let stderr = scene.agent.stderr();
            let (_, error) = stderr[said..].split_once("ERROR")?;
            error.contains(words).then_some(())
        });
        scene.wait_looks(&[OLD, HEALTHY], 2);
        assert!(scene.agent.ended().is_none(), "{words}");
    }
    scene.registry.set(OLD, Manner::serves("older"));
    scene.wait_logged(OLD, &["old", "older"]);
    scene.agent.write("witness.toml", &good.replace("team/old", "team/new"));
    scene.agent.hangup();
    scene.wait_logged(NEW, &["new"]);
}

/// Waits for a message with this line.
fn wait_message(socket: &UnixDatagram, line: &str) {
    let deadline = Instant::now() + PATIENCE;
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
fn systemd_is_told() {
    let mut scene = scene();
    let path = scene.agent.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut command = scene.agent.command("run");
    command.env("NOTIFY_SOCKET", &path);
    start_by(&mut scene.agent, &mut command);
    wait_message(&socket, "READY=1");
    scene.agent.hangup();
    wait_message(&socket, "RELOADING=1");
    wait_message(&socket, "READY=1");
    // A refused configuration must not leave it reloading for ever: it is ready, or was never anything else.
    scene.agent.write("witness.toml", "this is no TOML");
    scene.agent.hangup();
    wait_patiently(&scene.agent, "the refusal", || scene.agent.stderr().contains("ERROR").then_some(()));
    scene.wait_looks(&[OLD], 2);
    scene.agent.terminate();
    wait_message(&socket, "STOPPING=1");
}

/// What is under way is finished, or given up, soon.
#[test]
fn sigterm_ends_it_soon_even_when_a_registry_stalls() {
    let mut scene = scene();
    scene.registry.set("team/stalls:1.0", Manner::Stalls);
    scene.configure(&[], &[watch(&scene.registry, &["team/stalls:1.0"], "")]);
    // With the time for an answer that it has by itself.
    scene.agent.start();
    wait_patiently(&scene.agent, "the look", || (scene.registry.looks("team/stalls:1.0") >= 1).then_some(()));
    scene.wait_healthy_logged(&["one"]);
    let asked = Instant::now();
    scene.agent.terminate();
    assert!(asked.elapsed() < Duration::from_secs(25), "it took {:?}", asked.elapsed());
    // Nothing was lost by it.
    scene.set_healthy("two");
    scene.start();
    scene.wait_healthy_logged(&["one", "two"]);
}

#[test]
fn sigint_ends_it_like_sigterm() {
    let mut scene = scene();
    scene.start();
    scene.wait_logged(OLD, &["old"]);
    let process = scene.agent.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let ended = scene.agent.wait_end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
