//! Policy: which witnesses are trusted, which tags may move, and which verdict an image gets. No bytes from the network
//! get here unverified.
//!
//! - [`Policy`] combines `taglog.toml`, the shipped [`profiles`] and the command line; [`Policy::demands`] gives what
//!   applies to one image, and why;
//! - [`evaluate`] turns the verified history of an image into an [`Evaluation`], a verdict with its reason;
//!   [`apply_comparisons`] lets a retagged image pass if all its moves are explained;
//! - [`lock`] is `taglog.lock`: the digests that a person approved;
//! - [`check`] finds mistakes in a policy that parses.

#![warn(missing_docs)]

pub mod check;
mod demands;
mod evaluate;
mod exclude;
mod file;
mod history;
pub mod lock;
mod mirrors;
mod move_comparison;
mod pattern;
pub mod profiles;
mod verdict;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use taglog_base::text::path_line;
use taglog_proto::{
    name::{Image, Tag, WitnessId},
    time::Timestamp,
};
use thiserror::Error;

pub use demands::{Demands, Expectation, FRESHNESS, Ignore, MAX_AGE, TrustedWitness, WARN_AGE};
pub use evaluate::{EvaluationInput, apply_comparisons, evaluate, evaluate_history, newest_settled};
pub use exclude::Exclusion;
pub use file::Rule;
pub use move_comparison::{MoveComparison, UnexplainedReason};
pub use pattern::{RepositoryPattern, TagPattern};
pub use verdict::{Evaluation, Move, Verdict};

use file::PolicyFile;
use profiles::profile_of;
use taglog_base::config_file::ConfigError;
use taglog_base::duration::exactly;

/// The name of the policy file.
pub const FILE_NAME: &str = "taglog.toml";

/// Why a policy was rejected; the message names file, line and remedy.
pub type PolicyError = ConfigError;

/// The policy has a plain index as `until` of a witness, and there are several logs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{}: 'until' of {witness} is an index, and there are several logs: name the log, as in \
     until = {{ \"{log}\" = 120000 }}",
    path_line(policy)
)]
pub struct AmbiguousUntil {
    /// The policy file.
    pub policy: PathBuf,
    /// The witness.
    pub witness: WitnessId,
    /// The origin of one of the logs.
    pub log: String,
}

/// Command line options that override the file; those that are not given leave the file's values.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The trusted witnesses, if not empty.
    pub witnesses: Vec<WitnessId>,
    /// How many witnesses must agree.
    pub agree: Option<usize>,
    /// Tags that may move.
    pub moving: Vec<Tag>,
    /// The oldest state of the log to accept.
    pub max_age: Option<Duration>,
    /// How recently a witness must have vouched.
    pub freshness: Option<Duration>,
    /// How long ago the digest must have been seen first.
    pub min_age: Option<Duration>,
}

/// What is demanded of images, according to `taglog.toml`, the shipped profiles and the command line.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    file: Option<PolicyFile>,
    overrides: Overrides,
}

