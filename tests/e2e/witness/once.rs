//! `--once`, for cron and CI.

use taglog_proto::time::Timestamp;
use taglog_tests::{agent::Ended, hostile_registry::Manner};

use crate::{
    cli_common::proxy::Proxy,
    witness_scene::{HEALTHY, Scene, digest_of, logged, logged_digests, switch::Switch, watch},
};

const APP: &str = "team/app:1.0";

fn exits(ended: &Ended, code: i32) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
}

fn has(scene: &Scene, contents: &[&str]) {
    let want: Vec<String> = contents.iter().map(|content| digest_of(content)).collect();
    for name in [scene.registry.name(HEALTHY), scene.other.name(HEALTHY)] {
        assert_eq!(logged_digests(&scene.server, &name), want, "{name}");
    }
}

#[test]
fn everything_is_looked_at_once_and_delivered() {
    let scene = Scene::new();
    scene.configure(&[], &[]);
    exits(&scene.agent.once(), 0);
    has(&scene, &["one"]);
    assert_eq!((scene.registry.looks(HEALTHY), scene.other.looks(HEALTHY)), (1, 1));
    // Nothing new is nothing to report.
    exits(&scene.agent.once(), 0);
    has(&scene, &["one"]);
    scene.set_healthy("two");
    exits(&scene.agent.once(), 0);
    has(&scene, &["one", "two"]);
    let status = scene.agent.status();
    assert_eq!((&status.0["running"], status.pending()), (&false.into(), 0), "{status:?}");
    assert_eq!(status.log(&scene.server.vkey)["delivered"], 4, "{status:?}");
}

#[test]
fn patterns_are_held_against_the_list() {
    let scene = Scene::new();
    for tag in ["1.0", "1.1", "2.0", "nightly"] {
        scene.registry.set(&format!("team/app:{tag}"), Manner::serves(tag));
    }
    let name = scene.registry.name("team/app");
    let table = taglog_tests::agent::watch_table(&name, &["glob:1.*", "regex:^night"], "exclude = [\"1.1\"]");
    scene.configure(&[], &[table]);
    exits(&scene.agent.once(), 0);
    let reported: Vec<bool> =
        ["1.0", "1.1", "2.0", "nightly"].map(|tag| !scene.logged(&format!("team/app:{tag}")).is_empty()).into();
    assert_eq!(reported, [true, false, false, true]);
}

#[test]
fn what_cannot_be_asked_is_named_and_the_rest_is_delivered() {
    for manner in [Manner::status(401), Manner::status(500), Manner::status(429)] {
        let scene = Scene::new();
        scene.registry.set(APP, manner.clone());
        scene.configure(&[], &[watch(&scene.registry, &[APP], "")]);
        let ended = scene.agent.once();
        exits(&ended, 3);
        assert!(ended.stderr.contains(&scene.registry.name(APP)), "{manner:?}: {ended:?}");
        assert_eq!(logged_digests(&scene.server, &scene.other.name(HEALTHY)), [digest_of("one")], "{manner:?}");
        assert_eq!(scene.logged(APP), [""; 0], "{manner:?}");
    }
}

/// What could not be delivered waits for the next time, and keeps its own time.
#[test]
fn what_cannot_be_delivered_is_delivered_the_next_time() {
    let scene = Scene::new();
    let switch = Switch::to(&scene.server.url);
    scene.agent.trust("trust", &scene.server.vkey, &switch.url);
    scene.configure(&[], &[]);
    switch.cut();
    let ended = scene.agent.once();
    exits(&ended, 3);
    assert!(ended.stderr.contains("log.example/test"), "the log is not named: {ended:?}");
    let status = scene.agent.status();
    assert_eq!(status.pending(), 2, "{status:?}");
    let name = scene.registry.name(HEALTHY);
    let observed: Timestamp = status.tag(&name)["observed"].as_str().unwrap().parse().unwrap();

    switch.turn_to(&scene.server.url);
    exits(&scene.agent.once(), 0);
    assert_eq!(logged(&scene.server, &name), [(digest_of("one"), observed)]);
    has(&scene, &["one"]);
}

#[test]
fn a_log_that_misbehaves_is_the_gravest() {
    let scene = Scene::new();
    let liar = Proxy::editing(&scene.server, "/api/v1/entries", |text| text.replace("index ", "index 1"));
    scene.agent.trust("trust", &scene.server.vkey, &liar.url);
    // A tag that cannot be asked besides.
    scene.registry.set(APP, Manner::status(401));
    scene.configure(&[], &[watch(&scene.registry, &[APP], "")]);
    let ended = scene.agent.once();
    exits(&ended, 4);
    assert!(ended.stderr.contains("MISBEHAVES"), "{ended:?}");
    assert_eq!(scene.agent.status().exit_code(), 4);
}

#[test]
fn a_configuration_that_is_wrong() {
    let scene = Scene::new();
    scene.agent.write("witness.toml", "key = 3");
    exits(&scene.agent.once(), 2);
    assert!(scene.registry.seen().is_empty());
}
