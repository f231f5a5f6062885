#![no_main]
//! Tag records, repository records, sightings, and pages of the prefix tree.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    prefix_tree::Page,
    record::{RepositoryRecord, Sighting, TagRecord},
};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, TagRecord::parse);
    one_spelling(data, RepositoryRecord::parse);
    one_spelling(data, Sighting::parse);
    if let Ok(page) = Page::from_bytes(data) {
        assert_eq!(page.to_bytes(), data);
    }
});
