//! Logs that acknowledge and do not publish, or not what they acknowledged.

use serde_json::Value;
use taglog_tests::{Server, Status, Witness};

use crate::{
    LogScene,
    cli_common::{
        proxy::{Own, Proxy},
        wait,
    },
    histories::twin,
    witness_scene::pending,
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

/// Acknowledges what it is given with indices that are not true, and publishes nothing.
fn numbering_falsely(server: &Server) -> Proxy {
    let instead = |path: &str| match path {
        "/api/v1/entries" => None,
        _ => Some(Own::Unavailable("not-published")),
    };
    Proxy::instead_and_answering(server, instead, |_, body| {
        let mut answers: Vec<Value> = serde_json::from_slice(&body).unwrap();
        for answer in &mut answers {
            answer["index"] = (answer["index"].as_u64().unwrap() + 1000).into();
        }
        serde_json::to_vec(&answers).unwrap()
    })
}

/// The log gives an index, and later another one with a flawless proof. Only whoever kept the first one knows, and says
/// so; the entry is in the log all the same.
#[test]
fn an_acknowledged_index_that_changes() {
    let mut log = LogScene::new();
    let false_numbers = numbering_falsely(&log.scene.server);
    log.switch.turn_to(&false_numbers.url);
    log.move_to("two");
    log.wait_alarm("unpublished");

    log.turn_to_honest();
    let status = log.wait_alarm("misbehaviour");
    assert_eq!(status.exit_code(), 4);
    log.wait_delivered();
    log.wait_logged(&["one", "two"]);
    log.wait_webhook("misbehaviour");
    let alarm = log.scene.agent.status().alarm("misbehaviour").unwrap().clone();
    let evidence = log.scene.agent.path(alarm["evidence"].as_str().unwrap());
    let evidence = std::fs::read_to_string(evidence).unwrap();
    let evidence: Value = serde_json::from_str(&evidence).unwrap();
    let (before, now) = (&evidence["answer"]["acknowledged"], &evidence["answer"]["answer"]["accepted"]["index"]);
    assert_eq!(before.as_u64(), now.as_u64().map(|index| index + 1000), "{evidence}");
    log.acknowledge();
    log.wait_calm();
    log.move_to("three");
    log.wait_logged(&["one", "two", "three"]);
    log.wait_delivered();
    log.wait_calm();
}

/// A flawless proof in a history that is another one proves nothing.
#[test]
fn an_acknowledged_entry_that_turns_up_in_another_history() {
    let mut log = LogScene::new();
    let silent = publishing_nothing(&log.scene.server, Own::Unavailable("not-published"));
    log.switch.turn_to(&silent.url);
    log.move_to("two");
    log.wait_alarm("unpublished");
    let twin = twin(&log.scene.server, wait(log.scene.server.size()) + 4);
    log.switch.turn_to(&twin.url);
    log.is_caught();
    log.is_honest_again(&["one", "two"]);
}
