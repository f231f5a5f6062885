//! A user of `taglog` with a home directory, and checks of what each run prints and how it ends.

pub mod backdated_log;
pub mod proxy;

use std::{
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use crate::{DataDirectory, Server, Witness, binary, server::copy_directory};
use serde_json::Value;
use taglog_proto::{name::Digest, note::VerifierKey};
use tempfile::TempDir;

/// The image of most tests that need no registry.
pub const APP: &str = "registry.example/team/app:1.0";

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Blocks on a future. One runtime for all tests of a program: a client's
/// connections end with the runtime that they were made on.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// The runtime that proxies run on.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    &RUNTIME
}

/// A user of `taglog`: a home directory with trust file, memory and key.
pub struct User {
    home: TempDir,
}

impl Default for User {
    fn default() -> User {
        User::new()
    }
}

impl User {
    /// A user who trusts no log yet, and whose policy accepts digests that are seconds old.
    pub fn new() -> User {
        let user = User { home: tempfile::tempdir().unwrap() };
        user.write("taglog.toml", "[[rule]]\nrepositories = [\"**\"]\nmin-age = \"0s\"\n");
        user
    }

    pub fn trusting(server: &Server) -> User {
        let user = User::new();
        user.trust(&server.vkey, &server.url);
        user
    }

    /// A user who trusts this log, and is a witness.
    pub fn witnessing(server: &Server, witness: &Witness) -> User {
        let user = User::trusting(server);
        user.use_key(witness);
        user
    }

    pub fn trust(&self, vkey: &VerifierKey, url: &str) {
        self.write("trust", format!("log {vkey} {url}\nquorum none\n"));
    }

    pub fn use_key(&self, witness: &Witness) {
        self.write("key", format!("{}\n", witness.key.to_secret_string()));
    }

    /// A path in the user's home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A path in the user's home, as an argument.
    pub fn argument(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in the user's home; its path as an argument.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.argument(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command, in this user's environment and no other.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        for (variable, name) in [("TAGLOG_TRUST", "trust"), ("TAGLOG_STATE", "state"), ("TAGLOG_KEY", "key")] {
            command.env(variable, self.path(name));
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::of(arguments, self.command(arguments).output().unwrap())
    }

    /// Runs the command with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> CommandOutput {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Dropped at the end of the statement, so that the command sees the end of its input.
        child.stdin.take().unwrap().write_all(input).unwrap();
        CommandOutput::of(arguments, child.wait_with_output().unwrap())
    }

    /// Runs the command with `--output json`.
    pub fn run_json(&self, arguments: &[&str]) -> CommandOutput {
        self.run(&[arguments, &["--output", "json"]].concat())
    }

    /// The verdict on one image, from the JSON answer, with the exit code that it must have.
    pub fn verdict(&self, arguments: &[&str]) -> String {
        let ran = self.run_json(&[&["verify"], arguments].concat());
        let answer = ran.json();
        let verdict = answer["images"][0]["verdict"].as_str().unwrap_or_else(|| panic!("{ran:?}")).to_owned();
        let passes = matches!(verdict.as_str(), "ok" | "moving" | "approved" | "rebuilt");
        assert_eq!(ran.code, if passes { 0 } else { 1 }, "{ran:?}");
        assert_eq!((&answer["passes"], &answer["images"][0]["passes"]), (&passes.into(), &passes.into()), "{ran:?}");
        verdict
    }

    /// The remembered checkpoints, as they are stored.
    pub fn remembered(&self) -> Vec<String> {
        let files = files_in(&self.path("state")).into_iter();
        let checkpoints = files.filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint"));
        checkpoints.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// The evidence that was kept.
    pub fn evidence(&self) -> Vec<PathBuf> {
        files_in(&self.path("state/evidence"))
    }
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The exit code and the output of a run.
#[derive(Debug)]
pub struct CommandOutput {
    pub arguments: Vec<String>,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// Reads the output of an ended run, which must not have panicked or been killed.
    pub fn of(arguments: &[&str], output: Output) -> CommandOutput {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = CommandOutput {
            arguments: arguments.iter().map(|argument| argument.chars().take(200).collect()).collect(),
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!((0..=4).contains(&ran.code) && !ran.stderr.contains("panicked"), "{ran:?}");
        ran
    }

    pub fn exits(self, code: i32) -> CommandOutput {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Checks that each of these words is on standard output or standard error.
    pub fn prints(self, words: &[&str]) -> CommandOutput {
        for word in words {
            assert!(self.stdout.contains(word) || self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        self
    }

    pub fn has_empty_stdout(self) -> CommandOutput {
        assert_eq!(self.stdout, "", "{self:?}");
        self
    }

    /// Standard output as JSON: one document, on one line.
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A digest that is not one of those that the tests push.
pub fn other_digest() -> Digest {
    Digest::sha256(b"another content altogether")
}

/// `image@digest of content`, which no registry needs to be asked about.
pub fn pinned(name: &str, content: &str) -> String {
    format!("{name}@{}", Digest::sha256(content.as_bytes()))
}

/// Adds notes to a log as one bundle, and waits until they are published.
pub fn add(server: &Server, notes: &[Vec<u8>]) {
    let last = wait(server.add(notes)).into_iter().max().unwrap_or(0);
    assert!(wait(server.size()) > last, "what was added is not published");
}

/// A data directory with the key of another log and nothing else of it: two logs with one identity.
pub fn with_same_key(server: &Server, witnesses: &[&Witness]) -> DataDirectory {
    let mut twin = DataDirectory::with(witnesses, "");
    let (from, to) = (server.data.path().join("key"), twin.path().join("key"));
    std::fs::remove_file(&to).and_then(|()| std::fs::copy(from, to)).unwrap();
    twin.vkey = server.vkey.clone();
    twin
}

/// A copy of a stopped log's data directory, as a backup would hold it.
pub fn copy_of(data: &DataDirectory) -> DataDirectory {
    let mut copy = DataDirectory::init();
    std::fs::remove_dir_all(copy.path()).unwrap();
    copy_directory(&data.path(), &copy.path());
    copy.vkey = data.vkey.clone();
    copy
}
