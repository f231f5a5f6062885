#![no_main]
//! Checkpoints, signed and not.

use libfuzzer_sys::fuzz_target;
use taglog_proto::checkpoint::{Checkpoint, SignedCheckpoint};
use taglog_proto_fuzz::{HISTORY, one_spelling};

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |_| SignedCheckpoint::parse(data));
    if let Ok(signed) = SignedCheckpoint::parse(data)
        && let Ok(checkpoint) = signed.verify(HISTORY.key.verifier_key())
    {
        assert_eq!(checkpoint, HISTORY.checkpoint.unverified());
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(checkpoint) = Checkpoint::parse_text(text)
    {
        assert_eq!(checkpoint.to_text(), text);
    }
});
