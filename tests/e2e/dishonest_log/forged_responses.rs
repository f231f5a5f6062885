//! Logs that lie, and servers that are no logs: the former are detected with evidence, the latter are not accused; in
//! neither case does the user's memory change.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use taglog_tests::cli_fixture::{
    APP, CommandOutput, User, add, copy_of, other_digest, pinned,
    proxy::{
        FakeServer,
        FakeServerMode::{self, NeverEnds, Sends, Stalls},
        Proxy,
    },
    wait, with_same_key,
};
use taglog_tests::{
    Server, Witness,
    witness::{digest, now},
};

const OTHER: &str = "registry.example/team/other:1.0";
const LOOKUP: &str = "/api/v1/lookup";

/// An honest log of two witnesses, and a user who has verified it before.
struct RelayedLogFixture {
    witness: Witness,
    server: Server,
    user: User,
    remembered: Vec<String>,
}

impl RelayedLogFixture {
    fn new() -> RelayedLogFixture {
        let (witness, second) = (Witness::new(1), Witness::new(2));
        let server = Server::start(&[&witness, &second], "");
        let at = now() - 100;
        add(&server, &[witness.observe(APP, "a", at), second.observe(APP, "a", at), witness.observe(OTHER, "o", at)]);
        let user = User::witnessing(&server, &witness);
        assert_eq!(user.verdict(&[&pinned(APP, "a")]), "ok");
        let remembered = user.remembered();
        assert_eq!(remembered.len(), 1);
        RelayedLogFixture { witness, server, user, remembered }
    }

    /// `taglog verify` of the image, with the log at another address.
    fn verify(&self, url: &str) -> CommandOutput {
        self.user.run(&["verify", &pinned(APP, "a"), "--log", url])
    }

    /// What must hold after a lie: exit code 4, evidence, nothing forgotten, nothing printed that a
    /// script would take for a digest; and the honest log passes again.
    fn is_detected(&self, url: &str) -> KeptEvidence {
        let before = self.user.evidence().len();
        let caught = self.verify(url).exits(4).prints(&["misbehaved", APP, "THE LOG MISBEHAVES", "kept in"]);
        let kept = self.user.evidence();
        assert!(kept.len() > before, "{caught:?}");
        let file = kept.into_iter().find(|path| caught.stderr.contains(path.to_str().unwrap()));
        let file = file.unwrap_or_else(|| panic!("the file is not named: {caught:?}"));
        let answer = self.user.run_json(&["verify", &pinned(APP, "a"), "--log", url]).exits(4).json();
        assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"misbehaved".into()));
        self.user.run(&["history", APP, "--log", url]).exits(4).has_empty_stdout().prints(&["THE LOG MISBEHAVES"]);
        self.nothing_has_moved();
        let file = file.to_str().unwrap().to_owned();
        KeptEvidence { content: std::fs::read_to_string(&file).unwrap(), file }
    }

    /// What must hold after mere unavailability.
    fn is_unavailable(&self, url: &str, words: &[&str], timeout: &str) {
        let more = ["--timeout", timeout];
        for command in [&["verify", &pinned(APP, "a")][..], &["history", APP]] {
            self.user.run(&[command, &["--log", url], &more].concat()).exits(3).has_empty_stdout().prints(words);
        }
        let observe = ["observe", "--digest", &other_digest().to_string(), OTHER, "--log", url].map(str::to_owned);
        let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
        self.user.run(&[&observe[..], &more].concat()).exits(3).has_empty_stdout().prints(words);
        assert!(self.user.evidence().is_empty(), "nobody is accused");
        self.nothing_has_moved();
    }

    fn nothing_has_moved(&self) {
        assert_eq!(self.user.remembered(), self.remembered, "the remembered checkpoint moved");
        assert_eq!(self.user.verdict(&[&pinned(APP, "a")]), "ok", "the honest log passes again");
        assert_eq!(self.user.remembered(), self.remembered, "the log has not grown");
    }
}

struct KeptEvidence {
    file: String,
    content: String,
}

/// Changes an answer.
type Forgery = Box<dyn Fn(&mut Value) + Send + Sync>;

