#![no_main]
//! Tile paths and entry bundles.

use libfuzzer_sys::fuzz_target;
use taglog_proto::tile::{TilePath, decode_bundle, encode_bundle};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|input: (&[u8], u64)| {
    let (data, size) = input;
    one_spelling(data, TilePath::parse);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(path) = TilePath::parse(text)
    {
        assert!(!path.exists_at(size) || path.exists_at(size.saturating_add(1)));
    }
    if let Ok(entries) = decode_bundle(data, 256) {
        assert!(entries.len() <= 256);
        assert_eq!(encode_bundle(entries), Ok(data.to_vec()));
    }
});
