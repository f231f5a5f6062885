//! Gives a log the raw manifests of what it has logged, so that they outlive the registry.

use taglog_proto::name::Digest;

use super::{Delivery, Trouble};
use taglog_log_client::ClientError;

/// How many manifests are uploaded before it is looked for entries again.
const AT_ONCE: usize = 64;
/// About how many bytes of them.
const BYTES: usize = 8 << 20;

impl Delivery {
    /// Uploads some of the manifests that the log can be given now; says how many.
    pub(super) async fn upload_some(&self) -> Result<usize, Trouble> {
        let manifests = self.spool.next_manifests(self.id, AT_ONCE, BYTES).await?;
        let mut done = Vec::with_capacity(manifests.len());
        let mut outcome = Ok(());
        for manifest in manifests {
            match self.client.put_manifest(&manifest.digest, manifest.bytes).await {
                Ok(()) => {}
                // Nothing will come of it later; what it must wait for aside.
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

    /// The log will never take it; the observation stands without.
    fn give_up(&self, digest: &Digest, why: &str) {
        tracing::warn!(log = self.log.name(), %digest, "the log does not keep the manifest: {why}");
    }
}
