//! The cosigner as c2sp.org/tlog-witness specifies it: one test for each requirement on a witness, with a real process,
//! and the invariants that must hold when that process is killed.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use taglog_proto::{
    add_checkpoint::{AddCheckpoint, SignSubtree, parse_signature_lines},
    checkpoint::SignedCheckpoint,
    evidence::Evidence,
    merkle::{Hash, empty_root, verify_consistency},
    note::SigningKey,
    subtree::{Subtree, subtree_proof},
};
use taglog_tests::{
    HttpResponse,
    cosigner_process::{CosignerProcess, GrowingLog, log_table},
    process::TIMEOUT,
    witness::now,
};

const ORIGIN: &str = "log.example/a";
const NAME: &str = "cosigner.example/a";

/// A cosigner of a log of this size, running.
fn started(size: u64) -> (CosignerProcess, GrowingLog) {
    let log = GrowingLog::new(ORIGIN, size);
    let mut cosigner = CosignerProcess::new(NAME, &[log.table()]);
    cosigner.start(&[]);
    (cosigner, log)
}

/// The checkpoint with the answer's cosignatures, all of which must be by the cosigner, now.
fn cosigned(cosigner: &CosignerProcess, signed: &SignedCheckpoint, answer: &HttpResponse) -> SignedCheckpoint {
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = parse_signature_lines(&answer.body).unwrap();
    assert_eq!(lines.len(), cosigner.keys.len(), "one line for each key");
    let signed = signed.with_signatures(lines);
    for key in &cosigner.keys {
        let time = key.cosigned(&signed).unwrap().expect("no cosignature").unix();
        assert!((now() - 60..=now()).contains(&time), "{time}");
    }
    signed
}

async fn add(cosigner: &CosignerProcess, log: &GrowingLog, old: u64) -> SignedCheckpoint {
    let answer = cosigner.post("add-checkpoint", log.request(old)).await;
    cosigned(cosigner, &log.checkpoint(), &answer)
}

async fn status_of(cosigner: &CosignerProcess, body: impl Into<String>) -> u16 {
    cosigner.post("add-checkpoint", body.into()).await.status
}

/// The note of a text, signed by a log's key.
fn note(key: &SigningKey, text: &str) -> String {
    format!("{text}\n{}", key.sign(text))
}

#[tokio::test]
async fn an_append_only_log_is_cosigned() {
    let (mut cosigner, mut log) = started(5);
    let mut old = 0;
    for size in [5, 6, 256, 300, 300] {
        log.grow_to(size, "honest");
        let signed = add(&cosigner, &log, old).await;
        assert_eq!(cosigner.latest(ORIGIN).await, signed, "the monitoring endpoint has what was returned");
        old = size;
    }
    assert_eq!(cosigner.stop().code(), Some(0));
}

#[tokio::test]
async fn the_request_must_be_a_post() {
    let (cosigner, _log) = started(5);
    assert_eq!(cosigner.get("/add-checkpoint").await.status, 405);
    assert_eq!(cosigner.get("/sign-subtree").await.status, 405);
    let hash = Hash::of(ORIGIN.as_bytes()).0.map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(cosigner.post(&format!("{hash}/checkpoint"), "").await.status, 405);
}

