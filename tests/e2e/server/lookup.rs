//! Look-ups: tag proofs that verify, consistency, pages, many images.

use taglog_proto::{
    entry::Seen,
    merkle::{Hash, leaf_hash, verify_consistency, verify_inclusion},
    tag_proof::{TagProof, VerifiedLookup},
};
use taglog_tests::{
    HttpResponse, Server, Witness, replay,
    replay::fetch_entries,
    witness::{digest, image, now},
};

const APP: &str = "registry.example/team/app:1.0";

/// The body of a posted look-up.
fn body(images: &[String]) -> String {
    serde_json::json!({ "images": images }).to_string()
}

async fn post(server: &Server, images: &[String]) -> VerifiedLookup {
    let answer = server.post("/api/v1/lookup", "application/json", body(images)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    TagProof::from_json(&answer.body).unwrap().verify(&server.vkey).unwrap()
}

#[tokio::test]
async fn an_answer_shows_everything_that_was_acknowledged() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    for i in 0..30 {
        let index = server.submit(&witness.observe(APP, &i.to_string(), now() - 100 + i)).await.added();
        // Acknowledged, so it is in the very next answer.
        let lookup = server.lookup(&[APP], "").await;
        let line = &lookup.images[0].witnesses[0];
        assert_eq!((line.line.index, line.line.sightings, line.complete), (index, i as u64 + 1, true));
        assert!(index < lookup.checkpoint.size);
    }
}

#[tokio::test]
async fn an_unlisted_tag_is_proven_absent() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let empty = server.lookup(&[APP], "").await;
    assert!(empty.images[0].witnesses.is_empty() && !empty.images[0].repository_covered, "in the empty log");
    server.submit(&witness.observe(APP, "a", now())).await.added();
    let images = [APP, "registry.example/team/app:2.0", "registry.example/other:1.0"];
    let lookup = server.lookup(&images, "").await;
    let shown: Vec<(usize, bool)> = lookup.images.iter().map(|i| (i.witnesses.len(), i.repository_covered)).collect();
    assert_eq!(shown, [(1, true), (0, true), (0, false)]);
}

#[tokio::test]
async fn a_lookup_proves_consistency_with_an_old_checkpoint() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let mut old = vec![server.checkpoint().await];
    for i in 0..12 {
        let notes: Vec<_> = (0..=i * 7).map(|j| witness.observe(&format!("r.example/a{i}:{j}"), "x", now())).collect();
        server.add(&notes).await;
        old.push(server.checkpoint().await);
    }
    for old in old.iter().map(|checkpoint| checkpoint.unverified()) {
        let proof = server.tag_proof(&["r.example/a1:1"], &format!("&from={}", old.size)).await;
        let new = proof.verify(&server.vkey).unwrap().checkpoint;
        proof.verify_consistency(old, &new).unwrap();
        let mut forged = old.clone();
        forged.root = Hash::of(b"forged");
        assert!(proof.verify_consistency(&forged, &new).is_err());
    }
}

#[tokio::test]
async fn single_proofs_verify_for_every_index_and_size() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let mut checkpoints = vec![server.checkpoint().await];
    for i in 0..6 {
        server
            .add(&(0..i).map(|j| witness.observe(&format!("r.example/a{i}:{j}"), "x", now())).collect::<Vec<_>>())
            .await;
        checkpoints.push(server.checkpoint().await);
    }
    let size = server.size().await;
    let entries = fetch_entries(&server, size).await;
    for index in 0..size {
        let json = server.get(&format!("/api/v1/proof/inclusion?index={index}&size={size}")).await.json();
        let root = Hash::from_base64(json["root"].as_str().unwrap()).unwrap();
        assert_eq!(root, checkpoints.last().unwrap().unverified().root);
        verify_inclusion(&leaf_hash(&entries[index as usize]), index, size, &hashes(&json["proof"]), &root).unwrap();
    }
    for old in &checkpoints {
        for new in checkpoints.iter().map(|c| c.unverified()).filter(|new| new.size >= old.unverified().size) {
            let old = old.unverified();
            let json = server.get(&format!("/api/v1/proof/consistency?from={}&to={}", old.size, new.size)).await.json();
            verify_consistency(old.size, new.size, &hashes(&json["proof"]), &old.root, &new.root).unwrap();
        }
    }
}

fn hashes(list: &serde_json::Value) -> Vec<Hash> {
    list.as_array().unwrap().iter().map(|hash| Hash::from_base64(hash.as_str().unwrap()).unwrap()).collect()
}

/// Looks an image up page by page and joins them; how many pages it took.
async fn all_pages(server: &Server, name: &str) -> (VerifiedLookup, usize) {
    let mut earlier = Vec::new();
    loop {
        let mut lookup = server.lookup(&[name], &format!("&page={}", earlier.len())).await;
        lookup.join_pages(&earlier);
        if lookup.images[0].witnesses.iter().all(|witness| witness.complete) {
            return (lookup, earlier.len() + 1);
        }
        earlier.push(lookup);
        assert!(earlier.len() < 10, "{name}: the pages never fit");
    }
}

