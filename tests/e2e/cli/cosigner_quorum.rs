//! Trust files that require cosigners: `verify`, `history`, `observe`, `inspect` and the witness agent accept
//! checkpoints that k of n have cosigned, recently enough, and no seal that is newer than the cosignatures.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignerSigningKey},
    receipt::Receipt,
};
use taglog_tests::agent_fixture::{AgentFixture, HEALTHY, pending};
use taglog_tests::cli_fixture::{APP, CommandOutput, User, add, pinned, proxy::Proxy};
use taglog_tests::{
    Server, Witness,
    witness::{now, time},
};

/// A cosigner in the relay, whose cosignatures are dated this many seconds from now.
struct SimulatedCosigner {
    key: CosignerSigningKey,
    offset: i64,
    /// Makes invalid signatures.
    lies: bool,
}

fn cosigner(number: u8, offset: i64) -> SimulatedCosigner {
    // The last one signs with ML-DSA-44.
    let algorithm = if number == 3 { Algorithm::MlDsa44 } else { Algorithm::Ed25519 };
    let key = CosignerSigningKey::from_seed(&format!("cosigner.example/{number}"), algorithm, &[number; 32]).unwrap();
    SimulatedCosigner { key, offset, lies: false }
}

type Cosigners = Arc<Mutex<Vec<SimulatedCosigner>>>;

fn cosign(cosigners: &Cosigners, signed: &SignedCheckpoint) -> SignedCheckpoint {
    let lines = cosigners
        .lock()
        .unwrap()
        .iter()
        .map(|SimulatedCosigner { key, offset, lies }| {
            let mut line = key.cosign(signed, time(now() + offset)).unwrap();
            *line.signature.last_mut().unwrap() ^= u8::from(*lies);
            line
        })
        .collect::<Vec<_>>();
    signed.with_signatures(lines)
}

/// The same text with its checkpoint cosigned, if it is a checkpoint or a receipt.
fn cosigned_text(cosigners: &Cosigners, text: &str) -> Option<String> {
    if let Ok(mut receipt) = Receipt::parse(text.as_bytes()) {
        receipt.checkpoint = cosign(cosigners, &receipt.checkpoint);
        return Some(receipt.to_string());
    }
    let signed = SignedCheckpoint::parse(text.as_bytes()).ok()?;
    Some(cosign(cosigners, &signed).to_string())
}

fn cosign_json(cosigners: &Cosigners, value: &mut Value) {
    match value {
        Value::String(text) => *text = cosigned_text(cosigners, text).unwrap_or_else(|| std::mem::take(text)),
        Value::Array(values) => values.iter_mut().for_each(|value| cosign_json(cosigners, value)),
        Value::Object(fields) => fields.values_mut().for_each(|value| cosign_json(cosigners, value)),
        _ => {}
    }
}

/// A relay that lets every checkpoint be cosigned, wherever it stands.
fn cosigning(server: &Server) -> (Proxy, Cosigners) {
    let cosigners = Cosigners::default();
    let present = Arc::clone(&cosigners);
    let proxy = Proxy::answering(server, move |_, body| {
        if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
            cosign_json(&present, &mut value);
            return serde_json::to_vec(&value).unwrap();
        }
        let text = std::str::from_utf8(&body).ok().and_then(|text| cosigned_text(&present, text));
        text.map_or(body, String::into_bytes)
    });
    (proxy, cosigners)
}

/// A trust file that asks for 2 of 3 cosigners.
fn two_of_three(server: &Server, url: &str) -> String {
    let vkey = |number| cosigner(number, 0).key.key().to_string();
    format!(
        "log {} {url}\nwitness ams {}\nwitness fra {}\nwitness lon {}\ngroup two 2 ams fra lon\nquorum two\n",
        server.vkey,
        vkey(1),
        vkey(2),
        vkey(3)
    )
}

struct CosignedRelayFixture {
    proxy: Proxy,
    cosigners: Cosigners,
    user: User,
    // Last: the relay stands before it.
    server: Server,
}

impl CosignedRelayFixture {
    fn new() -> CosignedRelayFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        add(&server, &[witness.observe(APP, "a", now())]);
        let (proxy, cosigners) = cosigning(&server);
        let user = User::new();
        user.write("trust", two_of_three(&server, &proxy.url));
        user.use_key(&witness);
        CosignedRelayFixture { proxy, cosigners, user, server }
    }

    /// Who cosigns from now on.
    fn cosigned_by(&self, cosigners: Vec<SimulatedCosigner>) {
        *self.cosigners.lock().unwrap() = cosigners;
    }

    fn verify(&self, more: &[&str]) -> CommandOutput {
        self.user.run(&[&["verify", &pinned(APP, "a")], more].concat())
    }
}

