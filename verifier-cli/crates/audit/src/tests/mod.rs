//! Compares the auditor with the reference log in memory, and runs it against dishonest logs.

mod dishonest_log;

use std::{collections::BTreeMap, path::Path, time::Duration};

use proptest::prelude::*;
use taglog_base::{directory_lock::LockError, progress::Silent};
use taglog_memory_log::fixtures as common;
use taglog_memory_log::fixtures::{
    APP, Draft, LIMITS, Log, confirm, log_key, log_vkey, observe, roster, time, witness,
};
use taglog_proto::{
    audit::Violation,
    checkpoint::{Checkpoint, SignedCheckpoint},
    entry::{Entry, Roster},
    evidence::Evidence,
    index::{OrderError, RecordReader as _},
    merkle::{Hash, NodeReader, root},
    note::SigningKey,
    record::TagRecord,
    rules::TimeError,
    tag_proof::ImageReport,
    tile::{FULL_WIDTH, TileKind, encode_bundle},
};
use tempfile::TempDir;

use super::{
    AuditFindingKind, AuditOutcome, Auditor, AuditorError, PushError, Run, download::tile_path, retags::retagged,
};
use taglog_log_client::static_log::StaticLog;

const TEAM: &str = "registry.example/team/app";
const OTHER: &str = "registry.example/team/app:2.0";
const NEW: &str = "registry.example/team/app:3.0";

fn open(directory: &TempDir) -> Auditor {
    Auditor::open(directory.path(), &log_vkey()).unwrap()
}

fn entries(log: &Log) -> Vec<&[u8]> {
    log.memory.entries().iter().map(Vec::as_slice).collect()
}

/// A log with two witnesses, a retag, a rollback and a confirmation: entries 0 to 8.
fn honest() -> Log {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5), observe(&b, APP, 'A', 6), observe(&a, OTHER, 'C', 7)]);
    log.batch(20, None, vec![observe(&a, APP, 'B', 15), confirm(&b, TEAM, 16), observe(&a, APP, 'A', 17)]);
    log
}

/// Asserts that the auditor's state equals that of the log in memory.
fn assert_same(auditor: &Auditor, log: &Log, size: u64) {
    assert_eq!((auditor.size(), auditor.seal()), (size, log.memory.state().seal.as_ref()));
    assert_eq!(auditor.root(), log.memory.checkpoint("").root);
    for size in 1..=size {
        assert_eq!(auditor.root_at(size).unwrap(), Some(root(&log.memory, size).unwrap()), "size {size}");
    }
    let mut tags = 0;
    for record in log.memory.tag_records() {
        assert_eq!(auditor.index().tag_record(&record.image), Ok(Some(record.clone())));
        let number = auditor.index().number(&record.image).unwrap();
        let stored = auditor.sightings_of(&|tag| tag == number).unwrap();
        for line in record.lines() {
            let by = |sighting: &&super::rows::StoredSighting| {
                auditor.index().witnesses[sighting.witness as usize] == line.witness
            };
            for sighting in stored.iter().filter(by) {
                let entry = Entry::parse(&log.memory.entries()[sighting.index as usize]);
                assert!(matches!(entry, Ok(Entry::Observation(entry)) if entry.observed == sighting.observed));
            }
            let list: Vec<_> = stored.iter().filter(by).map(|sighting| (sighting.index, sighting.seen)).collect();
            let all = log.memory.all_sightings(&record.image, &line.witness).iter();
            assert_eq!(list, all.map(|sighting| (sighting.index, sighting.seen)).collect::<Vec<_>>());
        }
        assert_eq!(auditor.index().tag(&record.image).unwrap().retagged(), retag(log, record));
        tags += 1;
    }
    assert_eq!(auditor.index().tags().count(), tags);
    for record in log.memory.repository_records() {
        assert_eq!(auditor.index().repository_record(&record.repository), Ok(Some(record.clone())));
    }
}

/// The log index of the first sighting of a second digest, by definition; `gone` is not a digest.
fn retag(log: &Log, record: &TagRecord) -> Option<u64> {
    let lists = record.lines().iter().map(|line| log.memory.all_sightings(&record.image, &line.witness));
    let digests = lists.flatten().filter(|sighting| sighting.seen != common::seen('-'));
    let by_index: BTreeMap<_, _> = digests.map(|sighting| (sighting.index, sighting.seen)).collect();
    let first = by_index.values().next()?;
    by_index.iter().find(|(_, seen)| *seen != first).map(|(index, _)| *index)
}

