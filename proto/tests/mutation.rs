//! Every small change of what a verifier accepts is refused, or means exactly the same.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;
use taglog_memory_log::fixtures::*;
use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    entry::Entry,
    merkle::{
        Hash, NodeReader, consistency_proof, inclusion_proof, leaf_hash, root, verify_consistency, verify_inclusion,
    },
    multiproof,
    note::VerifierKey,
    prefix_tree::{self, Leaf, PrefixProof, SearchResult},
    receipt::Receipt,
    record::tag_key,
    tag_proof::TagProof,
};

const OTHER: &str = "registry.example/team/app:2.0";
const GONE: &str = "localhost:5000/x:latest";
const ABSENT: &str = "registry.example/team/app:3.0";
const UNCOVERED: &str = "registry.example/nobody/looks:1";
const IMAGES: [&str; 5] = [APP, GONE, OTHER, ABSENT, UNCOVERED];

/// Rollbacks, `gone`, confirmations, interleaved witnesses, one of them removed; and the checkpoint
/// that the client remembers.
fn history() -> (Log, Checkpoint) {
    let (a, b, c) = (witness(1), witness(2), witness(3));
    let mut log = Log::new(&[&a, &b, &c]);
    log.batch(10, None, vec![observe(&a, APP, 'A', 5), observe(&b, APP, 'A', 6), observe(&a, OTHER, 'C', 7)]);
    log.batch(20, None, vec![observe(&a, APP, 'B', 15), observe(&c, APP, 'A', 16), observe(&b, GONE, 'X', 17)]);
    let remembered = log.memory.checkpoint(ORIGIN);
    let confirmed = confirm(&a, "registry.example/team/app", 28);
    log.batch(30, None, vec![observe(&b, APP, 'A', 25), observe(&a, APP, 'A', 26), confirmed]);
    log.batch(40, Some(roster(35, &[&a, &b])), vec![observe(&b, GONE, '-', 36)]);
    (log, remembered)
}

/// A client that asked for `images` and remembers a checkpoint: what it learns, or nothing.
fn learned(proof: &[u8], log: &VerifierKey, images: &[&str], remembered: &Checkpoint) -> Option<String> {
    let proof = TagProof::from_json(proof).ok()?;
    let lookup = proof.verify(log).ok()?;
    proof.verify_consistency(remembered, &lookup.checkpoint).ok()?;
    images.iter().all(|name| lookup.report(&image(name)).is_some()).then(|| meaning(&lookup))
}

/// Checks mutants of one proof; returns how many there were and how many were accepted.
struct Trial<'a> {
    log: VerifierKey,
    remembered: &'a Checkpoint,
    /// What a client may learn: what the proof says, or a donor that was true once.
    allowed: Vec<String>,
    tried: AtomicUsize,
    accepted: AtomicUsize,
}

impl Trial<'_> {
    fn new<'a>(proof: &str, remembered: &'a Checkpoint) -> Trial<'a> {
        let log = log_vkey();
        let honest = learned(proof.as_bytes(), &log, &IMAGES, remembered).unwrap();
        Trial { log, remembered, allowed: vec![honest], tried: AtomicUsize::new(0), accepted: AtomicUsize::new(0) }
    }

    fn check(&self, mutant: &[u8], what: impl Fn() -> String) {
        self.tried.fetch_add(1, Relaxed);
        if let Some(meaning) = learned(mutant, &self.log, &IMAGES, self.remembered) {
            self.accepted.fetch_add(1, Relaxed);
            assert!(self.allowed.contains(&meaning), "another meaning: {}", what());
        }
    }
}

