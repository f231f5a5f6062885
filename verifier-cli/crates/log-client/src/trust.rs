//! The trust file: the trusted logs and the quorum of cosigners, in the format of c2sp.org/tlog-policy.
//!
//! ```text
//! log <vkey> <url>
//! log <vkey of another log> <url>
//! witness a <vkey of a cosigner>
//! witness b <vkey of a cosigner>
//! group both all a b
//! quorum both
//! ```

use std::{collections::HashSet, path::Path};

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    note::VerifierKey,
    policy::{PolicyError, PolicyLog, Quorate, QuorumError, TrustPolicy},
    tag_proof::VerifiedLookup,
    time::Timestamp,
};
use thiserror::Error;

/// The most seconds by which a seal may be dated after the newest cosignature. Cosigners sign after the seal, but clocks
/// differ.
const SEAL_AFTER_COSIGNATURE: i64 = 300;

/// Why a trust file cannot be used.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read the trust file: {0}; 'taglog init <URL of a log>' makes one")]
    Read(std::io::Error),
    /// It is no policy.
    #[error("trust file: {0}")]
    Policy(#[from] PolicyError),
    /// No log.
    #[error("trust file: there is no 'log' line")]
    NoLog,
    /// Two logs of one origin.
    #[error("trust file: two logs are called {0}: logs are told apart by their origins, so one file names each once")]
    SameOrigin(String),
    /// Several logs, where it is about one.
    #[error("the trust file names several logs, and this is about one of them: {0}")]
    Several(String),
    /// The chosen log is not in the file.
    #[error("the trust file names no log {choice:?}; choose one by its origin or address: {known}")]
    NoSuchLog {
        /// What was chosen.
        choice: String,
        /// The logs that there are.
        known: String,
    },
}

/// Why a checkpoint with a valid signature of the log is not trusted.
#[derive(Debug, Error)]
pub enum InsufficientTrust {
    /// The quorum of the trust file is not satisfied.
    #[error("the log's checkpoint of size {size} is not trusted: {error}")]
    Quorum {
        /// The size of the checkpoint.
        size: u64,
        /// What is missing.
        error: QuorumError,
    },
    /// The seal is dated too long after the newest cosignature.
    #[error("the log's seal is dated {sealed}, and the newest cosignature {cosigned}: it is not trusted")]
    Seal {
        /// The time of the seal.
        sealed: Timestamp,
        /// The time of the newest cosignature.
        cosigned: Timestamp,
    },
}

/// The trusted logs; at least one, with different origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFile {
    logs: Vec<Trust>,
}

impl TrustFile {
    /// Reads a trust file.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<TrustFile, TrustError> {
        TrustFile::parse(&std::fs::read(path).map_err(TrustError::Read)?)
    }

    /// Parses a trust file: a policy with at least one log.
    ///
    /// # Errors
    /// [`TrustError::Policy`], [`TrustError::NoLog`], [`TrustError::SameOrigin`].
    pub fn parse(text: &[u8]) -> Result<TrustFile, TrustError> {
        let policy = TrustPolicy::parse(text)?;
        let mut origins = HashSet::new();
        if let Some(twice) = policy.logs().iter().find(|log| !origins.insert(log.key.name())) {
            return Err(TrustError::SameOrigin(twice.key.name().to_owned()));
        }
        let trust = |log: &PolicyLog| Trust { log: log.key.clone(), url: log.url.clone(), policy: policy.for_log(log) };
        match policy.logs() {
            [] => Err(TrustError::NoLog),
            logs => Ok(TrustFile { logs: logs.iter().map(trust).collect() }),
        }
    }

    /// Its logs, in the order of the file; at least one.
    pub fn logs(&self) -> &[Trust] {
        &self.logs
    }

    /// Only the log with this origin or address; all logs without a choice. In a file with one log, another value is taken as
    /// another address of that log.
    ///
    /// # Errors
    /// [`TrustError::NoSuchLog`].
    pub fn chosen(mut self, choice: Option<&str>) -> Result<TrustFile, TrustError> {
        let Some(choice) = choice else { return Ok(self) };
        let address = choice.trim_end_matches('/');
        let is_it = |log: &&Trust| {
            log.origin() == choice || log.url.as_ref().is_some_and(|url| url.trim_end_matches('/') == address)
        };
        if let Some(log) = self.logs.iter().find(is_it).cloned() {
            return Ok(TrustFile { logs: vec![log] });
        }
        match &mut self.logs[..] {
            [only] => {
                only.url = Some(choice.to_owned());
                Ok(self)
            }
            _ => Err(TrustError::NoSuchLog { choice: choice.to_owned(), known: self.list() }),
        }
    }

    /// The one log of the file.
    ///
    /// # Errors
    /// [`TrustError::Several`].
    pub fn only(self) -> Result<Trust, TrustError> {
        match &self.logs[..] {
            [only] => Ok(only.clone()),
            _ => Err(TrustError::Several(self.list())),
        }
    }

    fn list(&self) -> String {
        let log = |log: &Trust| match &log.url {
            Some(url) => format!("{} ({url})", log.origin()),
            None => log.origin().to_owned(),
        };
        self.logs.iter().map(log).collect::<Vec<_>>().join(", ")
    }
}

/// A trusted log: its key, its address and the policy for its cosigners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Its public key; the name is its origin.
    pub log: VerifierKey,
    /// Its address, if the file has one.
    pub url: Option<String>,
    policy: TrustPolicy,
}

