#![no_main]
//! Evidence: read and verified. The history's log is honest, so nothing may prove misbehaviour.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    evidence::{Evidence, FalseEntry, Fork, Inconsistency, NoSeal, Omission},
    merkle::inclusion_proof,
    multiproof,
    tag_proof::IndexedEntry,
};
use taglog_proto_fuzz::{HISTORY, spoil};

fn check(data: &[u8]) {
    let Ok(evidence) = Evidence::from_json(data) else { return };
    assert_eq!(Evidence::from_json(evidence.to_json().as_bytes()).as_ref(), Ok(&evidence));
    assert!(evidence.proves_misbehaviour(HISTORY.key.verifier_key()).is_err());
}

fn evidence(which: u8) -> Evidence {
    let size = HISTORY.entries.len() as u64;
    let inclusion = |index| inclusion_proof(&HISTORY.log, index, size).expect("the log holds it, below the size");
    let checkpoint = HISTORY.checkpoint.to_string();
    match which % 5 {
        0 => Evidence::Fork(Fork { checkpoints: [checkpoint.clone(), checkpoint] }),
        1 => {
            let (old, new) = (&HISTORY.checkpoint, &HISTORY.checkpoint);
            Evidence::Inconsistency(Inconsistency::collect(old, new, &HISTORY.log).expect("the log holds it"))
        }
        2 => Evidence::Omission(Omission {
            tag_proof: HISTORY.proof.clone(),
            observation: IndexedEntry { index: 2, entry: HISTORY.entries[2].clone() },
            inclusion: inclusion(2),
        }),
        3 => Evidence::FalseEntry(FalseEntry {
            checkpoint,
            entries: [0, 2, size - 1]
                .map(|index| IndexedEntry { index, entry: HISTORY.entries[index as usize].clone() }),
            multiproof: multiproof::build(&HISTORY.log, &[0, 2, size - 1], size)
                .expect("the log holds them, and they increase, below the size"),
        }),
        _ => Evidence::NoSeal(NoSeal {
            checkpoint,
            entry: HISTORY.entries[size as usize - 1].clone(),
            inclusion: inclusion(size - 1),
        }),
    }
}

fuzz_target!(|input: (&[u8], u8, Vec<(u16, u8, Vec<u8>)>)| {
    let (data, which, changes) = input;
    check(data);
    check(&spoil(&evidence(which).to_json(), &changes));
});
