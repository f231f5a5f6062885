//! What `taglog audit` detects: in a log that it has audited before the attack, and in one that it has not.

use taglog_proto::entry::{Limits, Roster};
use taglog_tests::{
    DishonestLog, Witness,
    dishonest::{
        Attack,
        attack::{self, OTHER},
    },
    witness::{now, time},
};

use super::{proves_misbehaviour, user_trusting};
use taglog_tests::cli_fixture::User;

/// The log has been audited, and then it lies.
fn audited_before(attack: Attack) -> (DishonestLog, User) {
    let log = attack::begun();
    let user = user_trusting(&log);
    user.run(&["audit"]).exits(0);
    attack.commit(&log);
    (log, user)
}

/// The audit ends in an accusation that says these words, every time it is made, and keeps evidence of this kind.
fn audit_proves_misbehaviour(log: &DishonestLog, user: &User, words: &[&str], kind: &str) {
    user.run(&["audit"]).exits(4).prints(words);
    user.run_json(&["audit"]).exits(4).prints(words);
    let kept = user.evidence();
    assert!(!kept.is_empty(), "no evidence was kept");
    for file in &kept {
        proves_misbehaviour(log, file, kind);
    }
}

/// Both a user who has audited the log before and one who has not get evidence.
fn breaks_a_rule(attack: Attack, words: &[&str], kind: &str) {
    let (log, user) = audited_before(attack);
    audit_proves_misbehaviour(&log, &user, words, kind);
    audit_proves_misbehaviour(&log, &user_trusting(&log), words, kind);
    // What is added afterwards does not hide it.
    log.add(&[Witness::new(1).observe(OTHER, "more", now() - 100)]);
    audit_proves_misbehaviour(&log, &user_trusting(&log), words, kind);
}

#[test]
fn omits_a_sighting_from_the_index() {
    breaks_a_rule(Attack::OmitsASightingFromTheIndex, &["'index' is false"], "false-seal");
}

#[test]
fn omits_a_sighting_from_a_list() {
    breaks_a_rule(Attack::OmitsASightingFromAList, &["'index' is false"], "false-seal");
}

#[test]
fn cites_an_entry_falsely() {
    breaks_a_rule(Attack::CitesAnEntryFalsely, &["'index' is false"], "false-seal");
}

#[test]
fn forges_an_index_root() {
    breaks_a_rule(Attack::ForgesAnIndexRoot, &["'index' is false"], "false-seal");
}

#[test]
fn replays_an_old_seal() {
    let (log, user) = audited_before(Attack::ReplaysAnOldSeal);
    for user in [user, user_trusting(&log)] {
        user.run(&["audit"]).exits(4);
        let kept = user.evidence();
        assert!(!kept.is_empty(), "no evidence was kept");
        for file in &kept {
            let text = std::fs::read_to_string(file).unwrap();
            proves_misbehaviour(&log, file, if text.contains("no-seal@v1") { "no-seal" } else { "false-seal" });
        }
    }
}

#[test]
fn signs_without_a_seal() {
    let (log, user) = audited_before(Attack::SignsWithoutASeal);
    audit_proves_misbehaviour(&log, &user, &["seal"], "no-seal");
    audit_proves_misbehaviour(&log, &user_trusting(&log), &["seal"], "no-seal");
}

#[test]
fn breaks_the_order_of_a_witness() {
    breaks_a_rule(Attack::BreaksTheOrderOfAWitness, &["has observed this tag at"], "false-seal");
}

#[test]
fn back_dates_an_observation() {
    breaks_a_rule(Attack::BackDatesAnObservation, &["too old to be logged"], "false-seal");
}

#[test]
fn seals_before_the_last_seal() {
    breaks_a_rule(Attack::SealsBeforeTheLastSeal, &["'time' is false"], "false-seal");
}

#[test]
fn logs_a_malformed_entry() {
    breaks_a_rule(Attack::LogsAMalformedEntry, &["malformed entry"], "false-seal");
}

#[test]
fn admits_an_unknown_witness() {
    breaks_a_rule(Attack::AdmitsAnUnknownWitness, &["not in the roster in force"], "false-entry");
}

#[test]
fn forges_a_signature() {
    breaks_a_rule(Attack::ForgesASignature, &["signature", "is false"], "false-entry");
}

/// The roster that takes it out stands in the same batch.
#[test]
fn forges_an_observation_of_a_removed_witness() {
    let (log, [one, two]) = (attack::begun(), [1, 2].map(Witness::new));
    let user = user_trusting(&log);
    user.run(&["audit"]).exits(0);
    let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
    let roster = Roster::new(time(now()), limits, vec![two.vkey().clone()]).unwrap();
    log.force(&[roster.to_string().into_bytes(), one.observe(OTHER, "a", now())]);
    for user in [user, user_trusting(&log)] {
        audit_proves_misbehaviour(&log, &user, &["not in the roster in force"], "false-entry");
    }
}

#[test]
fn reorders_published_entries() {
    let (log, user) = audited_before(Attack::ReordersPublishedEntries);
    audit_proves_misbehaviour(&log, &user, &[], "inconsistency");
    // To a user who has seen nothing else it is a log like any other: this is what cosigners are for.
    user_trusting(&log).run(&["audit"]).exits(0);
}

#[test]
fn rolls_back() {
    let (log, user) = audited_before(Attack::RollsBack);
    audit_proves_misbehaviour(&log, &user, &[], "inconsistency");
    user_trusting(&log).run(&["audit"]).exits(0);
}

#[test]
fn equivocates() {
    let log = attack::begun();
    let twin = log.twin();
    let one = Witness::new(1);
    log.add(&[one.observe(OTHER, "a", now() - 500)]);
    twin.add(&[one.observe(OTHER, "b", now() - 500)]);
    let user = user_trusting(&log);
    user.run(&["audit"]).exits(0);
    user.run(&["audit", &twin.url]).exits(4);
    for file in &user.evidence() {
        proves_misbehaviour(&log, file, "fork");
    }
    assert!(!user.evidence().is_empty(), "no evidence was kept");
}