impl Trust {
    /// Reads a trust file that names exactly one log.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<Trust, TrustError> {
        TrustFile::read(path)?.only()
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.log.name()
    }

    /// Trust in one log without cosigners.
    pub fn of_log(log: VerifierKey, url: Option<String>) -> Trust {
        let policy = TrustPolicy::of_log(PolicyLog { key: log.clone(), ml_dsa: None, url: url.clone() });
        Trust { log, url, policy }
    }

    /// Whether only the log's Ed25519 signature is required.
    pub fn is_plain(&self) -> bool {
        self.policy.cosigners().is_empty() && self.policy.logs().iter().all(|log| log.ml_dsa.is_none())
    }

    /// The policy: cosigners and quorum.
    pub fn policy(&self) -> &TrustPolicy {
        &self.policy
    }

    /// Checks that a checkpoint has the log's signatures and the quorum.
    ///
    /// # Errors
    /// [`InsufficientTrust::Quorum`].
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<Quorate, InsufficientTrust> {
        let size = signed.unverified().size;
        self.policy.evaluate(signed).map_err(|error| InsufficientTrust::Quorum { size, error })
    }

    /// Checks a look-up whose proofs hold: the quorum of its checkpoint, and that its seal is not dated long after
    /// the newest cosignature.
    ///
    /// # Errors
    /// [`InsufficientTrust`].
    pub fn check_lookup(&self, lookup: &VerifiedLookup) -> Result<Quorate, InsufficientTrust> {
        let quorate = self.check(&lookup.signed_checkpoint)?;
        let (sealed, newest) = (lookup.seal.time, quorate.cosignatures.iter().map(|(_, time)| *time).max());
        match newest.filter(|_| self.policy.needs_cosigners()) {
            Some(cosigned) if sealed.unix() - cosigned.unix() > SEAL_AFTER_COSIGNATURE => {
                Err(InsufficientTrust::Seal { sealed, cosigned })
            }
            _ => Ok(quorate),
        }
    }

    /// The text of a trust file for this log.
    pub fn to_text(&self) -> String {
        format!("# Which transparency log taglog trusts (c2sp.org/tlog-policy).\n{}", self.policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vkey() -> VerifierKey {
        taglog_proto::note::SigningKey::from_seed("log.example/x", &[1; 32]).unwrap().verifier_key().clone()
    }

    /// A second log.
    fn other() -> VerifierKey {
        taglog_proto::note::SigningKey::from_seed("log.example/y", &[2; 32]).unwrap().verifier_key().clone()
    }

    fn both() -> TrustFile {
        let text = format!("log {} https://x.example/\nlog {} https://y.example\nquorum none\n", vkey(), other());
        TrustFile::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn files_round_trip() {
        for url in [None, Some("https://log.example/x".to_owned())] {
            let trust = Trust::of_log(vkey(), url);
            assert_eq!(TrustFile::parse(trust.to_text().as_bytes()).unwrap().only().unwrap(), trust);
        }
        let spaced = format!("\n  # a comment\n\tlog  {}\t \nquorum\tnone\n", vkey());
        assert_eq!(TrustFile::parse(spaced.as_bytes()).unwrap().logs()[0].url, None);
    }

    #[test]
    fn malformed_trust_files_are_refused() {
        let log = format!("log {}\n", vkey());
        let same = taglog_proto::note::SigningKey::from_seed("log.example/x", &[3; 32]).unwrap();
        for (bad, want) in [
            ("quorum none\n".to_owned(), "no 'log'"),
            (log.clone(), "no 'quorum'"),
            (format!("{log}log {}\nquorum none\n", same.verifier_key()), "two logs are called log.example/x"),
            (format!("{log}quorum none\r\n"), "line 2"),
        ] {
            let message = TrustFile::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(want), "{bad:?}: {message}");
        }
    }

    #[test]
    fn one_of_several_logs_is_chosen_by_origin_or_address() {
        assert_eq!(both().chosen(None).unwrap().logs().len(), 2);
        for (choice, want) in [
            ("log.example/x", vkey()),
            ("log.example/y", other()),
            ("https://x.example", vkey()),
            ("https://x.example/", vkey()),
            ("https://y.example/", other()),
        ] {
            assert_eq!(both().chosen(Some(choice)).unwrap().only().unwrap().log, want, "{choice}");
        }
        for error in [both().only().unwrap_err(), both().chosen(Some("https://z.example")).unwrap_err()] {
            let message = error.to_string();
            assert!(message.contains("log.example/x (https://x.example/), log.example/y"), "{message}");
        }
        let text = format!("log {} https://x.example\nquorum none\n", vkey());
        let elsewhere = TrustFile::parse(text.as_bytes()).unwrap().chosen(Some("http://127.0.0.1:1")).unwrap();
        assert_eq!(elsewhere.only().unwrap().url.as_deref(), Some("http://127.0.0.1:1"));
    }

    /// One log's checkpoint is never taken for another's, though one policy names both.
    #[test]
    fn a_checkpoint_is_checked_only_under_the_key_of_its_own_log() {
        let key = taglog_proto::note::SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
        let (origin, root) = ("log.example/x".to_owned(), taglog_proto::merkle::Hash::of(b""));
        let signed = taglog_proto::checkpoint::Checkpoint { origin, size: 1, root }.sign(&key);
        let file = both();
        file.logs()[0].check(&signed).unwrap();
        let refused = file.logs()[1].check(&signed).unwrap_err().to_string();
        assert!(refused.contains("log.example/x"), "{refused}");
    }
}
