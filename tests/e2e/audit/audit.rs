//! `taglog audit` and `taglog search` with a real log: what is found, what goes on where, what is kept.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use cli_common::{APP, User, add, same_key, wait};
use serde_json::Value;
use taglog_proto::{
    evidence::Evidence,
    tile::{TileKind, TilePath},
};
use taglog_tests::{
    Server, Witness,
    replay::tile_paths,
    witness::{digest, now},
};

const OTHER: &str = "registry.example/team/other:2";
const QUIET: &str = "registry.example/quiet/one:1";

/// A log with two witnesses: a retag, a tag that went and came back, a confirmation; and who trusts it.
struct Scene {
    witnesses: [Witness; 2],
    server: Server,
    user: User,
    begin: i64,
}

impl Scene {
    fn new() -> Scene {
        let (witnesses, begin) = ([Witness::new(1), Witness::new(2)], now() - 1000);
        let server = Server::start(&[&witnesses[0], &witnesses[1]], "");
        let [a, b] = &witnesses;
        let notes = [
            a.observe(APP, "one", begin),
            b.observe(APP, "one", begin),
            a.observe(OTHER, "same", begin),
            a.gone(OTHER, begin + 1),
            a.observe(OTHER, "same", begin + 2),
            b.observe(QUIET, "one", begin),
            b.confirm("registry.example/quiet/one", begin + 3),
            a.observe(APP, "two", begin + 5),
        ];
        add(&server, &notes);
        let user = User::trusting(&server);
        Scene { witnesses, server, user, begin }
    }

    fn audit(&self, arguments: &[&str]) -> Value {
        self.user.run_json(&[&["audit"], arguments].concat()).exits(0).json()
    }

    /// Copies the log's public files into a directory.
    fn download(&self, directory: &Path) {
        let checkpoint = wait(self.server.get("/checkpoint")).body;
        let size = wait(self.server.size());
        let mut paths: Vec<TilePath> = tile_paths(TileKind::Entries, size);
        for level in 0..3_u8 {
            paths.extend(tile_paths(TileKind::Hashes(level), size >> (8 * level)));
        }
        for path in paths {
            let file = directory.join(format!("tile/{path}"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, wait(self.server.get(&format!("/tile/{path}"))).body).unwrap();
        }
        std::fs::write(directory.join("checkpoint"), checkpoint).unwrap();
    }
}

/// What an audit says, without what differs from run to run.
fn lasting(report: &Value) -> Value {
    let mut report = report.clone();
    for field in ["location", "policy", "ageSeconds", "auditedNow", "seconds", "entriesPerSecond"] {
        report[field] = Value::Null;
    }
    report
}

#[test]
fn a_report_of_a_whole_log() {
    let scene = Scene::new();
    let report = scene.audit(&[]);
    let size = wait(scene.server.size());
    assert_eq!((&report["size"], &report["auditedSize"]), (&size.into(), &size.into()));
    assert_eq!((&report["complete"], &report["findings"]), (&true.into(), &Value::Array(vec![])));
    let counts = &report["counts"];
    for (what, count) in [
        ("observations", 7),
        ("confirmations", 1),
        ("rosters", 1),
        ("tags", 3),
        ("repositories", 3),
        ("witnesses", 2),
        ("laxSignatures", 0),
    ] {
        assert_eq!(counts[what], count, "{what} in {report}");
    }
    assert_eq!(counts["seals"].as_u64().unwrap(), size - 9);
    // Gone and back is no retag.
    let [retag] = &report["retagged"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&retag["image"], &retag["retagged"]["digest"]), (&APP.into(), &digest("two").to_string().into()));
    assert_eq!(retag["witnesses"].as_array().unwrap().len(), 2);
    let shown = scene.user.run(&["audit"]).exits(0);
    shown.says(&[
        "all of it is right",
        "retagged   1",
        APP,
        "7 observations",
        "3 tags in 3 repositories, by 2 witnesses",
    ]);
}

#[test]
fn only_new_entries_are_audited_unless_all_are_wanted() {
    let scene = Scene::new();
    let first = scene.audit(&[]);
    assert_eq!(first["auditedNow"], first["size"]);
    assert_eq!(
        scene.audit(&[])["auditedNow"].as_u64().unwrap(),
        wait(scene.server.size()) - first["size"].as_u64().unwrap()
    );
    add(&scene.server, &[scene.witnesses[1].observe(OTHER, "new", scene.begin + 9)]);
    let more = scene.audit(&[]);
    let new = more["auditedNow"].as_u64().unwrap();
    assert!(new >= 2 && new < first["size"].as_u64().unwrap(), "{more}");
    let all = scene.audit(&["--full"]);
    assert_eq!(all["auditedNow"], all["size"]);
    // The new state stands where the old one did.
    assert!(
        scene.audit(&[])["auditedNow"].as_u64().unwrap() <= wait(scene.server.size()) - all["size"].as_u64().unwrap()
    );
    assert_eq!(all["retagged"].as_array().unwrap().len(), 2);
}

#[test]
fn a_directory_of_files_and_somebody_who_trusts_no_address() {
    let scene = Scene::new();
    let copy = tempfile::tempdir().unwrap();
    scene.download(copy.path());
    let directory = copy.path().to_str().unwrap();
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", scene.server.vkey));
    user.run(&["audit"]).exits(2);
    user.run(&["audit", "/nowhere"]).exits(2);
    let of_files = user.run_json(&["audit", directory]).exits(0).json();
    assert_eq!(of_files["complete"], true);
    // The same log, further on by now, against what the copy had.
    add(&scene.server, &[scene.witnesses[0].observe(OTHER, "new", scene.begin + 9)]);
    let live = user.run_json(&["audit", &scene.server.url]).exits(0).json();
    assert!(live["auditedNow"].as_u64() < live["size"].as_u64(), "{live}");
    // A copy that lags is no log that shrank.
    user.run(&["audit", directory]).exits(0).says(&["behind"]);
}

