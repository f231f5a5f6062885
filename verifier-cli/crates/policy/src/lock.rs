//! `taglog.lock`: the digests that a person approved, for code review.
//!
//! One line for each approval, sorted, so that branches with different approvals merge and a diff shows whole
//! approvals:
//!
//! ```text
//! # Digests that a person approved …
//! version = 1
//! approved = [
//!   { image = "docker.io/library/busybox:1.36", digest = "sha256:…", date = "2026-11-24", by = "Ada", reason = "rebuilt" },
//! ]
//! ```

use std::{
    fmt,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use taglog_proto::{
    name::{Digest, Image},
    time::Timestamp,
};
use thiserror::Error;

use super::{Policy, file::one_line};
use taglog_base::config_file::{ConfigError, parse_toml, wrong_value};
use taglog_base::text::path_line;

/// The name of the file, in the directory of the policy.
pub const FILE_NAME: &str = "taglog.lock";
/// The largest lock file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const HEAD: &str = "\
# Digests that a person has looked at and approved, each for one tag (taglog approve). Review changes to this file.
version = 1
approved = [
";

/// Why a lock could not be changed.
#[derive(Debug, Error)]
pub enum LockError {
    /// The existing file cannot be read, or is not a lock.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// A file operation failed.
    #[error("cannot write {path}: {error}", path = path_line(.path))]
    Write {
        /// The lock file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
}

/// One digest that a person approved for one tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approval {
    /// The image, by its name in the log.
    pub image: Image,
    /// The only digest that it applies to.
    pub digest: Digest,
    /// The day of the approval in UTC: `2026-11-24`.
    pub date: String,
    /// Who approved it.
    pub by: Option<String>,
    /// Why it may pass, in one line.
    pub reason: String,
}

impl Approval {
    /// An approval with the current date.
    ///
    /// # Errors
    /// What is wrong with the reason or the name, for users.
    pub fn new(
        image: Image,
        digest: Digest,
        reason: &str,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<Approval, String> {
        let date = now.to_string().chars().take(10).collect();
        let by = by.map(one_line).transpose().map_err(|_| "who approves: want one line of text".to_owned())?;
        Ok(Approval { image, digest, date, by, reason: one_line(reason)? })
    }
}

impl fmt::Display for Approval {
    /// The line in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let (image, digest) = (quoted(&self.image.to_string()), quoted(&self.digest.to_string()));
        write!(f, "  {{ image = {image}, digest = {digest}, date = {}", quoted(&self.date))?;
        if let Some(by) = &self.by {
            write!(f, ", by = {}", quoted(by))?;
        }
        write!(f, ", reason = {} }},", quoted(&self.reason))
    }
}

/// All approvals of one file: one for each image and digest, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    approvals: Vec<Approval>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockToml {
    version: u64,
    #[serde(default)]
    approved: Vec<ApprovalToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalToml {
    image: String,
    digest: String,
    date: String,
    by: Option<String>,
    reason: String,
}

impl Lock {
    /// The path of the lock of a policy: in the policy's directory; in `directory` if there is no policy file.
    pub fn path_for(policy: &Policy, directory: &Path) -> PathBuf {
        policy.path().and_then(Path::parent).unwrap_or(directory).join(FILE_NAME)
    }

    /// Reads a lock. A file that does not exist is an empty lock.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or is not a lock.
    pub fn read(path: &Path) -> Result<Lock, ConfigError> {
        let remedy = "restore it from version control";
        let fault = |error| ConfigError::Read { path: path.to_owned(), error, remedy };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
            opened => opened.map_err(fault)?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(fault)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(fault(std::io::Error::other(format!("it is over {MAX_BYTES} bytes"))));
        }
        Lock::parse(&text, path)
    }

    /// Parses the text of the lock at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: the text is not a lock, or of a later version.
    pub fn parse(text: &str, path: &Path) -> Result<Lock, ConfigError> {
        let toml: LockToml = parse_toml(text, path)?;
        if toml.version != 1 {
            return Err(wrong_value(
                path,
                "version",
                format!("version {} is not supported: upgrade taglog", toml.version),
            ));
        }
        let mut lock = Lock::default();
        for (number, entry) in (1..).zip(toml.approved) {
            let approval = entry.parse().map_err(|why| wrong_value(path, format!("approval {number}"), why))?;
            lock.add(approval);
        }
        Ok(lock)
    }

    /// Adds an approval. It replaces an earlier one of the same digest for the same image.
    pub fn add(&mut self, approval: Approval) {
        let key = |a: &Approval| (a.image.to_string(), a.digest);
        match self.approvals.binary_search_by_key(&key(&approval), key) {
            Ok(at) => self.approvals[at] = approval,
            Err(at) => self.approvals.insert(at, approval),
        }
    }

    /// The digests that are approved for this image.
    pub fn approved(&self, logged: &Image) -> Vec<Digest> {
        self.of(logged).map(|approval| approval.digest).collect()
    }

    /// The approvals for this image.
    pub fn of(&self, logged: &Image) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().filter(move |approval| approval.image == *logged)
    }

    /// All approvals, sorted by image and digest.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    /// Adds an approval to the lock at `path`, under an exclusive lock on its directory.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn update(path: &Path, approval: Approval) -> Result<(), LockError> {
        let fault = |error| LockError::Write { path: path.to_owned(), error };
        let directory = std::fs::File::open(directory_of(path)).map_err(fault)?;
        directory.lock().map_err(fault)?;
        let mut lock = Lock::read(path)?;
        lock.add(approval);
        // Closing the directory releases the file lock, after the new file is in place.
        lock.write(path)
    }

    /// Replaces the file at `path` atomically.
    ///
    /// # Errors
    /// [`LockError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        // A symbolic link is kept, and its target replaced.
        let target = path.canonicalize();
        let path = target.as_deref().unwrap_or(path);
        self.replace(path).map_err(|error| LockError::Write { path: path.to_owned(), error })
    }

    fn replace(&self, path: &Path) -> std::io::Result<()> {
        let directory = directory_of(path);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(self.to_string().as_bytes())?;
        // Keep the old permissions; a new file gets those that an editor would give it.
        let permissions = std::fs::metadata(path).map(|old| old.permissions()).or_else(|_| readable(file.as_file()))?;
        file.as_file().set_permissions(permissions)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(directory)?.sync_all()
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The permissions of a new file under version control: read by everyone, written by its owner.
fn readable(file: &std::fs::File) -> std::io::Result<std::fs::Permissions> {
    let mut permissions = file.metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    Ok(permissions)
}

impl fmt::Display for Lock {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.approvals.iter().try_for_each(|approval| writeln!(f, "{approval}"))?;
        f.write_str("]\n")
    }
}

impl ApprovalToml {
    fn parse(self) -> Result<Approval, String> {
        let ApprovalToml { image, digest, date, by, reason } = self;
        let at = |why: String| format!("{image:?}: {why}");
        if format!("{date}T00:00:00Z").parse::<Timestamp>().is_err() {
            return Err(at(format!("date {date:?}: want a day such as 2026-11-24")));
        }
        Ok(Approval {
            image: Image::parse(&image).map_err(|error| error.to_string())?,
            digest: Digest::parse(&digest).map_err(|error| at(error.to_string()))?,
            date,
            by: by.map(|by| one_line(&by)).transpose().map_err(at)?,
            reason: one_line(&reason).map_err(at)?,
        })
    }
}
