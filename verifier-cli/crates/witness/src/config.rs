//! `witness.toml`: what the witness watches, where it reports, and how often it polls.
//!
//! [`Config::read`] gives a configuration that holds: every name, pattern, duration and range is checked
//! there, relative paths are resolved against the file's own directory, and nothing is sent.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use taglog_proto::name::{Reference, Repository};

use super::push::{PushKind, PushSource, Secret, check_path};
use taglog_base::config_file::{ConfigError, Seconds, parse_toml, read_text, resolve, wrong_value};
use taglog_tag_selection::{Pattern, Selection};

/// The hint when there is no configuration.
const REMEDY: &str = "'taglog witness import' makes a watch list to start from";

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The witness's secret key.
    pub key: PathBuf,
    /// The directory of the spool, the remembered checkpoints and the evidence.
    pub state: PathBuf,
    /// Where metrics, health and pushes are served; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// The interval of confirmations.
    pub confirm: Duration,
    pub gone: GoneRule,
    /// The most bytes that the spool may take on disk.
    pub spool_limit: u64,
    /// How soon an acknowledged entry must be published, and how long a log may accept nothing before an alarm.
    pub publish_deadline: Duration,
    /// Where alarms are sent as JSON.
    pub alarm_webhook: Option<String>,
    /// The logs reported to; at least one.
    pub logs: Vec<ReportedLog>,
    /// Limits by registry (`host[:port]`).
    pub registries: BTreeMap<String, RegistryConfig>,
    /// What is watched; at least one, each repository once.
    pub watches: Vec<RepositoryWatch>,
    /// The senders of push notifications.
    pub pushes: Vec<PushSource>,
}

/// When a missing tag is reported as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneRule {
    /// Consecutive polls that must find nothing; at least 2.
    pub polls: u32,
    /// The least time between these polls.
    pub interval: Duration,
}

/// A log that is reported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedLog {
    /// Its trust file (c2sp.org/tlog-policy).
    pub trust: PathBuf,
    /// Its address, if not the one in the trust file.
    pub url: Option<String>,
}

/// Limits for one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryConfig {
    /// Without TLS; loopback always is.
    pub plain_http: bool,
    /// The most requests under way at once; 1 to 256.
    pub concurrency: usize,
    /// The most requests started in a second; 1 to 10,000.
    pub requests_per_second: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { plain_http: false, concurrency: 4, requests_per_second: 20 }
    }
}

/// One repository, and which of its tags are watched.
#[derive(Clone, Debug)]
pub struct RepositoryWatch {
    pub repository: Repository,
    pub selection: Selection,
    /// How often each tag is polled.
    pub interval: Interval,
    /// How often the tags are listed; only if a pattern needs it.
    pub list_interval: Duration,
    /// Whether stored credentials may be used, and what they give access to may be made public.
    pub private: bool,
}

/// How often a tag is polled: between `min` and `max`, which are equal where it does not adapt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// After a change.
    pub min: Duration,
    /// When nothing has changed for long.
    pub max: Duration,
}

