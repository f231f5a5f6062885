//! `taglog.toml`, `taglog.lock`, `taglog policy` and `taglog approve`, on a real log; no registry is asked.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use cli_common::{APP, Ran, User, add, pinned};
use serde_json::{Value, json};
use taglog_tests::{
    Data, Server, Witness,
    witness::{digest, now},
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A log that three witnesses report to, and somebody who trusts it and has no policy yet.
struct Scene {
    witnesses: [Witness; 3],
    server: Server,
    user: User,
}

impl Scene {
    fn new() -> Scene {
        let witnesses = [1, 2, 3].map(Witness::new);
        let server = Server::start(&witnesses.each_ref(), "");
        let user = User::trusting(&server);
        user.write("taglog.toml", "");
        Scene { witnesses, server, user }
    }

    /// What witness number `witness` (0 to 2) saw so long ago, in seconds.
    fn saw(&self, witness: usize, name: &str, content: &str, ago: i64) {
        add(&self.server, &[self.witnesses[witness].observe(name, content, now() - ago)]);
    }

    fn policy(&self, text: &str) {
        self.user.write("taglog.toml", text);
    }

    /// The answer for one image, and the exit code that goes with it.
    fn verify(&self, image: &str) -> (Value, i32) {
        let ran = self.user.run_json(&["verify", image]);
        (ran.json()["images"][0].clone(), ran.code)
    }

    /// Checks verdict and exit code.
    fn expect(&self, image: &str, verdict: &str, code: i32) -> Value {
        let (answer, exit) = self.verify(image);
        assert_eq!((&answer["verdict"], exit), (&json!(verdict), code), "{image}: {answer}");
        answer
    }

    fn approve(&self, more: &[&str]) -> Ran {
        self.user.run(&[&["approve"], more].concat())
    }
}

#[test]
fn a_digest_without_history_warns_unless_policy_asks_for_an_age() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 12 * 60);
    let image = pinned(APP, "a");
    let answer = scene.expect(&image, "new", 0);
    assert_eq!((&answer["passes"], &answer["warning"]), (&json!(true), &json!(true)), "{answer}");
    scene.user.run(&["verify", &image]).exits(0).says(&["new", "first seen 12 min ago"]);
    scene.user.run(&["verify", "--print-digest", &image]).exits(0).says(&[&format!("app@{}", digest("a"))]);
    scene.policy("[[rule]]\nrepositories = ['registry.example/team/*']\nmin-age = '10m'\n");
    scene.expect(&image, "ok", 0);
    scene.policy("[[rule]]\nrepositories = ['registry.example/team/*']\nmin-age = '1h'\n");
    scene.expect(&image, "new", 1);
    scene.user.run(&["verify", &image]).exits(1).says(&["new", "policy asks for"]);
    // Nobody is asked for an age: by another rule, by no file, by the command line.
    scene.policy("[[rule]]\nrepositories = ['registry.example/other/*']\nmin-age = '1h'\n");
    scene.expect(&image, "new", 0);
    let none = scene.user.run_json(&["verify", &image, "--policy", "none", "--min-age", "1h"]).exits(1).json();
    assert_eq!(none["images"][0]["verdict"], "new");
}

#[test]
fn how_many_witnesses_must_agree_for_how_long() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 5 * DAY);
    scene.saw(1, APP, "a", 2 * DAY);
    let image = pinned(APP, "a");
    let rule = |agree: usize, age: &str| {
        scene.policy(&format!("[witnesses]\nagree = {agree}\n[[rule]]\nrepositories = ['**']\nmin-age = '{age}'\n"));
    };
    rule(1, "3d");
    scene.expect(&image, "ok", 0);
    rule(2, "3d");
    scene.expect(&image, "new", 1);
    rule(2, "1d");
    scene.expect(&image, "ok", 0);
    rule(3, "1d");
    scene.expect(&image, "new", 1);
}

