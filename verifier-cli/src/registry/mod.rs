//! Reading tags and manifests from OCI registries.
//!
//! Two questions are asked here: which digest does a tag point to ([`Registry::head`]), and which bytes are
//! behind it ([`Registry::manifest`]). Both always send the same [`ACCEPT`] list, so that two honest witnesses
//! that ask the same registry see the same digest.
//!
//! # What is ours and what is not
//!
//! `taglog_proto` gives the names and digests. `oci_client` gives the media types, the form of a token service's
//! answer and the type that holds credentials without printing them, and no more; `docker_credential` reads
//! Docker's logins and runs its helpers; `http_auth` parses challenges. The requests themselves are made with
//! `reqwest` and not with `oci_client::Client` (0.18), because that client
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
mod error;
mod target;
mod transport;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use reqwest::{Method, Response, StatusCode, header::HeaderMap};
use serde::Deserialize;
use sha2::{Digest as _, Sha512};
use taglog_proto::name::{Digest, Image, Repository};

pub use error::RegistryError;
pub use target::ManifestReference;

use auth::Grant;
use challenge::Challenge;
use target::Target;
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
    /// Registries, as `host[:port]` exactly as in the names of repositories, that are asked over plain HTTP instead
    /// of HTTPS. Loopback (`localhost`, `127.0.0.0/8`, `[::1]`) always is, and need not be named.
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
    pub digest: Digest,
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
    grants: Mutex<HashMap<Repository, Grant>>,
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

    /// The digest that the image's tag points to now.
    ///
    /// Asks by HEAD, and takes the registry's word for the digest. Where the registry does not answer HEAD, or
    /// answers it without exactly one well-formed digest header, the manifest is fetched and hashed instead.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but [`Setup`](RegistryError::Setup).
    pub async fn head(&self, image: &Image) -> Result<Digest, RegistryError> {
        let target = Target::from(image);
        self.shared.within_timeout(&target, self.shared.head(&target)).await
    }

    /// The manifest that `reference` stands for in `repository`.
    ///
    /// The bytes are checked against the digest asked for and against the registry's digest header, if any.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but [`Setup`](RegistryError::Setup); [`WrongDigest`](RegistryError::WrongDigest) where
    /// the bytes are not those of either digest, a header that is no well-formed digest included.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<Manifest, RegistryError> {
        let target = Target { repository: repository.clone(), reference: reference.clone() };
        self.shared.within_timeout(&target, self.shared.manifest(&target)).await
    }
}

