//! `taglog keygen` and `taglog observe`, with a real registry and a real log.

use std::os::unix::fs::PermissionsExt as _;

use taglog_tests::cli_fixture::{APP, User, add, other_digest, proxy::Proxy, wait};
use taglog_tests::{
    Registry, Server, Witness, push_image,
    registry::push_index,
    replay,
    witness::{digest, now},
};

/// A registry, a log, and a witness that may report to it.
fn everything() -> (Registry, Server, User) {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let user = User::witnessing(&server, &witness);
    (Registry::start(), server, user)
}

#[test]
fn keygen_never_overwrites_or_prints_a_secret_key() {
    let user = User::new();
    let made = user.run(&["keygen", "witness.example/ams-1"]).exits(0).prints(&["keep a copy", "operator of a log"]);
    let vkey: taglog_proto::note::VerifierKey = made.stdout.trim_end().parse().unwrap();
    assert_eq!(vkey.name(), "witness.example/ams-1");
    assert_eq!(made.stdout.lines().count(), 1, "nothing but the vkey, so that it can go to a file");
    let secret = user.read("key");
    assert_eq!(std::fs::metadata(user.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!made.stdout.contains("PRIVATE") && !made.stderr.contains("PRIVATE"), "{made:?}");
    user.run(&["keygen", "witness.example/ams-1"]).exits(2).prints(&["exists", &user.argument("key")]);
    assert_eq!(user.read("key"), secret, "an existing key is never overwritten");
    let other = user.argument("new/directory/other.key");
    let made = user.run_json(&["keygen", "witness.example/ams-2", "--key", &other]).exits(0).json();
    assert_eq!(made["key"], other);
    assert!(made["vkey"].as_str().unwrap().starts_with("witness.example/ams-2+"), "{made}");
    assert_ne!(user.read("new/directory/other.key"), secret);
}

#[test]
fn the_digest_of_an_index_is_logged_and_its_manifest_is_kept() {
    let (registry, server, user) = everything();
    let (index, platforms) = push_index(&registry, "team/multi", "1.0", &[("amd64", "x86"), ("arm64", "arm")]);
    let name = format!("{}:1.0", registry.repository("team/multi"));
    let answer = user.run_json(&["observe", &name]).exits(0).json();
    assert_eq!((&answer[0]["image"], &answer[0]["digest"]), (&name.as_str().into(), &index.to_string().into()));
    assert_eq!((&answer[0]["status"], &answer[0]["manifest"]), (&"added".into(), &"kept by the log".into()));
    user.run(&["verify", "--print-digest", &name]).exits(0).prints(&[&index.to_string()]);
    let kept = wait(server.get(&format!("/api/v1/manifests/{index}")));
    assert!(kept.status == 200 && index.matches(&kept.body), "{kept:?}");
    for platform in &platforms {
        assert!(kept.text().contains(&platform.to_string()));
        // What a platform's pull is pinned to is not what the tag points to.
        user.run(&["verify", &format!("{name}@{platform}")]).exits(1).prints(&["mismatch"]);
    }
}

#[test]
fn the_manifest_of_a_plain_image_is_kept_too() {
    let (registry, server, user) = everything();
    let pushed = push_image(&registry, "team/app", "1.0", "app");
    user.run(&["observe", &format!("{}:1.0", registry.repository("team/app"))]).exits(0).prints(&[&pushed.to_string()]);
    let kept = wait(server.get(&format!("/api/v1/manifests/{pushed}")));
    assert!(kept.status == 200 && pushed.matches(&kept.body), "{kept:?}");
}

#[test]
fn a_digest_on_the_command_line_replaces_the_registry_request() {
    let (_registry, server, user) = everything();
    let stated = other_digest().to_string();
    user.run(&["observe", "--digest", &stated, APP]).exits(0).prints(&[APP, &stated, "added", "manifest not fetched"]);
    assert_eq!(user.verdict(&[&format!("{APP}@{stated}")]), "ok");
    assert_eq!(wait(server.get(&format!("/api/v1/manifests/{stated}"))).status, 404);
    let written = "registry.example/team/written:1.0";
    user.run(&["observe", &format!("{written}@{stated}")]).exits(0).prints(&[written, &stated]);
    user.run(&["observe", "--digest", &stated, APP, written]).exits(2).prints(&["--digest", "exactly one"]);
    user.run(&["observe", "--digest", "sha256:abc", APP]).exits(2).prints(&["sha256:abc", "hex digits"]);
}

#[test]
fn two_digests_for_one_image_are_refused() {
    let (_registry, server, user) = everything();
    let size = wait(server.size());
    let written = format!("{APP}@{}", digest("written"));
    user.run(&["observe", "--digest", &other_digest().to_string(), &written]).exits(2).prints(&[APP]);
    assert_eq!(wait(server.size()), size, "nothing is logged of it");
}

#[test]
fn observing_twice_gives_one_sighting() {
    let (registry, server, user) = everything();
    push_image(&registry, "team/app", "1.0", "app");
    let name = format!("{}:1.0", registry.repository("team/app"));
    // Within one second it is the same statement, which the log has already.
    for _ in 0..3 {
        let answer = user.run_json(&["observe", &name, &name]).exits(0).json();
        assert!(answer.as_array().unwrap().iter().all(|row| row["status"] == "added" || row["status"] == "duplicate"));
    }
    let history = user.run_json(&["history", &name]).exits(0).json()["history"].clone();
    assert_eq!(
        (&history["sightings"].as_array().unwrap().len(), &history["witnesses"][0]["sightings"]),
        (&1, &1.into())
    );
    assert_eq!(user.verdict(&[&name]), "ok");
    wait(replay(&server));
}

#[test]
fn an_unknown_witness_is_reported() {
    let (_registry, _server, user) = everything();
    user.use_key(&Witness::new(2));
    let stranger = Witness::new(2).id().to_string();
    let digest = other_digest().to_string();
    user.run(&["observe", "--digest", &digest, APP]).exits(3).prints(&[APP, "unknown-witness", &stranger]);
    let answer = user.run_json(&["observe", "--digest", &digest, APP]).exits(3).json();
    assert!(answer[0]["error"].as_str().unwrap().contains("unknown-witness"), "{answer}");
    assert_eq!(user.verdict(&[&format!("{APP}@{digest}")]), "uncovered");
}

#[test]
fn keys_that_cannot_be_used() {
    let (_registry, _server, user) = everything();
    let observe = ["observe", "--digest", &other_digest().to_string(), APP].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    let missing = user.argument("nowhere.key");
    user.run(&[&observe[..], &["--key", &missing]].concat()).exits(2).prints(&[&missing, "taglog keygen"]);
    let secret = user.read("key");
    for bad in
        ["", "not a key", secret.trim_end().get(..secret.len() - 5).unwrap(), &Witness::new(1).vkey().to_string()]
    {
        let file = user.write("bad.key", bad);
        let ran = user.run(&[&observe[..], &["--key", &file]].concat()).exits(2).prints(&[&file, "secret key"]);
        assert!(!ran.stderr.contains("PRIVATE+KEY+witness.example/w1"), "a secret key is not printed: {ran:?}");
    }
    let file = user.write("upper.key", Witness::named("Witness.Example/W", 1).key.to_secret_string());
    user.run(&[&observe[..], &["--key", &file]].concat()).exits(2).prints(&["Witness.Example/W"]);
}

#[test]
fn an_image_missing_in_the_registry_is_not_logged() {
    let (registry, server, user) = everything();
    push_image(&registry, "team/app", "1.0", "app");
    let (there, missing) = (registry.repository("team/app:1.0"), registry.repository("team/app:9.9"));
    let size = wait(server.size());
    user.run(&["observe", &missing]).exits(3).prints(&[&missing, "check the spelling"]);
    user.run(&["observe", &registry.repository("no/such:1")]).exits(3).prints(&["no/such"]);
    assert_eq!(wait(server.size()), size);
    user.run(&["observe", &missing, &there]).exits(3).prints(&[&missing, "check the spelling", &there, "added"]);
    let answer = user.run_json(&["observe", &missing, &there]).exits(3).json();
    assert!(answer[0]["error"].is_string() && answer[1]["index"].is_u64(), "{answer}");
    user.run(&["verify", &missing]).exits(3).prints(&[&missing]);
}

#[test]
fn an_observation_older_than_the_last_is_refused_with_the_reason() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(APP, "a", now() + 200)]);
    let user = User::witnessing(&server, &witness);
    let ran = user.run(&["observe", "--digest", &other_digest().to_string(), APP]).exits(3);
    ran.prints(&["the log refuses", "already"]);
}

