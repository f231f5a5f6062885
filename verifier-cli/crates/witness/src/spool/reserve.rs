//! A reserve file on disk, deleted when the disk is full so that alarms and acknowledgements can still be stored.

use std::path::{Path, PathBuf};

/// In bytes; enough for a few commits.
const SIZE: usize = 256 << 10;

/// The reserve file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn new(directory: &Path) -> Reserve {
        Reserve { path: directory.join("spool.reserve") }
    }

    /// Creates the file, if it does not exist; returns whether there was room.
    pub(super) fn make(&self) -> bool {
        let is_there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == SIZE as u64);
        // Not zeroes, which some file systems do not store.
        let taken = is_there || std::fs::write(&self.path, vec![0x5a; SIZE]).is_ok();
        if !taken {
            self.release();
        }
        taken
    }

    /// Deletes the file.
    pub(super) fn release(&self) {
        // It may not exist.
        let _ = std::fs::remove_file(&self.path);
    }
}
