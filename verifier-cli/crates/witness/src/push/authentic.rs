//! Whether a push comes from who knows the secret.
//!
//! Senders prove it in one of two ways: they send the secret itself, or they sign the body with it. The first is
//! checked before the body is read, so that strangers cost little. All comparisons take the same time whatever
//! they find.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, header};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Source, SourceKind, problem::Problem};

/// Where GitHub puts its signature.
const GITHUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// Where a generic sender puts its signature.
const GENERIC_SIGNATURE: HeaderName = HeaderName::from_static("x-taglog-signature-256");

/// A secret that a sender and the witness share.
///
/// The text itself is not kept, only what is needed to recognize it; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret {
    keyed: Hmac<Sha256>,
    /// The HMAC of the secret under itself: comparing HMACs instead of texts does not tell by its time how much
    /// of a guess is right.
    own: [u8; 32],
}

impl Secret {
    /// The fewest bytes of a secret.
    pub const MIN: usize = 16;

    /// Takes the text of a secret; a newline at its end, as files have it, does not count.
    ///
    /// # Errors
    /// In words, without the secret: it is under [`Secret::MIN`] bytes, or is not printable ASCII that begins and
    /// ends with no space (no header could carry it).
    pub fn new(text: &str) -> Result<Secret, String> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() < Self::MIN {
            return Err(format!("a secret of {} bytes is too short: want at least {}", line.len(), Self::MIN));
        }
        if line.trim() != line || !line.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err("the secret must be one line of printable ASCII without spaces around it".to_owned());
        }
        let keyed = Hmac::new_from_slice(line.as_bytes()).map_err(|error| error.to_string())?;
        let own = keyed.clone().chain_update(line).finalize().into_bytes().into();
        Ok(Secret { keyed, own })
    }

    /// Whether `text` is the secret.
    fn is(&self, text: &[u8]) -> bool {
        self.keyed.clone().chain_update(text).verify_slice(&self.own).is_ok()
    }

    /// Whether `signature` is the HMAC-SHA256 of `body` under the secret.
    fn signed(&self, body: &[u8], signature: &[u8]) -> bool {
        self.keyed.clone().chain_update(body).verify_slice(signature).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What is left to check of a sender once its headers are known.
pub(super) enum Proof<'a> {
    /// Nothing: it has shown the secret, or none is wanted.
    Complete,
    /// That the secret signed the body.
    Signature(&'a Secret, Vec<u8>),
}

/// Checks what the headers alone can show.
pub(super) fn check_headers<'a>(source: &'a Source, headers: &HeaderMap) -> Result<Proof<'a>, Problem> {
    let Some(secret) = &source.secret else {
        return Ok(Proof::Complete);
    };
    let shows = |text: Option<&[u8]>| text.is_some_and(|text| secret.is(text));
    let (shown, signature) = match source.kind {
        SourceKind::Distribution => (shows(bearer(headers)), None),
        SourceKind::Harbor => (shows(bearer(headers)) || shows(verbatim(headers)), None),
        SourceKind::Github => (false, signature(headers, &GITHUB_SIGNATURE)),
        SourceKind::Generic => (shows(bearer(headers)), signature(headers, &GENERIC_SIGNATURE)),
    };
    match signature {
        _ if shown => Ok(Proof::Complete),
        Some(signature) => Ok(Proof::Signature(secret, signature)),
        None => Err(refusal(source.kind)),
    }
}

impl Proof<'_> {
    /// Checks what needs the body.
    pub(super) fn check_body(&self, source: &Source, body: &[u8]) -> Result<(), Problem> {
        match self {
            Proof::Signature(secret, signature) if !secret.signed(body, signature) => Err(refusal(source.kind)),
            _ => Ok(()),
        }
    }
}

