//! `monitor.toml`: which log is audited, which tags are watched, and where alerts are delivered.
//!
//! [`Config::read`] checks every name, pattern, duration and address, and resolves relative paths against the file's
//! directory. It uses no network.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use lettre::message::Mailbox;
use reqwest::Url;
use serde::Deserialize;
use taglog_proto::name::WitnessId;

use super::{
    alert::AlertKind,
    watches::{RepositoryPattern, Wanted, Watch},
    webhook_secret::Secret,
};
use taglog_base::config_file::{ConfigError, Seconds, parse_toml, read_text, resolve, wrong_value};
use taglog_tag_selection::{Pattern, Selection};

/// The most entries of a feed.
const MAX_FEED_ENTRIES: usize = 1000;
/// The most characters of a sink's name.
const MAX_NAME: usize = 64;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust file (c2sp.org/tlog-policy): which log, and which cosigners.
    pub trust: PathBuf,
    /// The address or directory of the log, if it differs from the trust file.
    pub log: Option<String>,
    /// The directory of the auditor's state, the alert store and the evidence.
    pub state: PathBuf,
    /// Where the log's checkpoint is compared: addresses or directories of mirrors, and addresses of cosigners.
    /// Cosigners that have an address in the trust file are added.
    pub compare: Vec<String>,
    /// The address of the HTTP interface; none if absent.
    pub listen: Option<SocketAddr>,
    /// How often the log is asked for a newer checkpoint.
    pub interval: Duration,
    /// The witnesses whose entries are evaluated; all of the roster if empty.
    pub witnesses: Vec<WitnessId>,
    pub delays: AlertDelays,
    pub watches: Vec<Watch>,
    /// At least one.
    pub sinks: Vec<SinkConfig>,
}

impl Config {
    /// Whether the entries of this witness are evaluated.
    pub fn counts(&self, witness: &WitnessId) -> bool {
        self.witnesses.is_empty() || self.witnesses.contains(witness)
    }
}

/// How long a condition must hold before an alert is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertDelays {
    /// Witnesses disagree about a tag.
    pub disagreement: Duration,
    /// A witness submits nothing.
    pub silence: Duration,
    /// The newest checkpoint is old.
    pub staleness: Duration,
    /// The log does not grow.
    pub frozenness: Duration,
    /// The log cannot be reached.
    pub unreachable: Duration,
}

#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The name under which the state of its deliveries is stored.
    pub name: String,
    /// The kinds of alerts that it gets; all if absent.
    pub kinds: Option<BTreeSet<AlertKind>>,
    pub target: SinkTarget,
}

impl SinkConfig {
    /// Whether it gets alerts of this kind.
    pub fn takes(&self, kind: AlertKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// Where alerts are delivered.
#[derive(Clone, Debug)]
pub enum SinkTarget {
    /// Lines of JSON on standard output.
    Stdout,
    Webhook {
        /// May contain a secret, so it is not shown in messages.
        url: Url,
        /// The key that signs each alert.
        secret: Option<Secret>,
    },
    /// A program with the interface of sendmail.
    Mail {
        /// The program and its arguments.
        command: Vec<String>,
        from: Mailbox,
        to: Vec<Mailbox>,
    },
    /// An Atom feed in a file.
    Feed {
        path: PathBuf,
        /// The most entries.
        entries: usize,
    },
}

impl SinkTarget {
    /// The value of `kind` in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            SinkTarget::Stdout => "stdout",
            SinkTarget::Webhook { .. } => "webhook",
            SinkTarget::Mail { .. } => "mail",
            SinkTarget::Feed { .. } => "feed",
        }
    }
}

