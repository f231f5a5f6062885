//! Reading tags and manifests from OCI registries.
//!
//! - [`Registry::resolve`]: the digest that a tag points to;
//! - [`Registry::fetch`]: a manifest;
//! - [`Registry::tags`]: the tags of a repository.
//!
//! The first two always send the same [`ACCEPT`] list, so that two honest witnesses that ask the same registry see the
//! same digest.
//!
//! # Why not `oci_client::Client`
//!
//! `docker_credential` reads Docker's logins and runs its helpers; `http_auth` parses challenges. Requests are made with
//! `reqwest` and not with `oci_client::Client` (0.18), because that client
//!
//! - sends its own `Accept` list with HEAD, in another order;
//! - reads bodies of any length into memory, and has no time limit for a whole operation;
//! - sends the user's password to any token service that the registry names, also over plain HTTP, and does not support
//!   identity tokens;
//! - leaves redirects to reqwest, which follows them from HTTPS to plain HTTP: without the credentials, but
//!   then anybody on the path chooses the digest;
//! - hides why authentication failed, returns neither `Retry-After` nor the media type, and does not check the digest
//!   header of a HEAD response.
//!
//! # Credentials
//!
//! Credentials are read only when a registry asks for them, and never with [`Login::Never`]. They are sent to that
//! registry (scheme, host and port) and to the token service that it names, over TLS unless plain HTTP is allowed for the
//! registry, and never along a redirect to another host. Tokens of recently used repositories are kept in memory until
//! the registry refuses them.

#![warn(missing_docs)]

mod auth;
mod authorization_cache;
mod blob;
mod challenge;
mod client;
mod credentials;
mod error;
mod manifests;
mod metadata;
mod options;
mod tags;
mod target;
mod transport;

use std::sync::Arc;

use governor::DefaultDirectRateLimiter;
use taglog_proto::name::{Digest, Image, Repository};

pub use error::RegistryError;
pub use manifests::{ACCEPT, MAX_MANIFEST_BYTES, Manifest};
pub use metadata::{PullBudget, ResponseMetadata};
pub use options::{Login, RegistryOptions};
pub use tags::TagList;
pub use target::ManifestReference;

use client::RegistryClient;
use target::{Subject, Target};

/// What a tag points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagResolution {
    /// The tag points to this digest now.
    Digest(Digest),
    /// The tag still points to the digest that the caller knew.
    Unchanged,
}

/// Access to registries. Cheap to clone; clones share connections and log-ins.
#[derive(Debug, Clone)]
pub struct Registry {
    client: Arc<RegistryClient>,
}

impl Registry {
    /// Sets up the HTTP clients; sends nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Setup`] where the system's TLS or proxy settings are unusable.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        Ok(Self { client: Arc::new(RegistryClient::new(options)?) })
    }

    /// The digest that the image's tag points to now: [`resolve`](Self::resolve) without a known digest.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn head(&self, image: &Image) -> Result<Digest, RegistryError> {
        Ok(self.digest(image, None).await?.0)
    }

    /// Resolves the image's tag; with `known`, says whether it still points to that digest.
    ///
    /// Sends HEAD and takes the digest from the response header. If the registry does not support HEAD, or the response
    /// does not have exactly one well-formed digest header, the manifest is fetched and hashed instead. With `known`, the
    /// request is conditional (`If-None-Match`). If a 304 names another digest, the manifest is fetched without the
    /// condition and hashed.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but [`Setup`](RegistryError::Setup) and [`TooManyTags`](RegistryError::TooManyTags). A
    /// 304 to an unconditional request is [`Server`](RegistryError::Server).
    pub async fn resolve(
        &self,
        image: &Image,
        known: Option<&Digest>,
    ) -> Result<(TagResolution, ResponseMetadata), RegistryError> {
        let (digest, metadata) = self.digest(image, known).await?;
        let resolution = if known == Some(&digest) { TagResolution::Unchanged } else { TagResolution::Digest(digest) };
        Ok((resolution, metadata))
    }

    async fn digest(&self, image: &Image, known: Option<&Digest>) -> Result<(Digest, ResponseMetadata), RegistryError> {
        let target = Target::from(image);
        self.client.within_timeout(&target, self.client.digest(&target, known)).await
    }

    /// The manifest that `reference` stands for in `repository`: [`fetch`](Self::fetch) without the metadata.
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
    ) -> Result<(Manifest, ResponseMetadata), RegistryError> {
        let target = Target::manifest(repository, reference);
        self.client.within_timeout(&target, self.client.manifest(&target)).await
    }

    /// The blob of this digest in `repository`, such as an image's configuration, if it is of `most` bytes or fewer.
    /// Registries often redirect to another host for blobs; no credentials are sent there.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch); [`TooLarge`](RegistryError::TooLarge) where it has more bytes.
    pub async fn blob(&self, repository: &Repository, digest: &Digest, most: usize) -> Result<Vec<u8>, RegistryError> {
        let target = Target::blob(repository, digest);
        self.client.within_timeout(&target, self.client.blob(&target, digest, most)).await
    }

    /// All tags of `repository`, if there are `most` of them or fewer.
    ///
    /// Follows `Link` headers with `rel="next"`, on the same host only, for at most `most` + 1 pages; the timeout applies
    /// to each page. Tags that are created or deleted meanwhile may be missing or included.
    ///
    /// # Errors
    ///
    /// [`TooManyTags`](RegistryError::TooManyTags) where there are more; [`NotARegistry`](RegistryError::NotARegistry)
    /// where the pages form a loop, or continue without new tags;
    /// [`RedirectedAway`](RegistryError::RedirectedAway) where the next page is on another host; else any
    /// [`RegistryError`] but [`Setup`](RegistryError::Setup) and [`WrongDigest`](RegistryError::WrongDigest).
    pub async fn tags(&self, repository: &Repository, most: usize) -> Result<TagList, RegistryError> {
        let target = Target { repository: repository.clone(), subject: Subject::Tags };
        self.client.tags(&target, most, None).await
    }

    /// As [`tags`](Self::tags), with a rate limiter that is awaited before each page. The wait does not count towards the
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
        self.client.tags(&target, most, Some(limiter)).await
    }

    /// Checks that the repository's host speaks the registry protocol: `GET /v2/` returns 200, or 401 where the registry
    /// requires a login, and no HTML page. Never logs in.
    ///
    /// # Errors
    ///
    /// [`NotARegistry`](RegistryError::NotARegistry) where something else answers, 404 included; other
    /// [`RegistryError`]s for other statuses, redirects and connections.
    pub async fn ping(&self, repository: &Repository) -> Result<ResponseMetadata, RegistryError> {
        let target = Target { repository: repository.clone(), subject: Subject::Protocol };
        self.client.within_timeout(&target, self.client.ping(&target)).await
    }
}