#[test]
fn a_lone_dissenter_disputes_and_policy_can_count_it_out() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 5 * DAY);
    scene.saw(1, APP, "a", 5 * DAY);
    scene.saw(2, APP, "a", 5 * DAY);
    scene.saw(2, APP, "odd", 4 * DAY);
    let image = pinned(APP, "a");
    scene.expect(&image, "disputed", 1);
    scene.expect(&pinned(APP, "odd"), "retagged", 1);
    let [one, two, three] = scene.witnesses.each_ref().map(|witness| witness.id().to_string());
    scene.policy(&format!("[witnesses]\ntrusted = ['{one}', '{two}']\n"));
    let answer = scene.expect(&image, "ok", 0);
    assert!(answer["notes"].to_string().contains("whose word policy does not count"), "{answer}");
    // The key of the third was stolen: what it says from the odd entry on does not count.
    let history = scene.user.run_json(&["history", APP]).exits(0).json();
    let sightings = history["history"]["sightings"].as_array().unwrap();
    let odd =
        sightings.iter().find(|row| row["digest"] == digest("odd").to_string()).unwrap()["index"].as_u64().unwrap();
    let until = |index: u64| {
        scene.policy(&format!(
            "[witnesses]\nagree = 3\ntrusted = ['{one}', '{two}', {{ id = '{three}', until = {index} }}]\n"
        ));
    };
    until(odd);
    scene.expect(&image, "ok", 0);
    until(odd + 1);
    scene.expect(&image, "disputed", 1);
}

#[test]
fn what_a_tag_is_expected_to_do() {
    let scene = Scene::new();
    for (content, ago) in [("a", 5 * DAY), ("b", 4 * DAY)] {
        scene.saw(0, APP, content, ago);
    }
    let (old, new) = (pinned(APP, "a"), pinned(APP, "b"));
    scene.expect(&new, "retagged", 1);
    scene.policy("[[rule]]\nrepositories = ['registry.example/**']\ntags = ['1.*']\nexpect = 'moving'\n");
    scene.expect(&new, "moving", 0);
    scene.expect(&old, "behind", 1);
    scene.policy("[[rule]]\nrepositories = ['registry.example/**']\nexpect = 'immutable'\n");
    let answer = scene.expect(&new, "retagged", 1);
    assert!(answer["reason"].as_str().unwrap().contains("expected never to move"), "{answer}");
}

#[test]
fn shipped_profiles_speak_where_no_rule_does() {
    let scene = Scene::new();
    let (series, full) = ("docker.io/library/busybox:1.36", "docker.io/library/busybox:1.36.1");
    for name in [series, full] {
        scene.saw(0, name, "a", 5 * DAY);
        scene.saw(0, name, "b", 4 * DAY);
    }
    scene.expect(&pinned("busybox:1.36", "b"), "moving", 0);
    scene.policy("profiles = false\n");
    scene.expect(&pinned("busybox:1.36", "b"), "retagged", 1);
}

#[test]
fn a_mirror_is_called_what_the_log_calls_it() {
    let scene = Scene::new();
    scene.saw(0, "docker.io/library/busybox:1.36.1", "a", 2 * DAY);
    let mirrored = pinned("corp.example/hub/busybox:1.36.1", "a");
    scene.expect(&mirrored, "uncovered", 1);
    scene.policy("[mirrors]\n'corp.example/hub/' = 'docker.io/'\n");
    scene.expect(&mirrored, "ok", 0);
    scene.expect(&pinned("corp.example/hub/busybox:1.36.1", "b"), "mismatch", 1);
    scene.user.run(&["policy", "explain", "corp.example/hub/busybox:1.36.1"]).exits(0).says(&[
        "in the log",
        "docker.io/library/busybox:1.36.1",
        "rebuilds",
        "https://github.com/docker-library/official-images",
    ]);
}

