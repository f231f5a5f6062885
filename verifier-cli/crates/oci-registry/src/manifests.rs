//! Resolving a tag to a digest, and fetching a manifest.

use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha512};
use taglog_base::text::excerpt;
use taglog_proto::name::Digest;

use super::{
    client::RegistryClient,
    error::RegistryError,
    metadata::ResponseMetadata,
    target::{ManifestReference, Subject, Target},
    transport::{self, RegistryRequest, RegistryResponse, refuse_html},
};

/// The media types of every manifest request, in this order. Part of the protocol (SPEC.md section 6): with another list a
/// registry may return another digest for the same tag.
pub const ACCEPT: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// [`ACCEPT`] as a header value.
static ACCEPT_HEADER: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// The largest manifest, in bytes: 4 MiB, the size that the OCI distribution specification asks registries to support.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

const DIGEST_HEADER: &str = "docker-content-digest";

/// A manifest, byte for byte as the registry served it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of [`bytes`](Self::bytes), computed here: by the algorithm of the digest asked for; else by
    /// that of the registry's digest header; else by SHA-256.
    pub digest: Digest,
    /// The media type of the response header, in lower case without parameters; where the header is missing, the
    /// manifest's own `mediaType`; empty where there is neither. The digest does not cover the header.
    pub media_type: String,
    /// The manifest itself: a JSON object of at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
}

impl RegistryClient {
    /// The digest that the target has now; `known` where the registry says that it has not changed.
    pub(super) async fn digest(
        &self,
        target: &Target,
        known: Option<&Digest>,
    ) -> Result<(Digest, ResponseMetadata), RegistryError> {
        let answer = self.request(target, self.manifest_request(target, Method::HEAD, known)?).await?;
        let status = answer.status();
        let stated = match (status, known) {
            (StatusCode::OK, _) => single_digest(target, answer.headers())?,
            (StatusCode::NOT_MODIFIED, Some(known)) => is_consistent_with(answer.headers(), known).then_some(*known),
            (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => None,
            _ => return Err(answer.refusal(target)),
        };
        if let Some(digest) = stated {
            return Ok((digest, answer.metadata()));
        }
        // After a 304 that names another digest, the manifest is fetched without the condition.
        let known = known.filter(|_| status != StatusCode::NOT_MODIFIED);
        self.digest_of_bytes(target, known).await
    }

    async fn digest_of_bytes(
        &self,
        target: &Target,
        known: Option<&Digest>,
    ) -> Result<(Digest, ResponseMetadata), RegistryError> {
        let answer = self.request(target, self.manifest_request(target, Method::GET, known)?).await?;
        if let Some(known) = known
            && answer.status() == StatusCode::NOT_MODIFIED
            && is_consistent_with(answer.headers(), known)
        {
            return Ok((*known, answer.metadata()));
        }
        let (manifest, metadata) = read_manifest(target, answer).await?;
        // Where the registry does not name an algorithm, the algorithm of the known digest is used.
        let same = known.filter(|known| known.matches(&manifest.bytes));
        Ok((same.copied().unwrap_or(manifest.digest), metadata))
    }

    pub(super) async fn manifest(&self, target: &Target) -> Result<(Manifest, ResponseMetadata), RegistryError> {
        let answer = self.request(target, self.manifest_request(target, Method::GET, None)?).await?;
        read_manifest(target, answer).await
    }

    /// The request for a manifest; with `known`, conditional on another digest.
    fn manifest_request(
        &self,
        target: &Target,
        method: Method,
        known: Option<&Digest>,
    ) -> Result<RegistryRequest, RegistryError> {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::ACCEPT, ACCEPT_HEADER.clone());
        // A digest in quotes is always a valid header value; if it were not, the request would only be unconditional.
        let tag = known.and_then(|known| HeaderValue::try_from(format!("\"{known}\"")).ok());
        headers.extend(tag.map(|tag| (header::IF_NONE_MATCH, tag)));
        Ok(RegistryRequest { method, url: self.url(target)?, headers })
    }
}

async fn read_manifest(
    target: &Target,
    answer: RegistryResponse,
) -> Result<(Manifest, ResponseMetadata), RegistryError> {
    if answer.status() != StatusCode::OK {
        return Err(answer.refusal(target));
    }
    refuse_html(target, answer.headers())?;
    let metadata = answer.metadata();
    let header_type = transport::media_type(answer.headers());
    let claims = digest_headers(answer.headers());
    let bytes = transport::read_body(target, answer.response, MAX_MANIFEST_BYTES).await?;
    let digest = checked_digest(target, &claims, &bytes)?;
    // After the digest check: a wrong digest is the more severe error.
    let own_type = stated_media_type(target, &bytes)?;
    let media_type = header_type.or(own_type).unwrap_or_default();
    Ok((Manifest { digest, media_type, bytes }, metadata))
}

/// The values of the digest headers as they were sent. An empty header counts as none.
fn digest_headers(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(DIGEST_HEADER).iter();
    let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let mut claims: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    claims.dedup();
    claims
}

/// The digest of a HEAD response, if it has exactly one well-formed digest header.
fn single_digest(target: &Target, headers: &HeaderMap) -> Result<Option<Digest>, RegistryError> {
    refuse_html(target, headers)?;
    Ok(match digest_headers(headers).as_slice() {
        [claim] => Digest::parse(claim).ok(),
        _ => None,
    })
}

/// Whether the digest headers of a 304, if any, all name `known`.
fn is_consistent_with(headers: &HeaderMap, known: &Digest) -> bool {
    let known = known.to_string();
    digest_headers(headers).iter().all(|claim| *claim == known)
}

/// Checks the body against the requested digest and every digest header, and returns the first of them.
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
            let claimed = excerpt(claimed);
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
    struct MediaTypeField {
        media_type: Option<String>,
    }
    let stated: MediaTypeField = transport::json_object(bytes)
        .ok_or_else(|| transport::not_a_registry(target, "the body is not a manifest in JSON"))?;
    Ok(stated.media_type.map(|kind| excerpt(&kind)))
}
