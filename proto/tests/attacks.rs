//! Attacks of a dishonest log, and every lie that a tag proof could tell.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use curve25519_dalek::{EdwardsPoint, Scalar, constants::EIGHT_TORSION};
use sha2::{Digest as _, Sha512};
use taglog_memory_log::fixtures::*;
use taglog_proto::{
    audit::{AuditError, AuditState, Violation, audit_batch},
    checkpoint::Checkpoint,
    entry::{Entry, EntryError, Observation, Roster},
    evidence::{Evidence, NoSeal},
    index::{OrderError, RecordChanges, RecordReader},
    merkle::{Frontier, Hash, ProofError, inclusion_proof, leaf_hash},
    multiproof,
    name::{Image, Repository, WitnessId},
    note::{SigningKey, VerifierKey},
    prefix_tree::{self, Leaf, PrefixError, PrefixProof, SearchResult},
    record::{Sighting, TagRecord, repository_key, tag_key},
    rules::{SignatureVerdict, TimeError, check_signature},
    tag_proof::{ImageReport, IndexAnswer, IndexedEntry, SightingPage, TYPE, TagProof, TagProofError, VerifiedLookup},
};

const TEAM: &str = "registry.example/team/app";
const OTHER: &str = "registry.example/team/app:2.0";
const ELSEWHERE: &str = "registry.example/elsewhere/app:1.0";

fn report(log: &Log, name: &str) -> ImageReport {
    log.tag_proof(&[name], None).verify(&log_vkey()).unwrap().report(&image(name)).unwrap().clone()
}

fn seen_by(log: &Log, key: &SigningKey) -> Vec<String> {
    log.sightings(&image(APP), &witness_id(key))
}

#[test]
fn a_replayed_seal_is_refused_and_proves_misbehaviour() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
    let mut replayed = log.clone();
    let seal = log.memory.entries().last().unwrap().clone();
    replayed.write_raw(&[observe(&a, APP, 'B', 15).to_string().into_bytes(), seal.clone()]);
    let proof = replayed.tag_proof(&[APP], None);
    assert_eq!(proof.verify(&log_vkey()).err(), Some(TagProofError::Seal));

    let size = replayed.size();
    let inclusion = inclusion_proof(&replayed.memory, size - 1, size).unwrap();
    let entry = String::from_utf8(seal).unwrap();
    let evidence = Evidence::NoSeal(NoSeal { checkpoint: replayed.checkpoint().to_string(), entry, inclusion });
    assert!(evidence.proves_misbehaviour(&log_vkey()).is_ok());
}

/// A thousand changes by one witness take nothing from what the other saw.
#[test]
fn a_flooding_witness_does_not_hide_what_others_saw() {
    let (honest, flooder) = (witness(1), witness(2));
    let mut log = Log::new(&[&honest, &flooder]);
    let flood = |i: i64| observe(&flooder, APP, if i % 2 == 0 { 'X' } else { 'Y' }, i);
    let mut statements: Vec<Entry> = (0..1000).map(flood).collect();
    statements.insert(500, observe(&honest, APP, 'A', 5));
    log.batch(1000, None, statements);

    let pages: Vec<_> =
        (0..4).map(|page| log.tag_proof_page(&[APP], None, page).verify(&log_vkey()).unwrap()).collect();
    let first = pages[0].report(&image(APP)).unwrap();
    assert_eq!((first.witnesses[0].complete, first.witnesses[0].sightings.len()), (true, 1));
    assert_eq!((first.witnesses[1].complete, first.witnesses[1].sightings.len()), (false, 256));
    for missing in 1..4 {
        let mut joined = pages[0].clone();
        let some: Vec<_> = (1..4).filter(|page| *page != missing).map(|page| pages[page].clone()).collect();
        joined.join_pages(&some);
        assert!(!joined.images[0].witnesses[1].complete, "without page {missing}");
    }
    let mut joined = pages[0].clone();
    joined.join_pages(&pages[1..]);
    let all: Vec<String> = joined.images[0].witnesses[1].sightings.iter().map(|s| s.sighting.to_string()).collect();
    assert_eq!((joined.images[0].witnesses[1].complete, all), (true, seen_by(&log, &flooder)));
}

/// A log with 257 changes that end in X, what its last page told, and the log after a rollback to Y
/// that is the latest observation of a record with these counts, but in no list.
fn hidden_rollback(observations: u64, sightings: u64) -> (Log, VerifiedLookup) {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let changes = (0..257).map(|i| observe(&a, APP, if i % 2 == 0 { 'X' } else { 'Y' }, i)).collect();
    log.batch(300, None, changes);
    let last_page = log.tag_proof_page(&[APP], None, 1).verify(&log_vkey()).unwrap();

    let mut draft = log.draft(310, None, vec![observe(&a, APP, 'Y', 301)]);
    let old = log.memory.tag_record(&image(APP)).unwrap().unwrap().lines()[0].root;
    let record = &mut draft.changes.records.tag_records[0].record;
    let honest = format!(" 258 258 {} ", record.lines()[0].root);
    let told = record.to_string().replace(&honest, &format!(" {observations} {sightings} {old} "));
    *record = TagRecord::parse(&told).unwrap();
    draft.changes.records.sightings.clear();
    draft.changes.tree = prefix_tree::update(&log.memory, &draft.changes.records.leaves()).unwrap();
    draft.seal.index = draft.changes.tree.root;
    log.write(draft);
    (log, last_page)
}

/// An old last page and a new first page make a list only if it ends in what the witness last saw.
#[test]
fn joined_pages_hide_no_rollback() {
    let (log, last_page) = hidden_rollback(258, 257);
    assert!(log.tag_proof_page(&[APP], None, 1).verify(&log_vkey()).is_err(), "the lie shows on the last page");
    let mut joined = log.tag_proof_page(&[APP], None, 0).verify(&log_vkey()).unwrap();
    joined.join_pages(&[last_page]);
    assert!(!joined.images[0].witnesses[0].complete, "a list that ends in X is complete, but Y was seen last");
}

