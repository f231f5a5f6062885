//! False receipts.

use serde_json::Value;
use taglog_tests::{Server, Witness, witness::now};

use super::{APP, LogFaultFixture};
use taglog_tests::agent_fixture::{HEALTHY, digest_of, logged_digests, pending};
use taglog_tests::cli_fixture::{proxy::Proxy, wait};

/// A relay in front of the log that changes its answer to the entry about [`APP`], wherever in a bundle it is.
fn lying(server: &Server, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Proxy {
    Proxy::answering(server, move |path, body| {
        let Ok(mut answers) = serde_json::from_slice::<Vec<Value>>(&body) else { return body };
        if !path.contains("/api/v1/entries") {
            return body;
        }
        for answer in answers.iter_mut().filter(|answer| is_about_app(answer)) {
            let before = answer.clone();
            lie(answer);
            assert_ne!(*answer, before, "this lie is none");
        }
        serde_json::to_vec(&answers).unwrap()
    })
}

/// A receipt carries its entry.
fn is_about_app(answer: &Value) -> bool {
    use taglog_proto::receipt::Receipt;
    let receipt = answer["proof"].as_str().and_then(|proof| Receipt::parse(proof.as_bytes()).ok());
    let entry = receipt.and_then(|receipt| receipt.extra).unwrap_or_default();
    String::from_utf8(entry).unwrap().contains("/team/app\n")
}

fn edit_proof(answer: &mut Value, edit: impl Fn(&str) -> String) {
    let edited = edit(answer["proof"].as_str().unwrap());
    answer["proof"] = edited.into();
}

fn is_detected(lie: impl Fn(&mut Value) + Send + Sync + 'static) {
    let mut log = LogFaultFixture::new();
    let liar = lying(&log.fixture.server, lie);
    log.forwarder.turn_to(&liar.url);
    log.move_to("two");
    let evidence = log.is_detected().to_string();
    assert!(evidence.contains("taglog/observation@v1"), "the entry is not in the evidence: {evidence}");
    log.is_honest_again(&["one", "two"]);
}

#[test]
fn a_receipt_whose_proof_is_false() {
    is_detected(|answer| {
        edit_proof(answer, |proof| {
            // A node of the proof less.
            let (head, checkpoint) = proof.split_once("\n\n").unwrap();
            format!("{}\n\n{checkpoint}", head.rsplit_once('\n').unwrap().0)
        });
    });
}

#[test]
fn a_receipt_under_a_checkpoint_that_the_log_did_not_sign() {
    is_detected(|answer| edit_proof(answer, |proof| proof.replace("— log.example", "— lag.example")));
}

#[test]
fn a_receipt_of_another_index_than_said() {
    is_detected(|answer| answer["index"] = (answer["index"].as_u64().unwrap() - 1).into());
}

#[test]
fn a_receipt_that_is_missing() {
    is_detected(|answer| drop(answer.as_object_mut().unwrap().remove("proof")));
}

#[test]
fn a_receipt_for_another_entry() {
    let mut log = LogFaultFixture::new();
    let note = Witness::new(2).observe("registry.example/team/other:1.0", "o", now());
    let other = wait(log.fixture.server.post("/api/v1/entries?wait=published", "text/plain", note)).json()[0].clone();
    let liar = lying(&log.fixture.server, move |answer| *answer = other.clone());
    log.forwarder.turn_to(&liar.url);
    log.move_to("two");
    log.is_detected();
    log.is_honest_again(&["one", "two"]);
}

#[test]
fn a_duplicate_of_something_else() {
    let mut log = LogFaultFixture::new();
    let note = Witness::new(2).observe("registry.example/team/other:1.0", "o", now());
    let other = wait(log.fixture.server.post("/api/v1/entries?wait=published", "text/plain", note)).json()[0].clone();
    let liar = lying(&log.fixture.server, move |answer| {
        *answer = other.clone();
        answer["status"] = "duplicate".into();
    });
    log.forwarder.turn_to(&liar.url);
    log.move_to("two");
    log.is_detected();
    log.is_honest_again(&["one", "two"]);
}

/// Of several entries in a bundle, the one whose receipt is false stays; the others are delivered.
#[test]
fn one_false_receipt_among_true_ones() {
    let mut log = LogFaultFixture::new();
    let liar = lying(&log.fixture.server, |answer| edit_proof(answer, |proof| proof.replace("index ", "index 1")));
    log.forwarder.cut();
    log.move_to("two");
    log.fixture.set_healthy("two");
    let server = &log.fixture.server;
    log.fixture.agent.wait_until("three reports", |status| pending(status, server) == 3);
    log.forwarder.turn_to(&liar.url);
    log.is_detected();
    let server = &log.fixture.server;
    log.fixture.agent.wait_until("delivery of the others", |status| pending(status, server) == 1);
    // A second sighting, and a second lie, keep the order: the first one is first.
    log.move_to("three");
    log.fixture.agent.wait_until("the next report", |status| pending(status, server) == 2);
    log.is_honest_again(&["one", "two", "three"]);
    for name in [log.fixture.registry.name(HEALTHY), log.fixture.other.name(HEALTHY)] {
        assert_eq!(logged_digests(&log.fixture.server, &name), ["one", "two"].map(digest_of), "{name}");
    }
}

/// Acknowledging an alarm does not silence the next one.
#[test]
fn two_lies_of_a_log_are_detected_separately() {
    let mut log = LogFaultFixture::new();
    for (content, contents) in [("two", &["one", "two"][..]), ("three", &["one", "two", "three"])] {
        let liar = lying(&log.fixture.server, |answer| edit_proof(answer, |proof| proof.replace("index ", "index 1")));
        log.forwarder.turn_to(&liar.url);
        log.move_to(content);
        log.is_detected();
        log.is_honest_again(contents);
    }
    assert!(log.evidence().len() >= 2, "{:?}", log.evidence());
    assert_eq!(log.fixture.agent.status().seen(&log.fixture.registry.name(APP)), Some(&*digest_of("three")));
}
