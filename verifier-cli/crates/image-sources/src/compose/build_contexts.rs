//! Dockerfiles that a Compose file refers to.

use std::{cell::Cell, fs::File, io::Read as _, path::PathBuf};

use super::directory_of;

/// The largest Dockerfile that is read here, in bytes.
const MAX_DOCKERFILE: u64 = 1 << 20;
/// Dockerfiles that are read for one Compose file: limits the time for many services with the same.
const MAX_READS: usize = 100;

const NOT_UTF8: &str = "the path of this file is not UTF-8, so that the Dockerfile of this build cannot be opened, and its \
    images with these arguments are unknown: rename the directory";

/// The build contexts of a Compose file.
pub struct BuildContexts {
    /// `None` if it cannot be opened.
    directory: Option<PathBuf>,
    reads: Cell<usize>,
}

impl BuildContexts {
    /// For the file at this path.
    pub fn new(path: &str) -> BuildContexts {
        BuildContexts { directory: directory_of(path), reads: Cell::new(0) }
    }

    /// The text of a Dockerfile in a build context; `None` if there is none, or it is not text.
    ///
    /// # Errors
    /// One of the limits, or a directory that cannot be opened.
    pub fn read(&self, context: &str, name: &str) -> Result<Option<String>, String> {
        let Some(directory) = &self.directory else { return Err(NOT_UTF8.to_owned()) };
        let path = directory.join(context).join(name);
        // Anything but a file, as a pipe, might never end.
        if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > MAX_READS {
            return Err(format!(
                "over {MAX_READS} builds with arguments, of which the rest is not read: split the file"
            ));
        }
        let mut text = String::new();
        let Ok(file) = File::open(path) else { return Ok(None) };
        match file.take(MAX_DOCKERFILE + 1).read_to_string(&mut text) {
            Ok(length) if length as u64 > MAX_DOCKERFILE => {
                Err("the Dockerfile of this build is over 1 MiB, so that its images with these arguments are unknown"
                    .to_owned())
            }
            Ok(_) => Ok(Some(text)),
            Err(_) => Ok(None),
        }
    }
}
