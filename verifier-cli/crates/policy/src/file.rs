//! `taglog.toml`: trusted witnesses, names of mirrored images in the log, and rules.
//!
//! [`read`] checks every name, pattern, duration and date, and resolves relative paths against the directory of the
//! file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Read as _,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use taglog_proto::{
    name::{Image, WitnessId},
    time::Timestamp,
};
use toml::Spanned;

use crate::{
    demands::{Expectation, Ignore, TrustedWitness},
    exclude::{Exclusion, ExclusionToml},
    mirrors::Mirrors,
    pattern::{RepositoryPattern, TagPattern},
    profiles::line_at,
};
use taglog_base::config_file::{ConfigError, Seconds, parse_toml, resolve, wrong_value};

/// The largest policy file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
const MAX_RULES: usize = 10_000;

/// The content of a policy file.
#[derive(Clone, Debug)]
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    pub(super) trust: Option<PathBuf>,
    pub(super) profiles: bool,
    /// How many witnesses must agree, and the line of the file.
    pub(super) agree: Option<(usize, usize)>,
    pub(super) trusted: Vec<TrustedWitness>,
    /// The line at which the list of trusted witnesses begins; 0 if there is none.
    pub(super) trusted_line: usize,
    pub(super) mirrors: Mirrors,
    pub(super) rules: Vec<Rule>,
    pub(super) exclusions: Vec<Exclusion>,
}

/// One `[[rule]]`: which images it matches, and what it sets for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// An image matches if one of these matches its repository,
    pub repositories: Vec<RepositoryPattern>,
    /// and one of these its tag; every tag if empty.
    #[serde(default)]
    pub tags: Vec<TagPattern>,
    /// Whether the tags may move.
    pub expect: Option<Expectation>,
    pub(super) min_age: Option<Seconds>,
    pub(super) max_age: Option<Seconds>,
    pub(super) freshness: Option<Seconds>,
    pub(super) agree: Option<NonZeroU16>,
    /// The exception for these images.
    pub ignore: Option<Ignore>,
    /// The line of the file at which the rule begins, counted from 1.
    #[serde(skip)]
    pub line: usize,
}

impl Rule {
    /// Whether it applies to this image, by its name in the log.
    pub fn matches(&self, logged: &Image) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(&logged.repository))
            && (self.tags.is_empty() || self.tags.iter().any(|pattern| pattern.matches(&logged.tag)))
    }

    /// The names of the keys that it sets.
    pub fn keys(&self) -> BTreeSet<&'static str> {
        let keys = [
            ("expect", self.expect.is_some()),
            ("min-age", self.min_age.is_some()),
            ("max-age", self.max_age.is_some()),
            ("freshness", self.freshness.is_some()),
            ("agree", self.agree.is_some()),
            ("ignore", self.ignore.is_some()),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    /// Whether it certainly matches every image that the other rule matches.
    pub fn covers(&self, other: &Rule) -> bool {
        let repositories = |theirs: &RepositoryPattern| self.repositories.iter().any(|own| own.covers(theirs));
        let tags = |theirs: &TagPattern| self.tags.iter().any(|own| own.covers(theirs));
        let all_tags = self.tags.is_empty() || (!other.tags.is_empty() && other.tags.iter().all(tags));
        other.repositories.iter().all(repositories) && all_tags
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileToml {
    trust: Option<PathBuf>,
    #[serde(default = "yes")]
    profiles: bool,
    #[serde(default)]
    witnesses: WitnessesToml,
    #[serde(default)]
    mirrors: BTreeMap<String, String>,
    #[serde(default)]
    rule: Vec<Spanned<Rule>>,
    #[serde(default)]
    exclude: Vec<Spanned<ExclusionToml>>,
}

fn yes() -> bool {
    true
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessesToml {
    agree: Option<Spanned<NonZeroU16>>,
    trusted: Option<Spanned<Vec<TrustedWitness>>>,
}

/// Reads a policy file.
pub(super) fn read(path: &Path) -> Result<PolicyFile, ConfigError> {
    parse(&read_bounded(path)?, path)
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let remedy = "verifier-cli/docs/POLICY.md describes the policy file; --policy none uses no file";
    let fault = |error| ConfigError::Read { path: path.to_owned(), error, remedy };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault(std::io::Error::other(format!("it is larger than {MAX_BYTES} bytes"))));
    }
    Ok(text)
}

/// Parses the text of the file at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<PolicyFile, ConfigError> {
    // Some editors write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: FileToml = parse_toml(text, path)?;
    let wrong = |at: &str, why: String| wrong_value(path, at, why);
    let trusted_line = file.witnesses.trusted.as_ref().map_or(0, |trusted| line_at(text, trusted.span().start));
    let trusted = file.witnesses.trusted.map(Spanned::into_inner).unwrap_or_default();
    check_trusted(&trusted).map_err(|why| wrong("witnesses.trusted", why))?;
    let agree = file.witnesses.agree.map(|agree| (agree.get_ref().get().into(), line_at(text, agree.span().start)));
    if let Some((agree, line)) = agree {
        check_agree(agree, &trusted).map_err(|why| wrong(&format!("line {line}: witnesses.agree"), why))?;
    }
    if file.rule.len() > MAX_RULES {
        return Err(wrong("rule", format!("there are {} rules, and {MAX_RULES} are allowed", file.rule.len())));
    }
    let mut rules = Vec::new();
    for (number, spanned) in (1..).zip(file.rule) {
        let line = line_at(text, spanned.span().start);
        let rule = Rule { line, ..spanned.into_inner() };
        check_rule(&rule, &trusted).map_err(|why| wrong(&format!("line {line}: rule {number}"), why))?;
        rules.push(rule);
    }
    if file.exclude.len() > MAX_RULES {
        return Err(wrong("exclude", format!("there are {}, and {MAX_RULES} are allowed", file.exclude.len())));
    }
    let mut exclusions = Vec::new();
    for spanned in file.exclude {
        let line = line_at(text, spanned.span().start);
        let exclusion = spanned.into_inner().checked(line);
        exclusions.push(exclusion.map_err(|why| wrong(&format!("line {line}: exclude"), why))?);
    }
    let mirrors = Mirrors::parse(file.mirrors).map_err(|why| wrong("mirrors", why))?;
    let trust = file.trust.map(|trust| resolve(path, &trust));
    let path = path.to_owned();
    Ok(PolicyFile { path, trust, profiles: file.profiles, agree, trusted, trusted_line, mirrors, rules, exclusions })
}

