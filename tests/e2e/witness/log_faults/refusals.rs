//! Logs that refuse entries.

use taglog_tests::{Server, Status, Witness, witness::now};

use super::{APP, LogFaultFixture};
use taglog_tests::agent_fixture::{HEALTHY, pending, wait_logged};
use taglog_tests::cli_fixture::add;

#[test]
fn a_log_that_does_not_know_the_witness() {
    let mut log = LogFaultFixture::not_started(Server::start(&[&Witness::new(2)], ""));
    log.fixture.start();
    let status = log.wait_alarm("not-admitted");
    assert_eq!(status.exit_code(), 3);
    log.wait_webhook("not-admitted");
    let server = &log.fixture.server;
    log.fixture.agent.wait_until("three reports", |status| pending(status, server) == 3);
    let status = log.fixture.agent.status();
    assert_eq!(status.log(&log.fixture.server.vkey)["refused"], 0, "not for good: {status:?}");
    // What changes meanwhile is kept as well.
    log.move_to("two");
    let server = &log.fixture.server;
    log.fixture.agent.wait_until("the next report", |status| pending(status, server) == 4);

    log.fixture.server.data.configure(&[&Witness::new(2), &log.fixture.witness], "");
    log.fixture.server.restart();
    log.forwarder.turn_to(&log.fixture.server.url);
    log.wait_logged(&["one", "two"]);
    log.fixture.wait_healthy_logged(&["one"]);
    log.wait_delivered();
    log.wait_calm();
    assert!(log.evidence().is_empty());
}

/// Somebody else signs with the same key, and dates in the future: the log must refuse what comes after, for good.
#[test]
fn an_entry_that_the_log_refuses_permanently() {
    let mut log = LogFaultFixture::new();
    let name = log.fixture.registry.name(APP);
    add(&log.fixture.server, &[log.fixture.witness.observe(&name, "ahead", now() + 250)]);
    log.move_to("two");
    let status = log.wait_alarm("refused");
    assert_eq!(status.exit_code(), 3);
    let alarm = status.alarm("refused").unwrap();
    assert!(alarm["message"].as_str().unwrap().contains(&name), "{alarm}");
    log.wait_webhook("refused");
    // It does not delay other entries, and does not count as pending.
    log.fixture.set_healthy("two");
    log.fixture.wait_healthy_logged(&["one", "two"]);
    log.wait_delivered();
    // The tag may be reported again, but not at every poll.
    log.fixture.wait_polls(&[APP], 4);
    let status = log.fixture.agent.status();
    let refused = status.log(&log.fixture.server.vkey)["refused"].as_u64().unwrap();
    assert!((1..=2).contains(&refused), "{refused} refused");
    assert!(status.alarms().contains(&"refused"), "it stays until a person has seen it: {status:?}");
    log.acknowledge();
    log.wait_calm();
}

/// A log that has no room for a moment is asked again.
#[test]
fn an_exhausted_quota_delays_delivery() {
    let quota = "[quota]\nentries-per-second = 1\n";
    let mut log = LogFaultFixture::with(Server::start(&[&Witness::new(1)], quota));
    // Ten seconds' worth may come at once; this is more than is left of it.
    let more: Vec<String> = (0..12).map(|number| format!("team/more:{number}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    for image in &more {
        log.fixture.registry.set(image, taglog_tests::hostile_registry::ManifestResponse::serves("one"));
    }
    log.fixture.configure(&[], &[taglog_tests::agent_fixture::watch(&log.fixture.registry, &more, "")]);
    log.fixture.agent.hangup();
    for image in &more {
        log.fixture.wait_logged(image, &["one"]);
    }
    let status = log.wait_delivered();
    assert!(status.alarms().is_empty(), "{status:?}");
    assert_eq!(status.log(&log.fixture.server.vkey)["refused"], 0, "{status:?}");
}

/// A log that refuses the witness does not delay another one.
#[test]
fn two_logs_of_which_one_does_not_know_the_witness() {
    let second = Server::start(&[&Witness::new(2)], "");
    let mut log = LogFaultFixture::not_started(Server::start(&[&Witness::new(1)], ""));
    log.fixture.agent.trust("second", &second.vkey, &second.url);
    let config = std::fs::read_to_string(log.fixture.agent.path("witness.toml")).unwrap();
    log.fixture.agent.write("witness.toml", &format!("{config}\n[[log]]\ntrust = \"second\"\n"));
    log.fixture.start();
    log.wait_alarm("not-admitted");
    log.wait_logged(&["one"]);
    log.fixture.wait_healthy_logged(&["one"]);
    let first = &log.fixture.server;
    let shares = |status: &Status| pending(status, first) == 0 && pending(status, &second) == 3;
    log.fixture.agent.wait_until("all delivered to one log, all kept for the other", shares);
    log.fixture.set_healthy("two");
    wait_logged(&log.fixture.agent, &log.fixture.server, &log.fixture.registry.name(HEALTHY), &["one", "two"]);
}
