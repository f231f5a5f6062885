//! Room on the disk that is given up to say that the disk is full.

use std::path::{Path, PathBuf};

/// Enough for a few commits, in bytes.
const SIZE: usize = 256 << 10;

/// A file that only takes up room. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn new(directory: &Path) -> Reserve {
        Reserve { path: directory.join("spool.reserve") }
    }

    /// Takes the room, if it is not taken; whether there is any.
    pub(super) fn make(&self) -> bool {
        let is_there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == SIZE as u64);
        // Not zeroes, which some file systems do not store.
        let taken = is_there || std::fs::write(&self.path, vec![0x5a; SIZE]).is_ok();
        if !taken {
            self.release();
        }
        taken
    }

    /// Gives the room up.
    pub(super) fn release(&self) {
        // If it is not there, there is nothing to give up.
        let _ = std::fs::remove_file(&self.path);
    }
}
