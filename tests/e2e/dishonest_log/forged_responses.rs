//! Logs that lie, and what only looks like one: the first is caught with evidence, the second is
//! no accusation; in neither case does what the user remembers move.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use cli_common::{
    APP, Ran, User, add, copy_of, other_digest, pinned,
    proxy::{
        Manner::{self, NeverEnds, Says, Stalls},
        Proxy, Stranger,
    },
    same_key, wait,
};
use serde_json::Value;
use taglog_tests::{
    Server, Witness,
    witness::{digest, now},
};

const OTHER: &str = "registry.example/team/other:1.0";
const LOOKUP: &str = "/api/v1/lookup";

/// An honest log of two witnesses, and a user who has verified it before.
struct Scene {
    witness: Witness,
    server: Server,
    user: User,
    remembered: Vec<String>,
}

impl Scene {
    fn new() -> Scene {
        let (witness, second) = (Witness::new(1), Witness::new(2));
        let server = Server::start(&[&witness, &second], "");
        let at = now() - 100;
        add(&server, &[witness.observe(APP, "a", at), second.observe(APP, "a", at), witness.observe(OTHER, "o", at)]);
        let user = User::witnessing(&server, &witness);
        assert_eq!(user.verdict(&[&pinned(APP, "a")]), "ok");
        let remembered = user.remembered();
        assert_eq!(remembered.len(), 1);
        Scene { witness, server, user, remembered }
    }

    /// `taglog verify` of the image, with the log at another address.
    fn verify(&self, url: &str) -> Ran {
        self.user.run(&["verify", &pinned(APP, "a"), "--log", url])
    }

    /// What must hold after a lie: exit code 4, evidence, nothing forgotten, nothing printed that a
    /// script would take for a digest; and the honest log passes again.
    fn is_caught(&self, url: &str) -> Evidence {
        let before = self.user.evidence().len();
        let caught = self.verify(url).exits(4).says(&["misbehaved", APP, "THE LOG MISBEHAVES", "kept in"]);
        let kept = self.user.evidence();
        assert!(kept.len() > before, "{caught:?}");
        let file = kept.into_iter().find(|path| caught.stderr.contains(path.to_str().unwrap()));
        let file = file.unwrap_or_else(|| panic!("the file is not named: {caught:?}"));
        let answer = self.user.run_json(&["verify", &pinned(APP, "a"), "--log", url]).exits(4).json();
        assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"misbehaved".into()));
        self.user.run(&["history", APP, "--log", url]).exits(4).prints_nothing().says(&["THE LOG MISBEHAVES"]);
        self.nothing_has_moved();
        let file = file.to_str().unwrap().to_owned();
        Evidence { content: std::fs::read_to_string(&file).unwrap(), file }
    }

    /// What must hold after mere unavailability.
    fn is_unavailable(&self, url: &str, words: &[&str], timeout: &str) {
        let more = ["--timeout", timeout];
        for command in [&["verify", &pinned(APP, "a")][..], &["history", APP]] {
            self.user.run(&[command, &["--log", url], &more].concat()).exits(3).prints_nothing().says(words);
        }
        let observe = ["observe", "--digest", &other_digest().to_string(), OTHER, "--log", url].map(str::to_owned);
        let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
        self.user.run(&[&observe[..], &more].concat()).exits(3).prints_nothing().says(words);
        assert!(self.user.evidence().is_empty(), "nobody is accused");
        self.nothing_has_moved();
    }

    fn nothing_has_moved(&self) {
        assert_eq!(self.user.remembered(), self.remembered, "the remembered checkpoint moved");
        assert_eq!(self.user.verdict(&[&pinned(APP, "a")]), "ok", "the honest log passes again");
        assert_eq!(self.user.remembered(), self.remembered, "the log has not grown");
    }
}

struct Evidence {
    file: String,
    content: String,
}

/// Changes an answer.
type Lie = Box<dyn Fn(&mut Value) + Send + Sync>;