fn check_trusted(trusted: &[TrustedWitness]) -> Result<(), String> {
    let mut known = BTreeSet::new();
    match trusted.iter().find(|witness| !known.insert(&witness.id)) {
        Some(twice) => Err(format!("{} is named twice", twice.id)),
        None => Ok(()),
    }
}

fn check_agree(agree: usize, trusted: &[TrustedWitness]) -> Result<(), String> {
    if trusted.is_empty() || agree <= trusted.len() {
        return Ok(());
    }
    Err(format!("agree = {agree}, but only {} witnesses are trusted: nothing could ever pass", trusted.len()))
}

fn check_rule(rule: &Rule, trusted: &[TrustedWitness]) -> Result<(), String> {
    if rule.repositories.is_empty() {
        return Err("'repositories' is empty; [\"**\"] means all".to_owned());
    }
    if rule.keys().is_empty() {
        return Err("the rule sets nothing: set expect, min-age, max-age, freshness, agree or ignore".to_owned());
    }
    rule.agree.map_or(Ok(()), |agree| check_agree(agree.get().into(), trusted))
}

impl<'de> Deserialize<'de> for TrustedWitness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            id: String,
            until: Option<Until>,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a log index, or { \"origin of a log\" = index in it }")]
        enum Until {
            Index(u64),
            InLogs(BTreeMap<String, u64>),
        }
        struct IdOrTable;
        impl<'de> Visitor<'de> for IdOrTable {
            type Value = TrustedWitness;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(
                    "a witness id such as \"witness.example/ams-1+5f0bbd1a\", or { id = \"…\", until = 120000 }",
                )
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<TrustedWitness, E> {
                Ok(TrustedWitness::new(WitnessId::parse(id).map_err(E::custom)?, None))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TrustedWitness, A::Error> {
                let Table { id, until } = Table::deserialize(MapAccessDeserializer::new(map))?;
                let id = WitnessId::parse(&id).map_err(de::Error::custom)?;
                match until {
                    None => Ok(TrustedWitness::new(id, None)),
                    Some(Until::Index(until)) => Ok(TrustedWitness::new(id, Some(until))),
                    Some(Until::InLogs(logs)) if logs.is_empty() => Err(de::Error::custom("'until' names no log")),
                    Some(Until::InLogs(logs)) => Ok(TrustedWitness::until_in(id, logs)),
                }
            }
        }
        deserializer.deserialize_any(IdOrTable)
    }
}

impl<'de> Deserialize<'de> for Ignore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct IgnoreToml {
            reason: String,
            until: toml::Value,
        }
        let IgnoreToml { reason, until } = IgnoreToml::deserialize(deserializer)?;
        Ignore::parse(&reason, &until).map_err(de::Error::custom)
    }
}

impl Ignore {
    /// A reason and a day, as they are written.
    pub(super) fn parse(reason: &str, until: &toml::Value) -> Result<Ignore, String> {
        let until = match until {
            toml::Value::String(text) => day(text),
            toml::Value::Datetime(date) => day(&date.to_string()),
            _ => None,
        };
        let until = until.ok_or("'until' must be a day such as \"2027-03-01\"")?;
        Ok(Ignore { reason: one_line(reason)?, until })
    }
}

/// Parses a day, as its beginning in UTC, or a full timestamp.
fn day(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()).ok()
}

/// Checks a text that users read: one line, not empty.
pub(super) fn one_line(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the reason is empty: write one line of text".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err(format!("reason {text:?}: want one line of text"));
    }
    Ok(text.to_owned())
}
