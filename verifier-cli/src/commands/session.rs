//! Shared by commands that access logs: the trust file, clients, and remembered checkpoints.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use etcetera::{BaseStrategy as _, choose_base_strategy};
use serde_json::{Value, json};
use taglog_proto::{
    name::{Image, Reference},
    time::Timestamp,
};

use super::context::{Failure, Global};
use taglog_base::text::path_line;
use taglog_log_client::{
    LogClient,
    lookup::{LookupError, MISBEHAVIOUR},
    memory::Memory,
    trust::{Trust, TrustError, TrustFile},
};
use taglog_oci_registry::{Registry, RegistryOptions};
use taglog_policy::{Policy, lock::Lock};
use taglog_verify::TrustedLog;

/// The path of a file in the user's configuration directory.
pub fn config_path(name: &str) -> Result<PathBuf, Failure> {
    let directories = choose_base_strategy().map_err(Failure::usage)?;
    Ok(directories.config_dir().join("taglog").join(name))
}

/// The path of the trust file: from the command line, or the default.
pub fn trust_path(global: &Global) -> Result<PathBuf, Failure> {
    global.trust.clone().map_or_else(|| config_path("trust"), Ok)
}

/// The path of the trust file: from the command line, else from the policy, else the default.
fn trust_path_under(global: &Global, policy: &Policy) -> Result<PathBuf, Failure> {
    match (&global.trust, policy.trust_path()) {
        (None, Some(path)) => Ok(path),
        _ => trust_path(global),
    }
}

/// The policy: the named file, else the `taglog.toml` of the working directory or the nearest one above it; `none` for no
/// policy.
pub fn policy(global: &Global) -> Result<Policy, Failure> {
    let path = match &global.policy {
        Some(none) if none.as_os_str() == "none" => None,
        Some(path) => Some(path.clone()),
        None => Policy::find(&working_directory()?),
    };
    path.map_or_else(|| Ok(Policy::without_file()), |path| Policy::read(&path).map_err(Failure::usage))
}

/// The path and content of the lock file: beside the policy, else in the working directory.
pub fn lock(policy: &Policy) -> Result<(PathBuf, Lock), Failure> {
    let path = Lock::path_for(policy, &working_directory()?);
    let lock = Lock::read(&path).map_err(Failure::usage)?;
    Ok((path, lock))
}

fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::usage(format!("the working directory: {error}")))
}

/// All trusted logs and their remembered checkpoints, for commands that use every log.
pub struct Logs {
    /// In the order of the trust file; at least one. An address on the command line replaces that of the file.
    pub trusted: Vec<Trust>,
    /// Remembered checkpoints.
    pub memory: Memory,
    timeout: Duration,
}

impl Logs {
    /// Reads the trust file of the command line, else of the policy, else the default. `--log` chooses one of its logs. Sends
    /// nothing.
    pub fn open(global: &Global, policy: &Policy) -> Result<Logs, Failure> {
        let path = trust_path_under(global, policy)?;
        let file = trust_file(&path)?;
        check_until(policy, &file)?;
        let file = file.chosen(global.log.as_deref()).map_err(|error| trust_failure(&path, error))?;
        Ok(Logs { trusted: file.logs().to_vec(), memory: memory(global)?, timeout: global.timeout() })
    }

    /// The ways to them.
    pub fn clients(&self) -> Result<Vec<TrustedLog>, Failure> {
        let log = |trust: &Trust| -> Result<TrustedLog, Failure> {
            Ok(TrustedLog { client: client(trust, self.timeout)?, trust: trust.clone() })
        };
        self.trusted.iter().map(log).collect()
    }
}

/// Checks the policy's `until` against all logs of the file, including those that `--log` excludes.
pub fn check_until(policy: &Policy, file: &TrustFile) -> Result<(), Failure> {
    policy.check_until(file.logs().iter().map(Trust::origin)).map_err(Failure::usage)
}

pub fn trust_file(path: &Path) -> Result<TrustFile, Failure> {
    TrustFile::read(path).map_err(|error| trust_failure(path, error))
}

fn trust_failure(path: &Path, error: TrustError) -> Failure {
    let hint =
        if matches!(error, TrustError::Several(_)) { "; choose it with --log, by origin or address" } else { "" };
    Failure::usage(format!("{}: {error}{hint}", path_line(path)))
}

