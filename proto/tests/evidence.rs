//! Evidence proves the misbehaviour of a log that lied, and nothing against one that did not.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use taglog_memory_log::fixtures::{build::*, *};
use taglog_proto::{
    entry::{Entry, Seal},
    evidence::{Evidence, EvidenceError, FalseEntry, FalseSeal, Inconsistency, NoSeal, Phantom},
    merkle::{Frontier, Hash, leaf_hash},
    multiproof,
    note::SigningKey,
    prefix_tree::{self, PrefixError, ProvenUpdate, updated_root},
    record::tag_key,
    tag_proof::IndexedEntry,
};

const TEAM: &str = "registry.example/team/app";
const OTHER: &str = "registry.example/team/app:2.0";

/// Judges evidence as a third party does: from its file.
fn verify(evidence: &Evidence) -> Result<String, EvidenceError> {
    let read = Evidence::from_json(evidence.to_json().as_bytes()).unwrap();
    assert_eq!(&read, evidence);
    read.proves_misbehaviour(&log_vkey())
}

fn assert_proves(evidence: &Evidence, part: &str) {
    let sentence = verify(evidence).unwrap();
    assert!(sentence.contains(part), "{sentence}");
    let other = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(evidence.proves_misbehaviour(other.verifier_key()).is_err(), "another log's key is accused");
}

fn assert_proves_nothing(evidence: &Evidence) {
    let verdict = verify(evidence);
    assert!(matches!(verdict, Err(EvidenceError::ProvesNothing(_))), "{verdict:?}");
}

fn assert_incomplete(evidence: &Evidence) {
    let verdict = verify(evidence);
    assert!(matches!(verdict, Err(EvidenceError::Incomplete(_))), "{verdict:?}");
}

/// A history with two witnesses and a rollback: entries 2 to 4, 6 to 8, and their seals.
fn honest() -> Log {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5), observe(&b, APP, 'A', 6), observe(&a, OTHER, 'C', 7)]);
    log.batch(20, None, vec![observe(&a, APP, 'B', 15), confirm(&b, TEAM, 16), observe(&a, APP, 'A', 17)]);
    log
}

fn next() -> Vec<Entry> {
    let (a, b) = (witness(1), witness(2));
    vec![observe(&a, APP, 'C', 25), observe(&b, OTHER, 'C', 26), confirm(&a, TEAM, 27), observe(&b, APP, '-', 28)]
}

fn indexed(log: &Log, statements: &[Entry]) -> Vec<(u64, Entry)> {
    (log.size()..).zip(statements.iter().cloned()).collect()
}

#[test]
fn two_roots_of_one_size_prove_a_fork() {
    let (log, mut other) = (honest(), honest());
    let sign = |log: &Log| log.checkpoint();
    assert_proves_nothing(&fork(&sign(&log), &sign(&log)));
    other.batch(30, None, next());
    assert_proves_nothing(&fork(&sign(&log), &sign(&other)));
    let mut forked = log.clone();
    forked.batch(31, None, next());
    assert_proves(&fork(&sign(&other), &sign(&forked)), "two different roots for size 15");
    // A checkpoint that somebody else signed in the log's name proves nothing.
    let forger = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let forged = forked.memory.checkpoint(ORIGIN).sign(&forger);
    assert!(matches!(verify(&fork(&sign(&other), &forged)), Err(EvidenceError::Checkpoint(_))));
}

fn numbers(count: u64, changed: Option<u64>) -> Log {
    let mut log = Log::default();
    let text = |i| if changed == Some(i) { format!("not {i}") } else { i.to_string() };
    log.write_raw(&(0..count).map(|i| text(i).into_bytes()).collect::<Vec<_>>());
    log
}

#[test]
fn inconsistency_is_proven_for_all_small_sizes() {
    const MAX: u64 = 40;
    let new = numbers(MAX, None);
    on_all_cores(&(1..MAX).collect::<Vec<u64>>(), |&m| {
        let (true_old, false_old) = (checkpoint_of(&new, m), checkpoint_of(&numbers(m, Some(m / 2)), m));
        for n in m + 1..=MAX {
            assert_proves(&Evidence::Inconsistency(inconsistency(&false_old, &new, n)), "is no prefix of");
            let honest = inconsistency(&true_old, &new, n);
            assert_proves_nothing(&Evidence::Inconsistency(honest.clone()));
            for mutant in inconsistency_mutants(&honest) {
                assert!(
                    Evidence::Inconsistency(mutant.clone()).proves_misbehaviour(&log_vkey()).is_err(),
                    "{m} {n} {mutant:?}"
                );
            }
        }
    });
}