#[tokio::test]
async fn malformed_requests_are_400() {
    let (cosigner, mut log) = started(5);
    add(&cosigner, &log, 0).await;
    log.grow_to(9, "honest");
    let good = log.request(5);
    let hash = format!("{}\n", Hash::of(b"x"));
    for (what, bad) in [
        ("nothing", String::new()),
        ("no old line", good.replacen("old 5\n", "", 1)),
        ("a leading zero", good.replacen("old 5", "old 05", 1)),
        ("a sign", good.replacen("old 5", "old +5", 1)),
        ("two spaces", good.replacen("old 5", "old  5", 1)),
        ("no number", good.replacen("old 5", "old", 1)),
        ("carriage returns", good.replace('\n', "\r\n")),
        ("no hash", good.replacen("old 5\n", "old 5\nxxxx\n", 1)),
        ("a short hash", good.replacen("old 5\n", "old 5\nAAAA\n", 1)),
        ("64 proof lines", good.replacen("old 5\n", &format!("old 5\n{}", hash.repeat(64)), 1)),
        ("no empty line", good.replacen("\n\n", "\n", 1)),
        ("no checkpoint", "old 5\n\n".to_owned()),
        ("no signature", format!("old 5\n\n{}", log.checkpoint().note().text)),
        ("no last newline", good.trim_end().to_owned()),
        ("an old size above the checkpoint's", good.replacen("old 5", "old 10", 1)),
    ] {
        let answer = cosigner.post("add-checkpoint", bad).await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
    }
    assert_eq!(cosigner.post("add-checkpoint", vec![0xff; 100]).await.status, 400);
    let huge = format!("{good}{}", "x".repeat(700_000));
    assert_eq!(status_of(&cosigner, huge).await, 413);
    let longest = AddCheckpoint { old: 5, proof: vec![Hash::of(b"x"); 63], checkpoint: log.checkpoint() };
    assert_eq!(status_of(&cosigner, longest.to_string()).await, 422, "63 lines are well-formed");
    assert_eq!(status_of(&cosigner, good).await, 200, "and the good one is good");
}

#[tokio::test]
async fn an_unknown_origin_is_404() {
    let (cosigner, _log) = started(5);
    let other = GrowingLog::new("log.example/b", 5);
    assert_eq!(status_of(&cosigner, other.request(0)).await, 404);
}

#[tokio::test]
async fn signatures_by_unknown_keys_are_ignored() {
    let (cosigner, log) = started(5);
    let stranger = SigningKey::from_seed(ORIGIN, &[3; 32]).unwrap();
    let witness = SigningKey::from_seed("someone.example/x", &[4; 32]).unwrap();
    let text = log.checkpoint().note().text.clone();
    let mut false_one = witness.sign(&text);
    false_one.signature[0] ^= 1;
    let signed = log.checkpoint().with_signatures([stranger.sign(&text), false_one]);
    let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: signed };
    let answer = cosigner.post("add-checkpoint", request.to_string()).await;
    let signed = cosigned(&cosigner, &log.checkpoint(), &answer);
    assert_eq!(cosigner.latest(ORIGIN).await, signed, "what nobody has checked is not passed on");
}

#[tokio::test]
async fn a_checkpoint_that_is_not_the_logs_is_403() {
    let (cosigner, log) = started(5);
    let text = log.checkpoint().note().text.clone();
    let stranger = SigningKey::from_seed(ORIGIN, &[3; 32]).unwrap();
    assert_eq!(status_of(&cosigner, format!("old 0\n\n{}", note(&stranger, &text))).await, 403, "unknown key");
    let mut false_one = log.key.sign(&text);
    false_one.signature[0] ^= 1;
    let with_false = log.checkpoint().with_signatures([false_one.clone()]);
    let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: with_false };
    assert_eq!(status_of(&cosigner, request.to_string()).await, 403, "a good line beside a false one");
    assert_eq!(status_of(&cosigner, format!("old 0\n\n{text}\n{false_one}")).await, 403, "a false line alone");
    assert_eq!(status_of(&cosigner, log.request(0)).await, 200);
}

#[tokio::test]
async fn another_old_size_is_409_with_the_latest() {
    let (cosigner, mut log) = started(5);
    let conflict = |answer: &HttpResponse, size: &str| {
        assert_eq!((answer.status, answer.text().as_str()), (409, size), "{answer:?}");
        assert_eq!(answer.header("content-type"), "text/x.tlog.size");
    };
    conflict(&cosigner.post("add-checkpoint", log.request(3)).await, "0\n");
    add(&cosigner, &log, 0).await;
    log.grow_to(9, "honest");
    for old in [0, 4, 6, 9] {
        conflict(&cosigner.post("add-checkpoint", log.request(old)).await, "5\n");
    }
    let smaller = GrowingLog::new(ORIGIN, 4);
    conflict(&cosigner.post("add-checkpoint", smaller.request(4)).await, "5\n");
    add(&cosigner, &log, 5).await;
}

