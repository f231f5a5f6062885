//! Cosignatures and subtrees: agreement with other people's code, and nothing that was changed verifies.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, convert::Infallible, sync::LazyLock};

use proptest::prelude::*;
use serde::Deserialize;
use taglog_proto::{
    OperationError,
    add_checkpoint::{AddCheckpoint, AddCheckpointError, SignSubtree, parse_signature_lines},
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::{Algorithm, CosignError, CosignerKey, CosignerSigningKey},
    merkle::{Frontier, Hash, NodeReader, ProofError, consistency_proof, leaf_hash, root},
    note::{NoteError, SigningKey},
    subtree::{Subtree, subtree_proof, verify_subtree},
    time::Timestamp,
};

#[derive(Deserialize)]
struct Vectors {
    cosignatures: Vec<CosignatureVector>,
    subtree_cosignature: SubtreeCosignature,
    subtrees: Vec<SubtreeVector>,
    log: LogVector,
}

#[derive(Deserialize)]
struct CosignatureVector {
    name: String,
    algorithm: String,
    seed: String,
    vkey: String,
    note: String,
    time: i64,
}

#[derive(Deserialize)]
struct SubtreeCosignature {
    vkey: String,
    seed: String,
    name: String,
    origin: String,
    start: u64,
    end: u64,
    hash: Hash,
    line: String,
}

#[derive(Deserialize)]
struct SubtreeVector {
    size: u64,
    start: u64,
    end: u64,
    hash: Hash,
    proof: Vec<Hash>,
}

#[derive(Deserialize)]
struct LogVector {
    vkey: String,
    request: String,
}

static VECTORS: LazyLock<Vectors> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/cosignatures.json")).unwrap());

fn seed(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    assert_eq!(base16ct::lower::decode(hex, &mut bytes).unwrap().len(), 32);
    bytes
}

/// A tree of the leaves 'leaf 0', 'leaf 1', ….
struct Leaves {
    nodes: HashMap<(u8, u64), Hash>,
}

impl Leaves {
    fn new(count: u64) -> Leaves {
        let (mut frontier, mut nodes) = (Frontier::default(), HashMap::new());
        for i in 0..count {
            let leaf = leaf_hash(format!("leaf {i}").as_bytes());
            frontier.append(leaf, |level, index, hash| {
                let _ = nodes.insert((level, index), hash);
            });
        }
        Leaves { nodes }
    }

    fn root(&self, size: u64) -> Hash {
        root(self, size).unwrap()
    }
}

impl NodeReader for Leaves {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.nodes[&(level, index)])
    }
}

fn signing_key(name: &str, algorithm: Algorithm) -> CosignerSigningKey {
    CosignerSigningKey::from_seed(name, algorithm, &[3; 32]).unwrap()
}

fn checkpoint() -> SignedCheckpoint {
    let log = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
    Checkpoint { origin: "log.example/x".into(), size: 7, root: Hash::of(b"root") }.sign(&log)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

const BOTH: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::MlDsa44];

#[test]
fn cosignatures_are_those_of_another_implementation() {
    for vector in &VECTORS.cosignatures {
        let algorithm = if vector.algorithm == "Ed25519" { Algorithm::Ed25519 } else { Algorithm::MlDsa44 };
        let key = CosignerSigningKey::from_seed(&vector.name, algorithm, &seed(&vector.seed)).unwrap();
        let vkey: CosignerKey = vector.vkey.parse().unwrap();
        assert_eq!((key.key(), vkey.to_string(), vkey.algorithm()), (&vkey, vector.vkey.clone(), algorithm));
        let theirs = SignedCheckpoint::parse_any(vector.note.as_bytes()).unwrap();
        assert_eq!(theirs.to_string(), vector.note);
        assert_eq!(vkey.cosigned(&theirs), Ok(Some(time(vector.time))));
        // Both algorithms are deterministic here, so what we sign is what they sign.
        let ours = key.cosign(&theirs, time(vector.time)).unwrap();
        assert_eq!(ours, theirs.note().signatures[0], "{}", vector.name);
    }
}

