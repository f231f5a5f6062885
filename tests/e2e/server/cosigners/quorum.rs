//! What is published, and when.

use std::time::Duration;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignerKey},
    policy::TrustPolicy,
    receipt::Receipt,
    tile::decode_bundle,
};
use taglog_tests::{
    DataDirectory, FakeCosigner, HttpResponse, Witness,
    fake_cosigner::{Behaviour, policy},
    replay,
    witness::now,
};

use super::fixture::{APP, CosignedLogFixture, SETTINGS, cosigned_by, eventually, metric, published_beyond, readiness};

#[tokio::test]
async fn a_quorum_publishes_and_later_cosignatures_are_added() {
    let fixture = CosignedLogFixture::new();
    fixture.cosigners[1].behave(Behaviour::Slow(Duration::from_millis(300)));
    let server = fixture.data.start();
    let checkpoint = fixture.publish(&server, 1).await;
    assert!(fixture.judge(&checkpoint).cosignatures.len() >= 2);
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    // Look-ups and receipts bear them too.
    let proof = server.tag_proof(&["registry.example/team/app:1"], "").await;
    let checkpoint = SignedCheckpoint::parse(proof.checkpoint.as_bytes()).unwrap();
    assert_eq!(fixture.judge(&checkpoint).cosignatures.len(), 3);
    let about = server.get("/api/v1/log").await.json();
    let names: Vec<&str> = about["cosigners"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    for name in names {
        assert_eq!(metric(&server, &format!("taglog_cosigner_up{{cosigner=\"{name}\"}}")).await, Some(1.0));
        let age = metric(&server, &format!("taglog_cosignature_age_seconds{{cosigner=\"{name}\"}}")).await;
        assert!(age.is_some_and(|age| (0.0..600.0).contains(&age)), "{age:?}");
    }
    assert_eq!(metric(&server, "taglog_unpublished_entries").await, Some(0.0));
    replay(&server).await;
}

/// A cosigner that takes many times a batch's time is asked for the newest commit when it has answered.
#[tokio::test]
async fn slow_cosigners_are_asked_for_the_newest_checkpoint() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.cosigners.iter().for_each(|cosigner| cosigner.behave(Behaviour::Slow(Duration::from_millis(150))));
    let (mut last, begun) = (0, std::time::Instant::now());
    for i in 0..60 {
        last = fixture.add(&server, i).await;
    }
    let one_by_one = begun.elapsed().as_millis() / 150;
    published_beyond(&server, last).await;
    for cosigner in &fixture.cosigners {
        let asked = cosigner.asked();
        assert!(asked.len() as u128 <= one_by_one + 5, "{} questions in the time of {one_by_one}", asked.len());
        assert!(asked.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{asked:?}");
    }
    replay(&server).await;
}

#[tokio::test]
async fn a_cosigner_that_hangs_does_not_delay_publication() {
    let fixture = CosignedLogFixture::with("policy = \"policy\"\ncosign-timeout-ms = 10000");
    fixture.cosigners[0].behave(Behaviour::Hang);
    let server = fixture.data.try_start(&["--without-cosigner", "a"]).ok().unwrap();
    let start = std::time::Instant::now();
    for i in 0..5 {
        fixture.publish(&server, i).await;
    }
    assert!(start.elapsed() < Duration::from_secs(30), "it waits for the one that hangs: {:?}", start.elapsed());
    eventually("the readiness detail", || async {
        let (up, problem) = readiness(&server, "a").await;
        (up == Some(false) && problem.contains("no answer within")).then_some(())
    })
    .await;
    assert_eq!(metric(&server, "taglog_cosigner_up{cosigner=\"a\"}").await, Some(0.0));
    fixture.cosigners[0].behave(Behaviour::Honest);
    fixture.publish(&server, 6).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
}

#[tokio::test]
async fn without_a_quorum_the_last_published_checkpoint_stays() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    let before = fixture.publish(&server, 1).await;
    let size = before.unverified().size;
    fixture.cosigners[1].stop_listening();
    fixture.cosigners[2].stop_listening();
    let index = fixture.add(&server, 2).await;
    assert!(index >= size);
    eventually("failures to be noticed", || async {
        (readiness(&server, "b").await.0 == Some(false) && readiness(&server, "c").await.0 == Some(false)).then_some(())
    })
    .await;
    // Acknowledged and durable, but not published.
    assert_eq!(server.size().await, size);
    assert_eq!(server.get(&format!("/tile/entries/000.p/{}", index + 1)).await.status, 404);
    assert!(server.lookup(&["registry.example/team/app:2"], "").await.images[0].witnesses.is_empty());
    assert!(metric(&server, "taglog_unpublished_entries").await.unwrap() >= 2.0);
    assert_eq!(metric(&server, "taglog_cosigner_up{cosigner=\"b\"}").await, Some(0.0));
    assert_eq!(server.get("/readyz").await.status, 200, "it still serves and takes entries");
    assert_eq!(server.submit(&fixture.observation(2)).await.index(), index, "submitted again");
    // One that waits is answered as soon as the quorum is back.
    let request = server.request("POST", "/api/v1/entries?wait=published").header("content-type", "text/plain");
    let waiting = tokio::spawn(HttpResponse::of(request.body(fixture.observation(3))));
    eventually("the entry to be committed", || async {
        (metric(&server, "taglog_unpublished_entries").await.unwrap() >= 4.0).then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    fixture.cosigners[1].listen_again();
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let receipt = Receipt::parse(answer.json()[0]["proof"].as_str().unwrap().as_bytes()).unwrap();
    assert!(fixture.judge(&receipt.checkpoint).cosignatures.len() >= 2);
    published_beyond(&server, index).await;
    replay(&server).await;
}

#[tokio::test]
async fn a_client_that_waits_too_long_is_told_that_nothing_is_lost() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    fixture.cosigners[1].stop_listening();
    fixture.cosigners[2].stop_listening();
    let note = fixture.observation(2);
    let answer = server.post("/api/v1/entries?wait=published", "text/plain", note.clone()).await;
    assert_eq!(answer.problem(), (503, "not-yet-published".to_owned()));
    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("submit the same again") && detail.contains("b: "), "{detail}");
    fixture.cosigners[1].listen_again();
    let again = server.post("/api/v1/entries?wait=published", "text/plain", note).await;
    assert_eq!((again.status, again.json()[0]["status"].as_str()), (200, Some("duplicate")), "{again:?}");
}

