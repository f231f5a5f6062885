//! Which variables the file `.env` sets.
//!
//! Docker Compose replaces variables by what `.env` in the directory of the file says, before any default counts
//! (docs.docker.com, "Interpolation"). Its values are not read: what it sets is not known here.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

/// More than any such file has, in bytes.
const MAX_DOTENV: u64 = 1 << 20;

/// The content of a `.env` file, as far as it is needed to tell which variables it sets.
pub enum DotEnv {
    /// There is none.
    Absent,
    /// What is in it.
    Content(String),
    /// It may set any variable.
    Unreadable,
}

impl DotEnv {
    /// Opens `.env` beside the file at `path`; beside standard input it is that of the working directory.
    pub fn beside(path: &str) -> DotEnv {
        // A path that is not UTF-8 was made printable: the file beside it cannot be found any more.
        if path.contains(char::REPLACEMENT_CHARACTER) {
            return DotEnv::Unreadable;
        }
        let mut file = match File::open(Path::new(path).with_file_name(".env")) {
            Ok(file) => file.take(MAX_DOTENV + 1),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return DotEnv::Absent;
            }
            Err(_) => return DotEnv::Unreadable,
        };
        let mut content = String::new();
        match file.read_to_string(&mut content) {
            Ok(_) if content.len() as u64 <= MAX_DOTENV => DotEnv::Content(content),
            _ => DotEnv::Unreadable,
        }
    }

    /// Whether the file may set this variable. Where a value begins and ends is not followed (quotes may span lines), so
    /// that a name counts wherever `=` or `:` follows it, but not in a comment; a name alone in its line takes its value
    /// from the environment (compose-go, dotenv/parser.go).
    pub fn sets(&self, name: &str) -> bool {
        match self {
            DotEnv::Absent => false,
            DotEnv::Unreadable => true,
            DotEnv::Content(content) => content.lines().any(|line| sets(line, name)),
        }
    }
}

fn sets(line: &str, name: &str) -> bool {
    let is_comment = line.trim_start().starts_with('#') && !line.contains(['"', '\'']);
    let in_name = |c: char| c == '_' || c.is_alphanumeric();
    !is_comment
        && line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], line[at + name.len()..].trim_start());
            !before.ends_with(in_name) && (after.is_empty() || after.starts_with(['=', ':']))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_told_from_comments_and_values() {
        let file = DotEnv::Content("# A=1\nB=2\nexport C = 3\nD: 4\nX='\n# ' E=5\nF\nG=H I\n".to_owned());
        for name in ["B", "C", "D", "X", "E", "F", "G"] {
            assert!(file.sets(name), "{name}");
        }
        for name in ["A", "H", "exp", "port"] {
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
