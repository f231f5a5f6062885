#![no_main]
//! Inclusion, consistency and multiproofs from any hashes; and true ones, which must verify for no
//! other leaves.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    merkle::{Hash, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion},
    multiproof,
};
use taglog_proto_fuzz::{HISTORY, hashes};

fuzz_target!(|input: (u64, u64, &[u8], Vec<(u64, &[u8])>)| {
    let (a, b, seeds, leaves) = input;
    let (proof, zero) = (hashes(seeds), Hash::ZERO);
    assert!(verify_inclusion(&Hash([1; 32]), a, b, &proof, &Hash::of(b"no tree")).is_err());
    assert!(verify_consistency(a, b, &proof, &Hash([1; 32]), &zero).is_err());
    assert!(multiproof::verify(&leaves, b, &proof, &zero).is_err());

    let size = HISTORY.entries.len() as u64;
    let root = HISTORY.checkpoint.unverified().root;
    let entry = |index: u64| HISTORY.entries[index as usize].as_bytes();
    let index = a % size;
    let proof = inclusion_proof(&HISTORY.log, index, size).expect("the log holds it, below the size");
    let claimed = b % (2 * size);
    let verdict = verify_inclusion(&leaf_hash(entry(index)), claimed, size, &proof, &root);
    assert_eq!(verdict.is_ok(), claimed == index);

    let indices: Vec<u64> = leaves.iter().map(|(index, _)| index % (size + 1)).collect();
    if let Ok(proof) = multiproof::build(&HISTORY.log, &indices, size) {
        let mut proven: Vec<(u64, &[u8])> = indices.iter().map(|index| (*index, entry(*index))).collect();
        assert_eq!(multiproof::verify(&proven, size, &proof, &root), Ok(()));
        let lied = b as usize % proven.len();
        proven[lied].1 = seeds;
        assert_eq!(multiproof::verify(&proven, size, &proof, &root).is_ok(), seeds == entry(proven[lied].0));
    }
});
