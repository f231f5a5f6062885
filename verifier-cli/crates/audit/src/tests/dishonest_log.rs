//! Audits of dishonest logs.

use super::*;

/// Writes a log as static files, with a checkpoint over all of it.
fn write_files(log: &Log, directory: &Path) -> SignedCheckpoint {
    write_files_at(log, directory, log.size())
}

fn write_files_at(log: &Log, directory: &Path, size: u64) -> SignedCheckpoint {
    let write = |name: String, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for tile in 0..size.div_ceil(FULL_WIDTH) {
        let path = tile_path(TileKind::Entries, tile, size);
        let range = (tile * FULL_WIDTH) as usize..(tile * FULL_WIDTH) as usize + usize::from(path.width);
        let bundle = encode_bundle(log.memory.entries()[range].iter().map(Vec::as_slice)).unwrap();
        write(format!("tile/{path}"), &bundle);
    }
    for level in 0..8_u8 {
        for tile in 0..(size >> (8 * level)).div_ceil(FULL_WIDTH) {
            let path = tile_path(TileKind::Hashes(level), tile, size);
            let nodes = tile * FULL_WIDTH..tile * FULL_WIDTH + u64::from(path.width);
            let hashes: Vec<u8> = nodes.flat_map(|node| log.memory.node(8 * level, node).unwrap().0).collect();
            write(format!("tile/{path}"), &hashes);
        }
    }
    let root = root(&log.memory, size).unwrap();
    let checkpoint = Checkpoint { origin: common::ORIGIN.to_owned(), size, root }.sign(&log_key());
    write("checkpoint".to_owned(), checkpoint.to_string().as_bytes());
    checkpoint
}

/// Audits static files with the auditor's state in `state`.
fn run(files: &Path, state: &TempDir, checkpoint: &SignedCheckpoint, seen: &[SignedCheckpoint]) -> (u64, AuditOutcome) {
    let log = StaticLog::open(files.to_str().unwrap(), Duration::from_secs(5)).unwrap();
    let run = Run { log: &log, checkpoint, seen: seen.to_vec(), progress: Silent::shared(), follower: None };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (auditor, outcome) = runtime.block_on(run.audit(open(state))).unwrap();
    (auditor.size(), outcome)
}

/// Audits a log from its first entry.
fn audit(log: &Log) -> (u64, AuditOutcome) {
    let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let checkpoint = write_files(log, files.path());
    run(files.path(), &state, &checkpoint, &[])
}

/// The kind and the log index of the only finding, and whether it has evidence that proves misbehaviour.
fn finding(outcome: &AuditOutcome) -> (AuditFindingKind, Option<u64>, bool) {
    let [finding] = &outcome.findings[..] else { panic!("want one finding: {outcome:?}") };
    assert!(!outcome.complete, "{outcome:?}");
    let proven = finding.evidence.as_ref().map(|evidence| {
        let file = Evidence::from_json(evidence.to_json().as_bytes()).unwrap();
        file.proves_misbehaviour(&log_vkey()).unwrap();
    });
    (finding.kind, finding.index, proven.is_some())
}

/// Valid statements for the next batch.
fn next() -> Vec<Entry> {
    let (a, b) = (witness(1), witness(2));
    vec![observe(&a, APP, 'C', 25), observe(&b, OTHER, 'C', 26), confirm(&a, TEAM, 27), observe(&b, APP, '-', 28)]
}

/// Writes an invalid batch and then a valid one, which must not hide it.
fn write_false(log: &mut Log, draft: Draft) {
    log.write(draft);
    let draft = log.draft(40, None, vec![]);
    log.write(draft);
}

/// A draft with one violation that evidence can prove, the log index of the violation, the violation.
type Wrong = (Draft, u64, Violation);

fn with_seal(log: &Log, change: impl Fn(&mut Draft)) -> Draft {
    let mut draft = log.draft(30, None, next());
    change(&mut draft);
    draft
}

fn wrong_seals(log: &Log) -> Vec<Wrong> {
    let seal = log.size() + 4;
    let wrong = |field, change: &dyn Fn(&mut Draft)| (with_seal(log, change), seal, Violation::Seal(field));
    vec![
        wrong("size", &|draft| draft.seal.size -= 1),
        wrong("roster", &|draft| draft.seal.roster = 1),
        wrong("tags", &|draft| draft.seal.tags += 1),
        wrong("index", &|draft| draft.seal.index = Hash([7; 32])),
    ]
}