/// A list shorter than the record counts is not complete, even if the record has its root.
#[test]
fn joined_pages_are_as_many_as_counted() {
    let (log, last_page) = hidden_rollback(258, 258);
    let mut joined = log.tag_proof_page(&[APP], None, 0).verify(&log_vkey()).unwrap();
    joined.join_pages(&[last_page]);
    assert!(!joined.images[0].witnesses[0].complete, "257 of 258 sightings");
}

#[test]
fn a_witness_id_never_gets_a_second_key() {
    let (a, b) = (witness(1), witness(2));
    let log = Log::new(&[&a]);
    let draft = log.draft(10, Some(roster(5, &[&a, &b])), vec![]).bytes();
    let batch: Vec<&[u8]> = draft.iter().map(Vec::as_slice).collect();
    let audit = |state: &AuditState| audit_batch(state, &batch, &log.memory, true).map(|audited| audited.state.size);
    assert_eq!(audit(log.memory.state()), Ok(4));
    // A second key with the same four bytes of hash takes hours to find; a state that knows one does not.
    let mut state = log.memory.state().clone();
    state.keys.insert(witness_id(&b), *witness(3).verifier_key().as_bytes());
    let violation = Violation::TwoKeysWithOneId(witness_id(&b));
    assert_eq!(audit(&state), Err(AuditError::Violation { index: 2, violation }));
}

/// The key of a removed witness is remembered, so its id cannot return with another.
#[test]
fn removed_witness_keeps_its_id() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(10, Some(roster(5, &[&a])), vec![]);
    assert_eq!(log.memory.state().keys.get(&witness_id(&b)), Some(b.verifier_key().as_bytes()));
}

/// A signature as its signer can make it: with any nonce point.
fn sign_with(seed: u8, text: &str, nonce: u64, torsion: EdwardsPoint) -> [u8; 64] {
    let point = (EdwardsPoint::mul_base(&Scalar::from(nonce)) + torsion).compress().to_bytes();
    sign_at(seed, text, nonce, point)
}

fn sign_at(seed: u8, text: &str, nonce: u64, point: [u8; 32]) -> [u8; 64] {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key().to_bytes();
    let hash = Sha512::new_with_prefix(point).chain_update(public).chain_update(text).finalize();
    let s = Scalar::from(nonce) + Scalar::from_bytes_mod_order_wide(&hash.into()) * key.to_scalar();
    [point, s.to_bytes()].concat().try_into().unwrap()
}

/// The observation with another signature on the same text.
fn re_signed(entry: &Entry, sign: impl Fn(&str) -> [u8; 64]) -> Entry {
    let Entry::Observation(entry) = entry else { panic!("not an observation") };
    let mut entry = entry.clone();
    entry.signature.bytes = sign(&entry.text());
    Entry::Observation(entry)
}

/// One text signed in two ways is one report twice: no sighting, no violation.
#[test]
fn a_note_that_is_signed_again_is_the_same_observation() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let first = observe(&a, APP, 'A', 5);
    let again = re_signed(&first, |text| sign_with(1, text, 77, EIGHT_TORSION[0]));
    let (Entry::Observation(x), Entry::Observation(y)) = (&first, &again) else { panic!() };
    assert!(x.text() == y.text() && x.signature != y.signature);
    assert!(y.verify(a.verifier_key()).is_ok());
    log.batch(10, None, vec![first, again.clone()]);
    log.batch(20, None, vec![again]);
    let line = report(&log, APP).witnesses[0].line.clone();
    assert_eq!((line.observations, line.sightings, line.index), (3, 1, 5));
}

#[test]
fn an_observation_before_the_previous_one_is_a_violation() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(20, None, vec![observe(&a, APP, 'A', 15)]);
    // Another witness, another tag, and the same second are in order.
    log.clone().batch(
        30,
        None,
        vec![observe(&b, APP, 'A', 14), observe(&a, OTHER, 'A', 14), observe(&a, APP, 'B', 15)],
    );
    let late = log.draft_indexed(30, None, vec![observe(&a, APP, 'A', 14)], &[]);
    let before =
        |(index, violation)| matches!((index, violation), (4, Violation::Order(OrderError::BeforeObservation { .. })));
    assert!(before(log.violation(&late)));
    let two = vec![observe(&a, OTHER, 'A', 29), observe(&a, OTHER, 'A', 28)];
    let within = log.draft_indexed(30, None, two.clone(), &[(4, two[0].clone())]);
    assert!(matches!(log.violation(&within), (5, Violation::Order(OrderError::BeforeObservation { .. }))));
}

#[test]
fn times_must_fit_the_seals_around_them() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(100, None, vec![]);
    let at_edge = |at| log.draft(200, None, vec![observe(&a, APP, 'A', at)]);
    assert!(log.clone().audit(&at_edge(500).bytes()).is_ok());
    assert!(matches!(log.violation(&at_edge(501)), (3, Violation::Time(TimeError::InFuture { .. }))));
    assert_eq!(log.violation(&log.draft(99, None, vec![])), (3, Violation::Seal("time")));
    assert!(log.clone().audit(&log.draft(100, None, vec![]).bytes()).is_ok());
    for (roster_time, fine) in [(99, false), (100, true), (200, true), (201, false)] {
        let draft = log.draft(200, Some(roster(roster_time, &[&a])), vec![]);
        match fine {
            true => assert!(log.clone().audit(&draft.bytes()).is_ok()),
            false => assert_eq!(log.violation(&draft), (3, Violation::RosterTime)),
        }
    }
}

/// In the first batch the roster's time stands for the previous seal's.
#[test]
fn a_log_begins_with_a_roster_and_a_seal() {
    let log = Log::default();
    let a = witness(1);
    assert_eq!(log.violation(&log.draft(9, Some(roster(10, &[&a])), vec![])), (0, Violation::RosterTime));
    assert_eq!(log.violation(&log.draft(10, None, vec![])), (0, Violation::Beginning));
    let early = log.draft(10, Some(roster(10, &[&a])), vec![observe(&a, APP, 'A', 5)]);
    assert_eq!(log.violation(&early), (1, Violation::Beginning), "entry 1 is a seal");
    assert!(Log::new(&[]).memory.state().seal.is_some());
}