/// The syntax of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WitnessFile {
    key: PathBuf,
    state: PathBuf,
    listen: Option<SocketAddr>,
    #[serde(default = "hourly")]
    interval: IntervalValue,
    #[serde(default = "one_hour")]
    list_interval: Seconds,
    #[serde(default = "one_day")]
    confirm: Seconds,
    #[serde(default = "three")]
    gone_looks: u32,
    #[serde(default = "five_minutes")]
    gone_interval: Seconds,
    #[serde(default = "one_gibibyte")]
    spool_limit_mib: u64,
    #[serde(default = "quarter_of_an_hour")]
    publish_deadline: Seconds,
    alarm_webhook: Option<String>,
    #[serde(default)]
    log: Vec<LogTable>,
    #[serde(default)]
    registry: BTreeMap<String, RegistryConfig>,
    #[serde(default)]
    watch: Vec<WatchTable>,
    #[serde(default)]
    push: Vec<PushTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    trust: PathBuf,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WatchTable {
    repository: String,
    tags: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    newest: Option<usize>,
    interval: Option<IntervalValue>,
    list_interval: Option<Seconds>,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PushTable {
    kind: PushKind,
    registry: String,
    path: Option<String>,
    secret_file: Option<PathBuf>,
}

/// `"1h"`, or `{ min = "5m", max = "12h" }`.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "want a duration such as \"1h\", or { min = \"5m\", max = \"12h\" }")]
enum IntervalValue {
    Fixed(Seconds),
    Adaptive { min: Seconds, max: Seconds },
}

fn hourly() -> IntervalValue {
    IntervalValue::Fixed(one_hour())
}

fn one_hour() -> Seconds {
    Seconds(Duration::from_secs(3600))
}

fn one_day() -> Seconds {
    Seconds(Duration::from_secs(86_400))
}

fn five_minutes() -> Seconds {
    Seconds(Duration::from_secs(300))
}

fn quarter_of_an_hour() -> Seconds {
    Seconds(Duration::from_secs(900))
}

fn three() -> u32 {
    3
}

fn one_gibibyte() -> u64 {
    1024
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read_text(path, REMEDY)?, path)
    }

    /// Checks the text of a configuration file that is at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Toml`], [`ConfigError::Value`]; [`ConfigError::Read`] for a secret's file.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        ConfigChecker { path }.config(parse_toml(text, path)?)
    }

    /// Reads only the key `state`: whoever runs `status` need not be able to read the secrets that the file names.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::Toml`].
    pub fn read_state(path: &Path) -> Result<PathBuf, ConfigError> {
        #[derive(Deserialize)]
        struct WitnessFile {
            state: PathBuf,
        }
        let file: WitnessFile = parse_toml(&read_text(path, REMEDY)?, path)?;
        Ok(resolve(path, &file.state))
    }

    pub fn registry(&self, host: &str) -> RegistryConfig {
        self.registries.get(host).copied().unwrap_or_default()
    }
}

/// Checks and converts the file; `path` is named in errors.
struct ConfigChecker<'a> {
    path: &'a Path,
}

