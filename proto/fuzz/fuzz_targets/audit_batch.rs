#![no_main]
//! The audit of a batch: of any entries, and of a true batch with changes.

use libfuzzer_sys::fuzz_target;
use taglog_proto::audit::{AuditState, audit_batch};
use taglog_proto_fuzz::{HISTORY, spoil};

fuzz_target!(|input: (Vec<&[u8]>, u8, Vec<(u16, u8, Vec<u8>)>, bool)| {
    let (entries, place, changes, signatures) = input;
    let _ = audit_batch(&AuditState::default(), &entries, &HISTORY.before, signatures);

    let (state, batch) = HISTORY.last_batch();
    let _ = audit_batch(state, &entries, &HISTORY.before, signatures);
    let place = usize::from(place) % batch.len();
    let spoiled = spoil(&batch[place], &changes);
    let mut entries: Vec<&[u8]> = batch.iter().map(String::as_bytes).collect();
    entries[place] = &spoiled;
    let audited = audit_batch(state, &entries, &HISTORY.before, true);
    // With signatures, any change to a statement is found; the seal's index is compared later.
    if spoiled != batch[place].as_bytes() && place + 1 < batch.len() && spoiled.starts_with(b"taglog/observation@v1\n")
    {
        assert!(audited.is_err());
    }
});
