#![no_main]
//! Tag proofs: read, and verified when they are near a true one.

use libfuzzer_sys::fuzz_target;
use taglog_proto::tag_proof::TagProof;
use taglog_proto_fuzz::{HISTORY, spoil};

fn check(data: &[u8]) {
    let Ok(proof) = TagProof::from_json(data) else { return };
    assert_eq!(TagProof::from_json(proof.to_json().as_bytes()).as_ref(), Ok(&proof));
    let Ok(lookup) = proof.verify(HISTORY.key.verifier_key()) else { return };
    // Only one checkpoint is signed, so whatever verifies says what the log says.
    assert_eq!(lookup.checkpoint, *HISTORY.checkpoint.unverified());
    for report in &lookup.images {
        for witness in &report.witnesses {
            let list = HISTORY.log.all_sightings(&report.image, &witness.line.witness);
            let listed: Vec<_> = witness.sightings.iter().map(|sighted| sighted.sighting).collect();
            assert!(!witness.complete || listed == list);
        }
    }
}

fuzz_target!(|input: (&[u8], Vec<(u16, u8, Vec<u8>)>)| {
    let (data, changes) = input;
    check(data);
    check(&spoil(&HISTORY.proof.to_json(), &changes));
});
