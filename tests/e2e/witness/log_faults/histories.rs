//! Logs with another history than the one that the agent has verified.

use taglog_tests::{DataDirectory, Server, Witness, witness::now};

use super::LogFaultFixture;
use taglog_tests::agent_fixture::pending;
use taglog_tests::cli_fixture::{add, copy_of, wait, with_same_key};

const OTHER: &str = "registry.example/team/other:1.0";

/// A log with the same key and another history, of at least this many entries.
pub fn twin(server: &Server, size: u64) -> Server {
    let (first, second) = (Witness::new(1), Witness::new(2));
    let twin = with_same_key(server, &[&first, &second]).start();
    for second_of_history in 0.. {
        if wait(twin.size()) >= size {
            break;
        }
        let at = now() - 1000 + second_of_history;
        add(&twin, &[second.observe(OTHER, &second_of_history.to_string(), at)]);
    }
    twin
}

#[test]
fn a_longer_history_that_is_another_one() {
    let mut log = LogFaultFixture::new();
    let twin = twin(&log.fixture.server, wait(log.fixture.server.size()) + 4);
    log.forwarder.turn_to(&twin.url);
    log.move_to("two");
    let evidence = log.is_detected().to_string();
    assert!(evidence.contains("log.example/test\\n"), "no checkpoint in the evidence: {evidence}");
    log.is_honest_again(&["one", "two"]);
}

#[test]
fn another_history_of_the_same_size() {
    let mut log = LogFaultFixture::new();
    let size = wait(log.fixture.server.size());
    // What the agent reports, and the seal, make it as long as the one that is remembered.
    let (first, second) = (Witness::new(1), Witness::new(2));
    let twin = with_same_key(&log.fixture.server, &[&first, &second]).start();
    let missing = size - 2 - wait(twin.size()) - 1;
    let notes: Vec<_> = (0..missing).map(|i| second.observe(&format!("{OTHER}.{i}"), "o", now())).collect();
    add(&twin, &notes);
    assert_eq!(wait(twin.size()) + 2, size);
    log.forwarder.turn_to(&twin.url);
    log.move_to("two");
    let evidence = log.is_detected();
    assert_eq!(wait(twin.size()), size, "else this tested something else");
    // Two signed checkpoints of one size prove misbehaviour, and anybody can check that.
    assert_eq!(evidence["checkpoints"].as_array().map(Vec::len), Some(2), "{evidence}");
    log.is_honest_again(&["one", "two"]);
}

#[test]
fn a_log_that_was_restored_from_an_old_backup() {
    let (first, second) = (Witness::new(1), Witness::new(2));
    let data = DataDirectory::with(&[&first, &second], "").start().stop();
    let backup = copy_of(&data);
    let mut log = LogFaultFixture::with(data.start());
    let restored = backup.start();
    log.forwarder.turn_to(&restored.url);
    log.move_to("two");
    log.is_detected();
    assert!(wait(restored.size()) < wait(log.fixture.server.size()), "else this tested something else");
    log.is_honest_again(&["one", "two"]);
}

/// What the agent remembers outlives it.
#[test]
fn another_history_after_a_restart() {
    let mut log = LogFaultFixture::new();
    let twin = twin(&log.fixture.server, wait(log.fixture.server.size()) + 4);
    log.fixture.agent.kill();
    log.forwarder.turn_to(&twin.url);
    log.move_to("two");
    log.fixture.start();
    log.is_detected();
    log.is_honest_again(&["one", "two"]);
}

/// Without what it remembers, the agent cannot tell this log from another one, and gives it nothing.
#[test]
fn a_remembered_checkpoint_that_is_damaged() {
    let mut log = LogFaultFixture::new();
    let files = std::fs::read_dir(log.fixture.agent.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let remembered: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "checkpoint")).collect();
    let [path] = &remembered[..] else { panic!("{remembered:?}") };
    let checkpoint = std::fs::read(path).unwrap();
    std::fs::write(path, "x").unwrap();
    log.move_to("two");
    let status = log.wait_alarm("memory");
    assert_eq!(status.exit_code(), 3);
    assert_eq!(pending(&status, &log.fixture.server), 1);
    let message = log.wait_webhook("memory")["message"].to_string();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("delete"), "{message}");
    log.wait_logged(&["one"]);
    std::fs::write(path, checkpoint).unwrap();
    log.wait_logged(&["one", "two"]);
    log.wait_delivered();
    log.wait_calm();
}
