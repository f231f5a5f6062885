//! Sources of manifests and configurations: the log, which keeps them permanently, else the registry.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use taglog_proto::name::{Digest, Image, Repository};
use thiserror::Error;
use tokio::sync::OnceCell;

use taglog_base::digest::shortened;
use taglog_log_client::LogClient;
use taglog_oci_registry::{ManifestReference, Registry, RegistryError};
use taglog_policy::UnexplainedReason;

/// The largest configuration that is read, in bytes. It contains the image's build history; real ones are under 100 kB.
pub const MAX_CONFIGURATION: usize = 4 * 1024 * 1024;
/// The most bytes of documents that are read for one tag.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The kind of document behind a digest. Registries serve the two under different paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// An index or an image manifest.
    Manifest,
    /// An image configuration.
    Configuration,
}

/// Why a document, or the sightings of a base image, are not available.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Fetches raw documents by digest. It need not be trusted: documents are hashed.
pub trait ManifestSource: Sync {
    /// The document with this digest in this repository, which has its name in the log.
    fn get(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: DocumentKind,
    ) -> impl Future<Output = Result<Vec<u8>, Unavailable>> + Send;
}

/// Looks up the sightings of base images in the log.
pub trait BaseSightings: Sync {
    /// Every digest that this image's tag has pointed to according to enough trusted witnesses, ordered by first
    /// sighting, oldest first, from a verified proof. Empty if the tag is not logged.
    ///
    /// # Errors
    /// Why the log could not be asked, or its answer was not accepted.
    fn sighted(&self, base: &Image) -> impl Future<Output = Result<Vec<Digest>, Unavailable>> + Send;
}

/// Fetches documents from a log, and from registries what the log does not keep.
#[derive(Clone, Debug)]
pub struct RemoteDocuments {
    log: Option<LogClient>,
    registry: Option<Registry>,
    mirrors: Vec<(Repository, Repository)>,
}

impl RemoteDocuments {
    /// Uses this log and these registries, or one of them alone.
    pub fn new(log: Option<LogClient>, registry: Option<Registry>) -> RemoteDocuments {
        RemoteDocuments { log, registry, mirrors: Vec::new() }
    }

    /// Requests documents of the repository `logged` from the repository `mirror`.
    #[must_use]
    pub fn with_mirror(mut self, logged: Repository, mirror: Repository) -> RemoteDocuments {
        self.mirrors.push((logged, mirror));
        self
    }

    async fn fetch_from_log(&self, digest: &Digest) -> Result<Vec<u8>, Unavailable> {
        let Some(log) = &self.log else { return Err(Unavailable("no log is configured".to_owned())) };
        match log.manifest(digest).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Unavailable("the log does not keep it".to_owned())),
            Err(error) => Err(Unavailable(shortened(&error.to_string(), digest))),
        }
    }

    async fn fetch_from_registry(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: DocumentKind,
    ) -> Result<Vec<u8>, Unavailable> {
        let Some(registry) = &self.registry else { return Err(Unavailable("no registry is configured".to_owned())) };
        let mirror = self.mirrors.iter().find(|(logged, _)| logged == repository);
        let repository = mirror.map_or(repository, |(_, mirror)| mirror);
        let result = match kind {
            DocumentKind::Manifest => {
                let reference = ManifestReference::Digest(*digest);
                registry.manifest(repository, &reference).await.map(|manifest| manifest.bytes)
            }
            DocumentKind::Configuration => registry.blob(repository, digest, MAX_CONFIGURATION).await,
        };
        result.map_err(|error| match error {
            RegistryError::NotFound { registry, .. } => Unavailable(format!("{registry} does not have it")),
            error => Unavailable(shortened(&error.to_string(), digest)),
        })
    }
}

impl ManifestSource for RemoteDocuments {
    async fn get(&self, repository: &Repository, digest: &Digest, kind: DocumentKind) -> Result<Vec<u8>, Unavailable> {
        let from_log = match self.fetch_from_log(digest).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let from_registry = self.fetch_from_registry(repository, digest, kind).await;
        from_registry.map_err(|error| Unavailable(format!("{from_log}; {error}")))
    }
}

/// Fetches every document and look-up once, verifies digests, and limits the bytes that are read.
pub(super) struct DocumentCache<'a, S, B> {
    source: &'a S,
    bases: &'a B,
    bytes_left: AtomicUsize,
    documents: OnceMap<Digest, Result<Arc<[u8]>, UnexplainedReason>>,
    sightings: OnceMap<Image, Result<Arc<[Digest]>, Unavailable>>,
}

/// Values that are initialized once for each key, also with concurrent callers.
struct OnceMap<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Clone + Eq + Hash, V: Clone> OnceMap<K, V> {
    async fn get_or_init(&self, key: &K, init: impl Future<Output = V>) -> V {
        let cell = {
            // Nothing panics in the middle of a write under this lock, so a poisoned one still holds a whole map.
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key.clone()).or_default())
        };
        cell.get_or_init(|| init).await.clone()
    }
}

impl<'a, S: ManifestSource, B: BaseSightings> DocumentCache<'a, S, B> {
    pub(super) fn new(source: &'a S, bases: &'a B) -> DocumentCache<'a, S, B> {
        let (documents, sightings) = (OnceMap(Mutex::default()), OnceMap(Mutex::default()));
        DocumentCache { source, bases, bytes_left: AtomicUsize::new(MAX_BYTES), documents, sightings }
    }

    /// The document with this digest, verified.
    pub(super) async fn get(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: DocumentKind,
    ) -> Result<Arc<[u8]>, UnexplainedReason> {
        self.documents.get_or_init(digest, self.fetch(repository, digest, kind)).await
    }

    /// As [`BaseSightings::sighted`].
    pub(super) async fn sighted(&self, base: &Image) -> Result<Arc<[Digest]>, Unavailable> {
        let lookup = async { self.bases.sighted(base).await.map(Arc::from) };
        self.sightings.get_or_init(base, lookup).await
    }

    async fn fetch(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: DocumentKind,
    ) -> Result<Arc<[u8]>, UnexplainedReason> {
        let missing = |cause: &dyn fmt::Display| UnexplainedReason::MissingDocument {
            repository: repository.clone(),
            digest: *digest,
            cause: cause.to_string(),
        };
        let bytes = self.source.get(repository, digest, kind).await.map_err(|error| missing(&error))?;
        if !digest.matches(&bytes) {
            return Err(missing(&"the received document has another digest"));
        }
        let without_these = |left: usize| left.checked_sub(bytes.len());
        let counted = self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, without_these);
        counted
            .map_err(|_| missing(&format!("the documents of this tag are larger than {MAX_BYTES} bytes together")))?;
        Ok(bytes.into())
    }
}
