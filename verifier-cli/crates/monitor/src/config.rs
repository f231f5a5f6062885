//! `monitor.toml`: which log is audited, what people want to hear about, and how they hear it.
//!
//! [`Config::read`] gives a configuration that holds: every name, pattern, duration and address is checked there,
//! relative paths are resolved against the file's own directory, and nothing is asked over the network.

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
const MOST_ENTRIES: usize = 1000;
/// The most letters of a sink's name.
const LONGEST_NAME: usize = 64;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust file (c2sp.org/tlog-policy): which log, and which cosigners.
    pub trust: PathBuf,
    /// Where the log is, if not where the trust file says: an address or a directory.
    pub log: Option<String>,
    /// The directory of the auditor's state, the ledger and the evidence.
    pub state: PathBuf,
    /// Who else is asked what the log shows them: addresses or directories of mirrors, addresses of cosigners. The
    /// cosigners that the trust file has an address of are asked as well.
    pub compare: Vec<String>,
    /// Where metrics and health are served; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// How often the log is asked for a newer checkpoint.
    pub interval: Duration,
    /// Whose word counts; everybody's in the roster if empty.
    pub witnesses: Vec<WitnessId>,
    /// What must last how long before it is said.
    pub patience: Patience,
    /// What people want to hear about.
    pub watches: Vec<Watch>,
    /// How they hear it; at least one.
    pub sinks: Vec<SinkConfig>,
}

impl Config {
    /// Whether this witness's word counts.
    pub fn counts(&self, witness: &WitnessId) -> bool {
        self.witnesses.is_empty() || self.witnesses.contains(witness)
    }
}

/// What must last how long before it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// That witnesses disagree about a tag.
    pub disagreement: Duration,
    /// That a witness says nothing.
    pub silence: Duration,
    /// How old the log's newest word may be.
    pub staleness: Duration,
    /// That the log does not grow.
    pub frozenness: Duration,
    /// That the log cannot be reached.
    pub absence: Duration,
}

/// One way to hear alerts.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// What its state of delivery is kept under.
    pub name: String,
    /// Which kinds it gets; all if absent.
    pub kinds: Option<BTreeSet<AlertKind>>,
    /// Which way.
    pub way: Way,
}

impl SinkConfig {
    /// Whether it gets alerts of this kind.
    pub fn takes(&self, kind: AlertKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// How alerts leave.
#[derive(Clone, Debug)]
pub enum Way {
    /// As lines of JSON on standard output.
    Stdout,
    /// By HTTP.
    Webhook {
        /// Where; may hold a secret, so it is not shown.
        url: Url,
        /// What signs each alert.
        secret: Option<Secret>,
    },
    /// By a program that takes a message, as sendmail does.
    Mail {
        /// The program and its arguments.
        command: Vec<String>,
        /// The sender.
        from: Mailbox,
        /// The receivers.
        to: Vec<Mailbox>,
    },
    /// As an Atom feed in a file.
    Feed {
        /// The file.
        path: PathBuf,
        /// How many entries it has at most.
        entries: usize,
    },
}

impl Way {
    /// The word in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Way::Stdout => "stdout",
            Way::Webhook { .. } => "webhook",
            Way::Mail { .. } => "mail",
            Way::Feed { .. } => "feed",
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
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
    watch: Vec<WatchFile>,
    #[serde(default)]
    sink: Vec<SinkFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchFile {
    repository: String,
    #[serde(default = "every_tag")]
    tags: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default = "every_change")]
    alerts: Vec<Change>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Change {
    Retag,
    NewTag,
    Disagreement,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum SinkFile {
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

fn every_change() -> Vec<Change> {
    vec![Change::Retag, Change::NewTag, Change::Disagreement]
}

fn sendmail() -> Vec<String> {
    ["/usr/sbin/sendmail", "-t", "-i"].map(str::to_owned).to_vec()
}

fn a_hundred() -> usize {
    100
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read_text(path, "verifier-cli/docs/MONITOR.md shows one to start from")?, path)
    }

    /// Checks the text of a configuration file that is at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Toml`], [`ConfigError::Value`]; [`ConfigError::Read`] for a secret's file.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        Checker { path }.config(parse_toml(text, path)?)
    }
}

/// Turns what is written into what is meant; knows which file to name in errors.
struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn error(&self, at: impl ToString, why: impl ToString) -> ConfigError {
        wrong_value(self.path, at, why)
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        resolve(self.path, path)
    }

