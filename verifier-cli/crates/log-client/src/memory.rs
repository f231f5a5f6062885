//! Remembers the last checkpoint that was verified, for each log key.
//!
//! A log that is smaller than remembered, or that does not prove consistency, is an alarm; the memory is never reset.

use std::{
    fmt,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use taglog_base::directory_lock::{DirectoryLock, LockError};
use taglog_base::text::path_line;
use taglog_proto::{checkpoint::SignedCheckpoint, merkle::Hash, name::Digest, note::VerifierKey};
use thiserror::Error;

/// The most files of evidence, so that a misbehaving log does not fill the disk.
const MAX_EVIDENCE: usize = 1000;

/// The most bytes of all evidence files: several of the longest tag proofs.
const MAX_EVIDENCE_BYTES: u64 = 512 << 20;

/// Why the memory cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A file operation failed.
    #[error("{path}: {error}", path = path_line(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The directory cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A remembered checkpoint that is damaged or belongs to another log.
    #[error(
        "{path} is damaged ({why}): find out why; only then delete it, and taglog will trust the log's next checkpoint",
        path = path_line(.path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The directory where checkpoints are remembered.
#[derive(Clone, Debug)]
pub struct Memory {
    directory: PathBuf,
}

fn file_stem(log: &VerifierKey) -> String {
    let name = Digest::Sha256(Hash::of(log.to_string().as_bytes()).0).to_string();
    name.trim_start_matches("sha256:").to_owned()
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> MemoryError {
    let path = path.to_owned();
    move |error| MemoryError::File { path, error }
}

impl Memory {
    /// The directory need not exist yet.
    pub fn new(directory: PathBuf) -> Memory {
        Memory { directory }
    }

    /// One file for each key: another key with the same origin is another log.
    fn path(&self, log: &VerifierKey) -> PathBuf {
        self.directory.join(format!("{}.checkpoint", file_stem(log)))
    }

    /// The directory for the state of this log's audits.
    pub fn audit_directory(&self, log: &VerifierKey) -> PathBuf {
        self.directory.join("audit").join(file_stem(log))
    }

    /// The checkpoint remembered for this log, if there is one.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn load(&self, log: &VerifierKey) -> Result<Option<SignedCheckpoint>, MemoryError> {
        let path = self.path(log);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        let damaged = |why: String| MemoryError::Damaged { path: path.clone(), why };
        let checkpoint = SignedCheckpoint::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        checkpoint.verify(log).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(checkpoint))
    }

    /// Replaces `old` by `new`, which the caller has verified to be consistent with it, unless another process has replaced
    /// `old` meanwhile (compare and swap).
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn advance(
        &self,
        log: &VerifierKey,
        old: Option<&SignedCheckpoint>,
        new: &SignedCheckpoint,
    ) -> Result<(), MemoryError> {
        // Another process holds it no longer than it takes to compare and write.
        let _lock = DirectoryLock::wait(&self.directory, "lock")?;
        if self.load(log)?.as_ref() != old || old.is_some_and(|old| old.unverified().size >= new.unverified().size) {
            return Ok(());
        }
        self.write(&self.path(log), new.to_string().as_bytes())
    }

    /// Stores evidence in a file; returns its path.
    ///
    /// # Errors
    /// [`MemoryError::File`].
    pub fn keep_evidence(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, MemoryError> {
        let directory = self.directory.join("evidence");
        fs::create_dir_all(&directory).map_err(file_error(&directory))?;
        let sizes = fs::read_dir(&directory).map_err(file_error(&directory))?;
        let sizes: Vec<u64> =
            sizes.map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len())).collect();
        if sizes.len() >= MAX_EVIDENCE || sizes.iter().sum::<u64>() + bytes.len() as u64 > MAX_EVIDENCE_BYTES {
            let full = std::io::Error::other("there are too many evidence files; move them away to keep more");
            return Err(file_error(&directory)(full));
        }
        let hash = Digest::sha256(bytes).to_string();
        let path = directory.join(format!("{name}-{}.json", &hash["sha256:".len()..][..16]));
        self.write(&path, bytes)?;
        Ok(path)
    }

    /// Stores the evidence of misbehaviour, and returns the message about it.
    pub fn alarm(&self, log: &VerifierKey, error: impl fmt::Display, evidence: &str) -> String {
        let kept = match self.keep_evidence("misbehaviour", evidence.as_bytes()) {
            Ok(path) => format!("its response is kept in {}", path_line(&path)),
            Err(error) => format!("its response could not be kept: {error}"),
        };
        format!("THE LOG MISBEHAVES: {}: {error}; {kept}", log.name())
    }

    /// Replaces a file atomically.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), MemoryError> {
        let directory = path.parent().unwrap_or(&self.directory);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(file_error(path))
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::{checkpoint::Checkpoint, note::SigningKey};

    use super::*;

    #[test]
    fn only_a_successor_of_what_is_remembered_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path().join("state"));
        let key = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
        let log = key.verifier_key();
        let at = |size| {
            let root = Hash::of(b"x");
            Checkpoint { origin: "log.example/x".into(), size, root }.sign(&key)
        };
        assert_eq!(memory.load(log).unwrap(), None);
        memory.advance(log, None, &at(5)).unwrap();
        memory.advance(log, None, &at(9)).unwrap();
        assert_eq!(memory.load(log).unwrap(), Some(at(5)), "another process was first");
        memory.advance(log, Some(&at(5)), &at(4)).unwrap();
        assert_eq!(memory.load(log).unwrap(), Some(at(5)), "never backwards");
        memory.advance(log, Some(&at(5)), &at(9)).unwrap();
        assert_eq!(memory.load(log).unwrap(), Some(at(9)));

        let other = SigningKey::from_seed("log.example/x", &[2; 32]).unwrap();
        assert_eq!(memory.load(other.verifier_key()).unwrap(), None, "another key is another log");
        fs::write(memory.path(log), "x").unwrap();
        assert!(matches!(memory.load(log), Err(MemoryError::Damaged { .. })));
    }
}