#[test]
fn the_time_rule_holds_to_the_second_at_both_ends() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10_000, None, vec![]);
    let at = |at| log.draft(20_000, None, vec![observe(&a, APP, 'A', at)]);
    assert!(log.clone().audit(&at(3_000).bytes()).is_ok());
    assert!(matches!(log.violation(&at(2_999)), (3, Violation::Time(TimeError::TooOld { .. }))));
    assert!(log.clone().audit(&at(20_300).bytes()).is_ok());
    assert!(matches!(log.violation(&at(20_301)), (3, Violation::Time(TimeError::InFuture { .. }))));
    // A roster with other limits rules over the batch that it opens.
    let limits = taglog_proto::entry::Limits { past: 0, ..LIMITS };
    let strict = Roster::new(time(15_000), limits, vec![a.verifier_key().clone()]).unwrap();
    let draft = log.draft(20_000, Some(strict), vec![observe(&a, APP, 'A', 9_999)]);
    assert!(matches!(log.violation(&draft), (4, Violation::Time(TimeError::TooOld { .. }))));
    // Confirmations obey the same rule.
    let late = vec![observe(&a, APP, 'A', 20_000), confirm(&a, TEAM, 20_301)];
    let draft = log.draft(20_000, None, late);
    assert!(matches!(log.violation(&draft), (4, Violation::Time(TimeError::InFuture { .. }))));
}

/// With the index 3 twice, rs_merkle itself would accept two leaves of anyone's choice.
#[test]
fn a_repeated_multiproof_index_is_refused() {
    let mut log = Log::default();
    log.write_raw(&(0..8).map(|i| vec![i]).collect::<Vec<_>>());
    let root = taglog_proto::merkle::root(&log.memory, 8).unwrap();
    let proof = multiproof::build(&log.memory, &[3], 8).unwrap();
    let third: &[u8] = &[3];
    assert_eq!(multiproof::verify(&[(3, third)], 8, &proof, &root), Ok(()));
    for forged in [[b"x", b"y"], [&[3], b"y"], [b"x", &[3]], [&[3], &[3]]] {
        let leaves = [(3, &forged[0][..]), (3, &forged[1][..])];
        for hashes in [&proof[..], &[], &proof[1..]] {
            assert_eq!(multiproof::verify(&leaves, 8, hashes, &root), Err(ProofError::BadIndices));
        }
    }
    assert_eq!(multiproof::verify(&[], 8, &[root], &root), Err(ProofError::BadIndices));
    let beyond = multiproof::verify(&[(3, third), (8, b"x")], 8, &proof, &root);
    assert_eq!(beyond, Err(ProofError::IndexOutOfRange { index: 8, size: 8 }));
    // A proof for a tree of one depth is none for another, and hashes left over are refused.
    for size in [4, 9, 16, 1 << 52, u64::MAX] {
        assert!(multiproof::verify(&[(3, third)], size, &proof, &root).is_err());
    }
    let more = [&proof[..], &[Hash::ZERO]].concat();
    assert_eq!(multiproof::verify(&[(3, third)], 8, &more, &root), Err(ProofError::WrongLength { got: 4 }));

    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
    let mut proof = log.tag_proof(&[APP], None);
    let forged = IndexedEntry { index: 2, entry: observe(&a, APP, 'B', 5).to_string() };
    proof.entries.insert(2, forged);
    assert_eq!(proof.verify(&log_vkey()).err(), Some(TagProofError::Multiproof(ProofError::BadIndices)));
}

/// A multiproof of too many leaves is refused before any work is done on it.
#[test]
fn a_multiproof_of_too_many_leaves_is_refused() {
    let leaves: Vec<(u64, &[u8])> = (0..=multiproof::MAX_LEAVES as u64).map(|i| (i, &b"x"[..])).collect();
    let refused = multiproof::verify(&leaves, leaves.len() as u64, &[], &Hash::ZERO);
    assert_eq!(refused, Err(ProofError::BadIndices));
}

/// The largest tree that can be signed costs a verifier no more than any other.
#[test]
fn a_gigantic_tree_size_is_refused() {
    let log = Log::new(&[]);
    let size = (1 << 53) - 1;
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: Hash::ZERO }.sign(&log_key());
    let mut proof = log.tag_proof(&[APP], None);
    proof.checkpoint = checkpoint.to_string();
    proof.entries[1].index = size - 1;
    for hashes in 50..110 {
        proof.multiproof = vec![Hash::ZERO; hashes];
        assert!(matches!(proof.verify(&log_vkey()), Err(TagProofError::Multiproof(_))));
    }
}

#[test]
fn entry_before_the_roster_admits_its_witness() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a]);
    let early = log.draft(10, None, vec![observe(&b, APP, 'A', 5)]);
    assert_eq!(log.violation(&early), (2, Violation::NotInRoster(witness_id(&b))));
    log.batch(10, Some(roster(5, &[&a, &b])), vec![observe(&b, APP, 'A', 5)]);
    let removed = log.draft(20, Some(roster(15, &[&a])), vec![observe(&b, APP, 'A', 16)]);
    assert_eq!(log.violation(&removed), (6, Violation::NotInRoster(witness_id(&b))));
    log.batch(20, Some(roster(15, &[&a])), vec![]);
    let confirmation = log.draft(30, None, vec![confirm(&b, TEAM, 25)]);
    assert_eq!(log.violation(&confirmation), (7, Violation::NotInRoster(witness_id(&b))));
}

#[test]
fn a_roster_must_follow_a_seal_directly() {
    let a = witness(1);
    let log = Log::new(&[&a]);
    let misplaced = vec![observe(&a, APP, 'A', 5), Entry::Roster(roster(6, &[&a]))];
    assert_eq!(log.violation(&log.draft(10, None, misplaced)), (3, Violation::RosterPlace));
}

#[test]
fn two_rosters_in_a_batch_are_a_violation() {
    let a = witness(1);
    let log = Log::new(&[&a]);
    let draft = log.draft(10, Some(roster(5, &[&a])), vec![Entry::Roster(roster(6, &[&a]))]);
    assert_eq!(log.violation(&draft), (3, Violation::RosterPlace));
    // Where nobody looks at signatures (evidence of a false seal), the rule holds as well.
    let bytes = draft.bytes();
    let batch: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let unsigned = audit_batch(log.memory.state(), &batch, &log.memory, false).map(|batch| batch.state.size);
    assert_eq!(unsigned, Err(AuditError::Violation { index: 3, violation: Violation::RosterPlace }));
}

