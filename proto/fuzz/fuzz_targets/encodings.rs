#![no_main]
//! Decimals, base64 and times.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    encoding::{from_base64, from_decimal, to_base64},
    merkle::Hash,
    time::Timestamp,
};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |text| from_decimal(text).ok_or(()));
    one_spelling(data, |text| Hash::from_base64(text).ok_or(()));
    one_spelling(data, |text| text.parse::<Timestamp>());
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(bytes) = from_base64(text)
    {
        assert_eq!(to_base64(&bytes), text);
    }
});
