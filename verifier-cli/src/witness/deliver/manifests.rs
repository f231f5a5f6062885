//! Gives a log the raw manifests of what it has logged, so that they outlive the registry.

use taglog_proto::name::Digest;

use super::{Delivery, Trouble, backoff};
use crate::client::ClientError;

impl Delivery {
    /// Uploads manifests as their entries are delivered, for ever.
    pub(super) async fn keep_uploading(&self) {
        let mut backoff = backoff();
        loop {
            match self.upload_all().await {
                Ok(_) => {
                    backoff = super::backoff();
                    self.delivered.notified().await;
                }
                Err(error) => {
                    tracing::warn!(log = self.log.name(), "a manifest was not kept by the log yet: {error}");
                    tokio::time::sleep(backoff.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// Uploads all that the log can be given now; says how many.
    pub(super) async fn upload_all(&self) -> Result<usize, Trouble> {
        let mut count = 0;
        while let Some(manifest) = self.spool.next_manifest(self.id).await? {
            match self.client.put_manifest(&manifest.digest, manifest.bytes).await {
                // Nothing will come of it later; what it must wait for aside.
                Err(ClientError::Problem { status, detail, .. })
                    if (400..500).contains(&status) && !matches!(status, 401 | 408 | 429) =>
                {
                    self.give_up(&manifest.digest, &detail);
                }
                outcome => outcome?,
            }
            self.spool.manifest_done(self.id, manifest.digest).await?;
            count += 1;
        }
        Ok(count)
    }

    /// The log will never take it; the observation stands without.
    fn give_up(&self, digest: &Digest, why: &str) {
        tracing::warn!(log = self.log.name(), %digest, "the log does not keep the manifest: {why}");
    }
}