/// Nodes moved between the two lists, left out, doubled and changed.
fn inconsistency_mutants(honest: &Inconsistency) -> Vec<Inconsistency> {
    let all = [&honest.prefix[..], &honest.rest[..]].concat();
    let with = |nodes: &[Hash], cut: usize| {
        let (prefix, rest) = nodes.split_at(cut.min(nodes.len()));
        Inconsistency { prefix: prefix.to_vec(), rest: rest.to_vec(), ..honest.clone() }
    };
    let mut mutants = vec![Inconsistency { old: honest.new.clone(), new: honest.old.clone(), ..honest.clone() }];
    for cut in 0..=all.len() {
        mutants.push(with(&all, cut));
        for i in 0..all.len() {
            mutants.push(with(&[&all[..i], &all[i + 1..]].concat(), cut));
            mutants.push(with(&[&all[..=i], &all[i..]].concat(), cut));
        }
    }
    for i in 0..all.len() {
        let mut changed = all.clone();
        changed[i].0[0] ^= 1;
        mutants.push(with(&changed, honest.prefix.len()));
    }
    mutants
}

/// Sizes the wrong way round would leave room for nodes of anyone's choice.
#[test]
fn inconsistency_with_nodes_left_over_is_refused() {
    let log = numbers(8, None);
    let (small, large) = (checkpoint_of(&log, 4), checkpoint_of(&log, 7));
    let reversed = Inconsistency {
        old: large.to_string(),
        new: small.to_string(),
        prefix: [Frontier::read(&log.memory, 4).unwrap().nodes(), &[Hash::ZERO; 2]].concat(),
        rest: vec![],
    };
    assert_proves_nothing(&Evidence::Inconsistency(reversed));
    let false_old = checkpoint_of(&numbers(3, Some(1)), 3);
    let mut evidence = inconsistency(&false_old, &log, 7);
    assert_proves(&Evidence::Inconsistency(evidence.clone()), "is no prefix of");
    evidence.rest.push(Hash::ZERO);
    assert!(matches!(verify(&Evidence::Inconsistency(evidence)), Err(EvidenceError::Proof(_))));
}

#[test]
fn an_observation_left_out_proves_an_omission() {
    let (a, b) = (witness(1), witness(2));
    let log = honest();
    for index in 2..log.size() {
        assert_proves_nothing(&omission(&log, index));
    }
    let left_out = |statements: Vec<Entry>, skipped: usize| {
        let mut log = log.clone();
        let mut kept = indexed(&log, &statements);
        kept.remove(skipped);
        log.write(log.draft_indexed(30, None, statements, &kept));
        omission(&log, 10 + skipped as u64)
    };
    // The witness has no line; the latest is older; the list lacks a digest.
    assert_proves(&left_out(vec![observe(&b, OTHER, 'C', 25)], 0), "leaves entry 10 out");
    assert_proves(&left_out(vec![observe(&a, APP, 'C', 25)], 0), "leaves entry 10 out");
    let between = vec![observe(&a, APP, 'C', 25), observe(&a, APP, 'A', 26)];
    assert_proves(&left_out(between, 0), "leaves entry 10 out");
    // Nothing at all in the index: neither tag nor repository.
    assert_proves(&left_out(vec![observe(&a, "a.b/c:1", 'C', 25)], 0), "leaves entry 10 out");
}

/// The index tells of a later time at an older entry, so only the time gives it away.
#[test]
fn an_omission_is_proven_by_the_time_of_the_latest_observation() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let logged = vec![observe(&a, APP, 'A', 8), observe(&a, APP, 'A', 5)];
    // Entry 3 is older than entry 2, so no index may take both; this one takes the second.
    let draft = log.draft_indexed(10, None, logged.clone(), &[(3, logged[1].clone())]);
    log.write(draft);
    assert_proves(&omission(&log, 2), "leaves entry 2 out");
}

/// Seen again within one second, and left out: only the log index gives it away.
#[test]
fn an_omission_is_proven_by_the_index_of_the_latest_observation() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let logged = vec![observe(&a, APP, 'A', 5), observe(&a, APP, 'A', 5)];
    log.write(log.draft_indexed(10, None, logged.clone(), &[(2, logged[0].clone())]));
    assert_proves_nothing(&omission(&log, 2));
    assert_proves(&omission(&log, 3), "leaves entry 3 out");
}