#[tokio::test]
async fn a_restart_publishes_at_once_what_was_committed() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    fixture.cosigners[1].stop_listening();
    fixture.cosigners[2].stop_listening();
    let index = fixture.add(&server, 2).await;
    server.kill();
    fixture.cosigners[1].listen_again();
    fixture.cosigners[2].listen_again();
    let server = fixture.data.start();
    assert!(server.size().await > index);
    replay(&server).await;
}

/// Look-ups say why there is nothing; entries are taken all the same, and published when the quorum is back.
#[tokio::test]
async fn after_a_start_without_a_quorum_nothing_is_published() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    fixture.cosigners[1].stop_listening();
    fixture.cosigners[2].stop_listening();
    let server = data.try_start_unpublished(&["--without-cosigner=b", "--without-cosigner=c"]).ok().unwrap();
    for path in ["/checkpoint", "/tile/entries/000.p/1", "/api/v1/lookup?image=registry.example/team/app:1", "/readyz"]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.problem(), (503, "not-published".to_owned()), "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(["a cosigns", "b: ", "c: "].iter().all(|words| detail.contains(words)), "{path}: {detail}");
    }
    let index = fixture.add(&server, 2).await;
    fixture.cosigners[1].listen_again();
    eventually("the publication", || async { (server.get("/checkpoint").await.status == 200).then_some(()) }).await;
    published_beyond(&server, index).await;
    assert_eq!(server.submit(&fixture.observation(1)).await.index(), 2, "as before the restart");
}

#[tokio::test]
async fn cosignatures_are_renewed_while_idle() {
    let fixture = CosignedLogFixture::with("policy = \"policy\"\ncosign-timeout-ms = 700\ncosign-interval = 1");
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let first = cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    let fresh = fixture.judge(&first).fresh.unwrap();
    let later = eventually("fresher cosignatures", || async {
        let checkpoint = server.checkpoint().await;
        (fixture.judge(&checkpoint).fresh.unwrap() > fresh).then_some(checkpoint)
    })
    .await;
    assert_eq!(later.unverified(), first.unverified(), "nothing new was committed");
    assert_eq!(later.note().signatures.len(), 4, "the old lines are replaced");
}

