//! `taglog mirror` of a log that grows, lies, or is unreachable, with SIGKILL at random moments.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use taglog_proto::{
    evidence::Evidence,
    tile::{FULL_WIDTH, TileKind, TilePath},
};
use taglog_tests::cli_fixture::{
    User, add,
    proxy::{Proxy, RelayAnswer},
    wait, with_same_key,
};
use taglog_tests::{
    HttpResponse, Process, Server, Witness,
    process::{IDLE, TIMEOUT, wait_for},
    witness::now,
};

/// Adds so many new tags, as few bundles as may be.
fn grow(server: &Server, witness: &Witness, from: usize, count: usize) {
    let notes: Vec<_> =
        (from..from + count).map(|i| witness.observe(&format!("r.example/a:{i:06}"), "x", now() - 100)).collect();
    notes.chunks(300).for_each(|notes| add(server, notes));
}

/// A running mirror that serves.
struct MirrorProcess {
    process: Process,
    url: String,
    client: reqwest::Client,
}

impl MirrorProcess {
    fn start(user: &User, arguments: &[&str]) -> MirrorProcess {
        let fixed = ["mirror", "--directory", "copy", "--serve", "127.0.0.1:0"];
        let mut process = Process::spawn(&mut user.command(&[&fixed, arguments].concat()));
        let line = process.line(TIMEOUT).unwrap_or_else(|| panic!("{}", process.stderr()));
        assert!(process.is_running(), "{}", process.stderr());
        let (_, url) = line.rsplit_once(" at ").unwrap();
        let client =
            reqwest::Client::builder().no_proxy().no_gzip().timeout(TIMEOUT).pool_idle_timeout(IDLE).build().unwrap();
        MirrorProcess { url: url.to_owned(), process, client }
    }

    fn get(&self, path: &str) -> HttpResponse {
        wait(HttpResponse::of(
            self.client.get(format!("{}{path}", self.url)).header("origin", "https://viewer.example"),
        ))
    }

    /// Waits until the copy has caught up with the log.
    fn wait_for(&self, server: &Server) -> u64 {
        let size = wait(server.size());
        wait_for("the mirror to catch up", TIMEOUT, || {
            let checkpoint = self.get("/checkpoint");
            let line = checkpoint.text().lines().nth(1).map(str::to_owned);
            (checkpoint.status == 200 && line? == size.to_string()).then_some(size)
        })
    }
}

/// Every tile of every width of a log of `size` entries, and the next one of each.
fn all_tiles(size: u64) -> Vec<TilePath> {
    let levels = (0..=size.ilog2() / 8).map(|level| (TileKind::Hashes(level as u8), size >> (8 * level)));
    let kinds = levels.chain([(TileKind::Entries, size)]);
    let ends = kinds.flat_map(|(kind, count)| (1..=count + 1).map(move |end| (kind, end)));
    let path = |(kind, end): (TileKind, u64)| {
        let index = (end - 1) / FULL_WIDTH;
        TilePath { kind, index, width: (end - index * FULL_WIDTH) as u16 }
    };
    ends.map(path).collect()
}

/// The log's files in a copy, by name.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() != ".taglog-mirror" => waiting.push(path),
                true => {}
                false => {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path.strip_prefix(directory).unwrap().to_owned(), bytes);
                }
            }
        }
    }
    found
}

/// Every file of the copy has the bytes that the log serves; the checkpoint may be an older one.
fn assert_true(server: &Server, copy: &Path) {
    for (name, bytes) in files(copy).into_iter().filter(|(name, _)| !name.ends_with("checkpoint")) {
        let served = wait(server.get(&format!("/{}", name.display())));
        assert!(served.status == 200 && served.body == bytes, "{}", name.display());
    }
}