fn memory(global: &Global) -> Result<Memory, Failure> {
    let state = match &global.state {
        Some(state) => state.clone(),
        None => {
            let directories = choose_base_strategy().map_err(Failure::usage)?;
            directories.state_dir().unwrap_or_else(|| directories.data_dir()).join("taglog")
        }
    };
    Ok(Memory::new(state))
}

fn client(trust: &Trust, timeout: Duration) -> Result<LogClient, Failure> {
    LogClient::new(address(trust)?, timeout).map_err(Failure::usage)
}

fn address(trust: &Trust) -> Result<&str, Failure> {
    let none = || format!("the trust file names no address for the log {}: add it, or give --log URL", trust.origin());
    trust.url.as_deref().ok_or_else(|| Failure::usage(none()))
}

/// One trusted log and its remembered checkpoint, for commands about a single log.
pub struct Session {
    pub trust: Trust,
    /// Remembered checkpoints.
    pub memory: Memory,
    timeout: Duration,
}

impl Session {
    /// Reads the trust file. Where it names several logs, `--log` chooses one. Sends nothing.
    pub fn open(global: &Global) -> Result<Session, Failure> {
        Session::open_at(global, &trust_path(global)?)
    }

    /// As [`open`](Self::open), with the trust file of the policy unless the command line names one.
    pub fn open_under(global: &Global, policy: &Policy) -> Result<Session, Failure> {
        let path = trust_path_under(global, policy)?;
        check_until(policy, &trust_file(&path)?)?;
        Session::open_at(global, &path)
    }

    fn open_at(global: &Global, path: &Path) -> Result<Session, Failure> {
        let trust = trust_file(path)?.chosen(global.log.as_deref()).and_then(TrustFile::only);
        let trust = trust.map_err(|error| trust_failure(path, error))?;
        Ok(Session { trust, memory: memory(global)?, timeout: global.timeout() })
    }

    pub fn address(&self) -> Result<&str, Failure> {
        address(&self.trust)
    }

    pub fn client(&self) -> Result<LogClient, Failure> {
        client(&self.trust, self.timeout)
    }

    /// The failure for an error of a look-up; evidence of misbehaviour is stored in a file.
    pub fn failure(&self, error: LookupError) -> Failure {
        match error {
            LookupError::Client(error) => Failure::failed(error),
            LookupError::InsufficientTrust(error) => Failure::failed(error),
            LookupError::Misbehaved(misbehaviour) => self.alarm(&misbehaviour.error, &misbehaviour.evidence),
        }
    }

    /// The failure for a false response other than a tag proof, which is stored as evidence.
    pub fn misbehaved(&self, error: &str, answer: &Value) -> Failure {
        self.alarm(error, &json!({ "type": MISBEHAVIOUR, "error": error, "answer": answer }).to_string())
    }

    fn alarm(&self, error: impl std::fmt::Display, evidence: &str) -> Failure {
        Failure::misbehaved(self.memory.alarm(&self.trust.log, error, evidence))
    }
}

pub fn registry(global: &Global) -> Result<Registry, Failure> {
    let options = RegistryOptions {
        plain_http: global.plain_http.clone(),
        timeout: global.timeout(),
        ..RegistryOptions::default()
    };
    Registry::new(options).map_err(Failure::failed)
}

/// Parses an image reference; without a tag it is `latest`, as in Docker.
pub fn parse_reference(text: &str) -> Result<(Image, Option<taglog_proto::name::Digest>), Failure> {
    let mut reference: Reference = text.parse().map_err(Failure::usage)?;
    if reference.tag.is_none() {
        if reference.digest.is_some() {
            let message = format!("{text} names no tag: a digest cannot move, so there is nothing to check");
            return Err(Failure::usage(message));
        }
        reference.tag = taglog_proto::name::Tag::parse("latest").ok();
    }
    Ok((reference.image().map_err(Failure::usage)?, reference.digest))
}

/// The current time, in whole seconds.
pub fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_is_latest_unless_it_has_a_digest() {
        assert_eq!(parse_reference("busybox").unwrap().0.to_string(), "docker.io/library/busybox:latest");
        let digest = taglog_proto::name::Digest::sha256(b"");
        assert!(parse_reference(&format!("busybox@{digest}")).is_err());
        assert_eq!(parse_reference(&format!("busybox:1@{digest}")).unwrap().1, Some(digest));
    }
}