/// Refused for lack of cosignatures: no verdict, and nothing is remembered.
fn is_refused(ran: CommandOutput, words: &[&str]) {
    ran.exits(3).prints(words);
}

#[test]
fn k_of_n_are_enough_and_fewer_are_not() {
    let log = CosignedRelayFixture::new();
    let want = "2 of (ams, fra, lon)";
    for few in
        [vec![], vec![cosigner(1, 0)], vec![cosigner(3, 0)], vec![cosigner(7, 0), cosigner(8, 0), cosigner(1, 0)]]
    {
        log.cosigned_by(few);
        is_refused(log.verify(&[]), &[want]);
        is_refused(log.user.run(&["history", APP]), &[want]);
        assert_eq!(log.user.remembered(), Vec::<String>::new());
    }
    for enough in [
        vec![cosigner(1, 0), cosigner(2, 0)],
        vec![cosigner(1, 0), cosigner(3, 0)],
        vec![cosigner(3, 0), cosigner(2, 0), cosigner(9, 0)],
    ] {
        log.cosigned_by(enough);
        log.verify(&[]).exits(0).prints(&["cosigned by", "quorum as of"]);
    }
    log.user.run(&["history", APP]).exits(0).prints(&["cosigned by lon at", "cosigned by fra at"]);
    // What is remembered is what was cosigned.
    let remembered = SignedCheckpoint::parse(log.user.remembered()[0].as_bytes()).unwrap();
    assert!(cosigner(1, 0).key.key().cosigned(&remembered).unwrap().is_some());
    // One whose line is false does not count, and is named.
    log.cosigned_by(vec![cosigner(1, 0), SimulatedCosigner { lies: true, ..cosigner(2, 0) }]);
    is_refused(log.verify(&[]), &[want, "the lines of fra do not verify"]);
    log.cosigned_by(vec![cosigner(1, 0), SimulatedCosigner { lies: true, ..cosigner(2, 0) }, cosigner(3, 0)]);
    log.verify(&[]).exits(0).prints(&["a cosignature of fra does not verify"]);
}

#[test]
fn the_age_of_a_checkpoint_is_that_of_its_quorum() {
    let log = CosignedRelayFixture::new();
    // The third cosignature is recent, and a second one is needed.
    log.cosigned_by(vec![cosigner(1, -250), cosigner(2, -200), cosigner(3, 0)]);
    log.verify(&[]).exits(0);
    log.verify(&["--max-age", "150s"]).exits(1).prints(&["stale", "quorum of cosignatures is 20"]);
    log.verify(&["--max-age", "230s"]).exits(0);
    let answer = log.user.run_json(&["verify", &pinned(APP, "a")]).exits(0).json();
    let cosignatures = answer["logs"][0]["cosignatures"].as_array().unwrap();
    let names: Vec<&str> = cosignatures.iter().map(|row| row["cosigner"].as_str().unwrap()).collect();
    assert_eq!(names, ["ams", "fra", "lon"]);
    assert_eq!(answer["logs"][0]["freshAsOf"], cosignatures[1]["time"]);
    let age = answer["logs"][0]["ageSeconds"].as_i64().unwrap();
    assert!((200..230).contains(&age), "{age}");
    let history = log.user.run_json(&["history", APP]).exits(0).json();
    assert_eq!(history["log"]["cosignatures"].as_array().unwrap().len(), 3, "{history}");
    // Dated ahead of all clocks, it would stay fresh for ever.
    log.cosigned_by(vec![cosigner(1, 1000), cosigner(2, 1000)]);
    log.verify(&[]).exits(1).prints(&["stale", "in the future"]);
}

#[test]
fn a_seal_newer_than_the_cosignatures_is_refused() {
    let log = CosignedRelayFixture::new();
    log.cosigned_by(vec![cosigner(1, -900), cosigner(2, -400)]);
    for command in [&["verify", &pinned(APP, "a")][..], &["history", APP]] {
        is_refused(log.user.run(command), &["the log's seal is dated", "not trusted"]);
    }
    log.cosigned_by(vec![cosigner(1, -900), cosigner(2, -100)]);
    log.verify(&[]).exits(0);
}

#[test]
fn observe_refuses_a_receipt_without_a_quorum() {
    let log = CosignedRelayFixture::new();
    let digest = taglog_proto::name::Digest::sha256(b"b").to_string();
    let observe = ["observe", "registry.example/team/other:1.0", "--digest", &digest];
    log.cosigned_by(vec![cosigner(1, 0)]);
    is_refused(log.user.run(&observe), &["2 of (ams, fra, lon)", "according to the log"]);
    assert_eq!(log.user.remembered(), Vec::<String>::new());
    log.cosigned_by(vec![cosigner(1, 0), cosigner(3, 0)]);
    let answer = log.user.run_json(&observe).exits(0).json();
    assert_eq!(answer[0]["cosignatures"][1]["cosigner"], "lon", "{answer}");
    assert_eq!(log.user.remembered().len(), 1);
}

