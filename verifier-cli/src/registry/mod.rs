//! Reading tags and manifests from OCI registries.
//!
//! Two questions are asked here: which digest does a tag point to ([`Registry::head`]), and which bytes are
//! behind it ([`Registry::manifest`]). Both always send the same [`ACCEPT`] list, so that two honest witnesses
//! that ask the same registry see the same digest.
//!
//! # What is ours and what is not
//!
//! `oci_client` gives the grammar of image names, the media types, the form of a token service's answer and
//! the type that holds credentials without printing them; `docker_credential` reads Docker's logins and runs
//! its helpers; `http_auth` parses challenges. The requests themselves are made with `reqwest` and not with
//! `oci_client::Client` (0.18), because that client
//!
//! - sends an `Accept` list of its own with HEAD, in another order;
//! - reads bodies of any length into memory, and knows no time limit for a whole operation;
//! - sends the user's password to whatever token service the registry names, plain HTTP included, and knows
//!   no identity tokens;
//! - leaves redirects to reqwest, which follows them from HTTPS to plain HTTP: without the credentials, but
//!   then anybody on the way chooses the digest;
//! - hides why authentication failed, returns neither `Retry-After` nor the media type, and takes any digest
//!   header at HEAD as it comes.
//!
//! # Credentials
//!
//! They are looked up only once a registry asks for them. They go to that registry (scheme, host and port) and
//! to the token service it names, over TLS unless plain HTTP is allowed for the registry, and never along with
//! a redirect that leads elsewhere. Tokens are kept in memory for as long as the registry takes them.

mod auth;
mod challenge;
mod credentials;
mod digest;
mod error;
mod image;
mod transport;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

pub use error::RegistryError;

use auth::Grant;
use challenge::Challenge;
use digest::Algorithm;
use image::Image;
use transport::{Answer, Transport};

/// The media types that are asked for, in this order and always all of them. Part of the protocol: another
/// list can make a registry answer with another digest for the same tag.
pub const ACCEPT: [&str; 4] =
    [OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];

/// The longest manifest that is read, in bytes: 4 MiB, which is also the most that registries must store.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

const DIGEST_HEADER: &str = "docker-content-digest";

/// How to reach registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Registries, as `host[:port]` exactly as in image names, that are asked over plain HTTP instead of
    /// HTTPS. Loopback (`localhost`, `127.0.0.0/8`, `[::1]`) always is, and need not be named.
    pub plain_http: Vec<String>,
    /// The time for one whole operation: redirects, log-in and body included. A credential helper gets at most
    /// half of it.
    pub timeout: Duration,
    /// The directory of Docker's `config.json`; `None` means `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
}

impl Default for RegistryOptions {
    /// HTTPS for everything but loopback, 30 seconds, and Docker's own configuration.
    fn default() -> Self {
        Self { plain_http: Vec::new(), timeout: Duration::from_secs(30), docker_config: None }
    }
}

/// A manifest as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of [`bytes`](Self::bytes), computed here: by the algorithm of the digest asked for; else by
    /// that of the registry's digest header; else by SHA-256.
    pub digest: String,
    /// The media type in the answer's header, in lower case without parameters; where the header is missing,
    /// the one that the manifest itself states; empty where there is neither. The registry's word: no digest
    /// covers the header.
    pub media_type: String,
    /// The manifest itself: a JSON object of at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
}

/// Access to registries. Cheap to clone; clones share connections and log-ins.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Transport,
    timeout: Duration,
    docker_config: Option<PathBuf>,
    /// What each repository last accepted. No expiry is kept: a registry that refuses a grant makes us ask for
    /// a new one, and its clock counts, not ours.
    grants: Mutex<HashMap<String, Grant>>,
}

impl Registry {
    /// Sets up the HTTP clients; sends nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Setup`] where the system's TLS or proxy settings are unusable.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let shared = Shared {
            transport: Transport::new(options.plain_http)?,
            timeout: options.timeout,
            docker_config: options.docker_config,
            grants: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The digest that `tag` points to in `repository` (`host[:port]/path`, fully spelled), for example the tag
    /// `1.36` of `docker.io/library/busybox`.
    ///
    /// Asks by HEAD, and takes the registry's word for the digest. Where the registry does not answer HEAD, or
    /// answers it without exactly one well-formed digest header, the manifest is fetched and hashed instead.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but `Setup`; [`InvalidName`](RegistryError::InvalidName) also where `tag` is a
    /// digest.
    pub async fn head(&self, repository: &str, tag: &str) -> Result<String, RegistryError> {
        let image = Image::parse(repository, tag)?;
        if image.by_digest {
            let reason = "it already is a digest, a tag is needed";
            return Err(RegistryError::InvalidName { image: image.spelled(), reason });
        }
        self.shared.within_timeout(&image, self.shared.head(&image)).await
    }

    /// The manifest behind `reference`, a tag or a digest, in `repository` (`host[:port]/path`).
    ///
    /// The bytes are checked against the digest asked for and against the registry's digest header, if any.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but `Setup`; [`WrongDigest`](RegistryError::WrongDigest) where the bytes are not
    /// those of either digest, a header that is no well-formed digest included.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Manifest, RegistryError> {
        let image = Image::parse(repository, reference)?;
        self.shared.within_timeout(&image, self.shared.manifest(&image)).await
    }
}