#[test]
fn incomplete_omissions_prove_nothing() {
    let log = honest();
    let Evidence::Omission(evidence) = omission(&log, 2) else { panic!() };
    let mut other_image = evidence.clone();
    other_image.tag_proof = log.tag_proof(&[OTHER], None);
    assert_incomplete(&Evidence::Omission(other_image));
    let mut not_included = evidence.clone();
    not_included.observation.entry = observe(&witness(1), APP, 'Z', 5).to_string();
    assert!(matches!(verify(&Evidence::Omission(not_included)), Err(EvidenceError::Proof(_))));

    // One page of a long list cannot show that a digest is not in it.
    let a = witness(1);
    let mut long = Log::new(&[&a]);
    let changes = |i: i64| observe(&a, APP, if i == 300 { 'Z' } else { ['X', 'Y'][i as usize % 2] }, i);
    long.batch(400, None, (0..302).map(changes).collect());
    assert_incomplete(&omission(&long, 302));
}

#[test]
fn a_record_that_contradicts_the_cited_entry_proves_a_phantom() {
    let (a, b) = (witness(1), witness(2));
    let log = honest();
    for (name, key, cited) in [(APP, &a, 8), (APP, &b, 3), (OTHER, &a, 4)] {
        assert_proves_nothing(&phantom(&log, name, key, cited, false));
        assert_proves_nothing(&phantom(&log, name, key, cited, true));
    }
    assert_proves_nothing(&phantom(&log, APP, &a, 2, true));
    // Entries that the record does not cite.
    for cited in [0, 1, 3, 7, 9] {
        assert_proves_nothing(&phantom(&log, APP, &a, cited, false));
        assert_proves_nothing(&phantom(&log, APP, &a, cited, true));
    }
    let lie = |logged: Vec<Entry>, told: Vec<(u64, Entry)>| {
        let mut log = log.clone();
        log.write(log.draft_indexed(30, None, logged, &told));
        log
    };
    let truth = observe(&a, APP, 'C', 25);
    let told =
        [observe(&a, APP, 'Z', 25), observe(&a, APP, 'C', 26), observe(&a, OTHER, 'C', 25), observe(&b, APP, 'C', 25)];
    for (i, told) in told.into_iter().enumerate() {
        let log = lie(vec![truth.clone()], vec![(10, told)]);
        let (name, key) = (if i == 2 { OTHER } else { APP }, if i == 3 { &b } else { &a });
        assert_proves(&phantom(&log, name, key, 10, false), "cites entry 10, which says otherwise");
    }
    // A sighting before the latest, and an entry that is no observation at all.
    let two = vec![(10, observe(&a, APP, 'Z', 25)), (11, observe(&a, APP, 'C', 26))];
    let sighting = lie(vec![truth.clone(), observe(&a, APP, 'C', 26)], two);
    assert_proves(&phantom(&sighting, APP, &a, 10, true), "cites entry 10");
    assert_proves_nothing(&phantom(&sighting, APP, &a, 11, true));
    let seal = lie(vec![truth.clone()], vec![(9, truth.clone())]);
    assert_proves(&phantom(&seal, APP, &a, 9, false), "cites entry 9");
    for beyond in [11, 12, 999] {
        let beyond_the_seal = lie(vec![truth.clone()], vec![(beyond, truth.clone())]);
        assert_proves(&phantom(&beyond_the_seal, APP, &a, beyond, false), "which says otherwise");
        assert_proves(&phantom(&beyond_the_seal, APP, &a, beyond, true), "which says otherwise");
    }
}

/// A log that ends in a seal with another size has misbehaved, but its tag records need not contradict its entries.
#[test]
fn a_phantom_needs_the_checkpoints_own_seal() {
    let a = witness(1);
    let mut log = honest();
    let mut draft = log.draft(30, None, vec![]);
    draft.seal.size = 1;
    log.write(draft);
    for by_list in [false, true] {
        assert_incomplete(&phantom(&log, APP, &a, 8, by_list));
    }
    assert_proves(&no_seal(&log), "does not end in a seal");
}

