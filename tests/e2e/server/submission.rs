//! Which entries the log accepts, which are duplicates, and which break a rule.

use taglog_proto::{entry::Seen, receipt::Receipt, tile::encode_bundle};
use taglog_tests::{
    Server, SubmissionResult, Witness, replay,
    replay::fetch_entries,
    witness::{digest, image, now},
};

const APP: &str = "registry.example/team/app:1.0";
const REPOSITORY: &str = "registry.example/team/app";

fn refused(kind: &str) -> SubmissionResult {
    SubmissionResult::Refused(kind.to_owned())
}

/// How often a text occurs in the log, with any signature.
async fn count(server: &Server, note: &[u8]) -> usize {
    let text = |note: &[u8]| String::from_utf8_lossy(note).split("\n\n").next().unwrap().to_owned();
    let entries = fetch_entries(server, server.size().await).await;
    entries.iter().filter(|entry| text(entry) == text(note)).count()
}

#[tokio::test]
async fn the_same_note_again_is_a_duplicate() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let note = witness.observe(APP, "a", now());
    let index = server.submit(&note).await.added();
    assert_eq!(server.submit(&note).await, SubmissionResult::Duplicate(index));
    assert_eq!(server.submit_bundle(&[note.clone(), note.clone()]).await, vec![SubmissionResult::Duplicate(index); 2]);
    let server = server.stop().start();
    assert_eq!(server.submit(&note).await, SubmissionResult::Duplicate(index), "after a restart");
    let server = server.kill().start();
    assert_eq!(server.submit(&note).await, SubmissionResult::Duplicate(index), "after a crash");
    assert_eq!(count(&server, &note).await, 1);
    replay(&server).await;
}

#[tokio::test]
async fn the_same_text_with_another_signature_is_a_duplicate() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let note = witness.observe(APP, "a", now());
    let again = witness.sign_again(&note);
    assert_ne!(note, again);
    let index = server.submit(&note).await.added();
    assert_eq!(server.submit(&again).await, SubmissionResult::Duplicate(index));
    let server = server.stop().start();
    assert_eq!(server.submit(&again).await, SubmissionResult::Duplicate(index), "after a restart");
    // The other signature is a valid one: first, it is taken.
    let other = witness.observe(APP, "b", now());
    let index = server.submit(&witness.sign_again(&other)).await.added();
    assert_eq!(server.submit(&other).await, SubmissionResult::Duplicate(index));
    replay(&server).await;
}

#[tokio::test]
async fn duplicates_within_one_bundle_are_added_once() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let note = witness.observe(APP, "a", now());
    let confirmation = witness.confirm(REPOSITORY, now());
    let notes = [
        note.clone(),
        note.clone(),
        witness.sign_again(&note),
        confirmation.clone(),
        confirmation.clone(),
        witness.sign_again(&confirmation),
    ];
    let outcomes = server.submit_bundle(&notes).await;
    let first = outcomes[0].added();
    let want = [SubmissionResult::Added(first), SubmissionResult::Duplicate(first), SubmissionResult::Duplicate(first)];
    assert_eq!(outcomes[..3], want);
    let want = [
        SubmissionResult::Added(first + 1),
        SubmissionResult::Duplicate(first + 1),
        SubmissionResult::Duplicate(first + 1),
    ];
    assert_eq!(outcomes[3..], want);
    assert_eq!((count(&server, &note).await, count(&server, &confirmation).await), (1, 1));
    replay(&server).await;
}

#[tokio::test]
async fn one_note_from_many_clients_at_once_is_added_once() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let note = witness.observe(APP, "a", now());
    let again = witness.sign_again(&note);
    let client = |i: usize| server.submit(if i.is_multiple_of(2) { &note } else { &again });
    let outcomes = join_all((0..32).map(client)).await;
    let added = outcomes.iter().filter(|outcome| matches!(outcome, SubmissionResult::Added(_))).count();
    let index = outcomes[0].index();
    assert!(added == 1 && outcomes.iter().all(|outcome| outcome.index() == index), "{outcomes:?}");
    assert_eq!(count(&server, &note).await, 1);
}

/// Polls all futures at once.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[tokio::test]
async fn observations_of_a_tag_must_be_in_time_order() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let t = now() - 1000;
    server.submit(&one.observe(APP, "a", t)).await.added();
    let earlier = server.post_note(&one.observe(APP, "b", t - 1)).await;
    assert_eq!(earlier.problem(), (409, "out-of-order".to_owned()));
    server.submit(&one.observe(APP, "b", t)).await.added();
    server.submit(&two.observe(APP, "a", t - 500)).await.added();
    server.submit(&one.observe("registry.example/team/app:2.0", "a", t - 500)).await.added();
    let bundle = [one.observe(APP, "c", t + 10), one.observe(APP, "d", t + 9), one.gone(APP, t + 11)];
    let outcomes = server.submit_bundle(&bundle).await;
    assert_eq!(outcomes[1], refused("out-of-order"), "within one batch");
    assert_eq!(outcomes[2].added(), outcomes[0].added() + 1);
    let server = server.stop().start();
    assert_eq!(server.submit(&one.observe(APP, "d", t + 10)).await, refused("out-of-order"), "after a restart");
    replay(&server).await;
}

