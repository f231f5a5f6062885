//! `taglog.toml`, `taglog.lock`, `taglog policy` and `taglog approve`, on a real log; no registry is asked.

use serde_json::{Value, json};
use taglog_tests::cli_fixture::{APP, CommandOutput, User, add, pinned};
use taglog_tests::{
    DataDirectory, Server, Witness,
    witness::{digest, now},
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A log that three witnesses report to, and a user who trusts it and has no policy yet.
struct PolicyFixture {
    witnesses: [Witness; 3],
    server: Server,
    user: User,
}

impl PolicyFixture {
    fn new() -> PolicyFixture {
        let witnesses = [1, 2, 3].map(Witness::new);
        let server = Server::start(&witnesses.each_ref(), "");
        let user = User::trusting(&server);
        user.write("taglog.toml", "");
        PolicyFixture { witnesses, server, user }
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

    fn approve(&self, more: &[&str]) -> CommandOutput {
        self.user.run(&[&["approve"], more].concat())
    }
}

#[test]
fn a_digest_without_history_warns_unless_policy_asks_for_an_age() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 12 * 60);
    let image = pinned(APP, "a");
    let answer = fixture.expect(&image, "new", 0);
    assert_eq!((&answer["passes"], &answer["warning"]), (&json!(true), &json!(true)), "{answer}");
    fixture.user.run(&["verify", &image]).exits(0).prints(&["new", "first seen 12 min ago"]);
    fixture.user.run(&["verify", "--print-digest", &image]).exits(0).prints(&[&format!("app@{}", digest("a"))]);
    fixture.policy("[[rule]]\nrepositories = ['registry.example/team/*']\nmin-age = '10m'\n");
    fixture.expect(&image, "ok", 0);
    fixture.policy("[[rule]]\nrepositories = ['registry.example/team/*']\nmin-age = '1h'\n");
    fixture.expect(&image, "new", 1);
    fixture.user.run(&["verify", &image]).exits(1).prints(&["new", "policy asks for"]);
    // No age is required: by another rule, without a file, by the command line.
    fixture.policy("[[rule]]\nrepositories = ['registry.example/other/*']\nmin-age = '1h'\n");
    fixture.expect(&image, "new", 0);
    let none = fixture.user.run_json(&["verify", &image, "--policy", "none", "--min-age", "1h"]).exits(1).json();
    assert_eq!(none["images"][0]["verdict"], "new");
}

#[test]
fn the_required_number_of_witnesses_must_agree_for_the_required_time() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 5 * DAY);
    fixture.saw(1, APP, "a", 2 * DAY);
    let image = pinned(APP, "a");
    let rule = |agree: usize, age: &str| {
        fixture.policy(&format!("[witnesses]\nagree = {agree}\n[[rule]]\nrepositories = ['**']\nmin-age = '{age}'\n"));
    };
    rule(1, "3d");
    fixture.expect(&image, "ok", 0);
    rule(2, "3d");
    fixture.expect(&image, "new", 1);
    rule(2, "1d");
    fixture.expect(&image, "ok", 0);
    rule(3, "1d");
    fixture.expect(&image, "new", 1);
}

#[test]
fn one_dissenting_witness_disputes_unless_policy_excludes_it() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 5 * DAY);
    fixture.saw(1, APP, "a", 5 * DAY);
    fixture.saw(2, APP, "a", 5 * DAY);
    fixture.saw(2, APP, "odd", 4 * DAY);
    let image = pinned(APP, "a");
    fixture.expect(&image, "disputed", 1);
    fixture.expect(&pinned(APP, "odd"), "retagged", 1);
    let [one, two, three] = fixture.witnesses.each_ref().map(|witness| witness.id().to_string());
    fixture.policy(&format!("[witnesses]\ntrusted = ['{one}', '{two}']\n"));
    let answer = fixture.expect(&image, "ok", 0);
    assert!(answer["notes"].to_string().contains("that policy does not trust"), "{answer}");
    // The key of the third was stolen: what it says from the odd entry on does not count.
    let history = fixture.user.run_json(&["history", APP]).exits(0).json();
    let sightings = history["history"]["sightings"].as_array().unwrap();
    let odd =
        sightings.iter().find(|row| row["digest"] == digest("odd").to_string()).unwrap()["index"].as_u64().unwrap();
    let until = |index: u64| {
        fixture.policy(&format!(
            "[witnesses]\nagree = 3\ntrusted = ['{one}', '{two}', {{ id = '{three}', until = {index} }}]\n"
        ));
    };
    until(odd);
    fixture.expect(&image, "ok", 0);
    until(odd + 1);
    fixture.expect(&image, "disputed", 1);
}

