//! Cosigners whose responses are invalid.

use taglog_proto::cosignature::Algorithm;
use taglog_tests::{
    FakeCosigner,
    fake_cosigner::{Behaviour, policy},
};

use super::fixture::{CosignedLogFixture, cosigned_by, eventually, readiness};

/// Each fault is named in the readiness detail, and the others publish.
#[tokio::test]
async fn invalid_responses_are_not_taken_for_cosignatures() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    let faults = [
        (
            Behaviour::Answer(500, "text/plain", "\u{1b}[2Jfell over".to_owned()),
            r"500 Internal Server Error: \u001b[2Jfell over",
        ),
        (Behaviour::Answer(302, "text/plain", String::new()), "it answered 302"),
        (Behaviour::Answer(200, "text/plain", String::new()), "its response is malformed"),
        (Behaviour::Answer(200, "text/plain", "garbage".to_owned()), "its response is malformed"),
        (Behaviour::Answer(200, "text/plain", "— cosigner.example/a AAAAAAAA\n".to_owned()), "no valid cosignature"),
        (Behaviour::Answer(200, "text/plain", "x".repeat(1 << 20)), "is longer than"),
        (Behaviour::Answer(409, "text/x.tlog.size", "many\n".to_owned()), "409 without the size"),
        (Behaviour::Answer(409, "text/x.tlog.size", "0\n".to_owned()), "contradicts itself"),
        (Behaviour::Answer(403, "text/plain", "who".to_owned()), "does not accept the signature"),
        (Behaviour::Answer(404, "text/plain", String::new()), "does not know this log"),
        (Behaviour::OtherKey, "no valid cosignature"),
        (Behaviour::Busy, "busy"),
        (Behaviour::Lost(502), "502 Bad Gateway"),
    ];
    for (number, (fault, words)) in faults.into_iter().enumerate() {
        fixture.cosigners[0].behave(fault);
        fixture.publish(&server, number).await;
        eventually(words, || async {
            let (up, problem) = readiness(&server, "a").await;
            (up == Some(false) && problem.contains(words)).then_some(())
        })
        .await;
        cosigned_by(&fixture, &server, &["b", "c"]).await;
    }
    fixture.cosigners[0].behave(Behaviour::Honest);
    fixture.publish(&server, 100).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
}

/// What it cosigned before its answer was lost, or after it forgot, is followed by a new proof.
#[tokio::test]
async fn the_size_in_a_409_response_is_used() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    let first = fixture.publish(&server, 1).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    fixture.cosigners[0].behave(Behaviour::Lost(500));
    let lost = fixture.publish(&server, 2).await;
    assert!(lost.unverified().size > first.unverified().size);
    eventually("the lost answer", || async { (readiness(&server, "a").await.0 == Some(false)).then_some(()) }).await;
    fixture.cosigners[0].behave(Behaviour::Honest);
    fixture.publish(&server, 3).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    fixture.cosigners[1].forget();
    fixture.publish(&server, 4).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    assert!(fixture.cosigners.iter().all(|cosigner| cosigner.refuted() == 0));
}

#[tokio::test]
async fn a_policy_for_another_log_is_refused() {
    let fixture = CosignedLogFixture::new();
    let good = policy(&fixture.all(), 2);
    let other = FakeCosigner::start_with("other", &fixture.data.vkey, &[Algorithm::Ed25519]);
    let other_log = taglog_proto::note::SigningKey::from_seed("log.example/test", &[9; 32]).unwrap();
    for (policy, words) in [
        (good.replace(&fixture.cosigners[0].url(), ""), ["witness a", "submission prefix"]),
        (good.replace("http://", "ftp://"), ["witness a", "submission prefix"]),
        (good.replace("quorum enough", "quorum nobody"), ["policy", "nobody"]),
        (good.replace("quorum enough\n", ""), ["policy", "quorum"]),
        (format!("log {}\n{good}", other_log.verifier_key()), ["'log' lines", &fixture.data.vkey.to_string()]),
    ] {
        fixture.data.write_policy(&policy);
        let refusal = fixture.data.try_start(&[]).err().unwrap();
        assert!(refusal.code == Some(1) && words.iter().all(|word| refusal.message.contains(word)), "{refusal:?}");
    }
    std::fs::remove_file(fixture.data.path().join("policy")).unwrap();
    let refusal = fixture.data.try_start(&[]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("policy"), "{refusal:?}");
    // None of this has asked a cosigner.
    assert!(other.asked().is_empty() && fixture.cosigners.iter().all(|cosigner| cosigner.asked().is_empty()));
}
