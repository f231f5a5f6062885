//! Logs that acknowledge and do not publish, or not what they acknowledged.

use taglog_tests::{
    Server, Status, Witness,
    agent::{log_table, registry_table},
    witness::now,
};

use crate::{
    APP, LogScene,
    cli_common::{
        add,
        proxy::{Own, Proxy},
        same_key, wait,
    },
    witness_scene::{keys, pending, watch},
};

/// Takes entries and publishes nothing; to whoever waits for publication it says that, or nothing at all.
fn publishing_nothing(server: &Server, waiting: Own) -> Proxy {
    Proxy::instead(server, move |path| match path {
        "/api/v1/entries" => None,
        "/api/v1/entries?wait=published" => Some(waiting),
        _ => Some(Own::Unavailable("not-published")),
    })
}

fn is_unpublished(waiting: Own) {
    let mut log = LogScene::new();
    let silent = publishing_nothing(&log.scene.server, waiting);
    log.switch.turn_to(&silent.url);
    log.move_to("two");
    let status = log.wait_alarm("unpublished");
    assert_eq!(status.exit_code(), 3);
    assert_eq!(pending(&status, &log.scene.server), 1, "it must be kept until it is published");
    log.wait_webhook("unpublished");
    assert!(log.evidence().is_empty(), "late is not false");

    log.switch.turn_to(&log.scene.server.url);
    log.wait_delivered();
    log.wait_logged(&["one", "two"]);
    log.wait_calm();
}

#[test]
fn a_log_that_acknowledges_and_does_not_publish() {
    is_unpublished(Own::Unavailable("not-published"));
}

/// The same for a log that just does not answer while there is nothing to publish.
#[test]
fn a_log_that_acknowledges_and_leaves_whoever_waits_waiting() {
    is_unpublished(Own::Silence);
}

/// Before the deadline it is no more than slow.
#[test]
fn a_log_that_publishes_late_but_in_time() {
    let mut log = LogScene::not_started(Server::start(&[&Witness::new(1)], ""));
    let config = std::fs::read_to_string(log.scene.agent.path("witness.toml")).unwrap();
    log.scene.agent.write("witness.toml", &config.replace("publish-deadline = \"1s\"", "publish-deadline = \"1h\""));
    let silent = publishing_nothing(&log.scene.server, Own::Unavailable("not-published"));
    log.switch.turn_to(&silent.url);
    log.scene.start();
    let vkey = log.scene.server.vkey.clone();
    let waits = |status: &Status| status.log(&vkey)["error"].as_str().is_some_and(|error| error.contains("publish"));
    let status = log.scene.agent.wait_until("the log's error", waits);
    assert!(status.alarms().is_empty(), "{status:?}");
    log.switch.turn_to(&log.scene.server.url);
    log.wait_delivered();
    log.wait_logged(&["one"]);
    log.wait_calm();
}

/// The log gives an index, and later another one, each with a flawless proof. Only whoever kept the first one knows.
#[test]
fn an_acknowledged_index_that_changes() {
    let witness = Witness::new(1);
    let mut log = LogScene::not_started(Server::start(&[&witness], ""));
    // One tag, so that all there is has been acknowledged when the alarm comes.
    let tables =
        [log_table("trust"), registry_table(&log.scene.registry.host, 4), watch(&log.scene.registry, &[APP], "")];
    let webhook = format!("{:?}", log.webhook.url);
    log.scene.agent.configure(&keys(&[("publish-deadline", "\"1s\""), ("alarm-webhook", &webhook)]), &tables);
    let silent = publishing_nothing(&log.scene.server, Own::Unavailable("not-published"));
    log.switch.turn_to(&silent.url);
    log.scene.start();
    log.wait_alarm("unpublished");

    let twin = same_key(&log.scene.server, &[&witness]).start();
    add(&twin, &[witness.observe("registry.example/team/other:1.0", "o", now())]);
    log.switch.turn_to(&twin.url);
    let evidence = log.is_caught().to_string();
    assert!(evidence.contains("taglog/observation@v1"), "{evidence}");
    log.switch.turn_to(&log.scene.server.url);
    log.wait_delivered();
    log.wait_logged(&["one"]);
    // The other history was not taken for the log's.
    assert!(wait(twin.size()) > 0);
    log.acknowledge();
    log.wait_calm();
    log.move_to("two");
    log.wait_logged(&["one", "two"]);
    log.wait_delivered();
    log.wait_calm();
}