#[test]
fn a_rule_says_whether_a_tag_may_move() {
    let fixture = PolicyFixture::new();
    for (content, ago) in [("a", 5 * DAY), ("b", 4 * DAY)] {
        fixture.saw(0, APP, content, ago);
    }
    let (old, new) = (pinned(APP, "a"), pinned(APP, "b"));
    fixture.expect(&new, "retagged", 1);
    fixture.policy("[[rule]]\nrepositories = ['registry.example/**']\ntags = ['1.*']\nexpect = 'moving'\n");
    fixture.expect(&new, "moving", 0);
    fixture.expect(&old, "behind", 1);
    fixture.policy("[[rule]]\nrepositories = ['registry.example/**']\nexpect = 'immutable'\n");
    let answer = fixture.expect(&new, "retagged", 1);
    assert!(answer["reason"].as_str().unwrap().contains("expected never to move"), "{answer}");
}

#[test]
fn built_in_profiles_apply_where_no_rule_matches() {
    let fixture = PolicyFixture::new();
    let (series, full) = ("docker.io/library/busybox:1.36", "docker.io/library/busybox:1.36.1");
    for name in [series, full] {
        fixture.saw(0, name, "a", 5 * DAY);
        fixture.saw(0, name, "b", 4 * DAY);
    }
    fixture.expect(&pinned("busybox:1.36", "b"), "moving", 0);
    fixture.policy("profiles = false\n");
    fixture.expect(&pinned("busybox:1.36", "b"), "retagged", 1);
}

#[test]
fn names_in_a_mirror_are_mapped_to_logged_names() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, "docker.io/library/busybox:1.36.1", "a", 2 * DAY);
    let mirrored = pinned("corp.example/hub/busybox:1.36.1", "a");
    fixture.expect(&mirrored, "uncovered", 1);
    fixture.policy("[mirrors]\n'corp.example/hub/' = 'docker.io/'\n");
    fixture.expect(&mirrored, "ok", 0);
    fixture.expect(&pinned("corp.example/hub/busybox:1.36.1", "b"), "mismatch", 1);
    fixture.user.run(&["policy", "explain", "corp.example/hub/busybox:1.36.1"]).exits(0).prints(&[
        "in the log",
        "docker.io/library/busybox:1.36.1",
        "rebuilds",
        "https://github.com/docker-library/official-images",
    ]);
}

#[test]
fn ignored_images_pass_until_their_expiry_date() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 2 * DAY);
    let unlogged = pinned("registry.example/late/app:1.0", "x");
    let rule = |until: &str| {
        fixture.policy(&format!(
            "[[rule]]\nrepositories = ['registry.example/late/*']\nignore = {{ reason = 'not logged yet', until = '{until}' }}\n"
        ));
    };
    fixture.expect(&unlogged, "uncovered", 1);
    rule("2999-01-01");
    let ran = fixture.user.run(&["verify", &unlogged, &pinned(APP, "a")]).exits(0);
    ran.prints(&["uncovered", "ignored until 2999-01-01", "not logged yet"]);
    rule("2020-01-01");
    fixture.user.run(&["verify", &unlogged]).exits(1).prints(&["uncovered", "no longer ignored", "not logged yet"]);
}