/// The file as it is parsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    trust: PathBuf,
    log: Option<String>,
    state: PathBuf,
    #[serde(default)]
    compare: Vec<String>,
    listen: Option<SocketAddr>,
    #[serde(default = "minutes::<1>")]
    interval: Seconds,
    #[serde(default)]
    witnesses: Vec<String>,
    #[serde(default = "hours::<24>")]
    disagree_after: Seconds,
    #[serde(default = "hours::<48>")]
    silent_after: Seconds,
    #[serde(default = "hours::<1>")]
    stale_after: Seconds,
    #[serde(default = "hours::<1>")]
    frozen_after: Seconds,
    #[serde(default = "minutes::<15>")]
    unreachable_after: Seconds,
    #[serde(default)]
    watch: Vec<WatchSection>,
    #[serde(default)]
    sink: Vec<SinkSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchSection {
    repository: String,
    #[serde(default = "every_tag")]
    tags: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default = "every_change")]
    alerts: Vec<WatchedChange>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum WatchedChange {
    Retag,
    NewTag,
    Disagreement,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum SinkSection {
    Stdout {
        name: Option<String>,
        alerts: Option<BTreeSet<AlertKind>>,
    },
    Webhook {
        name: Option<String>,
        alerts: Option<BTreeSet<AlertKind>>,
        url: String,
        secret_file: Option<PathBuf>,
    },
    Mail {
        name: Option<String>,
        alerts: Option<BTreeSet<AlertKind>>,
        #[serde(default = "sendmail")]
        command: Vec<String>,
        from: String,
        to: Vec<String>,
    },
    Feed {
        name: Option<String>,
        alerts: Option<BTreeSet<AlertKind>>,
        path: PathBuf,
        #[serde(default = "a_hundred")]
        entries: usize,
    },
}

fn minutes<const N: u64>() -> Seconds {
    Seconds(Duration::from_secs(N * 60))
}

fn hours<const N: u64>() -> Seconds {
    Seconds(Duration::from_secs(N * 3600))
}

fn every_tag() -> Vec<String> {
    vec!["glob:*".to_owned()]
}

fn every_change() -> Vec<WatchedChange> {
    vec![WatchedChange::Retag, WatchedChange::NewTag, WatchedChange::Disagreement]
}

fn sendmail() -> Vec<String> {
    ["/usr/sbin/sendmail", "-t", "-i"].map(str::to_owned).to_vec()
}

fn a_hundred() -> usize {
    100
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read_text(path, "verifier-cli/docs/MONITOR.md shows one to start from")?, path)
    }

    /// Parses and checks the text of a configuration file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Toml`], [`ConfigError::Value`]; [`ConfigError::Read`] for a secret's file.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        ConfigChecker { path }.config(parse_toml(text, path)?)
    }
}