#[tokio::test]
async fn confirmations_that_break_a_rule_are_refused() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let t = now() - 1000;
    let early = server.post_note(&one.confirm(REPOSITORY, t)).await;
    assert_eq!(early.problem(), (409, "nothing-to-confirm".to_owned()));
    server.submit(&one.observe(APP, "a", t)).await.added();
    let index = server.submit(&one.confirm(REPOSITORY, t + 100)).await.added();
    assert_eq!(server.submit(&one.confirm(REPOSITORY, t + 100)).await, SubmissionResult::Duplicate(index));
    assert_eq!(server.submit(&one.confirm(REPOSITORY, t + 99)).await, refused("out-of-order"));
    assert_eq!(server.submit(&two.confirm(REPOSITORY, t + 100)).await, refused("nothing-to-confirm"));
    // What was confirmed at t + 100 cannot have been otherwise at t + 99, in any tag of it.
    let other_tag = "registry.example/team/app:2.0";
    assert_eq!(server.submit(&one.observe(other_tag, "a", t + 99)).await, refused("out-of-order"));
    server.submit(&one.observe(other_tag, "a", t + 100)).await.added();
    server.submit(&one.observe("registry.example/team:1", "a", t)).await.added();
    let report = server.lookup(&[APP], "").await;
    let witness = &report.images[0].witnesses[0];
    assert_eq!(witness.confirmed.unwrap().index, index);
    assert_eq!(witness.vouched().unix(), t + 100);
    replay(&server).await;
}

#[tokio::test]
async fn entries_per_second_are_limited() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "[quota]\nentries-per-second = 1");
    let notes: Vec<Vec<u8>> = (0..40).map(|i| one.observe(&format!("r.example/a:{i}"), "x", now())).collect();
    let outcomes = server.submit_bundle(&notes).await;
    let added = outcomes.iter().filter(|outcome| matches!(outcome, SubmissionResult::Added(_))).count();
    // Ten at once, and one more for each second that this takes.
    assert!((10..30).contains(&added) && outcomes[39] == refused("quota"), "{outcomes:?}");
    let last = server.post_note(&notes[39]).await;
    if last.status != 200 {
        assert_eq!(last.problem(), (429, "quota".to_owned()));
        assert!(last.header("retry-after").parse::<u32>().is_ok(), "{last:?}");
    }
    // A duplicate does not count, nor does an entry of another witness.
    assert!(matches!(server.submit_bundle(&vec![notes[0].clone(); 30]).await[29], SubmissionResult::Duplicate(_)));
    server.submit(&two.observe("r.example/a:1", "x", now())).await.added();
}

#[tokio::test]
async fn invalid_signatures_do_not_count_against_a_quota() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[quota]\nentries-per-second = 1");
    let forged = |tag: u32| {
        let text = String::from_utf8(witness.observe("r.example/a:1", "x", now())).unwrap();
        text.replace("tag 1", &format!("tag {tag}")).into_bytes()
    };
    let outcomes = server.submit_bundle(&(100..200).map(forged).collect::<Vec<_>>()).await;
    assert_eq!(outcomes, vec![refused("bad-signature"); 100]);
    server.submit(&witness.observe("r.example/a:1", "x", now())).await.added();
}

#[tokio::test]
async fn new_tags_and_changes_of_a_tag_are_limited() {
    let witness = Witness::new(1);
    let quota = "[quota]\nnew-tags-per-hour = 3\nsightings-per-tag-per-hour = 2";
    let server = Server::start(&[&witness], quota);
    let t = now() - 100;
    let tag = |i: u32| witness.observe(&format!("r.example/a:{i}"), "x", t);
    let outcomes = server.submit_bundle(&[tag(1), tag(2), tag(3), tag(4)]).await;
    assert_eq!(outcomes[3], refused("quota"));
    outcomes[2].added();
    let changes = ["b", "c", "d"].map(|content| witness.observe("r.example/a:1", content, t + 1));
    let outcomes = server.submit_bundle(&changes).await;
    outcomes[1].added();
    assert_eq!(outcomes[2], refused("quota"));
    let changed = server.post_note(&witness.observe("r.example/a:1", "e", t + 2)).await;
    assert_eq!(changed.problem(), (429, "quota".to_owned()));
    assert_ne!(changed.header("retry-after"), "");
    // An unchanged digest is no sighting; and the other tag has its own limit.
    server.submit(&witness.observe("r.example/a:1", "c", t + 3)).await.added();
    server.submit(&witness.observe("r.example/a:2", "b", t + 3)).await.added();
    replay(&server).await;
}

