//! What the configuration files of long-running commands have in common: how they are read, how their errors name
//! the place, and what a path and a duration in them mean.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use thiserror::Error;

use crate::text::path_line;
use crate::{duration::parse_duration, text::whole_line};

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read {path}: {error}; {remedy}", path = path_line(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is not TOML of this shape.
    #[error("{path}: {error}", path = path_line(.path))]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: TomlError,
    },
    /// A value that cannot be meant.
    #[error("{path}: {at}: {why}", path = path_line(.path))]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key.
        at: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// Why a text is not TOML of the wanted shape, with line, column and the line itself.
#[derive(Debug)]
pub struct TomlError(Box<toml::de::Error>);

impl From<toml::de::Error> for TomlError {
    fn from(error: toml::de::Error) -> TomlError {
        TomlError(Box::new(error))
    }
}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, message) = (self.0.to_string(), self.0.message());
        let text = text.trim_end();
        // The message quotes keys of the file, in which an escaped line end would begin a line of its own.
        match text.strip_suffix(message) {
            Some(place) => write!(f, "{place}{}", whole_line(message)),
            None => f.write_str(&whole_line(text)),
        }
    }
}

impl std::error::Error for TomlError {}

/// The text of a file; `remedy` says what to do when there is none.
///
/// # Errors
/// [`ConfigError::Read`].
pub fn read_text(path: &Path, remedy: &'static str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error, remedy })
}

/// What the text of the file at `path` says.
///
/// # Errors
/// [`ConfigError::Toml`].
pub fn parse_toml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Toml { path: path.to_owned(), error: error.into() })
}

/// The error for a value at `at` in the file at `path`.
pub fn wrong_value(path: &Path, at: impl ToString, why: impl ToString) -> ConfigError {
    ConfigError::Value { path: path.to_owned(), at: at.to_string(), why: why.to_string() }
}

/// A path that the configuration at `path` names: it is relative to the file.
pub fn resolve(path: &Path, named: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(named)
}

/// A duration as it is written: `90s`, `15m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Seconds).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_line_end_cannot_add_a_line_to_the_message() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let error = parse_toml::<Nothing>("\n\"a\\nFORGED\" = 1\n", Path::new("x.toml")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains(r"`a\nFORGED`"), "{error}");
        assert!(!error.lines().any(|line| line.starts_with("FORGED")), "{error}");
    }
}