/// One cosigner with two keys at one address is one question, and both of its lines are taken.
#[tokio::test]
async fn two_keys_at_one_address_are_asked_together() {
    let witness = Witness::new(1);
    let data = DataDirectory::with(&[&witness], SETTINGS);
    let both = FakeCosigner::start_with("both", &data.vkey, &[Algorithm::Ed25519, Algorithm::MlDsa44]);
    data.write_policy(&policy(&[&both], 2));
    let server = data.start();
    server.submit(&witness.observe(APP, "x", now())).await.added();
    let checkpoint = server.checkpoint().await;
    let times: Vec<bool> = both.keys().iter().map(|key| key.cosigned(&checkpoint).unwrap().is_some()).collect();
    assert_eq!(times, [true, true]);
    assert!(both.asked().windows(2).all(|pair| pair[0].1 <= pair[1].1));
}

#[tokio::test]
async fn a_log_with_an_ml_dsa_key_signs_with_both() {
    let data = DataDirectory::init_with(&["--ml-dsa"]);
    let key = std::fs::metadata(data.path().join("key-ml-dsa")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    let witness = Witness::new(1);
    data.configure(&[&witness], SETTINGS);
    let cosigner = FakeCosigner::start("a", &data.vkey);
    let server = {
        // The policy may name the log, with both of its keys.
        data.write_policy(&policy(&[&cosigner], 1));
        let server = data.start();
        let vkeys = server.get("/api/v1/log").await.json()["vkeys"].clone();
        let lines: String =
            vkeys.as_array().unwrap().iter().map(|key| format!("log {}\n", key.as_str().unwrap())).collect();
        server.stop();
        data.write_policy(&format!("{lines}{}", policy(&[&cosigner], 1)));
        data.start()
    };
    server.submit(&witness.observe(APP, "x", now())).await.added();
    let vkeys = server.get("/api/v1/log").await.json()["vkeys"].clone();
    let ml_dsa: CosignerKey = vkeys[1].as_str().unwrap().parse().unwrap();
    assert_eq!(vkeys[0].as_str(), Some(&*server.vkey.to_string()));
    let checkpoint = server.checkpoint().await;
    assert!(ml_dsa.signed(&checkpoint).unwrap() && cosigner.keys()[0].cosigned(&checkpoint).unwrap().is_some());
    let trust = format!("log {}\nlog {ml_dsa}\n{}", server.vkey, policy(&[&cosigner], 1));
    TrustPolicy::parse(trust.as_bytes()).unwrap().evaluate(&checkpoint).unwrap();
}

#[tokio::test]
async fn auditing_cosigners_see_what_is_not_published_yet() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    fixture.cosigners[1].stop_listening();
    fixture.cosigners[2].stop_listening();
    let index = fixture.add(&server, 2).await;
    let path = format!("/api/v1/candidate/entries?from=1&to={}", index + 2);
    let answer = server.get(&path).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    let entries = decode_bundle(&answer.body, 1000).unwrap();
    assert_eq!(entries.len() as u64, index + 1);
    let text = String::from_utf8_lossy(entries[index as usize - 1]);
    assert!(text.contains("tag 2\n"), "{text}");
    for (query, status) in [("from=2&to=2", 422), ("from=3&to=2", 422), ("from=0&to=1000000", 422), ("from=0", 400)] {
        assert_eq!(server.get(&format!("/api/v1/candidate/entries?{query}")).await.status, status, "{query}");
    }
}

/// A policy may name cosigners and wait for none of them; their cosignatures are added when they come.
#[tokio::test]
async fn a_quorum_of_none_publishes_at_once() {
    let fixture = CosignedLogFixture::new();
    fixture.data.write_policy(&policy(&fixture.all(), 2).replace("quorum enough", "quorum none"));
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    eventually("their cosignatures", || async {
        (server.checkpoint().await.note().signatures.len() == 4).then_some(())
    })
    .await;
    fixture.cosigners.iter().for_each(FakeCosigner::stop_listening);
    fixture.publish(&server, 2).await;
}
