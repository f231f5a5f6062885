//! `taglog inspect` on every format that a log or `taglog` itself writes, and on unknown ones.

use serde_json::json;
use taglog_proto::evidence::{Evidence, Fork};
use taglog_tests::cli_fixture::{APP, User, add, pinned, wait, with_same_key};
use taglog_tests::{
    Server, Witness,
    server::ORIGIN,
    witness::{digest, now},
};

/// A log with one observation, a user who trusts it, and a user who trusts nothing.
struct InspectFixture {
    witness: Witness,
    server: Server,
    user: User,
    stranger: User,
    observation: Vec<u8>,
}

impl InspectFixture {
    fn new() -> InspectFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let observation = witness.observe(APP, "a", now() - 100);
        add(&server, std::slice::from_ref(&observation));
        let user = User::trusting(&server);
        InspectFixture { witness, server, user, stranger: User::new(), observation }
    }

    /// Inspects a good file as a file and from standard input, with trust file and without.
    fn shows(&self, content: &[u8], kind: &str, words: &[&str], provable: bool) {
        let file = self.user.write("file", content);
        let shown = self.user.run(&["inspect", &file]).exits(0).prints(words).prints(&[kind]);
        assert!(shown.stdout.starts_with(kind), "{shown:?}");
        let verdict = if provable { format!("verified under {ORIGIN}") } else { "not verified".to_owned() };
        assert!(shown.stdout.lines().last().unwrap().starts_with(&verdict), "{shown:?}");
        assert_eq!(self.user.run_with_input(&["inspect", "-"], content).exits(0).stdout, shown.stdout);
        let answer = self.user.run_json(&["inspect", &file]).exits(0).json();
        let verified = if provable { true.into() } else { json!(null) };
        assert_eq!((&answer["kind"], &answer["verified"]), (&kind.into(), &verified));
        assert!(!answer["content"].is_null(), "{answer}");
        let shown = self.stranger.run_with_input(&["inspect", "-"], content).exits(0).prints(&["not verified"]);
        assert!(shown.stdout.starts_with(kind), "{shown:?}");
    }

    /// Inspects a file that was made with another log's key.
    fn is_false(&self, content: &[u8]) {
        self.user.run_with_input(&["inspect", "-"], content).exits(4).prints(&["DOES NOT VERIFY"]);
        let answer = self.user.run_with_input(&["inspect", "-", "--output", "json"], content).exits(4).json();
        assert_eq!(answer["verified"], false);
    }
}

#[test]
fn checkpoints() {
    let fixture = InspectFixture::new();
    let checkpoint = wait(fixture.server.get("/checkpoint")).body;
    let size = wait(fixture.server.size()).to_string();
    fixture.shows(&checkpoint, "checkpoint", &[ORIGIN, &size, "root", "signed"], true);
    let text = String::from_utf8(checkpoint).unwrap();
    fixture.is_false(text.replacen('\n', "\n1", 1).as_bytes());
    fixture.is_false(wait(InspectFixture::new().server.get("/checkpoint")).text().as_bytes());
}

#[test]
fn entries_and_bundles() {
    let fixture = InspectFixture::new();
    let size = wait(fixture.server.size());
    let id = fixture.witness.id().name.as_str().to_owned();
    let digest = digest("a").to_string();
    fixture.shows(&fixture.observation, "entry", &["taglog/observation@v1", "team/app", &digest, &id], false);
    let confirmation = fixture.witness.confirm("registry.example/team/app", now());
    fixture.shows(&confirmation, "entry", &["taglog/confirmation@v1"], false);
    let bundle = wait(fixture.server.get(&format!("/tile/entries/000.p/{size}"))).body;
    let words = ["taglog/roster@v1", "taglog/seal@v1", "taglog/observation@v1", &digest];
    fixture.shows(&bundle, "entry bundle", &words, false);
}

#[test]
fn receipts() {
    let fixture = InspectFixture::new();
    let note = fixture.witness.observe("registry.example/team/other:2", "b", now());
    let answer = wait(fixture.server.post("/api/v1/entries?wait=published", "text/plain", note)).json();
    let receipt = answer[0]["proof"].as_str().unwrap().to_owned();
    let index = format!("index   {}", answer[0]["index"]);
    fixture.shows(receipt.as_bytes(), "receipt (tlog-proof)", &[&index, ORIGIN, "team/other", "tag 2"], true);
    let wrong = format!("index {}\n", answer[0]["index"].as_u64().unwrap() - 1);
    fixture.is_false(receipt.replace(&format!("index {}\n", answer[0]["index"]), &wrong).as_bytes());
}

