//! Resolves tags at their registries, many at the same time.

use std::collections::BTreeMap;

use taglog_base::progress::Progress;
use taglog_proto::name::{Digest, Image};
use tokio::task::JoinSet;

use taglog_oci_registry::{Registry, RegistryError};

/// The most requests at the same time.
const PARALLEL: usize = 32;

/// The digest of each image, or why its registry gave none. Images whose task panicked are missing.
pub(super) type Served = BTreeMap<Image, Result<Digest, RegistryError>>;

/// Resolves each image once.
pub(super) async fn resolve_all(registry: &Registry, images: Vec<Image>, progress: &dyn Progress) -> Served {
    progress.start(0, images.len() as u64);
    let mut served = BTreeMap::new();
    let mut waiting = images.into_iter();
    let mut requests = JoinSet::new();
    loop {
        while requests.len() < PARALLEL
            && let Some(image) = waiting.next()
        {
            let registry = registry.clone();
            requests.spawn(async move {
                let digest = registry.head(&image).await;
                (image, digest)
            });
        }
        match requests.join_next().await {
            Some(Ok((image, digest))) => served.insert(image, digest),
            // The image of a task that panicked has no entry, which the caller reports.
            Some(Err(_)) => None,
            None => break,
        };
        progress.advance(1);
    }
    progress.finish();
    served
}
