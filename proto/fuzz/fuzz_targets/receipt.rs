#![no_main]
//! Receipts: parsed, and verified when they are near a true one.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{merkle::inclusion_proof, receipt::Receipt};
use taglog_proto_fuzz::{HISTORY, one_spelling, spoil};

fuzz_target!(|input: (&[u8], Vec<(u16, u8, Vec<u8>)>, u8)| {
    let (data, changes, index) = input;
    one_spelling(data, |_| Receipt::parse(data));
    let index = u64::from(index) % HISTORY.entries.len() as u64;
    let entry = HISTORY.entries[index as usize].as_bytes();
    let proof = inclusion_proof(&HISTORY.log, index, HISTORY.entries.len() as u64);
    let proof = proof.expect("the log holds it, and the index is below the size");
    let valid = Receipt { extra: Some(entry.to_vec()), index, proof, checkpoint: HISTORY.checkpoint.clone() };
    let spoiled = spoil(&valid.to_string(), &changes);
    one_spelling(&spoiled, |_| Receipt::parse(&spoiled));
    if let Ok(receipt) = Receipt::parse(&spoiled)
        && receipt.verify_extra(HISTORY.key.verifier_key()).is_ok()
    {
        // Whatever verifies is an entry of the log, at its own index.
        let entry = receipt.extra.expect("it was verified");
        assert_eq!(HISTORY.entries[receipt.index as usize].as_bytes(), entry);
    }
});
