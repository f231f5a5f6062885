//! `--once`, for cron and CI.

use taglog_proto::time::Timestamp;
use taglog_tests::{agent::AgentExit, hostile_registry::ManifestResponse};

use taglog_tests::agent_fixture::{
    AgentFixture, HEALTHY, digest_of, forwarder::Forwarder, logged, logged_digests, watch,
};
use taglog_tests::cli_fixture::proxy::Proxy;

const APP: &str = "team/app:1.0";

fn exits(ended: &AgentExit, code: i32) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
}

fn has(fixture: &AgentFixture, contents: &[&str]) {
    let want: Vec<String> = contents.iter().map(|content| digest_of(content)).collect();
    for name in [fixture.registry.name(HEALTHY), fixture.other.name(HEALTHY)] {
        assert_eq!(logged_digests(&fixture.server, &name), want, "{name}");
    }
}

#[test]
fn every_tag_is_polled_once_and_delivered() {
    let fixture = AgentFixture::new();
    fixture.configure(&[], &[]);
    exits(&fixture.agent.once(), 0);
    has(&fixture, &["one"]);
    assert_eq!((fixture.registry.polls(HEALTHY), fixture.other.polls(HEALTHY)), (1, 1));
    // Nothing new is nothing to report.
    exits(&fixture.agent.once(), 0);
    has(&fixture, &["one"]);
    fixture.set_healthy("two");
    exits(&fixture.agent.once(), 0);
    has(&fixture, &["one", "two"]);
    let status = fixture.agent.status();
    assert_eq!((&status.0["running"], status.pending()), (&false.into(), 0), "{status:?}");
    assert_eq!(status.log(&fixture.server.vkey)["delivered"], 4, "{status:?}");
}

#[test]
fn patterns_are_matched_against_the_tag_list() {
    let fixture = AgentFixture::new();
    for tag in ["1.0", "1.1", "2.0", "nightly"] {
        fixture.registry.set(&format!("team/app:{tag}"), ManifestResponse::serves(tag));
    }
    let name = fixture.registry.name("team/app");
    let table = taglog_tests::agent::watch_table(&name, &["glob:1.*", "regex:^night"], "exclude = [\"1.1\"]");
    fixture.configure(&[], &[table]);
    exits(&fixture.agent.once(), 0);
    let reported: Vec<bool> =
        ["1.0", "1.1", "2.0", "nightly"].map(|tag| !fixture.logged(&format!("team/app:{tag}")).is_empty()).into();
    assert_eq!(reported, [true, false, false, true]);
}

#[test]
fn a_registry_that_fails_is_named_and_the_rest_is_delivered() {
    for response in [ManifestResponse::status(401), ManifestResponse::status(500), ManifestResponse::status(429)] {
        let fixture = AgentFixture::new();
        fixture.registry.set(APP, response.clone());
        fixture.configure(&[], &[watch(&fixture.registry, &[APP], "")]);
        let ended = fixture.agent.once();
        exits(&ended, 3);
        assert!(ended.stderr.contains(&fixture.registry.name(APP)), "{response:?}: {ended:?}");
        assert_eq!(logged_digests(&fixture.server, &fixture.other.name(HEALTHY)), [digest_of("one")], "{response:?}");
        assert_eq!(fixture.logged(APP), [""; 0], "{response:?}");
    }
}

/// What could not be delivered waits for the next time, and keeps its own time.
#[test]
fn undelivered_entries_are_delivered_by_the_next_run() {
    let fixture = AgentFixture::new();
    let forwarder = Forwarder::to(&fixture.server.url);
    fixture.agent.trust("trust", &fixture.server.vkey, &forwarder.url);
    fixture.configure(&[], &[]);
    forwarder.cut();
    let ended = fixture.agent.once();
    exits(&ended, 3);
    assert!(ended.stderr.contains("log.example/test"), "the log is not named: {ended:?}");
    let status = fixture.agent.status();
    assert_eq!(status.pending(), 2, "{status:?}");
    let name = fixture.registry.name(HEALTHY);
    let observed: Timestamp = status.tag(&name)["observed"].as_str().unwrap().parse().unwrap();

    forwarder.turn_to(&fixture.server.url);
    exits(&fixture.agent.once(), 0);
    assert_eq!(logged(&fixture.server, &name), [(digest_of("one"), observed)]);
    has(&fixture, &["one"]);
}

#[test]
fn misbehaviour_is_the_most_severe_result() {
    let fixture = AgentFixture::new();
    let liar = Proxy::editing(&fixture.server, "/api/v1/entries", |text| text.replace("index ", "index 1"));
    fixture.agent.trust("trust", &fixture.server.vkey, &liar.url);
    // A tag that cannot be asked besides.
    fixture.registry.set(APP, ManifestResponse::status(401));
    fixture.configure(&[], &[watch(&fixture.registry, &[APP], "")]);
    let ended = fixture.agent.once();
    exits(&ended, 4);
    assert!(ended.stderr.contains("MISBEHAVES"), "{ended:?}");
    assert_eq!(fixture.agent.status().exit_code(), 4);
}

#[test]
fn an_invalid_configuration_is_refused() {
    let fixture = AgentFixture::new();
    fixture.agent.write("witness.toml", "key = 3");
    exits(&fixture.agent.once(), 2);
    assert!(fixture.registry.seen().is_empty());
}