/// A newer log may index entries that this version cannot read.
#[test]
fn a_phantom_of_an_unknown_kind_proves_nothing() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let told = observe(&a, APP, 'A', 5);
    let known = log.draft(10, None, vec![told]);
    let mut bytes = known.bytes();
    bytes[0] = b"taglog/observation@v2\nwhatever\n".to_vec();
    log.write_raw(&bytes);
    log.memory.apply(&known.changes.records, known.changes.tree);
    assert!(verify(&phantom(&log, APP, &a, 2, false)).is_err());
    assert!(verify(&phantom(&log, APP, &a, 2, true)).is_err());
}

#[test]
fn incomplete_phantoms_prove_nothing() {
    let log = honest();
    let Evidence::Phantom(whole) = phantom(&log, APP, &witness(1), 8, true) else { panic!() };
    let change = |change: &dyn Fn(&mut Phantom)| {
        let mut evidence = whole.clone();
        change(&mut evidence);
        Evidence::Phantom(evidence)
    };
    assert_incomplete(&change(&|e| e.tag.record = None));
    assert_incomplete(&change(&|e| e.sightings = Some(vec![])));
    assert_incomplete(&change(&|e| drop(e.sightings.as_mut().unwrap().pop())));
    assert_incomplete(&change(&|e| e.sightings.as_mut().unwrap()[0] = format!("8 {}", seen('Z'))));
    assert_incomplete(&change(&|e| e.witness = witness_id(&witness(3)).to_string()));
    let only = |kept: u64| {
        change(&|e| {
            e.entries.retain(|entry| entry.index == kept);
            e.multiproof = multiproof::build(&log.memory, &[kept], log.size()).unwrap();
        })
    };
    assert_incomplete(&only(8));
    assert_incomplete(&only(9));
    // The record of another tag, or a made-up one, is not what the index holds.
    assert!(matches!(verify(&change(&|e| e.image = OTHER.to_owned())), Err(EvidenceError::Index(_))));
    let made_up = |e: &mut Phantom| e.tag.record = e.tag.record.as_ref().map(|text| text.replace(" 8 ", " 7 "));
    assert!(matches!(verify(&change(&made_up)), Err(EvidenceError::Index(_))));
    let forged = |e: &mut Phantom| e.entries[0].entry = observe(&witness(1), APP, 'Z', 17).to_string();
    assert!(matches!(verify(&change(&forged)), Err(EvidenceError::Proof(_))));
}

#[test]
fn a_checkpoint_that_does_not_end_in_its_seal_proves_misbehaviour() {
    let mut log = honest();
    assert_proves_nothing(&no_seal(&log));
    let seal = log.memory.entries().last().unwrap().clone();
    let mut replayed = log.clone();
    replayed.write_raw(&[seal]);
    assert_proves(&no_seal(&replayed), "does not end in a seal");
    let mut unknown = log.clone();
    unknown.write_raw(&[b"taglog/seal@v2\nwhatever\n".to_vec()]);
    assert_proves_nothing(&no_seal(&unknown));
    let mut garbage = log.clone();
    garbage.write_raw(&[b"garbage".to_vec()]);
    assert_proves(&no_seal(&garbage), "does not end in a seal");
    log.write_raw(&[observe(&witness(1), APP, 'A', 25).to_string().into_bytes()]);
    assert_proves(&no_seal(&log), "does not end in a seal");

    let Evidence::NoSeal(honest) = no_seal(&honest()) else { panic!() };
    let another = NoSeal { entry: "garbage".to_owned(), ..honest };
    assert!(matches!(verify(&Evidence::NoSeal(another)), Err(EvidenceError::Proof(_))));
}

/// The next batch with a false seal.
fn falsely_sealed(change: impl Fn(&mut Seal)) -> Evidence {
    let before = honest();
    let mut after = before.clone();
    let mut draft = before.draft(30, None, next());
    change(&mut draft.seal);
    after.write(draft);
    false_seal(&before, &after)
}

#[test]
fn a_false_value_in_a_seal_proves_misbehaviour() {
    assert_proves_nothing(&falsely_sealed(|_| {}));
    assert_proves(&falsely_sealed(|seal| seal.index.0[0] ^= 1), "the seal's 'index' is false");
    assert_proves(&falsely_sealed(|seal| seal.tags += 1), "the seal's 'tags' is false");
    assert_proves(&falsely_sealed(|seal| seal.size -= 1), "the seal's 'size' is false");
    assert_proves(&falsely_sealed(|seal| seal.roster = 1), "the seal's 'roster' is false");
    assert_proves(&falsely_sealed(|seal| seal.time = time(19)), "the seal's 'time' is false");
}

