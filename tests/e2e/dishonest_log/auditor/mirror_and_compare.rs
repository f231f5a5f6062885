//! Mirrors, and comparisons of what different users were shown.

use taglog_tests::{
    DishonestLog, Witness,
    dishonest::{
        Attack,
        attack::{self, APP, OTHER},
    },
    witness::now,
};

use super::{proves_misbehaviour, user_trusting};
use taglog_tests::cli_fixture::{User, pinned};

/// What a mirror kept of a log that is another one now.
fn mirror_evidence(user: &User) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(user.path("copy/.taglog-mirror/evidence")).into_iter().flatten();
    files.map(|file| file.unwrap().path()).collect()
}

fn mirrored(log: &DishonestLog) -> User {
    let user = user_trusting(log);
    user.run(&["mirror", "--directory", &user.argument("copy")]).exits(0);
    user
}

/// The mirror says that the log misbehaves, keeps this, and its copy stays what it was.
fn mirror_catches(log: &DishonestLog, user: &User, kinds: &[&str]) {
    let before = user.read("copy/checkpoint");
    user.run(&["mirror", "--directory", &user.argument("copy")]).exits(4);
    assert_eq!(user.read("copy/checkpoint"), before, "good data was replaced");
    user.run(&["mirror", "--check", "--directory", &user.argument("copy")]).exits(0);
    let kept = mirror_evidence(user);
    assert_eq!(kept.is_empty(), kinds.is_empty(), "{kept:?}");
    for file in &kept {
        let text = std::fs::read_to_string(file).unwrap();
        let kind = kinds.iter().find(|kind| text.contains(&format!("/{kind}@v1")));
        proves_misbehaviour(log, file, kind.unwrap_or_else(|| panic!("none of {kinds:?}: {text}")));
    }
}

#[test]
fn reorders_published_entries() {
    let log = attack::begun();
    let user = mirrored(&log);
    Attack::ReordersPublishedEntries.commit(&log);
    mirror_catches(&log, &user, &["inconsistency"]);
}

#[test]
fn rolls_back() {
    let log = attack::begun();
    let one = Witness::new(1);
    let user = mirrored(&log);
    log.roll_back(1);
    log.add(&[one.observe(OTHER, "instead", now() - 500), one.observe(OTHER, "more", now() - 500)]);
    mirror_catches(&log, &user, &["fork"]);
}

/// Two views, a mirror of one, and a user who asks both.
#[test]
fn equivocates() {
    let log = attack::begun();
    let twin = log.twin();
    let one = Witness::new(1);
    log.add(&[one.observe(OTHER, "a", now() - 500)]);
    twin.add(&[one.observe(OTHER, "b", now() - 500), one.observe(APP, "b", now() - 400)]);
    let mirror = mirrored(&log);
    let user = user_trusting(&twin);
    let copy = mirror.argument("copy");
    user.run(&["evidence", "compare", "--with", &copy]).exits(4);
    for file in &user.evidence() {
        proves_misbehaviour(&log, file, "inconsistency");
    }
    assert!(!user.evidence().is_empty(), "no evidence was kept");
    // One history is not two.
    user_trusting(&log).run(&["evidence", "compare", "--with", &copy]).exits(0);
}

/// Saves what the log answers for [`APP`] after an attack, and looks for evidence in it.
fn found_in_a_saved_proof(attack: Attack, kind: &str) {
    let log = attack::begun();
    attack.commit(&log);
    let user = user_trusting(&log);
    let saved = user.argument("app.tagproof");
    // A false answer is saved by another client: taglog itself would not take it for one.
    let answer = taglog_tests::cli_fixture::wait(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}/api/v1/lookup?image={APP}", log.url)).send().await.unwrap().text().await.unwrap()
    });
    user.write("app.tagproof", format!("{answer}\n"));
    user.run(&["evidence", "from-proof", &saved]).exits(4);
    let kept = user.evidence();
    assert!(!kept.is_empty(), "no evidence was kept");
    for file in &kept {
        proves_misbehaviour(&log, file, kind);
    }
}

#[test]
fn omits_a_sighting_from_the_index() {
    found_in_a_saved_proof(Attack::OmitsASightingFromTheIndex, "omission");
}

#[test]
fn omits_a_sighting_from_a_list() {
    found_in_a_saved_proof(Attack::OmitsASightingFromAList, "omission");
}

#[test]
fn cites_an_entry_falsely() {
    found_in_a_saved_proof(Attack::CitesAnEntryFalsely, "phantom");
}

/// What an honest log says is no evidence.
#[test]
fn an_honest_log_gives_no_evidence() {
    let log = attack::begun();
    let user = user_trusting(&log);
    let saved = user.argument("app.tagproof");
    user.run(&["verify", &pinned(APP, "a"), "--save", &saved]).exits(0);
    user.run(&["evidence", "from-proof", &saved]).exits(0);
    assert!(user.evidence().is_empty());
}
