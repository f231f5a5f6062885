//! What was found when two digests of a tag that moved were compared.

use std::fmt;

use taglog_proto::name::{Digest, Repository};

use super::{Expectation, Move};
use taglog_base::digest::short;

/// Why nothing else explains a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// What differs, or is not understood.
    Differs(String),
    /// A document that it takes to tell cannot be had.
    Missing {
        /// The repository that has it or should, by its name in the log.
        repository: Repository,
        /// What it hashes to.
        digest: Digest,
        /// Who was asked, and what each said.
        said: String,
    },
}

impl From<String> for Why {
    fn from(what: String) -> Why {
        Why::Differs(what)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Differs(what) => f.write_str(what),
            Why::Missing { repository, digest, said } => {
                write!(f, "{repository}@{} cannot be had: {said}", short(digest))
            }
        }
    }
}

/// What one move of a tag looks like. It says what is so, and never that it is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Both digests hold the same manifest for this platform: only other platforms, or what stands around, changed.
    PlatformUnchanged {
        /// The platform, such as `linux/amd64`.
        platform: String,
    },
    /// The same instructions and settings on another revision of the base.
    Rebuild {
        /// The base, as its publisher names it.
        base: String,
        /// What changed, one line each.
        what: Vec<String>,
    },
    /// The tag moved within 48 hours of its first sighting: one release, put together in several pushes.
    WithinRelease {
        /// Why nothing else explains it.
        why: Why,
    },
    /// Nothing explains it.
    Unexplained {
        /// What differs, or what could not be had.
        why: Why,
    },
}

impl Finding {
    /// Whether this explains a move of a tag of which so much is expected. A tag that never moves may differ in what
    /// is around this platform's manifest, and in nothing else. That a tag is young excuses only those who promise to
    /// rebuild it: they push a release in several parts; an attacker who is quick is one all the same.
    pub fn explains(&self, expectation: Expectation) -> bool {
        match self {
            Finding::PlatformUnchanged { .. } => true,
            Finding::Rebuild { .. } => expectation != Expectation::Immutable,
            Finding::WithinRelease { .. } => expectation == Expectation::Rebuilds,
            Finding::Unexplained { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::PlatformUnchanged { platform } => write!(f, "the manifest for {platform} is unchanged"),
            Finding::Rebuild { base, what } if what.is_empty() => {
                write!(f, "consistent with a rebuild on another revision of {base}")
            }
            Finding::Rebuild { base, what } => {
                write!(f, "consistent with a rebuild on another revision of {base}: {}", what.join(", "))
            }
            Finding::WithinRelease { why } => write!(f, "{ONE_RELEASE}{why}"),
            Finding::Unexplained { why } => write!(f, "{NOT_EXPLAINED}{why}"),
        }
    }
}

const ONE_RELEASE: &str = "moved within 48 hours of its first sighting, which is one release where rebuilds are promised; \
                           otherwise not explained: ";
const NOT_EXPLAINED: &str = "not explained: ";

/// What is said of all findings together, each different thing once; documents that cannot be had are one thing.
pub(super) fn told(findings: &[&Finding]) -> Vec<String> {
    let missing = Absent::of(findings);
    let mut told: Vec<String> = Vec::new();
    for finding in findings {
        let said = if finding.is_missing() { missing.to_string() } else { finding.to_string() };
        if !told.contains(&said) {
            told.push(said);
        }
    }
    told
}

/// A line on each move; one line for all that are not explained for want of documents.
pub(super) fn notes(findings: &[Finding], moves: &[Move]) -> Vec<String> {
    let missing = Absent::of(&findings.iter().collect::<Vec<_>>());
    let mut notes = Vec::new();
    let mut told = false;
    for (finding, change) in findings.iter().zip(moves) {
        let at = change.at;
        match (finding.is_missing(), missing.moves) {
            (true, _) if told => {}
            (true, 0 | 1) => notes.push(format!("{at}: {missing}")),
            (true, all) => notes.push(format!("{at} and {} later: {missing}", all - 1)),
            (false, _) => notes.push(format!("{at}: {finding}")),
        }
        told |= finding.is_missing();
    }
    notes
}

/// Documents that cannot be had, of all findings that miss one.
struct Absent<'a> {
    /// Each once; the first with what was said of it.
    documents: Vec<&'a Why>,
    /// Findings that miss one.
    moves: usize,
    /// Whether all those moves came soon after the first sighting.
    within_release: bool,
}

impl<'a> Absent<'a> {
    fn of(findings: &[&'a Finding]) -> Absent<'a> {
        let mut absent = Absent { documents: Vec::new(), moves: 0, within_release: true };
        for finding in findings.iter().filter(|finding| finding.is_missing()) {
            absent.moves += 1;
            absent.within_release &= matches!(finding, Finding::WithinRelease { .. });
            absent
                .documents
                .extend(finding.why().filter(|why| !absent.documents.iter().any(|other| other.same_document(why))));
        }
        absent
    }
}

impl fmt::Display for Absent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.within_release { ONE_RELEASE } else { NOT_EXPLAINED })?;
        match self.documents[..] {
            [] => Ok(()),
            [only] => only.fmt(f),
            [Why::Missing { repository, digest, said }, ..] => {
                let (count, digest) = (self.documents.len(), short(digest));
                write!(f, "{count} documents cannot be had, such as {repository}@{digest}: {said}")
            }
            // Only what is missing is among them.
            [Why::Differs(_), ..] => Ok(()),
        }
    }
}

impl Finding {
    fn why(&self) -> Option<&Why> {
        match self {
            Finding::WithinRelease { why } | Finding::Unexplained { why } => Some(why),
            Finding::PlatformUnchanged { .. } | Finding::Rebuild { .. } => None,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self.why(), Some(Why::Missing { .. }))
    }
}

impl Why {
    fn same_document(&self, other: &Why) -> bool {
        let document = |why: &Why| match why {
            Why::Missing { repository, digest, .. } => Some((repository.clone(), *digest)),
            Why::Differs(_) => None,
        };
        document(self) == document(other)
    }
}
