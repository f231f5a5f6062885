//! Agreement with every worked example in `vectors/`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use taglog_memory_log::{MemoryLog, Missing};
use taglog_proto::{
    audit::AuditState,
    checkpoint::SignedCheckpoint,
    entry::{Confirmation, Entry, Observation},
    merkle::{self, Frontier, Hash, leaf_hash, verify_consistency, verify_inclusion},
    name::{Image, Repository},
    note::{SigningKey, VerifierKey},
    prefix_tree::{self, Key, Leaf, Page, PagePath, PageReader, PrefixProof, ProvenUpdate, SearchResult},
    record::{RepositoryRecord, Sighting, TagRecord, repository_key, tag_key},
    tag_proof::{self, LookupRequest, TagProof, TagProofError, VerifiedLookup},
};

fn bytes32(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    assert_eq!(base16ct::lower::decode(hex, &mut bytes).unwrap().len(), 32);
    bytes
}

fn hash(hex: &str) -> Hash {
    Hash(bytes32(hex))
}

fn hashes(hex: &[String]) -> Vec<Hash> {
    hex.iter().map(|hex| hash(hex)).collect()
}

#[derive(Deserialize)]
struct KeyVector {
    name: String,
    seed: String,
    vkey: String,
}

impl KeyVector {
    fn key(&self) -> SigningKey {
        SigningKey::from_seed(&self.name, &bytes32(&self.seed)).unwrap()
    }
}

#[derive(Deserialize)]
struct LeafVector {
    key: String,
    commitment: String,
}

#[derive(Deserialize)]
struct ProofVector {
    result: String,
    depth: usize,
    leaf: Option<LeafVector>,
    copath: Vec<String>,
}

impl ProofVector {
    fn proof(&self) -> PrefixProof {
        let result = match (self.result.as_str(), &self.leaf) {
            ("inclusion", None) => SearchResult::Inclusion,
            ("nonInclusionParent", None) => SearchResult::NonInclusionParent,
            ("nonInclusionLeaf", Some(leaf)) => {
                SearchResult::NonInclusionLeaf(Leaf { key: bytes32(&leaf.key), commitment: hash(&leaf.commitment) })
            }
            other => panic!("a proof vector of another shape: {:?}", other.0),
        };
        assert_eq!(self.depth, self.copath.len());
        PrefixProof { result, copath: hashes(&self.copath) }
    }
}

#[derive(Deserialize)]
struct History {
    log: KeyVector,
    witnesses: Vec<KeyVector>,
    entries: Vec<String>,
    seals: Vec<u64>,
    leaf_hashes: Vec<String>,
    roots: Vec<String>,
    checkpoint: String,
    tag_records: BTreeMap<String, String>,
    repository_records: BTreeMap<String, String>,
    sightings: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    index_root: String,
    lookups: BTreeMap<String, ProofVector>,
}

impl History {
    fn load() -> History {
        serde_json::from_str(include_str!("../vectors/history.json")).unwrap()
    }

    fn log_key(&self) -> VerifierKey {
        self.log.vkey.parse().unwrap()
    }

    fn signed(&self) -> SignedCheckpoint {
        SignedCheckpoint::parse(self.checkpoint.as_bytes()).unwrap()
    }

    /// The whole history, audited batch by batch.
    fn replay(&self) -> MemoryLog {
        let entries: Vec<&[u8]> = self.entries.iter().map(|entry| entry.as_bytes()).collect();
        let mut log = MemoryLog::default();
        for seal in &self.seals {
            let batch = log.push_batch(&entries[log.state().size as usize..]).unwrap();
            assert_eq!((batch.state.size, batch.lax_signatures.len()), (seal + 1, 0));
        }
        log
    }
}

#[test]
fn keys_follow_from_their_seeds() {
    let history = History::load();
    for vector in history.witnesses.iter().chain([&history.log]) {
        assert_eq!(vector.key().verifier_key().to_string(), vector.vkey);
        assert_eq!(vector.vkey.parse::<VerifierKey>().unwrap().to_string(), vector.vkey);
    }
}

