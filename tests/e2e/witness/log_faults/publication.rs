//! Logs that acknowledge and do not publish, or not what they acknowledged.

use serde_json::Value;
use taglog_tests::{Server, Status, Witness};

use super::{LogFaultFixture, histories::twin};
use taglog_tests::agent_fixture::pending;
use taglog_tests::cli_fixture::{
    proxy::{Proxy, RelayAnswer},
    wait,
};

/// Takes entries and publishes nothing; requests that wait for publication are answered with 503 or not at all.
fn publishing_nothing(server: &Server, waiting: RelayAnswer) -> Proxy {
    Proxy::instead(server, move |path| match path {
        "/api/v1/entries" => None,
        "/api/v1/entries?wait=published" => Some(waiting),
        _ => Some(RelayAnswer::Unavailable("not-published")),
    })
}

fn is_unpublished(waiting: RelayAnswer) {
    let mut log = LogFaultFixture::new();
    let silent = publishing_nothing(&log.fixture.server, waiting);
    log.forwarder.turn_to(&silent.url);
    log.move_to("two");
    let status = log.wait_alarm("unpublished");
    assert_eq!(status.exit_code(), 3);
    assert_eq!(pending(&status, &log.fixture.server), 1, "it must be kept until it is published");
    log.wait_webhook("unpublished");
    assert!(log.evidence().is_empty(), "late is not false");

    log.forwarder.turn_to(&log.fixture.server.url);
    log.wait_delivered();
    log.wait_logged(&["one", "two"]);
    log.wait_calm();
}

#[test]
fn a_log_that_acknowledges_and_does_not_publish() {
    is_unpublished(RelayAnswer::Unavailable("not-published"));
}

/// The same for a log that just does not answer while there is nothing to publish.
#[test]
fn a_log_that_acknowledges_and_never_answers_waiting_requests() {
    is_unpublished(RelayAnswer::Silence);
}

/// Before the deadline it is no more than slow.
#[test]
fn a_log_that_publishes_late_but_in_time() {
    let mut log = LogFaultFixture::not_started(Server::start(&[&Witness::new(1)], ""));
    let config = std::fs::read_to_string(log.fixture.agent.path("witness.toml")).unwrap();
    log.fixture.agent.write("witness.toml", &config.replace("publish-deadline = \"1s\"", "publish-deadline = \"1h\""));
    let silent = publishing_nothing(&log.fixture.server, RelayAnswer::Unavailable("not-published"));
    log.forwarder.turn_to(&silent.url);
    log.fixture.start();
    let vkey = log.fixture.server.vkey.clone();
    let waits = |status: &Status| status.log(&vkey)["error"].as_str().is_some_and(|error| error.contains("publish"));
    let status = log.fixture.agent.wait_until("the log's error", waits);
    assert!(status.alarms().is_empty(), "{status:?}");
    log.forwarder.turn_to(&log.fixture.server.url);
    log.wait_delivered();
    log.wait_logged(&["one"]);
    log.wait_calm();
}

/// Acknowledges what it is given with indices that are not true, and publishes nothing.
fn numbering_falsely(server: &Server) -> Proxy {
    let instead = |path: &str| match path {
        "/api/v1/entries" => None,
        _ => Some(RelayAnswer::Unavailable("not-published")),
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
    let mut log = LogFaultFixture::new();
    let false_numbers = numbering_falsely(&log.fixture.server);
    log.forwarder.turn_to(&false_numbers.url);
    log.move_to("two");
    log.wait_alarm("unpublished");

    log.turn_to_honest();
    let status = log.wait_alarm("misbehaviour");
    assert_eq!(status.exit_code(), 4);
    log.wait_delivered();
    log.wait_logged(&["one", "two"]);
    log.wait_webhook("misbehaviour");
    let alarm = log.fixture.agent.status().alarm("misbehaviour").unwrap().clone();
    let evidence = log.fixture.agent.path(alarm["evidence"].as_str().unwrap());
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
fn an_acknowledged_entry_that_appears_in_another_history() {
    let mut log = LogFaultFixture::new();
    let silent = publishing_nothing(&log.fixture.server, RelayAnswer::Unavailable("not-published"));
    log.forwarder.turn_to(&silent.url);
    log.move_to("two");
    log.wait_alarm("unpublished");
    let twin = twin(&log.fixture.server, wait(log.fixture.server.size()) + 4);
    log.forwarder.turn_to(&twin.url);
    log.is_detected();
    log.is_honest_again(&["one", "two"]);
}
