//! Which files git tracks: its index (git's Documentation/gitformat-index.adoc), versions 2 to 4.
//!
//! A file that git tracks is deployed whatever `.gitignore` says, so `.gitignore` may only hide what is not in the index.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// The largest index that is read, in bytes. It holds some hundred thousand files.
const MAX_INDEX: u64 = 256 << 20;
/// Fields of an entry before the name of the object: times, device, inode, mode, owner, size.
const STAT_BYTES: usize = 40;
/// Extensions whose indexes do not list every file by itself: a split index, and a sparse one.
const PARTIAL: [&[u8]; 2] = [b"link", b"sdir"];

/// The tracked files of the working tree at `root`, as paths below it; `None` where that is not known.
pub fn tracked(root: &Path) -> Option<BTreeSet<Vec<u8>>> {
    let file = fs::File::open(git_directory(root)?.join("index")).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_INDEX + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_INDEX {
        return None;
    }
    // The length of an object's name: SHA-1, or SHA-256. The other one does not fit the rest of the file.
    parse(&bytes, 20).or_else(|| parse(&bytes, 32))
}

/// `.git` is a directory, or a file that names it: in a further working tree, and in a submodule.
fn git_directory(root: &Path) -> Option<PathBuf> {
    let path = root.join(".git");
    if path.is_dir() {
        return Some(path);
    }
    let mut text = String::new();
    fs::File::open(&path).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    Some(root.join(text.strip_prefix("gitdir:")?.trim()))
}

fn parse(bytes: &[u8], hash: usize) -> Option<BTreeSet<Vec<u8>>> {
    let body = bytes.get(..bytes.len().checked_sub(hash)?)?;
    let mut input = Input { bytes: body, at: 0 };
    if input.take(4)? != b"DIRC" {
        return None;
    }
    let version = input.number()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let (count, mut tracked, mut name) = (input.number()?, BTreeSet::new(), Vec::new());
    for _ in 0..count {
        let start = input.at;
        input.take(STAT_BYTES + hash)?;
        let [high, _] = *input.take(2)? else { return None };
        if version > 2 && high & 0x40 != 0 {
            input.take(2)?;
        }
        if version == 4 {
            let stripped = input.variable_width()?;
            name.truncate(name.len().checked_sub(stripped)?);
        } else {
            name.clear();
        }
        name.extend_from_slice(input.until_nul()?);
        if version < 4 {
            // One to eight zero bytes, the one that ends the name included, up to a multiple of eight.
            let length = input.at - start;
            input.take(length.next_multiple_of(8) - length)?;
        }
        tracked.insert(name.clone());
    }
    while input.at < body.len() {
        let signature = input.take(4)?;
        if PARTIAL.contains(&signature) {
            return None;
        }
        let length = input.number()?;
        input.take(usize::try_from(length).ok()?)?;
    }
    Some(tracked)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// As in git's packs (`decode_varint`): seven bits a byte, each further byte one more than its bits.
    fn variable_width(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        loop {
            let [byte] = *self.take(1)? else { return None };
            value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            value = value.checked_add(1)?;
        }
    }

    fn until_nul(&mut self) -> Option<&'a [u8]> {
        let length = self.bytes.get(self.at..)?.iter().position(|byte| *byte == 0)?;
        let name = self.take(length)?;
        self.take(1)?;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) -> bool {
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.output().is_ok_and(|output| output.status.success())
    }

    /// An index as git itself writes it, in every version and with both kinds of hashes.
    #[test]
    fn what_git_writes_is_read() {
        for (format, version) in [("sha1", "2"), ("sha1", "4"), ("sha256", "2"), ("sha256", "4")] {
            let tree = tempfile::tempdir().unwrap();
            assert!(git(tree.path(), &["init", "-q", "--object-format", format]), "this test needs git");
            let names = ["a", "ab", "b/long name.yaml", "b/other", "c/d/e/f", "é"];
            for name in names {
                let path = tree.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
            assert!(git(tree.path(), &["-c", &format!("index.version={version}"), "add", "--", "."]));
            assert!(git(tree.path(), &["update-index", "--index-version", version, "--skip-worktree", "ab"]));
            let want: BTreeSet<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(tracked(tree.path()), Some(want), "{format} {version}");
            // A split index does not list every file.
            assert!(git(tree.path(), &["update-index", "--split-index"]));
            assert_eq!(tracked(tree.path()), None, "{format} {version}");
        }
    }

    proptest! {
        #[test]
        fn no_index_panics(version in 1_u8..6, count in 0_u8..4, rest: Vec<u8>) {
            let mut bytes = [&b"DIRC\0\0\0"[..], &[version, 0, 0, 0, count], &rest].concat();
            let _ = parse(&bytes, 20);
            bytes.extend([0; 200]);
            let _ = parse(&bytes, 20);
        }
    }
}