#[test]
fn what_is_ignored_passes_until_its_day() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 2 * DAY);
    let unlogged = pinned("registry.example/late/app:1.0", "x");
    let rule = |until: &str| {
        scene.policy(&format!(
            "[[rule]]\nrepositories = ['registry.example/late/*']\nignore = {{ reason = 'not logged yet', until = '{until}' }}\n"
        ));
    };
    scene.expect(&unlogged, "uncovered", 1);
    rule("2999-01-01");
    let ran = scene.user.run(&["verify", &unlogged, &pinned(APP, "a")]).exits(0);
    ran.says(&["uncovered", "ignored until 2999-01-01", "not logged yet"]);
    rule("2020-01-01");
    scene.user.run(&["verify", &unlogged]).exits(1).says(&["uncovered", "no longer ignored", "not logged yet"]);
}

/// The tag moves for a good reason; a person looks, and exactly that digest passes.
#[test]
fn a_person_looks_and_lets_one_digest_pass() {
    let scene = Scene::new();
    scene.policy("");
    for (content, ago) in [("a", 9 * DAY), ("good", 8 * DAY), ("evil", 7 * DAY)] {
        scene.saw(0, APP, content, ago);
    }
    add(&scene.server, &[scene.witnesses[0].confirm("registry.example/team/app", now() - HOUR)]);
    let (good, evil) = (pinned(APP, "good"), pinned(APP, "evil"));
    scene.expect(&good, "retagged", 1);

    // The command shows what the tag was, and writes one line beside the policy, wherever it is run.
    std::fs::create_dir(scene.user.path("deep")).unwrap();
    let approve = ["approve", &good, "--reason", "the hotfix, release notes read", "--by", "Ada"];
    let ran = scene.user.command(&approve).current_dir(scene.user.path("deep")).output().unwrap();
    let ran = Ran::of(&approve, ran).exits(0);
    let (first, lock) = (digest("a").to_string(), scene.user.argument("taglog.lock"));
    ran.says(&["retagged", &first, &digest("evil").to_string(), "approved", &lock]);
    let line = scene.user.read("taglog.lock").lines().find(|line| line.contains(APP)).unwrap().to_owned();
    for part in [&digest("good").to_string(), "by = \"Ada\"", "the hotfix, release notes read"] {
        assert!(line.contains(part), "{line}");
    }

    let answer = scene.expect(&good, "approved", 0);
    assert_eq!(answer["digest"], digest("good").to_string());
    assert!(answer["notes"][0].as_str().unwrap().contains("retagged"), "{answer}");
    scene.expect(&evil, "retagged", 1);
    scene.expect(&pinned(APP, "a"), "retagged", 1);
    scene.user.run(&["verify", "--print-digest", &good]).exits(0).says(&[&digest("good").to_string()]);
    scene.user.run(&["policy", "explain", APP]).exits(0).says(&["approved", "by Ada", "release notes read"]);

    // Approving it again changes the line; another digest adds one.
    scene.approve(&[&good, "--reason", "looked again"]).exits(0).says(&["was approved on", "release notes read"]);
    scene.approve(&[&pinned(APP, "a"), "--reason", "rolled back"]).exits(0);
    let text = scene.user.read("taglog.lock");
    assert_eq!(text.lines().filter(|line| line.contains(APP)).count(), 2, "{text}");
    assert!(text.contains("looked again") && !text.contains("hotfix"), "{text}");
    scene.expect(&pinned(APP, "a"), "approved", 0);
}

