//! Configuration: a TOML file, overridden by environment variables and flags.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use taglog_base::config_file::TomlError;
use taglog_base::text::path_line;
use taglog_proto::{
    entry::Limits,
    note::{NoteError, VerifierKey},
};
use thiserror::Error;

/// Why a configuration is not valid.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {error}; 'taglog-server init' creates a data directory", path = path_line(.path))]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}", path = path_line(.path))]
    Toml { path: PathBuf, error: TomlError },
    /// A malformed vkey.
    #[error("witnesses: {0}")]
    Witness(NoteError),
    #[error(
        "witnesses {0} and {1} have the same public key; one key under two names would count as two witnesses; remove \
         one of them"
    )]
    SameKey(String, String),
    #[error("the policy file {path} is not valid: {why}", path = path_line(.path))]
    Policy { path: PathBuf, why: String },
    /// A key whose value is out of range, and the range.
    #[error("{0}: want {1}")]
    Range(&'static str, &'static str),
}

/// The configuration file, `taglog-server.toml`. Every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub listen: SocketAddr,
    /// How long a batch collects entries, in milliseconds.
    pub batch_interval_ms: u64,
    /// The most entries in one batch.
    pub max_batch: usize,
    /// The capacity of the submission queue, in entries; more are rejected with 429.
    pub max_queue: usize,
    /// Connections served at once.
    pub max_connections: usize,
    /// The vkeys of the witnesses.
    pub witnesses: Vec<String>,
    /// The policy file (c2sp.org/tlog-policy) with the cosigners, relative to the data directory;
    /// without one, every checkpoint is published as soon as it is committed.
    pub policy: Option<PathBuf>,
    /// How long a cosigner may take to answer, in milliseconds.
    pub cosign_timeout_ms: u64,
    /// How often new cosignatures are requested while nothing new is committed, in seconds.
    pub cosign_interval: u64,
    /// Limits that are written into the roster.
    pub limits: LimitsConfig,
    pub quota: QuotaConfig,
}

/// The limits of the roster, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// How far `observed` may be after the seal that closes the batch.
    pub future: u64,
    /// How far `observed` may be before the previous seal.
    pub past: u64,
    /// After how long without entries a seal alone is written.
    pub quiet: u64,
}

/// Quotas of each witness.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuotaConfig {
    /// Entries per second, sustained; ten seconds' worth may come at once.
    pub entries_per_second: u32,
    /// Tags per hour that the witness has not reported before.
    pub new_tags_per_hour: u32,
    /// Changes of one tag per hour.
    pub sightings_per_tag_per_hour: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8520)),
            batch_interval_ms: 1000,
            max_batch: 16_384,
            max_queue: 131_072,
            max_connections: 1024,
            witnesses: Vec::new(),
            policy: None,
            cosign_timeout_ms: 5000,
            cosign_interval: 60,
            limits: LimitsConfig::default(),
            quota: QuotaConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig { future: 300, past: 7_776_000, quiet: 600 }
    }
}

impl Default for QuotaConfig {
    fn default() -> QuotaConfig {
        QuotaConfig { entries_per_second: 2_000, new_tags_per_hour: 1_000_000, sightings_per_tag_per_hour: 600 }
    }
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::Toml { path: path.to_owned(), error: error.into() })
    }

    /// Checks ranges.
    pub fn check(&self) -> Result<(), ConfigError> {
        let quota = &self.quota;
        let positive =
            quota.entries_per_second > 0 && quota.new_tags_per_hour > 0 && quota.sightings_per_tag_per_hour > 0;
        let checks = [
            ((1..=60_000).contains(&self.batch_interval_ms), "batch-interval-ms", "1 to 60000"),
            ((1..=1_000_000).contains(&self.max_batch), "max-batch", "1 to 1000000"),
            ((1..=10_000_000).contains(&self.max_queue), "max-queue", "1 to 10000000"),
            ((1..=65_536).contains(&self.max_connections), "max-connections", "1 to 65536"),
            ((100..=60_000).contains(&self.cosign_timeout_ms), "cosign-timeout-ms", "100 to 60000"),
            ((1..=86_400).contains(&self.cosign_interval), "cosign-interval", "1 to 86400 s"),
            (self.limits.future <= 86_400, "limits.future", "at most 86400 s"),
            (self.limits.past <= 315_360_000, "limits.past", "at most 315360000 s"),
            ((1..=86_400).contains(&self.limits.quiet), "limits.quiet", "1 to 86400 s"),
            (positive, "quota", "numbers above 0"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, want)) => Err(ConfigError::Range(key, want)),
            None => Ok(()),
        }
    }

    /// Parses the keys of the witnesses.
    pub fn witness_keys(&self) -> Result<Vec<VerifierKey>, ConfigError> {
        let parse = |vkey: &String| vkey.parse::<VerifierKey>().map_err(ConfigError::Witness);
        let keys: Vec<VerifierKey> = self.witnesses.iter().map(parse).collect::<Result<_, _>>()?;
        for (i, key) in keys.iter().enumerate() {
            if let Some(other) = keys[..i].iter().find(|other| other.as_bytes() == key.as_bytes()) {
                return Err(ConfigError::SameKey(other.name().to_owned(), key.name().to_owned()));
            }
        }
        Ok(keys)
    }

    pub fn limits(&self) -> Limits {
        let LimitsConfig { future, past, quiet } = self.limits;
        Limits { future, past, quiet }
    }

    pub fn batch_interval(&self) -> Duration {
        Duration::from_millis(self.batch_interval_ms)
    }

    pub fn cosign_timeout(&self) -> Duration {
        Duration::from_millis(self.cosign_timeout_ms)
    }

    pub fn cosign_interval(&self) -> Duration {
        Duration::from_secs(self.cosign_interval)
    }
}