#[test]
fn a_seal_with_a_false_value_is_a_violation() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
    let draft = || log.draft(20, None, vec![observe(&a, OTHER, 'A', 15)]);
    assert!(log.clone().audit(&draft().bytes()).is_ok());
    for off in [-1, 1] {
        let shifted = |number: u64| number.wrapping_add_signed(off);
        let mut size = draft();
        size.seal.size = shifted(size.seal.size);
        assert_eq!(log.violation(&size), (5, Violation::Seal("size")));
        let mut tags = draft();
        tags.seal.tags = shifted(tags.seal.tags);
        assert_eq!(log.violation(&tags), (5, Violation::Seal("tags")));
    }
    let mut named = draft();
    named.seal.roster = 1;
    assert_eq!(log.violation(&named), (5, Violation::Seal("roster")));
    let mut index = draft();
    index.seal.index.0[31] ^= 1;
    assert_eq!(log.violation(&index), (5, Violation::Seal("index")));
    // With a new roster, the old one is no longer in force.
    let mut outdated = log.draft(20, Some(roster(15, &[&a])), vec![]);
    outdated.seal.roster = 0;
    assert_eq!(log.violation(&outdated), (5, Violation::Seal("roster")));
}

fn audit_error(log: &Log, batch: &[Vec<u8>]) -> AuditError<taglog_memory_log::Missing> {
    log.clone().audit(batch).unwrap_err()
}

#[test]
fn an_entry_of_an_unknown_kind_is_no_misbehaviour() {
    let log = Log::new(&[]);
    let seal = log.draft(10, None, vec![]).bytes().remove(0);
    let unknown = b"taglog/statement@v2\nwhatever\n".to_vec();
    let error = audit_error(&log, &[unknown, seal.clone()]);
    assert!(matches!(error, AuditError::UnknownKind { index: 2, kind: EntryError::UnknownKind(_) }));
    let garbage = audit_error(&log, &[b"other/statement@v1\n".to_vec(), seal]);
    assert!(matches!(garbage, AuditError::Violation { index: 2, violation: Violation::Malformed(_) }));
    assert_eq!(audit_error(&log, &[]), AuditError::Unsealed(2));
}

/// An auditor cannot go past an unknown entry, but it has seen what is before.
#[test]
fn an_unknown_kind_hides_no_earlier_violation() {
    let (a, b) = (witness(1), witness(2));
    let log = Log::new(&[&a]);
    let unknown = b"taglog/statement@v2\nwhatever\n".to_vec();
    let mut batch = log.draft(10, None, vec![observe(&b, APP, 'A', 5)]).bytes();
    batch.insert(1, unknown);
    let violation = Violation::NotInRoster(witness_id(&b));
    assert_eq!(audit_error(&log, &batch), AuditError::Violation { index: 2, violation });
}

fn weak_keys() -> Vec<[u8; 32]> {
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xee, 0x7f);
    let mut negative_zero = [0; 32];
    (negative_zero[0], negative_zero[31]) = (1, 0x80);
    let mixed = EdwardsPoint::mul_base(&Scalar::from(5u64)) + EIGHT_TORSION[3];
    let small = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes());
    small.chain([not_canonical, negative_zero, mixed.compress().to_bytes()]).collect()
}

