//! `cosigner.toml`: which keys cosign, which logs, and where.
//!
//! [`Config::read`] returns a checked configuration; relative paths are resolved against the file's directory. The key
//! files are read by [`Config::keys`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use taglog_proto::cosignature::{CosignerKey, CosignerSigningKey};

use super::log::LogKeys;
use taglog_base::config_file::{ConfigError, parse_toml, read_text, resolve, wrong_value};

/// The remedy for a missing key.
const KEYGEN: &str = "'taglog keygen --cosigner NAME --key FILE' makes a cosigner's key";

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The files of the secret keys; at least one.
    pub keys: Vec<PathBuf>,
    /// The directory of the records, the audits and the evidence.
    pub state: PathBuf,
    pub listen: SocketAddr,
    /// Whether every entry is audited before a checkpoint is cosigned.
    pub audit: bool,
    /// The logs, by origin; at least one.
    pub logs: BTreeMap<String, LogConfig>,
}

/// A log whose checkpoints are cosigned.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub keys: LogKeys,
    /// Its address; present if it is to be audited.
    pub url: Option<String>,
}

/// The file as it is parsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    key: OneOrMore<PathBuf>,
    state: PathBuf,
    listen: SocketAddr,
    #[serde(default)]
    audit: bool,
    #[serde(default)]
    log: Vec<LogSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    vkey: OneOrMore<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "want a string, or a list of strings")]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file. `audit` asks for an auditing cosigner, like the key of this name.
    pub fn read(path: &Path, audit: bool) -> Result<Config, ConfigError> {
        Config::parse(&read_text(path, "'taglog cosign serve --help' shows one")?, path, audit)
    }

    /// Parses and checks the text of a configuration file at `path`.
    pub fn parse(text: &str, path: &Path, audit: bool) -> Result<Config, ConfigError> {
        let file: ConfigFile = parse_toml(text, path)?;
        ConfigChecker { path, audit: audit || file.audit }.config(file)
    }

    /// Reads the secret keys. A key may be named only once.
    pub fn keys(&self) -> Result<Vec<CosignerSigningKey>, ConfigError> {
        let mut keys: Vec<CosignerSigningKey> = Vec::new();
        for path in &self.keys {
            let text = read_text(path, KEYGEN)?;
            let parsed = text.trim_end().parse::<CosignerSigningKey>();
            let key = parsed.map_err(|error| wrong_value(path, "key", format!("{error}; {KEYGEN}")))?;
            if keys.iter().any(|other| is_same(other.key(), key.key())) {
                return Err(wrong_value(path, "key", "this key is named twice"));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

fn is_same(one: &CosignerKey, other: &CosignerKey) -> bool {
    (one.name(), one.key_id()) == (other.name(), other.key_id())
}

/// Checks a parsed file, and names it in errors.
struct ConfigChecker<'a> {
    path: &'a Path,
    audit: bool,
}

impl ConfigChecker<'_> {
    fn error(&self, at: impl ToString, why: impl ToString) -> ConfigError {
        wrong_value(self.path, at, why)
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        resolve(self.path, path)
    }

    fn config(&self, file: ConfigFile) -> Result<Config, ConfigError> {
        let keys: Vec<PathBuf> = file.key.into_vec().iter().map(|path| self.resolve(path)).collect();
        if keys.is_empty() {
            return Err(self.error("key", "name at least one file with a cosigner's secret key"));
        }
        let mut logs = BTreeMap::new();
        for log in file.log {
            let log = self.log(log)?;
            let origin = log.keys.origin().to_owned();
            if logs.insert(origin.clone(), log).is_some() {
                return Err(self.error("log", format!("{origin:?} is named twice: put all its keys into one [[log]]")));
            }
        }
        if logs.is_empty() {
            return Err(self.error("log", "name at least one log: [[log]] with its vkey"));
        }
        let (state, listen) = (self.resolve(&file.state), file.listen);
        Ok(Config { keys, state, listen, audit: self.audit, logs })
    }

    fn log(&self, log: LogSection) -> Result<LogConfig, ConfigError> {
        let keys = LogKeys::parse(&log.vkey.into_vec()).map_err(|why| self.error("log, vkey", why))?;
        if self.audit && log.url.is_none() {
            let why = format!("{:?}: an auditing cosigner needs the log's address", keys.origin());
            return Err(self.error("log, url", why));
        }
        if log.url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            return Err(self.error("log, url", "want an http or https address"));
        }
        Ok(LogConfig { keys, url: log.url })
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::{cosignature::Algorithm, note::SigningKey};

    use super::*;

    fn vkey(name: &str) -> String {
        SigningKey::from_seed(name, &[1; 32]).unwrap().verifier_key().to_string()
    }

    fn ml_dsa(name: &str) -> String {
        CosignerSigningKey::from_seed(name, Algorithm::MlDsa44, &[1; 32]).unwrap().key().to_string()
    }

    fn minimal() -> String {
        let vkey = vkey("log.example/a");
        format!("key = \"a.key\"\nstate = \"/var/state\"\nlisten = \"127.0.0.1:0\"\n[[log]]\nvkey = \"{vkey}\"\n")
    }

    fn parse(text: &str, audit: bool) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/taglog/cosigner.toml"), audit)
    }

    #[test]
    fn one_or_more_keys_and_logs_are_read() {
        let config = parse(&minimal(), false).unwrap();
        assert_eq!(config.keys, [Path::new("/etc/taglog/a.key")]);
        assert_eq!(config.state, Path::new("/var/state"));
        assert!(!config.audit && config.logs["log.example/a"].url.is_none());
        let more = format!(
            "{}[[log]]\nvkey = [{:?}, {:?}]\nurl = \"https://b\"\n",
            minimal().replace("\"a.key\"", "[\"a.key\", \"b.key\"]"),
            vkey("log.example/b"),
            ml_dsa("log.example/b")
        );
        let config = parse(&more, false).unwrap();
        assert_eq!((config.keys.len(), config.logs.len()), (2, 2));
    }

    #[test]
    fn invalid_values_are_rejected_with_their_place() {
        let with = |from: &str, to: &str| minimal().replace(from, to);
        let two_names = format!("[[log]]\nvkey = [{:?}, {:?}]", vkey("log.example/b"), ml_dsa("log.example/c"));
        for (text, audit, want) in [
            (with("\"a.key\"", "[]"), false, "at least one file"),
            (minimal().split("[[log]]").next().unwrap().to_owned(), false, "at least one log"),
            (with("log.example/a+", "log.example/b+"), false, "key id"),
            (minimal() + &format!("[[log]]\nvkey = [{:?}]", vkey("log.example/a")), false, "named twice"),
            (minimal() + &two_names, false, "one name"),
            (minimal() + "[[log]]\nvkey = []", false, "at least one key"),
            (minimal(), true, "needs the log's address"),
            (with("listen", "audit = true\nlisten"), false, "needs the log's address"),
            (minimal() + "url = \"ftp://x\"", false, "want an http"),
            (with("listen", "audits = true\nlisten"), false, "unknown field"),
            (with("127.0.0.1:0", "localhost"), false, "line 3"),
        ] {
            let message = parse(&text, audit).unwrap_err().to_string();
            assert!(message.contains(want) && message.contains("cosigner.toml"), "{want}: {message}");
        }
    }

    #[test]
    fn keys_are_read_from_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let key = CosignerSigningKey::from_seed("cosigner.example/a", Algorithm::Ed25519, &[1; 32]).unwrap();
        let witness = SigningKey::from_seed("cosigner.example/a", &[1; 32]).unwrap();
        write("a.key", &format!("{}\n", key.to_secret_string()));
        let parse = |text: &str| Config::parse(text, &directory.path().join("cosigner.toml"), false).unwrap();
        let one = parse(&minimal());
        assert_eq!(one.keys().unwrap()[0].key(), key.key());
        let twice = parse(&minimal().replace("\"a.key\"", "[\"a.key\", \"a.key\"]"));
        assert!(twice.keys().unwrap_err().to_string().contains("twice"));
        write("a.key", &witness.to_secret_string());
        let message = one.keys().unwrap_err().to_string();
        assert!(message.contains("keygen --cosigner") && !message.contains("PRIVATE+KEY+cosigner"), "{message}");
    }
}