#[tokio::test]
async fn a_tree_without_leaves_has_one_root() {
    let (cosigner, log) = started(5);
    let empty = |root: Hash| format!("old 0\n\n{}", note(&log.key, &format!("{ORIGIN}\n0\n{root}\n")));
    assert_eq!(status_of(&cosigner, empty(Hash::of(b"x"))).await, 422);
    assert_eq!(status_of(&cosigner, empty(empty_root())).await, 200);
    assert_eq!(cosigner.latest(ORIGIN).await.unverified().size, 0);
    assert_eq!(status_of(&cosigner, log.request(0)).await, 200, "and it grows from there");
}

#[tokio::test]
async fn a_false_proof_is_422() {
    let (cosigner, mut log) = started(5);
    let with_proof = |log: &GrowingLog, old: u64, proof: Vec<Hash>| {
        AddCheckpoint { old, proof, checkpoint: log.checkpoint() }.to_string()
    };
    let first = with_proof(&log, 0, vec![Hash::of(b"x")]);
    assert_eq!(status_of(&cosigner, first).await, 422, "a proof from nothing");
    let signed = add(&cosigner, &log, 0).await;
    assert_eq!(status_of(&cosigner, with_proof(&log, 5, vec![Hash::of(b"x")])).await, 422, "a proof to the same size");
    log.grow_to(9, "honest");
    let good = log.proof(5);
    let mut changed = good.clone();
    changed[0].0[0] ^= 1;
    let longer = [good.clone(), vec![Hash::of(b"x")]].concat();
    for bad in [Vec::new(), good[1..].to_vec(), good[..good.len() - 1].to_vec(), changed, longer] {
        assert_eq!(status_of(&cosigner, with_proof(&log, 5, bad)).await, 422);
    }
    let mut fork = GrowingLog::new(ORIGIN, 4);
    fork.grow_to(9, "forged");
    assert_eq!(status_of(&cosigner, fork.request(5)).await, 422, "another history");
    assert_eq!(cosigner.latest(ORIGIN).await, signed, "nothing has changed");
}

#[tokio::test]
async fn two_roots_of_one_size_are_422_and_evidence() {
    let (cosigner, log) = started(5);
    let signed = add(&cosigner, &log, 0).await;
    let mut fork = GrowingLog::new(ORIGIN, 4);
    fork.grow_to(5, "forged");
    let request = AddCheckpoint { old: 5, proof: Vec::new(), checkpoint: fork.checkpoint() };
    assert_eq!(status_of(&cosigner, request.to_string()).await, 422);
    assert_eq!(cosigner.latest(ORIGIN).await, signed);
    let file = std::fs::read_dir(cosigner.path("state/evidence")).unwrap().next().unwrap().unwrap().path();
    let evidence = Evidence::from_json(&std::fs::read(file).unwrap()).unwrap();
    evidence.proves_misbehaviour(log.key.verifier_key()).expect("it proves misbehaviour");
}

#[tokio::test]
async fn extension_lines_are_cosigned() {
    let (cosigner, log) = started(5);
    let text = format!("{}more\nand more\n", log.checkpoint().note().text);
    let signed = SignedCheckpoint::parse_any(note(&log.key, &text).as_bytes()).unwrap();
    let answer = cosigner.post("add-checkpoint", format!("old 0\n\n{signed}")).await;
    cosigned(&cosigner, &signed, &answer);
}