#[test]
fn saved_proofs_carry_the_cosignatures() {
    let log = CosignedRelayFixture::new();
    let file = log.user.argument("app.tagproof");
    log.cosigned_by(vec![cosigner(1, -100), cosigner(3, -50)]);
    log.verify(&["--save", &file]).exits(0);
    let offline = ["verify", "--offline", &file];
    log.user.run(&offline).exits(0).prints(&["cosigned by ams at", "cosigned by lon at", "quorum as of"]);
    log.user.run(&[&offline[..], &["--max-age", "60s"]].concat()).exits(1).prints(&["stale"]);
    log.user.run(&["inspect", &file]).exits(0).prints(&["verified under", "cosigned by lon at"]);
    // Without network, and without the cosigners' lines, it is worth nothing.
    let checkpoint = log.user.path("stripped.tagproof");
    let mut proof: Value = serde_json::from_str(&log.user.read("app.tagproof")).unwrap();
    let signed = SignedCheckpoint::parse(proof["checkpoint"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(signed.note().signatures.len(), 3);
    let stripped: Vec<String> = signed.to_string().lines().take(5).map(|line| format!("{line}\n")).collect();
    proof["checkpoint"] = stripped.concat().into();
    std::fs::write(&checkpoint, proof.to_string()).unwrap();
    let stripped = checkpoint.to_str().unwrap();
    is_refused(log.user.run(&["verify", "--offline", stripped]), &["2 of (ams, fra, lon)"]);
    log.user.run(&["inspect", stripped]).exits(4).prints(&["DOES NOT VERIFY", "2 of (ams, fra, lon)"]);
}

#[test]
fn init_asks_for_cosigners() {
    let log = CosignedRelayFixture::new();
    let user = User::new();
    let vkeys = [1, 2, 3].map(|number| cosigner(number, 0).key.key().to_string());
    let cosigners: Vec<&str> = vkeys.iter().flat_map(|vkey| ["--cosigner", vkey.as_str()]).collect();
    let init = [&["init", &log.proxy.url, "--yes", "--quorum", "2"], &cosigners[..]].concat();
    log.cosigned_by(vec![cosigner(2, 0)]);
    is_refused(user.run(&init), &["2 of (cosigner.example/1"]);
    assert!(!user.path("trust").exists());
    log.cosigned_by(vec![cosigner(2, 0), cosigner(3, 0)]);
    user.run(&init).exits(0).prints(&["Cosigners    2 of (cosigner.example/1"]);
    user.run(&["verify", &pinned(APP, "a")]).exits(0);
    // Who asks for cosigners is not talked out of it.
    user.run(&["init", &log.proxy.url, "--yes"]).exits(2).prints(&["--replace"]);
    log.cosigned_by(vec![]);
    is_refused(user.run(&["verify", &pinned(APP, "a")]), &["2 of (cosigner.example/1"]);
}

#[test]
fn keygen_makes_cosigner_keys() {
    let user = User::new();
    for (more, algorithm) in [(&[][..], Algorithm::Ed25519), (&["--ml-dsa"], Algorithm::MlDsa44)] {
        let file = user.argument(&format!("{algorithm:?}.key"));
        let keygen = [&["keygen", "--cosigner", "cosigner.example/a", "--key", &file], more].concat();
        let vkey = user.run(&keygen).exits(0).stdout;
        let key: CosignerSigningKey = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert_eq!((key.key().to_string(), key.key().algorithm()), (vkey.trim().to_owned(), algorithm));
        user.run(&keygen).exits(2).has_empty_stdout();
    }
    user.run(&["keygen", "--ml-dsa", "witness.example/a"]).exits(2);
    user.run(&["keygen"]).exits(2);
}

/// The agent keeps an entry until its receipt has the quorum.
#[test]
fn the_witness_agent_waits_for_the_quorum() {
    let mut fixture = AgentFixture::new();
    let (proxy, cosigners) = cosigning(&fixture.server);
    fixture.agent.write("trust", &two_of_three(&fixture.server, &proxy.url));
    *cosigners.lock().unwrap() = vec![cosigner(1, 0)];
    fixture.configure(&[("publish-deadline", "\"1s\"")], &[]);
    fixture.start();
    // The log has them, which is not enough.
    fixture.wait_healthy_logged(&["one"]);
    let status = fixture.agent.wait_until("the alarm", |status| status.alarms().contains(&"unpublished"));
    assert_eq!(pending(&status, &fixture.server), 2, "let go before the quorum: {status:?}");
    assert!(status.log(&fixture.server.vkey).to_string().contains("2 of (ams, fra, lon)"), "{status:?}");
    *cosigners.lock().unwrap() = vec![cosigner(1, 0), cosigner(3, 0)];
    let server = &fixture.server;
    fixture.agent.wait_until("delivery", |status| pending(status, server) == 0);
    assert_eq!(fixture.logged(HEALTHY).len(), 1, "no second entry was made of it");
}

/// An audit does not even begin under a checkpoint that lacks the quorum.
#[test]
fn audit_accepts_two_of_three_cosignatures() {
    let log = CosignedRelayFixture::new();
    log.cosigned_by(vec![cosigner(1, 0)]);
    log.user
        .run(&["audit"])
        .exits(3)
        .has_empty_stdout()
        .prints(&["not trusted", "want 2 of (ams, fra, lon); cosigned by ams"]);
    assert!(log.user.remembered().is_empty());
    log.cosigned_by(vec![cosigner(1, 0), cosigner(3, 0)]);
    let audited = log.user.run_json(&["audit"]).exits(0).json();
    assert_eq!(audited["counts"]["observations"], 1, "{audited}");
}

/// A copy's readers would not believe what too few have cosigned, so it replaces nothing.
#[test]
fn mirror_accepts_two_of_three_cosignatures() {
    let log = CosignedRelayFixture::new();
    let mirror = ["mirror", "--directory", "copy"];
    log.cosigned_by(vec![cosigner(1, 0)]);
    is_refused(log.user.run(&mirror), &["not trusted", "want 2 of (ams, fra, lon); cosigned by ams"]);
    assert!(!log.user.path("copy/checkpoint").exists() && !log.user.path("copy/tile").exists());
    log.cosigned_by(vec![cosigner(1, -50), cosigner(3, -40)]);
    log.user.run(&mirror).exits(0);
    let (good, copy) = (log.user.read("copy/checkpoint"), || log.user.read("copy/checkpoint"));
    // Cosignatures that are older, gone or false are no news of the same checkpoint; newer ones are.
    for worse in [
        vec![cosigner(1, -500), cosigner(3, -500)],
        vec![cosigner(1, 0), cosigner(3, -500)],
        vec![cosigner(1, 0), cosigner(2, 0)],
        vec![cosigner(1, 0), cosigner(2, 0), SimulatedCosigner { lies: true, ..cosigner(3, 0) }],
    ] {
        log.cosigned_by(worse);
        log.user.run(&mirror).exits(0);
        assert_eq!(copy(), good);
    }
    log.cosigned_by(vec![cosigner(1, 0), cosigner(2, 0), cosigner(3, 0)]);
    log.user.run(&mirror).exits(0);
    let better = copy();
    assert_ne!(better, good);
    // What is new counts only with the quorum; the copy stays whole and trusted.
    add(&log.server, &[Witness::new(1).observe(APP, "b", now())]);
    log.cosigned_by(vec![cosigner(3, 0)]);
    is_refused(log.user.run(&mirror), &["cosigned by lon"]);
    assert_eq!(copy(), better);
    log.user.run(&["mirror", "--directory", "copy", "--check"]).exits(0);
    // Whoever asks for more than those who made the copy is told so.
    let strict = log.user.read("trust").replace("group two 2", "group two all");
    log.user.write(
        "strict",
        strict
            .replace("witness lon", &format!("witness ber {}\nwitness lon", cosigner(4, 0).key.key()))
            .replace("ams fra lon", "ams fra lon ber"),
    );
    is_refused(log.user.run(&["mirror", "--directory", "copy", "--check", "--trust", "strict"]), &["ber"]);
    log.cosigned_by(vec![cosigner(1, 0), cosigner(2, 0)]);
    log.user.run(&mirror).exits(0);
    assert_ne!(copy(), better);
}

/// Two histories prove misbehaviour, however few cosigners signed either; the missing quorum is reported as well.
#[test]
fn views_are_compared_whichever_cosigners_signed_them() {
    let log = CosignedRelayFixture::new();
    log.cosigned_by(vec![cosigner(1, 0), cosigner(2, 0)]);
    log.user.run(&["mirror", "--directory", "copy"]).exits(0);
    let compare = ["evidence", "compare", "--with", "copy"];
    log.user.run(&compare).exits(0);
    log.cosigned_by(vec![cosigner(1, 0)]);
    is_refused(log.user.run(&compare), &["same", "2 of (ams, fra, lon)"]);
    assert!(log.user.evidence().is_empty());
    let twin = taglog_tests::cli_fixture::with_same_key(&log.server, &[&Witness::new(1)]).start();
    add(&twin, &[Witness::new(1).observe(APP, "evil", now())]);
    log.user.run(&[&compare[..], &["--log", &twin.url]].concat()).exits(4).prints(&["THE LOG MISBEHAVES"]);
    log.user.run(&["mirror", &twin.url, "--directory", "copy"]).exits(4).prints(&["THE LOG MISBEHAVES"]);
    assert_eq!(log.user.evidence().len(), 1);
}