/// The tag moves for a good reason; a person approves it, and exactly that digest passes.
#[test]
fn approve_lets_one_digest_pass() {
    let fixture = PolicyFixture::new();
    fixture.policy("");
    for (content, ago) in [("a", 9 * DAY), ("good", 8 * DAY), ("evil", 7 * DAY)] {
        fixture.saw(0, APP, content, ago);
    }
    add(&fixture.server, &[fixture.witnesses[0].confirm("registry.example/team/app", now() - HOUR)]);
    let (good, evil) = (pinned(APP, "good"), pinned(APP, "evil"));
    fixture.expect(&good, "retagged", 1);

    // The command shows what the tag was, and writes one line beside the policy, wherever it is run.
    std::fs::create_dir(fixture.user.path("deep")).unwrap();
    let approve = ["approve", &good, "--reason", "the hotfix, release notes read", "--by", "Ada"];
    let ran = fixture.user.command(&approve).current_dir(fixture.user.path("deep")).output().unwrap();
    let ran = CommandOutput::of(&approve, ran).exits(0);
    let (first, lock) = (digest("a").to_string(), fixture.user.argument("taglog.lock"));
    ran.prints(&["retagged", &first, &digest("evil").to_string(), "approved", &lock]);
    let line = fixture.user.read("taglog.lock").lines().find(|line| line.contains(APP)).unwrap().to_owned();
    for part in [&digest("good").to_string(), "by = \"Ada\"", "the hotfix, release notes read"] {
        assert!(line.contains(part), "{line}");
    }

    let answer = fixture.expect(&good, "approved", 0);
    assert_eq!(answer["digest"], digest("good").to_string());
    assert!(answer["notes"][0].as_str().unwrap().contains("retagged"), "{answer}");
    fixture.expect(&evil, "retagged", 1);
    fixture.expect(&pinned(APP, "a"), "retagged", 1);
    fixture.user.run(&["verify", "--print-digest", &good]).exits(0).prints(&[&digest("good").to_string()]);
    fixture.user.run(&["policy", "explain", APP]).exits(0).prints(&["approved", "by Ada", "release notes read"]);

    // Approving it again changes the line; another digest adds one.
    fixture.approve(&[&good, "--reason", "looked again"]).exits(0).prints(&["was approved on", "release notes read"]);
    fixture.approve(&[&pinned(APP, "a"), "--reason", "rolled back"]).exits(0);
    let text = fixture.user.read("taglog.lock");
    assert_eq!(text.lines().filter(|line| line.contains(APP)).count(), 2, "{text}");
    assert!(text.contains("looked again") && !text.contains("hotfix"), "{text}");
    fixture.expect(&pinned(APP, "a"), "approved", 0);
}

#[test]
fn an_unobserved_digest_is_not_approved_by_mistake() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 2 * DAY);
    let unseen = pinned(APP, "typo");
    fixture.approve(&[&unseen, "--reason", "r"]).exits(1).prints(&["no trusted witness has sighted", "--unseen"]);
    assert!(!fixture.user.path("taglog.lock").exists());
    let refused = fixture.user.run_json(&["approve", &unseen, "--reason", "r"]).exits(1).json();
    assert_eq!((&refused["approved"], &refused["digest"]), (&Value::Null, &json!(digest("typo").to_string())));
    // A witness excluded by policy does not count.
    fixture.policy(&format!("[witnesses]\ntrusted = ['{}']\n", fixture.witnesses[1].id()));
    fixture.approve(&[&pinned(APP, "a"), "--reason", "r"]).exits(1);
    fixture.policy("");
    let answer =
        fixture.user.run_json(&["approve", &unseen, "--reason", "r", "--unseen", "--log", "http://127.0.0.1:1"]);
    let answer = answer.exits(0).json();
    assert_eq!(
        (&answer["image"], &answer["approved"]["reason"], &answer["before"]),
        (&json!(APP), &json!("r"), &json!([]))
    );
    fixture.expect(&unseen, "approved", 0);

    for (arguments, says) in [
        (&[APP, "--reason", "r"][..], "name the digest too"),
        (&[&unseen, "--reason", " "], "the reason is empty"),
        (&[&unseen, "--reason", "a\nb"], "one line"),
        (&[&unseen], "--reason"),
    ] {
        fixture.approve(arguments).exits(2).prints(&[says]);
    }
    let before = fixture.user.read("taglog.lock");
    fixture
        .approve(&[&unseen, "--reason", "r", "--log", "http://127.0.0.1:1"])
        .exits(3)
        .prints(&["cannot reach the log"]);
    fixture.user.write("taglog.lock", "version = 2\n");
    fixture.approve(&[&unseen, "--reason", "r", "--unseen"]).exits(2).prints(&["taglog.lock", "upgrade"]);
    fixture.user.run(&["verify", &unseen]).exits(2).prints(&["taglog.lock", "upgrade"]);
    assert_eq!(fixture.user.read("taglog.lock"), "version = 2\n");
    fixture.user.write("taglog.lock", before);
    fixture.expect(&unseen, "approved", 0);
}