#[tokio::test]
async fn a_full_queue_refuses_with_retry_after() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "max-queue = 5");
    let notes: Vec<Vec<u8>> = (0..6).map(|i| witness.observe(&format!("r.example/a:{i}"), "x", now())).collect();
    let bundle = encode_bundle(notes.iter().map(Vec::as_slice)).unwrap();
    let answer = server.post("/api/v1/entries", "application/octet-stream", bundle).await;
    assert_eq!(answer.problem(), (429, "overloaded".to_owned()));
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
    server.add(&notes[..5]).await;
}

#[tokio::test]
async fn a_rollback_is_a_sighting() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let t = now() - 100;
    let mut indices = Vec::new();
    for (i, content) in ["a", "a", "b", "b", "a", "a"].into_iter().enumerate() {
        indices.push(server.submit(&one.observe(APP, content, t + i as i64)).await.added());
        // Another witness in between makes no changes of this one's.
        server.submit(&two.observe(APP, "z", t + i as i64)).await.added();
    }
    indices.push(server.submit(&one.gone(APP, t + 10)).await.added());
    indices.push(server.submit(&one.observe(APP, "a", t + 11)).await.added());
    let lookup = server.lookup(&[APP], "").await;
    let report = lookup.report(&image(APP)).unwrap();
    let of = |id| report.witnesses.iter().find(|witness| witness.line.witness == id).unwrap();
    let mine = of(one.id());
    let seen: Vec<(u64, Seen)> = mine.sightings.iter().map(|s| (s.sighting.index, s.sighting.seen)).collect();
    let is = |content| Seen::Digest(digest(content));
    let want = [(0, is("a")), (2, is("b")), (4, is("a")), (6, Seen::Gone), (7, is("a"))];
    assert_eq!(seen, want.map(|(i, seen)| (indices[i], seen)));
    assert_eq!((mine.line.observations, mine.line.sightings, mine.complete), (8, 5, true));
    assert_eq!((of(two.id()).line.observations, of(two.id()).line.sightings), (6, 1));
    replay(&server).await;
}

#[tokio::test]
async fn waiting_for_publication_gives_a_receipt_that_verifies() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let note = witness.observe(APP, "a", now());
    for status in ["added", "duplicate"] {
        let answer = server.post("/api/v1/entries?wait=published", "text/plain", note.clone()).await;
        let row = &answer.json()[0];
        assert_eq!((answer.status, row["status"].as_str()), (200, Some(status)));
        let receipt = Receipt::parse(row["proof"].as_str().unwrap().as_bytes()).unwrap();
        receipt.verify(&server.vkey, &note).unwrap();
        receipt.verify_extra(&server.vkey).unwrap();
        assert_eq!((receipt.index, receipt.extra.as_ref()), (row["index"].as_u64().unwrap(), Some(&note)));
        assert!(receipt.verify(&server.vkey, &witness.observe(APP, "b", now())).is_err());
    }
}

#[tokio::test]
async fn every_entry_of_a_bundle_gets_its_receipt() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let mut notes: Vec<Vec<u8>> = (0..300).map(|i| witness.observe(&format!("r.example/a:{i}"), "x", now())).collect();
    notes[7] = b"bad".to_vec();
    let bundle = encode_bundle(notes.iter().map(Vec::as_slice)).unwrap();
    let answer = server.post("/api/v1/entries?wait=published", "application/octet-stream", bundle).await;
    let rows = answer.json();
    for (i, note) in notes.iter().enumerate() {
        let row = &rows[i];
        if i == 7 {
            assert!(row["error"]["type"] == "urn:taglog:problem:malformed-entry" && row["proof"].is_null(), "{row}");
            continue;
        }
        let receipt = Receipt::parse(row["proof"].as_str().unwrap().as_bytes()).unwrap();
        receipt.verify(&server.vkey, note).unwrap();
        assert_eq!(receipt.index, row["index"].as_u64().unwrap());
    }
}

#[tokio::test]
async fn an_idle_log_writes_a_seal() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[limits]\nquiet = 1");
    server.submit(&witness.observe(APP, "a", now())).await.added();
    let (before, deadline) = (server.size().await, std::time::Instant::now() + taglog_tests::process::TIMEOUT);
    while server.size().await < before + 2 {
        assert!(std::time::Instant::now() < deadline, "no seals of a quiet log");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let log = replay(&server).await;
    assert!(log.entries()[before as usize..].iter().all(|entry| entry.starts_with(b"taglog/seal@v1\n")));
}