#[tokio::test]
async fn a_log_with_an_ml_dsa_key_and_keys_that_change() {
    use taglog_proto::{
        cosignature::{Algorithm, CosignerSigningKey},
        time::Timestamp,
    };
    let log = GrowingLog::new(ORIGIN, 5);
    let next = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let ml_dsa = CosignerSigningKey::from_seed(ORIGIN, Algorithm::MlDsa44, &[7; 32]).unwrap();
    let vkeys = [log.key.verifier_key().to_string(), next.verifier_key().to_string(), ml_dsa.key().to_string()];
    let mut cosigner = CosignerProcess::new(NAME, &[log_table(&vkeys, "")]);
    cosigner.start(&[]);
    let line = ml_dsa.cosign(&log.checkpoint(), Timestamp::from_unix(now()).unwrap()).unwrap();
    let text = log.checkpoint().note().text.clone();
    assert_eq!(status_of(&cosigner, format!("old 0\n\n{text}\n{line}")).await, 200, "ML-DSA-44 alone");
    assert_eq!(status_of(&cosigner, format!("old 5\n\n{}", note(&next, &text))).await, 200, "the next key alone");
    let mut false_one = line.clone();
    false_one.signature[100] ^= 1;
    let both = log.checkpoint().with_signatures([false_one]);
    assert_eq!(status_of(&cosigner, format!("old 5\n\n{both}")).await, 403, "a false line of a known key");
}

#[tokio::test]
async fn what_was_never_cosigned_is_404_for_monitors() {
    let (cosigner, _log) = started(5);
    for origin in [ORIGIN, "log.example/b"] {
        let hash = Hash::of(origin.as_bytes()).0.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(cosigner.get(&format!("/{hash}/checkpoint")).await.status, 404);
    }
    assert_eq!(cosigner.get(&format!("/{ORIGIN}/checkpoint")).await.status, 404);
}

#[tokio::test]
async fn state_survives_a_restart_and_is_separate_for_each_log() {
    let (one, mut two) = (GrowingLog::new(ORIGIN, 5), GrowingLog::new("log.example/b", 7));
    let mut cosigner = CosignerProcess::new(NAME, &[one.table(), two.table()]);
    cosigner.start(&[]);
    let (first, second) = (add(&cosigner, &one, 0).await, add(&cosigner, &two, 0).await);
    cosigner.stop();
    cosigner.start(&[]);
    assert_eq!(cosigner.latest(ORIGIN).await, first);
    assert_eq!(cosigner.latest("log.example/b").await, second);
    two.grow_to(9, "honest");
    add(&cosigner, &two, 7).await;
    cosigner.stop();
    // A log that is not configured for a while does not begin anew.
    cosigner.configure("key = [\"ed25519.key\", \"ml-dsa.key\"]", &[one.table()]);
    cosigner.start(&[]);
    assert_eq!(status_of(&cosigner, two.request(9)).await, 404);
    cosigner.stop();
    cosigner.configure("key = [\"ed25519.key\", \"ml-dsa.key\"]", &[two.table()]);
    cosigner.start(&[]);
    assert_eq!(cosigner.post("add-checkpoint", two.request(0)).await.text(), "9\n");
}

#[tokio::test]
async fn of_racing_requests_only_one_wins() {
    let (cosigner, mut log) = started(5);
    add(&cosigner, &log, 0).await;
    let requests: Vec<(u64, String)> = (6..22)
        .map(|size| {
            log.grow_to(size, "honest");
            (size, log.request(5))
        })
        .collect();
    let asked = requests.iter().map(|(_, request)| cosigner.post("add-checkpoint", request.clone()));
    let answers = futures_util::future::join_all(asked).await;
    let won: Vec<u64> = requests.iter().zip(&answers).filter(|(_, a)| a.status == 200).map(|(r, _)| r.0).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, answer.text()), (409, format!("{}\n", won[0])));
    }
    assert_eq!(cosigner.latest(ORIGIN).await.unverified().size, won[0]);
}

