//! Publishes checkpoints: from here on, everyone may see what they cover.
//!
//! Without cosigners a checkpoint is published as soon as it is committed. With cosigners, a task
//! ([`rounds`]) takes the newest commit as its candidate, asks all cosigners for it, and publishes
//! it when the quorum of the policy is there. Look-ups and tiles are answered as of the published
//! checkpoint, from a snapshot of the store; at most that one and the candidate's are held.
//!
//! What was published is not stored: after a restart nothing is public until the quorum has
//! cosigned again. The server asks every cosigner for the last committed checkpoint before it seals
//! anything ([`crate::rollback`]), so this takes one round trip; and only the last commit has look-ups,
//! so an older stored checkpoint could not be served whole.

pub mod endpoint;
pub mod rounds;
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

/// A published checkpoint, with everything it covers.
pub struct Published {
    /// The checkpoint with its cosignatures.
    pub checkpoint: SignedCheckpoint,
    snapshot: Arc<Snapshot>,
}

impl Published {
    /// The number of entries that are public.
    pub fn size(&self) -> u64 {
        self.snapshot.size()
    }

    /// The commit that is published.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// The seal that the checkpoint ends in.
    pub fn seal(&self) -> &Seal {
        &self.snapshot.seal
    }

    /// The roster in force, whose log index the seal names.
    pub fn roster(&self) -> &Roster {
        &self.snapshot.roster
    }

    /// The store as of the checkpoint.
    pub fn view(&self) -> &View {
        &self.snapshot.view
    }
}

/// Where to publish.
pub type Publishing = watch::Sender<Option<Arc<Published>>>;

/// What is published, and can be waited for.
pub type Publications = watch::Receiver<Option<Arc<Published>>>;

/// Where the sequencer says that it has committed.
pub struct Publisher {
    store: Store,
    committed: watch::Sender<u64>,
    /// When no quorum has to be waited for.
    at_once: Option<Publishing>,
}

impl Publisher {
    /// A publisher for a log of `size` committed entries, which publishes every commit at once to
    /// `at_once`, or leaves publishing to [`rounds::Rounds`]. Also gives the number of entries that
    /// are committed.
    pub fn new(store: Store, size: u64, at_once: Option<Publishing>) -> (Publisher, watch::Receiver<u64>) {
        let (committed, receiver) = watch::channel(size);
        (Publisher { store, committed, at_once }, receiver)
    }

    /// Says that the log has so many entries now, all on disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn committed(&self, size: u64) -> Result<(), StoreError> {
        if let Some(publishing) = &self.at_once {
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

fn publish(publishing: &Publishing, checkpoint: SignedCheckpoint, snapshot: Arc<Snapshot>) {
    metrics::gauge!("taglog_published_size").set(snapshot.size() as f64);
    publishing.send_replace(Some(Arc::new(Published { checkpoint, snapshot })));
}
