//! Which manifest a tag points to, and the manifest itself.

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha512};
use taglog_proto::name::Digest;

use super::{
    Shared,
    circumstances::Circumstances,
    error::{RegistryError, printable},
    target::{ManifestReference, Subject, Target},
    transport::{self, Answer, Question, refuse_html},
};

/// The media types that are asked for, in this order and always all of them. Part of the protocol: another
/// list can make a registry answer with another digest for the same tag.
pub const ACCEPT: [&str; 4] =
    [OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];

/// [`ACCEPT`] as it is sent.
static ACCEPT_HEADER: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// The longest manifest that is read, in bytes: 4 MiB, which is also the most that registries must store.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

const DIGEST_HEADER: &str = "docker-content-digest";

/// A manifest as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of [`bytes`](Self::bytes), computed here: by the algorithm of the digest asked for; else by
    /// that of the registry's digest header; else by SHA-256.
    pub digest: Digest,
    /// The media type in the answer's header, in lower case without parameters; where the header is missing,
    /// the one that the manifest itself states; empty where there is neither. The registry's word: no digest
    /// covers the header.
    pub media_type: String,
    /// The manifest itself: a JSON object of at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
}

impl Shared {
    /// The digest that the target has now; `known` where nothing has changed since it was that.
    pub(super) async fn digest(
        &self,
        target: &Target,
        known: Option<&Digest>,
    ) -> Result<(Digest, Circumstances), RegistryError> {
        let answer = self.request(target, self.question(target, Method::HEAD, known)?).await?;
        let status = answer.status();
        let said = match (status, known) {
            (StatusCode::OK, _) => usable_digest(target, answer.headers())?,
            (StatusCode::NOT_MODIFIED, Some(known)) => confirms(answer.headers(), known).then_some(*known),
            (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => None,
            _ => return Err(answer.refusal(target)),
        };
        if let Some(digest) = said {
            return Ok((digest, answer.circumstances()));
        }
        // A 304 that contradicts itself settles nothing: then the bytes are wanted whatever they are.
        let known = known.filter(|_| status != StatusCode::NOT_MODIFIED);
        self.digest_of_bytes(target, known).await
    }

    async fn digest_of_bytes(
        &self,
        target: &Target,
        known: Option<&Digest>,
    ) -> Result<(Digest, Circumstances), RegistryError> {
        let answer = self.request(target, self.question(target, Method::GET, known)?).await?;
        if let Some(known) = known
            && answer.status() == StatusCode::NOT_MODIFIED
            && confirms(answer.headers(), known)
        {
            return Ok((*known, answer.circumstances()));
        }
        let (manifest, circumstances) = read_manifest(target, answer).await?;
        // Without a word from the registry on the algorithm, the one known before is as good.
        let same = known.filter(|known| known.matches(&manifest.bytes));
        Ok((same.copied().unwrap_or(manifest.digest), circumstances))
    }

    pub(super) async fn manifest(&self, target: &Target) -> Result<(Manifest, Circumstances), RegistryError> {
        let answer = self.request(target, self.question(target, Method::GET, None)?).await?;
        read_manifest(target, answer).await
    }

    /// The question for a manifest; with `known`, only if it is another one.
    fn question(&self, target: &Target, method: Method, known: Option<&Digest>) -> Result<Question, RegistryError> {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::ACCEPT, ACCEPT_HEADER.clone());
        // A digest in quotes always is a header value; were it none, asking without the condition would do.
        let tag = known.and_then(|known| HeaderValue::try_from(format!("\"{known}\"")).ok());
        headers.extend(tag.map(|tag| (header::IF_NONE_MATCH, tag)));
        Ok(Question { method, url: self.url(target)?, headers })
    }
}

async fn read_manifest(target: &Target, answer: Answer) -> Result<(Manifest, Circumstances), RegistryError> {
    if answer.status() != StatusCode::OK {
        return Err(answer.refusal(target));
    }
    refuse_html(target, answer.headers())?;
    let circumstances = answer.circumstances();
    let header_type = transport::media_type(answer.headers());
    let claims = digest_headers(answer.headers());
    let bytes = transport::read_body(target, answer.response, MAX_MANIFEST_BYTES).await?;
    let digest = checked_digest(target, &claims, &bytes)?;
    // After the digest check: bytes of the wrong digest are the graver finding.
    let own_type = stated_media_type(target, &bytes)?;
    let media_type = header_type.or(own_type).unwrap_or_default();
    Ok((Manifest { digest, media_type, bytes }, circumstances))
}

/// What the registry says the digest is, in its own words. An empty header counts as none.
fn digest_headers(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(DIGEST_HEADER).iter();
    let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let mut claims: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    claims.dedup();
    claims
}

/// The digest in the header of a HEAD answer, if there is one that needs no second question.
fn usable_digest(target: &Target, headers: &HeaderMap) -> Result<Option<Digest>, RegistryError> {
    refuse_html(target, headers)?;
    Ok(match digest_headers(headers).as_slice() {
        [claim] => Digest::parse(claim).ok(),
        _ => None,
    })
}

/// Whether the headers of a 304 agree that `known` is what is there still. They need not name a digest.
fn confirms(headers: &HeaderMap, known: &Digest) -> bool {
    let known = known.to_string();
    digest_headers(headers).iter().all(|claim| *claim == known)
}

/// Checks the body against every digest that was asked for or claimed, and returns the first of them.
fn checked_digest(target: &Target, claims: &[String], bytes: &[u8]) -> Result<Digest, RegistryError> {
    let asked = match target.subject {
        Subject::Manifest(ManifestReference::Digest(digest)) => Some(digest.to_string()),
        _ => None,
    };
    let mut first = None;
    for claimed in asked.iter().chain(claims) {
        let actual = match Digest::parse(claimed) {
            Ok(Digest::Sha512(_)) => Digest::Sha512(Sha512::digest(bytes).into()),
            _ => Digest::sha256(bytes),
        };
        if actual.to_string() != *claimed {
            let claimed = printable(claimed);
            return Err(RegistryError::WrongDigest { target: target.to_string(), claimed, actual });
        }
        first.get_or_insert(actual);
    }
    Ok(first.unwrap_or_else(|| Digest::sha256(bytes)))
}

/// The media type that a manifest states about itself; an error where the bytes are no JSON object at all.
fn stated_media_type(target: &Target, bytes: &[u8]) -> Result<Option<String>, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stated {
        media_type: Option<String>,
    }
    let stated: Stated = transport::json_object(bytes)
        .ok_or_else(|| transport::not_a_registry(target, "the body is not a manifest in JSON"))?;
    Ok(stated.media_type.map(|kind| printable(&kind)))
}