#[tokio::test]
async fn subtrees_are_cosigned() {
    let (cosigner, mut log) = started(14);
    let signed = add(&cosigner, &log, 0).await;
    let subtree = Subtree::new(8, 13).unwrap();
    let hash = subtree.root(log.memory()).unwrap();
    let proof = subtree_proof(log.memory(), subtree, 14).unwrap();
    let good = SignSubtree { subtree, hash, proof, checkpoint: signed.clone() };
    let post = async |body: String| cosigner.post("sign-subtree", body).await;
    let answer = post(good.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = parse_signature_lines(&answer.body).unwrap();
    let [_, ml_dsa] = &cosigner.keys;
    assert_eq!(lines.len(), 1, "only ML-DSA-44 can cosign subtrees");
    ml_dsa.verify_subtree(ORIGIN, subtree, &hash, &lines[0]).expect("without a time, for this subtree");
    assert_eq!(lines[0].signature[..8], [0; 8], "the timestamp is zero");

    let text = good.to_string();
    for (what, bad) in [
        ("no range", text.replacen("subtree 8 13\n", "", 1)),
        ("a leading zero", text.replacen("subtree 8", "subtree 08", 1)),
        ("no subtree", text.replacen("subtree 8 13", "subtree 7 13", 1)),
        ("an empty one", text.replacen("subtree 8 13", "subtree 8 8", 1)),
        ("beyond the checkpoint", text.replacen("subtree 8 13", "subtree 8 15", 1)),
        ("no hash", text.replacen(&hash.to_string(), "x", 1)),
        ("no checkpoint", "subtree 8 13\n".to_owned()),
    ] {
        assert_eq!(post(bad).await.status, 400, "{what}");
    }
    let other = GrowingLog::new("log.example/b", 14).checkpoint();
    assert_eq!(post(SignSubtree { checkpoint: other, ..good.clone() }.to_string()).await.status, 404);
    let alone = SignSubtree { checkpoint: log.checkpoint(), ..good.clone() };
    assert_eq!(post(alone.to_string()).await.status, 403, "not cosigned");
    let mut lines = signed.note().signatures.clone();
    lines.last_mut().unwrap().signature[20] ^= 1;
    let false_one = log.checkpoint().with_signatures(lines);
    assert_eq!(post(SignSubtree { checkpoint: false_one, ..good.clone() }.to_string()).await.status, 403, "falsely");
    let wrong = SignSubtree { hash: Hash::of(b"x"), ..good.clone() };
    assert_eq!(post(wrong.to_string()).await.status, 422);
    let short = SignSubtree { proof: good.proof[1..].to_vec(), ..good.clone() };
    assert_eq!(post(short.to_string()).await.status, 422);

    // A checkpoint that is no longer the latest still vouches for its subtrees.
    log.grow_to(20, "honest");
    add(&cosigner, &log, 14).await;
    assert_eq!(post(good.to_string()).await.status, 200);
}

#[tokio::test]
async fn without_an_ml_dsa_key_there_are_no_subtrees() {
    let log = GrowingLog::new(ORIGIN, 5);
    let mut cosigner = CosignerProcess::new(NAME, &[log.table()]);
    cosigner.configure("key = \"ed25519.key\"", &[log.table()]);
    cosigner.start_with(1, &[]);
    assert_eq!(cosigner.post("sign-subtree", "").await.status, 404);
}

#[tokio::test]
async fn metrics_and_health() {
    let (cosigner, log) = started(5);
    add(&cosigner, &log, 0).await;
    assert_eq!(cosigner.get("/healthz").await.status, 200);
    let metrics = cosigner.get("/metrics").await.text();
    for want in [
        format!("taglog_cosigner_size{{origin=\"{ORIGIN}\"}} 5"),
        "taglog_cosigner_requests_total{call=\"add-checkpoint\",status=\"200\"} 1".to_owned(),
    ] {
        assert!(metrics.contains(&want), "{want}: {metrics}");
    }
}

#[tokio::test]
async fn a_state_directory_is_for_one_process() {
    let (cosigner, _log) = started(5);
    let (code, message) = cosigner.refusal(&[]);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("in use by another cosigner"), "{message}");
}