#[test]
fn a_batch_that_breaks_a_rule_proves_a_false_seal() {
    let before = honest();
    let (a, b) = (witness(1), witness(2));
    let proves = |statements: Vec<Entry>, part: &str| {
        let mut after = before.clone();
        after.write(before.draft_indexed(30, None, statements, &[]));
        assert_proves(&false_seal(&before, &after), part);
    };
    proves(vec![observe(&a, APP, 'C', 16)], "the same witness has observed this tag");
    proves(vec![observe(&b, APP, 'C', 15)], "the same witness has confirmed this repository");
    proves(vec![observe(&a, APP, 'C', 331)], "after the closing seal");
    proves(vec![observe(&a, "a.b/c:1", 'C', -6981)], "before the previous seal");
    proves(vec![confirm(&a, "a.b/c", 25)], "needs at least one observation");
    proves(vec![Entry::Roster(roster(22, &[&a])), Entry::Roster(roster(22, &[&a]))], "elsewhere than directly");
    proves(vec![Entry::Roster(roster(19, &[&a]))], "the roster's time");
    let mut after = before.clone();
    let mut bytes = before.draft(30, None, next()).bytes();
    bytes[1] = b"garbage\n".to_vec();
    after.write_raw(&bytes);
    assert_proves(&false_seal(&before, &after), "malformed entry");
    bytes[1] = b"taglog/statement@v2\n".to_vec();
    let mut newer = before.clone();
    newer.write_raw(&bytes);
    assert_proves_nothing(&false_seal(&before, &newer));
}

/// An observation that the index leaves out, hidden from every tag proof by a wrong latest.
#[test]
fn an_entry_left_out_of_the_index_proves_a_false_seal() {
    let before = honest();
    for skipped in 0..next().len() {
        let mut kept = indexed(&before, &next());
        kept.remove(skipped);
        let mut after = before.clone();
        after.write(before.draft_indexed(30, None, next(), &kept));
        assert_proves(&false_seal(&before, &after), "the seal's");
    }
}

/// What a root becomes follows only from proofs that are true of it, one for each key.
#[test]
fn false_seal_evidence_needs_true_index_proofs() {
    let log = honest();
    let root = prefix_tree::root(&log.memory).unwrap();
    let update = |name: &str| {
        let answer = log.tag_answer(&image(name));
        let old = answer.record.map(|record| Hash::of(record.as_bytes()));
        ProvenUpdate { key: tag_key(&image(name)), old, proof: answer.proof, new: Hash::ZERO }
    };
    let (app, absent) = (update(APP), update("a.b/c:1"));
    assert!(updated_root(&root, &[app.clone(), absent.clone()]).is_ok());
    let twice = [app.clone(), ProvenUpdate { new: root, ..app.clone() }];
    assert_eq!(updated_root(&root, &twice), Err(PrefixError::Contradiction));
    for lie in [None, Some(Hash::ZERO)] {
        let lie = ProvenUpdate { old: lie, ..app.clone() };
        assert_eq!(updated_root(&root, &[lie, absent.clone()]), Err(PrefixError::WrongRoot));
    }
    assert_eq!(updated_root(&Hash::ZERO, &[app]), Err(PrefixError::WrongRoot));
}

/// Every batch of an honest log, under every later checkpoint.
#[test]
fn honest_batches_prove_nothing() {
    let (a, b, c) = (witness(1), witness(2), witness(3));
    let mut logs = vec![Log::new(&[&a, &b])];
    let mut push = |at, roster, statements| {
        let mut log = logs.last().unwrap().clone();
        log.batch(at, roster, statements);
        logs.push(log);
    };
    push(10, None, vec![observe(&a, APP, 'A', 5), observe(&b, APP, 'A', 6)]);
    push(20, None, vec![]);
    push(30, Some(roster(25, &[&a, &b, &c])), vec![observe(&c, APP, 'B', 26), confirm(&a, TEAM, 27)]);
    let many = (0..40).map(|i| observe(&c, &format!("registry.example/many/r{}:{i}", i % 5), 'A', 35));
    push(40, None, many.collect());
    push(50, Some(roster(45, &[&a])), (0..9).map(|i| observe(&a, APP, ['X', 'Y'][i % 2], 46)).collect());
    push(60, None, vec![observe(&a, "registry.example/many/r1:1", 'B', 55)]);
    for (i, before) in logs.iter().enumerate() {
        for after in &logs[i + 1..] {
            let evidence = false_seal_until(before, after, logs[i + 1].size());
            assert_proves_nothing(&Evidence::FalseSeal(evidence));
        }
    }
    // Two batches are not one.
    let two = false_seal_until(&logs[1], &logs[3], logs[3].size());
    assert_proves_nothing(&Evidence::FalseSeal(two));
}

