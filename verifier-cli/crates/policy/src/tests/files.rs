//! `taglog.toml`: what it means for an image, and the messages for mistakes.

use std::path::Path;

use proptest::prelude::*;
use taglog_proto::name::{Image, Tag};

use super::make::{DAY, days, id, time};
use crate::{
    Demands, Expectation, FRESHNESS, Ignore, MAX_AGE, Overrides, Policy,
    check::{Severity, diagnostics},
};
use taglog_base::duration::exactly;

const ALL: &str = r#"
trust = "keys/taglog.trust"

[witnesses]
agree = 2
trusted = ["a.example/w+00000000", { id = "b.example/w+00000000", until = 120000 }, "c.example/w+00000000"]

[mirrors]
"corp.example/hub/" = "docker.io/"

[[rule]]
repositories = ["registry.example/team/**"]
tags = ["v*"]
expect = "immutable"
min-age = "3d"

[[rule]]
repositories = ["registry.example/**", "busybox"]
expect = "moving"
max-age = "2h"
freshness = "36h"
agree = 3
ignore = { reason = "not logged yet", until = "2027-03-01" }
"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("/deploy/taglog.toml")).unwrap()
}

fn image(text: &str) -> Image {
    Image::parse(text).unwrap()
}

fn demands(text: &str, name: &str) -> Demands {
    policy(text).demands(&image(name))
}

#[test]
fn for_each_key_the_first_rule_that_sets_it_decides() {
    let both = demands(ALL, "registry.example/team/app:v1");
    assert_eq!((both.expectation, both.agree, both.min_age), (Expectation::Immutable, 3, Some(days(3))));
    assert_eq!((exactly(both.max_age), exactly(both.freshness)), ("2h".to_owned(), "36h".to_owned()));
    let until = "2027-03-01T00:00:00Z".parse().unwrap();
    assert_eq!(both.ignore, Some(Ignore { reason: "not logged yet".to_owned(), until }));
    let second = demands(ALL, "registry.example/team/app:1");
    assert_eq!((second.expectation, second.min_age), (Expectation::Moving, None));
    let short = demands(ALL, "docker.io/library/busybox:1.36.1");
    assert_eq!((short.expectation, short.agree), (Expectation::Moving, 3), "rules come before profiles");
    let none = demands(ALL, "docker.io/library/python:3.10.21-slim");
    assert_eq!((none.expectation, none.agree, none.ignore), (Expectation::Rebuilds, 2, None));
    assert_eq!((none.max_age, none.freshness), (MAX_AGE, FRESHNESS));
    let trusted: Vec<_> = none.trusted.iter().map(|witness| (witness.id.clone(), witness.until)).collect();
    let named = ["a.example/w", "b.example/w", "c.example/w"].map(id);
    assert_eq!(trusted, named.into_iter().zip([None, Some(120_000), None]).collect::<Vec<_>>());
}

#[test]
fn because_names_the_line_or_the_source() {
    let because = demands(ALL, "registry.example/team/app:v1").because.join("\n");
    for line in [
        "expect immutable: /deploy/taglog.toml:11",
        "min-age 3d: /deploy/taglog.toml:11",
        "agree 3: /deploy/taglog.toml:17",
    ] {
        assert!(because.contains(line), "{line} in\n{because}");
    }
    assert!(!because.contains("expect moving"), "{because}");
    let because = demands(ALL, "docker.io/library/python:3.10.21-slim").because.join("\n");
    assert!(because.contains("agree 2: /deploy/taglog.toml:5"), "{because}");
    assert!(because.contains("<https://github.com/docker-library/official-images"), "{because}");
}

#[test]
fn defaults_without_a_file_and_without_profiles() {
    let expect = |policy: &Policy, name: &str| policy.demands(&image(name)).expectation;
    let none = Policy::without_file();
    assert_eq!(expect(&none, "registry.example/app:latest"), Expectation::Moving);
    assert_eq!(expect(&none, "registry.example/app:1"), Expectation::Unstated);
    assert_eq!(expect(&none, "registry.k8s.io/pause:3.10"), Expectation::Immutable);
    let bare = policy("profiles = false");
    assert_eq!(expect(&bare, "registry.k8s.io/pause:3.10"), Expectation::Unstated);
    assert_eq!(expect(&bare, "registry.k8s.io/pause:latest"), Expectation::Moving);
    assert_eq!((none.path(), none.trust_path(), none.rules().len()), (None, None, 0));
    assert_eq!(policy(ALL).trust_path().unwrap(), Path::new("/deploy/keys/taglog.trust"));
    assert_eq!(policy("trust = \"/etc/trust\"").trust_path().unwrap(), Path::new("/etc/trust"));
    let mirrored = policy(ALL).logged_name(&image("corp.example/hub/busybox:1"));
    assert_eq!(mirrored.to_string(), "docker.io/library/busybox:1");
}