#[tokio::test]
async fn damaged_state_is_refused() {
    let (mut cosigner, log) = started(5);
    add(&cosigner, &log, 0).await;
    cosigner.stop();
    let file = cosigner.path("state/cosigner.sqlite");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..5000]).unwrap();
    let (code, message) = cosigner.refusal(&[]);
    assert!(code == Some(3) && message.contains("is damaged"), "{message}");
    std::fs::remove_file(&file).unwrap();
    let (code, message) = cosigner.refusal(&[]);
    assert!(code == Some(3) && message.contains("is gone"), "{message}");
    std::fs::write(&file, good).unwrap();
    cosigner.start(&[]);
    assert_eq!(cosigner.post("add-checkpoint", log.request(0)).await.text(), "5\n");
}

#[tokio::test]
async fn keygen_makes_keys_that_serve_accepts() {
    use std::process::Command;
    let home = tempfile::tempdir().unwrap();
    for (flag, file, kind) in [("--cosigner", "a.key", 2), ("--ml-dsa", "b.key", 1)] {
        let mut command = Command::new(taglog_tests::binary("taglog"));
        command.env_clear().env("HOME", home.path()).current_dir(home.path());
        command.args(["keygen", "--cosigner", NAME, "--key", file]);
        let output = if kind == 1 { command.arg(flag).output() } else { command.output() }.unwrap();
        assert!(output.status.success(), "{output:?}");
        let vkey: taglog_proto::cosignature::CosignerKey =
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let secret = std::fs::read_to_string(home.path().join(file)).unwrap();
        let secret: taglog_proto::cosignature::CosignerSigningKey = secret.trim().parse().unwrap();
        assert_eq!(secret.key(), &vkey);
    }
}

/// What it returned a cosignature for, it never takes back: not when it is killed at any moment.
#[tokio::test]
async fn state_never_goes_back_after_sigkill_at_random_moments() {
    let (mut cosigner, mut log) = started(1);
    // The largest size that a cosignature was returned for.
    let returned = AtomicU64::new(0);
    let deadline = Instant::now() + TIMEOUT;
    let mut rounds: u64 = 0;
    while rounds < 25 || (returned.load(SeqCst) <= 5 && Instant::now() < deadline) {
        rounds += 1;
        // A slow machine needs longer lives for anything to happen in them.
        let longer = 50 * rounds.saturating_sub(25);
        let life = Duration::from_millis(u64::from(std::process::id()) % 7 + 13 * rounds % 97 + longer);
        let client = async {
            let mut old = returned.load(SeqCst);
            loop {
                let Ok(answer) = cosigner.try_post("add-checkpoint", log.request(old)).await else { return };
                match answer.status {
                    200 => {
                        old = log.checkpoint().unverified().size;
                        returned.store(old, SeqCst);
                        log.grow_to(old + 1 + old % 5, "honest");
                    }
                    409 => {
                        let there: u64 = answer.text().trim().parse().unwrap();
                        assert!(there >= returned.load(SeqCst), "it went back to {there} from {returned:?}");
                        old = there;
                    }
                    other => panic!("{other}: {answer:?}"),
                }
            }
        };
        // The client is cut off in the middle of whatever it does, and then the cosigner is.
        let _ = tokio::time::timeout(life, client).await;
        cosigner.kill();
        cosigner.start(&[]);
        if returned.load(SeqCst) > 0 {
            let latest = cosigner.latest(ORIGIN).await;
            let latest = latest.unverified();
            assert!(latest.size >= returned.load(SeqCst), "{} after {returned:?}", latest.size);
            log.grow_to(latest.size, "honest");
            let (size, root) = (log.checkpoint().unverified().size, log.checkpoint().unverified().root);
            verify_consistency(latest.size, size, &log.proof(latest.size), &latest.root, &root).unwrap();
        }
    }
    assert!(returned.load(SeqCst) > 5, "it had no time to cosign: {returned:?}");
}