#[test]
fn weak_keys_are_refused_in_rosters_and_vkeys() {
    use base64::Engine as _;
    let name = "witness.example/weak";
    for key in weak_keys() {
        assert!(VerifierKey::new(name, &key).is_err(), "{key:?}");
        let id = sha2::Sha256::digest([name.as_bytes(), b"\n\x01", &key].concat());
        let encoded = base64::engine::general_purpose::STANDARD.encode([&[1], &key[..]].concat());
        let hex: String = id[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let vkey = format!("{name}+{hex}+{encoded}");
        assert!(vkey.parse::<VerifierKey>().is_err(), "{vkey}");
        let text = format!("{}witness {vkey}\n", Entry::Roster(roster(5, &[])));
        assert!(matches!(Entry::parse(text.as_bytes()), Err(EntryError::Key(_))), "{text}");
    }
    // The same text with a good key is a roster.
    let good = format!("{}witness {}\n", Entry::Roster(roster(5, &[])), witness(1).verifier_key());
    assert!(Entry::parse(good.as_bytes()).is_ok());
}

#[test]
fn a_false_signature_is_a_violation() {
    let a = witness(1);
    let log = Log::new(&[&a]);
    let honest = observe(&a, APP, 'A', 5);
    let flipped = re_signed(&honest, |text| {
        let mut signature = sign_with(1, text, 7, EIGHT_TORSION[0]);
        signature[40] ^= 1;
        signature
    });
    let foreign = re_signed(&honest, |text| sign_with(2, text, 7, EIGHT_TORSION[0]));
    let other_text = re_signed(&honest, |_| sign_with(1, "other\n", 7, EIGHT_TORSION[0]));
    for forged in [flipped, foreign, other_text] {
        let draft = log.draft(10, None, vec![honest.clone(), forged]);
        assert_eq!(log.violation(&draft), (3, Violation::Signature(witness_id(&a))));
    }
}

/// Libraries disagree about such signatures, so they are no misbehaviour.
#[test]
fn signature_valid_only_with_the_cofactor_is_a_warning() {
    let a = witness(1);
    let mut warnings = 0;
    for nonce in 1..33 {
        let lax = re_signed(&observe(&a, APP, 'A', 5), |text| sign_with(1, text, nonce, EIGHT_TORSION[1]));
        let Entry::Observation(entry) = &lax else { panic!() };
        assert!(entry.verify(a.verifier_key()).is_err());
        let verdict = check_signature(a.verifier_key(), entry.text().as_bytes(), &entry.signature.bytes);
        assert_eq!(verdict, SignatureVerdict::Lax);
        let audited = Log::new(&[&a]).batch(10, None, vec![lax]);
        assert!(audited.lax_signatures.iter().all(|index| *index == 2));
        warnings += audited.lax_signatures.len();
    }
    assert!(warnings > 16, "{warnings} of 32 signatures give a warning");
}

/// R not canonical: its signer can make one, with R the identity.
#[test]
fn a_signature_with_r_not_canonical_is_a_violation() {
    let a = witness(1);
    let mut identity = [0xff; 32];
    (identity[0], identity[31]) = (0xee, 0x7f);
    let log = Log::new(&[&a]);
    let forged = re_signed(&observe(&a, APP, 'A', 5), |text| sign_at(1, text, 0, identity));
    let Entry::Observation(entry) = &forged else { panic!() };
    let (text, signature) = (entry.text(), &entry.signature.bytes);
    let alone = check_signature(a.verifier_key(), text.as_bytes(), signature);
    assert_eq!(alone, SignatureVerdict::Invalid);
    let draft = log.draft(10, None, vec![forged]);
    assert_eq!(log.violation(&draft), (2, Violation::Signature(witness_id(&a))));
}

#[test]
fn confirmations_obey_the_order_rule() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(20, None, vec![observe(&a, APP, 'A', 15), confirm(&a, TEAM, 16)]);
    let order = |entry: Entry| match log.violation(&log.draft_indexed(30, None, vec![entry], &[])) {
        (5, Violation::Order(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(order(confirm(&a, TEAM, 15)), OrderError::BeforeConfirmation { .. }));
    assert!(matches!(order(observe(&a, APP, 'A', 15)), OrderError::BeforeConfirmation { .. }));
    // A tag that it never reported is in the confirmed repository, too.
    assert!(matches!(order(observe(&a, OTHER, 'A', 15)), OrderError::BeforeConfirmation { .. }));
    log.clone().batch(30, None, vec![confirm(&a, TEAM, 16), observe(&a, OTHER, 'A', 16)]);
    log.clone().batch(30, None, vec![observe(&a, ELSEWHERE, 'A', 1)]);
}

#[test]
fn confirmation_by_a_witness_without_observations() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(20, None, vec![observe(&a, APP, 'A', 15), observe(&b, ELSEWHERE, 'A', 15)]);
    let draft = log.draft_indexed(30, None, vec![confirm(&b, TEAM, 25)], &[]);
    assert_eq!(log.violation(&draft), (5, Violation::Order(OrderError::NothingToConfirm)));
    let mut both = vec![observe(&b, APP, 'A', 25), confirm(&b, TEAM, 25)];
    log.clone().batch(30, None, both.clone());
    both.reverse();
    let reversed = log.draft_indexed(30, None, both, &[]);
    assert_eq!(log.violation(&reversed), (5, Violation::Order(OrderError::NothingToConfirm)));
}

#[test]
fn rollback_is_three_sightings() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 1), observe(&a, APP, 'A', 2), observe(&a, APP, 'B', 3)]);
    log.batch(20, None, vec![observe(&a, APP, 'A', 11), observe(&a, APP, '-', 12), observe(&a, APP, 'A', 13)]);
    let expected: Vec<String> = [(2, 'A'), (4, 'B'), (6, 'A'), (7, '-'), (8, 'A')]
        .map(|(index, letter)| format!("{index} {}", seen(letter)))
        .to_vec();
    assert_eq!(seen_by(&log, &a), expected);
    let witness = &report(&log, APP).witnesses[0];
    assert_eq!((witness.line.observations, witness.line.sightings, witness.complete), (6, 5, true));
    let shown: Vec<String> = witness.sightings.iter().map(|sighted| sighted.sighting.to_string()).collect();
    assert_eq!(shown, expected);
}

/// Two witnesses behind different mirrors report by turns; neither saw a change.
#[test]
fn interleaved_witnesses_make_no_false_changes() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    for round in 1..5 {
        let at = 10 * round;
        log.batch(at, None, vec![observe(&a, APP, 'A', at - 2), observe(&b, APP, 'B', at - 1)]);
    }
    assert_eq!(seen_by(&log, &a), [format!("2 {}", seen('A'))]);
    assert_eq!(seen_by(&log, &b), [format!("3 {}", seen('B'))]);
}

#[test]
fn removing_a_witness_changes_no_record() {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5), observe(&b, APP, 'B', 6)]);
    let (before, index) = (report(&log, APP), log.memory.state().seal.unwrap().index);
    let audited = log.batch(20, Some(roster(15, &[&a])), vec![]);
    let after = report(&log, APP);
    assert_eq!(audited.seal().index, index);
    assert_eq!(after.witnesses.iter().map(|w| w.in_roster).collect::<Vec<_>>(), [true, false]);
    for (old, new) in before.witnesses.iter().zip(&after.witnesses) {
        assert_eq!((&old.line, &old.sightings, new.complete), (&new.line, &new.sightings, true));
    }
    assert_eq!(after.witnesses.len(), 2);
}

// What follows forges a whole tag proof: a log that signs whatever it likes.

#[derive(Clone)]
struct ForgedLine {
    witness: WitnessId,
    observations: u64,
    sightings: Vec<(u64, char)>,
    root: Option<Hash>,
    latest: (u64, i64, char),
    /// In the repository record: the latest confirmation.
    confirmed: Option<(u64, i64)>,
    covers: bool,
}

#[derive(Clone)]
struct Forged {
    log: Log,
    /// What the client asked for, and what the records say they are of.
    asked: Image,
    tag_name: String,
    repository_name: String,
    lines: Vec<ForgedLine>,
    pages: Vec<SightingPage>,
    more: Vec<u64>,
    roster: u64,
}

/// Entries of all kinds to cite, among them some with signatures that are none.
fn cited_log() -> Log {
    let (a, b) = (witness(1), witness(2));
    let mut log = Log::new(&[&a, &b]);
    let forged = |entry: Entry| match entry {
        Entry::Observation(mut entry) => {
            entry.signature.bytes[0] ^= 1;
            Entry::Observation(entry).to_string().into_bytes()
        }
        Entry::Confirmation(mut entry) => {
            entry.signature.bytes[0] ^= 1;
            Entry::Confirmation(entry).to_string().into_bytes()
        }
        _ => Vec::new(),
    };
    let entries = [
        observe(&a, APP, 'A', 11),
        observe(&a, APP, 'B', 12),
        observe(&a, APP, 'A', 13),
        confirm(&a, TEAM, 14),
        observe(&b, APP, 'A', 15),
        observe(&a, OTHER, 'A', 16),
        confirm(&b, TEAM, 17),
        confirm(&a, "registry.example/elsewhere/app", 18),
    ];
    let mut bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.to_string().into_bytes()).collect();
    bytes.push(forged(observe(&a, APP, 'A', 19)));
    bytes.push(forged(confirm(&a, TEAM, 20)));
    log.write_raw(&bytes);
    log
}