#[test]
fn no_changed_byte_of_a_tag_proof_verifies_as_something_else() {
    let (log, remembered) = history();
    let proof = log.tag_proof(&IMAGES, Some(remembered.size)).to_json();
    let trial = Trial::new(&proof, &remembered);
    let bytes = proof.as_bytes();
    on_all_cores(&(0..bytes.len()).collect::<Vec<_>>(), |&i| {
        let other = [bytes[i] ^ 1, bytes[i] ^ 0x20, if bytes[i] == b'0' { b'9' } else { b'0' }, b' '];
        let replaced = other.into_iter().filter(|new| *new != bytes[i]).map(|new| vec![new]);
        for new in replaced.chain([vec![], vec![bytes[i]; 2]]) {
            let mutant = [&bytes[..i], &new[..], &bytes[i + 1..]].concat();
            trial.check(&mutant, || format!("byte {i} becomes {new:?}"));
        }
    });
    let tried = trial.tried.into_inner();
    assert!(tried > 50_000, "only {tried} mutants of {} bytes", bytes.len());
    // Nothing but white space between values, the places of which are few, changes no meaning.
    assert!(trial.accepted.into_inner() * 100 < tried, "too many mutants verify");
}

#[test]
fn no_changed_field_of_a_tag_proof_verifies_as_something_else() {
    let (log, remembered) = history();
    let host: Value = serde_json::from_str(&log.tag_proof(&IMAGES, Some(remembered.size)).to_json()).unwrap();
    // The same witnesses told another log of other digests.
    let mut foreign = Log::new(&[&witness(1), &witness(2)]);
    foreign.batch(30, None, vec![observe(&witness(1), APP, 'Z', 5), observe(&witness(2), GONE, 'Z', 6)]);
    let foreign = serde_json::from_str(&foreign.tag_proof(&IMAGES, Some(2)).to_json()).unwrap();
    let later = later(&log, &remembered);
    let trial = Trial::new(&host.to_string(), &remembered);
    let mutations = mutations(&host, &[&later, &foreign]);
    on_all_cores(&mutations, |mutation| {
        let mutant = mutation.apply(&host).to_string();
        trial.check(mutant.as_bytes(), || format!("{} becomes {}", mutation.pointer, mutation.value));
    });
    let tried = trial.tried.into_inner();
    assert!(tried > 5_000, "only {tried} mutants");
    assert!(trial.accepted.into_inner() > 0, "the order of images, at least, changes no meaning");
}

/// A proof of the same images after one more batch.
fn later(log: &Log, remembered: &Checkpoint) -> Value {
    let mut log = log.clone();
    log.batch(50, None, vec![observe(&witness(1), APP, 'C', 45), observe(&witness(2), ABSENT, 'C', 46)]);
    serde_json::from_str(&log.tag_proof(&IMAGES, Some(remembered.size)).to_json()).unwrap()
}

/// Every combination of top-level fields of two true proofs of one log: nothing but one of the two.
#[test]
fn fields_of_two_true_proofs_do_not_mix() {
    let (log, remembered) = history();
    let old: Value = serde_json::from_str(&log.tag_proof(&IMAGES, Some(remembered.size)).to_json()).unwrap();
    let new = later(&log, &remembered);
    let mut trial = Trial::new(&old.to_string(), &remembered);
    trial.allowed.push(learned(new.to_string().as_bytes(), &log_vkey(), &IMAGES, &remembered).unwrap());
    let fields: Vec<&String> = old.as_object().unwrap().keys().collect();
    for chosen in 0..1u32 << fields.len() {
        let mut mix = old.clone();
        for field in (0..fields.len()).filter(|i| chosen >> i & 1 == 1).map(|i| fields[i]) {
            mix[field.as_str()] = new[field.as_str()].clone();
        }
        trial.check(mix.to_string().as_bytes(), || format!("fields {chosen:b}"));
    }
    // Each of the two whole, and with the other's type, which is the same.
    assert_eq!(trial.accepted.into_inner(), 4);
}

/// One field at a time twice in its object.
#[test]
fn repeated_fields_are_refused() {
    let (log, remembered) = history();
    let proof = log.tag_proof(&IMAGES, Some(remembered.size)).to_json();
    for field in ["type", "checkpoint", "images", "entries", "multiproof", "consistency", "image", "tag", "record"] {
        repeated(&proof, field);
    }
    for field in ["repository", "sightings", "proof", "result", "depth", "copath", "witness", "start", "leaves"] {
        repeated(&proof, field);
    }
    for field in ["index", "entry", "from"] {
        repeated(&proof, field);
    }
}