impl ConfigChecker<'_> {
    fn error(&self, at: impl ToString, why: impl ToString) -> ConfigError {
        wrong_value(self.path, at, why)
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        resolve(self.path, path)
    }

    fn config(&self, file: WitnessFile) -> Result<Config, ConfigError> {
        self.ranges(&file)?;
        let interval = self.interval("interval", file.interval)?;
        let watch = |entry: &WatchTable| self.watch(entry, interval, file.list_interval.0);
        let watches = file.watch.iter().map(watch).collect::<Result<Vec<_>, _>>()?;
        self.each_repository_once(&watches)?;
        let pushes = file.push.iter().map(|entry| self.push(entry, file.listen)).collect::<Result<Vec<_>, _>>()?;
        self.each_path_once(&pushes)?;
        let logs = file.log.into_iter();
        let logs = logs.map(|log| ReportedLog { trust: self.resolve(&log.trust), url: log.url }).collect();
        Ok(Config {
            key: self.resolve(&file.key),
            state: self.resolve(&file.state),
            listen: file.listen,
            confirm: file.confirm.0,
            gone: GoneRule { polls: file.gone_looks, interval: file.gone_interval.0 },
            spool_limit: file.spool_limit_mib << 20,
            publish_deadline: file.publish_deadline.0,
            alarm_webhook: file.alarm_webhook,
            logs,
            registries: file.registry,
            watches,
            pushes,
        })
    }

    fn ranges(&self, file: &WitnessFile) -> Result<(), ConfigError> {
        let at_least_a_second = |duration: Seconds| duration.0 >= Duration::from_secs(1);
        let webhook_is_http = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        let checks = [
            (!file.log.is_empty(), "log", "name at least one log: [[log]] with its trust file"),
            (!file.watch.is_empty(), "watch", "watch at least one repository: [[watch]] with repository and tags"),
            ((2..=100).contains(&file.gone_looks), "gone-looks", "want 2 to 100: one 404 is not yet gone"),
            (at_least_a_second(file.gone_interval), "gone-interval", "want at least 1s"),
            (at_least_a_second(file.list_interval), "list-interval", "want at least 1s"),
            (at_least_a_second(file.confirm), "confirm", "want at least 1s"),
            (at_least_a_second(file.publish_deadline), "publish-deadline", "want at least 1s"),
            ((1..=1_048_576).contains(&file.spool_limit_mib), "spool-limit-mib", "want 1 to 1048576"),
            (file.alarm_webhook.as_ref().is_none_or(webhook_is_http), "alarm-webhook", "want an http or https address"),
        ];
        if let Some((_, at, why)) = checks.into_iter().find(|(holds, ..)| !holds) {
            return Err(self.error(at, why));
        }
        for (host, registry) in &file.registry {
            let at = format!("registry.{host:?}");
            if Repository::parse(&format!("{host}/a/b")).is_err() {
                return Err(self.error(at, "want host[:port] as in the names of repositories, such as \"docker.io\""));
            }
            if !(1..=256).contains(&registry.concurrency) {
                return Err(self.error(at, "concurrency: want 1 to 256"));
            }
            if !(1..=10_000).contains(&registry.requests_per_second) {
                return Err(self.error(at, "requests-per-second: want 1 to 10000"));
            }
        }
        Ok(())
    }

    fn interval(&self, at: &str, interval: IntervalValue) -> Result<Interval, ConfigError> {
        let (min, max) = match interval {
            IntervalValue::Fixed(Seconds(interval)) => (interval, interval),
            IntervalValue::Adaptive { min, max } => (min.0, max.0),
        };
        if min < Duration::from_secs(1) || max < min {
            return Err(self.error(at, "want at least 1s, and max not below min"));
        }
        Ok(Interval { min, max })
    }

    fn watch(
        &self,
        entry: &WatchTable,
        interval: Interval,
        list_interval: Duration,
    ) -> Result<RepositoryWatch, ConfigError> {
        let at = |key: &str| format!("watch of {:?}, {key}", entry.repository);
        let reference = Reference::parse(&entry.repository).map_err(|error| self.error(at("repository"), error))?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(self.error(at("repository"), "name the repository alone; its tags go into 'tags'"));
        }
        let patterns = |key: &str, texts: &[String]| {
            let parse = |text: &String| Pattern::parse(text).map_err(|why| self.error(at(key), why));
            texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        let selection = Selection {
            include: patterns("tags", &entry.tags)?,
            exclude: patterns("exclude", &entry.exclude)?,
            newest: entry.newest,
        };
        if selection.include.is_empty() {
            return Err(self.error(at("tags"), "name at least one tag or pattern, such as \"latest\" or \"glob:1.*\""));
        }
        if entry.newest == Some(0) {
            return Err(self.error(at("newest"), "want at least 1"));
        }
        let interval = match entry.interval {
            Some(own) => self.interval(&at("interval"), own)?,
            None => interval,
        };
        let list_interval = entry.list_interval.map_or(list_interval, |own| own.0);
        if list_interval < Duration::from_secs(1) {
            return Err(self.error(at("list-interval"), "want at least 1s"));
        }
        let repository = reference.repository;
        Ok(RepositoryWatch { repository, selection, interval, list_interval, private: entry.private })
    }

    fn each_repository_once(&self, watches: &[RepositoryWatch]) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        match watches.iter().find(|watch| !seen.insert(&watch.repository)) {
            Some(watch) => Err(self
                .error(format!("watch of {}", watch.repository), "watched twice: put all its tags in one [[watch]]")),
            None => Ok(()),
        }
    }

    fn push(&self, entry: &PushTable, listen: Option<SocketAddr>) -> Result<PushSource, ConfigError> {
        let at = format!("push from {:?}", entry.registry);
        let Some(listen) = listen else {
            return Err(self.error(at, "pushes need 'listen', the address where they are taken"));
        };
        if Repository::parse(&format!("{}/a/b", entry.registry)).is_err() {
            return Err(self.error(at, "registry: want host[:port] as in the names of repositories"));
        }
        let path = entry.path.clone().unwrap_or_else(|| entry.kind.default_path().to_owned());
        check_path(&path).map_err(|why| self.error(&at, format!("path: {why}")))?;
        if !path.starts_with("/push/") {
            return Err(self.error(at, "path: must begin with /push/; other paths are the agent's own"));
        }
        let secret = entry.secret_file.as_deref().map(|file| self.secret(&at, file)).transpose()?;
        if secret.is_none() && !listen.ip().is_loopback() {
            return Err(self.error(at, "secret-file: whoever is not on this machine must know a secret"));
        }
        Ok(PushSource { kind: entry.kind, registry: entry.registry.clone(), path, secret })
    }

    fn secret(&self, at: &str, file: &Path) -> Result<Secret, ConfigError> {
        let path = self.resolve(file);
        Secret::new(&read_text(&path, "write the secret that the sender knows into it")?)
            .map_err(|why| self.error(at, format!("secret-file: {why}")))
    }

    fn each_path_once(&self, pushes: &[PushSource]) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        match pushes.iter().find(|push| !seen.insert(&push.path)) {
            Some(push) => {
                Err(self.error(format!("push from {:?}", push.registry), format!("path {} is taken", push.path)))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        key = "witness.key"
        state = "/var/lib/taglog-witness"
        [[log]]
        trust = "trust"
        [[watch]]
        repository = "busybox"
        tags = ["latest"]
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/taglog/witness.toml"))
    }

    #[test]
    fn missing_keys_have_defaults() {
        let config = parse(MINIMAL).unwrap();
        assert_eq!(config.key, Path::new("/etc/taglog/witness.key"));
        assert_eq!(config.state, Path::new("/var/lib/taglog-witness"));
        assert_eq!(config.watches[0].repository.as_str(), "docker.io/library/busybox");
        let hour = Duration::from_secs(3600);
        assert_eq!(config.watches[0].interval, Interval { min: hour, max: hour });
        assert_eq!(config.confirm, 24 * hour);
        assert_eq!(config.gone, GoneRule { polls: 3, interval: Duration::from_secs(300) });
        assert_eq!(config.registry("docker.io"), RegistryConfig::default());
        assert!(!config.watches[0].private && config.pushes.is_empty());
    }

    #[test]
    fn the_state_directory_is_read_without_the_secrets() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("witness.toml");
        let push = "[[push]]\nkind = \"harbor\"\nregistry = \"r.example\"\nsecret-file = \"nowhere\"";
        let text = format!("listen = \"127.0.0.1:0\"\n{MINIMAL}\n{push}").replace("/var/lib/taglog-witness", "state");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(Config::read(&path), Err(ConfigError::Read { path, .. }) if path.ends_with("nowhere")));
        assert_eq!(Config::read_state(&path).unwrap(), home.path().join("state"));
        std::fs::write(&path, "state = 1").unwrap();
        assert!(matches!(Config::read_state(&path), Err(ConfigError::Toml { .. })));
    }

    #[test]
    fn invalid_values_are_refused_with_their_place() {
        let with = |from: &str, to: &str| MINIMAL.replace(from, to);
        let top = |line: &str| format!("{line}\n{MINIMAL}");
        let more = |lines: &str| format!("{MINIMAL}\n{lines}");
        for (text, want) in [
            (with("[[log]]\n        trust = \"trust\"", ""), "log: name at least one"),
            (with("\"busybox\"", "\"busybox:1\""), "its tags go into 'tags'"),
            (with("\"busybox\"", "\"Busybox\""), "watch of \"Busybox\", repository"),
            (with("[\"latest\"]", "[]"), "at least one tag"),
            (with("[\"latest\"]", "[\"regex:(\"]"), "tags"),
            (with("[\"latest\"]", "[\"latest\"]\nnewest = 0"), "newest"),
            (more("[[watch]]\nrepository = \"docker.io/library/busybox\"\ntags = [\"1\"]"), "watched twice"),
            (top("gone-looks = 1"), "one 404 is not yet gone"),
            (top("interval = \"soon\""), "line 1"),
            (top("interval = { min = \"2h\", max = \"1h\" }"), "max not below min"),
            (top("intervall = \"1h\""), "unknown field"),
            (top("alarm-webhook = \"mailto:x\""), "alarm-webhook"),
            (more("[registry.\"https://x\"]\nconcurrency = 1"), "host[:port]"),
            (more("[registry.\"docker.io\"]\nconcurrency = 0"), "concurrency"),
            (more("[[push]]\nkind = \"harbor\"\nregistry = \"r.example\""), "need 'listen'"),
            (top("listen = \"0.0.0.0:1\"") + "\n[[push]]\nkind = \"harbor\"\nregistry = \"r.example\"", "secret"),
        ] {
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(want) && message.contains("witness.toml"), "{want}: {message}");
        }
    }
}
