//! Every verdict of `taglog verify`, and responses of any size, on a real log; no registry is asked.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use taglog_tests::cli_fixture::{APP, User, add, pinned, proxy::Proxy, wait};
use taglog_tests::{
    Server, Witness,
    process::{TIMEOUT, wait_for},
    witness::{digest, now},
};

const DAY: i64 = 86_400;
/// Any witness may change a tag as often as a test wants.
const NO_QUOTA: &str = "[quota]\nsightings-per-tag-per-hour = 1000000\nentries-per-second = 100000";

fn id(witness: &Witness) -> String {
    witness.id().to_string()
}

#[test]
fn unknown_tags_and_uncovered_repositories() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(APP, "a", now())]);
    let user = User::trusting(&server);
    let (tag, repository) = ("registry.example/team/app:2.0", "registry.example/team/other:1.0");
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "ok");
    assert_eq!(user.verdict(&[&pinned(APP, "b")]), "mismatch");
    assert_eq!(user.verdict(&[&pinned(tag, "a")]), "unknown");
    assert_eq!(user.verdict(&[&pinned(repository, "a")]), "uncovered");
    user.run(&["history", tag]).exits(1).prints(&[tag, "nothing is logged for this tag"]);
    user.run(&["history", repository]).exits(1).prints(&[repository, "nothing is logged for this repository"]);
    for (name, covered) in [(tag, true), (repository, false)] {
        let answer = user.run_json(&["history", name]).exits(1).json();
        assert_eq!(
            (&answer["repositoryCovered"], &answer["history"]["sightings"]),
            (&covered.into(), &serde_json::json!([]))
        );
    }
}

#[test]
fn the_number_and_choice_of_witnesses_decide() {
    let (one, two, three) = (Witness::new(1), Witness::new(2), Witness::new(3));
    let server = Server::start(&[&one, &two], "");
    let (alone, both, split) = (APP, "registry.example/team/both:1", "registry.example/team/split:1");
    add(&server, &[one.observe(alone, "a", now()), one.observe(both, "a", now()), two.observe(both, "a", now())]);
    add(&server, &[one.observe(split, "a", now()), two.observe(split, "b", now())]);
    let user = User::trusting(&server);
    let judge = |name: &str, options: &[&str]| user.verdict(&[&[pinned(name, "a").as_str()], options].concat());
    assert_eq!(judge(alone, &["--witnesses", "2"]), "new");
    user.run(&["verify", "--witnesses", "2", &pinned(alone, "a")]).exits(1).prints(&["1 of the 2 required witnesses"]);
    assert_eq!(judge(both, &["--witnesses", "2"]), "ok");
    assert_eq!(judge(both, &["--witnesses", "3"]), "new");
    assert_eq!(judge(split, &[]), "retagged");
    assert_eq!(judge(split, &["--witness", &id(&one)]), "ok");
    assert_eq!(judge(split, &["--witness", &id(&two)]), "mismatch");
    assert_eq!(judge(split, &["--witness", &id(&two), "--witness", &id(&one)]), "retagged");
    assert_eq!(judge(alone, &["--witness", &id(&two)]), "unknown");
    assert_eq!(judge(alone, &["--witness", &id(&three)]), "unknown", "a witness that the log does not know");
    // Both last saw something else, so neither digest is what two witnesses see.
    assert_eq!(judge(split, &["--moving", "1", "--witnesses", "2"]), "new");
}

#[test]
fn a_tag_that_was_deleted_and_restored() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let (gone, back, never) = (APP, "registry.example/team/back:1", "registry.example/team/never:1");
    let at = now() - 100;
    add(&server, &[witness.observe(gone, "a", at), witness.observe(back, "a", at), witness.gone(never, at)]);
    add(&server, &[witness.gone(gone, at + 1), witness.gone(back, at + 1)]);
    add(&server, &[witness.observe(back, "a", at + 2)]);
    let user = User::trusting(&server);
    assert_eq!(user.verdict(&[&pinned(gone, "a")]), "stale");
    assert_eq!(user.verdict(&[&pinned(back, "a")]), "ok");
    assert_eq!(user.verdict(&[&pinned(never, "a")]), "mismatch");
    let history = user.run(&["history", back]).exits(0).stdout;
    let rows = history.lines().skip(1).filter(|line| !line.starts_with("log"));
    let seen: Vec<&str> = rows.map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(seen, [&digest("a").to_string(), "gone", &digest("a").to_string()]);
}