/// Nothing is written when the log is not the trusted one.
#[test]
fn nothing_is_approved_when_the_log_misbehaves() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 2 * DAY);
    fixture.user.trust(&DataDirectory::init().vkey, &fixture.server.url);
    fixture.approve(&[&pinned(APP, "a"), "--reason", "r"]).exits(4).has_empty_stdout().prints(&["THE LOG MISBEHAVES"]);
    assert!(!fixture.user.path("taglog.lock").exists());
}

#[test]
fn an_approval_covers_only_the_digest() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 20 * DAY);
    let stale = pinned(APP, "a");
    fixture.approve(&[&stale, "--reason", "r"]).exits(0).prints(&["stale"]);
    fixture.expect(&stale, "stale", 1);
    let unknown = pinned("registry.example/team/app:9", "a");
    fixture.approve(&[&unknown, "--reason", "r", "--unseen"]).exits(0);
    fixture.expect(&unknown, "unknown", 1);
}

#[test]
fn the_policy_names_the_trust_file() {
    let fixture = PolicyFixture::new();
    fixture.saw(0, APP, "a", 2 * DAY);
    std::fs::create_dir(fixture.user.path("keys")).unwrap();
    std::fs::rename(fixture.user.path("trust"), fixture.user.path("keys/log")).unwrap();
    fixture.policy("trust = 'keys/log'\n");
    let image = pinned(APP, "a");
    let run = |arguments: &[&str]| {
        let mut command = fixture.user.command(arguments);
        CommandOutput::of(arguments, command.env_remove("TAGLOG_TRUST").output().unwrap())
    };
    run(&["verify", &image]).exits(0).prints(&["ok"]);
    run(&["approve", &image, "--reason", "r"]).exits(0);
    run(&["policy", "check"]).exits(0);
    run(&["audit"]).exits(0);
    run(&["search", &digest("a").to_string()]).exits(0).prints(&[APP]);
    fixture.user.run(&["verify", &image]).exits(2).prints(&[&fixture.user.argument("trust")]);
    fixture.policy("trust = 'keys/other'\n");
    run(&["verify", &image]).exits(2).prints(&["keys/other"]);
    run(&["policy", "check"]).exits(2).prints(&["keys/other"]);
}