fn forged() -> Forged {
    let line = ForgedLine {
        witness: witness_id(&witness(1)),
        observations: 3,
        sightings: vec![(2, 'A'), (3, 'B'), (4, 'A')],
        root: None,
        latest: (4, 13, 'A'),
        confirmed: Some((5, 14)),
        covers: true,
    };
    let names = (APP.to_owned(), TEAM.to_owned());
    let (asked, lines, log) = (image(APP), vec![line], cited_log());
    let mut forged = Forged {
        log,
        asked,
        tag_name: names.0,
        repository_name: names.1,
        lines,
        pages: vec![],
        more: vec![],
        roster: 0,
    };
    forged.repage();
    forged
}

impl ForgedLine {
    fn leaves(&self) -> Vec<String> {
        self.sightings.iter().map(|(index, letter)| format!("{index} {}", seen(*letter))).collect()
    }

    fn text(&self) -> String {
        let mut list = Frontier::default();
        self.leaves().iter().for_each(|leaf| list.append(Sighting::parse(leaf).unwrap().leaf_hash(), |_, _, _| {}));
        let (root, (index, at, letter)) = (self.root.unwrap_or(list.root()), self.latest);
        let counts = format!("{} {}", self.observations, self.sightings.len());
        format!("witness {} {counts} {root} {index} {} {}\n", self.witness, time(at), seen(letter))
    }

    fn repository_text(&self) -> String {
        let confirmed = self.confirmed.map_or("- -".to_owned(), |(index, at)| format!("{index} {}", time(at)));
        format!("witness {} 1 {confirmed}\n", self.witness)
    }
}

impl Forged {
    fn repage(&mut self) {
        let page =
            |line: &ForgedLine| SightingPage { witness: line.witness.to_string(), start: 0, leaves: line.leaves() };
        self.pages = self.lines.iter().map(page).collect();
    }

    fn records(&self) -> (Option<String>, Option<String>) {
        let tag: String = self.lines.iter().map(ForgedLine::text).collect();
        let covering = self.lines.iter().filter(|line| line.covers);
        let repository: String = covering.map(ForgedLine::repository_text).collect();
        let record =
            |kind, name: &str, lines: String| (!lines.is_empty()).then(|| format!("taglog/{kind}@v1\n{name}\n{lines}"));
        (record("tag", &self.tag_name, tag), record("repository", &self.repository_name, repository))
    }

    fn cited(&self) -> Vec<u64> {
        let of = |line: &ForgedLine| {
            let sightings = line.sightings.iter().map(|(index, _)| *index);
            sightings.chain([line.latest.0]).chain(line.confirmed.map(|(index, _)| index)).collect::<Vec<_>>()
        };
        let mut cited: Vec<u64> = self.lines.iter().flat_map(of).chain(self.more.clone()).collect();
        cited.extend([self.roster, self.log.size()]);
        cited.sort_unstable();
        cited.dedup();
        cited.retain(|index| *index <= self.log.size());
        cited
    }

    fn sign(&self) -> TagProof {
        let mut log = self.log.clone();
        let (tag, repository) = self.records();
        let mut leaves = BTreeMap::new();
        let keys = (tag_key(&self.asked), repository_key(&self.asked.repository));
        leaves.extend(tag.iter().map(|text| (keys.0, Hash::of(text.as_bytes()))));
        leaves.extend(repository.iter().map(|text| (keys.1, Hash::of(text.as_bytes()))));
        let mut draft = log.draft(30, None, vec![]);
        draft.changes.tree = prefix_tree::update(&log.memory, &leaves).unwrap();
        (draft.seal.index, draft.seal.roster) = (draft.changes.tree.root, self.roster);
        draft.changes.records =
            RecordChanges { tags: 1, tag_records: vec![], repository_records: vec![], sightings: vec![] };
        let cited = self.cited();
        log.write(draft);

        let answer = |record: &Option<String>, key| IndexAnswer {
            record: record.clone(),
            proof: prefix_tree::prove(&log.memory, key).unwrap(),
        };
        let image = taglog_proto::tag_proof::ImageAnswer {
            image: self.asked.to_string(),
            tag: answer(&tag, &keys.0),
            repository: answer(&repository, &keys.1),
            sightings: self.pages.clone(),
        };
        TagProof {
            kind: TYPE.to_owned(),
            checkpoint: log.checkpoint().to_string(),
            images: vec![image],
            entries: cited.iter().map(|index| IndexedEntry { index: *index, entry: log.entry(*index) }).collect(),
            multiproof: multiproof::build(&log.memory, &cited, log.size()).unwrap(),
            consistency: None,
        }
    }

    fn refused(&self) -> TagProofError {
        self.sign().verify(&log_vkey()).unwrap_err()
    }
}

/// The forged proof with one change.
fn lie(change: impl FnOnce(&mut Forged)) -> Forged {
    let mut forged = forged();
    change(&mut forged);
    forged
}

/// As [`lie`], and the lists on the pages are as the changed lines have them.
fn lie_in_line(change: impl FnOnce(&mut ForgedLine)) -> Forged {
    lie(|forged| {
        change(&mut forged.lines[0]);
        forged.repage();
    })
}

fn assert_contradiction(forged: &Forged, part: &str) {
    match forged.refused() {
        TagProofError::Contradiction { why, .. } => assert!(why.contains(part), "{why}"),
        other => panic!("want {part:?}, got {other}"),
    }
}

/// What the lies below are changes of is accepted.
#[test]
fn the_unchanged_forgery_verifies() {
    let lookup = forged().sign().verify(&log_vkey()).unwrap();
    let witness = &lookup.report(&image(APP)).unwrap().witnesses[0];
    assert!(witness.complete && witness.in_roster);
    assert_eq!((witness.sightings.len(), witness.vouched()), (3, time(14)));
}

