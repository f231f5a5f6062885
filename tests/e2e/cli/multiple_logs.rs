//! A trust file that names several logs: each is asked, none is mixed with another, and the most severe verdict wins.
//! Real logs, a real registry.

use std::sync::{Arc, Mutex};

use crate::output::schemas::{check_json, check_junit, check_sarif};
use serde_json::Value;
use taglog_proto::{entry::Seen, name::Digest, note::VerifierKey};
use taglog_tests::cli_fixture::{CommandOutput, User, add, pinned, proxy::Proxy};
use taglog_tests::{
    DataDirectory, DishonestLog, Registry, Server, Witness,
    dishonest::attack::{self, APP},
    hostile_registry::{HostileRegistry, ManifestResponse, manifest_digest},
    push_image,
    server::ORIGIN as FIRST,
    witness::{digest, now},
};

const DAY: i64 = 86_400;
const SECOND: &str = "log.example/second";
/// An image of an unreachable registry: its digest is given.
const FIXED: &str = "registry.example/team/fixed:1.0";

/// A running log of this origin that admits the witness.
fn log(origin: &str, witness: &Witness) -> Server {
    let data = DataDirectory::named(origin, &[]);
    data.configure(&[witness], "");
    data.start()
}

fn trust(user: &User, logs: &[(&VerifierKey, &str)]) {
    let lines: String = logs.iter().map(|(vkey, url)| format!("log {vkey} {url}\n")).collect();
    user.write("trust", format!("{lines}quorum none\n"));
}

/// Two logs with one witness, and a user who trusts both.
struct TwoLogsFixture {
    user: User,
    first: Server,
    second: Server,
    witness: Witness,
}

impl TwoLogsFixture {
    fn new() -> TwoLogsFixture {
        let witness = Witness::new(1);
        let (first, second) = (log(FIRST, &witness), log(SECOND, &witness));
        let user = User::new();
        // What is by default.
        std::fs::remove_file(user.path("taglog.toml")).unwrap();
        trust(&user, &[(&first.vkey, &first.url), (&second.vkey, &second.url)]);
        TwoLogsFixture { user, first, second, witness }
    }

    /// The witness has told these logs what it saw so many days ago.
    fn saw(&self, logs: &[&Server], name: &str, digest: Digest, days: i64) {
        for log in logs {
            add(log, &[self.witness.see(name, Seen::Digest(digest), now() - days * DAY)]);
        }
    }

    fn both(&self) -> [&Server; 2] {
        [&self.first, &self.second]
    }

    fn verify(&self, more: &[&str]) -> CommandOutput {
        self.user.run(&[&["verify"], more].concat())
    }

    /// The verdict on one image, and that of each log.
    fn verdicts(&self, arguments: &[&str], code: i32) -> (String, Vec<String>) {
        let answer = check_json(&self.user.run_json(&[&["verify"], arguments].concat()).exits(code).stdout);
        let image = &answer["images"][0];
        let verdict = |of: &Value| of["verdict"].as_str().unwrap().to_owned();
        (verdict(image), image["logs"].as_array().unwrap().iter().map(verdict).collect())
    }
}