/// An audit reports for every retagged tag the verdict of `verify`, as far as the log alone decides it.
#[test]
fn audit_evaluates_retagged_tags_by_policy() {
    let fixture = PolicyFixture::new();
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
            fixture.saw(*witness, &image(tag), content, days * DAY);
        }
    }
    let confirmed =
        fixture.witnesses.each_ref().map(|witness| witness.confirm("registry.example/team/app", now() - HOUR));
    add(&fixture.server, &confirmed);
    for (tag, content) in [("approved", "b"), ("approved-before", "a"), ("rolled-back", "a")] {
        fixture.approve(&[&pinned(&image(tag), content), "--reason", "r", "--unseen"]).exits(0);
    }
    let rule = "[[rule]]\nrepositories = ['registry.example/team/*']\ntags = ['let-*']\nexpect = 'moving'\n";
    fixture.policy(rule);
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
    let report = fixture.user.run_json(&["audit"]).exits(0).json();
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
    assert_eq!(report["policy"], fixture.user.argument("taglog.toml"));
    // It is what verify says of the newest digest, but for the one that stands alone: nobody asks the registry.
    for (tag, verdict, passes) in rows.iter().filter(|(tag, ..)| *tag != "alone") {
        let newest = if *tag == "rolled-back" { "a" } else { "b" };
        fixture.expect(&pinned(&image(tag), newest), verdict, i32::from(!passes));
    }
    let ran = fixture.user.run(&["audit"]).exits(0);
    ran.prints(&["retagged   7: 2 approved, 1 disputed, 1 moving, 3 retagged", "may find some 'rebuilt'"]);
    let shown: Vec<&str> = fixture
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
    let other = fixture.user.write(
        "other.toml",
        "[[rule]]\nrepositories = ['**']\nignore = { reason = 'not yet ours', until = '2999-01-01' }\n",
    );
    let ignored = fixture.user.run_json(&["audit", "--policy", &other]).exits(0).json();
    assert_eq!(ignored["retagged"][0]["ignored"]["reason"], "not yet ours", "{ignored}");
    fixture.user.run(&["audit", "--policy", &other]).exits(0).prints(&["ignored until 2999-01-01", "not yet ours"]);
    let none = fixture.user.run_json(&["audit", "--policy", "none"]).exits(0).json();
    assert_eq!((&none["policy"], &none["retaggedByVerdict"]["moving"]), (&Value::Null, &Value::Null), "{none}");
    let [one, two, three] = fixture.witnesses.each_ref().map(|witness| witness.id().to_string());
    fixture.policy(&format!("[witnesses]\ntrusted = ['{one}', '{two}']\n"));
    let report = fixture.user.run_json(&["audit"]).exits(0).json();
    assert!(verdicts(&report).contains(&("alone".to_owned(), "ok".to_owned(), true)), "{report}");
    fixture.policy(&format!("[witnesses]\ntrusted = ['{three}']\n"));
    let report = fixture.user.run_json(&["audit"]).exits(0).json();
    assert!(verdicts(&report).contains(&("moved".to_owned(), "unknown".to_owned(), false)), "{report}");
    // A policy that cannot be read is no policy.
    fixture.policy("[witnesses]\nagre = 2\n");
    fixture.user.run(&["audit"]).exits(2).has_empty_stdout().prints(&["taglog.toml", "unknown field `agre`"]);
}

#[test]
fn policy_check_reports_errors_and_warnings() {
    let user = User::new();
    user.run(&["policy", "check"]).exits(0).prints(&["taglog.toml: 1 rules, 0 approved digests"]);
    let file = user.write(
        "other.toml",
        "[[rule]]\nrepositories = ['**']\nexpect = 'moving'\n[[rule]]\nrepositories = ['a.example/b']\nexpect = 'immutable'\n",
    );
    user.run(&["policy", "check", &file]).exits(1).prints(&["line 4: problem: this rule has no effect"]);
    let answer = user.run_json(&["policy", "check", &file]).exits(1).json();
    assert_eq!((&answer["rules"], &answer["remarks"][0]["line"]), (&json!(2), &json!(4)));
    assert_eq!((&answer["remarks"][0]["gravity"], &answer["policy"]), (&json!("problem"), &json!(file)));
    user.write("taglog.lock", "nonsense");
    user.run(&["policy", "check"]).exits(2).prints(&["taglog.lock"]);
    for (text, says) in [("[[rule]", "line 1"), ("[witnesses]\nagre = 2", "unknown field `agre`")] {
        user.write("taglog.toml", text);
        user.run(&["policy", "check"]).exits(2).has_empty_stdout().prints(&["taglog.toml", says]);
        user.run(&["verify", &pinned(APP, "a")]).exits(2).has_empty_stdout().prints(&["taglog.toml", says]);
    }
    std::fs::remove_file(user.path("taglog.toml")).unwrap();
    user.run(&["policy", "check"]).exits(2).prints(&["there is no taglog.toml in this directory"]);
    user.run(&["policy", "check", &user.argument("none")]).exits(2).prints(&["none", "POLICY.md"]);
}

