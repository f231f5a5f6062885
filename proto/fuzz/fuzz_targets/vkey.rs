#![no_main]
//! Public and secret keys.

use libfuzzer_sys::fuzz_target;
use taglog_proto::{
    cosignature::{CosignerKey, CosignerSigningKey},
    note::{SigningKey, VerifierKey},
};
use taglog_proto_fuzz::one_spelling;

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |text| text.parse::<VerifierKey>());
    one_spelling(data, |text| text.parse::<CosignerKey>());
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = text.parse::<CosignerSigningKey>()
    {
        assert_eq!(key.to_secret_string(), text);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = text.parse::<SigningKey>()
    {
        assert_eq!(key.to_secret_string(), text);
    }
    if let Some((key, name)) = data.split_first_chunk::<32>()
        && let Ok(name) = std::str::from_utf8(name)
        && let Ok(key) = VerifierKey::new(name, key)
    {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
});
