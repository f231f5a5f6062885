//! Starting, refusing to start, restarting, stopping.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use taglog_proto::note::SigningKey;
use taglog_tests::{
    DataDirectory, Server, SubmissionResult, Witness, replay,
    replay::assert_prefix,
    server::{ORIGIN, command, copy_directory},
    witness::now,
};

const APP: &str = "registry.example/team/app:1.0";

/// Starts a server that must refuse with exit code 1 and a message that has all of `words`.
fn assert_refuses(data: &DataDirectory, arguments: &[&str], words: &[&str]) {
    let refusal = data.try_start(arguments).err().expect("the server starts");
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    for word in words {
        assert!(refusal.message.contains(word), "no {word:?} in {}", refusal.message);
    }
    assert!(!refusal.message.contains("panicked"), "{}", refusal.message);
    // The form of a secret key may be explained, but none shown.
    let shown = refusal.message.replace("PRIVATE+KEY+<name>", "");
    assert!(!shown.contains("PRIVATE+KEY"), "a secret key is in {}", refusal.message);
}

fn output(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_second_server_on_one_directory_refuses_to_start() {
    let data = DataDirectory::init();
    let server = data.start();
    assert_refuses(&data, &[], &["in use by another taglog-server", "fork"]);
    server.stop();
    data.start().stop();
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let data = DataDirectory::init();
    let key = data.path().join("key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_refuses(&data, &[], &["can be read by others", "chmod 600"]);
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    data.start().stop();
}

#[test]
fn init_does_not_overwrite() {
    let data = DataDirectory::init();
    let path = data.path();
    let key = std::fs::read(path.join("key")).unwrap();
    let init = || output(&["init", path.to_str().unwrap(), "--origin", ORIGIN]);
    let again = init();
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("exists already"), "{again:?}");
    std::fs::remove_file(path.join("taglog-server.toml")).unwrap();
    assert_eq!(init().status.code(), Some(1), "the key is still there");
    assert_eq!(std::fs::read(path.join("key")).unwrap(), key);
}

#[test]
fn init_takes_only_origins_that_a_key_can_have() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    for origin in ["", "two words", "a+b", "line\nbreak"] {
        let refused = output(&["init", path.to_str().unwrap(), "--origin", origin]);
        assert_eq!(refused.status.code(), Some(1), "{origin:?}: {refused:?}");
        assert!(!path.exists(), "{origin:?} left something behind");
    }
}

#[test]
fn bad_configurations_are_refused_with_what_is_wrong() {
    let data = DataDirectory::init();
    for (toml, words) in [
        ("witneses = []", ["witneses", "unknown field"]),
        ("[quota]\nentries-per-sec = 1", ["entries-per-sec", "unknown field"]),
        ("[limits]\nfutur = 1", ["futur", "unknown field"]),
        ("listen = \"nowhere\"", ["listen", "taglog-server.toml"]),
        ("listen = [", ["taglog-server.toml", "TOML"]),
        ("max-batch = 0", ["max-batch", "1 to 1000000"]),
        ("max-batch = -1", ["max-batch", "taglog-server.toml"]),
        ("max-queue = 0", ["max-queue", "1 to"]),
        ("max-connections = 0", ["max-connections", "1 to"]),
        ("[limits]\nquiet = 0", ["limits.quiet", "1 to 86400"]),
        ("[limits]\nfuture = 100000", ["limits.future", "86400"]),
        ("[quota]\nnew-tags-per-hour = 0", ["quota", "above 0"]),
    ] {
        data.write_config(toml);
        assert_refuses(&data, &[], &words);
    }
    std::fs::remove_file(data.path().join("taglog-server.toml")).unwrap();
    assert_refuses(&data, &[], &["taglog-server.toml", "init"]);
    data.write_config("");
    assert_refuses(&data, &["--batch-interval-ms=0"], &["batch-interval-ms", "1 to 60000"]);
    data.start().stop();
}

#[test]
fn bad_witness_keys_are_refused() {
    let data = DataDirectory::init();
    let good = Witness::new(1).vkey().to_string();
    let (name, rest) = good.split_once('+').unwrap();
    let bad = [
        String::new(),
        "witness".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("other+{rest}"),
        format!("{name}+00000000+{}", rest.split_once('+').unwrap().1),
        format!("{good}="),
    ];
    for vkey in bad {
        data.write_config(&format!("witnesses = [{vkey:?}]"));
        assert_refuses(&data, &[], &["witness", &vkey]);
    }
    // The name of a key, but not of a witness: nothing that it signs could be an entry.
    data.configure(&[&Witness::named("Witness.Example/W1", 1)], "");
    assert_refuses(&data, &[], &["Witness.Example/W1"]);
}

