//! Where manifests and configurations come from: the log, which keeps them for good, else the registry.

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
use taglog_policy::Why;

/// The longest configuration that is read, in bytes. It holds an image's whole history; real ones are under 100 kB.
pub const MAX_CONFIGURATION: usize = 4 * 1024 * 1024;
/// The most bytes that are read to judge one tag's history.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What kind of document a digest stands for. Registries serve the two under different addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An index or an image's manifest.
    Manifest,
    /// An image's configuration.
    Configuration,
}

/// Why a document, or what is logged of a base, cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Missing(pub String);

/// Gives raw documents by their digest. Need not be trusted: what it gives is hashed.
pub trait ManifestSource: Sync {
    /// The document in this repository whose digest this is. The repository is the one in the log.
    ///
    /// # Errors
    /// [`Missing`].
    fn get(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: Kind,
    ) -> impl Future<Output = Result<Vec<u8>, Missing>> + Send;
}

/// Says what the log holds of base images.
pub trait BaseSightings: Sync {
    /// Every digest that this image's tag has pointed to, by the word of enough witnesses that count, in the order of
    /// their first sightings, the oldest first; from a proof that verifies. None when nothing is logged of it.
    ///
    /// # Errors
    /// [`Missing`]: why the log could not be asked, or is not believed.
    fn sighted(&self, base: &Image) -> impl Future<Output = Result<Vec<Digest>, Missing>> + Send;
}

/// Documents from a log, and from registries where the log does not keep them.
#[derive(Clone, Debug)]
pub struct Manifests {
    log: Option<LogClient>,
    registry: Option<Registry>,
    mirrors: Vec<(Repository, Repository)>,
}

impl Manifests {
    /// From this log and these registries; without either, from the other alone.
    pub fn new(log: Option<LogClient>, registry: Option<Registry>) -> Manifests {
        Manifests { log, registry, mirrors: Vec::new() }
    }

    /// Asks for what the log calls `logged` in the repository `asked` of a mirror.
    #[must_use]
    pub fn through(mut self, logged: Repository, asked: Repository) -> Manifests {
        self.mirrors.push((logged, asked));
        self
    }

    async fn ask_log(&self, digest: &Digest) -> Result<Vec<u8>, Missing> {
        let Some(log) = &self.log else { return Err(Missing("no log is asked".to_owned())) };
        match log.manifest(digest).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Missing("the log does not keep it".to_owned())),
            Err(error) => Err(Missing(shortened(&error.to_string(), digest))),
        }
    }

    async fn ask_registry(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Vec<u8>, Missing> {
        let Some(registry) = &self.registry else { return Err(Missing("no registry is asked".to_owned())) };
        let mirror = self.mirrors.iter().find(|(logged, _)| logged == repository);
        let repository = mirror.map_or(repository, |(_, asked)| asked);
        let answer = match kind {
            Kind::Manifest => {
                let reference = ManifestReference::Digest(*digest);
                registry.manifest(repository, &reference).await.map(|manifest| manifest.bytes)
            }
            Kind::Configuration => registry.blob(repository, digest, MAX_CONFIGURATION).await,
        };
        answer.map_err(|error| match error {
            RegistryError::NotFound { registry, .. } => Missing(format!("{registry} does not have it")),
            error => Missing(shortened(&error.to_string(), digest)),
        })
    }
}

impl ManifestSource for Manifests {
    async fn get(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Vec<u8>, Missing> {
        let from_log = match self.ask_log(digest).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let from_registry = self.ask_registry(repository, digest, kind).await;
        from_registry.map_err(|error| Missing(format!("{from_log}; {error}")))
    }
}

/// Sources whose answers are checked, counted, and asked for once.
pub(super) struct Shelf<'a, S, B> {
    source: &'a S,
    bases: &'a B,
    bytes_left: AtomicUsize,
    documents: OnceMap<Digest, Result<Arc<[u8]>, Why>>,
    sightings: OnceMap<Image, Result<Arc<[Digest]>, Missing>>,
}

/// Values that are made once each, also when several ask at the same time.
struct OnceMap<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Clone + Eq + Hash, V: Clone> OnceMap<K, V> {
    async fn get_or_make(&self, key: &K, make: impl Future<Output = V>) -> V {
        let cell = {
            // Nothing panics under this lock; were it poisoned, the map would still be whole.
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key.clone()).or_default())
        };
        cell.get_or_init(|| make).await.clone()
    }
}

impl<'a, S: ManifestSource, B: BaseSightings> Shelf<'a, S, B> {
    pub(super) fn new(source: &'a S, bases: &'a B) -> Shelf<'a, S, B> {
        let (documents, sightings) = (OnceMap(Mutex::default()), OnceMap(Mutex::default()));
        Shelf { source, bases, bytes_left: AtomicUsize::new(MAX_BYTES), documents, sightings }
    }

    /// The document whose digest this is; it hashes to it.
    pub(super) async fn get(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Arc<[u8]>, Why> {
        self.documents.get_or_make(digest, self.fetch(repository, digest, kind)).await
    }

    /// What is logged of a base: [`BaseSightings::sighted`].
    pub(super) async fn sighted(&self, base: &Image) -> Result<Arc<[Digest]>, Missing> {
        let look = async { self.bases.sighted(base).await.map(Arc::from) };
        self.sightings.get_or_make(base, look).await
    }

    async fn fetch(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Arc<[u8]>, Why> {
        let missing = |said: &dyn fmt::Display| Why::Missing {
            repository: repository.clone(),
            digest: *digest,
            said: said.to_string(),
        };
        let bytes = self.source.get(repository, digest, kind).await.map_err(|error| missing(&error))?;
        if !digest.matches(&bytes) {
            return Err(missing(&"what was sent does not hash to that"));
        }
        let without_these = |left: usize| left.checked_sub(bytes.len());
        let counted = self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, without_these);
        counted.map_err(|_| missing(&format!("the manifests of this history are over {MAX_BYTES} bytes")))?;
        Ok(bytes.into())
    }
}