#[test]
fn command_line_options_override_the_file_and_keep_until() {
    let overrides = Overrides {
        witnesses: vec![id("b.example/w"), id("d.example/w")],
        agree: Some(1),
        moving: vec![Tag::parse("v1").unwrap()],
        max_age: Some(days(1)),
        freshness: Some(days(2)),
        min_age: Some(days(0)),
    };
    let demands = policy(ALL).overriding(overrides).demands(&image("registry.example/team/app:v1"));
    assert_eq!((demands.expectation, demands.agree), (Expectation::Moving, 1));
    assert_eq!((demands.max_age, demands.freshness, demands.min_age), (days(1), days(2), Some(days(0))));
    let until: Vec<_> = demands.trusted.iter().map(|witness| witness.until).collect();
    assert_eq!(until, [Some(120_000), None]);
    assert!(demands.because.iter().filter(|why| why.ends_with("command line")).count() == 6, "{:?}", demands.because);
}

#[test]
fn until_is_resolved_for_each_log() {
    let with =
        |until: &str| policy(&format!("[witnesses]\ntrusted = [{{ id = \"a.example/w+00000000\", until = {until} }}]"));
    let until = |policy: &Policy, log: &str| {
        let demands = policy.demands(&image("registry.example/team/app:v1"));
        let of = |demands: &Demands| demands.trusts(&id("a.example/w")).unwrap().until;
        (of(&demands), of(&demands.in_log(log)))
    };
    let everywhere = with("120000");
    assert_eq!(until(&everywhere, "log.example/x"), (Some(120_000), Some(120_000)));
    let (one, two) = (["log.example/x"], ["log.example/x", "log.example/y"]);
    assert_eq!(everywhere.check_until(one.into_iter()), Ok(()), "there is only one log to mean");
    let ambiguous = everywhere.check_until(two.into_iter()).unwrap_err();
    assert_eq!((&ambiguous.witness, ambiguous.log.as_str()), (&id("a.example/w"), "log.example/x"));
    let each = with("{ \"log.example/x\" = 7 }");
    assert_eq!(until(&each, "log.example/x"), (Some(0), Some(7)), "nothing counts where no log is meant");
    assert_eq!(until(&each, "log.example/y"), (Some(0), Some(0)));
    assert_eq!(each.check_until(two.into_iter()), Ok(()));
}

#[test]
fn the_nearest_file_above_is_found() {
    let home = tempfile::tempdir().unwrap();
    let inner = home.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let outer = home.path().join("taglog.toml");
    std::fs::write(&outer, ALL).unwrap();
    assert_eq!(Policy::find(&inner), Some(outer.clone()));
    assert_eq!(Policy::read(&outer).unwrap().path(), Some(outer.as_path()));
    let nearer = home.path().join("a/taglog.toml");
    std::fs::write(&nearer, "\u{feff}profiles = false\r\n").unwrap();
    assert_eq!(Policy::find(&inner), Some(nearer.clone()));
    assert!(Policy::read(&nearer).is_ok(), "a byte order mark and Windows line ends do no harm");
    assert!(Policy::read(&home.path().join("none")).unwrap_err().to_string().contains("none"));
    std::fs::write(&nearer, vec![b'#'; 2 << 20]).unwrap();
    assert!(Policy::read(&nearer).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, says) in [
        ("profiles = 1", "line 1"),
        ("[witness]\nagree = 1", "unknown field `witness`"),
        ("\n[witnesses]\nagree = 0", "line 3"),
        ("[witnesses]\nagree = 2\ntrusted = [\"a.example/w+00000000\"]", "line 2: witnesses.agree"),
        ("[witnesses]\ntrusted = [\"a.example/w\"]", "witness id"),
        ("[witnesses]\ntrusted = [\"a.example/w+00000000\", \"a.example/w+00000000\"]", "named twice"),
        ("[witnesses]\ntrusted = [{ id = \"a.example/w+00000000\", after = 1 }]", "unknown field `after`"),
        ("[witnesses]\ntrusted = [{ id = \"a.example/w+00000000\", until = -1 }]", "line 2"),
        ("[witnesses]\ntrusted = [{ id = \"a.example/w+00000000\", until = {} }]", "'until' names no log"),
        ("[witnesses]\ntrusted = [{ id = \"a.example/w+00000000\", until = \"7\" }]", "a log index, or {"),
        ("[witnesses]\ntrusted = [7]", "a witness id such as"),
        ("[mirrors]\n\"corp.example/hub\" = \"docker.io/\"", "mirrors"),
        ("[[rule]]\nexpect = \"moving\"", "repositories"),
        ("\n[[rule]]\nrepositories = []\nexpect = \"moving\"", "line 2: rule 1"),
        ("[[rule]]\nrepositories = [\"**\"]", "sets nothing"),
        ("[[rule]]\nrepositories = [\"**\"]\nexpect = \"unstated\"", "line 3"),
        ("[[rule]]\nrepositories = [\"**\"]\nexpect = \"fixed\"", "line 3"),
        ("[[rule]]\nrepositories = [\"*\"]\nexpect = \"moving\"", "'**' means every repository"),
        ("[[rule]]\nrepositories = [\"**\"]\ntags = [\"a b\"]\nexpect = \"moving\"", "line 3"),
        ("[[rule]]\nrepositories = [\"**\"]\nmin-age = \"3\"", "line 3"),
        ("[[rule]]\nrepositories = [\"**\"]\nmin_age = \"3d\"", "unknown field `min_age`"),
        ("[[rule]]\nrepositories = [\"**\"]\nignore = { reason = \"later\" }", "until"),
        ("[[rule]]\nrepositories = [\"**\"]\nignore = { until = \"2027-03-01\" }", "reason"),
        (
            "[[rule]]\nrepositories = [\"**\"]\nignore = { reason = \" \", until = \"2027-03-01\" }",
            "the reason is empty",
        ),
        (
            "[[rule]]\nrepositories = [\"**\"]\nignore = { reason = \"a\\u001b[2J\", until = \"2027-03-01\" }",
            "one line",
        ),
        ("[[rule]]\nrepositories = [\"**\"]\nignore = { reason = \"x\", until = \"soon\" }", "must be a day"),
        ("[[rule]]\nrepositories = [\"**\"]\nignore = { reason = \"x\", until = 5 }", "must be a day"),
        (
            "[witnesses]\ntrusted = [\"a.example/w+00000000\"]\n[[rule]]\nrepositories = [\"**\"]\nagree = 2",
            "line 3: rule 1",
        ),
    ] {
        let error = Policy::parse(text, Path::new("t.toml")).unwrap_err().to_string();
        assert!(error.contains("t.toml") && error.contains(says), "{text}\n{error}");
    }
}