/// An easy mistake, and its error message ends up in logs.
#[test]
fn a_secret_key_given_as_a_public_key_is_not_printed() {
    let data = DataDirectory::init();
    data.write_config(&format!("witnesses = [{:?}]", Witness::new(1).key.to_secret_string()));
    assert_refuses(&data, &[], &["witness"]);
}

#[test]
fn two_witnesses_with_one_key_are_refused() {
    let data = DataDirectory::init();
    data.configure(&[&Witness::named("a.example/1", 1), &Witness::named("b.example/2", 1)], "");
    assert_refuses(&data, &[], &["a.example/1", "b.example/2", "same public key"]);
    data.configure(&[&Witness::new(1)], "");
    let vkey = Witness::new(1).vkey().to_string();
    assert_refuses(&data, &["--witness", &vkey], &["same public key"]);
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let data = DataDirectory::init();
    let path = data.path().to_str().unwrap().to_owned();
    let wrong: &[&[&str]] = &[
        &[],
        &["serve"],
        &["run", "--data", &path, "--unknown"],
        &["run"],
        &["run", "--data", &path, "--listen", "nowhere"],
        &["run", "--data", &path, "--batch-interval-ms", "x"],
        &["init", &path],
        &["init", "--origin", ORIGIN],
    ];
    for arguments in wrong {
        let refused = output(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(text(&refused.stderr).contains("--help") || arguments.is_empty(), "{arguments:?}: {refused:?}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["init", "--help"], &["--version"]] {
        assert_eq!(output(arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = DataDirectory::init();
    // A flag may come once, so the address comes from the configuration here.
    data.write_config(&format!("listen = {address:?}"));
    let refused = command().args(["run", "--data"]).arg(data.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains(&format!("cannot listen on {address}")), "{refused:?}");
}

#[tokio::test]
async fn changed_witnesses_are_written_as_a_new_roster() {
    let (one, two, three) = (Witness::new(1), Witness::new(2), Witness::new(3));
    let server = Server::start(&[&one, &two], "");
    let old = one.observe(APP, "a", now() - 100);
    let index = server.submit(&old).await.added();
    server.submit(&two.observe(APP, "a", now() - 100)).await.added();
    let before = server.checkpoint().await;
    let data = server.stop();
    data.configure(&[&two, &three], "");
    let server = data.start();
    let about = server.get("/api/v1/log").await.json();
    assert_eq!(about["roster"]["index"].as_u64(), Some(before.unverified().size), "first in its batch");
    // For a removed witness duplicates are still answered, and nothing new is accepted.
    assert_eq!(server.submit(&old).await, SubmissionResult::Duplicate(index));
    assert_eq!(server.submit(&one.sign_again(&old)).await, SubmissionResult::Duplicate(index));
    let refused = server.post_note(&one.observe(APP, "b", now())).await;
    assert_eq!(refused.problem(), (403, "unknown-witness".to_owned()));
    server.add(&[two.observe(APP, "b", now()), three.observe(APP, "b", now())]).await;
    let log = replay(&server).await;
    assert_prefix(&before, &log);
    // Its observations stay in every answer, marked as those of a removed witness.
    let lookup = server.lookup(&[APP], "").await;
    let in_roster: Vec<bool> = lookup.images[0].witnesses.iter().map(|witness| witness.in_roster).collect();
    assert_eq!(in_roster, [false, true, true]);
    // And it may be admitted again.
    let data = server.stop();
    data.configure(&[&one], "[limits]\nfuture = 60");
    let server = data.start();
    server.submit(&one.observe(APP, "c", now())).await.added();
    assert_eq!(server.get("/api/v1/log").await.json()["roster"]["limits"]["future"], 60);
    assert_prefix(&before, &replay(&server).await);
}

#[tokio::test]
async fn unchanged_witnesses_write_no_roster() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let data = server.stop();
    // The order in the file does not matter.
    data.configure(&[&two, &one], "");
    let log = replay(&data.start()).await;
    let rosters = log.entries().iter().filter(|entry| entry.starts_with(b"taglog/roster@v1\n"));
    assert_eq!(rosters.count(), 1);
}

#[tokio::test]
async fn a_witness_on_the_command_line_is_admitted() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let data = DataDirectory::with(&[&one], "");
    let server = data.start_with(&["--witness", &two.vkey().to_string()]);
    server.add(&[one.observe(APP, "a", now()), two.observe(APP, "a", now())]).await;
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let content = "manifest";
    let t = now() - 1000;
    let notes: Vec<_> = (0..300).map(|i| witness.observe(&format!("r.example/a:{i}"), content, t)).collect();
    let indices = server.add(&notes).await;
    let manifest = format!("/api/v1/manifests/{}", taglog_tests::witness::digest(content));
    assert_eq!(server.put(&manifest, content).await.status, 201);
    server.submit(&witness.confirm("r.example/a", t)).await.added();
    let before = server.checkpoint().await;
    let (listing, retags) =
        (server.get("/api/v1/tags?repository=r.example/a").await.json()["tags"].clone(), "/api/v1/retags");
    let server = server.stop().start();
    assert_prefix(&before, &replay(&server).await);
    assert_eq!(server.get("/api/v1/tags?repository=r.example/a").await.json()["tags"], listing);
    assert_eq!(server.get(retags).await.json()["retags"], serde_json::json!([]));
    assert_eq!(server.get(&manifest).await.text(), content);
    let again = server.submit_bundle(&notes).await;
    assert_eq!(again, indices.into_iter().map(SubmissionResult::Duplicate).collect::<Vec<_>>());
    // Lists of sightings continue where they ended.
    server.submit(&witness.observe("r.example/a:1", "new", t + 1)).await.added();
    let report = &server.lookup(&["r.example/a:1"], "").await.images[0].witnesses[0];
    assert_eq!((report.line.observations, report.line.sightings, report.complete), (2, 2, true));
    replay(&server).await;
}

#[tokio::test]
async fn a_restart_writes_a_seal() {
    let server = Server::start(&[], "");
    let before = server.size().await;
    let server = server.stop().start();
    let deadline = std::time::Instant::now() + taglog_tests::process::TIMEOUT;
    while server.size().await == before {
        assert!(std::time::Instant::now() < deadline, "no seal after a restart");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(replay(&server).await.entries().len() as u64, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_under_load_loses_nothing_that_was_acknowledged() {
    let witness = Witness::new(1);
    let mut data = DataDirectory::with(&[&witness], "[quota]\nentries-per-second = 1000000");
    let (acknowledged, number) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    for _ in 0..3 {
        let server = data.start();
        let stopping = AtomicBool::new(false);
        let client = || async {
            while !stopping.load(Relaxed) {
                let note = || {
                    let name = format!("r.example/a:{}", number.fetch_add(1, Relaxed));
                    witness.observe(&name, "x", now())
                };
                let notes: Vec<_> = (0..20).map(|_| note()).collect();
                let Some(outcomes) = try_submit(&server, &notes).await else { continue };
                acknowledged.lock().unwrap().extend(notes.into_iter().zip(outcomes));
            }
        };
        let stop = async {
            let before = acknowledged.lock().unwrap().len();
            let deadline = std::time::Instant::now() + taglog_tests::process::TIMEOUT;
            while acknowledged.lock().unwrap().len() < before + 200 {
                assert!(std::time::Instant::now() < deadline, "nothing is acknowledged");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.terminate();
            // Clients go on until the server stops answering.
            while server.get_status("/healthz").await.is_some() {}
            stopping.store(true, Relaxed);
        };
        tokio::join!(client(), client(), client(), client(), stop);
        data = server.stop();
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    let server = data.start();
    let log = replay(&server).await;
    for (note, index) in acknowledged {
        assert!(log.entries()[index as usize] == note, "entry {index} was acknowledged and is lost");
    }
}

/// The indices, or nothing when the server goes away or says that it will.
async fn try_submit(server: &Server, notes: &[Vec<u8>]) -> Option<Vec<u64>> {
    server.try_submit_bundle(notes).await?.iter().map(|outcome| Some(outcome.added())).collect()
}

/// A log with some entries, stopped, with all of it in files rather than in RocksDB's log.
async fn stopped_log() -> DataDirectory {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let notes: Vec<_> = (0..50).map(|i| witness.observe(&format!("r.example/a:{i}"), "x", now())).collect();
    server.add(&notes).await;
    let manifest = format!("/api/v1/manifests/{}", taglog_tests::witness::digest("x"));
    assert_eq!(server.put(&manifest, "x").await.status, 201);
    // Opening the store moves what is in its log into files.
    server.stop().start().stop()
}

#[tokio::test]
async fn another_key_is_refused() {
    let data = stopped_log().await;
    for origin in [ORIGIN, "log.example/other"] {
        let other = SigningKey::from_seed(origin, &[99; 32]).unwrap().to_secret_string();
        std::fs::write(data.path().join("key"), format!("{other}\n")).unwrap();
        assert_refuses(&data, &[], &["the stored checkpoint is not signed by this log's key"]);
    }
    for bad in ["", "PRIVATE+KEY+x", "PRIVATE+KEY+log.example/test+00000000+AAAA"] {
        std::fs::write(data.path().join("key"), bad).unwrap();
        assert_refuses(&data, &[], &["key"]);
    }
}

/// The files of a store that hold data. A compaction that a stop interrupts leaves empty ones.
fn tables(database: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path());
    let holds_data = |path: &PathBuf| std::fs::metadata(path).unwrap().len() > 100;
    files.filter(|path| path.extension().is_some_and(|e| e == "sst") && holds_data(path)).collect()
}

/// Puts the whole store back in place.
fn restore(whole: &Path, database: &Path) {
    std::fs::remove_dir_all(database).unwrap();
    copy_directory(whole, database);
}

#[tokio::test]
async fn a_missing_file_of_the_store_is_refused() {
    let data = stopped_log().await;
    let (database, whole) = (data.path().join("db"), data.path().join("whole"));
    copy_directory(&database, &whole);
    let size = data.start().size().await;
    let mut refusals = 0;
    for missing in tables(&whole) {
        restore(&whole, &database);
        std::fs::remove_file(database.join(missing.file_name().unwrap())).unwrap();
        match data.try_start(&[]) {
            Err(refusal) => {
                assert!(refusal.code == Some(1) && refusal.message.contains("taglog-server: "), "{refusal:?}");
                refusals += 1;
            }
            // RocksDB had replaced this file and not yet removed it; then the store may be intact.
            Ok(server) => assert!(replay(&server).await.entries().len() as u64 >= size, "{missing:?}"),
        }
    }
    assert!(refusals > 0, "no file was missed");
    restore(&whole, &database);
    // A store that were made anew in its place would start a second history.
    std::fs::remove_file(database.join("CURRENT")).unwrap();
    assert_refuses(&data, &[], &["taglog-server: "]);
    restore(&whole, &database);
    replay(&data.start()).await;
}

#[tokio::test]
async fn flipped_bits_in_a_file_of_the_store_are_not_served() {
    let data = stopped_log().await;
    let (database, whole) = (data.path().join("db"), data.path().join("whole"));
    copy_directory(&database, &whole);
    let size = data.start().size().await;
    for table in tables(&whole) {
        restore(&whole, &database);
        let mut bytes = std::fs::read(&table).unwrap();
        // The first block holds data; its checksum covers it.
        bytes[10] ^= 1;
        std::fs::write(database.join(table.file_name().unwrap()), bytes).unwrap();
        match data.try_start(&[]) {
            Err(refusal) => assert!(refusal.code == Some(1) && !refusal.message.contains("panicked"), "{refusal:?}"),
            // What a start does not read is refused when it is read.
            Ok(server) => assert_serves_truth_or_nothing(&server, size).await,
        }
    }
}

/// Every tile and entry bundle is answered as before, with an error, or not at all: a server whose store fails ends.
async fn assert_serves_truth_or_nothing(server: &Server, size: u64) {
    let bundle = served(server, &format!("/tile/entries/000.p/{}", size - 1)).await;
    let hashes = served(server, &format!("/tile/0/000.p/{}", size - 1)).await;
    if let (Some(bundle), Some(hashes)) = (bundle, hashes) {
        let entries = taglog_proto::tile::decode_bundle(&bundle, 256).unwrap();
        let leaves: Vec<u8> = entries.iter().flat_map(|entry| taglog_proto::merkle::leaf_hash(entry).0).collect();
        assert!(leaves == hashes && entries.len() as u64 == size - 1);
    }
    if let Some(proof) = served(server, "/api/v1/lookup?image=r.example/a:1").await {
        taglog_proto::tag_proof::TagProof::from_json(&proof).unwrap().verify(&server.vkey).unwrap();
    }
}

/// The body of a good answer, if there is one.
async fn served(server: &Server, path: &str) -> Option<Vec<u8>> {
    let answer = reqwest::get(format!("{}{path}", server.url)).await.ok()?;
    if answer.status() == 200 { Some(answer.bytes().await.ok()?.to_vec()) } else { None }
}
