#![no_main]
//! Prefix proofs and new roots from any proofs; and a tree that grows as the fuzzer says, whose
//! roots must follow from proofs alone.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    merkle::Hash,
    prefix_tree::{
        self, Key, Leaf, Page, PagePath, PageReader, PrefixProof, ProvenUpdate, SearchResult, empty_root, updated_root,
    },
};
use taglog_proto_fuzz::hashes;

#[derive(Default)]
struct Pages(HashMap<PagePath, Page>);

impl PageReader for Pages {
    type Error = Infallible;

    fn page(&self, path: &PagePath) -> Result<Page, Infallible> {
        Ok(self.0.get(path).cloned().unwrap_or_default())
    }
}

/// Keys that differ in two bytes alone, so that many share long prefixes.
fn key(place: u8, byte: u8) -> Key {
    let mut key = [0; 32];
    key[usize::from(place % 32)] = byte;
    key
}

fn any_proof(kind: u8, other: (u8, u8), seeds: &[u8]) -> PrefixProof {
    let result = match kind % 3 {
        0 => SearchResult::Inclusion,
        1 => SearchResult::NonInclusionLeaf(Leaf { key: key(other.0, other.1), commitment: Hash::ZERO }),
        _ => SearchResult::NonInclusionParent,
    };
    PrefixProof { result, copath: hashes(seeds) }
}

fuzz_target!(|input: (Vec<Vec<(u8, u8, u8)>>, u8, (u8, u8), &[u8])| {
    let (batches, kind, other, seeds) = input;
    let proof = any_proof(kind, other, seeds);
    assert!(proof.verify(&[0; 32], Some(&Hash::ZERO), &Hash::ZERO).is_err());
    let lie = |key| ProvenUpdate { key, old: None, proof: proof.clone(), new: Hash::ZERO };
    assert!(updated_root(&Hash::ZERO, &[lie([0; 32]), lie([1; 32])]).is_err());

    let (mut pages, mut root, mut all) = (Pages::default(), empty_root(), BTreeMap::new());
    for batch in batches.iter().take(4) {
        let batch: BTreeMap<Key, Hash> =
            batch.iter().map(|(place, byte, new)| (key(*place, *byte), Hash([*new; 32]))).collect();
        let prove = |key: &Key| prefix_tree::prove(&pages, key).unwrap_or_else(|never| match never {});
        let updates: Vec<ProvenUpdate> = batch
            .iter()
            .map(|(key, new)| ProvenUpdate { key: *key, old: all.get(key).copied(), proof: prove(key), new: *new })
            .collect();
        let changes = prefix_tree::update(&pages, &batch).unwrap_or_else(|never| match never {});
        assert_eq!(updated_root(&root, &updates), Ok(changes.root));
        pages.0.extend(changes.pages);
        all.extend(batch);
        root = changes.root;
    }
    for key in all.keys().copied().chain([key(other.0, other.1)]) {
        let proof = prefix_tree::prove(&pages, &key).unwrap_or_else(|never| match never {});
        assert_eq!(proof.verify(&key, all.get(&key), &root), Ok(()));
        let lie = if all.contains_key(&key) { None } else { Some(&Hash::ZERO) };
        assert!(proof.verify(&key, lie, &root).is_err());
    }
});
