//! Servers at a log's address that are no logs.

use taglog_proto::note::SigningKey;
use taglog_tests::{Status, agent::log_table};

use super::LogFaultFixture;
use taglog_tests::agent_fixture::{AgentFixture, pending};
use taglog_tests::cli_fixture::proxy::{
    FakeServer,
    FakeServerMode::{NeverEnds, Sends, Stalls},
};

const HTML: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n<html>Log in!</html>";
const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
const PROBLEM: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
    {\"type\":\"urn:taglog:problem:stopping\",\"title\":\"x\",\"status\":503,\"detail\":\"try \\u001b[2Jit\"}";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n[{\"index\":";
const TOO_FEW: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]";
const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";

/// Each of them is configured as a log of its own, and none delays the one that is a log.
#[test]
fn a_server_that_is_no_log_is_named_and_not_accused() {
    let strangers = [
        (Sends(HTML), "does not answer like a taglog log"),
        (Sends(ERROR), "500"),
        (Sends(GATEWAY), "502"),
        (Sends(PROBLEM), "stopping"),
        (Sends(HALF), "cannot reach the log"),
        (Sends(TOO_FEW), "does not answer like a taglog log"),
        (Sends("SSH-2.0-OpenSSH\r\n"), "cannot reach the log"),
        (Sends(""), "cannot reach the log"),
        (Sends("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), "404"),
        (Stalls(""), "cannot reach the log"),
        (Stalls(HALF), "cannot reach the log"),
        (NeverEnds(ENDLESS), ""),
    ];
    let strangers = strangers.map(|(mode, words)| (FakeServer::start(mode), words));
    let mut fixture = AgentFixture::new();
    let mut tables = Vec::new();
    let mut vkeys = Vec::new();
    for (number, (stranger, words)) in (1_u8..).zip(&strangers) {
        let key = SigningKey::from_seed(&format!("log.example/stranger-{number}"), &[number; 32]).unwrap();
        let name = format!("stranger-{number}");
        fixture.agent.trust(&name, key.verifier_key(), &stranger.url);
        tables.push(log_table(&name));
        vkeys.push((key.verifier_key().clone(), words));
    }
    fixture.configure(&[], &tables);
    fixture.start();
    fixture.wait_healthy_logged(&["one"]);
    for (vkey, words) in &vkeys {
        let name = vkey.name();
        let named = |status: &Status| status.log(vkey)["error"].as_str().is_some_and(|error| error.contains(**words));
        let status = fixture.agent.wait_until(&format!("{words:?} about {name}"), named);
        let row = status.log(vkey);
        assert!(row["pending"] == 2 && row["delivered"] == 0 && row["checkpoint"].is_null(), "{row}");
        // JSON writes an escape character as \u001b, and the backslash of the sanitizer's visible form as two.
        assert!(!row.to_string().replace(r"\\", "").contains(r"\u001b"), "{row}");
    }
    // They have not slowed anything down meanwhile.
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    let status = fixture.agent.status();
    assert!(!status.alarms().contains(&"misbehaviour"), "{status:?}");
    assert_eq!(std::fs::read_dir(fixture.agent.path("state/evidence")).map_or(0, Iterator::count), 0, "accused");
}

/// While the log is unreachable, entries are kept; afterwards all are delivered, in order.
#[test]
fn pending_entries_are_delivered_when_the_log_returns() {
    let mut log = LogFaultFixture::new();
    let stranger = FakeServer::start(Sends(HTML));
    log.forwarder.turn_to(&stranger.url);
    for (content, count) in [("two", 1), ("three", 2), ("two", 3)] {
        log.move_to(content);
        let server = &log.fixture.server;
        log.fixture.agent.wait_until("the next report", |status| pending(status, server) == count);
    }
    let vkey = log.fixture.server.vkey.clone();
    let named = |status: &Status| !status.log(&vkey)["error"].is_null();
    log.fixture.agent.wait_until("the log's error", named);
    let status = log.wait_alarm("undelivered");
    assert_eq!(status.exit_code(), 3);
    log.wait_webhook("undelivered");
    // By itself, without being told that the log is back.
    log.forwarder.turn_to(&log.fixture.server.url);
    log.wait_logged(&["one", "two", "three", "two"]);
    let status = log.wait_delivered();
    assert!(status.log(&vkey)["error"].is_null(), "{status:?}");
    assert!(status.log(&vkey)["checkpoint"]["size"].as_u64().is_some(), "{status:?}");
    assert!(log.evidence().is_empty());
    log.wait_calm();
}
