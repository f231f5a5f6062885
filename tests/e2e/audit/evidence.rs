//! `taglog evidence`: what proves misbehaviour, what does not, and how it is found.

use serde_json::Value;
use taglog_memory_log::MemoryLog;
use taglog_proto::{
    entry::{Entry, Limits, Roster, Seal},
    index::{Batch, IndexChanges},
    name::Digest,
    note::SigningKey,
    tag_proof::{self, LookupRequest},
    tile::encode_bundle,
};
use taglog_tests::cli_fixture::{APP, CommandOutput, User, add, wait, with_same_key};
use taglog_tests::{
    Server, Witness,
    server::ORIGIN,
    witness::{image, now, time},
};

fn server_with(witness: &Witness, tags: &[&str]) -> Server {
    let server = Server::start(&[witness], "");
    add_tags(&server, witness, tags);
    server
}

fn add_tags(server: &Server, witness: &Witness, tags: &[&str]) {
    let notes: Vec<_> =
        tags.iter().map(|tag| witness.observe(&format!("r.example/a:{tag}"), "x", now() - 100)).collect();
    add(server, &notes);
}

/// The result of each comparison of a run of `evidence compare`.
fn results(ran: &CommandOutput) -> Vec<String> {
    let answer = ran.json();
    let rows = answer["compared"].as_array().unwrap();
    rows.iter().map(|row| row["result"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn split_views_are_detected_and_prove_misbehaviour() {
    let witness = Witness::new(1);
    let server = server_with(&witness, &["1", "2"]);
    let user = User::trusting(&server);
    user.run(&["evidence", "compare"]).exits(2).prints(&["--with"]);
    user.run(&["mirror", "--directory", "mirror"]).exits(0);
    let mirror = user.argument("mirror");
    // What a cosigner shows, at its monitoring endpoint.
    let hash = Digest::sha256(server.vkey.name().as_bytes()).to_string();
    let cosigner = format!("cosigner/{}", hash.trim_start_matches("sha256:"));
    std::fs::create_dir_all(user.path(&cosigner)).unwrap();
    let checkpoint = user.read("mirror/checkpoint");
    user.write(&format!("{cosigner}/checkpoint"), &checkpoint);
    let cosigner = user.argument("cosigner");
    let with = ["evidence", "compare", "--with", &mirror, "--with", &cosigner];
    let ran = user.run_json(&with).exits(0);
    assert!(results(&ran).iter().all(|result| ["same", "consistent"].contains(&result.as_str())), "{ran:?}");
    add_tags(&server, &witness, &["3"]);
    assert_eq!(results(&user.run_json(&with).exits(0)), ["consistent"; 2]);

    // A twin with the same key shows another history: smaller and larger than what the others were shown.
    for (tags, proven) in [(&["7", "8", "9"][..], true), (&["9"], true)] {
        let twin = with_same_key(&server, &[&witness]).start();
        add_tags(&twin, &witness, tags);
        let victim = User::new();
        victim.trust(&twin.vkey, &twin.url);
        let ran = victim.run_json(&with).exits(4).prints(&["THE LOG MISBEHAVES"]);
        assert_eq!(results(&ran), ["split"; 2], "{ran:?}");
        let kept = victim.evidence();
        assert!(!kept.is_empty());
        for file in kept {
            let file = file.to_str().unwrap();
            let judge = User::new();
            let vkey = server.vkey.to_string();
            let judged = judge.run_json(&["evidence", "verify", file, "--vkey", &vkey]).exits(0).json();
            assert_eq!(judged["convicts"], Value::Bool(proven));
        }
        // A saved checkpoint does as well, with the tree of a mirror or of the log.
        let saved = victim.write("saved", &checkpoint);
        let arguments = ["evidence", "compare", "--with", &mirror, "--checkpoint", &saved];
        assert_eq!(results(&victim.run_json(&arguments).exits(4)), ["split"; 2]);
    }
}

#[test]
fn what_cannot_be_compared_is_no_evidence() {
    let witness = Witness::new(1);
    let server = server_with(&witness, &["1"]);
    let user = User::trusting(&server);
    let other = Server::start(&[&witness], "");
    for with in [&other.url, "http://127.0.0.1:1", &user.argument("")] {
        let ran = user.run_json(&["evidence", "compare", "--with", with]).exits(3);
        assert_eq!(results(&ran), ["unknown"], "{with}");
    }
    assert!(user.evidence().is_empty());
    // A checkpoint ahead of the published one, as a cosigner may have it: its tree is not served yet.
    let data = server.stop();
    let before = taglog_tests::cli_fixture::copy_of(&data);
    let server = data.start();
    add_tags(&server, &witness, &["2"]);
    let ahead = user.write("ahead", wait(server.get("/checkpoint")).body);
    server.stop();
    let behind = before.start();
    user.trust(&behind.vkey, &behind.url);
    let ran = user.run_json(&["evidence", "compare", "--checkpoint", &ahead]).exits(3);
    assert_eq!(results(&ran), ["unknown"]);
    assert!(user.evidence().is_empty());
}

#[test]
fn evidence_files_are_verified_offline() {
    let witness = Witness::new(1);
    let server = server_with(&witness, &["1"]);
    let checkpoint = wait(server.checkpoint()).to_string();
    let fork =
        |a: &str, b: &str| serde_json::json!({ "type": "taglog/evidence/fork@v1", "checkpoints": [a, b] }).to_string();
    let user = User::trusting(&server);
    server.stop();
    let innocent = user.write("innocent.json", fork(&checkpoint, &checkpoint));
    let judged = user.run_json(&["evidence", "verify", &innocent]).exits(1).json();
    assert_eq!((&judged["convicts"], &judged["kind"]), (&false.into(), &"taglog/evidence/fork@v1".into()));
    user.run_with_input(&["evidence", "verify", "-"], fork(&checkpoint, &checkpoint).as_bytes())
        .exits(1)
        .prints(&["does not prove misbehaviour", "same root"]);
    let kept = user.write("kept.json", r#"{"type":"taglog/misbehaviour@v1","error":"x"}"#);
    user.run(&["evidence", "verify", &kept]).exits(1).prints(&["does not prove misbehaviour"]);
    for bad in ["", "{}", "[1]", r#"{"type":"taglog/evidence/fork@v2"}"#, &checkpoint] {
        let file = user.write("bad", bad);
        user.run(&["evidence", "verify", &file]).exits(2).has_empty_stdout().prints(&["not an evidence file"]);
    }
    user.run(&["evidence", "verify", &user.argument("missing")]).exits(2);
    user.run(&["evidence", "verify", &innocent, "--vkey", "nonsense"]).exits(2);
    User::new().run(&["evidence", "verify", &innocent]).exits(2).prints(&["--vkey"]);
}

/// A log in memory whose index has any content that a test wants, as a directory of files.
struct FalseIndexLog {
    key: SigningKey,
    memory: MemoryLog,
    witness: Witness,
}

impl FalseIndexLog {
    /// A log with `logged` as its entries and `told` as what its index is made of, by log index.
    fn new(logged: &[Vec<u8>], told: &[(u64, Vec<u8>)]) -> FalseIndexLog {
        let witness = Witness::new(1);
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let roster = Roster::new(time(now()), limits, vec![witness.vkey().clone()]).unwrap();
        let memory = MemoryLog::default();
        let mut liar = FalseIndexLog { key: SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap(), memory, witness };
        let nothing = Batch::new(&liar.memory, 0).finish().unwrap();
        liar.write(vec![Entry::Roster(roster)], nothing);
        let changes = {
            let mut batch = Batch::new(&liar.memory, 0);
            for (index, note) in told {
                let Ok(Entry::Observation(entry)) = Entry::parse(note) else { panic!() };
                batch.observe(*index, &entry).unwrap();
            }
            batch.finish().unwrap()
        };
        liar.write(logged.iter().map(|note| Entry::parse(note).unwrap()).collect(), changes);
        liar
    }

    fn write(&mut self, mut entries: Vec<Entry>, changes: IndexChanges) {
        let size = self.memory.entries().len() as u64 + entries.len() as u64;
        let (tags, index) = (changes.records.tags, changes.tree.root);
        entries.push(Entry::Seal(Seal { time: time(now()), size, roster: 0, tags, index }));
        let bytes: Vec<String> = entries.iter().map(Entry::to_string).collect();
        self.memory.append(&bytes.iter().map(String::as_bytes).collect::<Vec<_>>());
        self.memory.apply(&changes.records, changes.tree);
    }

    /// Writes the log into the user's home; the user trusts it, and has its answer on [`APP`].
    fn serve(&self, user: &User) {
        let entries = self.memory.entries();
        let hashes: Vec<u8> = entries.iter().flat_map(|entry| taglog_proto::merkle::leaf_hash(entry).0).collect();
        let bundle = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
        let width = entries.len();
        for kind in ["0", "entries"] {
            std::fs::create_dir_all(user.path(&format!("log/tile/{kind}/000.p"))).unwrap();
        }
        user.write(&format!("log/tile/0/000.p/{width}"), hashes);
        user.write(&format!("log/tile/entries/000.p/{width}"), bundle);
        let checkpoint = self.memory.checkpoint(ORIGIN).sign(&self.key);
        user.write("log/checkpoint", checkpoint.to_string());
        user.trust(self.key.verifier_key(), "http://127.0.0.1:1");
        let request = LookupRequest { images: vec![image(APP)], page: 0, from: None };
        let proof = tag_proof::build(&self.memory, &checkpoint, &request).unwrap();
        user.write("app.tagproof", proof.to_json());
    }

    /// Compares the answer with the log; the one piece of evidence, verified, if there is any.
    fn compare(&self) -> Option<String> {
        let user = User::new();
        self.serve(&user);
        let ran = user.run_json(&["evidence", "from-proof", "app.tagproof", "--from", "log"]);
        let kept = user.evidence();
        assert_eq!(
            (ran.code, ran.json()["findings"].as_array().unwrap().len()),
            if kept.is_empty() { (0, 0) } else { (4, 1) }
        );
        let file = kept.first()?.to_str().unwrap().to_owned();
        let ran = user.run_json(&["evidence", "verify", &file]).exits(0);
        assert_eq!(ran.json()["convicts"], true);
        Some(ran.json()["kind"].as_str().unwrap().to_owned())
    }
}

#[test]
fn omissions_and_phantoms_are_found_in_saved_proofs() {
    let witness = Witness::new(1);
    let at = now() - 100;
    let [a, b, later] =
        [("A", 0), ("B", 1), ("A", 2)].map(|(content, after)| witness.observe(APP, content, at + after));
    let logged = [a.clone(), b.clone(), later.clone()];
    let indexed = |notes: &[&Vec<u8>]| -> Vec<(u64, Vec<u8>)> { (2..).zip(notes.iter().copied().cloned()).collect() };
    // Told as logged.
    assert_eq!(FalseIndexLog::new(&logged, &indexed(&[&a, &b, &later])).compare(), None);
    // The first, the middle and the last of them left out, and all of them.
    let omission = Some("taglog/evidence/omission@v1".to_owned());
    assert_eq!(FalseIndexLog::new(&logged, &[(2, a.clone()), (4, later.clone())]).compare(), omission);
    assert_eq!(FalseIndexLog::new(&logged, &[(2, a.clone()), (3, b.clone())]).compare(), omission);
    assert_eq!(FalseIndexLog::new(&logged, &[]).compare(), omission);
    // The index tells of digests that the entries do not have: the latest, and an earlier one.
    let phantom = Some("taglog/evidence/phantom@v1".to_owned());
    let [made_up, made_up_late] = [1, 2].map(|after| witness.observe(APP, "Z", at + after));
    assert_eq!(FalseIndexLog::new(&logged, &indexed(&[&a, &b, &made_up_late])).compare(), phantom);
    assert_eq!(FalseIndexLog::new(&logged, &indexed(&[&a, &made_up, &later])).compare(), phantom);
    assert_eq!(FalseIndexLog::new(&logged, &[]).witness.vkey(), witness.vkey());
}

#[test]
fn an_honest_answer_gives_no_evidence() {
    let witness = Witness::new(1);
    let server = server_with(&witness, &["1", "2"]);
    add(&server, &[witness.observe(APP, "A", now() - 50), witness.observe(APP, "B", now() - 40)]);
    let user = User::trusting(&server);
    user.write("app.tagproof", wait(server.tag_proof(&[APP, "r.example/a:1", "r.example/none:1"], "")).to_json());
    add_tags(&server, &witness, &["3"]);
    user.run(&["evidence", "from-proof", "app.tagproof"]).exits(0).prints(&["tells what the log's entries say"]);
    user.run(&["mirror", "--directory", "copy"]).exits(0);
    user.run(&["evidence", "from-proof", "app.tagproof", "--from", "copy"]).exits(0);
    user.write("bad.tagproof", "{}");
    user.run(&["evidence", "from-proof", "bad.tagproof"]).exits(2);
    // Entries of another log, too few of them, show nothing.
    let other = server_with(&witness, &["1"]);
    user.run(&["evidence", "from-proof", "app.tagproof", "--from", &other.url]).exits(3);
    assert!(user.evidence().is_empty());
}
