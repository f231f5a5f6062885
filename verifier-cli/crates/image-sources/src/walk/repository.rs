//! What `.gitignore` files hide from a walk.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use ignore::gitignore::Gitignore;

use super::git_index;

/// The largest `.gitignore` that is followed, in bytes.
const MAX_GITIGNORE: u64 = 1 << 20;

/// The `.gitignore` files that apply in a directory. Cheap to clone.
///
/// They are followed only in a working tree whose index says which files git tracks. What is tracked is never hidden.
#[derive(Clone, Default)]
pub struct IgnoreRules {
    repository: Option<Rc<Repository>>,
    innermost: Option<Rc<Layer>>,
    /// Whether the directory itself is ignored, and only walked for tracked files in it.
    only_tracked: bool,
}

struct Repository {
    root: PathBuf,
    tracked: BTreeSet<Vec<u8>>,
}

/// One `.gitignore`, and the one that applies outside of it.
struct Layer {
    patterns: Gitignore,
    outer: Option<Rc<Layer>>,
}

/// The working trees that a walk has met, so that each index is read once.
#[derive(Default)]
pub struct Repositories {
    by_root: HashMap<PathBuf, Option<Rc<Repository>>>,
}

impl Repositories {
    /// What applies in a directory by itself and all directories above it, up to the root of its working tree.
    pub fn rules_at(&mut self, directory: &Path) -> IgnoreRules {
        let Some(root) = directory.ancestors().find(|above| is_root(above)) else { return IgnoreRules::default() };
        let mut between: Vec<&Path> = directory.ancestors().take_while(|above| *above != root).collect();
        between.push(root);
        between.into_iter().rev().fold(IgnoreRules::default(), |rules, directory| self.rules_within(&rules, directory))
    }

    /// What applies in a directory that is directly below one with these rules.
    pub fn rules_within(&mut self, outer: &IgnoreRules, directory: &Path) -> IgnoreRules {
        let mut rules = if is_root(directory) {
            IgnoreRules { repository: self.repository(directory), ..IgnoreRules::default() }
        } else {
            outer.clone()
        };
        if let Some(patterns) = rules.repository.as_ref().and_then(|_| patterns(directory)) {
            rules.innermost = Some(Rc::new(Layer { patterns, outer: rules.innermost.take() }));
        }
        rules
    }

    /// The working tree with this root, if it is known what git tracks there.
    fn repository(&mut self, root: &Path) -> Option<Rc<Repository>> {
        let open = || git_index::tracked(root).map(|tracked| Rc::new(Repository { root: root.to_owned(), tracked }));
        self.by_root.entry(root.to_owned()).or_insert_with(open).clone()
    }
}

impl IgnoreRules {
    /// The same rules in an ignored directory, of which only tracked files count.
    pub fn ignored(self) -> IgnoreRules {
        IgnoreRules { only_tracked: true, ..self }
    }

    /// Whether `.gitignore` names this entry.
    pub fn names(&self, path: &Path, is_directory: bool) -> bool {
        self.only_tracked || self.matches(path, is_directory)
    }

    /// Whether git tracks this file, or a file below this directory.
    pub fn tracks(&self, path: &Path) -> bool {
        let Some(repository) = &self.repository else { return true };
        let Ok(below) = path.strip_prefix(&repository.root) else { return true };
        let name = below.as_os_str().as_encoded_bytes();
        let directory = [name, b"/"].concat();
        let first_in = repository.tracked.range(directory.clone()..).next();
        repository.tracked.contains(name) || first_in.is_some_and(|first| first.starts_with(&directory))
    }

    /// The innermost file that says something decides.
    fn matches(&self, path: &Path, is_directory: bool) -> bool {
        let mut layer = self.innermost.as_ref();
        while let Some(Layer { patterns, outer }) = layer.map(Rc::as_ref) {
            let matched = patterns.matched(path, is_directory);
            if !matched.is_none() {
                return matched.is_ignore();
            }
            layer = outer.as_ref();
        }
        false
    }
}

fn is_root(directory: &Path) -> bool {
    directory.join(".git").symlink_metadata().is_ok()
}

/// The patterns of a directory's own `.gitignore`. Git does not follow a symbolic link here either.
fn patterns(directory: &Path) -> Option<Gitignore> {
    let path = directory.join(".gitignore");
    let metadata = fs::symlink_metadata(&path).ok()?;
    let usable = metadata.is_file() && metadata.len() <= MAX_GITIGNORE;
    // A line that is no pattern hides nothing.
    usable.then(|| Gitignore::new(path).0)
}
