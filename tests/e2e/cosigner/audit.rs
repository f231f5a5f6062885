//! The auditing cosigner: in a real server's quorum, and against logs that lie, with real processes.

use std::time::{Duration, Instant};

use taglog_proto::{checkpoint::SignedCheckpoint, note::VerifierKey};
use taglog_tests::{
    DataDirectory, DishonestLog, SubmissionResult, Witness,
    cosigner_process::{CosignerProcess, log_table},
    dishonest::attack::{APP, Attack, begun},
    process::TIMEOUT,
    server::lasting_address,
    witness::now,
};

const NAME: &str = "auditor.example/a";

/// An auditing cosigner of one log, running.
fn auditing(vkey: &VerifierKey, url: &str) -> CosignerProcess {
    let mut cosigner = CosignerProcess::new(NAME, &[log_table(&[vkey.to_string()], &format!("url = {url:?}"))]);
    cosigner.start(&["--audit"]);
    cosigner
}

fn by_both_keys(cosigner: &CosignerProcess, signed: &SignedCheckpoint) -> bool {
    cosigner.keys.iter().all(|key| key.cosigned(signed).unwrap().is_some())
}

#[test]
fn an_honest_log_is_cosigned_batch_by_batch() {
    let log = begun();
    let mut cosigner = auditing(log.vkey(), &log.url);
    log.set_cosigners(&[cosigner.url().to_owned()]);
    for round in 0..5 {
        let asked = log.publish();
        assert_eq!(asked[0].status, 200, "{asked:?}");
        let signed = log.checkpoint();
        assert!(by_both_keys(&cosigner, &signed), "round {round}");
        log.add(&[Witness::new(1).observe(&format!("registry.example/team/app:{round}"), "a", now() - 500)]);
    }
    // It goes on from what it audited before, also when it was killed.
    cosigner.kill();
    cosigner.start(&["--audit"]);
    log.set_cosigners(&[cosigner.url().to_owned()]);
    log.add(&[Witness::new(2).observe(APP, "b", now() - 400)]);
    assert_eq!(log.publish()[0].status, 200);
    assert!(by_both_keys(&cosigner, &log.checkpoint()));
}

