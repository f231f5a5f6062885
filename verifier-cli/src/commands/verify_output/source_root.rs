//! The root of the sources, to which the paths in reports for CI systems are relative.

use std::path::{Path, PathBuf};

use super::item::Item;
use crate::commands::source_options::lexically_absolute;
use taglog_image_sources::Place;

/// The root of the repository that the working directory is in, or else the working directory.
pub struct SourceRoot {
    root: PathBuf,
    working_directory: PathBuf,
}

impl SourceRoot {
    pub fn find() -> Option<SourceRoot> {
        std::env::current_dir().ok().map(SourceRoot::of)
    }

    fn of(working_directory: PathBuf) -> SourceRoot {
        let is_root = |directory: &&Path| directory.join(".git").symlink_metadata().is_ok();
        let root = working_directory.ancestors().find(is_root).unwrap_or(&working_directory).to_owned();
        SourceRoot { root, working_directory }
    }

    /// The item with the paths of its places relative to the root. A file outside of it has its absolute path.
    pub fn relative(&self, item: &Item) -> Item {
        let places = item.places.iter().map(|place| Place { file: self.path(&place.file), line: place.line }).collect();
        Item { places, ..item.clone() }
    }

    fn path(&self, file: &str) -> String {
        if file == "-" {
            return file.to_owned();
        }
        let path = lexically_absolute(&self.working_directory, Path::new(file));
        let below = path.strip_prefix(&self.root).unwrap_or(&path);
        below.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_repository() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        std::fs::create_dir_all(at("sub/dir")).unwrap();
        let root = SourceRoot::of(at("sub/dir"));
        assert_eq!(root.path("./a.yaml"), "a.yaml");
        assert_eq!(root.path("../a.yaml"), at("sub/a.yaml").display().to_string());
        // A further working tree has a file of this name.
        std::fs::write(at(".git"), "gitdir: x\n").unwrap();
        let root = SourceRoot::of(at("sub/dir"));
        for (file, want) in
            [("./a.yaml", "sub/dir/a.yaml"), ("../../b/./c", "b/c"), ("-", "-"), ("/etc/x.yaml", "/etc/x.yaml")]
        {
            assert_eq!(root.path(file), want);
        }
        assert_eq!(root.path(&at("sub/x").display().to_string()), "sub/x");
    }
}