fn repeated(proof: &str, field: &str) {
    let document: Value = serde_json::from_str(proof).unwrap();
    let (pointer, value) = find(&document, field, String::new()).unwrap();
    let marked = document_with(&document, &pointer, "REPEATED", &value).to_string();
    let mutant = marked.replace("\"REPEATED\"", &format!("\"{field}\""));
    assert!(TagProof::from_json(proof.as_bytes()).is_ok());
    let error = TagProof::from_json(mutant.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("duplicate field"), "{field}: {error}");
}

fn find(value: &Value, field: &str, pointer: String) -> Option<(String, Value)> {
    match value {
        Value::Object(fields) => match fields.get(field) {
            Some(found) => Some((pointer, found.clone())),
            None => fields.iter().find_map(|(key, value)| find(value, field, format!("{pointer}/{key}"))),
        },
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, value)| find(value, field, format!("{pointer}/{i}")))
        }
        _ => None,
    }
}

fn document_with(document: &Value, pointer: &str, field: &str, value: &Value) -> Value {
    let mut changed = document.clone();
    changed.pointer_mut(pointer).unwrap()[field] = value.clone();
    changed
}

/// The bytes of a text with each byte changed, dropped or doubled, and each line moved.
fn text_mutants(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut mutants = Vec::new();
    for i in 0..bytes.len() {
        for new in [bytes[i] ^ 1, bytes[i] ^ 0x20, bytes[i] ^ 0x80, b'A', b'0', b'+', b' ', b'\n', b'\r'] {
            mutants.push([&bytes[..i], &[new], &bytes[i + 1..]].concat());
        }
        mutants.push([&bytes[..i], &bytes[i + 1..]].concat());
        mutants.push([&bytes[..=i], &bytes[i..]].concat());
        mutants.push(bytes[..i].to_vec());
    }
    let parts = mutations(&Value::from(text), &[]);
    mutants.extend(parts.into_iter().filter_map(|m| m.value.as_str().map(|text| text.as_bytes().to_vec())));
    mutants.retain(|mutant| mutant != bytes);
    mutants
}

#[test]
fn no_changed_statement_verifies() {
    let key = witness(1);
    for entry in [observe(&key, APP, 'A', 5), observe(&key, APP, '-', 5), confirm(&key, "registry.example/x", 7)] {
        on_all_cores(&text_mutants(&entry.to_string()), |mutant| {
            let verified = match Entry::parse(mutant) {
                Ok(Entry::Observation(entry)) => entry.verify(key.verifier_key()).is_ok(),
                Ok(Entry::Confirmation(entry)) => entry.verify(key.verifier_key()).is_ok(),
                _ => false,
            };
            assert!(!verified, "{}", String::from_utf8_lossy(mutant));
        });
    }
}

/// What parses prints as it was, so a mutant is another entry or none.
#[test]
fn entries_have_one_canonical_encoding() {
    let (log, _) = history();
    for entry in log.memory.entries() {
        for mutant in text_mutants(std::str::from_utf8(entry).unwrap()) {
            if let Ok(parsed) = Entry::parse(&mutant) {
                assert_eq!(parsed.to_string().as_bytes(), mutant);
            }
        }
    }
}

#[test]
fn no_changed_checkpoint_verifies() {
    let (log, _) = history();
    let signed = log.checkpoint();
    let key = log_vkey();
    on_all_cores(&text_mutants(&signed.to_string()), |mutant| {
        let Ok(parsed) = SignedCheckpoint::parse(mutant) else { return };
        if let Ok(checkpoint) = parsed.verify(&key) {
            assert_eq!(checkpoint, signed.unverified(), "{}", String::from_utf8_lossy(mutant));
        }
    });
}

#[test]
fn no_changed_receipt_verifies() {
    let (log, _) = history();
    let (index, size, key) = (3, log.size(), log_vkey());
    let entry = log.entry(index).into_bytes();
    let proof = inclusion_proof(&log.memory, index, size).unwrap();
    let receipt = Receipt { extra: Some(entry.clone()), index, proof, checkpoint: log.checkpoint() };
    assert!(receipt.verify_extra(&key).is_ok());
    on_all_cores(&text_mutants(&receipt.to_string()), |mutant| {
        let Ok(parsed) = Receipt::parse(mutant) else { return };
        let shown = || String::from_utf8_lossy(mutant);
        if let Ok(checkpoint) = parsed.verify(&key, &entry) {
            assert_eq!((checkpoint, parsed.index), (receipt.checkpoint.unverified(), index), "{}", shown());
        }
        if parsed.verify_extra(&key).is_ok() {
            assert_eq!((&parsed.extra, parsed.index), (&receipt.extra, index), "{}", shown());
        }
    });
}

