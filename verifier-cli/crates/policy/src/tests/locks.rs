//! `taglog.lock`: round trips, merges, atomic updates, invalid files.

use std::path::Path;

use proptest::{collection::vec, option, prelude::*};
use taglog_proto::name::Image;

use super::make::{DAY, digest, time};
use crate::{
    Policy,
    lock::{Approval, Lock},
};

fn image(name: &str) -> Image {
    Image::parse(name).unwrap()
}

fn approval(name: &str, content: &str, reason: &str) -> Approval {
    Approval::new(image(name), digest(content), reason, Some("Ada"), time(3 * DAY)).unwrap()
}

fn parse(text: &str) -> Result<Lock, String> {
    Lock::parse(text, Path::new("taglog.lock")).map_err(|error| error.to_string())
}

#[test]
fn one_line_an_approval_sorted() {
    let mut lock = Lock::default();
    let (b, a2, a1) = ("b.example/x:1", "a.example/x:2", "a.example/x:1");
    for (name, content) in [(b, "one"), (a2, "one"), (a1, "two"), (a1, "one")] {
        lock.add(approval(name, content, "it is \"fine\""));
    }
    let text = lock.to_string();
    assert_eq!(parse(&text), Ok(lock.clone()));
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  { image = \"")?.split('"').next()).collect();
    assert_eq!(names, [a1, a1, a2, b]);
    assert!(text.contains("date = \"1970-01-04\", by = \"Ada\", reason = "), "{text}");
    let mut both = [digest("one"), digest("two")];
    both.sort();
    assert_eq!(lock.approved(&image(a1)), both);
    assert_eq!(lock.approved(&image("a.example/x:3")), []);
    lock.add(approval(b, "one", "looked again"));
    assert_eq!(lock.of(&image(b)).map(|approval| approval.reason.as_str()).collect::<Vec<_>>(), ["looked again"]);
}

/// A merge of two branches leaves the union of the lines, in any order, with duplicates.
#[test]
fn merged_lines_are_read() {
    let (mut ours, mut theirs) = (Lock::default(), Lock::default());
    ours.add(approval("a.example/x:1", "one", "r"));
    ours.add(approval("a.example/x:1", "two", "r"));
    theirs.add(approval("a.example/x:1", "one", "r"));
    theirs.add(approval("a.example/x:0", "one", "r"));
    let lines = |lock: &Lock| lock.approvals().iter().map(|approval| format!("{approval}\n")).collect::<String>();
    let merged = format!("version = 1\napproved = [\n{}{}]\n", lines(&ours), lines(&theirs));
    assert_eq!(parse(&merged).unwrap().approvals().len(), 3);
}

#[test]
fn files() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("taglog.lock");
    assert_eq!(Lock::read(&path).unwrap(), Lock::default(), "no file approves nothing");
    for content in ["one", "two"] {
        Lock::update(&path, approval("a.example/x:1", content, "r")).unwrap();
    }
    assert_eq!(Lock::read(&path).unwrap().approved(&image("a.example/x:1")).len(), 2);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left behind");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o644);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Lock::update(&link, approval("a.example/x:1", "three", "r")).unwrap();
    assert_eq!(Lock::read(&path).unwrap().approved(&image("a.example/x:1")).len(), 3);
    assert_eq!(mode(&path), 0o600);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    std::fs::write(&path, "version = 1\napproved = [").unwrap();
    assert!(Lock::update(&path, approval("a.example/x:1", "four", "r")).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "version = 1\napproved = [", "what is damaged is left alone");
}

#[test]
fn concurrent_approvals_are_all_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("taglog.lock");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || Lock::update(path, approval("a.example/x:1", &number.to_string(), "r")).unwrap());
        }
    });
    assert_eq!(Lock::read(&path).unwrap().approvals().len(), 8);
}

#[test]
fn the_lock_is_beside_the_policy() {
    let beside = Policy::parse("", Path::new("/deploy/taglog.toml")).unwrap();
    assert_eq!(Lock::path_for(&beside, Path::new("/work")), Path::new("/deploy/taglog.lock"));
    assert_eq!(Lock::path_for(&Policy::without_file(), Path::new("/srv/app")), Path::new("/srv/app/taglog.lock"));
}

#[test]
fn invalid_locks_are_rejected() {
    let line = approval("a.example/x:1", "one", "r").to_string();
    let with = |from: &str, to: &str| format!("version = 1\napproved = [\n{}\n]", line.replace(from, to));
    assert!(parse(&with("", "")).is_ok());
    for (text, says) in [
        ("", "version"),
        ("version = 2", "upgrade"),
        ("version = 1\nother = 1", "other"),
        (&with("a.example/x:1", "x:1"), "names no registry host"),
        (&with("sha256:", "md5:"), "digest"),
        (&with("1970-01-04", "yesterday"), "want a day"),
        (&with("reason = \"r\"", "reason = \"\""), "the reason is empty"),
        (&with("reason = \"r\"", "reason = \"a\\nb\""), "one line"),
        (&with(", reason = \"r\"", ""), "reason"),
        (&with("by =", "for ="), "for"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains("taglog.lock") && error.contains(says), "{text}: {error}");
    }
    for (reason, by) in [("", None), ("a\nb", None), ("r", Some("\u{1b}[2J")), ("r", Some(" "))] {
        assert!(
            Approval::new(image("a.example/x:1"), digest("one"), reason, by, time(0)).is_err(),
            "{reason:?} {by:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_is_written_is_read_back(
        entries in vec(("[a-z]{1,4}", "[a-z0-9.]{0,4}", option::of("\\PC{1,20}"), "\\PC{1,40}"), 0..8),
        day in 0..40_000i64,
    ) {
        let mut lock = Lock::default();
        for (name, content, by, reason) in entries {
            let image = image(&format!("a.example/{name}:1"));
            if let Ok(approval) = Approval::new(image, digest(&content), &reason, by.as_deref(), time(day * DAY)) {
                lock.add(approval);
            }
        }
        let text = lock.to_string();
        prop_assert_eq!(parse(&text), Ok(lock.clone()));
        prop_assert_eq!(text.lines().count(), lock.approvals().len() + 4);
    }

    #[test]
    fn reading_is_total(text in "(version = 1\n|approved = \\[|\\{|\\}|image = \"[a-z.:/]{0,9}\"|,|\\]|\\PC){0,16}") {
        let _ = parse(&text);
    }
}