/// Asserts that every retagged tag is reported once with its complete history.
fn assert_retags(auditor: &Auditor, log: &Log) {
    let mut reported = retagged(auditor, |report: &ImageReport| report.clone()).unwrap();
    reported.sort_by_key(|(index, _)| *index);
    let records = log.memory.tag_records();
    let retags = records.filter_map(|record| Some((retag(log, record)?, record)));
    let expected: BTreeMap<u64, &TagRecord> = retags.collect();
    assert_eq!(reported.iter().map(|(index, _)| index).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for ((_, report), record) in reported.iter().zip(expected.values()) {
        assert_eq!(report.image, record.image);
        for (witness, line) in report.witnesses.iter().zip(record.lines()) {
            assert!(witness.complete && witness.line == *line);
            let sightings: Vec<_> = witness.sightings.iter().map(|sighted| sighted.sighting).collect();
            assert_eq!(sightings, log.memory.all_sightings(&record.image, &line.witness));
        }
    }
}

/// One statement: witness, image, observed digest (`None` for a confirmation).
type Step = (u8, u8, Option<u8>);

fn random_log(batches: &[Vec<Step>]) -> Log {
    let keys = [witness(1), witness(2), witness(3)];
    let mut log = Log::new(&[&keys[0], &keys[1]]);
    let mut reported: Vec<(u8, u8)> = Vec::new();
    for (at, steps) in (1_i64..).zip(batches) {
        let mut statements = Vec::new();
        let now = 10 * at;
        for (who, image, seen) in steps {
            // The third witness is in the roster from the third batch on.
            let who = if at < 3 { who % 2 } else { who % 3 };
            let (repository, key) = (image % 3, &keys[usize::from(who)]);
            let name = format!("registry.example/r{repository}");
            match seen {
                Some(seen) => {
                    let seen = [b'-', b'A', b'B', b'C'][usize::from(*seen % 4)];
                    statements.push(observe(key, &format!("{name}:t{image}"), seen.into(), now));
                    reported.push((who, repository));
                }
                None if reported.contains(&(who, repository)) => statements.push(confirm(key, &name, now)),
                None => {}
            }
        }
        let new = (at == 3).then(|| roster(now, &[&keys[0], &keys[1], &keys[2]]));
        log.batch(now, new, statements);
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// For any split of the entries into chunks, and with crashes at any of them.
    #[test]
    fn auditor_state_equals_the_log_for_any_chunks_and_crashes(
        batches in prop::collection::vec(prop::collection::vec(any::<Step>(), 0..40), 1..12),
        cuts in prop::collection::vec((0usize..60, 0..3, any::<bool>()), 0..30),
    ) {
        let log = random_log(&batches);
        let all = entries(&log);
        let directory = tempfile::tempdir().unwrap();
        let mut auditor = open(&directory);
        let mut changes = 0;
        for (count, commit, crashes) in cuts {
            let from = auditor.size() as usize;
            auditor.push(&all[from..all.len().min(from + count)], |batch| changes += batch.changes.len()).unwrap();
            match commit {
                0 => {}
                1 => auditor.begin_commit().unwrap(),
                _ => auditor.commit().unwrap(),
            }
            if crashes {
                drop(auditor);
                auditor = open(&directory);
            }
        }
        let from = auditor.size() as usize;
        auditor.push(&all[from..], |batch| changes += batch.changes.len()).unwrap();
        assert_same(&auditor, &log, all.len() as u64);
        auditor.commit().unwrap();
        let counts = auditor.counts().clone();
        drop(auditor);
        let auditor = open(&directory);
        prop_assert_eq!(auditor.counts(), &counts);
        let kinds = counts.observations + counts.confirmations + counts.seals + counts.rosters;
        prop_assert_eq!(kinds, all.len() as u64);
        assert_same(&auditor, &log, all.len() as u64);
        assert_retags(&auditor, &log);
    }
}

#[test]
fn batch_reports_have_all_sightings() {
    let (mut log, directory) = (honest(), tempfile::tempdir().unwrap());
    // Two witnesses disagree in the first batch of a tag.
    let (first, second) = (witness(1), witness(2));
    log.batch(30, None, vec![observe(&first, NEW, 'A', 25), observe(&second, NEW, 'B', 26)]);
    let mut auditor = open(&directory);
    let mut reports = Vec::new();
    auditor.push(&entries(&log), |batch| reports.push(batch)).unwrap();
    let firsts: Vec<(u64, usize)> = reports.iter().map(|batch| (batch.first, batch.entries.len())).collect();
    assert_eq!(firsts, [(0, 2), (2, 4), (6, 4), (10, 3)]);
    let changes = reports.iter().flat_map(|batch| &batch.changes);
    for change in changes.clone() {
        let entry = Entry::parse(&log.memory.entries()[change.index as usize]).unwrap();
        let Entry::Observation(entry) = entry else { panic!("{entry}") };
        assert_eq!(
            (&change.image, &change.witness, change.observed, change.new),
            (&entry.image, &entry.signature.witness, entry.observed, entry.seen)
        );
    }
    let changes: Vec<_> = changes.map(|change| (change.index, change.old, change.new, change.new_tag)).collect();
    let [a, b, c] = ['A', 'B', 'C'].map(common::seen);
    let want = [
        (2, None, a, true),
        (3, None, a, true),
        (4, None, c, true),
        (6, Some(a), b, false),
        (8, Some(b), a, false),
        (10, None, a, true),
        (11, None, b, true),
    ];
    assert_eq!(changes, want);
    assert_eq!(auditor.index().tag(&common::image(NEW)).unwrap().retagged(), Some(11));
    assert_eq!(auditor.index().tag(&common::image(APP)).unwrap().retagged(), Some(6));
    assert_eq!(auditor.index().tag(&common::image(OTHER)).unwrap().retagged(), None);
}

#[test]
fn a_state_directory_is_for_one_process_and_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory);
    let second = Auditor::open(directory.path(), &log_vkey());
    assert!(matches!(second, Err(AuditorError::Lock(LockError::InUse { .. }))));
    drop(first);
    let other = SigningKey::from_seed(common::ORIGIN, &[8; 32]).unwrap();
    let second = Auditor::open(directory.path(), other.verifier_key());
    assert!(matches!(second, Err(AuditorError::OtherLog { .. })));
}

