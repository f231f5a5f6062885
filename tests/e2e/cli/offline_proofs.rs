//! `taglog verify --save` and `--offline`: proofs that need no network, and modified copies of them.

use taglog_tests::cli_fixture::{APP, User, add, backdated_log::BackdatedLog, pinned};
use taglog_tests::{
    Registry, Server, Witness, push_image,
    witness::{digest, now},
};

const OTHER: &str = "registry.example/team/other:1.0";

/// A log in which one tag was moved and another was not.
fn log() -> Server {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[quota]\nsightings-per-tag-per-hour = 1000000");
    add(&server, &[witness.observe(APP, "a", now() - 100), witness.observe(OTHER, "o", now() - 100)]);
    add(&server, &[witness.observe(APP, "b", now() - 50)]);
    server
}

/// A user without network who has a proof of both images, saved while the log was there.
fn with_saved_proof() -> User {
    let server = log();
    let user = User::trusting(&server);
    let file = user.argument("saved.tagproof");
    user.run(&["verify", "--save", &file, &pinned(APP, "b"), &pinned(OTHER, "o")]).exits(1).prints(&["retagged", "ok"]);
    user
}

/// Verifies a file offline.
fn offline(user: &User, file: &str, more: &[&str]) -> taglog_tests::cli_fixture::CommandOutput {
    user.run(&[&["verify", "--offline", file], more].concat())
}

#[test]
fn saved_proofs_need_neither_log_nor_registry() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let registry = Registry::start();
    let user = User::witnessing(&server, &witness);
    let served = push_image(&registry, "team/app", "1.0", "app");
    let name = registry.repository("team/app:1.0");
    user.run(&["observe", &name]).exits(0);
    let file = user.argument("app.tagproof");
    user.run(&["verify", "--save", &file, &name]).exits(0);
    drop((server, registry));
    // Nor an address, nor a memory.
    std::fs::remove_dir_all(user.path("state")).unwrap();
    let trust = user.read("trust");
    let (log, _) = trust.lines().next().unwrap().rsplit_once(' ').unwrap();
    user.write("trust", format!("{log}\nquorum none\n"));

    offline(&user, &file, &[]).exits(0).prints(&["ok", &name, "sealed", "s old"]);
    offline(&user, &file, &[&name]).exits(0).prints(&["ok", &name]);
    offline(&user, &file, &[&format!("{name}@{served}")]).exits(0).prints(&["ok", &name]);
    offline(&user, &file, &[&pinned(&name, "evil")]).exits(1).prints(&["mismatch"]);
    let printed = offline(&user, &file, &["--print-digest"]).exits(0);
    assert_eq!(printed.stdout, format!("{}@{served}\n", registry_repository(&name)));
    let answer = offline(&user, &file, &["--output", "json"]).exits(0).json();
    assert_eq!((&answer["images"][0]["verdict"], &answer["logs"][0]["tags"]), (&"ok".into(), &1.into()));
    assert!(user.remembered().is_empty(), "a file never moves the memory");
    user.run(&["inspect", &file]).exits(0).prints(&["tag proof", &name, &served.to_string(), "verified under"]);
}

fn registry_repository(image: &str) -> &str {
    image.rsplit_once(':').unwrap().0
}

#[test]
fn an_older_file_is_accepted_and_does_not_change_a_newer_memory() {
    let witness = Witness::new(1);
    let server = log();
    let user = User::trusting(&server);
    let file = user.argument("old.tagproof");
    user.run(&["verify", "--save", &file, &pinned(OTHER, "o")]).exits(0);
    add(&server, &[witness.observe(OTHER, "evil", now())]);
    assert_eq!(user.verdict(&[&pinned(OTHER, "o")]), "retagged");
    let remembered = user.remembered();
    offline(&user, &file, &[]).exits(0).prints(&["ok"]);
    assert_eq!(user.remembered(), remembered);
}

#[test]
fn without_images_the_whole_file_is_evaluated_and_else_only_the_images() {
    let user = with_saved_proof();
    let file = user.argument("saved.tagproof");
    offline(&user, &file, &[]).exits(1).prints(&["retagged", APP, "ok", OTHER, "2 different digests"]);
    offline(&user, &file, &[OTHER]).exits(0).prints(&["ok", OTHER]);
    offline(&user, &file, &[APP]).exits(1).prints(&["retagged"]);
    offline(&user, &file, &["--moving", "1.0"]).exits(0).prints(&["moving"]);
    offline(&user, &file, &["--witnesses", "2", OTHER]).exits(1).prints(&["new"]);
    for absent in ["registry.example/team/app:1.1", "busybox"] {
        offline(&user, &file, &[OTHER, absent]).exits(2).has_empty_stdout().prints(&[&file, "has no proof of", absent]);
    }
}

