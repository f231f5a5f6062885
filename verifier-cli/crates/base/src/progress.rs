//! How long operations report how far they have come. Who calls them decides whether and how it is shown.

use std::{fmt::Debug, sync::Arc};

/// Receives the progress of one operation, in steps whose unit (entries, tags, images) the operation defines.
pub trait Progress: Debug + Send + Sync {
    /// The operation starts, or starts again: `done` of `total` steps were done before.
    fn start(&self, done: u64, total: u64);
    /// The number of steps has changed while the operation runs.
    fn set_total(&self, total: u64);
    /// So many more steps are done.
    fn advance(&self, steps: u64);
    /// The operation has ended.
    fn finish(&self);
}

/// A [`Progress`] that several tasks report to.
pub type SharedProgress = Arc<dyn Progress>;

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Silent {
    /// As a [`SharedProgress`].
    pub fn shared() -> SharedProgress {
        Arc::new(Silent)
    }
}

impl Progress for Silent {
    fn start(&self, _done: u64, _total: u64) {}
    fn set_total(&self, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}
