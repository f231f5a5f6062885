//! Reading tags and manifests from OCI registries.

#![warn(missing_docs)]
//!
//! Three questions are asked here: which digest does a tag point to ([`Registry::look`]), which bytes are behind it
//! ([`Registry::fetch`]), and which tags are there ([`Registry::tags`]). The first two always send the same
//! [`ACCEPT`] list, so that two honest witnesses that ask the same registry see the same digest.
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
//! They are looked up only once a registry asks for them, and with [`Login::Never`] not at all. They go to that registry (scheme, host and port) and
//! to the token service it names, over TLS unless plain HTTP is allowed for the registry, and never along with
//! a redirect that leads elsewhere. Tokens of the repositories asked about lately are kept in memory for as long as
//! the registry takes them.

mod auth;
mod blob;
mod challenge;
mod circumstances;
mod credentials;
mod error;
mod grants;
mod manifests;
mod tags;
mod target;
mod transport;

use std::{path::PathBuf, sync::Arc, time::Duration};

use governor::DefaultDirectRateLimiter;
use reqwest::{Method, StatusCode, Url, header::HeaderMap};
use taglog_proto::name::{Digest, Image, Repository};

pub use circumstances::{Circumstances, PullBudget};
pub use error::RegistryError;
pub use manifests::{ACCEPT, MAX_MANIFEST_BYTES, Manifest};
pub use tags::TagList;
pub use target::ManifestReference;

use challenge::Challenge;
use grants::{Grant, Grants};
use target::{Subject, Target};
use transport::{Answer, Question, Transport, not_a_registry, refuse_html};

/// How to reach registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Registries, as `host[:port]` exactly as in the names of repositories, that are asked over plain HTTP instead
    /// of HTTPS. Loopback (`localhost`, `127.0.0.0/8`, `[::1]`) always is, and need not be named.
    pub plain_http: Vec<String>,
    /// The time for one whole operation: redirects, log-in and body included. A credential helper gets at most
    /// half of it. For a list of tags, the time for each page of it.
    pub timeout: Duration,
    /// Whether stored credentials may be used.
    pub login: Login,
    /// The directory of Docker's `config.json`; `None` means `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
}

impl Default for RegistryOptions {
    /// HTTPS for everything but loopback, 30 seconds, and Docker's own configuration and logins.
    fn default() -> Self {
        Self { plain_http: Vec::new(), timeout: Duration::from_secs(30), login: Login::Stored, docker_config: None }
    }
}

/// Whether stored credentials are used where a registry asks for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Login {
    /// Docker's stored credentials, if there are any for the registry.
    #[default]
    Stored,
    /// None are read or sent. Tokens that a registry hands out to everybody are used all the same; a registry that
    /// wants a login gives [`RegistryError::Unauthorized`].
    Never,
}

