//! For every parser: no bytes make it panic, and what it accepts it prints back byte for byte.

#![allow(clippy::unwrap_used)]

use std::{fmt::Display, sync::LazyLock};

use proptest::prelude::*;
use taglog_memory_log::MemoryLog;
use taglog_proto::{
    add_checkpoint::{AddCheckpoint, SignSubtree},
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::CosignerKey,
    encoding::{from_base64, from_decimal, to_base64},
    entry::{Entry, Seen},
    evidence::{Evidence, FalseEntry, Inconsistency, NoSeal, Omission},
    merkle::{Hash, inclusion_proof},
    multiproof,
    name::{Digest, Image, KeyId, Reference, Repository, Tag, WitnessId, WitnessName},
    note::{Note, SigningKey, VerifierKey},
    prefix_tree::Page,
    receipt::Receipt,
    record::{RepositoryRecord, Sighting, TagRecord},
    tag_proof::{self, IndexedEntry, LookupRequest, TagProof},
    tile::{TilePath, decode_bundle, encode_bundle},
    time::Timestamp,
};

/// Checks a parser of text: total, and with one spelling.
fn assert_canonical<T: Display, E>(bytes: &[u8], parse: impl Fn(&str) -> Result<T, E>) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(parsed) = parse(text)
    {
        assert_eq!(parsed.to_string(), text);
    }
}

/// Checks that a reader of JSON is total and that what it writes it reads as the same.
fn same_again<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> String,
) {
    if let Ok(value) = read(bytes) {
        let written = write(&value);
        let again = read(written.as_bytes()).unwrap();
        assert_eq!((write(&again), again), (written, value));
    }
}

/// What people type has many spellings; the expanded one stays as it is.
fn check_reference(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(reference) = Reference::parse(text)
    {
        let expanded = reference.repository.to_string();
        assert_eq!(Repository::parse(&expanded).as_ref(), Ok(&reference.repository));
        assert_eq!(Reference::parse(&expanded).unwrap().repository, reference.repository);
    }
}

/// All parsers, on the same bytes.
fn check_all(bytes: &[u8]) {
    assert_canonical(bytes, Repository::parse);
    assert_canonical(bytes, Tag::parse);
    assert_canonical(bytes, Image::parse);
    assert_canonical(bytes, Digest::parse);
    assert_canonical(bytes, Seen::parse);
    assert_canonical(bytes, WitnessName::parse);
    assert_canonical(bytes, WitnessId::parse);
    assert_canonical(bytes, |text| KeyId::parse(text).ok_or(()));
    assert_canonical(bytes, |text| from_decimal(text).ok_or(()));
    assert_canonical(bytes, |text| Hash::from_base64(text).ok_or(()));
    assert_canonical(bytes, |text| text.parse::<Timestamp>());
    assert_canonical(bytes, |text| text.parse::<VerifierKey>());
    assert_canonical(bytes, |text| text.parse::<CosignerKey>());
    assert_canonical(bytes, TilePath::parse);
    assert_canonical(bytes, TagRecord::parse);
    assert_canonical(bytes, RepositoryRecord::parse);
    assert_canonical(bytes, Sighting::parse);
    assert_canonical(bytes, |_| Note::parse(bytes));
    assert_canonical(bytes, |_| SignedCheckpoint::parse(bytes));
    assert_canonical(bytes, |_| SignedCheckpoint::parse_any(bytes));
    assert_canonical(bytes, |_| AddCheckpoint::parse(bytes));
    assert_canonical(bytes, |_| SignSubtree::parse(bytes));
    assert_canonical(bytes, |_| Entry::parse(bytes));
    assert_canonical(bytes, |_| Receipt::parse(bytes));
    check_texts(bytes);
    check_binary(bytes);
    check_reference(bytes);
    same_again(bytes, TagProof::from_json, TagProof::to_json);
    same_again(bytes, Evidence::from_json, Evidence::to_json);
}