/// The rows of a failed commit are written together with later rows once writing is possible again.
#[test]
fn a_failed_commit_is_retried() {
    let (log, directory) = (honest(), tempfile::tempdir().unwrap());
    let (all, mut auditor) = (entries(&log), open(&directory));
    let other = rusqlite::Connection::open(directory.path().join(super::store::FILE)).unwrap();
    auditor.push(&all[..2], |_| {}).unwrap();
    auditor.commit().unwrap();
    other.execute_batch("ALTER TABLE sighting RENAME TO away").unwrap();
    auditor.push(&all[2..6], |_| {}).unwrap();
    auditor.begin_commit().unwrap();
    auditor.push(&all[6..], |_| {}).unwrap();
    let is_database = |outcome: Result<(), AuditorError>| matches!(outcome, Err(AuditorError::Database(_)));
    assert!(is_database(auditor.begin_commit()), "the commit before has failed");
    assert!(is_database(auditor.sighting(2).map(|_| ())), "rows that were not written are not reported as missing");
    assert!(is_database(auditor.commit()));
    // No row of the failed commits is in the file.
    let stored: String = other.query_row("SELECT value FROM meta WHERE key = 'seal'", [], |row| row.get(0)).unwrap();
    assert_eq!(stored.as_bytes(), all[1]);
    other.execute_batch("ALTER TABLE away RENAME TO sighting").unwrap();
    assert_same(&auditor, &log, log.size());
    drop(auditor);
    assert_same(&open(&directory), &log, log.size());
}

#[test]
fn a_damaged_state_is_refused() {
    let (log, directory) = (honest(), tempfile::tempdir().unwrap());
    let mut auditor = open(&directory);
    auditor.push(&entries(&log), |_| {}).unwrap();
    auditor.commit().unwrap();
    drop(auditor);
    for damage in [
        "UPDATE tag SET name = 'other' WHERE id = 0",
        "UPDATE tag SET lines = x'00' WHERE id = 0",
        "DELETE FROM tag WHERE id = 1",
        "UPDATE repository SET name = 'registry.example/x'",
        "UPDATE tile SET hashes = substr(hashes, 33)",
        "DELETE FROM tile",
        "UPDATE meta SET value = 'x' WHERE key = 'seal'",
    ] {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join(super::store::FILE), copy.path().join(super::store::FILE)).unwrap();
        let connection = rusqlite::Connection::open(copy.path().join(super::store::FILE)).unwrap();
        connection.execute(damage, []).unwrap();
        drop(connection);
        let opened = Auditor::open(copy.path(), &log_vkey());
        assert!(matches!(opened, Err(AuditorError::Damaged { .. })), "{damage}: {opened:?}");
    }
}