/// Each hash left out, doubled, swapped, changed, and one more at each place.
fn hash_list_mutants(hashes: &[Hash]) -> Vec<Vec<Hash>> {
    let list = Value::from(hashes.iter().map(|hash| Value::from(hash.to_base64())).collect::<Vec<_>>());
    let parse = |value: &Value| value.as_array()?.iter().map(|hash| Hash::from_base64(hash.as_str()?)).collect();
    let mut mutants: Vec<Vec<Hash>> =
        mutations(&list, &[]).iter().filter_map(|mutation| parse(&mutation.apply(&list))).collect();
    for i in 0..=hashes.len() {
        mutants.push([&hashes[..i], &[Hash::ZERO], &hashes[i..]].concat());
        if i < hashes.len() {
            let mut flipped = hashes.to_vec();
            flipped[i].0[31] ^= 1;
            mutants.push(flipped);
        }
    }
    mutants.retain(|mutant| mutant != hashes);
    mutants
}

/// A log of entries that are numbers.
fn numbers(count: u64) -> Log {
    let mut log = Log::default();
    log.write_raw(&(0..count).map(|i| i.to_string().into_bytes()).collect::<Vec<_>>());
    log
}

fn entry_hash(index: u64) -> Hash {
    leaf_hash(index.to_string().as_bytes())
}

#[test]
fn no_mutated_inclusion_proof_verifies() {
    let log = numbers(40);
    for size in 1..=40 {
        let root = root(&log.memory, size).unwrap();
        for index in 0..size {
            let leaf = entry_hash(index);
            let proof = inclusion_proof(&log.memory, index, size).unwrap();
            assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
            for other in (0..size + 2).chain([1 << 53, u64::MAX]).filter(|other| *other != index) {
                assert!(verify_inclusion(&leaf, other, size, &proof, &root).is_err(), "{index} as {other} of {size}");
                assert!(verify_inclusion(&entry_hash(other), index, size, &proof, &root).is_err());
            }
            for mutant in hash_list_mutants(&proof) {
                assert!(verify_inclusion(&leaf, index, size, &mutant, &root).is_err());
            }
        }
    }
}

#[test]
fn no_mutated_consistency_proof_verifies() {
    let log = numbers(40);
    let roots: Vec<Hash> = (0..=40).map(|size| root(&log.memory, size).unwrap()).collect();
    let root_of = |size: u64| roots[size as usize];
    on_all_cores(&(1..=40).collect::<Vec<u64>>(), |&to| {
        for from in 1..=to {
            let proof = consistency_proof(&log.memory, from, to).unwrap();
            let check =
                |from, to, proof: &[Hash], old: &Hash, new: &Hash| verify_consistency(from, to, proof, old, new);
            assert_eq!(check(from, to, &proof, &root_of(from), &root_of(to)), Ok(()));
            for mutant in hash_list_mutants(&proof) {
                assert!(check(from, to, &mutant, &root_of(from), &root_of(to)).is_err(), "{from} to {to}");
            }
            let mut false_root = root_of(from);
            false_root.0[0] ^= 1;
            assert!(check(from, to, &proof, &false_root, &root_of(to)).is_err(), "{from} to {to}");
            assert!(check(from, to, &proof, &root_of(from), &false_root).is_err(), "{from} to {to}");
            for size in (1..=40).filter(|size| *size != from) {
                assert!(check(from, to, &proof, &root_of(size), &root_of(to)).is_err(), "{size} for {from} to {to}");
            }
        }
    });
}