#[test]
fn a_log_may_sign_with_ml_dsa_and_without_a_time() {
    let key: CosignerKey = VECTORS.log.vkey.parse().unwrap();
    let request = AddCheckpoint::parse(VECTORS.log.request.as_bytes()).unwrap();
    assert_eq!((request.old, request.proof.len()), (0, 0));
    assert_eq!(request.to_string(), VECTORS.log.request);
    assert_eq!(key.signed(&request.checkpoint), Ok(true));
    // As a cosignature it says nothing about a time.
    assert_eq!(key.cosigned(&request.checkpoint), Ok(None));
    assert_eq!(key.signed(&checkpoint()), Ok(false));
}

#[test]
fn subtree_cosignatures_are_those_of_another_implementation() {
    let vector = &VECTORS.subtree_cosignature;
    let subtree = Subtree::new(vector.start, vector.end).unwrap();
    let line = parse_signature_lines(vector.line.as_bytes()).unwrap().remove(0);
    let key = CosignerSigningKey::from_seed(&vector.name, Algorithm::MlDsa44, &seed(&vector.seed)).unwrap();
    assert_eq!(key.key().to_string(), vector.vkey);
    assert_eq!(key.cosign_subtree(&vector.origin, subtree, &vector.hash), Ok(line.clone()));
    let verify = |origin: &str, start, end, hash: &Hash, line| {
        key.key().verify_subtree(origin, Subtree::new(start, end).unwrap(), hash, line)
    };
    assert_eq!(verify(&vector.origin, 8, 13, &vector.hash, &line), Ok(()));
    for (origin, start, end, hash) in [
        ("log.example/other", 8, 13, vector.hash),
        (&vector.origin, 8, 14, vector.hash),
        (&vector.origin, 0, 13, vector.hash),
        (&vector.origin, 8, 13, Hash::of(b"other")),
    ] {
        assert!(matches!(verify(origin, start, end, &hash, &line), Err(NoteError::BadSignature(_))));
    }
    let other = signing_key("other", Algorithm::MlDsa44);
    assert!(matches!(
        other.key().verify_subtree(&vector.origin, subtree, &vector.hash, &line),
        Err(NoteError::NotSigned(_))
    ));
    let ed25519 = signing_key("a", Algorithm::Ed25519);
    assert_eq!(ed25519.cosign_subtree("o", subtree, &vector.hash), Err(CosignError::Subtree));
    // A cosignature of a checkpoint has a time, and is not one of a subtree.
    let signed = checkpoint();
    let dated = key.cosign(&signed, time(5)).unwrap();
    let whole = Subtree::new(0, signed.unverified().size).unwrap();
    assert!(key.key().verify_subtree("log.example/x", whole, &signed.unverified().root, &dated).is_err());
}

#[test]
fn subtree_proofs_are_those_of_another_implementation() {
    let leaves = Leaves::new(40);
    assert!(VECTORS.subtrees.len() > 100);
    for SubtreeVector { size, start, end, hash, proof } in &VECTORS.subtrees {
        let subtree = Subtree::new(*start, *end).unwrap();
        assert_eq!(&subtree.root(&leaves).unwrap(), hash);
        assert_eq!(&subtree_proof(&leaves, subtree, *size).unwrap(), proof, "[{start}, {end}) in {size}");
        assert_eq!(verify_subtree(subtree, *size, proof, hash, &leaves.root(*size)), Ok(()));
    }
}