/// Values whose text is not made by `Display`.
fn check_texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        for parsed in [Note::parse(bytes).is_ok(), Entry::parse(bytes).is_ok(), Receipt::parse(bytes).is_ok()] {
            assert!(!parsed, "not UTF-8");
        }
        return;
    };
    if let Some(decoded) = from_base64(text) {
        assert_eq!(to_base64(&decoded), text);
    }
    if let Ok(checkpoint) = Checkpoint::parse_text(text) {
        assert_eq!(checkpoint.to_text(), text);
    }
    if let Ok(key) = text.parse::<SigningKey>() {
        assert_eq!(key.to_secret_string(), text);
    }
}

fn check_binary(bytes: &[u8]) {
    if let Ok(page) = Page::from_bytes(bytes) {
        assert_eq!(page.to_bytes(), bytes);
    }
    if let Ok(entries) = decode_bundle(bytes, 256) {
        assert_eq!(encode_bundle(entries).unwrap(), bytes);
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed("log.example/taglog", &[9; 32]).unwrap()
}

/// A valid text or file of every format.
static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let history: serde_json::Value = serde_json::from_str(include_str!("../vectors/history.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let entries: Vec<String> = history["entries"].as_array().unwrap().iter().map(text).collect();
    let entries: Vec<&[u8]> = entries.iter().map(String::as_bytes).collect();
    let mut log = MemoryLog::default();
    while (log.state().size as usize) < entries.len() {
        log.push_batch(&entries[log.state().size as usize..]).unwrap();
    }
    let mut valid = names();
    valid.extend([0, 1, 2, 15, 20, 23, 25].map(|index| entries[index].to_vec()));
    valid.extend(log.tag_records().take(3).map(|record| record.to_string().into_bytes()));
    valid.extend(log.repository_records().map(|record| record.to_string().into_bytes()));
    valid.push(encode_bundle(entries[..5].iter().copied()).unwrap());
    valid.push(Page::default().to_bytes());
    valid.extend(proofs(&log).into_iter().map(String::into_bytes));
    valid
});

fn names() -> Vec<Vec<u8>> {
    let digest = Digest::sha256(b"x").to_string();
    let long = "sha512:".to_owned() + &"0f".repeat(64);
    let names = [
        "docker.io/library/busybox",
        "[2001:db8::1]:5000/a.b_c__d---e/f",
        "[::ffff:1.2.3.4]/a",
        "localhost:5000/x:latest",
        "busybox:1.36",
        "Registry.Example:443/a:b",
        "1.36.1",
        &digest,
        &long,
        "gone",
        "witness.example/ams-1+79b41d9d",
        "9007199254740991",
        "2026-11-23T02:05:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-30T22:00:00Z",
        "0/x001/x234/067.p/255",
        "entries/000",
        "1201 gone",
        "AAE=",
    ];
    let keys = [key().verifier_key().to_string(), key().to_secret_string()];
    let sighting = format!("21 {digest}");
    names.into_iter().map(str::to_owned).chain(keys).chain([sighting]).map(String::into_bytes).collect()
}

fn proofs(log: &MemoryLog) -> Vec<String> {
    let signed = log.checkpoint("log.example/taglog").sign(&key());
    let images = ["docker.io/martes13/harmless:1.0", "nobody.example/x:1"];
    let images = images.iter().map(|name| Image::parse(name).unwrap()).collect();
    let tag_proof = tag_proof::build(log, &signed, &LookupRequest { images, page: 0, from: Some(7) });
    let tag_proof = tag_proof.unwrap();
    let entry = |index: usize| String::from_utf8(log.entries()[index].clone()).unwrap();
    let inclusion = |index| inclusion_proof(log, index, 70).unwrap();
    let old = Checkpoint { size: 7, ..signed.unverified().clone() }.sign(&key());
    let receipt =
        Receipt { extra: Some(entry(2).into_bytes()), index: 2, proof: inclusion(2), checkpoint: signed.clone() };
    let evidence = [
        Evidence::Omission(Omission {
            tag_proof: tag_proof.clone(),
            observation: IndexedEntry { index: 2, entry: entry(2) },
            inclusion: inclusion(2),
        }),
        Evidence::Inconsistency(Inconsistency::collect(&old, &signed, log).unwrap()),
        Evidence::NoSeal(NoSeal { checkpoint: signed.to_string(), entry: entry(69), inclusion: inclusion(69) }),
        Evidence::FalseEntry(FalseEntry {
            checkpoint: signed.to_string(),
            entries: [0, 2, 69].map(|index| IndexedEntry { index, entry: entry(index as usize) }),
            multiproof: multiproof::build(log, &[0, 2, 69], 70).unwrap(),
        }),
    ];
    let notes = [signed.unverified().to_text(), signed.to_string(), receipt.to_string(), tag_proof.to_json()];
    notes.into_iter().chain(evidence.iter().map(Evidence::to_json)).collect()
}

#[test]
fn valid_input_of_every_format_parses_and_prints_back() {
    for bytes in VALID.iter() {
        check_all(bytes);
    }
}

/// One small change to the bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
    Truncate,
}