/// Every attack that an auditor can see. What it cannot be blamed for alone is refused all the same.
#[test]
fn a_log_that_lies_is_never_cosigned_again() {
    for attack in [
        Attack::OmitsASightingFromTheIndex,
        Attack::OmitsASightingFromAList,
        Attack::CitesAnEntryFalsely,
        Attack::ForgesAnIndexRoot,
        Attack::ReplaysAnOldSeal,
        Attack::SignsWithoutASeal,
        Attack::BreaksTheOrderOfAWitness,
        Attack::BackDatesAnObservation,
        Attack::SealsBeforeTheLastSeal,
        Attack::AdmitsAnUnknownWitness,
        Attack::ForgesASignature,
        Attack::LogsAMalformedEntry,
    ] {
        let log = begun();
        let mut cosigner = auditing(log.vkey(), &log.url);
        log.set_cosigners(&[cosigner.url().to_owned()]);
        assert_eq!(log.publish()[0].status, 200, "{attack:?}: before it lies");
        let honest = log.checkpoint();
        attack.commit(&log);
        let asked = log.publish();
        assert_eq!(asked[0].status, 422, "{attack:?}: {asked:?}");
        assert!(asked[0].body.contains("not cosigned"), "{attack:?}: {asked:?}");
        let lying = log.checkpoint();

        // Also after a restart, whatever the log does then.
        cosigner.kill();
        cosigner.start(&["--audit"]);
        log.set_cosigners(&[cosigner.url().to_owned()]);
        log.roll_back(1);
        let again = log.publish();
        assert_eq!(again[0].status, 422, "{attack:?}: {again:?}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let latest = runtime.block_on(cosigner.latest(log.vkey().name()));
        // A witness's order is broken after a batch that is still honest, and cosigned.
        if matches!(attack, Attack::BreaksTheOrderOfAWitness) {
            assert!(latest.unverified().size < lying.unverified().size, "{attack:?}: the lie is in the record");
        } else {
            assert_eq!(latest.unverified(), honest.unverified(), "{attack:?}: the record is what was honest");
        }
    }
}

/// What is not append-only is refused by its proof, before anything is audited.
#[test]
fn a_log_that_rolls_back_is_not_cosigned() {
    for attack in [Attack::ReordersPublishedEntries, Attack::RollsBack] {
        let log = begun();
        let cosigner = auditing(log.vkey(), &log.url);
        log.set_cosigners(&[cosigner.url().to_owned()]);
        log.add(&[Witness::new(2).observe(APP, "b", now() - 600)]);
        assert_eq!(log.publish()[0].status, 200, "{attack:?}");
        attack.commit(&log);
        let asked = log.publish();
        assert!(matches!(asked[0].status, 409 | 422), "{attack:?}: {asked:?}");
        assert!(!by_both_keys(&cosigner, &log.checkpoint()), "{attack:?}");
    }
}

/// A seal that is dated ahead proves no misbehaviour, and is not cosigned before its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_in_the_future_is_not_cosigned() {
    let log = tokio::task::spawn_blocking(|| {
        let log = begun();
        Attack::SealsInTheFuture.commit(&log);
        log
    });
    let log: DishonestLog = log.await.unwrap();
    let cosigner = auditing(log.vkey(), &log.url);
    let history = log.history();
    let request = format!("old 0\n\n{}", history.signed(log.key()));
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = cosigner.post("add-checkpoint", request.clone()).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        if answer.text().contains("is dated") {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
    tokio::task::spawn_blocking(|| drop(log)).await.unwrap();
}

/// The data directory of a server whose policy demands the cosigner, of which both addresses are fixed.
fn in_quorum(witness: &Witness) -> (DataDirectory, String, CosignerProcess) {
    let address = lasting_address();
    let quota = "[quota]\nentries-per-second = 1000000\nnew-tags-per-hour = 1000000\n";
    let data = DataDirectory::with(&[witness], &format!("policy = \"policy\"\n{quota}"));
    let table = log_table(&[data.vkey.to_string()], &format!("url = \"http://{address}\""));
    let mut cosigner = CosignerProcess::new(NAME, &[table]);
    let config = std::fs::read_to_string(cosigner.path("cosigner.toml")).unwrap();
    std::fs::write(cosigner.path("cosigner.toml"), config.replace("127.0.0.1:0", &lasting_address())).unwrap();
    cosigner.start(&["--audit"]);
    let policy = format!("witness auditor {} {}\nquorum auditor\n", cosigner.keys[0], cosigner.url());
    std::fs::write(data.path().join("policy"), policy).unwrap();
    (data, address, cosigner)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditing_cosigner_completes_a_server_quorum() {
    let witness = Witness::new(1);
    let (data, address, cosigner) = in_quorum(&witness);
    let server = data.start_at(&address);
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let notes: Vec<Vec<u8>> = (0..50)
            .map(|i| witness.observe(&format!("registry.example/team/app:{round}-{i}"), "a", now() - 100))
            .collect();
        let begun = Instant::now();
        let answer = server.submit_bundle(&notes).await;
        let last = answer.iter().map(SubmissionResult::added).max().unwrap();
        while server.size().await <= last {
            assert!(begun.elapsed() < TIMEOUT, "entry {last} is not published");
        }
        slowest = slowest.max(begun.elapsed());
        let published = server.checkpoint().await;
        assert!(cosigner.keys[0].cosigned(&published).unwrap().is_some(), "published without the quorum");
    }
    println!("slowest publication of a batch: {slowest:?}");
}

/// A log publishes nothing without its quorum. What it has committed by then may be more than a request waits for, and
/// is audited all the same, or the log would never publish again.
#[tokio::test(flavor = "multi_thread")]
async fn many_unpublished_entries_are_audited() {
    let witness = Witness::new(1);
    let (data, address, mut cosigner) = in_quorum(&witness);
    cosigner.kill();
    let server = data.try_start_unpublished(&["--listen", &address, "--without-cosigner", "auditor"]).unwrap();
    let mut last = 0;
    for bundle in 0..40 {
        let note = |i| witness.observe(&format!("registry.example/team/app:{bundle}-{i}"), "a", now() - 100);
        last = *server.add(&(0..1000).map(note).collect::<Vec<Vec<u8>>>()).await.last().unwrap();
    }
    assert_eq!(server.get("/checkpoint").await.status, 503, "published without its quorum");
    let begun = Instant::now();
    cosigner.start(&["--audit"]);
    while server.get("/checkpoint").await.status != 200 {
        assert!(begun.elapsed() < TIMEOUT, "entry {last} is not published");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let published = server.checkpoint().await;
    assert!(published.unverified().size > last && cosigner.keys[0].cosigned(&published).unwrap().is_some());
}