#[test]
fn every_subtree_of_every_small_tree_is_proven_and_no_other() {
    let leaves = Leaves::new(40);
    let elsewhere = Hash::of(b"elsewhere");
    for size in 1..=40 {
        let root = leaves.root(size);
        for (start, end) in (0..size).flat_map(|start| (start + 1..=size).map(move |end| (start, end))) {
            // The definition: an aligned start, as 0 is for everything.
            let step = (0..).map(|bit| 1 << bit).find(|step: &u64| *step >= end - start).unwrap();
            assert_eq!(Subtree::new(start, end).is_some(), start % step == 0);
            let Some(subtree) = Subtree::new(start, end) else { continue };
            let (hash, proof) = (subtree.root(&leaves).unwrap(), subtree_proof(&leaves, subtree, size).unwrap());
            assert!(proof.len() <= 63);
            assert_eq!(verify_subtree(subtree, size, &proof, &hash, &root), Ok(()), "[{start}, {end}) in {size}");
            if start == 0 {
                assert_eq!(Ok(&proof), consistency_proof(&leaves, end, size).as_ref());
            }
            assert!(verify_subtree(subtree, size, &proof, &elsewhere, &root).is_err());
            assert!(verify_subtree(subtree, size, &proof, &hash, &elsewhere).is_err());
            for place in 0..proof.len() {
                let mut changed = proof.clone();
                changed[place] = elsewhere;
                assert!(verify_subtree(subtree, size, &changed, &hash, &root).is_err());
                changed.remove(place);
                assert!(verify_subtree(subtree, size, &changed, &hash, &root).is_err());
            }
            let longer: Vec<Hash> = proof.iter().copied().chain([elsewhere]).collect();
            assert!(verify_subtree(subtree, size, &longer, &hash, &root).is_err());
        }
    }
    let beyond = Subtree::new(0, 41).unwrap();
    let error = ProofError::SizesOutOfRange { from: 41, to: 40 };
    assert_eq!(subtree_proof(&leaves, beyond, 40), Err(OperationError::Refused(error.clone())));
    assert_eq!(verify_subtree(beyond, 40, &[], &elsewhere, &elsewhere), Err(error));
    for (start, end) in [(0, 0), (3, 3), (4, 3), (1, 3), (2, 5), (u64::MAX, 0), (1, u64::MAX)] {
        assert_eq!(Subtree::new(start, end), None, "{start} {end}");
    }
}