/// What a look at a tag found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The tag points to this digest now.
    Digest(Digest),
    /// The tag still points to the digest that was known.
    Unchanged,
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
    login: Login,
    docker_config: Option<PathBuf>,
    grants: Grants,
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
            login: options.login,
            docker_config: options.docker_config,
            grants: Grants::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The digest that the image's tag points to now: [`look`](Self::look) without anything known before.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub async fn head(&self, image: &Image) -> Result<Digest, RegistryError> {
        Ok(self.digest(image, None).await?.0)
    }

    /// Looks at what the image's tag points to now; with `known`, whether it still is that digest.
    ///
    /// Asks by HEAD, and takes the registry's word for the digest. Where the registry does not answer HEAD, or
    /// answers it without exactly one well-formed digest header, the manifest is fetched and hashed instead. With
    /// `known`, the registry is asked to answer only if the digest is another one. Where its 304 names
    /// another digest all the same, the manifest is fetched without that condition, and its bytes decide.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but [`Setup`](RegistryError::Setup) and [`TooManyTags`](RegistryError::TooManyTags). A
    /// 304 that nobody asked for is [`Server`](RegistryError::Server).
    pub async fn look(&self, image: &Image, known: Option<&Digest>) -> Result<(Looked, Circumstances), RegistryError> {
        let (digest, circumstances) = self.digest(image, known).await?;
        let looked = if known == Some(&digest) { Looked::Unchanged } else { Looked::Digest(digest) };
        Ok((looked, circumstances))
    }

    async fn digest(&self, image: &Image, known: Option<&Digest>) -> Result<(Digest, Circumstances), RegistryError> {
        let target = Target::from(image);
        self.shared.within_timeout(&target, self.shared.digest(&target, known)).await
    }

    /// The manifest that `reference` stands for in `repository`: [`fetch`](Self::fetch) without the circumstances.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<Manifest, RegistryError> {
        Ok(self.fetch(repository, reference).await?.0)
    }

    /// The manifest that `reference` stands for in `repository`.
    ///
    /// The bytes are checked against the digest asked for and against the registry's digest header, if any.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but [`Setup`](RegistryError::Setup) and [`TooManyTags`](RegistryError::TooManyTags);
    /// [`WrongDigest`](RegistryError::WrongDigest) where the bytes are not those of either digest, a header that is
    /// no well-formed digest included.
    pub async fn fetch(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<(Manifest, Circumstances), RegistryError> {
        let target = Target::manifest(repository, reference);
        self.shared.within_timeout(&target, self.shared.manifest(&target)).await
    }

    /// The blob of this digest in `repository`, such as an image's configuration, if it is of `most` bytes or fewer.
    /// Blobs are mostly served by other hosts, which get no credentials.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch); [`TooLarge`](RegistryError::TooLarge) where it has more bytes.
    pub async fn blob(&self, repository: &Repository, digest: &Digest, most: usize) -> Result<Vec<u8>, RegistryError> {
        let target = Target::blob(repository, digest);
        self.shared.within_timeout(&target, self.shared.blob(&target, digest, most)).await
    }

    /// All tags of `repository`, if there are `most` of them or fewer.
    ///
    /// Follows the registry from page to page (`Link` with `rel="next"`), on the host that the pages come from and
    /// nowhere else, at most `most` + 1 times; the timeout holds for each page. The list is the registry's
    /// word: a tag that comes or goes meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// [`TooManyTags`](RegistryError::TooManyTags) where there are more; [`NotARegistry`](RegistryError::NotARegistry)
    /// where the pages lead in circles, or on without further tags;
    /// [`RedirectedAway`](RegistryError::RedirectedAway) where the next page is on another host; else any
    /// [`RegistryError`] but [`Setup`](RegistryError::Setup) and [`WrongDigest`](RegistryError::WrongDigest).
    pub async fn tags(&self, repository: &Repository, most: usize) -> Result<TagList, RegistryError> {
        let target = Target { repository: repository.clone(), subject: Subject::Tags };
        self.shared.tags(&target, most, None).await
    }

    /// As [`tags`](Self::tags), with a limiter for whose turn each page waits. What it waits does not count for the
    /// timeout.
    ///
    /// # Errors
    ///
    /// As [`tags`](Self::tags).
    pub async fn tags_in_turn(
        &self,
        repository: &Repository,
        most: usize,
        limiter: &DefaultDirectRateLimiter,
    ) -> Result<TagList, RegistryError> {
        let target = Target { repository: repository.clone(), subject: Subject::Tags };
        self.shared.tags(&target, most, Some(limiter)).await
    }

    /// Whether what answers at the repository's host speaks the registry protocol now: `GET /v2/` gives 200, or 401
    /// where the registry wants a login, and no HTML page. Never logs in.
    ///
    /// # Errors
    ///
    /// [`NotARegistry`](RegistryError::NotARegistry) where something else answers, 404 included; else what
    /// [`RegistryError`] says of other statuses, redirects and connections.
    pub async fn ping(&self, repository: &Repository) -> Result<Circumstances, RegistryError> {
        let target = Target { repository: repository.clone(), subject: Subject::Protocol };
        self.shared.within_timeout(&target, self.shared.ping(&target)).await
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

    fn url(&self, target: &Target) -> Result<Url, RegistryError> {
        target.url(self.transport.is_plain(target.registry()))
    }

    async fn ping(&self, target: &Target) -> Result<Circumstances, RegistryError> {
        let question = Question { method: Method::GET, url: self.url(target)?, headers: HeaderMap::new() };
        let answer = self.transport.fetch(target, &question, None).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => refuse_html(target, answer.headers())?,
            StatusCode::NOT_FOUND => return Err(not_a_registry(target, "it answered 404 to GET /v2/")),
            _ => return Err(answer.refusal(target)),
        }
        Ok(answer.circumstances())
    }

    /// Asks, logging in where the registry wants it. Returns the answer whatever its status.
    async fn request(&self, target: &Target, question: Question) -> Result<Answer, RegistryError> {
        // A list of tags may go on where a redirect led to. What is granted for the registry is not for that host.
        if self.url(target)?.origin() != question.url.origin() {
            return self.transport.fetch(target, &question, None).await;
        }
        let mut refused = None;
        if let Some(grant) = self.grants.of(&target.repository).await {
            let answer = self.transport.fetch(target, &question, Some(&grant)).await?;
            // 403 too: some registries say so when a login has expired.
            if !matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok(answer);
            }
            self.grants.forget(&target.repository, &grant).await;
            let says_how = answer.status() == StatusCode::UNAUTHORIZED && challenge(target, &answer).is_ok();
            refused = says_how.then_some(answer);
        }
        let answer = match refused {
            Some(answer) => answer,
            None => self.transport.fetch(target, &question, None).await?,
        };
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = challenge(target, &answer)?;
        // Gives the connection back, so that the log-in and what follows can use it.
        drop(answer);
        let grant = self.grants.renew(&target.repository, self.log_in(target, challenge)).await?;
        let answer = self.transport.fetch(target, &question, Some(&grant)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.grants.forget(&target.repository, &grant).await;
        }
        Ok(answer)
    }

    async fn log_in(&self, target: &Target, challenge: Challenge) -> Result<Grant, RegistryError> {
        let credentials = match self.login {
            Login::Never => None,
            Login::Stored => {
                let key = target.credentials_key().to_owned();
                let loaded = credentials::load(self.docker_config.clone(), key, self.timeout / 2).await;
                loaded.map_err(|reason| RegistryError::Credentials {
                    target: target.to_string(),
                    registry: target.registry().to_owned(),
                    reason,
                })?
            }
        };
        auth::authorize(&self.transport, target, challenge, credentials).await
    }
}

/// What the 401 `refused` asks for.
fn challenge(target: &Target, refused: &Answer) -> Result<Challenge, RegistryError> {
    if refused.left_origin {
        let reason = "that host asks for credentials, which are only sent to the registry named";
        return Err(transport::away(target, refused.response.url(), reason));
    }
    Challenge::strongest(refused.headers()).ok_or_else(|| refused.refusal(target))
}