/// The file that `taglog-server init` writes: every key, commented out, with its default.
pub const TEMPLATE: &str = r#"# taglog-server configuration. Every key has a default, shown here.
# Flags and environment variables override it: see 'taglog-server run --help'.

# The address to listen on. Put a TLS proxy in front for public access.
#listen = "127.0.0.1:8520"

# The vkeys of the witnesses whose observations are accepted, as 'taglog keygen' prints them.
# A change is written to the log as a new roster when the server starts.
#witnesses = ["witness.example/ams-1+5f0bbd1a+AQ..."]

# How long a batch collects entries, in milliseconds. Each batch ends in a seal and a checkpoint.
#batch-interval-ms = 1000

# The most entries in one batch, and in the submission queue; beyond that, clients get 429.
#max-batch = 16384
#max-queue = 131072

# Connections served at once.
#max-connections = 1024

# Cosigners: a policy file (c2sp.org/tlog-policy), relative to the data directory. A checkpoint is
# published when the quorum of the policy has cosigned it. Each cosigner is a 'witness' line with the
# submission prefix at its end; the name is what 'run --without-cosigner' and the metrics call it:
#   witness alpha witness.example/alpha+5f0bbd1a+BA... https://witness.example/alpha
#   witness beta witness.example/beta+9c88e001+Bg... https://witness.example/beta
#   group enough 1 alpha beta
#   quorum enough
# Without a policy, every checkpoint is published as soon as it is committed.
#policy = "policy"

# How long a cosigner may take to answer, in milliseconds (at the start, requests are retried for three
# times as long); and how often, in seconds, new cosignatures are requested while nothing new is
# committed, so that their times stay fresh.
#cosign-timeout-ms = 5000
#cosign-interval = 60

# Written into the roster, in seconds: how far an observation's time may be after the seal that
# closes its batch, and before the previous seal; after how long without entries a seal alone is
# written, so that a frozen log can be distinguished from a quiet one.
#[limits]
#future = 300
#past = 7776000
#quiet = 600

# Quotas of each witness.
#[quota]
#entries-per-second = 2000
#new-tags-per-hour = 1000000
#sightings-per-tag-per-hour = 600
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_shows_the_defaults() {
        let prose = |line: &str| line.starts_with("# ") || line == "#";
        let text: Vec<&str> = TEMPLATE.lines().filter(|line| !prose(line)).map(|l| l.trim_start_matches('#')).collect();
        let mut config: Config = toml::from_str(&text.join("\n")).unwrap();
        assert_eq!(config.witnesses.len(), 1, "the example witness");
        config.witnesses.clear();
        assert_eq!(config.policy.take(), Some(PathBuf::from("policy")), "the example policy");
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert!(config.check().is_ok());
    }

    #[test]
    fn one_key_under_two_names_is_rejected() {
        let vkey =
            |name: &str| taglog_proto::note::SigningKey::from_seed(name, &[1; 32]).unwrap().verifier_key().to_string();
        let config = Config { witnesses: vec![vkey("a"), vkey("b")], ..Config::default() };
        assert!(matches!(config.witness_keys(), Err(ConfigError::SameKey(..))));
    }
}
