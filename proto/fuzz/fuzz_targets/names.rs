#![no_main]
//! Names in the spelling of entries, and references as people write them.

use libfuzzer_sys::fuzz_target;
use taglog_proto::name::{Digest, Image, KeyId, Reference, Repository, Tag, WitnessId, WitnessName};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, Repository::parse);
    one_spelling(data, Tag::parse);
    one_spelling(data, Image::parse);
    one_spelling(data, Digest::parse);
    one_spelling(data, WitnessName::parse);
    one_spelling(data, WitnessId::parse);
    one_spelling(data, |text| KeyId::parse(text).ok_or(()));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(reference) = Reference::parse(text)
    {
        let again = Reference::parse(reference.repository.as_str()).expect("expanded names are names");
        assert_eq!(again.repository, reference.repository);
    }
});