#[test]
fn what_no_witness_has_seen_is_not_approved_by_mistake() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 2 * DAY);
    let unseen = pinned(APP, "typo");
    scene.approve(&[&unseen, "--reason", "r"]).exits(1).says(&["no witness that counts has sighted", "--unseen"]);
    assert!(!scene.user.path("taglog.lock").exists());
    let refused = scene.user.run_json(&["approve", &unseen, "--reason", "r"]).exits(1).json();
    assert_eq!((&refused["approved"], &refused["digest"]), (&Value::Null, &json!(digest("typo").to_string())));
    // A witness whose word does not count is nobody.
    scene.policy(&format!("[witnesses]\ntrusted = ['{}']\n", scene.witnesses[1].id()));
    scene.approve(&[&pinned(APP, "a"), "--reason", "r"]).exits(1);
    scene.policy("");
    let answer = scene.user.run_json(&["approve", &unseen, "--reason", "r", "--unseen", "--log", "http://127.0.0.1:1"]);
    let answer = answer.exits(0).json();
    assert_eq!(
        (&answer["image"], &answer["approved"]["reason"], &answer["before"]),
        (&json!(APP), &json!("r"), &json!([]))
    );
    scene.expect(&unseen, "approved", 0);

    for (arguments, says) in [
        (&[APP, "--reason", "r"][..], "name the digest too"),
        (&[&unseen, "--reason", " "], "a reason is wanted"),
        (&[&unseen, "--reason", "a\nb"], "one line"),
        (&[&unseen], "--reason"),
    ] {
        scene.approve(arguments).exits(2).says(&[says]);
    }
    let before = scene.user.read("taglog.lock");
    scene.approve(&[&unseen, "--reason", "r", "--log", "http://127.0.0.1:1"]).exits(3).says(&["cannot reach the log"]);
    scene.user.write("taglog.lock", "version = 2\n");
    scene.approve(&[&unseen, "--reason", "r", "--unseen"]).exits(2).says(&["taglog.lock", "upgrade"]);
    scene.user.run(&["verify", &unseen]).exits(2).says(&["taglog.lock", "upgrade"]);
    assert_eq!(scene.user.read("taglog.lock"), "version = 2\n");
    scene.user.write("taglog.lock", before);
    scene.expect(&unseen, "approved", 0);
}

/// Nothing is written on the word of a log that is not the trusted one.
#[test]
fn what_a_false_log_shows_is_not_approved() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 2 * DAY);
    scene.user.trust(&Data::init().vkey, &scene.server.url);
    scene.approve(&[&pinned(APP, "a"), "--reason", "r"]).exits(4).prints_nothing().says(&["THE LOG MISBEHAVES"]);
    assert!(!scene.user.path("taglog.lock").exists());
}

#[test]
fn an_approval_mends_nothing_but_which_digest_it_is() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 20 * DAY);
    let stale = pinned(APP, "a");
    scene.approve(&[&stale, "--reason", "r"]).exits(0).says(&["stale"]);
    scene.expect(&stale, "stale", 1);
    let unknown = pinned("registry.example/team/app:9", "a");
    scene.approve(&[&unknown, "--reason", "r", "--unseen"]).exits(0);
    scene.expect(&unknown, "unknown", 1);
}

#[test]
fn the_policy_names_the_trust_file() {
    let scene = Scene::new();
    scene.saw(0, APP, "a", 2 * DAY);
    std::fs::create_dir(scene.user.path("keys")).unwrap();
    std::fs::rename(scene.user.path("trust"), scene.user.path("keys/log")).unwrap();
    scene.policy("trust = 'keys/log'\n");
    let image = pinned(APP, "a");
    let run = |arguments: &[&str]| {
        let mut command = scene.user.command(arguments);
        Ran::of(arguments, command.env_remove("TAGLOG_TRUST").output().unwrap())
    };
    run(&["verify", &image]).exits(0).says(&["ok"]);
    run(&["approve", &image, "--reason", "r"]).exits(0);
    run(&["policy", "check"]).exits(0);
    run(&["audit"]).exits(0);
    run(&["search", &digest("a").to_string()]).exits(0).says(&[APP]);
    scene.user.run(&["verify", &image]).exits(2).says(&[&scene.user.argument("trust")]);
    scene.policy("trust = 'keys/other'\n");
    run(&["verify", &image]).exits(2).says(&["keys/other"]);
    run(&["policy", "check"]).exits(2).says(&["keys/other"]);
}