fn verbatim(headers: &HeaderMap) -> Option<&[u8]> {
    Some(headers.get(header::AUTHORIZATION)?.as_bytes())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = verbatim(headers)?.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn signature(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let hex = headers.get(name)?.as_bytes().strip_prefix(b"sha256=")?;
    base16ct::mixed::decode_vec(hex).ok()
}

fn refusal(kind: SourceKind) -> Problem {
    Problem::unauthorized(match kind {
        SourceKind::Distribution => "want the configured secret in the header 'Authorization: Bearer <secret>'",
        SourceKind::Harbor => "want the configured secret as Harbor's 'Auth Header'",
        SourceKind::Github => "want the body signed with the webhook's secret in the header 'X-Hub-Signature-256'",
        SourceKind::Generic => {
            "want the configured secret in the header 'Authorization: Bearer <secret>', or the body signed with it \
             in 'X-Taglog-Signature-256: sha256=<hex>'"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a secret of some length";
    /// `printf '{"zen":"x"}' | openssl dgst -sha256 -hmac 'a secret of some length'`
    const BODY: &[u8] = br#"{"zen":"x"}"#;
    const SIGNATURE: &str = "5db2bf8e9bd789361bc2e7e9e13ae2f2f34eba2cca9f2a4fc71a2f501f99d82b";

    fn allowed(kind: SourceKind, name: &'static str, value: &str) -> bool {
        let secret = Some(Secret::new(TEXT).unwrap());
        let source = Source { kind, registry: "r.example".into(), path: "/push".into(), secret };
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
        check_headers(&source, &headers).is_ok_and(|proof| proof.check_body(&source, BODY).is_ok())
    }

    #[test]
    fn secrets_are_long_printable_and_hidden() {
        for good in ["0123456789abcdef", "0123456789abcdef\n", "correct horse battery staple\r\n"] {
            assert!(Secret::new(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "0123456789abcde",
            "0123456789abcde\n",
            "0123456789abcdef\n\n",
            " 123456789abcdef",
            "0123456789abcde ",
            "0123456789\tabcdef",
            "0123456789abcdé",
        ] {
            assert!(Secret::new(bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{:?}", Secret::new(TEXT).unwrap()).contains("length"));
        assert!(!Secret::new("hunter2").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn each_kind_has_its_header() {
        let bearer = format!("Bearer {TEXT}");
        let signature = format!("sha256={SIGNATURE}");
        use SourceKind::{Distribution, Generic, Github, Harbor};
        for (kind, name, value, want) in [
            (Distribution, "authorization", &*bearer, true),
            (Distribution, "authorization", &bearer.to_lowercase(), true),
            (Distribution, "authorization", TEXT, false),
            (Distribution, "x-hub-signature-256", &signature, false),
            (Harbor, "authorization", TEXT, true),
            (Harbor, "authorization", &bearer, true),
            (Harbor, "x-taglog-signature-256", &signature, false),
            (Github, "x-hub-signature-256", &signature, true),
            (Github, "authorization", &bearer, false),
            (Github, "x-taglog-signature-256", &signature, false),
            (Generic, "authorization", &bearer, true),
            (Generic, "authorization", TEXT, false),
            (Generic, "x-taglog-signature-256", &signature, true),
            (Generic, "x-taglog-signature-256", &signature.to_uppercase().replace("SHA", "sha"), true),
            (Generic, "x-hub-signature-256", &signature, false),
        ] {
            assert_eq!(allowed(kind, name, value), want, "{kind:?} {name}: {value}");
        }
    }

    #[test]
    fn wrong_secrets_and_signatures() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a secret of some lengt",
            "Bearer a secret of some lengthy",
            "Bearer  a secret of some length",
            "Basic a secret of some length",
        ] {
            for kind in [SourceKind::Distribution, SourceKind::Harbor, SourceKind::Generic] {
                assert!(!allowed(kind, "authorization", value), "{kind:?} {value:?}");
            }
        }
        let other = SIGNATURE.replace('0', "1");
        for value in [
            "",
            SIGNATURE,
            "sha256=",
            "sha256=00",
            "sha256=zz",
            &format!("sha1={SIGNATURE}"),
            &format!("sha256={}", &SIGNATURE[..62]),
            &format!("sha256={SIGNATURE}00"),
            &format!("sha256={other}"),
        ] {
            assert!(!allowed(SourceKind::Github, "x-hub-signature-256", value), "{value:?}");
        }
    }

    #[test]
    fn a_wrong_secret_does_not_hide_a_good_signature() {
        let secret = Some(Secret::new(TEXT).unwrap());
        let source = Source { kind: SourceKind::Generic, registry: "r.example".into(), path: "/push".into(), secret };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer of bad news".parse().unwrap());
        headers.insert(GENERIC_SIGNATURE, format!("sha256={SIGNATURE}").parse().unwrap());
        let proof = check_headers(&source, &headers).unwrap();
        assert!(proof.check_body(&source, BODY).is_ok());
        assert!(proof.check_body(&source, b"another body").is_err());
    }
}