#[test]
fn what_a_copy_lacks_is_unavailable() {
    let scene = Scene::new();
    let copy = tempfile::tempdir().unwrap();
    scene.download(copy.path());
    std::fs::remove_dir_all(copy.path().join("tile/entries")).unwrap();
    let ran = scene.user.run(&["audit", copy.path().to_str().unwrap()]).exits(3);
    ran.says(&["unavailable, not evidence"]);
    assert!(scene.user.evidence().is_empty());
    std::fs::remove_file(copy.path().join("checkpoint")).unwrap();
    scene.user.run(&["audit", copy.path().to_str().unwrap()]).exits(3).says(&["unavailable, not evidence"]);
}

#[test]
fn a_checkpoint_by_another_key() {
    let (scene, other) = (Scene::new(), Scene::new());
    scene.user.run(&["audit", &other.server.url]).exits(4).says(&["checkpoint"]);
}

#[test]
fn searches() {
    let scene = Scene::new();
    let (one, two) = (digest("one").to_string(), digest("two").to_string());
    scene.user.run(&["search", &one]).exits(2).says(&["taglog audit"]);
    scene.audit(&[]);
    let ran = scene.user.run(&["search", &one]).exits(0);
    let count = |word: &str| ran.stdout.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count(APP), count(QUIET), count("no longer"), count("still current")), (2, 1, 1, 2), "{ran:?}");
    let found = scene.user.run_json(&["search", &two]).exits(0).json();
    let [found] = &found["found"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&found["image"], &found["current"]), (&APP.into(), &true.into()));
    assert_eq!(found["witness"], scene.witnesses[0].id().to_string());
    scene.user.run(&["search", &digest("never").to_string()]).exits(1).says(&["no tag ever had it"]);
    scene.user.run(&["search", "sha256:00"]).exits(2);
}

/// Two servers with one key: whoever audits one after the other has proof.
#[test]
fn a_fork_leaves_evidence() {
    let scene = Scene::new();
    scene.audit(&[]);
    let twin = same_key(&scene.server, &[&scene.witnesses[0], &scene.witnesses[1]]).start();
    let notes: Vec<Vec<u8>> = (0..40).map(|i| scene.witnesses[0].observe(APP, "evil", scene.begin + i)).collect();
    for note in notes {
        add(&twin, &[note]);
    }
    let report = scene.user.run_json(&["audit", &twin.url]).exits(4).json();
    let [finding] = &report["findings"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(matches!(finding["kind"].as_str(), Some("inconsistency" | "fork")), "{finding}");
    let file = std::fs::read(finding["evidence"].as_str().unwrap()).unwrap();
    Evidence::from_json(&file).unwrap().convict(&scene.server.vkey).unwrap();
    scene.user.run(&["audit", &twin.url]).exits(4).says(&["THE LOG MISBEHAVES", "evidence"]);
    // Nor is it forgotten when the honest one is served again.
    scene.user.run(&["audit"]).exits(4).says(&["THE LOG MISBEHAVES"]);
}

/// What `taglog verify` has seen binds `taglog audit`.
#[test]
fn a_log_that_contradicts_what_was_verified() {
    let scene = Scene::new();
    scene.user.run(&["history", APP]).exits(0);
    let twin = same_key(&scene.server, &[&scene.witnesses[0], &scene.witnesses[1]]).start();
    for i in 0..20 {
        add(&twin, &[scene.witnesses[0].observe(APP, "evil", scene.begin + i)]);
    }
    let report = scene.user.run_json(&["audit", &twin.url]).exits(4).json();
    assert_eq!(report["findings"][0]["kind"], "inconsistency", "{report}");
    assert!(report["findings"][0]["evidence"].is_string(), "{report}");
}

/// Killed again and again, wherever it is, an audit ends where one that nobody disturbed does.
#[test]
fn killed_audits_go_on() {
    let scene = Scene::new();
    let note = |i: usize| {
        let tag = i % 300;
        let name = format!("registry.example/r{}:t{tag}", tag % 7);
        scene.witnesses[i % 2].observe(&name, &(i / 600).to_string(), scene.begin + i as i64 / 3)
    };
    let notes: Vec<Vec<u8>> = (0..1500).map(note).collect();
    for notes in notes.chunks(100) {
        add(&scene.server, notes);
    }
    let copy = tempfile::tempdir().unwrap();
    scene.download(copy.path());
    let directory = copy.path().to_str().unwrap();
    let undisturbed = User::trusting(&scene.server);
    let begin = Instant::now();
    let want = undisturbed.run_json(&["audit", directory]).exits(0).json();
    let whole = begin.elapsed();
    for part in 1..10_u32 {
        let mut command = scene.user.command(&["audit", directory]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + whole * part / 10;
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let got = scene.audit(&[directory]);
    assert_eq!(lasting(&got), lasting(&want));
    for digest in ["0", "1", "2"].map(|content| digest(content).to_string()) {
        let search = |user: &User| user.run(&["search", "--output", "json", &digest]).exits(0).json();
        assert_eq!(search(&scene.user), search(&undisturbed));
    }
    // And the state is good for what comes next.
    add(&scene.server, &[scene.witnesses[0].observe(APP, "three", scene.begin + 900)]);
    assert_eq!(scene.audit(&[])["complete"], true);
}