#[test]
fn dates_are_days_or_times() {
    for (until, want) in [
        ("\"2027-03-01\"", "2027-03-01T00:00:00Z"),
        ("2027-03-01", "2027-03-01T00:00:00Z"),
        ("\"2027-03-01T12:30:00Z\"", "2027-03-01T12:30:00Z"),
        ("2027-03-01T12:30:00Z", "2027-03-01T12:30:00Z"),
    ] {
        let text = format!("[[rule]]\nrepositories = [\"**\"]\nignore = {{ reason = \"x\", until = {until} }}");
        let ignore = demands(&text, "a.example/b:1").ignore.unwrap();
        assert_eq!(ignore.until, want.parse().unwrap());
        let at = |seconds| time(ignore.until.unix() + seconds);
        assert!(ignore.applies(at(-1)) && !ignore.applies(at(0)));
    }
}

#[test]
fn mistakes_in_a_valid_policy_are_reported() {
    let text = r#"
[mirrors]
"corp.example/hub/" = "docker.io/"
[[rule]]
repositories = ["registry.example/**"]
expect = "immutable"
agree = 2
[[rule]]
repositories = ["registry.example/team/*", "registry.example/other"]
tags = ["v*"]
expect = "moving"
[[rule]]
repositories = ["registry.example/team/*"]
expect = "moving"
min-age = "3d"
[[rule]]
repositories = ["corp.example/hub/library/*", "quay.io/**"]
expect = "moving"
[[rule]]
repositories = ["quay.io/**"]
tags = ["a"]
ignore = { reason = "x", until = "1970-01-05" }
[[rule]]
repositories = ["quay.io/**"]
tags = ["b"]
ignore = { reason = "x", until = "1970-01-21" }
[[rule]]
repositories = ["quay.io/**"]
tags = ["c"]
ignore = { reason = "x", until = "1970-03-01" }
"#;
    let found = diagnostics(&policy(text), time(9 * DAY));
    let lines: Vec<_> = found.iter().map(|diagnostic| (diagnostic.severity, diagnostic.line)).collect();
    assert_eq!(
        lines,
        [(Severity::Problem, 8), (Severity::Problem, 16), (Severity::Problem, 19), (Severity::Note, 23)],
        "{found:#?}"
    );
    assert!(found[0].message.contains("up to line 4 set expect"), "{}", found[0].message);
    assert!(found[1].message.contains("corp.example/hub/"), "{}", found[1].message);
    assert!(found[2].message.contains("ended on"), "{}", found[2].message);
    assert!(found[3].message.contains("in 11 days"), "{}", found[3].message);
    assert_eq!(diagnostics(&policy(ALL), time(DAY)), []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Every text is parsed or rejected without a panic.
    #[test]
    fn reading_is_total(text in "(\\[\\[rule\\]\\]\n|[a-z-]{1,12} = |\\[[a-z]*\\]\n|\"[a-z*./:{}\\[\\]]{0,12}\"\n|[0-9]{1,3}\n|\\PC){0,20}") {
        let _ = Policy::parse(&text, Path::new("t.toml"));
    }

    /// No pattern panics, and a match begins with the pattern's prefix.
    #[test]
    fn patterns_are_total(pattern in "[a-z*?/.:{},\\[\\]!\\\\-]{0,20}", host in "[a-z]{1,3}\\.[a-z]{1,3}", path in "[a-z]{1,4}(/[a-z]{1,4})?") {
        let name = format!("{host}/{path}:1");
        let name = image(&name);
        if let Ok(pattern) = crate::RepositoryPattern::parse(&pattern) {
            let matched = pattern.matches(&name.repository);
            prop_assert!(!matched || name.repository.as_str().starts_with(pattern.prefix()));
        }
        if let Ok(pattern) = crate::TagPattern::parse(&pattern) {
            pattern.matches(&name.tag);
        }
    }
}

const EXCLUDE: &str = r#"
[[exclude]]
files = ["charts/", "ci/*.yml"]
reason = "rendered in the pipeline"
until = "2027-03-01"

[[exclude]]
files = ["deploy/**"]
lines = [3, 4]
images = ["$REGISTRY/*", "docker.io/library/app:*"]
reason = "built before"
until = 2027-03-01

[[exclude]]
files = ["deploy/**"]
notes = ["*template*"]
reason = "r"
until = "2027-03-01"
"#;

#[test]
fn files_and_what_stands_in_them_are_excluded() {
    let at = |text: &str| text.parse().unwrap();
    let policy = policy(EXCLUDE);
    let [files, images, notes] = policy.exclusions() else { panic!("{policy:?}") };
    assert!(files.covers_file("charts/a/b.yaml") && files.covers_file("ci/a.yml") && !files.covers_file("ci/a/b.yml"));
    assert!(!images.covers_file("deploy/a.yaml") && !notes.covers_file("deploy/a.yaml"));
    assert!(images.covers_image("deploy/a.yaml", 3, &["$REGISTRY/a:1", "x"]));
    assert!(images.covers_image("deploy/a.yaml", 4, &["app:1", "docker.io/library/app:1"]));
    for (path, line, name) in
        [("deploy/a.yaml", 5, "$REGISTRY/a"), ("a.yaml", 3, "$REGISTRY/a"), ("deploy/a.yaml", 3, "b")]
    {
        assert!(!images.covers_image(path, line, &[name]), "{path} {line} {name}");
    }
    assert!(
        !images.covers_note("deploy/a.yaml", 3, "a template") && notes.covers_note("deploy/a.yaml", 9, "a template.")
    );
    assert!(!notes.covers_image("deploy/a.yaml", 3, &["b"]));
    let (before, after) = (at("2027-02-28T23:59:59Z"), at("2027-03-01T00:00:00Z"));
    assert!(images.applies(before) && !images.applies(after));
    assert_eq!((files.line, images.line, images.ignore.reason.as_str()), (2, 7, "built before"));
    let ended = diagnostics(&policy, after);
    assert!(
        ended.len() == 3 && ended[0].message.contains("ended") && ended[0].severity == Severity::Problem,
        "{ended:?}"
    );
    assert_eq!(diagnostics(&policy, before).iter().map(|note| note.severity).collect::<Vec<_>>(), [Severity::Note; 3]);
    assert!(diagnostics(&policy, at("2027-01-01T00:00:00Z")).is_empty());
}

#[test]
fn an_exception_names_files_a_reason_and_a_day() {
    for (wrong, says) in [
        ("files = []\nreason = 'r'\nuntil = '2027-03-01'", "files"),
        ("files = ['a']\nuntil = '2027-03-01'", "reason"),
        ("files = ['a']\nreason = ' '\nuntil = '2027-03-01'", "reason"),
        ("files = ['a']\nreason = 'r'", "until"),
        ("files = ['a']\nreason = 'r'\nuntil = 'soon'", "until"),
        ("files = ['../a']\nreason = 'r'\nuntil = '2027-03-01'", "../a"),
        ("files = ['a']\nimages = ['']\nreason = 'r'\nuntil = '2027-03-01'", "empty"),
        ("files = ['a']\nimage = ['a']\nreason = 'r'\nuntil = '2027-03-01'", "image"),
    ] {
        let error =
            Policy::parse(&format!("[[exclude]]\n{wrong}\n"), Path::new("taglog.toml")).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
