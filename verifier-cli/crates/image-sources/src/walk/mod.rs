//! Which files of a directory are read.

mod git_index;
mod repository;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsStr,
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
};

use self::repository::{IgnoreRules, Repositories};
use super::{
    kind::is_candidate,
    model::{LeftOut, Place, Skipped, unreadable},
};
use taglog_base::text::one_line;

/// Directories of version control systems.
const VERSION_CONTROL: [&str; 5] = [".git", ".hg", ".svn", ".jj", ".bzr"];
/// Why those are skipped.
pub const VERSION_CONTROL_DATA: &str = "the data of a version control system";
/// Directories that hold other projects' files.
const DEPENDENCIES: [&str; 2] = ["node_modules", "vendor"];

/// What a walk found in a directory.
#[derive(Default)]
pub struct Listing {
    /// The files whose names stand for one of the kinds: sorted by name, and then those that symbolic links name.
    pub files: Vec<PathBuf>,
    /// What could not be followed.
    pub left_out: Vec<LeftOut>,
    /// What was deliberately skipped.
    pub skipped: Vec<Skipped>,
}

/// Walks a directory. It is walked itself whatever its name is, and whatever `.gitignore` says about it.
pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::default();
    let real = match fs::canonicalize(root) {
        Ok(real) => real,
        Err(error) => {
            listing.cannot_read(root, &error);
            return listing;
        }
    };
    let mut walk = Walk {
        root: real.clone(),
        listing,
        links: VecDeque::new(),
        visited: HashSet::new(),
        repositories: Repositories::default(),
    };
    let rules = walk.repositories.rules_at(&real);
    walk.directory(root, &real, &rules);
    // Links come last, so that a file has its own name where it has one.
    while let Some(link) = walk.links.pop_front() {
        walk.link(&link);
    }
    walk.listing
}

impl Listing {
    fn leave_out(&mut self, path: &Path, reason: &str) {
        let place = Place { file: path.display().to_string(), line: 1 };
        self.left_out.push(LeftOut { place, reason: one_line(reason) });
    }

    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        self.leave_out(path, &unreadable(path, error).problem.to_string());
    }

    fn skip(&mut self, path: &Path, reason: &'static str) {
        self.skipped.push(Skipped { path: path.display().to_string(), reason });
    }
}

struct Walk {
    /// The directory that was named, without symbolic links.
    root: PathBuf,
    listing: Listing,
    /// Symbolic links that were found, not followed yet.
    links: VecDeque<PathBuf>,
    /// Directories that were walked, without symbolic links: none is walked twice, so that no link makes a loop.
    visited: HashSet<PathBuf>,
    repositories: Repositories,
}

impl Walk {
    /// Lists a directory by the path that is shown, and by its real one.
    fn directory(&mut self, shown: &Path, real: &Path, rules: &IgnoreRules) {
        if !self.visited.insert(real.to_owned()) {
            return;
        }
        let entries = fs::read_dir(shown).and_then(|entries| entries.collect::<io::Result<Vec<DirEntry>>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.listing.cannot_read(shown, &error),
        };
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            self.entry(&entry, &shown.join(entry.file_name()), &real.join(entry.file_name()), rules);
        }
    }

    fn entry(&mut self, entry: &DirEntry, shown: &Path, real: &Path, rules: &IgnoreRules) {
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) => return self.listing.cannot_read(shown, &error),
        };
        let is_directory = kind.is_dir();
        if !is_directory && !kind.is_symlink() && !is_candidate(shown) {
            return;
        }
        if let Some(reason) = skipped_by_name(&entry.file_name()).filter(|_| !kind.is_file()) {
            return self.listing.skip(shown, reason);
        }
        let ignored = rules.names(real, is_directory);
        if ignored && !rules.tracks(real) {
            return self.listing.skip(shown, "a .gitignore names it, and git does not track it");
        }
        if is_directory {
            let rules = self.repositories.rules_within(rules, real);
            self.directory(shown, real, &if ignored { rules.ignored() } else { rules });
        } else if kind.is_symlink() {
            self.links.push_back(shown.to_owned());
        } else if kind.is_file() {
            self.listing.files.push(shown.to_owned());
        } else {
            self.listing.leave_out(shown, "neither a file nor a directory: it is not read");
        }
    }

    fn link(&mut self, shown: &Path) {
        match fs::metadata(shown) {
            Ok(target) if target.is_dir() => self.linked_directory(shown),
            _ if !is_candidate(shown) => {}
            Ok(target) if target.is_file() => self.listing.files.push(shown.to_owned()),
            Ok(_) => self.listing.leave_out(shown, "a symbolic link to neither a file nor a directory: it is not read"),
            Err(error) => {
                let reason = format!("a symbolic link that leads to no file ({error}): remove it or correct it");
                self.listing.leave_out(shown, &reason);
            }
        }
    }

    fn linked_directory(&mut self, shown: &Path) {
        match fs::canonicalize(shown) {
            Ok(real) if self.visited.contains(&real) => {}
            Ok(real) if real.starts_with(&self.root) => {
                let rules = self.repositories.rules_at(&real);
                self.directory(shown, &real, &rules);
            }
            Ok(real) => {
                let reason = format!(
                    "a symbolic link to a directory outside of the one that was named: it is not followed; name {} too",
                    real.display()
                );
                self.listing.leave_out(shown, &reason);
            }
            Err(error) => self.listing.cannot_read(shown, &error),
        }
    }
}

/// Why a directory of this name, or a link to one, is not walked.
fn skipped_by_name(name: &OsStr) -> Option<&'static str> {
    let name = name.to_str()?;
    if VERSION_CONTROL.contains(&name) {
        Some(VERSION_CONTROL_DATA)
    } else if DEPENDENCIES.contains(&name) {
        Some("a directory of other projects' files")
    } else {
        None
    }
}