#[test]
fn files_that_are_no_proof_are_refused() {
    let user = with_saved_proof();
    let saved = user.read("saved.tagproof");
    let half = &saved[..saved.len() / 2];
    for (content, says) in [
        ("", "is empty"),
        ("\n", "not a tag proof"),
        ("{}", "not a tag proof"),
        ("<html>", "not a tag proof"),
        (half, "not a tag proof"),
        (&saved.replacen("tag-proof@v1", "tag-proof@v9", 1), "taglog/tag-proof@v9"),
        (&saved.replacen('{', r#"{"more":1,"#, 1), "more"),
        (&format!("{saved}{saved}rest"), "not a tag proof"),
    ] {
        let file = user.write("bad.tagproof", content);
        offline(&user, &file, &[OTHER]).exits(2).has_empty_stdout().prints(&[&file, says]);
    }
    let file = user.argument("nowhere.tagproof");
    offline(&user, &file, &[]).exits(2).prints(&[&file, "No such file"]);
    let file = user.write("binary.tagproof", [0xff, 0xfe, 0]);
    offline(&user, &file, &[]).exits(2).prints(&[&file]);
    offline(&user, &user.argument(""), &[]).exits(2);
}

#[test]
fn modified_copies_are_refused() {
    let user = with_saved_proof();
    let saved = user.read("saved.tagproof");
    let [a, b, o] = ["a", "b", "o"].map(|content| digest(content).to_string());
    let changed = |from: &str, to: &str| {
        let copy = saved.replace(from, to);
        assert_ne!(copy, saved, "{from} is not in the file");
        copy
    };
    let without_first_sighting = |text: &str| {
        let start = text.find("\"leaves\":[").unwrap() + "\"leaves\":[".len();
        let end = start + text[start..].find(',').unwrap() + 1;
        format!("{}{}", &text[..start], &text[end..])
    };
    let one_line_less = |text: &str| {
        let start = text.find("witness witness.example/w1+").unwrap();
        let end = start + text[start..].find("\\n").unwrap() + 2;
        format!("{}{}", &text[..start], &text[end..])
    };
    for (what, copy) in [
        ("the attacker's digest in the place of the first", changed(&a, &b)),
        ("the attacker's digest by another", changed(&b, &a)),
        ("one digest once", saved.replacen(&o, &a, 1)),
        ("another image's name", changed(APP, "registry.example/team/app:1.1")),
        ("two images for each other", changed(APP, "X").replace(OTHER, APP).replace("\"X\"", &format!("\"{OTHER}\""))),
        ("another repository", changed("registry.example/team", "registry.example/mate")),
        ("a sighting less", without_first_sighting(&saved)),
        ("a witness's line less", one_line_less(&saved)),
        ("another witness", changed("witness.example/w1", "witness.example/w2")),
        ("another proof of absence", changed("\"result\":\"inclusion\"", "\"result\":\"nonInclusionParent\"")),
    ] {
        let file = user.write("tampered.tagproof", &copy);
        let ran = offline(&user, &file, &[]).exits(4).prints(&["does not verify", &file]);
        assert!(!ran.stderr.is_empty() && ran.stdout.starts_with("misbehaved"), "{what}: {ran:?}");
        assert!(ran.stdout.contains("0 pass"), "{what}: {ran:?}");
        user.run(&["inspect", &file]).exits(4).prints(&["DOES NOT VERIFY"]);
    }
}

/// A false proof is reported as the log's misbehaviour is online: in every format, on every image, whoever asks for it.
#[test]
fn a_false_proof_is_reported_in_every_format() {
    let user = with_saved_proof();
    let tampered = user.read("saved.tagproof").replace(&digest("a").to_string(), &digest("b").to_string());
    let file = user.write("tampered.tagproof", &tampered);
    let nameless = user
        .write("nameless.tagproof", tampered.replace("\"image\":\"registry.example", "\"image\":\"Registry example"));
    let (sarif, junit) = (user.argument("out.sarif"), user.argument("out.xml"));
    let reports = [format!("sarif={sarif}"), format!("junit={junit}")];
    for (file, images, results) in [(&file, &[][..], 2), (&file, &[APP], 1), (&nameless, &[], 1)] {
        let options = ["--output", "json", "--report", &reports[0], "--report", &reports[1]];
        let ran = offline(&user, file, &[&options, images].concat()).exits(4).prints(&["does not verify"]);
        let json = ran.json();
        assert!(json["misbehaviour"][0].as_str().unwrap().contains("does not verify"), "{json}");
        let verdicts = json["images"].as_array().unwrap();
        assert!(verdicts.iter().all(|image| image["verdict"] == "misbehaved" && image["passes"] == false), "{json}");
        let sarif: serde_json::Value = serde_json::from_str(&user.read("out.sarif")).unwrap();
        let told = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(told.len(), results, "{sarif}");
        assert!(
            told.iter().all(|result| result["ruleId"] == "taglog/misbehaved" && result["level"] == "error"),
            "{sarif}"
        );
        assert_eq!(user.read("out.xml").matches("<failure").count(), results, "{}", user.read("out.xml"));
        std::fs::remove_file(user.path("out.sarif")).unwrap();
        std::fs::remove_file(user.path("out.xml")).unwrap();
    }
    offline(&user, &file, &["--print-digest"]).exits(4).has_empty_stdout();
}

#[test]
fn every_changed_byte_is_detected() {
    let user = with_saved_proof();
    let saved = std::fs::read(user.path("saved.tagproof")).unwrap();
    let step = saved.len() / 150;
    for at in (0..saved.len() - 1).step_by(step) {
        let mut copy = saved.clone();
        // Another letter or digit where one was, so that the file often still parses.
        copy[at] = if copy[at] == b'5' { b'6' } else { b'5' };
        let file = user.write("changed.tagproof", &copy);
        let ran = offline(&user, &file, &[]);
        assert!(matches!(ran.code, 2 | 4) && !ran.stderr.is_empty(), "byte {at}: {ran:?}");
        assert!(ran.stdout.is_empty() || ran.stdout.contains("0 pass"), "byte {at}: {ran:?}");
    }
}

#[test]
fn a_proof_of_another_log_is_refused() {
    let (user, other) = (with_saved_proof(), with_saved_proof());
    let file = other.argument("saved.tagproof");
    offline(&user, &file, &[]).exits(4).prints(&["does not verify", "not signed by"]);
    let both = user.write("both.tagproof", format!("{}{}", user.read("saved.tagproof"), other.read("saved.tagproof")));
    offline(&user, &both, &[OTHER]).exits(4).prints(&["not signed by"]);
}

/// The lines of a file with a history of several pages.
fn paged(user: &User) -> Vec<String> {
    user.read("paged.tagproof").lines().map(|line| format!("{line}\n")).collect()
}

fn with_paged_proof() -> User {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[quota]\nsightings-per-tag-per-hour = 1000000");
    let start = now() - 10_000;
    add(&server, &(0..600).map(|i| witness.observe(APP, &i.to_string(), start + i)).collect::<Vec<_>>());
    add(&server, &[witness.observe(OTHER, "o", now())]);
    let user = User::trusting(&server);
    let file = user.argument("paged.tagproof");
    user.run(&["verify", "--save", &file, &pinned(APP, "599"), "--moving", "1.0"]).exits(0);
    user
}

#[test]
fn a_missing_page_is_incomplete() {
    let user = with_paged_proof();
    let lines = paged(&user);
    assert_eq!(lines.len(), 3, "600 sightings are three pages");
    for dropped in [1, 2] {
        let kept: String =
            lines.iter().enumerate().filter(|(i, _)| *i != dropped).map(|(_, line)| line.as_str()).collect();
        let file = user.write("dropped.tagproof", kept);
        offline(&user, &file, &["--moving", "1.0"]).exits(1).prints(&["incomplete", APP]);
    }
    let swapped = user.write("swapped.tagproof", [lines[0].as_str(), &lines[2], &lines[1]].concat());
    offline(&user, &swapped, &["--moving", "1.0"]).exits(0).prints(&["moving"]);
    let doubled = user.write("doubled.tagproof", [lines.concat(), lines.concat()].concat());
    let ran = offline(&user, &doubled, &["--moving", "1.0"]);
    assert!(matches!(ran.code, 0 | 2), "{ran:?}");
}

/// Further pages without the first answer nothing, which must not look like success.
#[test]
fn a_file_without_the_first_page_does_not_pass() {
    let user = with_paged_proof();
    let lines = paged(&user);
    for rest in [&lines[1..], &lines[2..]] {
        let file = user.write("rest.tagproof", rest.concat());
        let named = offline(&user, &file, &["--moving", "1.0", APP]);
        assert!(matches!(named.code, 1 | 2 | 4), "{named:?}");
        let unnamed = offline(&user, &file, &["--moving", "1.0"]);
        assert!(matches!(unnamed.code, 1 | 2 | 4), "nothing was verified: {unnamed:?}");
    }
}

const DAY: i64 = 86_400;

/// A user with a proof that was sealed three days ago, of an observation an hour older.
fn with_old_proof() -> User {
    let witness = Witness::new(1);
    let sealed = now() - 3 * DAY;
    let log = BackdatedLog::new(&witness, &[witness.observe(APP, "a", sealed - 3600)], sealed);
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", log.vkey()));
    user.write("old.tagproof", log.tag_proof(APP, None));
    user
}

#[test]
fn an_old_proof_shows_its_age_and_is_refused_on_request() {
    let user = with_old_proof();
    let file = user.argument("old.tagproof");
    offline(&user, &file, &[]).exits(0).prints(&["ok", "3 days old"]);
    let answer = offline(&user, &file, &["--output", "json"]).exits(0).json();
    let age = answer["logs"][0]["ageSeconds"].as_i64().unwrap();
    assert!((3 * DAY..3 * DAY + 600).contains(&age), "{age}");
    offline(&user, &file, &["--max-age", "4d"]).exits(0).prints(&["ok"]);
    for max_age in ["2d", "71h", "0s"] {
        offline(&user, &file, &["--max-age", max_age]).exits(1).prints(&["stale", "last seal"]);
        offline(&user, &file, &["--max-age", max_age, "--print-digest"]).exits(1).has_empty_stdout();
    }
}

/// The freshness of observations refers to the time of the proof, not to the present.
#[test]
fn freshness_refers_to_the_time_of_the_proof() {
    let user = with_old_proof();
    let file = user.argument("old.tagproof");
    offline(&user, &file, &["--freshness", "1h"]).exits(0).prints(&["ok"]);
    offline(&user, &file, &["--freshness", "59m"]).exits(1).prints(&["stale", "last vouched"]);
}

/// An older proof of something else in the same file makes no old observation fresh.
#[test]
fn freshness_refers_to_the_proof_of_the_image_itself() {
    let witness = Witness::new(1);
    let mut log = BackdatedLog::new(&witness, &[witness.observe(OTHER, "o", now() - 60 * DAY)], now() - 60 * DAY);
    let (older, size) = (log.tag_proof(OTHER, None), log.size());
    log.add(&[witness.observe(APP, "a", now() - 30 * DAY)], now());
    let newer = log.tag_proof(APP, Some(size));
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", log.vkey()));
    let alone = user.write("alone.tagproof", &newer);
    offline(&user, &alone, &[APP]).exits(1).prints(&["stale", "last vouched"]);
    let both = user.write("both.tagproof", [older, newer].concat());
    offline(&user, &both, &["--freshness", "31d", APP]).exits(0).prints(&["ok"]);
    offline(&user, &both, &[APP]).exits(1).prints(&["stale", "last vouched"]);
}

#[test]
fn a_proof_from_the_future_is_stale() {
    let witness = Witness::new(1);
    let log = BackdatedLog::new(&witness, &[witness.observe(APP, "a", now())], now() + 3600);
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", log.vkey()));
    let file = user.write("future.tagproof", log.tag_proof(APP, None));
    offline(&user, &file, &[]).exits(1).prints(&["stale", "in the future", "clock"]);
}

#[test]
fn a_proof_that_cannot_be_saved_is_an_error() {
    let server = log();
    let user = User::trusting(&server);
    let nowhere = user.argument("no/such/directory/x.tagproof");
    user.run(&["verify", "--save", &nowhere, &pinned(OTHER, "o")]).exits(2).prints(&[&nowhere]);
}
