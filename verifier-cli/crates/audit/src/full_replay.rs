//! A full replay: an audit from the first entry on, in a second state that replaces the existing one when it is complete.

use std::path::{Path, PathBuf};

use taglog_proto::note::VerifierKey;

use super::{auditor::Auditor, error::AuditorError, store::FILE};

/// A full replay whose state has not yet replaced the existing one.
#[derive(Debug)]
pub struct FullReplay {
    directory: PathBuf,
}

impl FullReplay {
    /// Opens an auditor with an empty state in a subdirectory. It keeps every checkpoint of the existing state; if that
    /// cannot be read, it starts without checkpoints and logs a warning.
    pub fn open(directory: &Path, log: &VerifierKey) -> Result<(FullReplay, Auditor), AuditorError> {
        let seen = match Auditor::open(directory, log) {
            Ok(old) => old.checkpoints()?,
            Err(error @ (AuditorError::Lock(_) | AuditorError::File { .. } | AuditorError::Thread(_))) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the existing state: its checkpoints are not compared");
                Vec::new()
            }
        };
        let full_replay = FullReplay { directory: directory.to_owned() };
        // An interrupted full replay may have left files.
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

    /// Replaces the existing state with the new one and opens it.
    ///
    /// # Errors
    /// If renaming the file fails, the existing state stays in place.
    pub fn replace(self, auditor: Auditor) -> Result<Auditor, AuditorError> {
        let log = auditor.log().clone();
        // Closing both databases removes their write-ahead logs: a leftover one would be applied to the new file.
        drop(auditor);
        match Auditor::open(&self.directory, &log) {
            Err(error @ AuditorError::Lock(_)) => return Err(error),
            // A state that cannot be read is replaced as well.
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