fn wrong_statements(log: &Log) -> Vec<Wrong> {
    let (a, stranger) = (witness(1), witness(9));
    let first = log.size();
    let draft = |statements: Vec<Entry>| log.draft(30, None, statements);
    let unchecked = |statements: Vec<Entry>| log.draft_indexed(30, None, statements, &[]);
    let id = |key| common::witness_id(key);
    let mut forged = next();
    if let Entry::Observation(entry) = &mut forged[1] {
        entry.signature.bytes[40] ^= 1;
    }
    let before = |seconds| vec![observe(&a, APP, 'A', seconds)];
    let old = TimeError::TooOld { observed: time(20 - 7001), previous: time(20), past: LIMITS.past };
    let future = TimeError::InFuture { observed: time(331), closing: time(30), future: LIMITS.future };
    let order = OrderError::BeforeObservation { observed: time(16), previous: time(17) };
    vec![
        (draft(vec![observe(&stranger, APP, 'A', 25)]), first, Violation::NotInRoster(id(&stranger))),
        (draft(forged), first + 1, Violation::Signature(id(&witness(2)))),
        (unchecked(before(20 - 7001)), first, old.into()),
        (draft(before(331)), first, future.into()),
        (unchecked(before(16)), first, order.into()),
        (unchecked(vec![confirm(&a, "registry.example/none", 25)]), first, OrderError::NothingToConfirm.into()),
    ]
}

fn wrong_rosters(log: &Log) -> Vec<Wrong> {
    let (a, b) = (witness(1), witness(2));
    let first = log.size();
    let with = |at: i64| -> Roster { roster(at, &[&a, &b]) };
    let mut misplaced = log.draft(30, None, next());
    misplaced.entries.insert(2, Entry::Roster(with(25)));
    misplaced.seal.size += 1;
    vec![
        (log.draft(30, Some(with(19)), next()), first, Violation::RosterTime),
        (log.draft(30, Some(with(31)), next()), first, Violation::RosterTime),
        (misplaced, first + 2, Violation::RosterPlace),
    ]
}

#[test]
fn every_violation_is_found_at_its_index() {
    let honest = honest();
    let wrong = wrong_seals(&honest).into_iter().chain(wrong_statements(&honest)).chain(wrong_rosters(&honest));
    for (draft, index, violation) in wrong {
        let (found, why) = honest.violation(&draft);
        assert_eq!((found, &why), (index, &violation), "the test itself");
        let mut log = honest.clone();
        write_false(&mut log, draft);
        let (size, outcome) = audit(&log);
        assert_eq!(finding(&outcome), (AuditFindingKind::Violation, Some(index), true), "{violation}");
        assert_eq!(outcome.findings[0].reason, violation.to_string());
        assert_eq!(size, honest.size(), "nothing of the batch is taken");
    }
}

#[test]
fn a_seal_older_than_the_previous_one_is_a_violation() {
    let honest = honest();
    // Without statements, whose times would be wrong as well.
    let mut draft = honest.draft(30, None, vec![]);
    draft.seal.time = time(19);
    let mut log = honest.clone();
    write_false(&mut log, draft);
    assert_eq!(finding(&audit(&log).1), (AuditFindingKind::Violation, Some(honest.size()), true));
}

#[test]
fn malformed_entries_are_violations() {
    for (text, evidence) in [(&b"taglog/seal@v1\ntime x\n"[..], true), (b"nothing\n", true), (b"\xff", false)] {
        let mut log = honest();
        let index = log.size() + 1;
        log.write_raw(&[observe(&witness(1), APP, 'C', 25).to_string().into_bytes(), text.to_vec()]);
        let last = log.draft(30, None, vec![]);
        log.write(last);
        assert_eq!(finding(&audit(&log).1), (AuditFindingKind::Violation, Some(index), evidence), "{text:?}");
    }
}

#[test]
fn entries_of_an_unknown_kind_are_not_misbehaviour() {
    let mut log = honest();
    let (size, index) = (log.size(), log.size() + 1);
    log.write_raw(&[observe(&witness(1), APP, 'C', 25).to_string().into_bytes(), b"taglog/owner@v1\n".to_vec()]);
    let last = log.draft(30, None, vec![]);
    log.write(last);
    let (audited, outcome) = audit(&log);
    assert!(outcome.findings.is_empty() && !outcome.complete, "{outcome:?}");
    assert_eq!((audited, outcome.upgrade.map(|(index, _)| index)), (size, Some(index)));
}