/// An audit tells of every retagged tag what `verify` would say of it, by what the log alone can tell.
#[test]
fn an_audit_judges_retagged_tags_by_policy() {
    let scene = Scene::new();
    let image = |tag: &str| format!("registry.example/team/app:{tag}");
    for (tag, saw) in [
        ("once", &[(0, "a", 9), (1, "a", 9), (2, "a", 9)][..]),
        ("moved", &[(0, "a", 9), (0, "b", 8)]),
        ("let-move", &[(0, "a", 9), (0, "b", 8)]),
        ("approved", &[(0, "a", 9), (0, "b", 8)]),
        ("approved-before", &[(0, "a", 9), (0, "b", 8)]),
        ("rolled-back", &[(0, "a", 9), (0, "b", 8), (0, "a", 7)]),
        ("alone", &[(0, "a", 9), (1, "a", 9), (2, "a", 9), (2, "b", 8)]),
        ("gone-and-back", &[(0, "a", 9), (0, "b", 8), (1, "b", 7)]),
    ] {
        for (witness, content, days) in saw {
            scene.saw(*witness, &image(tag), content, days * DAY);
        }
    }
    let confirmed =
        scene.witnesses.each_ref().map(|witness| witness.confirm("registry.example/team/app", now() - HOUR));
    add(&scene.server, &confirmed);
    for (tag, content) in [("approved", "b"), ("approved-before", "a"), ("rolled-back", "a")] {
        scene.approve(&[&pinned(&image(tag), content), "--reason", "r", "--unseen"]).exits(0);
    }
    let rule = "[[rule]]\nrepositories = ['registry.example/team/*']\ntags = ['let-*']\nexpect = 'moving'\n";
    scene.policy(rule);
    let verdicts = |report: &Value| {
        let retagged = report["retagged"].as_array().unwrap();
        let mut verdicts: Vec<(String, String, bool)> = retagged
            .iter()
            .map(|tag| {
                let text = |key: &str| tag[key].as_str().unwrap().to_owned();
                let name = text("image").rsplit(':').next().unwrap().to_owned();
                (name, text("verdict"), tag["passes"].as_bool().unwrap())
            })
            .collect();
        verdicts.sort();
        verdicts
    };
    let expected = |rows: &[(&str, &str, bool)]| -> Vec<(String, String, bool)> {
        rows.iter().map(|(tag, verdict, passes)| ((*tag).to_owned(), (*verdict).to_owned(), *passes)).collect()
    };
    let report = scene.user.run_json(&["audit"]).exits(0).json();
    let rows = [
        ("alone", "disputed", false),
        ("approved", "approved", true),
        ("approved-before", "retagged", false),
        ("gone-and-back", "retagged", false),
        ("let-move", "moving", true),
        ("moved", "retagged", false),
        ("rolled-back", "approved", true),
    ];
    assert_eq!(verdicts(&report), expected(&rows), "{report}");
    assert_eq!(report["retaggedByVerdict"], json!({ "approved": 2, "disputed": 1, "moving": 1, "retagged": 3 }));
    assert_eq!(report["policy"], scene.user.argument("taglog.toml"));
    // It is what verify says of the newest digest, but for the one that stands alone: nobody asks the registry.
    for (tag, verdict, passes) in rows.iter().filter(|(tag, ..)| *tag != "alone") {
        let newest = if *tag == "rolled-back" { "a" } else { "b" };
        scene.expect(&pinned(&image(tag), newest), verdict, i32::from(!passes));
    }
    let ran = scene.user.run(&["audit"]).exits(0);
    ran.says(&["retagged   7: 2 approved, 1 disputed, 1 moving, 3 retagged", "may find some 'rebuilt'"]);
    let shown: Vec<&str> = scene
        .user
        .run(&["audit"])
        .stdout
        .lines()
        .filter_map(|line| {
            line.contains("app:")
                .then(|| line.split_whitespace().next())?
                .map(|verdict| rows.iter().map(|row| row.1).find(|known| *known == verdict).unwrap())
        })
        .collect();
    let first_that_passes = shown.iter().position(|verdict| matches!(*verdict, "approved" | "moving")).unwrap();
    assert!(shown.len() == 7 && first_that_passes == 4, "what does not pass comes first: {shown:?}");

    // Another policy, none, and one that leaves out whose word made the tag a retagged one.
    let other = scene.user.write(
        "other.toml",
        "[[rule]]\nrepositories = ['**']\nignore = { reason = 'not yet ours', until = '2999-01-01' }\n",
    );
    let ignored = scene.user.run_json(&["audit", "--policy", &other]).exits(0).json();
    assert_eq!(ignored["retagged"][0]["ignored"]["reason"], "not yet ours", "{ignored}");
    scene.user.run(&["audit", "--policy", &other]).exits(0).says(&["ignored until 2999-01-01", "not yet ours"]);
    let none = scene.user.run_json(&["audit", "--policy", "none"]).exits(0).json();
    assert_eq!((&none["policy"], &none["retaggedByVerdict"]["moving"]), (&Value::Null, &Value::Null), "{none}");
    let [one, two, three] = scene.witnesses.each_ref().map(|witness| witness.id().to_string());
    scene.policy(&format!("[witnesses]\ntrusted = ['{one}', '{two}']\n"));
    let report = scene.user.run_json(&["audit"]).exits(0).json();
    assert!(verdicts(&report).contains(&("alone".to_owned(), "ok".to_owned(), true)), "{report}");
    scene.policy(&format!("[witnesses]\ntrusted = ['{three}']\n"));
    let report = scene.user.run_json(&["audit"]).exits(0).json();
    assert!(verdicts(&report).contains(&("moved".to_owned(), "unknown".to_owned(), false)), "{report}");
    // A policy that cannot be read is no policy.
    scene.policy("[witnesses]\nagre = 2\n");
    scene.user.run(&["audit"]).exits(2).prints_nothing().says(&["taglog.toml", "unknown field `agre`"]);
}

