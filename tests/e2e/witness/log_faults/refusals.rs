//! Logs that do not take what they are given.

use taglog_tests::{Server, Status, Witness, witness::now};

use crate::{
    APP, LogScene,
    cli_common::add,
    witness_scene::{HEALTHY, pending, wait_logged},
};

#[test]
fn a_log_that_does_not_know_the_witness() {
    let mut log = LogScene::not_started(Server::start(&[&Witness::new(2)], ""));
    log.scene.start();
    let status = log.wait_alarm("not-admitted");
    assert_eq!(status.exit_code(), 3);
    log.wait_webhook("not-admitted");
    let server = &log.scene.server;
    log.scene.agent.wait_until("three reports", |status| pending(status, server) == 3);
    let status = log.scene.agent.status();
    assert_eq!(status.log(&log.scene.server.vkey)["refused"], 0, "not for good: {status:?}");
    // What changes meanwhile is kept as well.
    log.move_to("two");
    let server = &log.scene.server;
    log.scene.agent.wait_until("the next report", |status| pending(status, server) == 4);

    log.scene.server.data.configure(&[&Witness::new(2), &log.scene.witness], "");
    log.scene.server.restart();
    log.switch.turn_to(&log.scene.server.url);
    log.wait_logged(&["one", "two"]);
    log.scene.wait_healthy_logged(&["one"]);
    log.wait_delivered();
    log.wait_calm();
    assert!(log.evidence().is_empty());
}

/// Somebody else signs with the same key, and dates in the future: the log must refuse what comes after, for good.
#[test]
fn an_entry_that_the_log_will_never_take() {
    let mut log = LogScene::new();
    let name = log.scene.registry.name(APP);
    add(&log.scene.server, &[log.scene.witness.observe(&name, "ahead", now() + 250)]);
    log.move_to("two");
    let status = log.wait_alarm("refused");
    assert_eq!(status.exit_code(), 3);
    let alarm = status.alarm("refused").unwrap();
    assert!(alarm["message"].as_str().unwrap().contains(&name), "{alarm}");
    log.wait_webhook("refused");
    // It holds up nothing else, and is not counted as something to come.
    log.scene.set_healthy("two");
    log.scene.wait_healthy_logged(&["one", "two"]);
    log.wait_delivered();
    // The tag may be reported again, but not at every look.
    log.scene.wait_looks(&[APP], 4);
    let status = log.scene.agent.status();
    let refused = status.log(&log.scene.server.vkey)["refused"].as_u64().unwrap();
    assert!((1..=2).contains(&refused), "{refused} refused");
    assert!(status.alarms().contains(&"refused"), "it stays until a person has seen it: {status:?}");
    log.acknowledge();
    log.wait_calm();
}

/// A log that has no room for a moment is asked again.
#[test]
fn a_quota_that_is_used_up_passes() {
    let quota = "[quota]\nentries-per-second = 1\n";
    let mut log = LogScene::with(Server::start(&[&Witness::new(1)], quota));
    // Ten seconds' worth may come at once; this is more than is left of it.
    let more: Vec<String> = (0..12).map(|number| format!("team/more:{number}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    for image in &more {
        log.scene.registry.set(image, taglog_tests::hostile_registry::Manner::serves("one"));
    }
    log.scene.configure(&[], &[crate::witness_scene::watch(&log.scene.registry, &more, "")]);
    log.scene.agent.hangup();
    for image in &more {
        log.scene.wait_logged(image, &["one"]);
    }
    let status = log.wait_delivered();
    assert!(status.alarms().is_empty(), "{status:?}");
    assert_eq!(status.log(&log.scene.server.vkey)["refused"], 0, "{status:?}");
}

/// A log that refuses the witness does not hold up another one.
#[test]
fn two_logs_of_which_one_does_not_know_the_witness() {
    let second = Server::start(&[&Witness::new(2)], "");
    let mut log = LogScene::not_started(Server::start(&[&Witness::new(1)], ""));
    log.scene.agent.trust("second", &second.vkey, &second.url);
    let config = std::fs::read_to_string(log.scene.agent.path("witness.toml")).unwrap();
    log.scene.agent.write("witness.toml", &format!("{config}\n[[log]]\ntrust = \"second\"\n"));
    log.scene.start();
    log.wait_alarm("not-admitted");
    log.wait_logged(&["one"]);
    log.scene.wait_healthy_logged(&["one"]);
    let first = &log.scene.server;
    let shares = |status: &Status| pending(status, first) == 0 && pending(status, &second) == 3;
    log.scene.agent.wait_until("all delivered to one log, all kept for the other", shares);
    log.scene.set_healthy("two");
    wait_logged(&log.scene.agent, &log.scene.server, &log.scene.registry.name(HEALTHY), &["one", "two"]);
}