    fn config(&self, file: File) -> Result<Config, ConfigError> {
        let patience = self.patience(&file)?;
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
            patience,
            watches,
            sinks,
        })
    }

    fn patience(&self, file: &File) -> Result<Patience, ConfigError> {
        let named = [
            ("disagree-after", file.disagree_after),
            ("silent-after", file.silent_after),
            ("stale-after", file.stale_after),
            ("frozen-after", file.frozen_after),
            ("unreachable-after", file.unreachable_after),
        ];
        // Beyond this, sums with times overflow; nobody waits for a century.
        let sane = |duration: Duration| duration <= Duration::from_secs(100 * 365 * 86_400);
        match named.iter().find(|(_, seconds)| !sane(seconds.0)) {
            Some((name, _)) => Err(self.error(name, "want at most 36500d")),
            None => Ok(Patience {
                disagreement: file.disagree_after.0,
                silence: file.silent_after.0,
                staleness: file.stale_after.0,
                frozenness: file.frozen_after.0,
                absence: file.unreachable_after.0,
            }),
        }
    }

    /// A log's address as it is, a directory relative to the file.
    fn location(&self, log: String) -> String {
        match log.starts_with("http://") || log.starts_with("https://") {
            true => log,
            false => self.resolve(Path::new(&log)).display().to_string(),
        }
    }

    fn watch(&self, entry: &WatchFile) -> Result<Watch, ConfigError> {
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
            retag: entry.alerts.contains(&Change::Retag),
            new_tag: entry.alerts.contains(&Change::NewTag),
            disagreement: entry.alerts.contains(&Change::Disagreement),
        };
        if !wanted.any() {
            return Err(self.error(at("alerts"), "name at least one of retag, new-tag, disagreement"));
        }
        Ok(Watch { repository, tags: Selection { include, exclude, newest: None }, wanted })
    }

    fn sink(&self, entry: SinkFile) -> Result<SinkConfig, ConfigError> {
        let (name, kinds, way) = match entry {
            SinkFile::Stdout { name, alerts } => (name, alerts, Way::Stdout),
            SinkFile::Webhook { name, alerts, url, secret_file } => {
                (name, alerts, self.webhook(&url, secret_file.as_deref())?)
            }
            SinkFile::Mail { name, alerts, command, from, to } => (name, alerts, self.mail(command, &from, &to)?),
            SinkFile::Feed { name, alerts, path, entries } => (name, alerts, self.feed(&path, entries)?),
        };
        let name = name.unwrap_or_else(|| way.kind().to_owned());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
            return Err(
                self.error("sink, name", format!("{name:?}: want up to {LONGEST_NAME} of a-z, 0-9, -, _ and ."))
            );
        }
        if kinds.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(self.error(format!("sink {name}, alerts"), "name at least one kind, or leave it away for all"));
        }
        Ok(SinkConfig { name, kinds, way })
    }

    fn webhook(&self, url: &str, secret_file: Option<&Path>) -> Result<Way, ConfigError> {
        let at = "sink of kind webhook";
        let url = Url::parse(url).map_err(|error| self.error(format!("{at}, url"), error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(self.error(format!("{at}, url"), "want an address that begins with https:// or http://"));
        }
        let secret = secret_file.map(|file| {
            let text = read_text(&self.resolve(file), "write the webhook's secret into it")?;
            Secret::parse(&text).map_err(|why| self.error(format!("{at}, secret-file"), why))
        });
        Ok(Way::Webhook { url, secret: secret.transpose()? })
    }

    fn mail(&self, command: Vec<String>, from: &str, to: &[String]) -> Result<Way, ConfigError> {
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
        Ok(Way::Mail { command, from, to })
    }

    fn feed(&self, path: &Path, entries: usize) -> Result<Way, ConfigError> {
        if !(1..=MOST_ENTRIES).contains(&entries) {
            return Err(self.error("sink of kind feed, entries", format!("want 1 to {MOST_ENTRIES}")));
        }
        let path = self.resolve(path);
        if path.file_name().is_none() {
            return Err(self.error("sink of kind feed, path", "want a file"));
        }
        Ok(Way::Feed { path, entries })
    }

    fn sinks_together(&self, sinks: &[SinkConfig]) -> Result<(), ConfigError> {
        if sinks.is_empty() {
            return Err(self.error("sink", "name at least one: without, nobody hears anything"));
        }
        let mut names = HashSet::new();
        match sinks.iter().find(|sink| !names.insert(&sink.name)) {
            Some(sink) => Err(self.error(format!("sink {}", sink.name), "the name is taken: give each its own")),
            None => Ok(()),
        }
    }
}

/// One address, with a name before it or without. The parser takes one of several, and leaves the rest away.
fn parse_mailbox(text: &str) -> Result<Mailbox, String> {
    let mailbox = text.parse().ok();
    let is_one = text.matches('@').count() == 1 && !text.contains(char::is_control);
    mailbox.filter(|_| is_one).ok_or_else(|| "want one address, such as ops@example.org".to_owned())
}

#[cfg(test)]
mod tests;