#[test]
fn a_policy_is_checked() {
    let user = User::new();
    user.run(&["policy", "check"]).exits(0).says(&["taglog.toml: 1 rules, 0 approved digests"]);
    let file = user.write(
        "other.toml",
        "[[rule]]\nrepositories = ['**']\nexpect = 'moving'\n[[rule]]\nrepositories = ['a.example/b']\nexpect = 'immutable'\n",
    );
    user.run(&["policy", "check", &file]).exits(1).says(&["line 4: problem: this rule never decides anything"]);
    let answer = user.run_json(&["policy", "check", &file]).exits(1).json();
    assert_eq!((&answer["rules"], &answer["remarks"][0]["line"]), (&json!(2), &json!(4)));
    assert_eq!((&answer["remarks"][0]["gravity"], &answer["policy"]), (&json!("problem"), &json!(file)));
    user.write("taglog.lock", "nonsense");
    user.run(&["policy", "check"]).exits(2).says(&["taglog.lock"]);
    for (text, says) in [("[[rule]", "line 1"), ("[witnesses]\nagre = 2", "unknown field `agre`")] {
        user.write("taglog.toml", text);
        user.run(&["policy", "check"]).exits(2).prints_nothing().says(&["taglog.toml", says]);
        user.run(&["verify", &pinned(APP, "a")]).exits(2).prints_nothing().says(&["taglog.toml", says]);
    }
    std::fs::remove_file(user.path("taglog.toml")).unwrap();
    user.run(&["policy", "check"]).exits(2).says(&["there is no taglog.toml here"]);
    user.run(&["policy", "check", &user.argument("none")]).exits(2).says(&["none", "POLICY.md"]);
}