#[test]
fn entries_have_one_canonical_encoding_and_are_signed() {
    let history = History::load();
    let keys: Vec<SigningKey> = history.witnesses.iter().map(KeyVector::key).collect();
    let key_of = |name: &str| keys.iter().find(|key| key.verifier_key().name() == name).unwrap();
    let mut seals = Vec::new();
    for (index, text) in (0u64..).zip(&history.entries) {
        let entry = Entry::parse(text.as_bytes()).unwrap();
        assert_eq!(entry.to_string(), *text);
        // Ed25519 is deterministic, so signing again gives the same bytes.
        match entry {
            Entry::Observation(entry) => {
                let key = key_of(entry.signature.witness.name.as_str());
                assert_eq!(entry.verify(key.verifier_key()), Ok(()));
                let again = Observation::sign(entry.image.clone(), entry.seen, entry.observed, key);
                assert_eq!(again.unwrap(), entry);
            }
            Entry::Confirmation(entry) => {
                let key = key_of(entry.signature.witness.name.as_str());
                assert_eq!(entry.verify(key.verifier_key()), Ok(()));
                assert_eq!(Confirmation::sign(entry.repository.clone(), entry.observed, key).unwrap(), entry);
            }
            Entry::Seal(seal) => {
                assert_eq!(seal.size, index);
                seals.push(index);
            }
            Entry::Roster(roster) => {
                let vkeys: Vec<String> = roster.witnesses().iter().map(VerifierKey::to_string).collect();
                assert!(vkeys.iter().all(|vkey| history.witnesses.iter().any(|w| w.vkey == *vkey)));
            }
        }
    }
    assert_eq!(seals, history.seals);
}

#[test]
fn a_changed_statement_fails_its_signature() {
    let history = History::load();
    for text in &history.entries {
        let (entry, key) = match Entry::parse(text.as_bytes()).unwrap() {
            Entry::Observation(entry) => (entry.signature.clone(), entry.signature.witness.name),
            Entry::Confirmation(entry) => (entry.signature.clone(), entry.signature.witness.name),
            Entry::Roster(_) | Entry::Seal(_) => continue,
        };
        let key = history.witnesses.iter().find(|w| w.name == key.as_str()).unwrap().key();
        let changed = text.replacen("T02:", "T03:", 1);
        assert_ne!(changed, *text);
        let verdict = match Entry::parse(changed.as_bytes()).unwrap() {
            Entry::Observation(changed) => changed.verify(key.verifier_key()),
            Entry::Confirmation(changed) => changed.verify(key.verifier_key()),
            Entry::Roster(_) | Entry::Seal(_) => unreachable!(),
        };
        assert!(verdict.is_err(), "{}", entry.witness);
    }
}

#[test]
fn leaf_hashes_and_every_root_match_the_vectors() {
    let history = History::load();
    let log = history.replay();
    let mut frontier = Frontier::default();
    assert_eq!(frontier.root(), hash(&history.roots[0]));
    for (i, text) in history.entries.iter().enumerate() {
        assert_eq!(leaf_hash(text.as_bytes()), hash(&history.leaf_hashes[i]));
        frontier.append(leaf_hash(text.as_bytes()), |_, _, _| {});
        assert_eq!(frontier.root(), hash(&history.roots[i + 1]));
        assert_eq!(merkle::root(&log, i as u64 + 1), Ok(hash(&history.roots[i + 1])));
        assert_eq!(Frontier::read(&log, i as u64 + 1), Ok(frontier.clone()));
    }
    assert_eq!(history.roots.len(), history.entries.len() + 1);
}

