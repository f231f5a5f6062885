//! What registries serve now: many are asked at once.

use std::collections::BTreeMap;

use taglog_base::progress::Progress;
use taglog_proto::name::{Digest, Image};
use tokio::task::JoinSet;

use taglog_oci_registry::{Registry, RegistryError};

/// Registries asked at once.
const PARALLEL: usize = 32;

/// What each registry says of its images. An image whose question was lost is missing.
pub(super) type Served = BTreeMap<Image, Result<Digest, RegistryError>>;

/// Asks about each image once.
pub(super) async fn ask(registry: &Registry, images: Vec<Image>, progress: &dyn Progress) -> Served {
    progress.start(0, images.len() as u64);
    let mut served = BTreeMap::new();
    let mut waiting = images.into_iter();
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < PARALLEL
            && let Some(image) = waiting.next()
        {
            let registry = registry.clone();
            asking.spawn(async move {
                let digest = registry.head(&image).await;
                (image, digest)
            });
        }
        match asking.join_next().await {
            Some(Ok((image, digest))) => served.insert(image, digest),
            // A task that panicked leaves its image unasked, which is reported.
            Some(Err(_)) => None,
            None => break,
        };
        progress.advance(1);
    }
    progress.finish();
    served
}
