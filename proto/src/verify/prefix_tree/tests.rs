use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// The root over exactly these leaves: the definition, in a few lines, to test the rest against.
fn reference_root(leaves: &BTreeMap<Key, Hash>) -> Hash {
    let leaves: Vec<Leaf> =
        leaves.iter().map(|(key, commitment)| Leaf { key: *key, commitment: *commitment }).collect();
    let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, 0)));
    parent_value(&node_of_leaves(left, 1), &node_of_leaves(right, 1))
}

#[derive(Default)]
struct Pages(BTreeMap<PagePath, Page>);

impl PageReader for Pages {
    type Error = Infallible;
    fn page(&self, path: &PagePath) -> Result<Page, Infallible> {
        let stored = self.0.get(path).map(|page| Page::from_bytes(&page.to_bytes()).unwrap());
        assert!(stored.is_some() || *path == PagePath::ROOT, "asked for a page that does not exist");
        Ok(stored.unwrap_or_default())
    }
}

/// Keys that share long prefixes, as an attacker could grind them (to a degree).
fn keys() -> impl Strategy<Value = Key> {
    (any::<u8>(), 0usize..40, any::<[u8; 8]>()).prop_map(|(first, shared, rest)| {
        let mut key = [if first < 200 { 0xa5 } else { first }; 32];
        let at = shared.min(24);
        key[at..at + 8].copy_from_slice(&rest);
        key
    })
}

proptest! {
    #[test]
    fn batches_give_the_tree_of_the_definition(
        batches in prop::collection::vec(prop::collection::btree_map(keys(), any::<[u8; 32]>().prop_map(Hash), 0..12), 1..6),
        absent in prop::collection::vec(keys(), 0..8),
    ) {
        let mut stored = Pages::default();
        let mut all = BTreeMap::new();
        let mut root_now = empty_root();
        for batch in batches {
            let updates: Vec<ProvenUpdate> = batch.iter().map(|(key, new)| ProvenUpdate {
                key: *key, old: all.get(key).copied(), proof: prove(&stored, key).unwrap(), new: *new,
            }).collect();
            let changes = update(&stored, &batch).unwrap();
            prop_assert_eq!(updated_root(&root_now, &updates), Ok(changes.root));
            stored.0.extend(changes.pages);
            all.extend(batch);
            root_now = changes.root;
            prop_assert_eq!(root_now, reference_root(&all));
            prop_assert_eq!(root(&stored).unwrap(), root_now);
        }
        for key in all.keys().chain(&absent) {
            let proof = prove(&stored, key).unwrap();
            prop_assert_eq!(proof.verify(key, all.get(key), &root_now), Ok(()));
            let lie = if all.contains_key(key) { None } else { Some(Hash::ZERO) };
            prop_assert!(proof.verify(key, lie.as_ref(), &root_now).is_err());
            for i in 0..proof.copath.len() {
                let mut changed = proof.clone();
                changed.copath[i].0[7] ^= 1;
                prop_assert!(changed.verify(key, all.get(key), &root_now).is_err());
                let mut shorter = proof.clone();
                shorter.copath.remove(i);
                prop_assert!(shorter.verify(key, all.get(key), &root_now).is_err());
            }
        }
    }
}

#[test]
fn proofs_of_impossible_shape() {
    let key = [0; 32];
    let proof = |copath| PrefixProof { result: SearchResult::NonInclusionParent, copath };
    assert_eq!(proof(vec![]).verify(&key, None, &Hash::ZERO), Err(PrefixError::Depth(0)));
    assert_eq!(proof(vec![Hash::ZERO; 257]).verify(&key, None, &Hash::ZERO), Err(PrefixError::Depth(257)));
    assert_eq!(proof(vec![Hash::ZERO; 2]).verify(&key, None, &Hash::ZERO), Err(PrefixError::TooDeep));
    assert_eq!(proof(vec![Hash::ZERO]).verify(&key, None, &empty_root()), Ok(()));
    let own = SearchResult::NonInclusionLeaf(Leaf { key, commitment: Hash::ZERO });
    let own = PrefixProof { result: own, copath: vec![Hash::ZERO] };
    assert_eq!(own.verify(&key, None, &Hash::ZERO), Err(PrefixError::OtherLeaf));
}