#[test]
fn incomplete_false_seals_prove_nothing() {
    let before = honest();
    let mut after = before.clone();
    after.batch(30, None, next());
    let mut lied = before.clone();
    let mut draft = before.draft(30, None, next());
    draft.seal.index.0[0] ^= 1;
    lied.write(draft);
    for (log, lies) in [(&after, false), (&lied, true)] {
        let Evidence::FalseSeal(whole) = false_seal(&before, log) else { panic!() };
        let change = |change: &dyn Fn(&mut FalseSeal)| {
            let mut evidence = whole.clone();
            change(&mut evidence);
            Evidence::FalseSeal(evidence)
        };
        assert_eq!(verify(&change(&|_| {})).is_ok(), lies);
        for i in 0..whole.tags.len() {
            assert_incomplete(&change(&|e| drop(e.tags.remove(i))));
            assert_incomplete(&change(&|e| drop(e.tags[i].sightings.pop())));
            assert_incomplete(&change(&|e| e.tags[i].sightings.push(vec![])));
            assert_incomplete(&change(&|e| e.tags[i].sightings[0].clear()));
            assert!(matches!(verify(&change(&|e| e.tags[i].answer.record = None)), Err(EvidenceError::Index(_))));
        }
        for i in 0..whole.repositories.len() {
            assert_incomplete(&change(&|e| drop(e.repositories.remove(i))));
            let unknown = change(&|e| e.repositories[i].answer.record = None);
            assert!(matches!(verify(&unknown), Err(EvidenceError::Index(_))));
        }
        for i in 0..whole.entries.len() {
            let verdict = verify(&change(&|e| drop(e.entries.remove(i))));
            assert!(matches!(verdict, Err(EvidenceError::Proof(_))), "{i}: {verdict:?}");
        }
        // Entries cut short, with the hash of what follows, which is in the tree.
        let cut = change(&|e| {
            e.entries.pop();
            e.rest = vec![leaf_hash(log.memory.entries().last().unwrap())];
        });
        assert_incomplete(&cut);
        // Another true entry as the roster, or as the previous seal.
        let another = |index: u64| {
            change(&|e| {
                e.roster = IndexedEntry { index, entry: log.entry(index) };
                e.roster_inclusion = inclusion(log, index);
            })
        };
        assert_incomplete(&another(1));
        assert_incomplete(&another(2));
        let later = change(&|e| {
            e.start += 1;
            e.entries.remove(0);
            e.prefix = Frontier::read(&log.memory, e.start).unwrap().nodes().to_vec();
        });
        assert_incomplete(&later);
        assert!(change(&|e| e.start = u64::MAX).proves_misbehaviour(&log_vkey()).is_err());
        assert!(verify(&change(&|e| e.entries.clear())).is_err());
    }
}

/// A roster of the log, but not the one in force, would make its limits another rule.
#[test]
fn another_roster_is_not_in_force() {
    let a = witness(1);
    let limits = taglog_proto::entry::Limits { past: 0, future: 0, quiet: 0 };
    let strict = taglog_proto::entry::Roster::new(time(0), limits, vec![a.verifier_key().clone()]).unwrap();
    let mut log = Log::default();
    log.batch(0, Some(strict), vec![]);
    log.batch(10, Some(roster(5, &[&a])), vec![]);
    let before = log.clone();
    log.batch(20, None, vec![observe(&a, APP, 'A', 2)]);
    let Evidence::FalseSeal(mut evidence) = false_seal(&before, &log) else { panic!() };
    assert_proves_nothing(&Evidence::FalseSeal(evidence.clone()));
    let mut forged = evidence.clone();
    forged.roster.entry = forged.roster.entry.replace("past=7000", "past=0");
    assert!(matches!(verify(&Evidence::FalseSeal(forged)), Err(EvidenceError::Proof(_))));
    evidence.roster = IndexedEntry { index: 0, entry: log.entry(0) };
    evidence.roster_inclusion = inclusion(&log, 0);
    assert_incomplete(&Evidence::FalseSeal(evidence));
}