/// A relay in front of the log that changes its answers to look-ups.
fn lying(fixture: &RelayedLogFixture, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Proxy {
    Proxy::editing(&fixture.server, LOOKUP, move |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        lie(&mut answer);
        answer.to_string()
    })
}

fn replace_in(value: &mut Value, from: &str, to: &str) {
    let text = value.as_str().unwrap();
    assert!(text.contains(from), "{from:?} is not in {text:?}");
    *value = text.replace(from, to).into();
}

#[test]
fn an_honest_relay_changes_no_result() {
    let fixture = RelayedLogFixture::new();
    let proxy = Proxy::honest(&fixture.server);
    fixture.verify(&proxy.url).exits(0).prints(&["ok"]);
    fixture.user.run(&["init", &proxy.url, "--yes"]).exits(0);
    let observe = ["observe", "--digest", &digest("a").to_string(), APP].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    fixture.user.run(&observe).exits(0);
    assert_ne!(fixture.user.remembered(), fixture.remembered, "an honest log that has grown is remembered");
}

#[test]
fn forged_lookups_are_detected() {
    let fixture = RelayedLogFixture::new();
    let b = digest("b").to_string();
    let a = digest("a").to_string();
    let whole =
        |from: String, to: String| Proxy::editing(&fixture.server, LOOKUP, move |text| text.replace(&from, &to));
    let lies = [
        ("another digest", whole(a.clone(), b)),
        ("another witness", whole("witness.example/w2".into(), "witness.example/w3".into())),
        (
            "a witness's line less in the record",
            lying(&fixture, |answer| {
                let record = &mut answer["images"][0]["tag"]["record"];
                let kept: Vec<&str> = record.as_str().unwrap().lines().filter(|line| !line.contains("/w2")).collect();
                let kept = format!("{}\n", kept.join("\n"));
                *record = kept.into();
                answer["images"][0]["sightings"].as_array_mut().unwrap().pop();
            }),
        ),
        ("no sightings", lying(&fixture, |answer| answer["images"][0]["sightings"] = serde_json::json!([]))),
        (
            "proof that there is nothing",
            lying(&fixture, |answer| {
                answer["images"][0]["tag"]["proof"]["result"] = "nonInclusionParent".into();
                answer["images"][0]["tag"].as_object_mut().unwrap().remove("record");
                answer["images"][0]["sightings"] = serde_json::json!([]);
            }),
        ),
        ("an entry less", lying(&fixture, |answer| drop(answer["entries"].as_array_mut().unwrap().remove(1)))),
        (
            "a node of the proof less",
            lying(&fixture, |answer| drop(answer["multiproof"].as_array_mut().unwrap().pop())),
        ),
        (
            "a later observation",
            lying(&fixture, |answer| {
                let entries = answer["entries"].as_array_mut().unwrap();
                let entry =
                    entries.iter_mut().find(|entry| entry["entry"].as_str().unwrap().contains("observed")).unwrap();
                replace_in(&mut entry["entry"], "observed 20", "observed 19");
            }),
        ),
        (
            "a larger size",
            lying(&fixture, |answer| {
                let checkpoint = answer["checkpoint"].as_str().unwrap();
                let size = checkpoint.lines().nth(1).unwrap().to_owned();
                replace_in(&mut answer["checkpoint"], &format!("\n{size}\n"), "\n999\n");
            }),
        ),
        (
            "no signature by the log",
            lying(&fixture, |answer| replace_in(&mut answer["checkpoint"], "— log.example", "— lag.example")),
        ),
    ];
    for (lie, proxy) in &lies {
        let evidence = fixture.is_detected(&proxy.url);
        assert!(evidence.content.contains("checkpoint"), "{lie}: {}", evidence.content);
    }
}

/// A script takes standard output for a digest; a lie must leave it empty.
#[test]
fn print_digest_prints_nothing_when_the_log_misbehaves() {
    let fixture = RelayedLogFixture::new();
    let proxy = lying(&fixture, |answer| answer["images"][0]["sightings"] = serde_json::json!([]));
    let ran = fixture.user.run(&["verify", "--print-digest", &pinned(APP, "a"), "--log", &proxy.url]).exits(4);
    ran.prints(&["THE LOG MISBEHAVES"]).has_empty_stdout();
}

