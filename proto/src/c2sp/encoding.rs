//! The strict text encodings that every format shares.
//!
//! Each function accepts exactly one encoding of a value, the canonical one, because an entry's bytes are what is
//! hashed and signed: a second encoding would be a second entry with the same meaning.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Indices and sizes stay below 2⁵³, so that JSON readers which hold numbers as doubles agree.
pub const MAX_INDEX: u64 = 1 << 53;

/// A value's text, in one allocation if it is no longer than `usual` bytes.
pub(crate) fn to_text(value: &impl std::fmt::Display, usual: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(usual);
    // Only a value's own Display could refuse, and none of ours does.
    let _ = write!(text, "{value}");
    text
}

/// Whether a value's text is `text`.
pub(crate) fn is_text(value: &impl std::fmt::Display, text: &str) -> bool {
    use std::fmt::Write as _;
    let mut rest = Rest(text);
    write!(rest, "{value}").is_ok() && rest.0.is_empty()
}

/// The rest of the expected text, after what was written so far.
struct Rest<'a>(&'a str);

impl std::fmt::Write for Rest<'_> {
    fn write_str(&mut self, written: &str) -> std::fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

/// Encodes bytes as RFC 4648 §4 base64 with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Writes RFC 4648 §4 base64 with padding of at most 72 bytes.
pub(crate) fn write_base64(bytes: &[u8], to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let mut text = [0; 96];
    let length = STANDARD.encode_slice(bytes, &mut text).map_err(|_| std::fmt::Error)?;
    to.write_str(std::str::from_utf8(&text[..length]).map_err(|_| std::fmt::Error)?)
}

/// Decodes RFC 4648 §4 base64. Missing padding, white space and non-zero trailing bits are refused.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Decodes base64 that must hold exactly `N` bytes.
pub fn from_base64_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The decoder wants room for whole groups of three.
    let mut bytes = [0; 96];
    if N > bytes.len() - 3 || text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// Parses a decimal number below [`MAX_INDEX`]: digits only, no leading zero except `0` itself.
pub fn from_decimal(text: &str) -> Option<u64> {
    let canonical =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return None;
    }
    text.parse().ok().filter(|n| *n < MAX_INDEX)
}

/// Splits `<key> <value>` at the first space and returns the value when the key is `key`.
pub fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(' ')
}

/// Decodes exactly `N` bytes from lower-case hex.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // A longer text is an error of the decoder, a shorter one leaves bytes unset.
    let decoded = base16ct::lower::decode(text, &mut bytes).ok()?.len();
    (decoded == N).then_some(bytes)
}

/// Shows bytes as lower-case hex.
pub struct HexBytes<'a>(pub &'a [u8]);

impl std::fmt::Display for HexBytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut digits = [0; 128];
        for part in self.0.chunks(64) {
            f.write_str(base16ct::lower::encode_str(part, &mut digits).map_err(|_| std::fmt::Error)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_canonical_encoding() {
        assert_eq!(from_base64("AAE="), Some(vec![0, 1]));
        for bad in ["AAE", "AAF=", " AAE=", "AAE=\n", "AA E=", "AAE=="] {
            assert_eq!(from_base64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn is_text_compares_the_whole_text() {
        for (text, is) in [("1.23", true), ("1.2", false), ("1.234", false), ("1,23", false), ("", false)] {
            assert_eq!(is_text(&format_args!("{}.{}", 1, 23), text), is, "{text:?}");
        }
    }

    #[test]
    fn decimals_have_one_canonical_encoding() {
        assert_eq!(from_decimal("0"), Some(0));
        assert_eq!(from_decimal("9007199254740991"), Some(MAX_INDEX - 1));
        for bad in ["", "00", "01", "+1", "-1", "1 ", "1_0", "9007199254740992", "99999999999999999999"] {
            assert_eq!(from_decimal(bad), None, "{bad:?}");
        }
    }
}