#[test]
fn every_tile_of_a_growing_log_is_served_as_by_the_log() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let user = User::trusting(&server);
    let mirror = MirrorProcess::start(&user, &["--interval", "1s"]);
    let mut next = 0;
    for count in [1, 200, 56, 300] {
        grow(&server, &witness, next, count);
        next += count;
        let size = mirror.wait_for(&server);
        for path in all_tiles(size) {
            let path = format!("/tile/{path}");
            let (copied, original) = (mirror.get(&path), wait(server.get(&path)));
            // The log may have sealed since; the copy must not know more than its checkpoint.
            let beyond = copied.status == 404 && original.status == 200 && size < wait(server.size());
            let same = copied.status == original.status && (copied.status == 404 || copied.body == original.body);
            assert!(same || beyond, "{path}: {copied:?} {original:?}");
        }
        user.run(&["mirror", "--directory", "copy", "--check"]).exits(0).prints(&["are as signed"]);
    }
    assert_eq!(mirror.get("/checkpoint").text(), wait(server.get("/checkpoint")).text());
    for (path, cache, kind) in [
        ("/checkpoint", "no-cache", "text/plain; charset=utf-8"),
        ("/tile/0/000", "public, max-age=31536000, immutable", "application/octet-stream"),
        ("/tile/entries/000.p/7", "public, max-age=31536000, immutable", "application/octet-stream"),
    ] {
        let answer = mirror.get(path);
        assert_eq!((answer.header("cache-control"), answer.header("content-type")), (cache, kind), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
    }
    let packed = mirror.client.get(format!("{}/tile/entries/000", mirror.url)).header("accept-encoding", "gzip");
    assert_eq!(wait(HttpResponse::of(packed)).header("content-encoding"), "gzip");
    for bad in ["/tile/0/0", "/tile/8/000", "/tile/entries/..%2f..%2fkey", "/.taglog-mirror/lock"] {
        assert_eq!(mirror.get(bad).status, 404, "{bad}");
    }
    // A second process is kept out; a mirror of the mirror is as good; the copy outlives the log.
    user.run(&["mirror", "--directory", "copy"]).exits(2).prints(&["in use"]);
    user.run(&["mirror", &mirror.url, "--directory", "second"]).exits(0).prints(&["mirrored"]);
    user.run(&["mirror", "copy", "--directory", "third"]).exits(0);
    assert_eq!(files(&user.path("second")), files(&user.path("third")));
    server.stop();
    assert_eq!(mirror.get("/tile/entries/000").status, 200);
    mirror.process.terminate();
    let mut process = mirror.process;
    let code = process.wait(TIMEOUT).code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {}", process.stderr());
    user.run(&["mirror", "--directory", "copy"]).exits(3).prints(&["cannot read"]);
}

#[test]
fn a_mirror_killed_at_random_moments_resumes() {
    const BUNDLES: usize = 16;
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    grow(&server, &witness, 0, BUNDLES * FULL_WIDTH as usize);
    let asked = Arc::new(AtomicUsize::new(0));
    let user = User::trusting(&server);
    let copy = user.path("copy");
    let (mut kills, mut may_ask) = (0, 0);
    // Killed when it has one bundle more than at the last kill, until a pass comes through.
    for wanted in 1_usize.. {
        let there = std::fs::read_dir(copy.join("tile/entries")).map_or(0, Iterator::count);
        // Some more than what is waited for: the kill must find writes on their way.
        let allowed = AtomicUsize::new((2 * wanted + 3).saturating_sub(there));
        let counter = Arc::clone(&asked);
        // What is not allowed yet is held back, so that each pass is killed in the middle. Each pass has a relay of its
        // own, because requests of a killed process may still arrive at the old one.
        let relay = Proxy::instead(&server, move |path| {
            let whole_bundle = path.starts_with("/tile/entries/") && !path.contains(".p/");
            counter.fetch_add(usize::from(whole_bundle), SeqCst);
            let held = whole_bundle && allowed.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err();
            held.then_some(RelayAnswer::Silence)
        });
        may_ask += BUNDLES.saturating_sub(there) + 1;
        let mut process = Process::spawn(&mut user.command(&["mirror", &relay.url, "--directory", "copy"]));
        let done = wait_for("the pass to get on", TIMEOUT, || {
            let bundles = std::fs::read_dir(copy.join("tile/entries")).map_or(0, Iterator::count);
            let ended = !process.is_running();
            (ended || bundles >= 2 * wanted).then_some(ended)
        });
        if done {
            assert!(process.wait(TIMEOUT).success(), "{}", process.stderr());
            break;
        }
        process.kill();
        kills += 1;
        assert!(!copy.join("checkpoint").exists() || wanted > 2, "a checkpoint before its tiles");
        assert_true(&server, &copy);
    }
    assert!(kills >= 3, "only {kills} kills hit");
    // What was there was used again.
    let asked = asked.load(SeqCst);
    assert!(asked <= may_ask, "{asked} bundles asked for, of {may_ask} that were not there");
    user.run(&["mirror", "--directory", "copy", "--check"]).exits(0);
    assert_true(&server, &copy);
    let leftovers = std::fs::read_dir(copy.join(".taglog-mirror/writing")).unwrap().count();
    assert_eq!(leftovers, 0);
}