/// A relay in front of the log that changes its answers to look-ups.
fn lying(scene: &Scene, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Proxy {
    Proxy::editing(&scene.server, LOOKUP, move |text| {
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
fn an_honest_relay_changes_nothing() {
    let scene = Scene::new();
    let proxy = Proxy::honest(&scene.server);
    scene.verify(&proxy.url).exits(0).says(&["ok"]);
    scene.user.run(&["init", &proxy.url, "--yes"]).exits(0);
    let observe = ["observe", "--digest", &digest("a").to_string(), APP].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    scene.user.run(&observe).exits(0);
    assert_ne!(scene.user.remembered(), scene.remembered, "an honest log that has grown is remembered");
}

#[test]
fn answers_that_are_false() {
    let scene = Scene::new();
    let b = digest("b").to_string();
    let a = digest("a").to_string();
    let whole = |from: String, to: String| Proxy::editing(&scene.server, LOOKUP, move |text| text.replace(&from, &to));
    let lies = [
        ("another digest", whole(a.clone(), b)),
        ("another witness", whole("witness.example/w2".into(), "witness.example/w3".into())),
        (
            "a witness's line less in the record",
            lying(&scene, |answer| {
                let record = &mut answer["images"][0]["tag"]["record"];
                let kept: Vec<&str> = record.as_str().unwrap().lines().filter(|line| !line.contains("/w2")).collect();
                let kept = format!("{}\n", kept.join("\n"));
                *record = kept.into();
                answer["images"][0]["sightings"].as_array_mut().unwrap().pop();
            }),
        ),
        ("no sightings", lying(&scene, |answer| answer["images"][0]["sightings"] = serde_json::json!([]))),
        (
            "proof that there is nothing",
            lying(&scene, |answer| {
                answer["images"][0]["tag"]["proof"]["result"] = "nonInclusionParent".into();
                answer["images"][0]["tag"].as_object_mut().unwrap().remove("record");
                answer["images"][0]["sightings"] = serde_json::json!([]);
            }),
        ),
        ("an entry less", lying(&scene, |answer| drop(answer["entries"].as_array_mut().unwrap().remove(1)))),
        ("a node of the proof less", lying(&scene, |answer| drop(answer["multiproof"].as_array_mut().unwrap().pop()))),
        (
            "a later observation",
            lying(&scene, |answer| {
                let entries = answer["entries"].as_array_mut().unwrap();
                let entry =
                    entries.iter_mut().find(|entry| entry["entry"].as_str().unwrap().contains("observed")).unwrap();
                replace_in(&mut entry["entry"], "observed 20", "observed 19");
            }),
        ),
        (
            "a larger size",
            lying(&scene, |answer| {
                let checkpoint = answer["checkpoint"].as_str().unwrap();
                let size = checkpoint.lines().nth(1).unwrap().to_owned();
                replace_in(&mut answer["checkpoint"], &format!("\n{size}\n"), "\n999\n");
            }),
        ),
        (
            "no signature by the log",
            lying(&scene, |answer| replace_in(&mut answer["checkpoint"], "— log.example", "— lag.example")),
        ),
    ];
    for (lie, proxy) in &lies {
        let evidence = scene.is_caught(&proxy.url);
        assert!(evidence.content.contains("checkpoint"), "{lie}: {}", evidence.content);
    }
}

/// A script takes standard output for a digest; a lie must leave it empty.
#[test]
fn print_digest_prints_nothing_when_the_log_misbehaves() {
    let scene = Scene::new();
    let proxy = lying(&scene, |answer| answer["images"][0]["sightings"] = serde_json::json!([]));
    let ran = scene.user.run(&["verify", "--print-digest", &pinned(APP, "a"), "--log", &proxy.url]).exits(4);
    ran.says(&["THE LOG MISBEHAVES"]).prints_nothing();
}

/// What was kept is for people to look at, so the tool that keeps it shows it.
#[test]
fn what_is_kept_of_a_false_answer_can_be_inspected() {
    let scene = Scene::new();
    let proxy = lying(&scene, |answer| answer["images"][0]["sightings"] = serde_json::json!([]));
    let evidence = scene.is_caught(&proxy.url);
    let shown = scene.user.run(&["inspect", &evidence.file]);
    assert_ne!(shown.code, 2, "taglog cannot read the file that it wrote: {shown:?}");
}

#[test]
fn an_answer_about_another_image() {
    let scene = Scene::new();
    let asked_for_other = Proxy::asking(&scene.server, |path, body| match path.contains(LOOKUP) {
        true => String::from_utf8(body).unwrap().replace(APP, OTHER).into_bytes(),
        false => body,
    });
    scene.is_caught(&asked_for_other.url);
    scene.verify(&asked_for_other.url).says(&[APP, "does not answer"]);

    let renamed = Proxy::start_pair(&scene.server);
    scene.is_caught(&renamed.url);
}

impl Proxy {
    /// Asks for the other image and passes the answer off as one about the image asked for.
    fn start_pair(server: &Server) -> Proxy {
        let other =
            wait(server.post(LOOKUP, "application/json", format!(r#"{{"images":["{OTHER}"],"from":1}}"#))).text();
        Proxy::editing(server, LOOKUP, move |_| other.replace(OTHER, APP))
    }
}

#[test]
fn two_histories_of_one_size_convict_the_log() {
    let scene = Scene::new();
    let (one, two) = (Witness::new(1), Witness::new(2));
    let twin = same_key(&scene.server, &[&one, &two]).start();
    let at = now() - 100;
    add(&twin, &[one.observe(APP, "evil", at), two.observe(APP, "evil", at), one.observe(OTHER, "o", at)]);
    assert_eq!(wait(twin.size()), wait(scene.server.size()), "else this tests something else");

    let evidence = scene.is_caught(&twin.url);
    scene.user.run(&["inspect", &evidence.file]).exits(0).says(&["evidence of misbehaviour", "two", "verified under"]);
    let judged = scene.user.run_json(&["inspect", &evidence.file]).exits(0).json();
    assert_eq!((&judged["verified"], &judged["kind"]), (&true.into(), &"evidence of misbehaviour".into()));
    // Anybody who trusts the log's key sees the same; with another key it says nothing.
    let stranger = User::new();
    let copy = stranger.write("fork.json", &evidence.content);
    stranger.run(&["inspect", &copy]).exits(0).says(&["not verified"]);
    stranger.trust(&scene.server.vkey, "http://127.0.0.1:1");
    stranger.run(&["inspect", &copy]).exits(0).says(&["verified under"]);
    stranger.trust(Witness::new(9).vkey(), "http://127.0.0.1:1");
    stranger.run(&["inspect", &copy]).exits(4).says(&["DOES NOT VERIFY"]);

    let observe = ["observe", "--digest", &digest("a").to_string(), APP, "--log", &twin.url].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    scene.user.run(&observe).exits(4).says(&["THE LOG MISBEHAVES", "kept in"]);
    scene.nothing_has_moved();
}

#[test]
fn a_longer_history_that_is_not_the_remembered_one() {
    let scene = Scene::new();
    let twin = same_key(&scene.server, &[&scene.witness]).start();
    for i in 0..5 {
        add(&twin, &[scene.witness.observe(APP, "a", now() - 50 + i)]);
    }
    assert!(wait(twin.size()) > wait(scene.server.size()));
    let evidence = scene.is_caught(&twin.url);
    let kept: Value = serde_json::from_str(&evidence.content).unwrap();
    assert_eq!(kept["remembered"].as_str().unwrap(), scene.remembered[0], "both checkpoints are kept");
    assert!(kept["checkpoint"].as_str().unwrap().starts_with("log.example/test\n"), "{kept}");
    // A user who does not know the first history cannot tell, which is why it is remembered.
    let newcomer = User::trusting(&twin);
    newcomer.run(&["verify", &pinned(APP, "a")]).exits(0);
}

#[test]
fn a_log_that_will_not_prove_that_it_has_grown() {
    let scene = Scene::new();
    add(&scene.server, &[scene.witness.observe(OTHER, "o", now())]);
    let silent = Proxy::editing(&scene.server, LOOKUP, |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer.as_object_mut().unwrap().remove("consistency").unwrap();
        answer.to_string()
    });
    let caught = scene.verify(&silent.url).exits(4).says(&["THE LOG MISBEHAVES", "no consistency proof"]);
    assert_eq!(scene.user.evidence().len(), 1, "{caught:?}");
    assert_eq!(scene.user.remembered(), scene.remembered);
    scene.verify(&scene.server.url).exits(0);
    assert_ne!(scene.user.remembered(), scene.remembered);
}

#[test]
fn a_log_that_was_restored_from_an_old_backup() {
    let scene = Scene::new();
    let Scene { server, user, witness, .. } = scene;
    let data = server.stop();
    let backup = copy_of(&data);
    let server = data.start();
    add(&server, &[witness.observe(OTHER, "later", now())]);
    let verify = |url: &str| user.run(&["verify", &pinned(APP, "a"), "--log", url]);
    verify(&server.url).exits(0);
    let remembered = user.remembered();
    let restored = backup.start();
    verify(&restored.url).exits(4).says(&["THE LOG MISBEHAVES", "shrunk"]);
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
    let scene = Scene::new();
    let old = Mutex::new(None);
    let replaying = Proxy::answering(&scene.server, move |path, body| match path.contains(LOOKUP) {
        true => old.lock().unwrap().get_or_insert(body).clone(),
        false => body,
    });
    scene.verify(&replaying.url).exits(0);
    add(&scene.server, &[scene.witness.observe(APP, "evil", now())]);
    scene.verify(&replaying.url).exits(0);
    // As long as nobody has told the user of a newer state, only the age of the answer tells.
    assert_eq!(scene.user.verdict(&[&pinned(APP, "a")]), "retagged");
    let remembered = scene.user.remembered();
    scene.verify(&replaying.url).exits(4).says(&["THE LOG MISBEHAVES", "shrunk"]);
    assert_eq!(scene.user.remembered(), remembered);
}

/// `taglog observe` through a relay that changes the receipt.
fn observe_with_receipt(scene: &Scene, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Ran {
    let proxy = Proxy::editing(&scene.server, "/api/v1/entries", move |text| {
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        lie(&mut answer[0]);
        answer.to_string()
    });
    // Each time another tag, so that nothing is a duplicate.
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let tag = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let name = format!("registry.example/team/receipts:{tag}");
    let digest = other_digest().to_string();
    scene.user.run(&["observe", "--digest", &digest, &name, "--log", &proxy.url])
}

#[test]
fn receipts_that_are_false() {
    let scene = Scene::new();
    let other_receipt = wait(receipt_of(&scene.server, &scene.witness.observe(OTHER, "o", now())));
    let other_proof = other_receipt["proof"].clone();
    let cases: Vec<(&str, Lie)> = vec![
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
        let ran = observe_with_receipt(&scene, lie).prints_nothing();
        assert_eq!(ran.code, 4, "{what}: {ran:?}");
        assert_eq!(scene.user.remembered(), scene.remembered, "{what}");
    }
    assert!(observe_with_receipt(&scene, |answer| answer["more"] = 1.into()).code == 0, "more fields are no lie");
}

/// The only proof that the log has given a false receipt is that receipt.
#[test]
fn a_false_receipt_is_kept() {
    let scene = Scene::new();
    let ran = observe_with_receipt(&scene, |answer| {
        let index = answer["index"].as_u64().unwrap();
        replace_in(&mut answer["proof"], &format!("index {index}\n"), &format!("index {}\n", index - 1));
        answer["index"] = (index - 1).into();
    });
    ran.exits(4);
    assert_eq!(scene.user.evidence().len(), 1, "no evidence was kept");
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
fn what_is_no_log_is_not_accused() {
    let scene = Scene::new();
    for (manner, words) in [
        (Says(HTML), &["does not answer like a taglog log"][..]),
        (Says(ERROR), &["500"]),
        (Says(GATEWAY), &["502"]),
        (Says(PROBLEM), &["stopping", "try"]),
        (Says(HALF), &["cannot reach the log"]),
        (Says("SSH-2.0-OpenSSH\r\n"), &["cannot reach the log"]),
        (Says(""), &["cannot reach the log"]),
        (Says("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), &["404"]),
        (Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), &["does not answer like a taglog log"]),
        (Says("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"), &["cannot reach the log"]),
    ] {
        let stranger = Stranger::start(manner);
        scene.is_unavailable(&stranger.url, words, "30");
        let init = scene.user.run(&["init", &stranger.url, "--yes", "--trust", &scene.user.argument("new")]).exits(3);
        assert!(!scene.user.path("new").exists() && !init.stderr.contains('\u{1b}'), "{init:?}");
    }
}

/// Runs the commands against a server that would take for ever; each must end soon.
fn ends_in_time(manner: Manner, words: &[&str]) {
    let scene = Scene::new();
    let stranger = Stranger::start(manner);
    let started = Instant::now();
    scene.is_unavailable(&stranger.url, words, "1");
    // Three commands of a second each, with room for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_stalled_connection_is_given_up() {
    ends_in_time(Stalls(""), &["cannot reach the log"]);
}

#[test]
fn an_answer_that_stalls_half_way_is_given_up() {
    ends_in_time(Stalls(HALF), &["cannot reach the log"]);
}

#[test]
fn an_endless_answer_is_given_up() {
    ends_in_time(NeverEnds(ENDLESS), &[]);
}