#[test]
fn both_logs_agree() {
    let fixture = TwoLogsFixture::new();
    let registry = Registry::start();
    let app = format!("{}:1.0", registry.repository("team/app"));
    let served = push_image(&registry, "team/app", "1.0", "app");
    fixture.saw(&fixture.both(), &app, served, 3);
    fixture.verify(&[&app]).exits(0).prints(&["ok ", FIRST, SECOND]);
    assert_eq!(fixture.user.remembered().len(), 2, "each log's checkpoint is remembered");
    let printed = fixture.verify(&["--print-digest", &app]).exits(0).stdout;
    assert_eq!(printed, format!("{}@{served}\n", registry.repository("team/app")));

    let answer = check_json(&fixture.user.run_json(&["verify", &app]).exits(0).stdout);
    let origins = |of: &Value, key: &str| -> Vec<String> {
        of.as_array().unwrap().iter().map(|log| log[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(origins(&answer["logs"], "origin"), [FIRST, SECOND]);
    assert_eq!(origins(&answer["images"][0]["logs"], "log"), [FIRST, SECOND]);
    assert_eq!(answer["images"][0]["digest"], served.to_string());
    let reason = answer["images"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("{FIRST}: 1 witness vouches for it")), "{reason}");
    let alone = check_json(&fixture.user.run_json(&["verify", &app, "--log", SECOND]).exits(0).stdout);
    assert_eq!(origins(&alone["images"][0]["logs"], "log"), [SECOND]);
    assert!(alone["images"][0]["reason"].as_str().unwrap().starts_with("1 witness"), "{alone}");
}

#[test]
fn each_log_is_asked_once_and_each_registry_once() {
    let fixture = TwoLogsFixture::new();
    let registry = HostileRegistry::start();
    let images = ["team/a:1", "team/b:1"].map(|name| registry.set(name, ManifestResponse::serves(name)));
    for (image, content) in images.iter().zip(["team/a:1", "team/b:1"]) {
        fixture.saw(&fixture.both(), image, manifest_digest(content), 3);
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxies = fixture.both().map(|log| {
        let seen = Arc::clone(&asked);
        Proxy::asking(log, move |path, body| {
            seen.lock().unwrap().push(path.to_owned());
            body
        })
    });
    trust(&fixture.user, &[(&fixture.first.vkey, &proxies[0].url), (&fixture.second.vkey, &proxies[1].url)]);
    fixture.verify(&[&images[0], &images[1]]).exits(0);
    assert_eq!(*asked.lock().unwrap(), ["/api/v1/lookup"; 2]);
    for image in ["team/a:1", "team/b:1"] {
        assert_eq!(registry.polls(image), 1, "{image}");
    }
}

#[test]
fn a_retag_known_to_one_log_fails_in_every_format() {
    let fixture = TwoLogsFixture::new();
    let image = pinned(FIXED, "a");
    fixture.saw(&fixture.both(), FIXED, digest("a"), 4);
    fixture.verify(&[&image]).exits(0);
    fixture.saw(&[&fixture.second], FIXED, digest("evil"), 3);
    assert_eq!(fixture.verdicts(&[&image], 1), ("retagged".into(), vec!["ok".into(), "retagged".into()]));
    let reason = format!("{SECOND}: this tag has pointed to 2 different digests");
    let [good, bad] = [format!("in {FIRST}: ok"), format!("in {SECOND}: retagged")];
    fixture.verify(&[&image]).exits(1).prints(&["retagged", &reason, &good, &bad, &digest("evil").to_string()]);
    fixture.user.write("Dockerfile", format!("FROM {image}\n"));
    let report = |format: &str| fixture.verify(&["-f", "Dockerfile", "--output", format]).exits(1).stdout;
    let sarif = check_sarif(&report("sarif"));
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "taglog/retagged");
    assert!(result["message"]["text"].as_str().unwrap().contains(&reason), "{result}");
    let junit = report("junit");
    check_junit(&junit);
    assert!(junit.contains(&reason), "{junit}");
    let github = report("github");
    assert!(github.contains("::error file=Dockerfile,line=1,title=taglog%3A retagged::"), "{github}");
    assert!(github.contains(&reason) && github.contains(&bad), "{github}");
    fixture.verify(&["--print-digest", &image]).exits(1).has_empty_stdout();
    // A command about one log shows that log alone.
    fixture.verify(&["--log", FIRST, &image]).exits(0);
    fixture.verify(&["--log", &fixture.second.url, &image]).exits(1);
}

#[test]
fn a_log_without_the_tag_is_asked_for_one_page() {
    let fixture = TwoLogsFixture::new();
    let image = pinned(FIXED, "a");
    assert_eq!(fixture.verdicts(&[&image], 1), ("uncovered".into(), vec!["uncovered".into(); 2]));
    fixture.saw(&[&fixture.second], "registry.example/team/fixed:2.0", digest("other"), 3);
    assert_eq!(fixture.verdicts(&[&image], 1), ("unknown".into(), vec!["uncovered".into(), "unknown".into()]));
    fixture.saw(&[&fixture.first], FIXED, digest("a"), 3);
    assert_eq!(fixture.verdicts(&[&image], 0), ("ok".into(), vec!["ok".into(), "unknown".into()]));
    assert_eq!(fixture.verdicts(&[&pinned(FIXED, "evil")], 1).0, "mismatch");
    // What is seconds old in one log is new, however old it is in the other.
    fixture.saw(&[&fixture.second], FIXED, digest("a"), 0);
    assert_eq!(fixture.verdicts(&[&image], 0), ("new".into(), vec!["ok".into(), "new".into()]));
    assert_eq!(fixture.verdicts(&["--min-age", "1d", &image], 1).0, "new");
}

#[test]
fn an_unreachable_log_is_named() {
    let fixture = TwoLogsFixture::new();
    let image = pinned(FIXED, "a");
    fixture.saw(&fixture.both(), FIXED, digest("a"), 3);
    let TwoLogsFixture { user, first, second, .. } = fixture;
    drop(second.stop());
    user.run(&["verify", &image]).exits(3).has_empty_stdout().prints(&[SECOND, "cannot reach the log"]);
    user.write("Dockerfile", format!("FROM {FIXED}\n"));
    user.run(&["pin", "-f", "Dockerfile"]).exits(3).has_empty_stdout().prints(&[SECOND]);
    user.run(&["approve", &image, "--reason", "r"]).exits(3).has_empty_stdout().prints(&[SECOND]);
    user.run(&["verify", "--log", FIRST, &image]).exits(0);
    drop(first.stop());
    user.run(&["verify", &image]).exits(3).has_empty_stdout().prints(&[FIRST, SECOND]);
}

#[test]
fn a_missing_quorum_is_reported_for_each_log() {
    let fixture = TwoLogsFixture::new();
    fixture.saw(&fixture.both(), FIXED, digest("a"), 3);
    let key = taglog_proto::cosignature::CosignerSigningKey::from_seed(
        "cosigner.example/a",
        taglog_proto::cosignature::Algorithm::Ed25519,
        &[1; 32],
    );
    let cosigner = key.unwrap().key().to_string();
    let trust = fixture.user.read("trust").replace("quorum none", &format!("witness a {cosigner}\nquorum a"));
    fixture.user.write("trust", trust);
    for log in [FIRST, SECOND] {
        let ran = fixture.verify(&["--log", log, &pinned(FIXED, "a")]).exits(3).has_empty_stdout();
        ran.prints(&[&format!("log {log}: "), "too few cosigners"]);
    }
    fixture.verify(&[&pinned(FIXED, "a")]).exits(3).prints(&[FIRST, SECOND, "too few cosigners"]);
}

#[test]
fn misbehaviour_of_one_log_is_not_hidden_by_another() {
    let (one, liar) = (Witness::new(1), attack::begun());
    let honest = log(SECOND, &one);
    let user = User::new();
    trust(&user, &[(&honest.vkey, &honest.url), (liar.vkey(), &liar.url)]);
    add(&honest, &[one.observe(APP, "a", now() - 3 * DAY)]);
    liar.add(&[one.observe(APP, "a", now() - 600)]);
    let image = pinned(APP, "a");
    user.run(&["verify", &image]).exits(0);
    let remembered = user.remembered();
    roll_back(&liar);
    let caught = |code: i32| {
        let before = user.evidence().len();
        let ran = user.run(&["verify", &image]).exits(code);
        assert!(user.evidence().len() > before, "{ran:?}");
        ran.prints(&["misbehaved", &format!("THE LOG MISBEHAVES: {FIRST}: "), "shrunk", "kept in"])
    };
    caught(4);
    let answer = check_json(&user.run_json(&["verify", &image]).exits(4).stdout);
    assert_eq!(answer["misbehaviour"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!((&answer["logs"], &answer["images"][0]["logs"]), (&serde_json::json!([]), &serde_json::json!([])));
    user.run(&["verify", "--print-digest", &image]).exits(4).has_empty_stdout();
    let file = user.argument("none.tagproof");
    user.run(&["verify", "--save", &file, &image]).exits(4);
    assert!(!user.path("none.tagproof").exists(), "nothing was verified");
    user.run(&["approve", &image, "--reason", "r"]).exits(4).has_empty_stdout();
    for checkpoint in remembered.iter().filter(|text| text.starts_with(FIRST)) {
        assert!(user.remembered().contains(checkpoint), "what is remembered of it has moved");
    }
    user.run(&["verify", "--log", SECOND, &image]).exits(0);
    // Nor by one that is unreachable.
    drop(honest.stop());
    liar.add(&[one.observe(attack::OTHER, "instead", now() - 500)]);
    let ran = user.run(&["verify", &image]).exits(4);
    ran.prints(&["THE LOG MISBEHAVES"]);
}

/// The log removes its last batch.
fn roll_back(log: &DishonestLog) {
    log.roll_back(1);
}

#[test]
fn saved_proofs_need_every_log_of_the_trust_file() {
    let fixture = TwoLogsFixture::new();
    let file = fixture.user.argument("all.tagproof");
    fixture.saw(&fixture.both(), FIXED, digest("a"), 3);
    fixture.verify(&["--save", &file, &pinned(FIXED, "a")]).exits(0);
    let trusted = fixture.user.read("trust");
    let TwoLogsFixture { user, first, second, .. } = fixture;
    let (first, second) = (first.vkey.clone(), second.vkey.clone());
    let offline = |file: &str, more: &[&str]| user.run(&[&["verify", "--offline", file], more].concat());
    offline(&file, &[]).exits(0).prints(&["ok ", FIXED, FIRST, SECOND]);
    offline(&file, &[&pinned(FIXED, "evil")]).exits(1).prints(&["mismatch"]);
    offline(&file, &["--log", SECOND]).exits(0);
    user.run(&["inspect", &file]).exits(0).prints(&[&format!("verified under {FIRST}, {SECOND}")]);

    let lines: Vec<String> = user.read("all.tagproof").lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(lines.len(), 2, "a proof of each log");
    for (kept, missing) in [(&lines[0], SECOND), (&lines[1], FIRST)] {
        let one = user.write("one.tagproof", kept);
        offline(&one, &[FIXED]).exits(2).has_empty_stdout().prints(&[missing, "no proof"]);
        offline(&one, &[]).exits(2).has_empty_stdout();
        user.run(&["inspect", &one]).exits(0).prints(&["verified under"]);
    }
    let false_one = lines.concat().replacen(&digest("a").to_string(), &digest("evil").to_string(), 1);
    let false_one = user.write("false.tagproof", false_one);
    offline(&false_one, &[]).exits(4).prints(&["does not verify", FIRST]);
    // That another log's proof is missing does not hide it.
    let second_alone = lines[1].replacen(&digest("a").to_string(), &digest("evil").to_string(), 1);
    let second_alone = user.write("second.tagproof", second_alone);
    offline(&second_alone, &[]).exits(4).prints(&["does not verify", SECOND]);
    // Who trusts one of them needs one of them; who trusts a third one needs that too.
    trust(&user, &[(&second, "http://127.0.0.1:1")]);
    offline(&file, &[]).exits(0).prints(&[SECOND]);
    let third = taglog_proto::note::SigningKey::from_seed("log.example/third", &[3; 32]).unwrap();
    user.write("trust", format!("log {} http://127.0.0.1:1\n{trusted}", third.verifier_key()));
    offline(&file, &[]).exits(2).has_empty_stdout().prints(&["log.example/third"]);
    // One log's proof is never another's.
    let swapped =
        lines.concat().replace(FIRST, "log.example/x").replace(SECOND, FIRST).replace("log.example/x", SECOND);
    let swapped = user.write("swapped.tagproof", swapped);
    trust(&user, &[(&first, "http://127.0.0.1:1"), (&second, "http://127.0.0.1:1")]);
    offline(&swapped, &[]).exits(4).prints(&["does not verify"]);
}

/// Without a registry each log's history may lead to another digest, and each alone would pass.
#[test]
fn logs_with_different_newest_digests_give_none() {
    let fixture = TwoLogsFixture::new();
    let file = fixture.user.argument("each.tagproof");
    fixture.saw(&[&fixture.first], FIXED, digest("a"), 3);
    fixture.saw(&[&fixture.second], FIXED, digest("b"), 3);
    let moving = "registry.example/team/moving:latest";
    fixture.saw(&fixture.both(), moving, digest("a"), 4);
    fixture.saw(&[&fixture.second], moving, digest("b"), 3);
    fixture.verify(&["--save", &file, &pinned(FIXED, "a"), &pinned(moving, "a")]).exits(1);
    for log in [FIRST, SECOND] {
        fixture.verify(&["--offline", &file, "--log", log, FIXED, moving]).exits(0);
    }
    let offline = |image: &str| {
        fixture.verify(&["--offline", &file, "--print-digest", image]).exits(1).has_empty_stdout();
        fixture.verdicts(&["--offline", &file, image], 1).0
    };
    assert_eq!(offline(FIXED), "mismatch");
    assert_eq!(offline(moving), "behind");
    assert_eq!(offline(&pinned(moving, "b")), "mismatch", "the first log has not seen it");
}

#[test]
fn a_digest_has_settled_when_it_has_in_both_logs() {
    let fixture = TwoLogsFixture::new();
    let tool = "registry.example/team/tool:latest";
    let print = |more: &[&str]| fixture.verify(&[&["--print-digest", "--settled"], more, &[tool]].concat());
    let printed = |content: &str| format!("registry.example/team/tool@{}\n", digest(content));
    fixture.saw(&fixture.both(), tool, digest("a"), 9);
    fixture.saw(&fixture.both(), tool, digest("b"), 6);
    fixture.saw(&[&fixture.first], tool, digest("c"), 3);
    assert_eq!(print(&[]).exits(0).stdout, printed("b"), "the second log has not seen c");
    fixture.saw(&[&fixture.second], tool, digest("c"), 0);
    assert_eq!(print(&[]).exits(0).stdout, printed("b"), "where it is too young");
    assert_eq!(print(&["--min-age", "0s"]).exits(0).stdout, printed("c"));
    print(&["--min-age", "30d"]).exits(1).has_empty_stdout();
    let other = "registry.example/team/fixed:1.0";
    fixture.saw(&[&fixture.first], other, digest("a"), 3);
    fixture.saw(&[&fixture.second], other, digest("b"), 3);
    let ran = fixture.verify(&["--print-digest", "--settled", other]).exits(1).has_empty_stdout();
    ran.prints(&["mismatch", &format!("{SECOND}: no witness has seen {}", digest("a"))]);
}

#[test]
fn only_digests_that_pass_in_both_logs_are_pinned() {
    let fixture = TwoLogsFixture::new();
    let registry = Registry::start();
    let name = |tag: &str| format!("{}:{tag}", registry.repository("team/app"));
    let push = |tag: &str, content: &str| push_image(&registry, "team/app", tag, content);
    let (app, latest) = (name("1.0"), name("latest"));
    let (fixed, old) = (push("1.0", "app"), push("latest", "old"));
    fixture.saw(&fixture.both(), &app, fixed, 6);
    fixture.saw(&fixture.both(), &latest, old, 6);
    fixture.user.write("Dockerfile", format!("FROM {app}\nFROM {latest}\n"));
    fixture.user.run(&["pin", "-f", "Dockerfile"]).exits(0).prints(&["pinned"]);
    let pinned = format!("FROM {app}@{fixed}\nFROM {latest}@{old}\n");
    assert_eq!(fixture.user.read("Dockerfile"), pinned);
    // A pin moves on once both have seen the new digest for long enough.
    let new = push("latest", "new");
    fixture.saw(&[&fixture.first], &latest, new, 3);
    fixture.user.run(&["pin", "--update", "-f", "Dockerfile"]).exits(0);
    assert_eq!(fixture.user.read("Dockerfile"), pinned);
    fixture.saw(&[&fixture.second], &latest, new, 3);
    fixture.user.run(&["pin", "--update", "-f", "Dockerfile"]).exits(0).prints(&["updated"]);
    assert_eq!(fixture.user.read("Dockerfile"), format!("FROM {app}@{fixed}\nFROM {latest}@{new}\n"));
    // One log knows of a move: the pin does not verify any more.
    fixture.saw(&[&fixture.second], &app, digest("evil"), 2);
    let check = fixture.user.run(&["pin", "--check", "-f", "Dockerfile"]).exits(1);
    check.prints(&["Dockerfile:1: refused: ", SECOND, "retagged"]);
}

#[test]
fn an_approval_covers_all_logs() {
    let fixture = TwoLogsFixture::new();
    let image = pinned(FIXED, "b");
    fixture.saw(&fixture.both(), FIXED, digest("a"), 4);
    fixture.saw(&[&fixture.second], FIXED, digest("b"), 3);
    fixture.verify(&[&image]).exits(1);
    let answer = fixture.user.run_json(&["approve", &image, "--reason", "looked"]).exits(0).json();
    let before: Vec<&str> =
        answer["before"].as_array().unwrap().iter().map(|log| log["verdict"].as_str().unwrap()).collect();
    assert_eq!(before, ["mismatch", "retagged"]);
    assert_eq!(fixture.verdicts(&[&image], 0), ("approved".into(), vec!["approved".into(); 2]));
    fixture.verify(&["--locked", &image]).exits(0);
    let unseen = pinned(FIXED, "typo");
    fixture.user.run(&["approve", &unseen, "--reason", "r"]).exits(1).prints(&["no trusted witness has sighted"]);
}

/// Indices of one log say nothing of another.
#[test]
fn a_compromised_key_counts_until_an_index_of_each_log() {
    let fixture = TwoLogsFixture::new();
    let image = pinned(FIXED, "a");
    fixture.saw(&fixture.both(), FIXED, digest("a"), 4);
    fixture.saw(&[&fixture.second], FIXED, digest("evil"), 3);
    let policy = |until: &str| {
        let id = fixture.witness.id();
        fixture.user.write("taglog.toml", format!("[witnesses]\ntrusted = [{{ id = '{id}', until = {until} }}]\n"));
    };
    policy("3");
    fixture.verify(&[&image]).exits(2).has_empty_stdout().prints(&["taglog.toml", "several logs", FIRST]);
    fixture.verify(&["--log", SECOND, &image]).exits(2).prints(&["several logs"]);
    let sightings = fixture.user.run_json(&["history", FIXED, "--log", SECOND]).exits(0).json();
    let evil = sightings["history"]["sightings"][1]["index"].as_u64().unwrap();
    policy(&format!("{{ '{FIRST}' = 1000, '{SECOND}' = {evil} }}"));
    assert_eq!(fixture.verdicts(&[&image], 0), ("ok".into(), vec!["ok".into(), "ok".into()]));
    fixture.user.run(&["policy", "explain", FIXED]).exits(0).prints(&[&format!("until entry {evil} of {SECOND}")]);
    policy(&format!("{{ '{FIRST}' = 1000, '{SECOND}' = {} }}", evil + 1));
    assert_eq!(fixture.verdicts(&[&image], 1).0, "retagged");
    // Of what it said in a log that is not named, nothing counts.
    policy(&format!("{{ '{FIRST}' = 1000 }}"));
    assert_eq!(fixture.verdicts(&[&image], 0), ("ok".into(), vec!["ok".into(), "unknown".into()]));
}

#[test]
fn commands_about_one_log_require_its_name() {
    let fixture = TwoLogsFixture::new();
    fixture.user.use_key(&fixture.witness);
    fixture.saw(&[&fixture.second], FIXED, digest("a"), 3);
    let digest = digest("a").to_string();
    let commands: [&[&str]; 6] = [
        &["history", FIXED],
        &["observe", "--digest", &digest, "registry.example/team/observed:1.0"],
        &["audit"],
        &["search", &digest],
        &["mirror", "--directory", "copy"],
        &["evidence", "compare"],
    ];
    for command in commands {
        let (first, second) =
            (format!("{FIRST} ({})", fixture.first.url), format!("{SECOND} ({})", fixture.second.url));
        fixture.user.run(command).exits(2).has_empty_stdout().prints(&[
            "trust",
            "several logs",
            &first,
            &second,
            "--log",
        ]);
        let unknown = [command, &["--log", "log.example/third"]].concat();
        fixture.user.run(&unknown).exits(2).has_empty_stdout().prints(&["log.example/third", &second]);
    }
    for choice in [SECOND, &fixture.second.url, &format!("{}/", fixture.second.url)] {
        for command in commands {
            let ran = fixture.user.run(&[command, &["--log", choice]].concat());
            assert_eq!(ran.code, 0, "{ran:?}");
        }
    }
    fixture.user.run(&["history", FIXED, "--log", FIRST]).exits(1).prints(&["nothing is logged"]);
    // A checkpoint says of which log it is.
    for (log, origin) in [(&fixture.first, FIRST), (&fixture.second, SECOND)] {
        let checkpoint =
            fixture.user.write("checkpoint", taglog_tests::cli_fixture::wait(log.checkpoint()).to_string());
        fixture.user.run(&["inspect", &checkpoint]).exits(0).prints(&[&format!("verified under {origin}")]);
    }
}

#[test]
fn a_trust_file_is_extended_by_a_second_log() {
    let fixture = TwoLogsFixture::new();
    let (first, second) = (&fixture.first, &fixture.second);
    fixture.saw(&fixture.both(), FIXED, digest("a"), 3);
    fixture.user.write("trust", "");
    std::fs::remove_file(fixture.user.path("trust")).unwrap();
    let init = |more: &[&str]| fixture.user.run(&[&["init", "--yes"], more].concat());
    init(&[&second.url, "--also"]).exits(2).prints(&["trust"]);
    init(&[&first.url]).exits(0);
    init(&[&second.url]).exits(2).prints(&["--also"]);
    let before = format!("# ours\n{}", fixture.user.read("trust"));
    fixture.user.write("trust", &before);
    init(&[&second.url, "--also", "--vkey", &first.vkey.to_string()]).exits(4);
    assert_eq!(fixture.user.read("trust"), before);
    init(&[&second.url, "--also"]).exits(0).prints(&[SECOND]);
    assert_eq!(fixture.user.read("trust"), format!("{before}log {} {}\n", second.vkey, second.url));
    fixture.verify(&[&pinned(FIXED, "a")]).exits(0).prints(&[FIRST, SECOND]);
    init(&[&second.url, "--also"]).exits(2).prints(&["second log"]);
    // What names two logs is not replaced by one by accident.
    init(&[&first.url]).exits(2).prints(&["--replace"]);
    init(&[&first.url, "--replace"]).exits(0);
    assert!(!fixture.user.read("trust").contains(SECOND));
}