/// Nothing else was ever served, which is why the verdict is `ok`.
#[test]
fn a_tag_restored_unchanged_is_no_rollback() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let at = now() - 100;
    add(&server, &[witness.observe(APP, "a", at), witness.gone(APP, at + 1), witness.observe(APP, "a", at + 2)]);
    let user = User::trusting(&server);
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "ok");
    let history = user.run(&["history", APP]).exits(0);
    assert!(!history.stdout.contains("rolled back"), "{history:?}");
}

#[test]
fn old_observations_are_stale_until_they_are_confirmed() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(APP, "a", now() - 8 * DAY)]);
    let user = User::trusting(&server);
    let image = pinned(APP, "a");
    assert_eq!(user.verdict(&[&image]), "stale");
    user.run(&["verify", &image]).exits(1).prints(&["last vouched", "which is more than"]);
    assert_eq!(user.verdict(&[&image, "--freshness", "9d"]), "ok");
    assert_eq!(user.verdict(&[&image, "--freshness", "191h"]), "stale");
    add(&server, &[witness.confirm("registry.example/team/app", now() - DAY)]);
    assert_eq!(user.verdict(&[&image]), "ok");
    assert_eq!(user.verdict(&[&image, "--freshness", "23h"]), "stale");
    assert_eq!(user.verdict(&[&image, "--freshness", "0s"]), "stale");
    assert_eq!(user.verdict(&[&pinned(APP, "b")]), "mismatch", "a wrong digest weighs more than an old one");
}

#[test]
fn a_log_that_has_sealed_nothing_for_longer_than_asked_is_stale() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(APP, "a", now())]);
    let user = User::trusting(&server);
    let image = pinned(APP, "a");
    assert_eq!(user.verdict(&[&image]), "ok");
    wait_for("the seal to be older than 0 s", TIMEOUT, || {
        (user.verdict(&[&image, "--max-age", "0s"]) == "stale").then_some(())
    });
    user.run(&["verify", &image, "--max-age", "0s"]).exits(1).prints(&["stale", "last seal", "frozen"]);
    assert_eq!(user.verdict(&[&image]), "ok", "an hour by default");
    assert_eq!(user.verdict(&[&image, "--max-age", "1m"]), "ok");
}

/// Observations of one tag that each differ from the one before.
fn changes(witness: &Witness, name: &str, count: i64) -> Vec<Vec<u8>> {
    let start = now() - 10_000;
    (0..count).map(|i| witness.observe(name, &format!("content {i}"), start + i)).collect()
}

#[test]
fn histories_longer_than_a_page_are_fetched_whole() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], NO_QUOTA);
    add(
        &server,
        &[changes(&one, APP, 700), changes(&two, APP, 257), changes(&two, "registry.example/b:1", 256)].concat(),
    );
    let user = User::trusting(&server);
    let answer = user.run_json(&["history", APP]).exits(0).json();
    let sightings = answer["history"]["sightings"].as_array().unwrap();
    assert_eq!(sightings.len(), 957);
    let indices: Vec<u64> = sightings.iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted(), "in the order of the log");
    assert!(answer["history"]["witnesses"].as_array().unwrap().iter().all(|witness| witness["complete"] == true));
    // The image, its sightings, and the log's checkpoint.
    assert_eq!(user.run(&["history", APP]).exits(0).stdout.lines().count(), 959);

    let last = pinned(APP, "content 256");
    assert_eq!(user.verdict(&[&last]), "retagged", "and not incomplete");
    assert_eq!(user.verdict(&["--witness", &id(&two), "--moving", "1.0", &last]), "moving");
    user.run(&["verify", &last]).exits(1).prints(&["700 different digests"]);

    let file = user.argument("long.tagproof");
    user.run(&["verify", "--save", &file, &last, &pinned("registry.example/b:1", "content 255")]).exits(1);
    assert!(user.read("long.tagproof").lines().count() >= 3, "a proof and its further pages");
    drop(server);
    let offline = user.run_json(&["verify", "--offline", &file]).exits(1).json();
    assert_eq!(offline["images"][0]["verdict"], "retagged");
    assert_eq!(offline["images"][0]["logs"][0]["history"]["sightings"].as_array().unwrap().len(), 957);
    assert_eq!(offline["images"].as_array().unwrap().len(), 2, "each image once, whatever its pages");
    user.run(&["verify", "--offline", &file, APP]).exits(1).prints(&["700 different digests"]);
    user.run(&["inspect", &file]).exits(0).prints(&["tag proof", "verified"]);
}

