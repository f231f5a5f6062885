//! Digests: the two spellings that are accepted, and how they are computed.

use sha2::{Digest as _, Sha256, Sha512};

/// A hash function by which an image may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The algorithm of a well-formed digest; `None` for everything else, other algorithms and upper-case
    /// hex included: a digest has exactly one spelling.
    pub(super) fn of_digest(digest: &str) -> Option<Self> {
        let (name, hex) = digest.split_once(':')?;
        let (algorithm, length) = match name {
            "sha256" => (Self::Sha256, 64),
            "sha512" => (Self::Sha512, 128),
            _ => return None,
        };
        let lower_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex.len() == length && lower_hex).then_some(algorithm)
    }

    /// The digest of `bytes`, spelled as `algorithm:hex`.
    pub(super) fn hash(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
            Self::Sha512 => format!("sha512:{}", hex::encode(Sha512::digest(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // FIPS 180-2, the message "abc".
        assert_eq!(
            Algorithm::Sha256.hash(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(Algorithm::Sha512.hash(b"abc").starts_with("sha512:ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn one_spelling_only() {
        let sha256 = Algorithm::Sha256.hash(b"x");
        let sha512 = Algorithm::Sha512.hash(b"x");
        assert_eq!(Algorithm::of_digest(&sha256), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::of_digest(&sha512), Some(Algorithm::Sha512));
        let hex = &sha256[7..];
        for bad in [
            String::new(),
            hex.to_owned(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("sha512:{hex}"),
            format!("md5:{}", &hex[..32]),
            format!(" {sha256}"),
            format!("{sha256}\n"),
        ] {
            assert_eq!(Algorithm::of_digest(&bad), None, "{bad:?}");
        }
    }
}