#[test]
fn modified_responses_do_not_reach_the_copy() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    grow(&server, &witness, 0, 300);
    let user = User::trusting(&server);
    user.run(&["mirror", "--directory", "copy"]).exits(0);
    let old = user.read("copy/checkpoint");
    grow(&server, &witness, 300, 500);
    let lie: Arc<Mutex<(&str, usize)>> = Arc::default();
    let told = Arc::clone(&lie);
    let relay = Proxy::answering(&server, move |path, mut body| {
        let (part, at) = *told.lock().unwrap();
        if path.contains(part) {
            let at = at.min(body.len() - 1);
            body[at] ^= 1;
        }
        body
    });
    let lies = [
        ("/tile/entries/001", 500),
        ("/tile/entries/003", 100_000_000),
        ("/tile/entries/003", 1),
        ("/tile/1/000", 40),
        ("/checkpoint", 0),
        ("/checkpoint", 20),
        ("/checkpoint", 40),
        ("/checkpoint", 150),
    ];
    for (part, at) in lies {
        *lie.lock().unwrap() = (part, at);
        user.run(&["mirror", &relay.url, "--directory", "copy"]).exits(3);
        assert_eq!(user.read("copy/checkpoint"), old, "{part} {at}");
        assert_true(&server, &user.path("copy"));
    }
    *lie.lock().unwrap() = ("/no such path", 0);
    user.run_json(&["mirror", &relay.url, "--directory", "copy"]).exits(0).prints(&["\"added\":"]);
    user.run(&["mirror", "--directory", "copy", "--check"]).exits(0);
}

#[test]
fn damage_is_detected_and_repaired() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    grow(&server, &witness, 0, 600);
    let user = User::trusting(&server);
    user.run(&["mirror", "--directory", "copy", "--check"]).exits(2).prints(&["no copy here yet"]);
    user.run(&["mirror", "--directory", "copy"]).exits(0);
    for name in ["tile/entries/001", "tile/0/000"] {
        let path = format!("copy/{name}");
        let mut bytes = std::fs::read(user.path(&path)).unwrap();
        bytes[300] ^= 1;
        user.write(&path, &bytes);
        user.run(&["mirror", "--directory", "copy", "--check"]).exits(1).prints(&[name, "remove what is damaged"]);
        std::fs::remove_file(user.path(&path)).unwrap();
        user.run(&["mirror", "--directory", "copy"]).exits(0);
        user.run(&["mirror", "--directory", "copy", "--check"]).exits(0);
    }
    // Another log's copy is not taken for this one's.
    let other = Server::start(&[&witness], "");
    user.trust(&other.vkey, &other.url);
    user.run(&["mirror", "--directory", "copy"]).exits(2).prints(&["empty directory"]);
}

#[test]
fn a_log_that_forks_or_shrinks_raises_an_alarm_and_the_copy_stays() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    grow(&server, &witness, 0, 300);
    let user = User::trusting(&server);
    user.run(&["mirror", "--directory", "copy"]).exits(0);
    let before = files(&user.path("copy"));
    // A twin with the same key and another history: larger, then smaller than the copy.
    for count in [400, 100] {
        let twin = with_same_key(&server, &[&witness]).start();
        grow(&twin, &witness, 500, count);
        user.run(&["mirror", &twin.url, "--directory", "copy"]).exits(4).prints(&["THE LOG MISBEHAVES", "no prefix"]);
        assert_eq!(files(&user.path("copy")), before, "{count}");
    }
    let evidence: Vec<PathBuf> = std::fs::read_dir(user.path("copy/.taglog-mirror/evidence"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(evidence.len(), 2);
    for path in &evidence {
        assert!(Evidence::from_json(&std::fs::read(path).unwrap()).unwrap().proves_misbehaviour(&server.vkey).is_ok());
        user.run(&["evidence", "verify", path.to_str().unwrap()]).exits(0).prints(&["PROVES MISBEHAVIOUR"]);
    }
    // An old checkpoint of the same log: an alarm, and what is served stays up.
    let old = user.read("copy/checkpoint");
    grow(&server, &witness, 300, 10);
    user.run(&["mirror", "--directory", "copy"]).exits(0);
    let relay = Proxy::answering(
        &server,
        move |path, body| {
            if path == "/checkpoint" { old.clone().into_bytes() } else { body }
        },
    );
    user.run(&["mirror", &relay.url, "--directory", "copy"]).exits(4).prints(&["it has shrunk"]);
    let mut mirror = MirrorProcess::start(&user, &[&relay.url, "--interval", "1s"]);
    wait_for("the alarm", TIMEOUT, || mirror.process.stderr().contains("THE LOG MISBEHAVES").then_some(()));
    assert_eq!(mirror.get("/checkpoint").text(), user.read("copy/checkpoint"));
    assert_eq!(mirror.get("/tile/0/000").status, 200);
    mirror.process.terminate();
    assert_eq!(mirror.process.wait(TIMEOUT).code(), Some(4));
}
