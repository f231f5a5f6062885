//! Publishes checkpoints: from here on, everyone may see what they cover.
//!
//! Without cosigners a checkpoint is published as soon as it is committed. Look-ups and tiles are
//! answered as of the published checkpoint, from the snapshot that was taken when its batch was
//! committed; at most the published one and its successor are held.

use std::sync::Arc;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Roster, Seal},
};
use tokio::sync::watch;

use crate::store::View;

/// A published checkpoint, with everything it covers.
pub struct Published {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The seal that it ends in.
    pub seal: Seal,
    /// The roster in force, whose log index the seal names.
    pub roster: Roster,
    /// The store as of this checkpoint.
    pub view: View,
}

impl Published {
    /// The number of entries that are public.
    pub fn size(&self) -> u64 {
        self.checkpoint.unverified().size
    }
}

/// The side that publishes.
pub struct Publisher {
    sender: watch::Sender<Option<Arc<Published>>>,
}

/// The side that reads what is published, and can wait for more.
pub type Publications = watch::Receiver<Option<Arc<Published>>>;

impl Publisher {
    /// A publisher that has published nothing yet, and its reading side.
    pub fn new() -> (Publisher, Publications) {
        let (sender, receiver) = watch::channel(None);
        (Publisher { sender }, receiver)
    }

    /// Publishes a checkpoint that is committed.
    pub fn publish(&self, published: Published) {
        metrics::gauge!("taglog_published_size").set(published.size() as f64);
        self.sender.send_replace(Some(Arc::new(published)));
    }
}