impl Policy {
    /// The profiles and the defaults alone.
    pub fn without_file() -> Policy {
        Policy::default()
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`]: it cannot be read, is not TOML, or has an invalid value.
    pub fn read(path: &Path) -> Result<Policy, PolicyError> {
        Ok(Policy { file: Some(file::read(path)?), overrides: Overrides::default() })
    }

    /// Parses the text of the policy file at `path`.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Policy, PolicyError> {
        Ok(Policy { file: Some(file::parse(text, path)?), overrides: Overrides::default() })
    }

    /// The `taglog.toml` of this directory, or of the nearest directory above it that has one.
    pub fn find(from: &Path) -> Option<PathBuf> {
        from.ancestors().map(|directory| directory.join(FILE_NAME)).find(|path| path.is_file())
    }

    /// The file that it was read from.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// The trust file that it names (c2sp.org/tlog-policy): which log, and which cosigners.
    pub fn trust_path(&self) -> Option<PathBuf> {
        self.file.as_ref().and_then(|file| file.trust.clone())
    }

    /// The name of the image in the log: a mirror's name is replaced by the original's.
    pub fn logged_name(&self, image: &Image) -> Image {
        self.file.as_ref().map_or_else(|| image.clone(), |file| file.mirrors.logged_name(image))
    }

    /// Checks that every `until` is unambiguous for logs of these origins. An index belongs to one log, so if there are
    /// several, `until` must name the log.
    ///
    /// # Errors
    /// The first witness whose `until` is ambiguous.
    pub fn check_until<'a>(&self, mut logs: impl Iterator<Item = &'a str>) -> Result<(), AmbiguousUntil> {
        let (Some(first), Some(_)) = (logs.next(), logs.next()) else { return Ok(()) };
        let ambiguous = |witness: &&TrustedWitness| witness.until.is_some() && witness.until_in.is_empty();
        match self.trusted().iter().find(ambiguous) {
            Some(TrustedWitness { id, .. }) => Err(AmbiguousUntil {
                policy: self.path().map(Path::to_owned).unwrap_or_default(),
                witness: id.clone(),
                log: first.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The witnesses that the file names, in its order; if it names none, every witness in the log's roster is trusted.
    pub fn trusted(&self) -> &[TrustedWitness] {
        self.file.as_ref().map_or(&[], |file| &file.trusted)
    }

    /// The rules of the file, in its order.
    pub fn rules(&self) -> &[Rule] {
        self.file.as_ref().map_or(&[], |file| &file.rules)
    }

    /// The exceptions for files, in the order of the file.
    pub fn exclusions(&self) -> &[Exclusion] {
        self.file.as_ref().map_or(&[], |file| &file.exclusions)
    }

    /// The exception for an image, by its name as requested, if one holds at this time.
    pub fn ignored(&self, image: &Image, now: Timestamp) -> Option<Ignore> {
        self.demands(&self.logged_name(image)).ignore.filter(|ignore| ignore.applies(now))
    }

    /// The same policy with command line options, which take precedence.
    pub fn overriding(self, overrides: Overrides) -> Policy {
        Policy { overrides, ..self }
    }

    /// What applies to one image, by its name in the log. For each key the first rule decides that matches the image
    /// and sets the key. The expectation then comes from the profiles; everything else from the defaults.
    pub fn demands(&self, logged: &Image) -> Demands {
        let mut demands = Demands::default();
        let mut decided = DecidedKeys::default();
        if let Some(file) = &self.file {
            demands.trusted = file.trusted.clone();
            if !file.trusted.is_empty() {
                let count = file.trusted.len();
                demands.because.push(format!("{count} trusted witnesses: {}", path_line(&file.path)));
            }
            for rule in file.rules.iter().filter(|rule| rule.matches(logged)) {
                decided.apply(rule, &file.path, &mut demands);
            }
            if let Some((agree, line)) = file.agree.filter(|_| !decided.agree) {
                demands.agree = agree;
                demands.because.push(format!("agree {agree}: {}:{line}", path_line(&file.path)));
            }
        }
        if !decided.expect {
            let profiles = self.file.as_ref().is_none_or(|file| file.profiles);
            let (expectation, because) = expected(logged, profiles);
            demands.expectation = expectation;
            demands.because.push(format!("expect {expectation}: {because}"));
        }
        self.overrides.apply(logged, &mut demands);
        demands
    }
}

/// The expectation for a tag for which no rule sets one, and why.
fn expected(logged: &Image, profiles: bool) -> (Expectation, String) {
    if let Some(profile) = Some(logged).filter(|_| profiles).and_then(profile_of) {
        let profiles::Profile { publisher, fact, source, checked, line, .. } = profile;
        let place = format!("shipped profiles, line {line} ({publisher})");
        return (profile.expect, format!("{place}: {fact} <{source}>, looked up {checked}"));
    }
    match logged.tag.as_str() {
        "latest" => (Expectation::Moving, "'latest' moves by convention".to_owned()),
        _ => (Expectation::Unstated, "no rule and no profile matches".to_owned()),
    }
}

/// Which keys a rule has set already.
#[derive(Default)]
struct DecidedKeys {
    expect: bool,
    min_age: bool,
    max_age: bool,
    freshness: bool,
    agree: bool,
    ignore: bool,
}

impl DecidedKeys {
    fn apply(&mut self, rule: &Rule, path: &Path, demands: &mut Demands) {
        let place = format!("{}:{}", path_line(path), rule.line);
        let mut because = |what: String| demands.because.push(format!("{what}: {place}"));
        if let Some(expect) = first(&mut self.expect, rule.expect) {
            demands.expectation = expect;
            because(format!("expect {expect}"));
        }
        if let Some(min_age) = first(&mut self.min_age, rule.min_age) {
            demands.min_age = Some(min_age.0);
            because(format!("min-age {}", exactly(min_age.0)));
        }
        if let Some(max_age) = first(&mut self.max_age, rule.max_age) {
            demands.max_age = max_age.0;
            because(format!("max-age {}", exactly(max_age.0)));
        }
        if let Some(freshness) = first(&mut self.freshness, rule.freshness) {
            demands.freshness = freshness.0;
            because(format!("freshness {}", exactly(freshness.0)));
        }
        if let Some(agree) = first(&mut self.agree, rule.agree) {
            demands.agree = agree.get().into();
            because(format!("agree {agree}"));
        }
        if let Some(ignore) = first(&mut self.ignore, rule.ignore.as_ref()) {
            demands.ignore = Some(ignore.clone());
            because(format!("ignored until {}, {}", ignore.until, ignore.reason));
        }
    }
}

/// The value, if it is the first one for its key.
fn first<T>(decided: &mut bool, value: Option<T>) -> Option<T> {
    let value = value.filter(|_| !*decided);
    *decided |= value.is_some();
    value
}

impl Overrides {
    fn apply(&self, logged: &Image, demands: &mut Demands) {
        let mut because = |what: String| demands.because.push(format!("{what}: command line"));
        if !self.witnesses.is_empty() {
            // The option selects witnesses; an `until` in the file still applies to them.
            let known = |id: &WitnessId| demands.trusted.iter().find(|known| known.id == *id);
            let trusted = |id: &WitnessId| known(id).cloned().unwrap_or_else(|| TrustedWitness::new(id.clone(), None));
            demands.trusted = self.witnesses.iter().map(trusted).collect();
            because(format!("{} trusted witnesses", self.witnesses.len()));
        }
        if let Some(agree) = self.agree {
            demands.agree = agree.max(1);
            because(format!("agree {agree}"));
        }
        if self.moving.contains(&logged.tag) {
            demands.expectation = Expectation::Moving;
            because("expect moving".to_owned());
        }
        if let Some(max_age) = self.max_age {
            demands.max_age = max_age;
            because(format!("max-age {}", exactly(max_age)));
        }
        if let Some(freshness) = self.freshness {
            demands.freshness = freshness;
            because(format!("freshness {}", exactly(freshness)));
        }
        if let Some(min_age) = self.min_age {
            demands.min_age = Some(min_age);
            because(format!("min-age {}", exactly(min_age)));
        }
    }
}
