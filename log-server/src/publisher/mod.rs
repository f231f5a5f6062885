//! Publishes checkpoints: makes committed entries visible to clients.
//!
//! Without cosigners a checkpoint is published as soon as it is committed. With cosigners, a task ([`cosigning_task`])
//! takes the newest commit as its candidate, requests cosignatures from all cosigners, and publishes it when the quorum
//! of the policy has cosigned. Look-ups and tiles are answered as of the published checkpoint, from a snapshot of the
//! store.
//!
//! The published state is not stored: after a restart nothing is published until the quorum has cosigned again. That
//! takes one round trip, because the server requests cosignatures of the last committed checkpoint at startup anyway
//! ([`crate::rollback`]). An older stored checkpoint would not help: the store has look-ups for the last commit only.

pub mod cosigning_task;
pub mod endpoint;
pub mod status;

use std::sync::Arc;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Roster, Seal},
};
use tokio::sync::watch;

use crate::{
    snapshot::Snapshot,
    store::{Store, StoreError, View},
};

/// A published checkpoint with everything that it covers.
pub struct PublishedState {
    /// The checkpoint with its cosignatures.
    pub checkpoint: SignedCheckpoint,
    snapshot: Arc<Snapshot>,
}

impl PublishedState {
    /// The number of published entries.
    pub fn size(&self) -> u64 {
        self.snapshot.size()
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// The last entry.
    pub fn seal(&self) -> &Seal {
        &self.snapshot.seal
    }

    /// The roster in force.
    pub fn roster(&self) -> &Roster {
        &self.snapshot.roster
    }

    /// The store as of the checkpoint.
    pub fn view(&self) -> &View {
        &self.snapshot.view
    }
}

/// Where a new published state is set.
pub type PublicationSender = watch::Sender<Option<Arc<PublishedState>>>;

/// The published state, which can be waited for; `None` before the first publication.
pub type PublicationReceiver = watch::Receiver<Option<Arc<PublishedState>>>;

/// Receives the commits of the sequencer.
pub struct Publisher {
    store: Store,
    committed: watch::Sender<u64>,
    /// Set if commits are published at once, without a quorum.
    immediate: Option<PublicationSender>,
}

impl Publisher {
    /// A publisher for a log of `size` committed entries, which publishes every commit at once to `immediate`, or
    /// leaves publishing to [`cosigning_task::CosigningTask`]. Also returns a receiver of the number of committed
    /// entries.
    pub fn new(store: Store, size: u64, immediate: Option<PublicationSender>) -> (Publisher, watch::Receiver<u64>) {
        let (committed, receiver) = watch::channel(size);
        (Publisher { store, committed, immediate }, receiver)
    }

    /// Records that the log has `size` entries, all on disk.
    pub fn record_commit(&self, size: u64) -> Result<(), StoreError> {
        if let Some(publishing) = &self.immediate {
            let before = publishing.borrow().clone();
            let snapshot = Snapshot::read(self.store.view(), before.as_ref().map(|before| &*before.snapshot))?;
            if let Some(snapshot) = snapshot {
                publish(publishing, snapshot.checkpoint.clone(), Arc::new(snapshot));
            }
        }
        self.committed.send_replace(size);
        Ok(())
    }
}

fn publish(publishing: &PublicationSender, checkpoint: SignedCheckpoint, snapshot: Arc<Snapshot>) {
    metrics::gauge!("taglog_published_size").set(snapshot.size() as f64);
    publishing.send_replace(Some(Arc::new(PublishedState { checkpoint, snapshot })));
}