#[test]
fn lies_about_sightings_are_refused() {
    let swapped = lie_in_line(|line| (line.sightings[1].1, line.sightings[2].1) = ('C', 'A'));
    assert_contradiction(&swapped, "a sighting differs");
    let another_witness = lie_in_line(|line| (line.sightings[2].0, line.observations) = (6, 4));
    assert_contradiction(&another_witness, "another image or by another witness");
    let another_image = lie_in_line(|line| (line.sightings[2].0, line.observations) = (7, 4));
    assert_contradiction(&another_image, "another image or by another witness");
    let no_observation = lie_in_line(|line| line.sightings[2].0 = 5);
    assert_contradiction(&no_observation, "not an observation");
    let beyond = lie_in_line(|line| line.sightings[2].0 = 999);
    assert_contradiction(&beyond, "after the seal");
    let seal = lie_in_line(|line| line.sightings[2].0 = 12);
    assert_contradiction(&seal, "after the seal");
    let no_change = lie_in_line(|line| line.sightings = vec![(2, 'A'), (4, 'A')]);
    assert_contradiction(&no_change, "not one of changes in log order");
    let backwards = lie_in_line(|line| line.sightings = vec![(4, 'A'), (3, 'B'), (2, 'A')]);
    assert_contradiction(&backwards, "not one of changes in log order");
    let rolled_back = lie_in_line(|line| line.sightings = vec![(2, 'A'), (3, 'B')]);
    assert_contradiction(&rolled_back, "not what the witness last saw");
    let root = lie_in_line(|line| line.root = Some(Hash::ZERO));
    assert_contradiction(&root, "does not have the root");
}

#[test]
fn lies_about_pages_are_refused() {
    let pages = |change: fn(&mut Vec<SightingPage>)| lie(|forged| change(&mut forged.pages));
    let part = "cut short or too long";
    assert_contradiction(&pages(|pages| drop(pages[0].leaves.pop())), part);
    assert_contradiction(&pages(|pages| drop(pages[0].leaves.remove(0))), part);
    assert_contradiction(&pages(|pages| pages[0].leaves.push(format!("6 {}", seen('B')))), part);
    assert_contradiction(&pages(|pages| pages[0].start = 256), part);
    let odd = |pages: &mut Vec<SightingPage>| {
        pages[0].start = 1;
        pages[0].leaves.remove(0);
    };
    assert_contradiction(&lie(|forged| odd(&mut forged.pages)), part);
    let other_list = pages(|pages| pages[0].leaves[0] = format!("2 {}", seen('B')));
    assert_contradiction(&other_list, "");
    let witness = |pages: &mut Vec<SightingPage>| pages[0].witness = witness_id(&witness(2)).to_string();
    assert_contradiction(&lie(|forged| witness(&mut forged.pages)), "another witness's");
    assert_contradiction(&pages(|pages| pages.push(pages[0].clone())), "one list of sightings for each line");
    assert_contradiction(&pages(Vec::clear), "one list of sightings for each line");
}

#[test]
fn lies_about_the_latest_observation_are_refused() {
    let part = "the latest observation differs";
    assert_contradiction(&lie_in_line(|line| line.latest.2 = 'B'), part);
    assert_contradiction(&lie_in_line(|line| line.latest.1 = 14), part);
    assert_contradiction(&lie_in_line(|line| line.latest = (6, 15, 'A')), "by another witness");
    assert_contradiction(&lie_in_line(|line| line.latest = (7, 16, 'A')), "another image");
}

/// A line whose latest observation is older than its last sighting understates both.
#[test]
fn the_latest_observation_is_not_before_the_last_sighting() {
    let stale = lie_in_line(|line| line.latest = (2, 11, 'A'));
    assert!(stale.sign().verify(&log_vkey()).is_err(), "the last sighting is entry 4, the latest observation entry 2");
}

#[test]
fn lies_about_confirmations_are_refused() {
    let confirmed = |index, at| lie_in_line(|line| line.confirmed = Some((index, at)));
    assert_contradiction(&confirmed(5, 15), "the confirmation cited is another one");
    assert_contradiction(&confirmed(8, 17), "the confirmation cited is another one");
    assert_contradiction(&confirmed(9, 18), "the confirmation cited is another one");
    assert_contradiction(&confirmed(4, 13), "not a confirmation");
    assert_contradiction(&confirmed(999, 13), "not a confirmation");
}

#[test]
fn lies_in_the_names_of_witnesses_are_refused() {
    let observation = lie_in_line(|line| {
        (line.observations, line.sightings, line.latest) = (1, vec![(10, 'A')], (10, 19, 'A'));
    });
    assert!(matches!(observation.refused(), TagProofError::Signature(10, _)));
    let latest = lie_in_line(|line| line.latest = (10, 19, 'A'));
    assert!(matches!(latest.refused(), TagProofError::Signature(10, _)));
    let confirmation = lie_in_line(|line| line.confirmed = Some((11, 20)));
    assert!(matches!(confirmation.refused(), TagProofError::Signature(11, _)));
}

#[test]
fn lies_about_records_are_refused() {
    assert_contradiction(&lie(|forged| forged.tag_name = OTHER.to_owned()), "another image's");
    assert_contradiction(&lie(|forged| forged.repository_name = "a.b/c".to_owned()), "another repository's");
    let uncovered = lie_in_line(|line| line.covers = false);
    assert_contradiction(&lie(|forged| forged.lines = uncovered.lines.clone()), "missing in the repository record");
    assert!(matches!(lie(|forged| forged.roster = 2).refused(), TagProofError::Roster));
    assert!(matches!(lie(|forged| forged.more = vec![7]).refused(), TagProofError::Superfluous(7)));
    // A line for a witness that the repository record does not know, beside one that it does.
    let mut second = forged();
    let other = ForgedLine {
        witness: witness_id(&witness(2)),
        observations: 1,
        sightings: vec![(6, 'A')],
        latest: (6, 15, 'A'),
        confirmed: None,
        covers: true,
        root: None,
    };
    second.lines.push(other);
    // Lines are sorted by their bytes, and the second witness's id has the other place or not.
    second.lines.sort_by_key(|line| line.witness.to_string());
    second.repage();
    assert!(second.sign().verify(&log_vkey()).is_ok());
    second.lines[1].covers = false;
    assert_contradiction(&second, "missing in the repository record");
}