#[test]
fn witnesses_that_the_log_does_not_know_are_told() {
    let scene = Scene::new();
    let [one, two, _] = scene.witnesses.each_ref().map(|witness| witness.id().to_string());
    let (stranger, gone) = ("witness.example/typo+00000001", "witness.example/gone+00000002");
    scene.policy(&format!(
        "[witnesses]\nagree = 2\ntrusted = ['{one}', '{stranger}',\n  {{ id = '{gone}', until = 7 }}]\n\
         [[rule]]\nrepositories = ['a.example/**']\nagree = 1\n"
    ));
    let check = |more: &[&str]| scene.user.run(&[&["policy", "check"], more].concat());
    // Nobody is asked, and that is said.
    check(&[]).exits(0).says(&["3 witnesses (whether the log knows them, --online tells)"]);
    let offline = scene.user.run_json(&["policy", "check"]).exits(0).json();
    assert_eq!((&offline["trusted"], &offline["roster"]), (&json!(3), &Value::Null), "{offline}");
    let told = check(&["--online"]).exits(1).says(&[
        &format!("line 3: problem: {stranger} is not in the log's roster"),
        &format!("line 3: note: {gone} is not in the log's roster any more"),
        "line 2: problem: 2 witnesses are to agree, and only 1 of those that are trusted",
        "the log's roster has 3",
    ]);
    assert!(!told.stdout.contains(&one), "{told:?}");
    let online = scene.user.run_json(&["policy", "check", "--online"]).exits(1).json();
    assert_eq!((online["roster"].as_array().unwrap().len(), online["remarks"].as_array().unwrap().len()), (3, 3));
    scene.policy(&format!("[witnesses]\nagree = 2\ntrusted = ['{one}', '{two}']\n"));
    check(&["--online"]).exits(0).says(&["2 witnesses (the log's roster has 3)"]);
    // A log that is not the trusted one, and one that is not there.
    let other = Scene::new();
    check(&["--online", "--log", &other.server.url]).exits(3).prints_nothing().says(&["the trust file names"]);
    check(&["--online", "--log", "http://127.0.0.1:1"]).exits(3).prints_nothing().says(&["127.0.0.1:1"]);
}

#[test]
fn which_rule_applies_is_explained() {
    let user = User::new();
    user.write(
        "taglog.toml",
        "[[rule]]\nrepositories = ['registry.example/**']\nexpect = 'immutable'\nmin-age = '3d'\n",
    );
    let because = format!("expect immutable: {}:1", user.argument("taglog.toml"));
    user.run(&["policy", "explain", APP]).exits(0).says(&["immutable", "3d, a younger digest fails", &because]);
    let answer = user.run_json(&["policy", "explain", APP, "registry.k8s.io/pause:3.10"]).exits(0).json();
    let images = answer["images"].as_array().unwrap();
    let expect: Vec<&Value> = images.iter().map(|image| &image["expect"]).collect();
    assert_eq!(expect, ["immutable", "immutable"]);
    assert_eq!((&images[0]["minAgeSeconds"], &images[1]["minAgeSeconds"]), (&json!(3 * DAY), &Value::Null));
    assert!(images[1]["because"].to_string().contains("kubernetes-sigs/promo-tools"), "{answer}");
    // By environment, by option, and without any.
    let other = user.write("other.toml", "[[rule]]\nrepositories = ['**']\nexpect = 'moving'\n");
    user.run(&["policy", "explain", APP, "--policy", &other]).exits(0).says(&["expect moving"]);
    let run = |value: &str| {
        let arguments = ["policy", "explain", APP];
        Ran::of(&arguments, user.command(&arguments).env("TAGLOG_POLICY", value).output().unwrap())
    };
    run(&other).exits(0).says(&["expect moving"]);
    run("none").exits(0).says(&["expect unstated"]);
    user.run(&["policy", "explain", "a b"]).exits(2);
    user.run(&["policy", "explain"]).exits(2);
    for command in [&["policy"][..], &["policy", "check"], &["policy", "explain"], &["approve"]] {
        user.run(&[command, &["--help"]].concat()).exits(0).says(&["Usage: taglog"]);
    }
}