#[test]
fn a_log_must_begin_with_a_roster_and_a_seal() {
    let a = witness(1);
    let text = |entry: Entry| entry.to_string().into_bytes();
    for (entries, index) in [
        (vec![text(observe(&a, APP, 'A', 1))], 0),
        (vec![text(Entry::Roster(roster(0, &[&a]))), text(observe(&a, APP, 'A', 1))], 1),
    ] {
        let mut log = Log::default();
        log.write_raw(&entries);
        assert_eq!(audit(&log).1.findings[0].index, Some(index));
    }
}

#[test]
fn a_checkpoint_must_end_in_a_seal() {
    let mut log = honest();
    log.write_raw(&[observe(&witness(1), APP, 'C', 25).to_string().into_bytes()]);
    let (size, outcome) = audit(&log);
    assert_eq!(finding(&outcome), (AuditFindingKind::NoSeal, Some(log.size() - 1), true));
    assert_eq!(size, log.size() - 1);
    // Entries that no checkpoint covers need not end in a seal.
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open(&directory).push(&entries(&log), |_| {}).unwrap(), log.size() as usize - 1);
}

#[test]
fn only_new_entries_are_audited() {
    let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = honest();
    let mut before = 0;
    for round in 0..4 {
        let checkpoint = write_files(&log, files.path());
        let (size, outcome) = run(files.path(), &state, &checkpoint, &[]);
        assert!(outcome.complete && outcome.behind.is_none(), "{outcome:?}");
        assert_eq!((size, outcome.audited), (log.size(), log.size() - before));
        before = log.size();
        let statements = (0..150).map(|i| observe(&witness(1), &format!("registry.example/r:t{i}"), 'A', 30 + round));
        log.batch(30 + round, None, statements.collect());
    }
}

/// Two logs with the same key that share their first batches and then differ.
fn forked(common: usize, one: usize, other: usize) -> (Log, Log) {
    let mut log = honest();
    let grow = |log: &mut Log, batches: usize, letter: char, from: i64| {
        for batch in 0..batches as i64 {
            let name = |i| format!("registry.example/r{batch}:t{i}");
            log.batch(from + batch, None, (0..60).map(|i| observe(&witness(1), &name(i), letter, from)).collect());
        }
    };
    grow(&mut log, common, 'A', 30);
    let mut fork = log.clone();
    grow(&mut log, one, 'B', 50);
    grow(&mut fork, other, 'C', 50);
    (log, fork)
}

#[test]
fn forks_are_found_with_the_auditors_own_state() {
    for (common, one, other) in [(3, 1, 1), (3, 1, 4), (3, 6, 2), (0, 5, 9), (8, 3, 3)] {
        let (log, fork) = forked(common, one, other);
        let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = write_files(&log, files.path());
        assert!(run(files.path(), &state, &first, &[]).1.complete);
        let files = tempfile::tempdir().unwrap();
        let second = write_files(&fork, files.path());
        let (size, outcome) = run(files.path(), &state, &second, &[]);
        let kind = if one == other { AuditFindingKind::Fork } else { AuditFindingKind::Inconsistency };
        assert_eq!(finding(&outcome), (kind, None, true), "{common} {one} {other}");
        assert_eq!(size, log.size(), "the audited history stays");
    }
}

#[test]
fn forks_are_found_with_a_checkpoint_from_elsewhere() {
    let (log, fork) = forked(3, 2, 4);
    let seen = log.checkpoint();
    let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let checkpoint = write_files(&fork, files.path());
    let (_, outcome) = run(files.path(), &state, &checkpoint, &[seen]);
    assert_eq!(finding(&outcome), (AuditFindingKind::Inconsistency, None, true));
}

#[test]
fn a_smaller_checkpoint_is_reported_as_behind() {
    let (log, _) = forked(4, 3, 0);
    let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let checkpoint = write_files(&log, files.path());
    assert!(run(files.path(), &state, &checkpoint, &[]).1.complete);
    let older = write_files_at(&log, files.path(), honest().size());
    let (size, outcome) = run(files.path(), &state, &older, &[]);
    assert_eq!((outcome.behind, size), (Some(log.size()), log.size()));
    assert!(outcome.findings.is_empty(), "{outcome:?}");
}