#[test]
fn lies_about_absence_are_refused() {
    let mut absent = forged().sign();
    absent.images[0].tag.record = None;
    assert!(matches!(absent.verify(&log_vkey()), Err(TagProofError::Index(..))));
    let mut uncovered = forged().sign();
    uncovered.images[0].repository.record = None;
    assert!(matches!(uncovered.verify(&log_vkey()), Err(TagProofError::Index(..))));
    // True proofs, but of another name.
    let mut other = Log::new(&[]).tag_proof(&[APP], None);
    let there = forged().sign();
    other.images[0].tag = there.images[0].repository.clone();
    assert!(other.verify(&log_vkey()).is_err());
}

/// A leaf that does not belong on the key's path says nothing about the key.
#[test]
fn a_leaf_off_the_path_of_its_key_is_refused() {
    let parent = |left: &Hash, right: &Hash| Hash::of(&[&[3], &left.0[..], &right.0].concat());
    let prove = |key: [u8; 32]| {
        let leaf = Leaf { key, commitment: Hash::ZERO };
        let result = SearchResult::NonInclusionLeaf(leaf);
        let root = parent(&parent(&leaf.value(), &leaf.value()), &Hash::ZERO);
        PrefixProof { result, copath: vec![leaf.value(), Hash::ZERO] }.verify(&[0; 32], None, &root)
    };
    let first = |byte: u8| [&[byte][..], &[1; 31]].concat().try_into().unwrap();
    assert_eq!(prove(first(0x3f)), Ok(()));
    assert_eq!(prove(first(0x40)), Err(PrefixError::OtherLeaf));
    assert_eq!(prove(first(0x80)), Err(PrefixError::OtherLeaf));
}

#[test]
fn a_tag_proof_has_1_to_1000_images() {
    let log = Log::new(&[]);
    let names: Vec<String> = (0..1001).map(|i| format!("registry.example/a/b:{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut proof = log.tag_proof(&names[..1000], None);
    assert!(proof.verify(&log_vkey()).is_ok());
    let one_more = log.tag_proof(&names[1000..], None).images;
    proof.images.extend(one_more);
    assert_eq!(proof.verify(&log_vkey()).err(), Some(TagProofError::Images));
    proof.images.truncate(2);
    proof.images[1] = proof.images[0].clone();
    assert_eq!(proof.verify(&log_vkey()).err(), Some(TagProofError::Images));
    proof.images.clear();
    assert_eq!(proof.verify(&log_vkey()).err(), Some(TagProofError::Images));
}

#[test]
fn indices_beyond_2_to_the_53_are_refused() {
    let mut proof = Log::new(&[]).tag_proof(&[APP], Some(1));
    assert!(TagProof::from_json(proof.to_json().as_bytes()).is_ok());
    proof.consistency.as_mut().unwrap().from = 1 << 53;
    assert!(matches!(TagProof::from_json(proof.to_json().as_bytes()), Err(TagProofError::Json(_))));
    proof.consistency = None;
    proof.entries[1].index = 1 << 53;
    assert!(matches!(TagProof::from_json(proof.to_json().as_bytes()), Err(TagProofError::Json(_))));
    proof.entries[1].index = 1;
    proof.kind = "taglog/tag-proof@v2".to_owned();
    assert!(matches!(TagProof::from_json(proof.to_json().as_bytes()), Err(TagProofError::Type(_))));
}

#[test]
fn shrunk_and_forked_logs_are_not_consistent() {
    let a = witness(1);
    let mut log = Log::new(&[&a]);
    let early = log.memory.checkpoint(ORIGIN);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
    let late = log.memory.checkpoint(ORIGIN);
    let proof = log.tag_proof(&[APP], Some(early.size));
    assert_eq!(proof.verify_consistency(&early, &late), Ok(()));
    assert_eq!(proof.verify_consistency(&late, &late), Ok(()));
    assert!(proof.verify_consistency(&late, &early).is_err());
    let fork = |checkpoint: &Checkpoint| Checkpoint { root: leaf_hash(b"fork"), ..checkpoint.clone() };
    assert!(proof.verify_consistency(&fork(&early), &late).is_err());
    assert!(proof.verify_consistency(&fork(&late), &late).is_err());
    let unasked = log.tag_proof(&[APP], None);
    assert!(unasked.verify_consistency(&early, &late).is_err());
    assert_eq!(unasked.verify_consistency(&late, &late), Ok(()));
}

/// A name in the proof in another spelling, or another log's key.
#[test]
fn a_proof_verifies_for_no_other_name_or_key() {
    let mut proof = Log::new(&[]).tag_proof(&[APP], None);
    for name in [ORIGIN, "log.example/other"] {
        let key = SigningKey::from_seed(name, &[8; 32]).unwrap();
        assert!(matches!(proof.verify(key.verifier_key()), Err(TagProofError::Checkpoint(_))));
    }
    assert!(Repository::parse("registry.example:443/team/app").is_err());
    proof.images[0].image = "registry.example:443/team/app:1.0".to_owned();
    assert!(matches!(proof.verify(&log_vkey()), Err(TagProofError::Name(_))));
}

/// Statements of one kind or key cannot pass for another's.
#[test]
fn a_signature_by_another_witness_key_is_refused() {
    let Entry::Observation(entry) = observe(&witness(1), APP, 'A', 5) else { panic!() };
    assert!(entry.verify(witness(1).verifier_key()).is_ok());
    assert!(entry.verify(witness(2).verifier_key()).is_err());
    let renamed = SigningKey::from_seed("witness.example/w9", &[1; 32]).unwrap();
    assert!(entry.verify(renamed.verifier_key()).is_err());
    let stolen = Observation { signature: entry.signature.clone(), ..entry.clone() };
    let stolen = Observation { image: image(OTHER), ..stolen };
    assert!(stolen.verify(witness(1).verifier_key()).is_err());
}
