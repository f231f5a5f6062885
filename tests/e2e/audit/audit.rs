//! `taglog audit` and `taglog search` with a real log: reports, resumed audits, kept evidence.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use taglog_proto::{
    evidence::Evidence,
    tile::{TileKind, TilePath},
};
use taglog_tests::cli_fixture::{APP, User, add, wait, with_same_key};
use taglog_tests::{
    Server, Witness,
    replay::tile_paths,
    witness::{digest, now},
};

const OTHER: &str = "registry.example/team/other:2";
const QUIET: &str = "registry.example/quiet/one:1";

/// A log with two witnesses: a retag, a tag that went and came back, a confirmation; and who trusts it.
struct AuditFixture {
    witnesses: [Witness; 2],
    server: Server,
    user: User,
    begin: i64,
}

impl AuditFixture {
    fn new() -> AuditFixture {
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
        AuditFixture { witnesses, server, user, begin }
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

/// The report of an audit without the fields that differ from run to run.
fn lasting(report: &Value) -> Value {
    let mut report = report.clone();
    for field in ["location", "policy", "ageSeconds", "auditedNow", "seconds", "entriesPerSecond"] {
        report[field] = Value::Null;
    }
    report
}

#[test]
fn a_report_of_a_whole_log() {
    let fixture = AuditFixture::new();
    let report = fixture.audit(&[]);
    let size = wait(fixture.server.size());
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
    let shown = fixture.user.run(&["audit"]).exits(0);
    shown.prints(&[
        "all of it is right",
        "retagged   1",
        APP,
        "7 observations",
        "3 tags in 3 repositories, by 2 witnesses",
    ]);
}

#[test]
fn only_new_entries_are_audited_unless_all_are_requested() {
    let fixture = AuditFixture::new();
    let first = fixture.audit(&[]);
    assert_eq!(first["auditedNow"], first["size"]);
    assert_eq!(
        fixture.audit(&[])["auditedNow"].as_u64().unwrap(),
        wait(fixture.server.size()) - first["size"].as_u64().unwrap()
    );
    add(&fixture.server, &[fixture.witnesses[1].observe(OTHER, "new", fixture.begin + 9)]);
    let more = fixture.audit(&[]);
    let new = more["auditedNow"].as_u64().unwrap();
    assert!(new >= 2 && new < first["size"].as_u64().unwrap(), "{more}");
    let all = fixture.audit(&["--full"]);
    assert_eq!(all["auditedNow"], all["size"]);
    // The new state stands where the old one did.
    assert!(
        fixture.audit(&[])["auditedNow"].as_u64().unwrap()
            <= wait(fixture.server.size()) - all["size"].as_u64().unwrap()
    );
    assert_eq!(all["retagged"].as_array().unwrap().len(), 2);
}

#[test]
fn a_local_copy_is_audited_without_a_log_url() {
    let fixture = AuditFixture::new();
    let copy = tempfile::tempdir().unwrap();
    fixture.download(copy.path());
    let directory = copy.path().to_str().unwrap();
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", fixture.server.vkey));
    user.run(&["audit"]).exits(2);
    user.run(&["audit", "/nowhere"]).exits(2);
    let of_files = user.run_json(&["audit", directory]).exits(0).json();
    assert_eq!(of_files["complete"], true);
    // The same log, further on by now, against what the copy had.
    add(&fixture.server, &[fixture.witnesses[0].observe(OTHER, "new", fixture.begin + 9)]);
    let live = user.run_json(&["audit", &fixture.server.url]).exits(0).json();
    assert!(live["auditedNow"].as_u64() < live["size"].as_u64(), "{live}");
    // An outdated copy is no log that shrank.
    user.run(&["audit", directory]).exits(0).prints(&["behind"]);
}

#[test]
fn files_missing_in_a_copy_are_unavailable() {
    let fixture = AuditFixture::new();
    let copy = tempfile::tempdir().unwrap();
    fixture.download(copy.path());
    std::fs::remove_dir_all(copy.path().join("tile/entries")).unwrap();
    let ran = fixture.user.run(&["audit", copy.path().to_str().unwrap()]).exits(3);
    ran.prints(&["unavailable, not evidence"]);
    assert!(fixture.user.evidence().is_empty());
    std::fs::remove_file(copy.path().join("checkpoint")).unwrap();
    fixture.user.run(&["audit", copy.path().to_str().unwrap()]).exits(3).prints(&["unavailable, not evidence"]);
}

#[test]
fn a_checkpoint_by_another_key() {
    let (fixture, other) = (AuditFixture::new(), AuditFixture::new());
    fixture.user.run(&["audit", &other.server.url]).exits(4).prints(&["checkpoint"]);
}

#[test]
fn search_lists_the_tags_that_had_a_digest() {
    let fixture = AuditFixture::new();
    let (one, two) = (digest("one").to_string(), digest("two").to_string());
    fixture.user.run(&["search", &one]).exits(2).prints(&["taglog audit"]);
    fixture.audit(&[]);
    let ran = fixture.user.run(&["search", &one]).exits(0);
    let count = |word: &str| ran.stdout.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count(APP), count(QUIET), count("no longer"), count("still current")), (2, 1, 1, 2), "{ran:?}");
    let found = fixture.user.run_json(&["search", &two]).exits(0).json();
    let [found] = &found["found"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&found["image"], &found["current"]), (&APP.into(), &true.into()));
    assert_eq!(found["witness"], fixture.witnesses[0].id().to_string());
    fixture.user.run(&["search", &digest("never").to_string()]).exits(1).prints(&["no tag ever had it"]);
    fixture.user.run(&["search", "sha256:00"]).exits(2);
}

