#![no_main]
//! Entries of every kind.

use libfuzzer_sys::fuzz_target;
use taglog_proto::entry::{Entry, Seen};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |_| Entry::parse(data));
    one_spelling(data, Seen::parse);
});
