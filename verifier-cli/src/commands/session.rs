//! What commands that talk to a log share: the trust file, the client, the memory.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use etcetera::{BaseStrategy as _, choose_base_strategy};
use serde_json::{Value, json};
use taglog_proto::{
    name::{Image, Reference},
    time::Timestamp,
};

use super::{Failure, Global};
use crate::{
    client::{
        LogClient,
        lookup::{LookupError, MISBEHAVIOUR},
        memory::Memory,
        trust::Trust,
    },
    registry::{Registry, RegistryOptions},
};

/// Where a file of the user's configuration is.
pub fn config_path(name: &str) -> Result<PathBuf, Failure> {
    let directories = choose_base_strategy().map_err(Failure::usage)?;
    Ok(directories.config_dir().join("taglog").join(name))
}

/// The trust file: the one named, or the default one.
pub fn trust_path(global: &Global) -> Result<PathBuf, Failure> {
    global.trust.clone().map_or_else(|| config_path("trust"), Ok)
}

/// A trusted log, the way to it, and what is remembered of it.
pub struct Session {
    /// The trust file's content.
    pub trust: Trust,
    /// Checkpoints verified before.
    pub memory: Memory,
    global_log: Option<String>,
    timeout: Duration,
}

impl Session {
    /// Reads the trust file. Sends nothing.
    pub fn open(global: &Global) -> Result<Session, Failure> {
        let path = trust_path(global)?;
        let trust = Trust::read(&path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let state = match &global.state {
            Some(state) => state.clone(),
            None => {
                let directories = choose_base_strategy().map_err(Failure::usage)?;
                directories.state_dir().unwrap_or_else(|| directories.data_dir()).join("taglog")
            }
        };
        let timeout = global.timeout();
        Ok(Session { trust, memory: Memory::new(state), global_log: global.log.clone(), timeout })
    }

    /// A client of the log.
    pub fn client(&self) -> Result<LogClient, Failure> {
        let url = self.global_log.as_ref().or(self.trust.url.as_ref());
        let url = url.ok_or_else(|| Failure::usage("the trust file names no address for the log: give --log URL"))?;
        LogClient::new(url, self.timeout).map_err(Failure::usage)
    }

    /// What went wrong in a look-up; what shows misbehaviour is kept in a file.
    pub fn failure(&self, error: LookupError) -> Failure {
        match error {
            LookupError::Client(error) => Failure::failed(error),
            LookupError::Misbehaved(misbehaviour) => self.alarm(&misbehaviour.error, &misbehaviour.evidence),
        }
    }

    /// A false answer that is no tag proof; it is kept in a file.
    pub fn misbehaved(&self, error: &str, answer: &Value) -> Failure {
        self.alarm(error, &json!({ "type": MISBEHAVIOUR, "error": error, "answer": answer }).to_string())
    }

    fn alarm(&self, error: impl std::fmt::Display, evidence: &str) -> Failure {
        let kept = match self.memory.keep_evidence("misbehaviour", evidence.as_bytes()) {
            Ok(path) => format!("what it answered is kept in {}", path.display()),
            Err(error) => format!("what it answered could not be kept: {error}"),
        };
        Failure::misbehaved(format!("THE LOG MISBEHAVES: {error}; {kept}"))
    }
}

/// A client of registries.
pub fn registry(global: &Global) -> Result<Registry, Failure> {
    let options = RegistryOptions {
        plain_http: global.plain_http.clone(),
        timeout: global.timeout(),
        ..RegistryOptions::default()
    };
    Registry::new(options).map_err(Failure::failed)
}

/// References as people write them; without a tag it is `latest`, as Docker has it.
pub fn parse_reference(text: &str) -> Result<(Image, Option<taglog_proto::name::Digest>), Failure> {
    let mut reference: Reference = text.parse().map_err(Failure::usage)?;
    if reference.tag.is_none() {
        if reference.digest.is_some() {
            let message = format!("{text} names no tag: a digest alone cannot be retagged, there is nothing to check");
            return Err(Failure::usage(message));
        }
        reference.tag = taglog_proto::name::Tag::parse("latest").ok();
    }
    Ok((reference.image().map_err(Failure::usage)?, reference.digest))
}

/// The time now, in whole seconds.
pub fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_without_a_tag() {
        assert_eq!(parse_reference("busybox").unwrap().0.to_string(), "docker.io/library/busybox:latest");
        let digest = taglog_proto::name::Digest::sha256(b"");
        assert!(parse_reference(&format!("busybox@{digest}")).is_err());
        assert_eq!(parse_reference(&format!("busybox:1@{digest}")).unwrap().1, Some(digest));
    }
}