fn changes() -> impl Strategy<Value = Change> {
    // Bytes that mean something to a parser come up more often than others.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\n\r\t\0 +-/:.@=\"{}[],x0189aAzZ".to_vec())];
    prop_oneof![
        byte.clone().prop_map(Change::Set),
        byte.prop_map(Change::Insert),
        (1usize..80).prop_map(Change::Remove),
        (1usize..80).prop_map(Change::Repeat),
        Just(Change::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, place: prop::sample::Index, change: Change) {
    if bytes.is_empty() {
        return;
    }
    let at = place.index(bytes.len());
    match change {
        Change::Set(byte) => bytes[at] = byte,
        Change::Insert(byte) => bytes.insert(at, byte),
        Change::Remove(count) => drop(bytes.drain(at..(at + count).min(bytes.len()))),
        Change::Repeat(count) => {
            let part = bytes[at..(at + count).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Truncate => bytes.truncate(at),
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let valid = (0..VALID.len()).prop_map(|i| VALID[i].clone());
    (valid, prop::collection::vec((any::<prop::sample::Index>(), changes()), 1..4)).prop_map(|(mut bytes, changes)| {
        for (place, change) in changes {
            apply(&mut bytes, place, change);
        }
        bytes
    })
}

/// Texts that are nearly names, from the characters that names are made of.
const NEARLY_NAMES: &str =
    "(git\\+|docker\\.io/|index\\.docker\\.io/|localhost/|\\[::1\\]:?)?[a-zA-Z0-9./:@_+\\[\\]-]{0,40}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn arbitrary_bytes_never_panic_and_parse_only_in_canonical_form(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_all(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics_and_parses_only_in_canonical_form(text in any::<String>()) {
        check_all(text.as_bytes());
    }

    #[test]
    fn near_names_parse_only_in_canonical_form(text in NEARLY_NAMES) {
        check_all(text.as_bytes());
    }

    #[test]
    fn mutated_valid_input_parses_only_in_canonical_form(bytes in mutated()) {
        check_all(&bytes);
    }

    #[test]
    fn times_have_one_canonical_encoding(seconds in any::<i64>(), near in -62_167_219_300i64..253_402_207_300) {
        for seconds in [seconds, near] {
            if let Some(time) = Timestamp::from_unix(seconds) {
                prop_assert_eq!((time.unix(), time.to_string().parse()), (seconds, Ok(time)));
            }
        }
    }

    /// The decoder never takes a longer way round: what it refuses, no other spelling rescues.
    #[test]
    fn digests_from_hex(hash in any::<[u8; 32]>(), upper in 0usize..64) {
        let text = Digest::Sha256(hash).to_string();
        prop_assert_eq!(Digest::parse(&text), Ok(Digest::Sha256(hash)));
        let mut changed = text.clone().into_bytes();
        changed[7 + upper].make_ascii_uppercase();
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(Digest::parse(&changed).is_ok(), changed == text);
    }
}
