//! Which variables the file `.env` sets.
//!
//! Docker Compose replaces variables by what `.env` in the directory of the file says, before any default counts
//! (docs.docker.com, "Interpolation"). Its values are not read: what it sets is not known here.

use std::{
    collections::HashSet,
    fs::File,
    io::{ErrorKind, Read as _},
};

use super::directory_of;

/// More than any such file has, in bytes.
const MAX_DOTENV: u64 = 1 << 20;

/// The content of a `.env` file, as far as it is needed to tell which variables it sets.
pub enum DotEnv {
    /// There is none.
    Absent,
    /// The variables that it may set.
    Names(HashSet<String>),
    /// It may set any variable.
    Unreadable,
}

impl DotEnv {
    /// Opens `.env` beside the file at `path`; beside standard input it is that of the working directory.
    pub fn beside(path: &str) -> DotEnv {
        let Some(directory) = directory_of(path) else { return DotEnv::Unreadable };
        let mut file = match File::open(directory.join(".env")) {
            Ok(file) => file.take(MAX_DOTENV + 1),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return DotEnv::Absent;
            }
            Err(_) => return DotEnv::Unreadable,
        };
        let mut content = String::new();
        match file.read_to_string(&mut content) {
            Ok(_) if content.len() as u64 <= MAX_DOTENV => DotEnv::Names(names_in(&content)),
            _ => DotEnv::Unreadable,
        }
    }

    /// Whether the file may set this variable.
    pub fn sets(&self, name: &str) -> bool {
        match self {
            DotEnv::Absent => false,
            DotEnv::Unreadable => true,
            DotEnv::Names(names) => names.contains(name),
        }
    }
}

/// Where a value begins and ends is not followed (quotes may span lines), so that a word counts wherever `=` or `:` follows
/// it, but not in a comment. A name alone in its line takes its value from the environment (compose-go, dotenv/parser.go).
fn names_in(content: &str) -> HashSet<String> {
    let is_comment = |line: &&str| line.trim_start().starts_with('#') && !line.contains(['"', '\'']);
    let mut names = HashSet::new();
    for line in content.lines().filter(|line| !is_comment(line)) {
        let mut rest = line;
        while let Some(start) = rest.find(in_name) {
            let word = &rest[start..];
            let end = word.find(|c| !in_name(c)).unwrap_or(word.len());
            let after = word[end..].trim_start();
            if after.is_empty() || after.starts_with(['=', ':']) {
                names.insert(word[..end].to_owned());
            }
            rest = &word[end..];
        }
    }
    names
}

fn in_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_told_from_comments_and_values() {
        let file = DotEnv::Names(names_in("# A=1\nB=2\nexport C = 3\nD: 4\nX='\n# ' E=5\nF\nG=H I\n"));
        for name in ["B", "C", "D", "X", "E", "F", "G"] {
            assert!(file.sets(name), "{name}");
        }
        for name in ["A", "H", "export", "port"] {
            assert!(!file.sets(name), "{name}");
        }
        assert!(!DotEnv::Absent.sets("A") && DotEnv::Unreadable.sets("A"));
    }

    #[test]
    fn only_the_file_beside_counts() {
        let directory = tempfile::tempdir().unwrap();
        let compose = directory.path().join("compose.yaml");
        assert!(!DotEnv::beside(compose.to_str().unwrap()).sets("A"));
        std::fs::write(directory.path().join(".env"), "A=1\n").unwrap();
        assert!(DotEnv::beside(compose.to_str().unwrap()).sets("A"));
        std::fs::write(directory.path().join(".env"), b"\xff").unwrap();
        assert!(DotEnv::beside(compose.to_str().unwrap()).sets("A"));
        assert!(DotEnv::beside("\u{fffd}/compose.yaml").sets("A"));
    }
}