#[tokio::test]
async fn lists_of_any_length_are_joined_from_pages() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[quota]\nsightings-per-tag-per-hour = 1000000");
    // Batches of many sizes, so that pages fill up within one, at its end, and over several.
    for (length, batches) in [
        (255, vec![255]),
        (256, vec![1, 255]),
        (257, vec![256, 1]),
        (512, vec![512]),
        (513, vec![100, 413]),
        (600, vec![200, 200, 200]),
        (1025, vec![3, 1022]),
    ] {
        let name = format!("r.example/long:{length}");
        let mut want = Vec::new();
        for batch in batches {
            let next = want.len()..want.len() + batch;
            let notes: Vec<_> =
                next.map(|i| witness.observe(&name, &i.to_string(), now() - 100_000 + i as i64)).collect();
            let seen = (want.len()..).map(|i| Seen::Digest(digest(&i.to_string())));
            want.extend(server.add(&notes).await.into_iter().zip(seen));
        }
        let (lookup, pages) = all_pages(&server, &name).await;
        let report = &lookup.images[0].witnesses[0];
        let got: Vec<(u64, Seen)> = report.sightings.iter().map(|s| (s.sighting.index, s.sighting.seen)).collect();
        assert!(got == want && report.start == 0, "{length}");
        assert_eq!(pages, want.len().div_ceil(256), "{length}");
    }
    let first = server.lookup(&["r.example/long:600"], "").await;
    assert!(!first.images[0].witnesses[0].complete, "256 of 600 are not all");
    replay(&server).await;
}

#[tokio::test]
async fn a_page_beyond_the_list_is_empty_and_verifies() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    server.submit(&witness.observe(APP, "a", now())).await.added();
    for page in [1, 2, 1000] {
        let report = &server.lookup(&[APP], &format!("&page={page}")).await.images[0].witnesses[0];
        assert!(report.sightings.is_empty() && !report.complete, "page {page}");
    }
}

#[tokio::test]
async fn every_page_number_gives_a_valid_proof() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    server.submit(&witness.observe(APP, "a", now())).await.added();
    let pages = [1 << 45, 1 << 50, (1 << 53) - 1, u64::MAX / 256, u64::MAX];
    for page in pages {
        let body = format!(r#"{{"images":["{APP}"],"page":{page}}}"#);
        let answer = server.post("/api/v1/lookup", "application/json", body).await;
        if answer.status == 200 {
            // To a verifier a proof that fails is misbehaviour of the log.
            let verified = TagProof::from_json(&answer.body).and_then(|proof| proof.verify(&server.vkey));
            assert!(verified.is_ok(), "page {page}: the log's own proof is refused: {:?}", verified.err());
        } else {
            assert_eq!(answer.problem().0 / 100, 4, "page {page}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn many_images_in_one_lookup() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let names: Vec<String> = (0..1000).map(|i| format!("r.example/a{}:{i}", i % 10)).collect();
    let notes = |witness: &Witness, step: usize| {
        let logged = names.iter().step_by(step);
        logged.map(|name| witness.observe(name, name, now())).collect::<Vec<_>>()
    };
    server.add(&[notes(&one, 2), notes(&two, 4)].concat()).await;
    let some: Vec<&str> = names[..40].iter().map(String::as_str).collect();
    assert_eq!(server.lookup(&some, "").await.images.len(), 40);
    let lookup = post(&server, &names).await;
    assert_eq!(lookup.images.len(), 1000);
    for (i, (name, report)) in names.iter().zip(&lookup.images).enumerate() {
        assert_eq!(report.image, image(name), "in the order of the request");
        let witnesses = usize::from(i % 2 == 0) + usize::from(i % 4 == 0);
        assert_eq!(report.witnesses.len(), witnesses, "{name}");
        let seen = Seen::Digest(digest(name));
        assert!(report.witnesses.iter().all(|witness| witness.complete && witness.line.seen == seen));
    }
}

#[tokio::test]
async fn a_lookup_that_needs_too_many_entries_is_refused() {
    let witnesses: Vec<Witness> = (1..=5).map(Witness::new).collect();
    let server = Server::start(&witnesses.iter().collect::<Vec<_>>(), "");
    let names: Vec<String> = (0..1000).map(|i| format!("r.example/a:{i}")).collect();
    for witness in &witnesses {
        server.add(&names.iter().map(|name| witness.observe(name, "x", now())).collect::<Vec<_>>()).await;
    }
    let answer = server.post("/api/v1/lookup", "application/json", body(&names)).await;
    assert_eq!(answer.problem(), (422, "lookup-too-large".to_owned()));
    assert_eq!(post(&server, &names[..800]).await.images.len(), 800, "4,000 entries and seal and roster");
}

#[tokio::test]
async fn lookups_during_submissions_always_verify() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let submit = async {
        for i in 0..40 {
            let notes: Vec<_> =
                (0..20).map(|j| witness.observe(&format!("r.example/a:{j}"), &i.to_string(), now() + i)).collect();
            server.add(&notes).await;
        }
    };
    let mut submit = std::pin::pin!(submit);
    let (mut lookups, mut size) = (0, 0);
    loop {
        let look = async {
            let lookup = server.lookup(&["r.example/a:1", "r.example/a:19", "r.example/b:1"], "").await;
            assert!(lookup.checkpoint.size >= size, "the published size went back");
            size = lookup.checkpoint.size;
            lookups += 1;
        };
        tokio::select! {
            () = &mut submit => break,
            () = look => {}
        }
    }
    assert!(lookups > 10, "{lookups} look-ups");
    replay(&server).await;
}

#[tokio::test]
async fn lookups_are_not_cacheable() {
    let server = Server::start(&[], "");
    let answer: HttpResponse = server.get(&format!("/api/v1/lookup?image={APP}")).await;
    assert_eq!((answer.header("cache-control"), answer.header("content-type")), ("no-cache", "application/json"));
}
