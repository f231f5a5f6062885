//! Authentication of pushes with a shared secret.
//!
//! A sender sends the secret itself, or an HMAC of the body. The headers are checked before the body is read, so that
//! unauthenticated requests cost little. All comparisons take constant time.

use axum::http::{HeaderMap, HeaderName, header};

use super::{
    problem::PushProblem,
    secret::Secret,
    source::{PushKind, PushSource},
};

/// GitHub's signature header.
const GITHUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// The signature header of a generic sender.
const GENERIC_SIGNATURE: HeaderName = HeaderName::from_static("x-taglog-signature-256");

/// What remains to be checked after the headers.
pub(super) enum SenderProof<'a> {
    /// Nothing: the secret was sent, or none is configured.
    Complete,
    /// The signature of the body.
    Signature(&'a Secret, Vec<u8>),
}

/// Checks the headers.
pub(super) fn check_headers<'a>(source: &'a PushSource, headers: &HeaderMap) -> Result<SenderProof<'a>, PushProblem> {
    let Some(secret) = &source.secret else {
        return Ok(SenderProof::Complete);
    };
    let shows = |text: Option<&[u8]>| text.is_some_and(|text| secret.is(text));
    let (shown, signature) = match source.kind {
        PushKind::Distribution => (shows(bearer(headers)), None),
        PushKind::Harbor => (shows(bearer(headers)) || shows(verbatim(headers)), None),
        PushKind::Github => (false, signature(headers, &GITHUB_SIGNATURE)),
        PushKind::Generic => (shows(bearer(headers)), signature(headers, &GENERIC_SIGNATURE)),
    };
    match signature {
        _ if shown => Ok(SenderProof::Complete),
        Some(signature) => Ok(SenderProof::Signature(secret, signature)),
        None => Err(refusal(source.kind)),
    }
}

impl SenderProof<'_> {
    /// Checks the signature of the body.
    pub(super) fn check_body(&self, source: &PushSource, body: &[u8]) -> Result<(), PushProblem> {
        match self {
            SenderProof::Signature(secret, signature) if !secret.signed(body, signature) => Err(refusal(source.kind)),
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

fn refusal(kind: PushKind) -> PushProblem {
    PushProblem::unauthorized(match kind {
        PushKind::Distribution => "want the configured secret in the header 'Authorization: Bearer <secret>'",
        PushKind::Harbor => "want the configured secret as Harbor's 'Auth Header'",
        PushKind::Github => "want the body signed with the webhook's secret in the header 'X-Hub-Signature-256'",
        PushKind::Generic => {
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

    fn allowed(kind: PushKind, name: &'static str, value: &str) -> bool {
        let secret = Some(Secret::new(TEXT).unwrap());
        let source = PushSource { kind, registry: "r.example".into(), path: "/push".into(), secret };
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
        use PushKind::{Distribution, Generic, Github, Harbor};
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
            for kind in [PushKind::Distribution, PushKind::Harbor, PushKind::Generic] {
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
            assert!(!allowed(PushKind::Github, "x-hub-signature-256", value), "{value:?}");
        }
    }

    #[test]
    fn a_wrong_secret_does_not_hide_a_good_signature() {
        let secret = Some(Secret::new(TEXT).unwrap());
        let source = PushSource { kind: PushKind::Generic, registry: "r.example".into(), path: "/push".into(), secret };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer of bad news".parse().unwrap());
        headers.insert(GENERIC_SIGNATURE, format!("sha256={SIGNATURE}").parse().unwrap());
        let proof = check_headers(&source, &headers).unwrap();
        assert!(proof.check_body(&source, BODY).is_ok());
        assert!(proof.check_body(&source, b"another body").is_err());
    }
}