/// Two servers with one key: auditing one after the other gives evidence.
#[test]
fn a_fork_leaves_evidence() {
    let fixture = AuditFixture::new();
    fixture.audit(&[]);
    let twin = with_same_key(&fixture.server, &[&fixture.witnesses[0], &fixture.witnesses[1]]).start();
    let notes: Vec<Vec<u8>> = (0..40).map(|i| fixture.witnesses[0].observe(APP, "evil", fixture.begin + i)).collect();
    for note in notes {
        add(&twin, &[note]);
    }
    let report = fixture.user.run_json(&["audit", &twin.url]).exits(4).json();
    let [finding] = &report["findings"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(matches!(finding["kind"].as_str(), Some("inconsistency" | "fork")), "{finding}");
    let file = std::fs::read(finding["evidence"].as_str().unwrap()).unwrap();
    Evidence::from_json(&file).unwrap().proves_misbehaviour(&fixture.server.vkey).unwrap();
    fixture.user.run(&["audit", &twin.url]).exits(4).prints(&["THE LOG MISBEHAVES", "evidence"]);
    // Nor is it forgotten when the honest one is served again.
    fixture.user.run(&["audit"]).exits(4).prints(&["THE LOG MISBEHAVES"]);
}

/// What `taglog verify` has seen binds `taglog audit`.
#[test]
fn a_log_that_contradicts_what_was_verified() {
    let fixture = AuditFixture::new();
    fixture.user.run(&["history", APP]).exits(0);
    let twin = with_same_key(&fixture.server, &[&fixture.witnesses[0], &fixture.witnesses[1]]).start();
    for i in 0..20 {
        add(&twin, &[fixture.witnesses[0].observe(APP, "evil", fixture.begin + i)]);
    }
    let report = fixture.user.run_json(&["audit", &twin.url]).exits(4).json();
    assert_eq!(report["findings"][0]["kind"], "inconsistency", "{report}");
    assert!(report["findings"][0]["evidence"].is_string(), "{report}");
}

/// An audit that is killed again and again ends with the same result as an undisturbed one.
#[test]
fn a_killed_audit_resumes() {
    let fixture = AuditFixture::new();
    let note = |i: usize| {
        let tag = i % 300;
        let name = format!("registry.example/r{}:t{tag}", tag % 7);
        fixture.witnesses[i % 2].observe(&name, &(i / 600).to_string(), fixture.begin + i as i64 / 3)
    };
    let notes: Vec<Vec<u8>> = (0..1500).map(note).collect();
    for notes in notes.chunks(100) {
        add(&fixture.server, notes);
    }
    let copy = tempfile::tempdir().unwrap();
    fixture.download(copy.path());
    let directory = copy.path().to_str().unwrap();
    let undisturbed = User::trusting(&fixture.server);
    let begin = Instant::now();
    let want = undisturbed.run_json(&["audit", directory]).exits(0).json();
    let whole = begin.elapsed();
    for part in 1..10_u32 {
        let mut command = fixture.user.command(&["audit", directory]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + whole * part / 10;
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let got = fixture.audit(&[directory]);
    assert_eq!(lasting(&got), lasting(&want));
    for digest in ["0", "1", "2"].map(|content| digest(content).to_string()) {
        let search = |user: &User| user.run(&["search", "--output", "json", &digest]).exits(0).json();
        assert_eq!(search(&fixture.user), search(&undisturbed));
    }
    // And the state is good for what comes next.
    add(&fixture.server, &[fixture.witnesses[0].observe(APP, "three", fixture.begin + 900)]);
    assert_eq!(fixture.audit(&[])["complete"], true);
}
