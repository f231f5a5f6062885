//! The trust file: which log is trusted, in the format of c2sp.org/tlog-policy.
//!
//! ```text
//! log <vkey> <url>
//! quorum none
//! ```

use std::path::Path;

use taglog_proto::note::VerifierKey;
use thiserror::Error;

/// Why a trust file was refused.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read the trust file: {0}; 'taglog init <URL of a log>' makes one")]
    Read(std::io::Error),
    /// A line that is not understood, or must not be ignored.
    #[error("trust file, line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// No log, or no quorum.
    #[error("the trust file has no '{0}' line")]
    Missing(&'static str),
}

/// A log that is trusted, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Its public key; the name is its origin.
    pub log: VerifierKey,
    /// Where it is served, if the file says.
    pub url: Option<String>,
}

impl Trust {
    /// Reads a trust file.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<Trust, TrustError> {
        let text = std::fs::read_to_string(path).map_err(TrustError::Read)?;
        Trust::parse(&text)
    }

    /// Parses a trust file (c2sp.org/tlog-policy). One log, and `quorum none`: a file that asks for
    /// cosigners is refused, since this version could not honour it.
    ///
    /// # Errors
    /// [`TrustError::Line`], [`TrustError::Missing`].
    pub fn parse(text: &str) -> Result<Trust, TrustError> {
        let (mut trust, mut quorum) = (None, false);
        for (number, line) in (1..).zip(text.split('\n')) {
            let error = |why: &str| TrustError::Line { line: number, why: why.to_owned() };
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", _, ..] if trust.is_some() => return Err(error("this version uses exactly one log")),
                ["log", vkey] | ["log", vkey, _] => {
                    let log = vkey.parse::<VerifierKey>().map_err(|e| error(&e.to_string()))?;
                    trust = Some(Trust { log, url: words.get(2).map(ToString::to_string) });
                }
                ["quorum", _] if quorum => return Err(error("a second quorum")),
                ["quorum", "none"] => quorum = true,
                ["quorum" | "witness" | "group", ..] => {
                    return Err(error(
                        "this version cannot check cosigners yet, and will not ignore that you ask for them",
                    ));
                }
                _ => return Err(error("want 'log <vkey> [<url>]' or 'quorum none'")),
            }
        }
        if !quorum {
            return Err(TrustError::Missing("quorum"));
        }
        trust.ok_or(TrustError::Missing("log"))
    }

    /// The file's text for one log.
    pub fn to_text(&self) -> String {
        let url = self.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        format!("# Which transparency log taglog trusts (c2sp.org/tlog-policy).\nlog {}{url}\nquorum none\n", self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vkey() -> VerifierKey {
        taglog_proto::note::SigningKey::from_seed("log.example/x", &[1; 32]).unwrap().verifier_key().clone()
    }

    #[test]
    fn files_round_trip() {
        for url in [None, Some("https://log.example/x".to_owned())] {
            let trust = Trust { log: vkey(), url };
            assert_eq!(Trust::parse(&trust.to_text()).unwrap(), trust);
        }
        let spaced = format!("\n  # a comment\n\tlog  {}\t \nquorum\tnone\n", vkey());
        assert_eq!(Trust::parse(&spaced).unwrap().url, None);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let log = format!("log {}\n", vkey());
        for (bad, want) in [
            ("quorum none\n".to_owned(), "no 'log'"),
            (log.clone(), "no 'quorum'"),
            (format!("{log}{log}quorum none\n"), "line 2"),
            (format!("{log}witness a {}\nquorum a\n", vkey()), "line 2"),
            (format!("{log}quorum none\nquorum none\n"), "line 3"),
            ("log x\nquorum none\n".to_owned(), "line 1"),
            (format!("{log}quorum none\r\n"), "line 2"),
        ] {
            let message = Trust::parse(&bad).unwrap_err().to_string();
            assert!(message.contains(want), "{bad:?}: {message}");
        }
    }
}