#[test]
fn the_checkpoint_is_the_logs() {
    let history = History::load();
    let ours = history.replay().checkpoint(&history.log.name).sign(&history.log.key());
    assert_eq!(ours.to_string(), history.checkpoint);
    let theirs = history.signed();
    let checkpoint = theirs.verify(&history.log_key()).unwrap();
    assert_eq!(checkpoint.size, history.entries.len() as u64);
    assert_eq!(Some(checkpoint.root), history.roots.last().map(|hex| hash(hex)));
}

#[test]
fn replay_gives_the_same_index() {
    let history = History::load();
    let log = history.replay();
    let tags: BTreeMap<String, String> =
        log.tag_records().map(|record| (record.image.to_string(), record.to_string())).collect();
    let repositories: BTreeMap<String, String> =
        log.repository_records().map(|record| (record.repository.to_string(), record.to_string())).collect();
    assert_eq!(tags, history.tag_records);
    assert_eq!(repositories, history.repository_records);
    assert!(tags.values().all(|text| TagRecord::parse(text).unwrap().to_string() == *text));
    assert!(repositories.values().all(|text| RepositoryRecord::parse(text).unwrap().to_string() == *text));

    let mut lists = BTreeMap::new();
    for record in log.tag_records() {
        let by_witness = record.lines().iter().map(|line| {
            let list = log.all_sightings(&record.image, &line.witness);
            (line.witness.to_string(), list.iter().map(Sighting::to_string).collect::<Vec<_>>())
        });
        lists.insert(record.image.to_string(), by_witness.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(lists, history.sightings);
    assert_eq!(prefix_tree::root(&log), Ok(hash(&history.index_root)));
    let AuditState { seal, roster, .. } = log.state().clone();
    assert_eq!((seal.unwrap().tags, roster.unwrap().0), (tags.len() as u64, 20));
}

/// The key and the commitment of a name in the history's index.
fn searched(history: &History, name: &str) -> (Key, Option<Hash>) {
    match Image::parse(name) {
        Ok(image) => (tag_key(&image), history.tag_records.get(name).map(|text| Hash::of(text.as_bytes()))),
        Err(_) => {
            let key = repository_key(&Repository::parse(name).unwrap());
            (key, history.repository_records.get(name).map(|text| Hash::of(text.as_bytes())))
        }
    }
}

#[test]
fn look_ups_match_the_vectors() {
    let history = History::load();
    let (log, root) = (history.replay(), hash(&history.index_root));
    let mut results = BTreeSet::new();
    for (name, vector) in &history.lookups {
        let (key, commitment) = searched(&history, name);
        assert_eq!(prefix_tree::prove(&log, &key), Ok(vector.proof()), "{name}");
        assert_eq!(vector.proof().verify(&key, commitment.as_ref(), &root), Ok(()), "{name}");
        results.insert(vector.result.clone());
    }
    assert!(results.len() >= 2, "the vectors have both presence and absence");
}

#[derive(Default)]
struct Pages(BTreeMap<PagePath, Page>);

impl PageReader for Pages {
    type Error = Missing;

    fn page(&self, path: &PagePath) -> Result<Page, Missing> {
        match self.0.get(path) {
            Some(page) => Ok(page.clone()),
            None if *path == PagePath::ROOT => Ok(Page::default()),
            None => Err(Missing(format!("{path:?}"))),
        }
    }
}

#[derive(Deserialize)]
struct TreeProofVector {
    key: String,
    #[serde(flatten)]
    proof: ProofVector,
}

#[derive(Deserialize)]
struct TreeVector {
    leaves: BTreeMap<String, String>,
    root: String,
    proofs: Vec<TreeProofVector>,
}

#[derive(Deserialize)]
struct TreesVector {
    trees: Vec<TreeVector>,
}

impl TreeVector {
    fn leaves(&self) -> BTreeMap<Key, Hash> {
        self.leaves.iter().map(|(key, commitment)| (bytes32(key), hash(commitment))).collect()
    }
}

#[test]
fn prefix_trees_match_the_vectors() {
    let vectors: TreesVector = serde_json::from_str(include_str!("../vectors/prefix-trees.json")).unwrap();
    for tree in &vectors.trees {
        let (leaves, root) = (tree.leaves(), hash(&tree.root));
        let changes = prefix_tree::update(&Pages::default(), &leaves).unwrap();
        assert_eq!(changes.root, root);
        let pages = Pages(changes.pages);
        for vector in &tree.proofs {
            let (key, proof) = (bytes32(&vector.key), vector.proof.proof());
            assert_eq!(prefix_tree::prove(&pages, &key), Ok(proof.clone()));
            assert_eq!(proof.verify(&key, leaves.get(&key), &root), Ok(()));
            assert!(proof.verify(&key, leaves.get(&key), &Hash::of(b"another root")).is_err());
        }
    }
}

/// One leaf at a time, with the root after each also computed from proofs alone.
#[test]
fn prefix_trees_grow_to_the_same_root() {
    let vectors: TreesVector = serde_json::from_str(include_str!("../vectors/prefix-trees.json")).unwrap();
    for tree in &vectors.trees {
        let (mut pages, mut root) = (Pages::default(), prefix_tree::empty_root());
        // Not in the order of the keys, so that leaves are pushed down by later ones.
        for (key, new) in tree.leaves().into_iter().rev() {
            let update = ProvenUpdate { key, old: None, proof: prefix_tree::prove(&pages, &key).unwrap(), new };
            let changes = prefix_tree::update(&pages, &BTreeMap::from([(key, new)])).unwrap();
            assert_eq!(prefix_tree::updated_root(&root, &[update]), Ok(changes.root));
            pages.0.extend(changes.pages);
            root = changes.root;
        }
        assert_eq!(root, hash(&tree.root));
    }
}

#[derive(Deserialize)]
struct InclusionVector {
    size: u64,
    index: u64,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct ConsistencyVector {
    old: u64,
    new: u64,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct MerkleVectors {
    roots: Vec<String>,
    inclusion: Vec<InclusionVector>,
    consistency: Vec<ConsistencyVector>,
}

#[test]
fn merkle_proofs_match_the_vectors() {
    let vectors: MerkleVectors = serde_json::from_str(include_str!("../vectors/merkle.json")).unwrap();
    let leaves: Vec<String> = (0..vectors.roots.len() - 1).map(|i| format!("leaf {i}")).collect();
    let mut tree = MemoryLog::default();
    tree.append(&leaves.iter().map(|leaf| leaf.as_bytes()).collect::<Vec<_>>());
    for (size, root) in (0u64..).zip(&vectors.roots) {
        assert_eq!(merkle::root(&tree, size), Ok(hash(root)));
    }
    let root = |size: u64| hash(&vectors.roots[size as usize]);
    for InclusionVector { size, index, proof } in &vectors.inclusion {
        let proof = hashes(proof);
        assert_eq!(merkle::inclusion_proof(&tree, *index, *size), Ok(proof.clone()));
        let leaf = leaf_hash(leaves[*index as usize].as_bytes());
        assert_eq!(verify_inclusion(&leaf, *index, *size, &proof, &root(*size)), Ok(()));
    }
    for ConsistencyVector { old, new, proof } in &vectors.consistency {
        let proof = hashes(proof);
        assert_eq!(merkle::consistency_proof(&tree, *old, *new), Ok(proof.clone()));
        assert_eq!(verify_consistency(*old, *new, &proof, &root(*old), &root(*new)), Ok(()));
    }
}

#[derive(Deserialize)]
struct BadEntries {
    good: String,
    bad: BTreeMap<String, String>,
}

#[test]
fn bad_entries_are_refused() {
    let vectors: BadEntries = serde_json::from_str(include_str!("../vectors/bad-entries.json")).unwrap();
    assert!(Entry::parse(vectors.good.as_bytes()).is_ok());
    for (name, text) in &vectors.bad {
        assert!(Entry::parse(text.as_bytes()).is_err(), "{name}");
    }
    assert!(vectors.bad.len() > 30);
}

/// A tag proof over the whole history: known tags, an unknown tag, an unknown repository.
fn history_proof(history: &History, from: Option<u64>) -> TagProof {
    let absent = ["docker.io/library/busybox:9", "nobody.example/nothing:1"];
    let images = history.tag_records.keys().map(String::as_str).chain(absent);
    let request = LookupRequest { images: images.map(|name| Image::parse(name).unwrap()).collect(), page: 0, from };
    tag_proof::build(&history.replay(), &history.signed(), &request).unwrap()
}

fn check_report(history: &History, lookup: &VerifiedLookup, name: &str) {
    let image = Image::parse(name).unwrap();
    let report = lookup.report(&image).unwrap();
    assert_eq!(report.repository_covered, history.repository_records.contains_key(image.repository.as_str()));
    let lists: BTreeMap<String, Vec<String>> = report
        .witnesses
        .iter()
        .map(|witness| {
            assert!(witness.complete);
            let leaves = witness.sightings.iter().map(|sighted| sighted.sighting.to_string());
            (witness.line.witness.to_string(), leaves.collect())
        })
        .collect();
    assert_eq!(lists, history.sightings.get(name).cloned().unwrap_or_default(), "{name}");
}

#[test]
fn a_tag_proof_over_the_history_verifies() {
    let history = History::load();
    let proof = history_proof(&history, Some(13));
    let json = proof.to_json();
    let read = TagProof::from_json(json.as_bytes()).unwrap();
    assert_eq!((&read, read.to_json()), (&proof, json));

    let lookup = read.verify(&history.log_key()).unwrap();
    assert_eq!(lookup.checkpoint, *history.signed().unverified());
    for image in &read.images {
        check_report(&history, &lookup, &image.image);
    }
    let old = taglog_proto::checkpoint::Checkpoint {
        origin: history.log.name.clone(),
        size: 13,
        root: hash(&history.roots[13]),
    };
    assert_eq!(read.verify_consistency(&old, &lookup.checkpoint), Ok(()));
    let forked = taglog_proto::checkpoint::Checkpoint { root: hash(&history.roots[12]), ..old };
    assert!(matches!(
        read.verify_consistency(&forked, &lookup.checkpoint),
        Err(TagProofError::Inconsistent { from: 13, .. })
    ));
}

/// A small proof with every kind of object in it.
fn small_proof(history: &History) -> TagProof {
    let absent = (0..).map(|i| format!("nobody.example/nothing:{i}")).find(|name| {
        let proof = prefix_tree::prove(&history.replay(), &tag_key(&Image::parse(name).unwrap())).unwrap();
        matches!(proof.result, SearchResult::NonInclusionLeaf(_))
    });
    let images = ["docker.io/martes13/harmless:1.0", &absent.unwrap()].map(|name| Image::parse(name).unwrap());
    let request = LookupRequest { images: images.to_vec(), page: 0, from: Some(5) };
    tag_proof::build(&history.replay(), &history.signed(), &request).unwrap()
}

/// The texts of a document in which one object, at any level, has one member more.
fn with_one_more_member(value: &Value, more: &dyn Fn(&Map<String, Value>) -> Vec<String>) -> Vec<String> {
    let (parts, open, close) = match value {
        Value::Object(map) => {
            (map.iter().map(|(key, value)| (json!(key).to_string() + ":", value)).collect(), '{', '}')
        }
        Value::Array(items) => (items.iter().map(|value| (String::new(), value)).collect::<Vec<_>>(), '[', ']'),
        _ => return Vec::new(),
    };
    let texts: Vec<String> = parts.iter().map(|(key, value)| format!("{key}{value}")).collect();
    let mut all = Vec::new();
    if let Value::Object(map) = value {
        all.extend(more(map).iter().map(|member| format!("{{{},{member}}}", texts.join(","))));
    }
    for (i, (key, value)) in parts.iter().enumerate() {
        for changed in with_one_more_member(value, more) {
            let mut texts = texts.clone();
            texts[i] = format!("{key}{changed}");
            all.push(format!("{open}{}{close}", texts.join(",")));
        }
    }
    all
}

#[test]
fn unknown_and_repeated_fields_are_refused_at_every_level() {
    let history = History::load();
    let value = serde_json::to_value(small_proof(&history)).unwrap();
    assert!(TagProof::from_json(value.to_string().as_bytes()).unwrap().verify(&history.log_key()).is_ok());

    let unknown = with_one_more_member(&value, &|_| vec![r#""more":1"#.to_owned()]);
    let repeated =
        with_one_more_member(&value, &|map| map.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect());
    assert!(unknown.len() > 20 && repeated.len() > unknown.len());
    for (texts, why) in [(unknown, "unknown field"), (repeated, "duplicate field")] {
        for text in texts {
            match TagProof::from_json(text.as_bytes()) {
                Err(TagProofError::Json(error)) => assert!(error.contains(why), "{error}"),
                other => panic!("{other:?}: {text}"),
            }
        }
    }
}

#[test]
fn numbers_and_types_out_of_range_are_refused() {
    let proof = small_proof(&History::load()).to_json();
    let changed = |from: &str, to: &str| {
        assert!(proof.contains(from), "{from}");
        TagProof::from_json(proof.replacen(from, to, 1).as_bytes())
    };
    assert!(matches!(changed("tag-proof@v1", "tag-proof@v2"), Err(TagProofError::Type(_))));
    for number in ["9007199254740992", "-1", "1.0", "1e0", "\"0\"", "null", "18446744073709551616"] {
        for key in ["\"from\":5", "\"start\":0", "\"index\":2"] {
            let (name, _) = key.split_once(':').unwrap();
            assert!(matches!(changed(key, &format!("{name}:{number}")), Err(TagProofError::Json(_))), "{key} {number}");
        }
    }
}

/// The example of section 7.5 of the specification, which was put together by other means.
#[test]
fn the_example_in_the_specification_verifies() {
    let history = History::load();
    let specification = include_str!("../SPEC.md");
    let (_, section) = specification.split_once("### 7.5 ").unwrap();
    let json = section.split("```").nth(1).and_then(|block| block.strip_prefix("json\n")).unwrap();
    let proof = TagProof::from_json(json.as_bytes()).unwrap();
    let request = LookupRequest { images: vec![Image::parse("localhost:5000/x:latest").unwrap()], page: 0, from: None };
    assert_eq!(Ok(proof.clone()), tag_proof::build(&history.replay(), &history.signed(), &request));
    assert!(proof.verify(&history.log_key()).is_ok());
}

/// The derived readers would take an array for an object and null for what is absent.
#[test]
fn json_of_another_shape_is_refused() {
    let history = History::load();
    let json = small_proof(&history).to_json();
    assert!(TagProof::from_json(json.as_bytes()).is_ok());
    let value: Value = serde_json::from_str(&json).unwrap();
    let mut entry_as_array = value.clone();
    entry_as_array["entries"][0] = serde_json::json!([value["entries"][0]["index"], value["entries"][0]["entry"]]);
    let mut null_for_absent = value.clone();
    null_for_absent["consistency"] = Value::Null;
    let mut result_as_object = value.clone();
    let result = value["images"][0]["tag"]["proof"]["result"].as_str().unwrap().to_owned();
    result_as_object["images"][0]["tag"]["proof"]["result"] = serde_json::json!({ result: null });
    for changed in [entry_as_array, null_for_absent, result_as_object] {
        assert_ne!(changed, value);
        assert!(TagProof::from_json(changed.to_string().as_bytes()).is_err(), "{changed}");
    }
}
