#![no_main]
//! What cosigners are asked and answer, and who is believed.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    add_checkpoint::{AddCheckpoint, SignSubtree, parse_signature_lines},
    checkpoint::SignedCheckpoint,
    policy::TrustPolicy,
};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |_| SignedCheckpoint::parse_any(data));
    one_spelling(data, |_| AddCheckpoint::parse(data));
    one_spelling(data, |_| SignSubtree::parse(data));
    if let Ok(lines) = parse_signature_lines(data) {
        assert_eq!(lines.iter().map(ToString::to_string).collect::<String>().as_bytes(), data);
    }
    if let Ok(policy) = TrustPolicy::parse(data) {
        assert_eq!(TrustPolicy::parse(policy.to_text().as_bytes()), Ok(policy));
    }
});