#[test]
fn witnesses_unknown_to_the_log_are_reported() {
    let fixture = PolicyFixture::new();
    let [one, two, _] = fixture.witnesses.each_ref().map(|witness| witness.id().to_string());
    let (stranger, gone) = ("witness.example/typo+00000001", "witness.example/gone+00000002");
    fixture.policy(&format!(
        "[witnesses]\nagree = 2\ntrusted = ['{one}', '{stranger}',\n  {{ id = '{gone}', until = 7 }}]\n\
         [[rule]]\nrepositories = ['a.example/**']\nagree = 1\n"
    ));
    let check = |more: &[&str]| fixture.user.run(&[&["policy", "check"], more].concat());
    // No registry is asked, and that is printed.
    check(&[]).exits(0).prints(&["3 witnesses (--online compares them with the log's roster)"]);
    let offline = fixture.user.run_json(&["policy", "check"]).exits(0).json();
    assert_eq!((&offline["trusted"], &offline["roster"]), (&json!(3), &Value::Null), "{offline}");
    let told = check(&["--online"]).exits(1).prints(&[
        &format!("line 3: problem: {stranger} is not in the log's roster"),
        &format!("line 3: note: {gone} is no longer in the log's roster"),
        "line 2: problem: agree = 2, but only 1 of the trusted witnesses",
        "the log's roster has 3",
    ]);
    assert!(!told.stdout.contains(&one), "{told:?}");
    let online = fixture.user.run_json(&["policy", "check", "--online"]).exits(1).json();
    assert_eq!((online["roster"].as_array().unwrap().len(), online["remarks"].as_array().unwrap().len()), (3, 3));
    fixture.policy(&format!("[witnesses]\nagree = 2\ntrusted = ['{one}', '{two}']\n"));
    check(&["--online"]).exits(0).prints(&["2 witnesses (the log's roster has 3)"]);
    // A log that is not the trusted one, and one that is not there.
    let other = PolicyFixture::new();
    check(&["--online", "--log", &other.server.url]).exits(3).has_empty_stdout().prints(&["the trust file names"]);
    check(&["--online", "--log", "http://127.0.0.1:1"]).exits(3).has_empty_stdout().prints(&["127.0.0.1:1"]);
}

#[test]
fn which_rule_applies_is_explained() {
    let user = User::new();
    user.write(
        "taglog.toml",
        "[[rule]]\nrepositories = ['registry.example/**']\nexpect = 'immutable'\nmin-age = '3d'\n",
    );
    let because = format!("expect immutable: {}:1", user.argument("taglog.toml"));
    user.run(&["policy", "explain", APP]).exits(0).prints(&["immutable", "3d, a younger digest fails", &because]);
    let answer = user.run_json(&["policy", "explain", APP, "registry.k8s.io/pause:3.10"]).exits(0).json();
    let images = answer["images"].as_array().unwrap();
    let expect: Vec<&Value> = images.iter().map(|image| &image["expect"]).collect();
    assert_eq!(expect, ["immutable", "immutable"]);
    assert_eq!((&images[0]["minAgeSeconds"], &images[1]["minAgeSeconds"]), (&json!(3 * DAY), &Value::Null));
    assert!(images[1]["because"].to_string().contains("kubernetes-sigs/promo-tools"), "{answer}");
    // By environment, by option, and without any.
    let other = user.write("other.toml", "[[rule]]\nrepositories = ['**']\nexpect = 'moving'\n");
    user.run(&["policy", "explain", APP, "--policy", &other]).exits(0).prints(&["expect moving"]);
    let run = |value: &str| {
        let arguments = ["policy", "explain", APP];
        CommandOutput::of(&arguments, user.command(&arguments).env("TAGLOG_POLICY", value).output().unwrap())
    };
    run(&other).exits(0).prints(&["expect moving"]);
    run("none").exits(0).prints(&["expect unstated"]);
    user.run(&["policy", "explain", "a b"]).exits(2);
    user.run(&["policy", "explain"]).exits(2);
    for command in [&["policy"][..], &["policy", "check"], &["policy", "explain"], &["approve"]] {
        user.run(&[command, &["--help"]].concat()).exits(0).prints(&["Usage: taglog"]);
    }
}