/// Kept evidence is for humans, so the tool that keeps it can show it.
#[test]
fn kept_forged_lookups_can_be_inspected() {
    let fixture = RelayedLogFixture::new();
    let proxy = lying(&fixture, |answer| answer["images"][0]["sightings"] = serde_json::json!([]));
    let evidence = fixture.is_detected(&proxy.url);
    let shown = fixture.user.run(&["inspect", &evidence.file]);
    assert_ne!(shown.code, 2, "taglog cannot read the file that it wrote: {shown:?}");
}

#[test]
fn an_answer_about_another_image() {
    let fixture = RelayedLogFixture::new();
    let asked_for_other = Proxy::asking(&fixture.server, |path, body| match path.contains(LOOKUP) {
        true => String::from_utf8(body).unwrap().replace(APP, OTHER).into_bytes(),
        false => body,
    });
    fixture.is_detected(&asked_for_other.url);
    fixture.verify(&asked_for_other.url).prints(&[APP, "left it out of its response"]);

    let renamed = relay_of_another_image(&fixture.server);
    fixture.is_detected(&renamed.url);
}

/// A relay that passes the answer about another image off as one about the image that was asked for.
fn relay_of_another_image(server: &Server) -> Proxy {
    let other = wait(server.post(LOOKUP, "application/json", format!(r#"{{"images":["{OTHER}"],"from":1}}"#))).text();
    Proxy::editing(server, LOOKUP, move |_| other.replace(OTHER, APP))
}

#[test]
fn two_histories_of_one_size_prove_misbehaviour() {
    let fixture = RelayedLogFixture::new();
    let (one, two) = (Witness::new(1), Witness::new(2));
    let twin = with_same_key(&fixture.server, &[&one, &two]).start();
    let at = now() - 100;
    add(&twin, &[one.observe(APP, "evil", at), two.observe(APP, "evil", at), one.observe(OTHER, "o", at)]);
    assert_eq!(wait(twin.size()), wait(fixture.server.size()), "else this tests something else");

    let evidence = fixture.is_detected(&twin.url);
    fixture.user.run(&["inspect", &evidence.file]).exits(0).prints(&[
        "evidence of misbehaviour",
        "two",
        "verified under",
    ]);
    let judged = fixture.user.run_json(&["inspect", &evidence.file]).exits(0).json();
    assert_eq!((&judged["verified"], &judged["kind"]), (&true.into(), &"evidence of misbehaviour".into()));
    // Anybody who trusts the log's key sees the same; with another key it says nothing.
    let stranger = User::new();
    let copy = stranger.write("fork.json", &evidence.content);
    stranger.run(&["inspect", &copy]).exits(0).prints(&["not verified"]);
    stranger.trust(&fixture.server.vkey, "http://127.0.0.1:1");
    stranger.run(&["inspect", &copy]).exits(0).prints(&["verified under"]);
    stranger.trust(Witness::new(9).vkey(), "http://127.0.0.1:1");
    stranger.run(&["inspect", &copy]).exits(4).prints(&["DOES NOT VERIFY"]);

    let observe = ["observe", "--digest", &digest("a").to_string(), APP, "--log", &twin.url].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    fixture.user.run(&observe).exits(4).prints(&["THE LOG MISBEHAVES", "kept in"]);
    fixture.nothing_has_moved();
}

#[test]
fn a_longer_history_that_is_not_the_remembered_one() {
    let fixture = RelayedLogFixture::new();
    let twin = with_same_key(&fixture.server, &[&fixture.witness]).start();
    for i in 0..5 {
        add(&twin, &[fixture.witness.observe(APP, "a", now() - 50 + i)]);
    }
    assert!(wait(twin.size()) > wait(fixture.server.size()));
    let evidence = fixture.is_detected(&twin.url);
    let kept: Value = serde_json::from_str(&evidence.content).unwrap();
    assert_eq!(kept["remembered"].as_str().unwrap(), fixture.remembered[0], "both checkpoints are kept");
    assert!(kept["checkpoint"].as_str().unwrap().starts_with("log.example/test\n"), "{kept}");
    // A user who does not know the first history cannot tell, which is why it is remembered.
    let newcomer = User::trusting(&twin);
    newcomer.run(&["verify", &pinned(APP, "a")]).exits(0);
}

#[test]
fn a_log_that_gives_no_consistency_proof() {
    let fixture = RelayedLogFixture::new();
    add(&fixture.server, &[fixture.witness.observe(OTHER, "o", now())]);
    let silent = Proxy::editing(&fixture.server, LOOKUP, |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer.as_object_mut().unwrap().remove("consistency").unwrap();
        answer.to_string()
    });
    let caught = fixture.verify(&silent.url).exits(4).prints(&["THE LOG MISBEHAVES", "no consistency proof"]);
    assert_eq!(fixture.user.evidence().len(), 1, "{caught:?}");
    assert_eq!(fixture.user.remembered(), fixture.remembered);
    fixture.verify(&fixture.server.url).exits(0);
    assert_ne!(fixture.user.remembered(), fixture.remembered);
}

#[test]
fn a_log_that_was_restored_from_an_old_backup() {
    let fixture = RelayedLogFixture::new();
    let RelayedLogFixture { server, user, witness, .. } = fixture;
    let data = server.stop();
    let backup = copy_of(&data);
    let server = data.start();
    add(&server, &[witness.observe(OTHER, "later", now())]);
    let verify = |url: &str| user.run(&["verify", &pinned(APP, "a"), "--log", url]);
    verify(&server.url).exits(0);
    let remembered = user.remembered();
    let restored = backup.start();
    verify(&restored.url).exits(4).prints(&["THE LOG MISBEHAVES", "shrunk"]);
    assert_eq!((user.remembered(), user.evidence().len()), (remembered.clone(), 1));
    // Even once it is as long again, it is another history.
    for i in 0.. {
        add(&restored, &[witness.observe(OTHER, &format!("instead {i}"), now() + i)]);
        if wait(restored.size()) >= wait(server.size()) {
            break;
        }
    }
    verify(&restored.url).exits(4);
    assert_eq!(user.remembered(), remembered);
    verify(&server.url).exits(0);
}

#[test]
fn an_old_answer_that_is_replayed() {
    let fixture = RelayedLogFixture::new();
    let old = Mutex::new(None);
    let replaying = Proxy::answering(&fixture.server, move |path, body| match path.contains(LOOKUP) {
        true => old.lock().unwrap().get_or_insert(body).clone(),
        false => body,
    });
    fixture.verify(&replaying.url).exits(0);
    add(&fixture.server, &[fixture.witness.observe(APP, "evil", now())]);
    fixture.verify(&replaying.url).exits(0);
    // As long as the user knows no newer state, only the age of the answer reveals it.
    assert_eq!(fixture.user.verdict(&[&pinned(APP, "a")]), "retagged");
    let remembered = fixture.user.remembered();
    fixture.verify(&replaying.url).exits(4).prints(&["THE LOG MISBEHAVES", "shrunk"]);
    assert_eq!(fixture.user.remembered(), remembered);
}

/// `taglog observe` through a relay that changes the receipt.
fn observe_with_receipt(
    fixture: &RelayedLogFixture,
    lie: impl Fn(&mut Value) + Send + Sync + 'static,
) -> CommandOutput {
    let proxy = Proxy::editing(&fixture.server, "/api/v1/entries", move |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        lie(&mut answer[0]);
        answer.to_string()
    });
    // Each time another tag, so that nothing is a duplicate.
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let tag = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let name = format!("registry.example/team/receipts:{tag}");
    let digest = other_digest().to_string();
    fixture.user.run(&["observe", "--digest", &digest, &name, "--log", &proxy.url])
}

#[test]
fn forged_receipts_are_detected() {
    let fixture = RelayedLogFixture::new();
    let other_receipt = wait(receipt_of(&fixture.server, &fixture.witness.observe(OTHER, "o", now())));
    let other_proof = other_receipt["proof"].clone();
    let cases: Vec<(&str, Forgery)> = vec![
        ("another entry's receipt", Box::new(move |answer| answer["proof"] = other_proof.clone())),
        ("another entry's index and receipt", Box::new(move |answer| *answer = other_receipt.clone())),
        (
            "another index in the answer",
            Box::new(|answer| answer["index"] = (answer["index"].as_u64().unwrap() - 1).into()),
        ),
        (
            "a node of the proof less",
            Box::new(|answer| {
                let proof = answer["proof"].as_str().unwrap();
                let (head, checkpoint) = proof.split_once("\n\n").unwrap();
                let head = head.rsplit_once('\n').unwrap().0;
                answer["proof"] = format!("{head}\n\n{checkpoint}").into();
            }),
        ),
        (
            "a checkpoint that the log did not sign",
            Box::new(|answer| replace_in(&mut answer["proof"], "— log.example", "— lag.example")),
        ),
        (
            "a duplicate of something else",
            Box::new(|answer| {
                answer["status"] = "duplicate".into();
                let proof = answer["proof"].as_str().unwrap();
                let extra = proof.lines().nth(1).unwrap().to_owned();
                replace_in(&mut answer["proof"], &format!("{extra}\n"), "");
            }),
        ),
    ];
    for (what, lie) in cases {
        let ran = observe_with_receipt(&fixture, lie).has_empty_stdout();
        assert_eq!(ran.code, 4, "{what}: {ran:?}");
        assert_eq!(fixture.user.remembered(), fixture.remembered, "{what}");
    }
    assert!(observe_with_receipt(&fixture, |answer| answer["more"] = 1.into()).code == 0, "more fields are no lie");
}

/// The only proof that the log has given a false receipt is that receipt.
#[test]
fn a_forged_receipt_is_kept() {
    let fixture = RelayedLogFixture::new();
    let ran = observe_with_receipt(&fixture, |answer| {
        let index = answer["index"].as_u64().unwrap();
        replace_in(&mut answer["proof"], &format!("index {index}\n"), &format!("index {}\n", index - 1));
        answer["index"] = (index - 1).into();
    });
    ran.exits(4);
    assert_eq!(fixture.user.evidence().len(), 1, "no evidence was kept");
}

async fn receipt_of(server: &Server, note: &[u8]) -> Value {
    server.post("/api/v1/entries?wait=published", "text/plain", note.to_vec()).await.json()[0].clone()
}

const HTML: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n<html>Log in!</html>";
const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
const PROBLEM: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
    {\"type\":\"urn:taglog:problem:stopping\",\"title\":\"x\",\"status\":503,\"detail\":\"try \\u001b[2Jit\"}";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"type\":";
const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";

#[test]
fn a_server_that_is_no_log_is_not_accused() {
    let fixture = RelayedLogFixture::new();
    for (mode, words) in [
        (Sends(HTML), &["does not answer like a taglog log"][..]),
        (Sends(ERROR), &["500"]),
        (Sends(GATEWAY), &["502"]),
        (Sends(PROBLEM), &["stopping", "try"]),
        (Sends(HALF), &["cannot reach the log"]),
        (Sends("SSH-2.0-OpenSSH\r\n"), &["cannot reach the log"]),
        (Sends(""), &["cannot reach the log"]),
        (Sends("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), &["404"]),
        (Sends("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), &["does not answer like a taglog log"]),
        (Sends("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"), &["cannot reach the log"]),
    ] {
        let stranger = FakeServer::start(mode);
        fixture.is_unavailable(&stranger.url, words, "30");
        let init =
            fixture.user.run(&["init", &stranger.url, "--yes", "--trust", &fixture.user.argument("new")]).exits(3);
        assert!(!fixture.user.path("new").exists() && !init.stderr.contains('\u{1b}'), "{init:?}");
    }
}

/// Runs the commands against a server that would take for ever; each must end soon.
fn ends_in_time(mode: FakeServerMode, words: &[&str]) {
    let fixture = RelayedLogFixture::new();
    let stranger = FakeServer::start(mode);
    let started = Instant::now();
    fixture.is_unavailable(&stranger.url, words, "1");
    // Three commands of a second each, with room for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_stalled_connection_times_out() {
    ends_in_time(Stalls(""), &["cannot reach the log"]);
}

#[test]
fn a_response_that_stalls_half_way_times_out() {
    ends_in_time(Stalls(HALF), &["cannot reach the log"]);
}

#[test]
fn an_endless_response_is_cut_off() {
    ends_in_time(NeverEnds(ENDLESS), &[]);
}
