//! What `taglog audit` finds, of a log that it has audited before the attack, and of one that it has not.

use taglog_proto::entry::{Limits, Roster};
use taglog_tests::{
    DishonestLog, Witness,
    dishonest::{
        Attack,
        attack::{self, OTHER},
    },
    witness::{now, time},
};

use crate::{cli_common::User, convicts, user_of};

/// The log has been audited, and then it lies.
fn audited_before(attack: Attack) -> (DishonestLog, User) {
    let log = attack::begun();
    let user = user_of(&log);
    user.run(&["audit"]).exits(0);
    attack.commit(&log);
    (log, user)
}

/// The audit ends in an accusation that says these words, every time it is made, and keeps evidence of this kind.
fn is_convicted(log: &DishonestLog, user: &User, words: &[&str], kind: &str) {
    user.run(&["audit"]).exits(4).says(words);
    user.run_json(&["audit"]).exits(4).says(words);
    let kept = user.evidence();
    assert!(!kept.is_empty(), "no evidence was kept");
    for file in &kept {
        convicts(log, file, kind);
    }
}

/// Whoever has audited before convicts the log, and so does whoever has not.
fn breaks_a_rule(attack: Attack, words: &[&str], kind: &str) {
    let (log, user) = audited_before(attack);
    is_convicted(&log, &user, words, kind);
    is_convicted(&log, &user_of(&log), words, kind);
    // What is added afterwards does not hide it.
    log.add(&[Witness::new(1).observe(OTHER, "more", now() - 100)]);
    is_convicted(&log, &user_of(&log), words, kind);
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
fn cites_what_was_not_said() {
    breaks_a_rule(Attack::CitesWhatWasNotSaid, &["'index' is false"], "false-seal");
}

#[test]
fn forges_an_index_root() {
    breaks_a_rule(Attack::ForgesAnIndexRoot, &["'index' is false"], "false-seal");
}

#[test]
fn replays_an_old_seal() {
    let (log, user) = audited_before(Attack::ReplaysAnOldSeal);
    for user in [user, user_of(&log)] {
        user.run(&["audit"]).exits(4);
        let kept = user.evidence();
        assert!(!kept.is_empty(), "no evidence was kept");
        for file in &kept {
            let text = std::fs::read_to_string(file).unwrap();
            convicts(&log, file, if text.contains("no-seal@v1") { "no-seal" } else { "false-seal" });
        }
    }
}

#[test]
fn signs_without_a_seal() {
    let (log, user) = audited_before(Attack::SignsWithoutASeal);
    is_convicted(&log, &user, &["seal"], "no-seal");
    is_convicted(&log, &user_of(&log), &["seal"], "no-seal");
}

#[test]
fn breaks_a_witnesss_order() {
    breaks_a_rule(Attack::BreaksAWitnesssOrder, &["has observed this tag at"], "false-seal");
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
fn misspells_an_entry() {
    breaks_a_rule(Attack::MisspellsAnEntry, &["malformed entry"], "false-seal");
}

#[test]
fn admits_a_stranger() {
    breaks_a_rule(Attack::AdmitsAStranger, &["not in the roster in force"], "false-entry");
}

#[test]
fn forges_a_signature() {
    breaks_a_rule(Attack::ForgesASignature, &["signature", "is false"], "false-entry");
}

/// The roster that takes it out stands in the same batch.
#[test]
fn forges_the_word_of_a_witness_who_has_left() {
    let (log, [one, two]) = (attack::begun(), [1, 2].map(Witness::new));
    let user = user_of(&log);
    user.run(&["audit"]).exits(0);
    let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
    let roster = Roster::new(time(now()), limits, vec![two.vkey().clone()]).unwrap();
    log.force(&[roster.to_string().into_bytes(), one.observe(OTHER, "a", now())]);
    for user in [user, user_of(&log)] {
        is_convicted(&log, &user, &["not in the roster in force"], "false-entry");
    }
}

#[test]
fn reorders_what_is_published() {
    let (log, user) = audited_before(Attack::ReordersWhatIsPublished);
    is_convicted(&log, &user, &[], "inconsistency");
    // To whoever has seen nothing else it is a log like any other: that is what cosigners are for.
    user_of(&log).run(&["audit"]).exits(0);
}

#[test]
fn rolls_back() {
    let (log, user) = audited_before(Attack::RollsBack);
    is_convicted(&log, &user, &[], "inconsistency");
    user_of(&log).run(&["audit"]).exits(0);
}

#[test]
fn equivocates() {
    let log = attack::begun();
    let twin = log.twin();
    let one = Witness::new(1);
    log.add(&[one.observe(OTHER, "a", now() - 500)]);
    twin.add(&[one.observe(OTHER, "b", now() - 500)]);
    let user = user_of(&log);
    user.run(&["audit"]).exits(0);
    user.run(&["audit", &twin.url]).exits(4);
    for file in &user.evidence() {
        convicts(&log, file, "fork");
    }
    assert!(!user.evidence().is_empty(), "no evidence was kept");
}