impl Shared {
    async fn within_timeout<T>(
        &self,
        image: &Image,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let (registry, after) = (image.registry.clone(), self.timeout);
            Err(RegistryError::Timeout { image: image.spelled(), registry, after })
        })
    }

    async fn head(&self, image: &Image) -> Result<String, RegistryError> {
        let (response, logged_in) = self.request(image, Method::HEAD).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            StatusCode::OK => {
                if let Some(digest) = usable_digest(image, response.headers())? {
                    return Ok(digest);
                }
            }
            status => {
                return Err(transport::refusal(image, status, response.headers(), logged_in));
            }
        }
        Ok(self.manifest(image).await?.digest)
    }

    async fn manifest(&self, image: &Image) -> Result<Manifest, RegistryError> {
        let (response, logged_in) = self.request(image, Method::GET).await?;
        if response.status() != StatusCode::OK {
            return Err(transport::refusal(image, response.status(), response.headers(), logged_in));
        }
        refuse_html(image, response.headers())?;
        let header_type = transport::media_type(response.headers());
        let claims = digest_headers(response.headers());
        let bytes = transport::read_body(image, response, MAX_MANIFEST_BYTES).await?;
        let digest = checked_digest(image, &claims, &bytes)?;
        // After the digest check: bytes of the wrong digest are the graver finding.
        let own_type = stated_media_type(image, &bytes)?;
        let media_type = header_type.or(own_type).unwrap_or_default();
        Ok(Manifest { digest, media_type, bytes })
    }

    /// Sends one request for the manifest, logging in where the registry asks for it. Returns the answer
    /// whatever its status, and whether stored credentials were behind it.
    async fn request(&self, image: &Image, method: Method) -> Result<(Response, bool), RegistryError> {
        if let Some(grant) = self.remembered(image) {
            let answer = self.send(image, method.clone(), Some(&grant)).await?;
            // 403 too: some registries say so when a login has expired.
            if !matches!(answer.response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok((answer.response, grant.logged_in));
            }
            self.grants().remove(&key(image));
        }
        let first = self.send(image, method.clone(), None).await?;
        if first.response.status() != StatusCode::UNAUTHORIZED {
            return Ok((first.response, false));
        }
        let grant = self.log_in(image, &first).await?;
        let second = self.send(image, method, Some(&grant)).await?;
        let logged_in = grant.logged_in;
        if second.response.status() != StatusCode::UNAUTHORIZED {
            self.grants().insert(key(image), grant);
        }
        Ok((second.response, logged_in))
    }

    async fn send(&self, image: &Image, method: Method, grant: Option<&Grant>) -> Result<Answer, RegistryError> {
        let url = image.manifest_url(self.transport.is_plain(&image.registry))?;
        let authorization = grant.map(|grant| &grant.authorization);
        self.transport.fetch(image, method, url, Some(&ACCEPT.join(", ")), authorization).await
    }

    /// Does what the 401 `refused` asks for.
    async fn log_in(&self, image: &Image, refused: &Answer) -> Result<Grant, RegistryError> {
        if refused.left_origin {
            let reason = "that host asks for credentials, which are only sent to the registry named";
            return Err(transport::away(image, refused.response.url(), reason));
        }
        let Some(challenge) = Challenge::strongest(refused.response.headers()) else {
            let headers = refused.response.headers();
            return Err(transport::refusal(image, StatusCode::UNAUTHORIZED, headers, false));
        };
        let credentials_key = image.credentials_key().to_owned();
        let credentials = credentials::load(self.docker_config.clone(), credentials_key, self.timeout / 2)
            .await
            .map_err(|reason| RegistryError::Credentials {
                image: image.spelled(),
                registry: image.registry.clone(),
                reason,
            })?;
        auth::authorize(&self.transport, image, challenge, credentials).await
    }

    fn remembered(&self, image: &Image) -> Option<Grant> {
        self.grants().get(&key(image)).cloned()
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        // Each use is a single map operation, so that a panic elsewhere cannot leave it half done.
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(image: &Image) -> String {
    format!("{}/{}", image.registry, image.path)
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
fn usable_digest(image: &Image, headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
    refuse_html(image, headers)?;
    let mut claims = digest_headers(headers);
    match (claims.pop(), claims.is_empty()) {
        (Some(claim), true) if Algorithm::of_digest(&claim).is_some() => Ok(Some(claim)),
        _ => Ok(None),
    }
}

fn refuse_html(image: &Image, headers: &HeaderMap) -> Result<(), RegistryError> {
    if transport::is_html(headers) {
        return Err(transport::not_a_registry(image, "it answered with an HTML page"));
    }
    Ok(())
}

/// Checks the body against every digest that was asked for or claimed, and returns the first of them.
fn checked_digest(image: &Image, claims: &[String], bytes: &[u8]) -> Result<String, RegistryError> {
    let asked = image.by_digest.then_some(&image.reference);
    let mut first = None;
    for claimed in asked.into_iter().chain(claims) {
        let algorithm = Algorithm::of_digest(claimed);
        let actual = algorithm.unwrap_or(Algorithm::Sha256).hash(bytes);
        if actual != *claimed {
            let claimed = error::printable(claimed);
            return Err(RegistryError::WrongDigest { image: image.spelled(), claimed, actual });
        }
        first.get_or_insert(actual);
    }
    Ok(first.unwrap_or_else(|| Algorithm::Sha256.hash(bytes)))
}

/// The media type that a manifest states about itself; an error where the bytes are no JSON object at all.
fn stated_media_type(image: &Image, bytes: &[u8]) -> Result<Option<String>, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stated {
        media_type: Option<String>,
    }
    let no_manifest = || transport::not_a_registry(image, "the body is not a manifest in JSON");
    // Serde would take a JSON array for the structure as well.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_manifest());
    }
    let stated: Stated = serde_json::from_slice(bytes).map_err(|_| no_manifest())?;
    Ok(stated.media_type.map(|kind| error::printable(&kind)))
}
