//! Uploads the raw manifests of logged digests, so that they remain available when the registry deletes them.

use taglog_proto::name::Digest;

use super::{Delivery, DeliveryError};
use taglog_log_client::ClientError;

/// The most manifests that are uploaded before entries are delivered again.
const AT_ONCE: usize = 64;
/// About the most bytes of them.
const BYTES: usize = 8 << 20;

impl Delivery {
    /// Uploads some of the manifests whose digests the log has; returns how many.
    pub(super) async fn upload_some(&self) -> Result<usize, DeliveryError> {
        let manifests = self.spool.next_manifests(self.id, AT_ONCE, BYTES).await?;
        let mut done = Vec::with_capacity(manifests.len());
        let mut outcome = Ok(());
        for manifest in manifests {
            match self.client.put_manifest(&manifest.digest, manifest.bytes).await {
                Ok(()) => {}
                // A permanent refusal, unless the status asks to try again.
                Err(ClientError::Problem { status, detail, .. })
                    if (400..500).contains(&status) && !matches!(status, 401 | 408 | 429) =>
                {
                    self.give_up(&manifest.digest, &detail);
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            done.push(manifest.digest);
        }
        let count = done.len();
        if count > 0 {
            self.spool.manifests_done(self.id, done).await?;
        }
        outcome?;
        Ok(count)
    }

    /// The log refuses it permanently; the observation remains valid without it.
    fn give_up(&self, digest: &Digest, why: &str) {
        tracing::warn!(log = self.log.name(), %digest, "the log does not keep the manifest: {why}");
    }
}