#[test]
fn keys_have_one_canonical_encoding() {
    for algorithm in BOTH {
        let key = signing_key("cosigner.example/a", algorithm);
        let vkey = key.key().to_string();
        assert_eq!(vkey.parse::<CosignerKey>().as_ref(), Ok(key.key()));
        let secret = key.to_secret_string();
        let again: CosignerSigningKey = secret.parse().unwrap();
        assert_eq!((again.key(), again.to_secret_string()), (key.key(), secret.clone()));
        let id = key.key().key_id().to_string();
        let other_id = format!("{}{}", if id.starts_with('0') { '1' } else { '0' }, &id[1..]);
        for bad in [
            vkey.replace(&id, &other_id),
            vkey.replace(&id, &id.to_uppercase()),
            vkey.replace("/a", "/b"),
            vkey[..vkey.len() - 4].to_owned(),
            format!("{vkey}AAAA"),
            secret.clone(),
            SigningKey::from_seed("a", &[1; 32]).unwrap().verifier_key().to_string(),
            String::new(),
        ] {
            // An id may have no letters, which upper case would change.
            if bad != vkey {
                assert!(bad.parse::<CosignerKey>().is_err(), "{bad}");
            }
        }
        assert!(vkey.parse::<CosignerSigningKey>().is_err());
        assert!(secret.replace(&id, &other_id).parse::<CosignerSigningKey>().is_err());
        let shown = format!("{key:?} {:?} {}", key.key(), secret.parse::<CosignerKey>().unwrap_err());
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
    assert_ne!(signing_key("a", BOTH[0]).key().key_id(), signing_key("a", BOTH[1]).key().key_id());
    let long = "n".repeat(256);
    assert!(CosignerSigningKey::from_seed(&long, Algorithm::MlDsa44, &[1; 32]).is_err());
    assert!(CosignerSigningKey::from_seed(&long, Algorithm::Ed25519, &[1; 32]).is_ok());
    assert!(CosignerKey::new("weak", Algorithm::Ed25519, &[0; 32]).is_err());
    assert!(CosignerKey::new("short", Algorithm::MlDsa44, &[0; 1311]).is_err());
}

#[test]
fn impossible_cosignatures_are_refused() {
    let signed = checkpoint();
    for algorithm in BOTH {
        let key = signing_key("a", algorithm);
        for bad in [0, -1] {
            assert_eq!(key.cosign(&signed, time(bad)), Err(CosignError::Time(time(bad))));
        }
    }
    let text = format!("{}\n1\n{}\n\n— a AAAAAAA=\n", "o".repeat(256), Hash::of(b""));
    let long = SignedCheckpoint::parse_any(text.as_bytes()).unwrap();
    assert_eq!(signing_key("a", Algorithm::MlDsa44).cosign(&long, time(1)), Err(CosignError::Origin(256)));
    let ed25519 = signing_key("a", Algorithm::Ed25519);
    let line = ed25519.cosign(&long, time(1)).unwrap();
    assert_eq!(ed25519.key().cosigned(&long.with_signatures([line])), Ok(Some(time(1))));
}

#[test]
fn the_newest_line_counts_and_all_must_verify() {
    let (signed, key) = (checkpoint(), signing_key("a", Algorithm::Ed25519));
    assert_eq!(key.key().cosigned(&signed), Ok(None));
    let old = signed.with_signatures([key.cosign(&signed, time(100)).unwrap()]);
    // A newer one takes its place.
    let newer = old.with_signatures([key.cosign(&signed, time(200)).unwrap()]);
    assert_eq!(newer.note().signatures.len(), 2);
    assert_eq!(key.key().cosigned(&newer), Ok(Some(time(200))));
    // Somebody else may let both stand.
    let both = format!("{newer}{}", key.cosign(&signed, time(150)).unwrap());
    let both = SignedCheckpoint::parse(both.as_bytes()).unwrap();
    assert_eq!(key.key().cosigned(&both), Ok(Some(time(200))));
    let mut forged = key.cosign(&signed, time(300)).unwrap();
    *forged.signature.last_mut().unwrap() ^= 1;
    let spoiled = SignedCheckpoint::parse(format!("{newer}{forged}").as_bytes()).unwrap();
    assert!(matches!(key.key().cosigned(&spoiled), Err(NoteError::BadSignature(_))));
    // Lines of other names, ids and types are not looked at.
    let mut other = forged.clone();
    other.name = "b".into();
    let ignored = SignedCheckpoint::parse(format!("{newer}{other}").as_bytes()).unwrap();
    assert_eq!(key.key().cosigned(&ignored), Ok(Some(time(200))));
    assert_eq!(signing_key("a", Algorithm::MlDsa44).key().cosigned(&newer), Ok(None));
}

#[test]
fn no_changed_byte_of_a_cosignature_or_its_checkpoint_verifies() {
    for algorithm in BOTH {
        let (signed, key) = (checkpoint(), signing_key("a", algorithm));
        let line = key.cosign(&signed, time(1_700_000_000)).unwrap();
        for place in 0..line.signature.len() {
            let mut changed = line.clone();
            changed.signature[place] ^= 1 << (place % 8);
            assert!(key.key().cosigned(&signed.with_signatures([changed])).is_err(), "{algorithm:?}, byte {place}");
        }
        for length in [0, 7, 8, line.signature.len() - 1, line.signature.len() + 1] {
            let mut changed = line.clone();
            changed.signature.resize(length, 0);
            assert!(key.key().cosigned(&signed.with_signatures([changed])).is_err());
        }
        let Checkpoint { origin, size, root } = signed.unverified().clone();
        for other in [
            Checkpoint { origin: "log.example/y".into(), ..signed.unverified().clone() },
            Checkpoint { size: size + 1, ..signed.unverified().clone() },
            Checkpoint { root: Hash::of(b"other"), ..signed.unverified().clone() },
        ] {
            let moved = format!("{}\n{line}", other.to_text());
            let moved = SignedCheckpoint::parse(moved.as_bytes()).unwrap();
            assert!(key.key().cosigned(&moved).is_err(), "{algorithm:?}, {other:?}");
        }
        // The same key under another name: its id differs, and so the line is not its own.
        assert_eq!(signing_key("b", algorithm).key().cosigned(&signed.with_signatures([line.clone()])), Ok(None));
        // An extension line is under an Ed25519 cosignature, and not under one of ML-DSA-44.
        let extended = format!("{origin}\n{size}\n{root}\nextension\n\n{line}");
        let extended = SignedCheckpoint::parse_any(extended.as_bytes()).unwrap();
        assert_eq!(key.key().cosigned(&extended).is_err(), algorithm == Algorithm::Ed25519);
    }
}

#[test]
fn ml_dsa_cosignatures_are_bound_to_the_name() {
    // One secret key under two names: the line of one is worth nothing under the other, whatever id it bears.
    let (signed, a, b) = (checkpoint(), signing_key("a", BOTH[1]), signing_key("b", BOTH[1]));
    let mut line = a.cosign(&signed, time(9)).unwrap();
    (line.name, line.key_id) = ("b".into(), b.key().key_id());
    assert!(b.key().cosigned(&signed.with_signatures([line])).is_err());
}

#[test]
fn impossible_times_are_refused() {
    let (signed, key) = (checkpoint(), signing_key("a", Algorithm::Ed25519));
    for seconds in [u64::MAX, 1 << 63, i64::MAX as u64] {
        let mut line = key.cosign(&signed, time(1)).unwrap();
        line.signature[..8].copy_from_slice(&seconds.to_be_bytes());
        assert!(key.key().cosigned(&signed.with_signatures([line])).is_err());
    }
}

/// A request of each kind, true in itself.
fn requests() -> (AddCheckpoint, SignSubtree) {
    let leaves = Leaves::new(14);
    let log = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
    let checkpoint = Checkpoint { origin: "log.example/x".into(), size: 14, root: leaves.root(14) }.sign(&log);
    let proof = consistency_proof(&leaves, 9, 14).unwrap();
    let subtree = Subtree::new(8, 13).unwrap();
    let sign = SignSubtree {
        subtree,
        hash: subtree.root(&leaves).unwrap(),
        proof: subtree_proof(&leaves, subtree, 14).unwrap(),
        checkpoint: checkpoint.clone(),
    };
    (AddCheckpoint { old: 9, proof, checkpoint }, sign)
}

#[test]
fn requests_have_one_canonical_encoding() {
    let (add, sign) = requests();
    assert_eq!(AddCheckpoint::parse(add.to_string().as_bytes()), Ok(add.clone()));
    assert_eq!(SignSubtree::parse(sign.to_string().as_bytes()), Ok(sign.clone()));
    let good = add.to_string();
    let hash = format!("{}\n", Hash::of(b"x"));
    for (bad, what) in [
        (good.replacen("old 9", "old 09", 1), "zero"),
        (good.replacen("old 9", "old -1", 1), "negative"),
        (good.replacen("old 9", "old  9", 1), "space"),
        (good.replacen("old 9", "old 9 ", 1), "space at the end"),
        (good.replacen("old 9\n", "", 1), "no old"),
        (good.replacen("old 9", "OLD 9", 1), "case"),
        (good.replacen("old 9\n", "old 9\r\n", 1), "carriage return"),
        (good.replacen("old 9\n", "old 9\nAAAA\n", 1), "short hash"),
        (good.replacen("old 9\n", "old 9\n\n", 1), "empty line first"),
        (good.replacen("old 9\n", &format!("old 9\n{}", hash.repeat(63)), 1), "64 and more hashes"),
        (good.replacen("old 9", "old 15", 1), "old above the size"),
        (good[..good.len() - 1].to_owned(), "cut"),
        (String::new(), "nothing"),
        ("old 0\n\n".to_owned(), "no checkpoint"),
    ] {
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{what}");
    }
    let above = AddCheckpoint::parse(good.replacen("old 9", "old 15", 1).as_bytes());
    assert_eq!(above, Err(AddCheckpointError::OldSize { old: 15, size: 14 }));
    let most = good.replacen("old 9\n", &format!("old 9\n{}", hash.repeat(63 - add.proof.len())), 1);
    assert_eq!(AddCheckpoint::parse(most.as_bytes()).unwrap().proof.len(), 63);
    let good = sign.to_string();
    for range in ["8 8", "9 8", "7 13", "8", "8 13 ", "08 13", "8 15"] {
        let bad = good.replacen("8 13", range, 1);
        assert!(SignSubtree::parse(bad.as_bytes()).is_err(), "{range}");
    }
    let range = SignSubtree::parse(good.replacen("8 13", "7 13", 1).as_bytes());
    assert_eq!(range, Err(AddCheckpointError::Range { start: 7, end: 13, size: 14 }));
}

#[test]
fn checkpoints_of_other_logs_are_read() {
    let root = taglog_proto::merkle::empty_root();
    let text = format!("old 0\n\nother log, with spaces\n0\n{root}\nextension\n\n— other AAAAAAA=\n");
    let request = AddCheckpoint::parse(text.as_bytes()).unwrap();
    assert_eq!((request.checkpoint.unverified().size, request.to_string()), (0, text.clone()));
    assert!(SignedCheckpoint::parse(request.checkpoint.to_string().as_bytes()).is_err());
    for bad in [text.replace("extension\n", "extension\n\n\n"), text.replace("\n0\n", "\n00\n")] {
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn answers_are_signature_lines() {
    let (signed, key) = (checkpoint(), signing_key("a", Algorithm::MlDsa44));
    let line = key.cosign(&signed, time(7)).unwrap();
    let answer = format!("{line}{line}");
    assert_eq!(parse_signature_lines(answer.as_bytes()), Ok(vec![line.clone(), line]));
    for bad in ["", "\n", "— a AAAAAAA=", "— a AAAAAAA=\n\n", "— a AAAAAAA=\nx\n", "a AAAAAAA=\n"] {
        assert!(parse_signature_lines(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(parse_signature_lines("— a AAAAAAA=\n".repeat(65).as_bytes()).is_err());
}

/// The examples of c2sp.org/tlog-witness; their keys are not published.
#[test]
fn the_examples_of_the_specification_are_read() {
    let request = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let parsed = AddCheckpoint::parse(request.as_bytes()).unwrap();
    assert_eq!((parsed.old, parsed.proof.len(), parsed.checkpoint.unverified().size), (20_852_014, 4, 20_852_163));
    assert_eq!(parsed.to_string(), request);
    let answer = "\
        — witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
        — witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n";
    let lines = parse_signature_lines(answer.as_bytes()).unwrap();
    assert_eq!(lines.iter().map(ToString::to_string).collect::<String>(), answer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Requests are read without panic, and what is read prints back.
    #[test]
    fn mutated_requests_parse_only_in_canonical_form(place in any::<prop::sample::Index>(), new in any::<[u8; 3]>(), cut in any::<bool>()) {
        let (add, sign) = requests();
        for text in [add.to_string(), sign.to_string()] {
            let mut bytes = text.into_bytes();
            let place = place.index(bytes.len() - 3);
            if cut { bytes.drain(place..place + 2); } else { bytes[place..place + 3].copy_from_slice(&new); }
            if let Ok(request) = AddCheckpoint::parse(&bytes) {
                prop_assert_eq!(request.to_string().into_bytes(), bytes.clone());
            }
            if let Ok(request) = SignSubtree::parse(&bytes) {
                prop_assert_eq!(request.to_string().into_bytes(), bytes.clone());
            }
            let _ = parse_signature_lines(&bytes);
        }
    }
}
