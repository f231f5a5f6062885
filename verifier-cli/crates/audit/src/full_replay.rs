//! An audit from the first entry on, beside the state of earlier ones, which it takes the place of once it is done.

use std::path::{Path, PathBuf};

use taglog_proto::note::VerifierKey;

use super::{auditor::Auditor, error::AuditorError, store::FILE};

/// An audit from the first entry on.
#[derive(Debug)]
pub struct FullReplay {
    directory: PathBuf,
}

impl FullReplay {
    /// A new auditor beside the state in this directory. It remembers every checkpoint that the old one has seen; a
    /// state that cannot be read is as none.
    ///
    /// # Errors
    /// [`AuditorError`].
    pub fn open(directory: &Path, log: &VerifierKey) -> Result<(FullReplay, Auditor), AuditorError> {
        let seen = match Auditor::open(directory, log) {
            Ok(old) => old.checkpoints()?,
            Err(error @ (AuditorError::Lock(_) | AuditorError::File { .. } | AuditorError::Thread(_))) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, "the earlier audits cannot be read, and their checkpoints not be compared");
                Vec::new()
            }
        };
        let full_replay = FullReplay { directory: directory.to_owned() };
        // What an interrupted one has left.
        full_replay.remove_new()?;
        let mut auditor = Auditor::open(&full_replay.new_directory(), log)?;
        seen.into_iter().for_each(|checkpoint| auditor.remember_checkpoint(checkpoint));
        Ok((full_replay, auditor))
    }

    fn new_directory(&self) -> PathBuf {
        self.directory.join("full")
    }

    fn remove_new(&self) -> Result<(), AuditorError> {
        let directory = self.new_directory();
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(AuditorError::File { path: directory, reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Puts the new state in the place of the old one, and opens it.
    ///
    /// # Errors
    /// [`AuditorError`]; the old state is still there then.
    pub fn replace(self, auditor: Auditor) -> Result<Auditor, AuditorError> {
        let log = auditor.log().clone();
        // Closed files have no write-ahead log beside them, which would not fit the new file.
        drop(auditor);
        match Auditor::open(&self.directory, &log) {
            Err(error @ AuditorError::Lock(_)) => return Err(error),
            // One that cannot be read is replaced all the more.
            old => drop(old),
        }
        for suffix in ["-wal", "-shm"] {
            let leftover = self.directory.join(format!("{FILE}{suffix}"));
            if leftover.exists() {
                std::fs::remove_file(&leftover).map_err(|error| file_error(&leftover, &error))?;
            }
        }
        let path = self.directory.join(FILE);
        std::fs::rename(self.new_directory().join(FILE), &path).map_err(|error| file_error(&path, &error))?;
        self.remove_new()?;
        Auditor::open(&self.directory, &log)
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> AuditorError {
    AuditorError::File { path: path.to_owned(), reason: error.to_string() }
}