#[test]
fn tag_proofs() {
    let fixture = InspectFixture::new();
    let file = fixture.user.argument("saved.tagproof");
    fixture.user.run(&["verify", "--save", &file, &pinned(APP, "a")]).exits(0);
    let saved = fixture.user.read("saved.tagproof");
    fixture.shows(saved.as_bytes(), "tag proof", &[APP], true);
    fixture.user.run(&["inspect", &file]).prints(&[
        &digest("a").to_string(),
        &fixture.witness.id().to_string(),
        "sealed",
    ]);
    // As the log answers anybody who asks.
    let answer = wait(fixture.server.get(&format!("/api/v1/lookup?image={APP}&image=registry.example/none:1"))).body;
    fixture.shows(&answer, "tag proof", &[APP, "registry.example/none:1"], true);
    fixture.is_false(saved.replace(&digest("a").to_string(), &digest("b").to_string()).as_bytes());
}

/// People and programs reformat JSON; that changes nothing of what it proves.
#[test]
fn a_reformatted_tag_proof_is_still_shown() {
    let fixture = InspectFixture::new();
    let answer = wait(fixture.server.get(&format!("/api/v1/lookup?image={APP}"))).json();
    let pretty = serde_json::to_string_pretty(&answer).unwrap();
    fixture.user.run_with_input(&["inspect", "-"], pretty.as_bytes()).exits(0).prints(&["verified under"]);
    let file = fixture.user.write("pretty.tagproof", pretty);
    fixture.user.run(&["verify", "--offline", &file]).exits(0).prints(&["ok", APP]);
}

#[test]
fn evidence() {
    let fixture = InspectFixture::new();
    let twin = with_same_key(&fixture.server, &[&fixture.witness]).start();
    add(&twin, &[fixture.witness.observe(APP, "evil", now() - 100)]);
    let (one, two) = (wait(fixture.server.checkpoint()), wait(twin.checkpoint()));
    assert_eq!(one.unverified().size, two.unverified().size);
    let fork = |a: &str, b: &str| Evidence::Fork(Fork { checkpoints: [a.to_owned(), b.to_owned()] }).to_json();
    let (one, two) = (one.to_string(), two.to_string());
    fixture.shows(fork(&one, &two).as_bytes(), "evidence of misbehaviour", &[], true);
    fixture.is_false(fork(&one, &one).as_bytes());
    fixture.is_false(fork(&one, &two.replace("— log.example", "— lag.example")).as_bytes());
    fixture.is_false(fork(&one, &wait(InspectFixture::new().server.checkpoint()).to_string()).as_bytes());
}

#[test]
fn unknown_formats_are_refused() {
    let fixture = InspectFixture::new();
    let bundle = wait(fixture.server.get("/tile/entries/000.p/2")).body;
    let observation = String::from_utf8(fixture.observation.clone()).unwrap();
    let garbage: [&[u8]; 12] = [
        b"",
        b"\n",
        b"nonsense",
        b"{}",
        b"{\"type\":\"taglog/evidence/unheard-of@v1\"}",
        b"<html></html>",
        b"taglog/unheard-of@v1\nx\n",
        b"c2sp.org/tlog-proof@v1\nindex x\n",
        &[0; 4096],
        &[0xff; 100],
        &bundle[..bundle.len() - 1],
        &observation.as_bytes()[..observation.len() - 10],
    ];
    for content in garbage {
        let file = fixture.user.write("garbage", content);
        fixture.user.run(&["inspect", &file]).exits(2).has_empty_stdout().prints(&[&file]);
        fixture.stranger.run_with_input(&["inspect", "-"], content).exits(2).has_empty_stdout();
    }
}

/// Nothing that a file holds reaches the terminal as a command to it.
#[test]
fn files_cannot_steer_the_terminal() {
    let fixture = InspectFixture::new();
    let escape = "\u{1b}[2J";
    let proof = wait(fixture.server.get(&format!("/api/v1/lookup?image={APP}"))).text();
    for content in [
        proof.replace(APP, "\\u001b[2J/x:1"),
        format!("log.example\u{9b}2J/x\n7\n{}\n\n— log.example/x AAAAAAAA\n", "A".repeat(43) + "="),
        format!("taglog/{escape}\n"),
        format!("{{\"{escape}\":1}}"),
        "{\"\\u001b[2J\":1}".to_owned(),
        format!("c2sp.org/tlog-proof@v1\nextra {}\n", "G1sySg=="),
    ] {
        for user in [&fixture.user, &fixture.stranger] {
            let shown = user.run_with_input(&["inspect", "-"], content.as_bytes());
            let shown = [shown.stdout.as_str(), &shown.stderr].concat();
            assert!(!shown.contains('\u{1b}') && !shown.contains('\u{9b}'), "{shown:?}");
        }
    }
}

/// A trust file that cannot be read is no reason to call everything unverified in silence.
#[test]
fn a_bad_trust_file_is_named() {
    let fixture = InspectFixture::new();
    let checkpoint = fixture.user.write("checkpoint", wait(fixture.server.checkpoint()).to_string());
    let trust = fixture.user.write("trust", "log nonsense\nquorum none\n");
    let ran = fixture.user.run(&["inspect", &checkpoint]);
    assert!(ran.code == 2 && ran.stderr.contains("line 1"), "{trust} is ignored: {ran:?}");
}