#[test]
fn damaged_files_are_found_without_evidence() {
    let (log, _) = forked(9, 0, 0);
    assert!(log.size() > 512);
    for name in ["tile/entries/000", "tile/0/001", "tile/1/000.p/2"] {
        let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let checkpoint = write_files(&log, files.path());
        let path = files.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        // Within the digest of an observation, or within a hash.
        let place = bad.windows(7).position(|bytes| bytes == b"sha256:").map_or(40, |place| place + 9);
        bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
        std::fs::write(&path, bad).unwrap();
        let (_, outcome) = run(files.path(), &state, &checkpoint, &[]);
        let (kind, _, proven) = finding(&outcome);
        assert_eq!(
            (kind, proven),
            (AuditFindingKind::FalseData, false),
            "{name}: a damaged copy is no evidence against the log"
        );
        let (_, outcome) = run(files.path(), &state, &checkpoint, &[]);
        assert_eq!(finding(&outcome).0, AuditFindingKind::FalseData, "{name}: found again by the next audit");
        // The audit succeeds once the copy is repaired.
        std::fs::write(&path, good).unwrap();
        let (size, outcome) = run(files.path(), &state, &checkpoint, &[]);
        assert!(outcome.complete && size == log.size(), "{name}: {outcome:?}");
    }
}

#[test]
fn missing_files_are_unavailability_not_misbehaviour() {
    let (log, _) = forked(9, 0, 0);
    for name in ["tile/entries/001", "tile/0/000", "tile/1/000.p/2"] {
        let (files, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let checkpoint = write_files(&log, files.path());
        std::fs::remove_file(files.path().join(name)).unwrap();
        let (_, outcome) = run(files.path(), &state, &checkpoint, &[]);
        assert!(outcome.findings.is_empty() && !outcome.complete, "{outcome:?}");
        assert!(outcome.unavailable.is_some_and(|what| what.contains(name)), "{name}");
        write_files(&log, files.path());
        assert!(run(files.path(), &state, &checkpoint, &[]).1.complete);
    }
}

/// The evidence includes the previous lists of sightings, also of tags with many old ones.
#[test]
fn evidence_of_a_false_seal_includes_old_sightings() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    for round in 0..300_i64 {
        let letter = if round % 2 == 0 { 'A' } else { 'B' };
        log.batch(10 + round, None, vec![observe(&a, APP, letter, 5 + round), observe(&b, OTHER, 'C', 5 + round)]);
    }
    let mut draft = log.draft(400, None, vec![observe(&a, APP, 'C', 399), observe(&b, OTHER, '-', 399)]);
    draft.seal.index = log.memory.state().seal.unwrap().index;
    let index = draft.seal.size;
    write_false(&mut log, draft);
    assert_eq!(finding(&audit(&log).1), (AuditFindingKind::Violation, Some(index), true));
}

#[test]
fn a_push_after_a_violation_fails_in_the_same_way() {
    let (honest, directory) = (honest(), tempfile::tempdir().unwrap());
    let mut log = honest.clone();
    let draft = wrong_seals(&honest).remove(3).0;
    write_false(&mut log, draft);
    let mut auditor = open(&directory);
    for _ in 0..2 {
        let from = auditor.size() as usize;
        let error = auditor.push(&entries(&log)[from..], |_| {}).unwrap_err();
        assert!(matches!(error, PushError::Violation { index: 14, violation: Violation::Seal("index") }), "{error}");
        assert_eq!(auditor.size(), honest.size());
        auditor.commit().unwrap();
    }
    // The changes of the invalid batch were undone.
    assert_same(&auditor, &honest, honest.size());
    let proofs: BTreeMap<_, _> = [APP, OTHER].map(|name| (name, common::image(name))).into();
    for image in proofs.values() {
        let key = taglog_proto::record::tag_key(image);
        let record = honest.memory.tag_record(image).unwrap();
        let commitment = record.as_ref().map(taglog_proto::index::commitment);
        auditor.index().prove(&key).verify(&key, commitment.as_ref(), &auditor.seal().unwrap().index).unwrap();
    }
}