impl Shared {
    async fn within_timeout<T>(
        &self,
        target: &Target,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let (registry, after) = (target.registry().to_owned(), self.timeout);
            Err(RegistryError::Timeout { target: target.to_string(), registry, after })
        })
    }

    async fn head(&self, target: &Target) -> Result<Digest, RegistryError> {
        let (response, logged_in) = self.request(target, Method::HEAD).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            StatusCode::OK => {
                if let Some(digest) = usable_digest(target, response.headers())? {
                    return Ok(digest);
                }
            }
            status => {
                return Err(transport::refusal(target, status, response.headers(), logged_in));
            }
        }
        Ok(self.manifest(target).await?.digest)
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest, RegistryError> {
        let (response, logged_in) = self.request(target, Method::GET).await?;
        if response.status() != StatusCode::OK {
            return Err(transport::refusal(target, response.status(), response.headers(), logged_in));
        }
        refuse_html(target, response.headers())?;
        let header_type = transport::media_type(response.headers());
        let claims = digest_headers(response.headers());
        let bytes = transport::read_body(target, response, MAX_MANIFEST_BYTES).await?;
        let digest = checked_digest(target, &claims, &bytes)?;
        // After the digest check: bytes of the wrong digest are the graver finding.
        let own_type = stated_media_type(target, &bytes)?;
        let media_type = header_type.or(own_type).unwrap_or_default();
        Ok(Manifest { digest, media_type, bytes })
    }

    /// Sends one request for the manifest, logging in where the registry asks for it. Returns the answer
    /// whatever its status, and whether stored credentials were behind it.
    async fn request(&self, target: &Target, method: Method) -> Result<(Response, bool), RegistryError> {
        if let Some(grant) = self.remembered(target) {
            let answer = self.send(target, method.clone(), Some(&grant)).await?;
            // 403 too: some registries say so when a login has expired.
            if !matches!(answer.response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok((answer.response, grant.logged_in));
            }
            self.grants().remove(&target.repository);
        }
        let first = self.send(target, method.clone(), None).await?;
        if first.response.status() != StatusCode::UNAUTHORIZED {
            return Ok((first.response, false));
        }
        let grant = self.log_in(target, &first).await?;
        let second = self.send(target, method, Some(&grant)).await?;
        let logged_in = grant.logged_in;
        if second.response.status() != StatusCode::UNAUTHORIZED {
            self.grants().insert(target.repository.clone(), grant);
        }
        Ok((second.response, logged_in))
    }

    async fn send(&self, target: &Target, method: Method, grant: Option<&Grant>) -> Result<Answer, RegistryError> {
        let url = target.manifest_url(self.transport.is_plain(target.registry()))?;
        let authorization = grant.map(|grant| &grant.authorization);
        self.transport.fetch(target, method, url, Some(&ACCEPT.join(", ")), authorization).await
    }

    /// Does what the 401 `refused` asks for.
    async fn log_in(&self, target: &Target, refused: &Answer) -> Result<Grant, RegistryError> {
        if refused.left_origin {
            let reason = "that host asks for credentials, which are only sent to the registry named";
            return Err(transport::away(target, refused.response.url(), reason));
        }
        let Some(challenge) = Challenge::strongest(refused.response.headers()) else {
            let headers = refused.response.headers();
            return Err(transport::refusal(target, StatusCode::UNAUTHORIZED, headers, false));
        };
        let credentials_key = target.credentials_key().to_owned();
        let credentials = credentials::load(self.docker_config.clone(), credentials_key, self.timeout / 2)
            .await
            .map_err(|reason| RegistryError::Credentials {
                target: target.to_string(),
                registry: target.registry().to_owned(),
                reason,
            })?;
        auth::authorize(&self.transport, target, challenge, credentials).await
    }

    fn remembered(&self, target: &Target) -> Option<Grant> {
        self.grants().get(&target.repository).cloned()
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<Repository, Grant>> {
        // Each use is a single map operation, so that a panic elsewhere cannot leave it half done.
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

fn refuse_html(target: &Target, headers: &HeaderMap) -> Result<(), RegistryError> {
    if transport::is_html(headers) {
        return Err(transport::not_a_registry(target, "it answered with an HTML page"));
    }
    Ok(())
}

/// Checks the body against every digest that was asked for or claimed, and returns the first of them.
fn checked_digest(target: &Target, claims: &[String], bytes: &[u8]) -> Result<Digest, RegistryError> {
    let asked = match target.reference {
        ManifestReference::Digest(digest) => Some(digest.to_string()),
        ManifestReference::Tag(_) => None,
    };
    let mut first = None;
    for claimed in asked.iter().chain(claims) {
        let actual = match Digest::parse(claimed) {
            Ok(Digest::Sha512(_)) => Digest::Sha512(Sha512::digest(bytes).into()),
            _ => Digest::sha256(bytes),
        };
        if actual.to_string() != *claimed {
            let claimed = error::printable(claimed);
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
    let no_manifest = || transport::not_a_registry(target, "the body is not a manifest in JSON");
    // Serde would take a JSON array for the structure as well.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_manifest());
    }
    let stated: Stated = serde_json::from_slice(bytes).map_err(|_| no_manifest())?;
    Ok(stated.media_type.map(|kind| error::printable(&kind)))
}
