//! The dishonest log of `verifier-cli/docs/ATTACKS.md`, watched from before the attack.

use std::collections::BTreeSet;

use taglog_tests::dishonest::{Attack, attack};

use crate::fixture::{MonitorFixture, OnceOutput};

const STDOUT: &str = "[[sink]]\nkind = \"stdout\"\n";

fn violations(ran: &OnceOutput) -> Vec<&serde_json::Value> {
    ran.alerts.iter().filter(|alert| alert["kind"] == "violation").collect()
}

/// The next poll raises one alert about the attack, and keeps evidence.
fn is_told(attack: Attack) {
    let log = attack::begun();
    let fixture = MonitorFixture::new(log.vkey(), &log.url, STDOUT);
    let before = fixture.once(&[]);
    assert!(violations(&before).is_empty() && before.code != Some(4), "{attack:?}: {before:?}");
    attack.commit(&log);
    let ran = fixture.once(&[]);
    let told = violations(&ran);
    assert_eq!((ran.code, told.is_empty()), (Some(4), false), "{attack:?}: {ran:?}");
    let ids: BTreeSet<&str> = told.iter().filter_map(|alert| alert["id"].as_str()).collect();
    assert_eq!(ids.len(), told.len(), "{attack:?}: {ran:?}");
    let files: Vec<&str> = told.iter().filter_map(|alert| alert["evidence"].as_str()).collect();
    assert!(!files.is_empty(), "{attack:?}: {ran:?}");
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let evidence = taglog_proto::evidence::Evidence::from_json(text.as_bytes()).unwrap();
        assert!(evidence.proves_misbehaviour(log.vkey()).is_ok(), "{attack:?}: {file}");
    }
    let again = fixture.once(&[]);
    assert_eq!((again.code, violations(&again).len()), (Some(4), 0), "{attack:?}: {again:?}");
}

#[test]
fn rule_violations_are_alerted_with_evidence() {
    for attack in [
        Attack::OmitsASightingFromTheIndex,
        Attack::OmitsASightingFromAList,
        Attack::CitesAnEntryFalsely,
        Attack::ForgesAnIndexRoot,
        Attack::ReplaysAnOldSeal,
        Attack::SignsWithoutASeal,
        Attack::BreaksTheOrderOfAWitness,
        Attack::BackDatesAnObservation,
        Attack::SealsBeforeTheLastSeal,
        Attack::LogsAMalformedEntry,
        Attack::AdmitsAnUnknownWitness,
        Attack::ForgesASignature,
    ] {
        is_told(attack);
    }
}

#[test]
fn removal_of_published_entries_is_alerted_with_evidence() {
    is_told(Attack::ReordersPublishedEntries);
    is_told(Attack::RollsBack);
}