/// Checks a parsed file, and names it in errors.
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

    fn config(&self, file: ConfigFile) -> Result<Config, ConfigError> {
        let delays = self.delays(&file)?;
        if file.interval.0 < Duration::from_secs(1) {
            return Err(self.error("interval", "want at least 1s"));
        }
        let witness = |text: &String| WitnessId::parse(text).map_err(|error| self.error("witnesses", error));
        let watches = file.watch.iter().map(|entry| self.watch(entry)).collect::<Result<Vec<_>, _>>()?;
        let sinks = file.sink.into_iter().map(|entry| self.sink(entry)).collect::<Result<Vec<_>, _>>()?;
        self.sinks_together(&sinks)?;
        Ok(Config {
            trust: self.resolve(&file.trust),
            log: file.log.map(|log| self.location(log)),
            compare: file.compare.into_iter().map(|other| self.location(other)).collect(),
            state: self.resolve(&file.state),
            listen: file.listen,
            interval: file.interval.0,
            witnesses: file.witnesses.iter().map(witness).collect::<Result<_, _>>()?,
            delays,
            watches,
            sinks,
        })
    }

    fn delays(&self, file: &ConfigFile) -> Result<AlertDelays, ConfigError> {
        let named = [
            ("disagree-after", file.disagree_after),
            ("silent-after", file.silent_after),
            ("stale-after", file.stale_after),
            ("frozen-after", file.frozen_after),
            ("unreachable-after", file.unreachable_after),
        ];
        // Larger values would overflow when they are added to times.
        let sane = |duration: Duration| duration <= Duration::from_secs(100 * 365 * 86_400);
        match named.iter().find(|(_, seconds)| !sane(seconds.0)) {
            Some((name, _)) => Err(self.error(name, "want at most 36500d")),
            None => Ok(AlertDelays {
                disagreement: file.disagree_after.0,
                silence: file.silent_after.0,
                staleness: file.stale_after.0,
                frozenness: file.frozen_after.0,
                unreachable: file.unreachable_after.0,
            }),
        }
    }

    /// An address unchanged, or a directory resolved relative to the file.
    fn location(&self, log: String) -> String {
        match log.starts_with("http://") || log.starts_with("https://") {
            true => log,
            false => self.resolve(Path::new(&log)).display().to_string(),
        }
    }

    fn watch(&self, entry: &WatchSection) -> Result<Watch, ConfigError> {
        let at = |key: &str| format!("watch of {:?}, {key}", entry.repository);
        let repository =
            RepositoryPattern::parse(&entry.repository).map_err(|why| self.error(at("repository"), why))?;
        let patterns = |key: &str, texts: &[String]| {
            texts
                .iter()
                .map(|text| Pattern::parse(text))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|why| self.error(at(key), why))
        };
        let (include, exclude) = (patterns("tags", &entry.tags)?, patterns("exclude", &entry.exclude)?);
        if include.is_empty() {
            return Err(self.error(at("tags"), "name at least one tag or pattern, or leave it away for all tags"));
        }
        let wanted = Wanted {
            retag: entry.alerts.contains(&WatchedChange::Retag),
            new_tag: entry.alerts.contains(&WatchedChange::NewTag),
            disagreement: entry.alerts.contains(&WatchedChange::Disagreement),
        };
        if !wanted.any() {
            return Err(self.error(at("alerts"), "name at least one of retag, new-tag, disagreement"));
        }
        Ok(Watch { repository, tags: Selection { include, exclude, newest: None }, wanted })
    }

    fn sink(&self, entry: SinkSection) -> Result<SinkConfig, ConfigError> {
        let (name, kinds, target) = match entry {
            SinkSection::Stdout { name, alerts } => (name, alerts, SinkTarget::Stdout),
            SinkSection::Webhook { name, alerts, url, secret_file } => {
                (name, alerts, self.webhook(&url, secret_file.as_deref())?)
            }
            SinkSection::Mail { name, alerts, command, from, to } => (name, alerts, self.mail(command, &from, &to)?),
            SinkSection::Feed { name, alerts, path, entries } => (name, alerts, self.feed(&path, entries)?),
        };
        let name = name.unwrap_or_else(|| target.kind().to_owned());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            return Err(self.error("sink, name", format!("{name:?}: want up to {MAX_NAME} of a-z, 0-9, -, _ and .")));
        }
        if kinds.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(self.error(format!("sink {name}, alerts"), "name at least one kind, or leave it away for all"));
        }
        Ok(SinkConfig { name, kinds, target })
    }

    fn webhook(&self, url: &str, secret_file: Option<&Path>) -> Result<SinkTarget, ConfigError> {
        let at = "sink of kind webhook";
        let url = Url::parse(url).map_err(|error| self.error(format!("{at}, url"), error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(self.error(format!("{at}, url"), "want an address that begins with https:// or http://"));
        }
        let secret = secret_file.map(|file| {
            let text = read_text(&self.resolve(file), "write the webhook's secret into it")?;
            Secret::parse(&text).map_err(|why| self.error(format!("{at}, secret-file"), why))
        });
        Ok(SinkTarget::Webhook { url, secret: secret.transpose()? })
    }

    fn mail(&self, command: Vec<String>, from: &str, to: &[String]) -> Result<SinkTarget, ConfigError> {
        let at = |key: &str| format!("sink of kind mail, {key}");
        if command.first().is_none_or(String::is_empty) {
            return Err(self.error(at("command"), "name a program, such as [\"/usr/sbin/sendmail\", \"-t\", \"-i\"]"));
        }
        let mailbox =
            |key: &str, text: &str| parse_mailbox(text).map_err(|why| self.error(at(key), format!("{text:?}: {why}")));
        let from = mailbox("from", from)?;
        let to = to.iter().map(|text| mailbox("to", text)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(self.error(at("to"), "name at least one receiver"));
        }
        Ok(SinkTarget::Mail { command, from, to })
    }

    fn feed(&self, path: &Path, entries: usize) -> Result<SinkTarget, ConfigError> {
        if !(1..=MAX_FEED_ENTRIES).contains(&entries) {
            return Err(self.error("sink of kind feed, entries", format!("want 1 to {MAX_FEED_ENTRIES}")));
        }
        let path = self.resolve(path);
        if path.file_name().is_none() {
            return Err(self.error("sink of kind feed, path", "want a file"));
        }
        Ok(SinkTarget::Feed { path, entries })
    }

    fn sinks_together(&self, sinks: &[SinkConfig]) -> Result<(), ConfigError> {
        if sinks.is_empty() {
            return Err(self.error("sink", "name at least one: without a sink, no alert is delivered"));
        }
        let mut names = HashSet::new();
        match sinks.iter().find(|sink| !names.insert(&sink.name)) {
            Some(sink) => Err(self.error(format!("sink {}", sink.name), "the name is taken: give each its own")),
            None => Ok(()),
        }
    }
}

/// Parses one address, with or without a display name. The parser itself would accept a list and drop all but one
/// address.
fn parse_mailbox(text: &str) -> Result<Mailbox, String> {
    let mailbox = text.parse().ok();
    let is_one = text.matches('@').count() == 1 && !text.contains(char::is_control);
    mailbox.filter(|_| is_one).ok_or_else(|| "want one address, such as ops@example.org".to_owned())
}

#[cfg(test)]
mod tests;