#[test]
fn no_mutated_multiproof_verifies() {
    let log = numbers(21);
    let texts: Vec<String> = (0..21).map(|i| i.to_string()).collect();
    for size in [1, 2, 3, 5, 8, 13, 16, 21] {
        let root = root(&log.memory, size).unwrap();
        for seed in 1..40u64 {
            let chosen: Vec<u64> =
                (0..size).filter(|i| (i * 2_654_435_761 + seed * 40_503) % 7 < seed % 7 + 1).collect();
            if !chosen.is_empty() {
                mutate_multiproof(&log.memory, &chosen, size, &root, &texts);
            }
        }
    }
}

fn mutate_multiproof(
    nodes: &impl NodeReader<Error: std::fmt::Debug>,
    chosen: &[u64],
    size: u64,
    root: &Hash,
    texts: &[String],
) {
    let proof = multiproof::build(nodes, chosen, size).unwrap();
    let leaves: Vec<(u64, &[u8])> = chosen.iter().map(|i| (*i, texts[*i as usize].as_bytes())).collect();
    assert_eq!(multiproof::verify(&leaves, size, &proof, root), Ok(()));
    for mutant in hash_list_mutants(&proof) {
        assert!(multiproof::verify(&leaves, size, &mutant, root).is_err());
    }
    for i in 0..leaves.len() {
        for new in [leaves[i].0.wrapping_sub(1), leaves[i].0 + 1, size, size + 1, u64::MAX] {
            let mut moved = leaves.clone();
            moved[i].0 = new;
            assert!(multiproof::verify(&moved, size, &proof, root).is_err(), "{i} moved to {new}");
        }
        let mut another = leaves.clone();
        another[i].1 = b"x";
        assert!(multiproof::verify(&another, size, &proof, root).is_err());
        let without = [&leaves[..i], &leaves[i + 1..]].concat();
        assert!(multiproof::verify(&without, size, &proof, root).is_err());
        let twice = [&leaves[..=i], &leaves[i..]].concat();
        assert!(multiproof::verify(&twice, size, &proof, root).is_err());
    }
}

/// Every claim about a key but the true one is refused, under every mutant of the proof.
#[test]
fn no_mutated_prefix_proof_verifies() {
    let mut log = Log::new(&[&witness(1)]);
    let names: Vec<String> = (0..40).map(|i| format!("registry.example/a/b{i}:1")).collect();
    log.batch(10, None, names[..30].iter().map(|name| observe(&witness(1), name, 'A', 5)).collect());
    let root = prefix_tree::root(&log.memory).unwrap();
    on_all_cores(&names, |name| {
        let answer = log.tag_answer(&image(name));
        let key = tag_key(&image(name));
        let held = answer.record.map(|record| Hash::of(record.as_bytes()));
        assert_eq!(answer.proof.verify(&key, held.as_ref(), &root), Ok(()));
        for other in &names {
            let proof = log.tag_answer(&image(other)).proof;
            for mutant in prefix_mutants(&proof) {
                for claim in [None, held, Some(Hash::ZERO)].into_iter().filter(|claim| *claim != held) {
                    assert!(mutant.verify(&key, claim.as_ref(), &root).is_err(), "{mutant:?}");
                }
            }
        }
        for mutant in prefix_mutants(&answer.proof).into_iter().filter(|mutant| *mutant != answer.proof) {
            assert!(mutant.verify(&key, held.as_ref(), &root).is_err(), "{mutant:?}");
        }
    });
}

fn prefix_mutants(proof: &PrefixProof) -> Vec<PrefixProof> {
    let mut results = vec![proof.result, SearchResult::Inclusion, SearchResult::NonInclusionParent];
    if let SearchResult::NonInclusionLeaf(leaf) = proof.result {
        let mut key = leaf.key;
        key[31] ^= 1;
        results.push(SearchResult::NonInclusionLeaf(Leaf { key, ..leaf }));
        results.push(SearchResult::NonInclusionLeaf(Leaf { commitment: Hash::ZERO, ..leaf }));
    }
    let mut copaths = hash_list_mutants(&proof.copath);
    copaths.push(proof.copath.clone());
    let with = |copath: &Vec<Hash>| {
        let copath = copath.clone();
        results.clone().into_iter().map(move |result| PrefixProof { result, copath: copath.clone() })
    };
    copaths.iter().flat_map(with).collect()
}