/// Entries after the last of a perfect tree would not change how its nodes fold.
#[test]
fn entries_beyond_the_checkpoint_prove_nothing() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10, None, (1..=5).map(|at| observe(&a, APP, 'A', at)).collect());
    assert!(log.size().is_power_of_two());
    let mut made_up = log.clone();
    let mut draft = log.draft(20, None, vec![observe(&a, APP, 'B', 15)]);
    draft.seal.index = Hash::ZERO;
    made_up.write(draft);
    let Evidence::FalseSeal(evidence) = false_seal(&log, &made_up) else { panic!() };
    assert_proves(&Evidence::FalseSeal(evidence.clone()), "the seal's 'index' is false");
    let framing = FalseSeal {
        checkpoint: log.checkpoint().to_string(),
        rest: vec![],
        roster_inclusion: inclusion(&log, 0),
        ..evidence
    };
    assert_proves_nothing(&Evidence::FalseSeal(framing));
}

/// The next batch with this in it, as evidence against each of its statements.
fn false_entries(statements: Vec<Entry>) -> Vec<Evidence> {
    let before = honest();
    let mut after = before.clone();
    after.write(before.draft(30, None, statements));
    let end = after.size() - 1;
    (before.size()..end).map(|index| false_entry(&after, [before.roster, index, end])).collect()
}

/// The same statement, with a signature that was changed.
fn forged(statement: &Entry) -> Entry {
    let mut statement = statement.clone();
    match &mut statement {
        Entry::Observation(entry) => entry.signature.bytes[40] ^= 1,
        Entry::Confirmation(entry) => entry.signature.bytes[40] ^= 1,
        Entry::Roster(_) | Entry::Seal(_) => panic!("no statement"),
    }
    statement
}

#[test]
fn a_false_entry_proves_misbehaviour() {
    let (a, stranger) = (witness(1), witness(3));
    for statement in next() {
        let [evidence] = &false_entries(vec![forged(&statement)])[..] else { panic!() };
        assert_proves(evidence, "has logged entry 10, which witness.example/");
        let [evidence] = &false_entries(vec![statement])[..] else { panic!() };
        assert_proves_nothing(evidence);
    }
    let theirs = vec![observe(&stranger, APP, 'A', 25), confirm(&stranger, TEAM, 26)];
    for (index, evidence) in (10..).zip(false_entries(theirs)) {
        assert_proves(&evidence, &format!("entry {index} by witness.example/w3+"));
        assert_proves(&evidence, "who is not in the roster in force");
    }
    // Any later seal will do, and any later checkpoint.
    let before = honest();
    let mut log = before.clone();
    log.write(before.draft(30, None, vec![forged(&observe(&a, APP, 'C', 25))]));
    log.write(log.draft(40, None, vec![]));
    log.write(log.draft(50, Some(roster(45, &[&a, &stranger])), vec![]));
    for seal in [11, 12] {
        assert_proves(&false_entry(&log, [0, 10, seal]), "has logged entry 10");
    }
    assert_incomplete(&false_entry(&log, [0, 10, 14]));
}

/// Of a log whose rosters change, no roster but the one in force says who may speak.
#[test]
fn another_roster_proves_nothing_about_an_entry() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a]);
    log.batch(10, Some(roster(5, &[&a, &b])), vec![observe(&b, APP, 'A', 6)]);
    log.batch(20, Some(roster(15, &[&b])), vec![observe(&b, APP, 'B', 16)]);
    log.batch(30, Some(roster(25, &[&a])), vec![]);
    let size = log.size();
    for roster in 0..size {
        for entry in roster + 1..size {
            for seal in entry + 1..size {
                let verdict = verify(&false_entry(&log, [roster, entry, seal]));
                assert!(verdict.is_err(), "{roster} {entry} {seal}: {verdict:?}");
            }
        }
    }
}

