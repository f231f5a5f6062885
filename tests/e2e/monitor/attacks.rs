//! The log that lies as it is told (`verifier-cli/docs/ATTACKS.md`), watched from before the attack.

use std::collections::BTreeSet;

use taglog_tests::dishonest::{Attack, attack};

use crate::scene::{Ran, Scene};

const STDOUT: &str = "[[sink]]\nkind = \"stdout\"\n";

fn violations(ran: &Ran) -> Vec<&serde_json::Value> {
    ran.alerts.iter().filter(|alert| alert["kind"] == "violation").collect()
}

/// The next look tells of the attack, once, and keeps what convicts.
fn is_told(attack: Attack) {
    let log = attack::begun();
    let scene = Scene::new(log.vkey(), &log.url, STDOUT);
    let before = scene.once(&[]);
    assert!(violations(&before).is_empty() && before.code != Some(4), "{attack:?}: {before:?}");
    attack.commit(&log);
    let ran = scene.once(&[]);
    let told = violations(&ran);
    assert_eq!((ran.code, told.is_empty()), (Some(4), false), "{attack:?}: {ran:?}");
    let ids: BTreeSet<&str> = told.iter().filter_map(|alert| alert["id"].as_str()).collect();
    assert_eq!(ids.len(), told.len(), "{attack:?}: {ran:?}");
    let files: Vec<&str> = told.iter().filter_map(|alert| alert["evidence"].as_str()).collect();
    assert!(!files.is_empty(), "{attack:?}: {ran:?}");
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let evidence = taglog_proto::evidence::Evidence::from_json(text.as_bytes()).unwrap();
        assert!(evidence.convict(log.vkey()).is_ok(), "{attack:?}: {file}");
    }
    let again = scene.once(&[]);
    assert_eq!((again.code, violations(&again).len()), (Some(4), 0), "{attack:?}: {again:?}");
}

#[test]
fn what_breaks_a_rule_is_told_with_evidence() {
    for attack in [
        Attack::OmitsASightingFromTheIndex,
        Attack::OmitsASightingFromAList,
        Attack::CitesWhatWasNotSaid,
        Attack::ForgesAnIndexRoot,
        Attack::ReplaysAnOldSeal,
        Attack::SignsWithoutASeal,
        Attack::BreaksAWitnesssOrder,
        Attack::BackDatesAnObservation,
        Attack::SealsBeforeTheLastSeal,
        Attack::MisspellsAnEntry,
        Attack::AdmitsAStranger,
        Attack::ForgesASignature,
    ] {
        is_told(attack);
    }
}

#[test]
fn what_takes_back_what_was_published_is_told_with_evidence() {
    is_told(Attack::ReordersWhatIsPublished);
    is_told(Attack::RollsBack);
}