#[test]
fn an_unreachable_log_is_named() {
    let (registry, server, user) = everything();
    push_image(&registry, "team/app", "1.0", "app");
    let (name, url) = (registry.repository("team/app:1.0"), server.url.clone());
    drop(server);
    for command in ["observe", "verify", "history"] {
        user.run(&[command, &name]).exits(3).prints(&["cannot reach the log", &url]);
    }
}

/// Several commands at once, as a pipeline runs them, share one memory; none accuses an honest log.
#[test]
fn parallel_observations_are_not_taken_for_misbehaviour() {
    let (_registry, server, user) = everything();
    let observe = |thread: usize| {
        for i in 0..12 {
            let name = format!("registry.example/team/app{thread}:{i}");
            let ran = user.run(&["observe", "--digest", &other_digest().to_string(), &name]);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || observe(thread))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(user.remembered().len(), 1);
    wait(replay(&server));
}

/// The same, made certain: the receipt is on its way while another command remembers a newer state.
#[test]
fn a_receipt_older_than_the_memory_is_not_taken_for_misbehaviour() {
    let (_registry, server, user) = everything();
    let (user, url) = (std::sync::Arc::new(user), server.url.clone());
    let other = std::sync::Arc::clone(&user);
    let proxy = Proxy::answering(&server, move |path, body| {
        if path.contains("entries") {
            let digest = other_digest().to_string();
            other.run(&["observe", "--digest", &digest, "registry.example/team/other:1", "--log", &url]).exits(0);
        }
        body
    });
    user.run(&["observe", "--digest", &other_digest().to_string(), APP, "--log", &proxy.url])
        .exits(0)
        .prints(&["added"]);
    assert!(user.evidence().is_empty());
    user.run(&["history", APP]).exits(0);
}
