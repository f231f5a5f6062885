//! Digests for people, who compare beginnings.

use taglog_proto::name::Digest;

/// Hexadecimal digits that are shown, as container engines do.
const DIGITS: usize = 12;

/// The beginning of a digest, marked as cut: enough to tell digests apart, and never to be pulled by.
pub fn short(digest: &Digest) -> String {
    let whole = digest.to_string();
    let (algorithm, digits) = whole.split_once(':').unwrap_or(("", &whole));
    format!("{algorithm}:{}…", digits.get(..DIGITS).unwrap_or(digits))
}

/// The text with every mention of this digest cut short.
pub fn shortened(text: &str, digest: &Digest) -> String {
    text.replace(&digest.to_string(), &short(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        let digest = Digest::sha256(b"");
        assert_eq!(short(&digest), "sha256:e3b0c44298fc…");
        assert_eq!(
            shortened(&format!("no a@{digest}: {digest}"), &digest),
            "no a@sha256:e3b0c44298fc…: sha256:e3b0c44298fc…"
        );
        assert_eq!(short(&Digest::Sha512([0xab; 64])), "sha512:abababababab…");
    }
}