#[test]
fn incomplete_false_entries_prove_nothing() {
    let a = witness(1);
    let Evidence::FalseEntry(whole) = false_entries(vec![forged(&observe(&a, APP, 'C', 25))]).remove(0) else {
        panic!()
    };
    let change = |change: &dyn Fn(&mut FalseEntry)| {
        let mut evidence = whole.clone();
        change(&mut evidence);
        Evidence::FalseEntry(evidence)
    };
    assert!(verify(&change(&|_| {})).is_ok());
    let is_unproven = |evidence: Evidence| {
        let verdict = verify(&evidence);
        assert!(matches!(verdict, Err(EvidenceError::Proof(_))), "{verdict:?}");
    };
    is_unproven(change(&|e| e.entries.swap(0, 1)));
    is_unproven(change(&|e| e.entries[2] = e.entries[1].clone()));
    is_unproven(change(&|e| e.multiproof.truncate(e.multiproof.len() - 1)));
    is_unproven(change(&|e| e.multiproof.push(Hash::ZERO)));
    is_unproven(change(&|e| e.entries[0].entry = roster(0, &[&witness(2)]).to_string()));
    assert!(change(&|e| e.entries[2].index = u64::MAX).proves_misbehaviour(&log_vkey()).is_err());
    let file = change(&|e| e.entries[2].index = 1 << 53).to_json();
    assert!(matches!(Evidence::from_json(file.as_bytes()), Err(EvidenceError::Json(_))));
    // What is no statement is another matter; a later version's may be anything.
    let log = honest();
    for entry in [1, 5] {
        assert_proves_nothing(&false_entry(&log, [0, entry, 9]));
    }
    for text in ["garbage\n", "taglog/statement@v2\n"] {
        let mut log = honest();
        let mut bytes = log.draft(30, None, next()).bytes();
        bytes[1] = text.as_bytes().to_vec();
        log.write_raw(&bytes);
        let end = log.size() - 1;
        assert_proves_nothing(&false_entry(&log, [0, 11, end]));
    }
}

/// Every piece of evidence that an honest log's data can be dressed up as.
fn honest_evidence() -> Vec<Evidence> {
    let (a, b) = (witness(1), witness(2));
    let before = honest();
    let mut log = before.clone();
    log.batch(30, None, next());
    vec![
        fork(&before.checkpoint(), &log.checkpoint()),
        Evidence::Inconsistency(inconsistency(&before.checkpoint(), &log, log.size())),
        omission(&log, 6),
        omission(&log, 13),
        phantom(&log, APP, &a, 8, true),
        phantom(&log, APP, &b, 13, false),
        false_seal(&before, &log),
        no_seal(&log),
        false_entry(&log, [0, 8, 9]),
        false_entry(&log, [0, 12, 14]),
    ]
}

/// Nothing that is done to true data proves misbehaviour.
#[test]
fn mutated_honest_evidence_proves_nothing() {
    let evidence: Vec<Value> =
        honest_evidence().iter().map(|evidence| serde_json::from_str(&evidence.to_json()).unwrap()).collect();
    let donors: Vec<&Value> = evidence.iter().collect();
    let key = log_vkey();
    let tried = std::sync::atomic::AtomicUsize::new(0);
    for document in &evidence {
        on_all_cores(&mutations(document, &donors), |mutation| {
            tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mutant = mutation.apply(document).to_string();
            if let Ok(evidence) = Evidence::from_json(mutant.as_bytes()) {
                let verdict = evidence.proves_misbehaviour(&key);
                assert!(verdict.is_err(), "{} becomes {}: {verdict:?}", mutation.pointer, mutation.value);
            }
        });
    }
    let tried = tried.into_inner();
    assert!(tried > 5_000, "only {tried} mutants");
}

#[test]
fn no_changed_byte_of_honest_evidence_proves_misbehaviour() {
    let key = log_vkey();
    for evidence in honest_evidence() {
        let bytes = evidence.to_json().into_bytes();
        on_all_cores(&(0..bytes.len()).collect::<Vec<_>>(), |&i| {
            for new in [vec![], vec![bytes[i] ^ 1], vec![bytes[i]; 2], vec![b'0']] {
                let mutant = [&bytes[..i], &new[..], &bytes[i + 1..]].concat();
                let verdict = Evidence::from_json(&mutant).and_then(|evidence| evidence.proves_misbehaviour(&key));
                assert!(verdict.is_err(), "byte {i} becomes {new:?}");
            }
        });
    }
}

#[test]
fn evidence_files_are_read_back_as_written() {
    let good = no_seal(&honest()).to_json();
    assert!(Evidence::from_json(good.as_bytes()).is_ok());
    for bad in [
        String::new(),
        "{}".to_owned(),
        good.replace("no-seal@v1", "no-seal@v2"),
        good.replace("\"entry\"", "\"more\":1,\"entry\""),
        good.replace("\"entry\"", "\"entry\":\"\",\"entry\""),
        format!("{good}x"),
    ] {
        assert!(matches!(Evidence::from_json(bad.as_bytes()), Err(EvidenceError::Json(_))), "{bad}");
    }
}