/// An image with more sightings than one proof can hold is refused with a message, not reported as misbehaviour.
#[test]
fn many_witnesses_with_long_histories_of_one_image() {
    let witnesses: Vec<Witness> = (1..=17).map(Witness::new).collect();
    let server = Server::start(&witnesses.iter().collect::<Vec<_>>(), NO_QUOTA);
    for witness in &witnesses {
        add(&server, &changes(witness, APP, 256));
    }
    User::trusting(&server).run(&["history", APP]).exits(3).prints(&["lookup-too-large", "4096"]);
}

/// Names of 1,100 images in 11 repositories, each logged twice by each of these witnesses.
fn many_images(server: &Server, witnesses: &[&Witness]) -> Vec<String> {
    let names: Vec<String> = (0..1100).map(|i| format!("registry.example/team/app{}:{i}", i % 11)).collect();
    for witness in witnesses {
        // The second observation is no sighting, but the latest word: two entries for each image.
        let notes = |age| names.iter().map(move |name| witness.observe(name, name, now() - age)).collect::<Vec<_>>();
        add(server, &notes(100));
        add(server, &notes(50));
    }
    names
}

#[test]
fn more_images_than_fit_into_one_request_or_one_proof() {
    let witnesses = [Witness::new(1), Witness::new(2), Witness::new(3)];
    let witnesses: Vec<&Witness> = witnesses.iter().collect();
    let server = Server::start(&witnesses, NO_QUOTA);
    let names = many_images(&server, &witnesses);
    let refused = wait(server.post(
        "/api/v1/lookup",
        "application/json",
        serde_json::json!({ "images": names[..1000] }).to_string(),
    ));
    assert_eq!(refused.problem().1, "lookup-too-large", "else this tests nothing");

    let user = User::trusting(&server);
    let pinned: Vec<String> = names.iter().map(|name| pinned(name, name)).collect();
    let images: Vec<&str> = pinned.iter().map(String::as_str).collect();
    let started = Instant::now();
    let file = user.argument("many.tagproof");
    let ran = user.run_json(&[&["verify", "--witnesses", "3", "--save", &file], &images[..]].concat()).exits(0);
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    let answer = ran.json();
    let rows = answer["images"].as_array().unwrap();
    assert_eq!(rows.len(), names.len());
    for (name, row) in names.iter().zip(rows) {
        assert_eq!((&row["image"], &row["verdict"]), (&name.as_str().into(), &"ok".into()));
        assert_eq!(row["logs"][0]["history"]["witnesses"].as_array().unwrap().len(), 3, "{name}");
    }
    let one_wrong = taglog_tests::cli_fixture::pinned(&names[777], "wrong");
    let with_wrong = [&images[..777], &[one_wrong.as_str()], &images[778..]].concat();
    user.run(&[&["verify", "--print-digest"], &with_wrong[..]].concat())
        .exits(1)
        .has_empty_stdout()
        .prints(&[&names[777], "mismatch"]);

    drop(server);
    let offline = user.run_json(&["verify", "--offline", &file, "--witnesses", "3"]).exits(0).json();
    assert_eq!(offline["images"].as_array().unwrap().len(), names.len());
    user.run(&["verify", "--offline", &file, &one_wrong]).exits(1).prints(&["mismatch"]);
}

/// A log that grows between the parts of one large request is still one consistent log.
#[test]
fn a_log_that_grows_during_a_large_verify() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], NO_QUOTA);
    let names = many_images(&server, &[&witness]);
    add(&server, &changes(&witness, APP, 300));
    let (other, count) = (User::witnessing(&server, &witness), AtomicU64::new(0));
    let proxy = Proxy::asking(&server, move |path, body| {
        if path.contains("lookup") {
            // Before every part: another entry, in a batch of its own.
            let name = pinned(&format!("registry.example/grow:{}", count.fetch_add(1, SeqCst)), "x");
            other.run(&["observe", &name]).exits(0);
        }
        body
    });
    let user = User::trusting(&server);
    let mut images: Vec<String> = names.iter().map(|name| pinned(name, name)).collect();
    images.push(pinned(APP, "content 299"));
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let file = user.argument("grown.tagproof");
    let options = ["verify", "--moving", "1.0", "--log", &proxy.url, "--save", &file];
    user.run(&[&options[..], &images].concat()).exits(0);
    user.run(&["verify", "--moving", "1.0", "--offline", &file]).exits(0);
    assert_eq!(user.verdict(&[&pinned(APP, "content 299"), "--moving", "1.0"]), "moving", "what is remembered holds");
}
