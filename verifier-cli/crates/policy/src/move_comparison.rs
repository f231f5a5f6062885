//! What the comparison of the two digests of a moved tag shows.

use std::fmt;

use taglog_proto::name::{Digest, Repository};

use crate::{demands::Expectation, verdict::Move};
use taglog_base::digest::short;

/// Why a move cannot be explained as a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnexplainedReason {
    /// What differs, or cannot be compared.
    Difference(String),
    /// A document that the comparison needs is not available.
    MissingDocument {
        /// The repository that has it or should, by its name in the log.
        repository: Repository,
        /// The digest of the document.
        digest: Digest,
        /// Which sources were tried, and why each failed.
        cause: String,
    },
}

impl From<String> for UnexplainedReason {
    fn from(difference: String) -> UnexplainedReason {
        UnexplainedReason::Difference(difference)
    }
}

impl fmt::Display for UnexplainedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnexplainedReason::Difference(difference) => f.write_str(difference),
            UnexplainedReason::MissingDocument { repository, digest, cause } => {
                write!(f, "{repository}@{} is not available: {cause}", short(digest))
            }
        }
    }
}

/// What one move of a tag looks like. It states facts, and never that an image is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveComparison {
    /// Both digests hold the same manifest for this platform: only other platforms or annotations changed.
    PlatformUnchanged {
        /// The platform, such as `linux/amd64`.
        platform: String,
    },
    /// The same build steps and configuration on another revision of the base image.
    Rebuild {
        /// The base image, by the name that its publisher gives it.
        base: String,
        /// The facts that were established, one line each.
        facts: Vec<String>,
    },
    /// The tag moved within 48 hours of its first sighting, which can be one release pushed in several parts.
    WithinRelease {
        /// Why nothing else explains the move.
        reason: UnexplainedReason,
    },
    /// Nothing explains the move.
    Unexplained {
        /// What differs, or which document is not available.
        reason: UnexplainedReason,
    },
}

impl MoveComparison {
    /// Whether this explains a move of a tag with this expectation. An immutable tag may change for other platforms and
    /// in nothing else. A move soon after the first sighting is explained only where rebuilds are expected: such
    /// publishers push a release in several parts, but a fast attacker looks the same.
    pub fn explains(&self, expectation: Expectation) -> bool {
        match self {
            MoveComparison::PlatformUnchanged { .. } => true,
            MoveComparison::Rebuild { .. } => expectation != Expectation::Immutable,
            MoveComparison::WithinRelease { .. } => expectation == Expectation::Rebuilds,
            MoveComparison::Unexplained { .. } => false,
        }
    }

    fn unexplained_reason(&self) -> Option<&UnexplainedReason> {
        match self {
            MoveComparison::WithinRelease { reason } | MoveComparison::Unexplained { reason } => Some(reason),
            MoveComparison::PlatformUnchanged { .. } | MoveComparison::Rebuild { .. } => None,
        }
    }

    fn lacks_document(&self) -> bool {
        matches!(self.unexplained_reason(), Some(UnexplainedReason::MissingDocument { .. }))
    }
}

impl fmt::Display for MoveComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoveComparison::PlatformUnchanged { platform } => write!(f, "the manifest for {platform} is unchanged"),
            MoveComparison::Rebuild { base, facts } if facts.is_empty() => {
                write!(f, "consistent with a rebuild on another revision of {base}")
            }
            MoveComparison::Rebuild { base, facts } => {
                write!(f, "consistent with a rebuild on another revision of {base}: {}", facts.join(", "))
            }
            MoveComparison::WithinRelease { reason } => write!(f, "{WITHIN_RELEASE}{reason}"),
            MoveComparison::Unexplained { reason } => write!(f, "{NOT_EXPLAINED}{reason}"),
        }
    }
}

const WITHIN_RELEASE: &str = "the tag moved within 48 hours of its first sighting, which counts as one release \
                              only where policy expects rebuilds; not explained as a rebuild: ";
const NOT_EXPLAINED: &str = "not explained as a rebuild: ";

/// One line for each different comparison. All comparisons that lack a document share one line.
pub(super) fn summary_lines(comparisons: &[&MoveComparison]) -> Vec<String> {
    let missing = MissingDocuments::of(comparisons);
    let mut lines: Vec<String> = Vec::new();
    for comparison in comparisons {
        let line = if comparison.lacks_document() { missing.to_string() } else { comparison.to_string() };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// One line for each move, with its time. All moves that lack a document share one line.
pub(super) fn move_notes(comparisons: &[MoveComparison], moves: &[Move]) -> Vec<String> {
    let missing = MissingDocuments::of(&comparisons.iter().collect::<Vec<_>>());
    let mut notes = Vec::new();
    let mut missing_noted = false;
    for (comparison, change) in comparisons.iter().zip(moves) {
        let at = change.at;
        match (comparison.lacks_document(), missing.moves) {
            (true, _) if missing_noted => {}
            (true, 0 | 1) => notes.push(format!("{at}: {missing}")),
            (true, all) => notes.push(format!("{at} and {} later: {missing}", all - 1)),
            (false, _) => notes.push(format!("{at}: {comparison}")),
        }
        missing_noted |= comparison.lacks_document();
    }
    notes
}

/// The documents that are not available, over all comparisons.
struct MissingDocuments<'a> {
    /// One reason for each document.
    reasons: Vec<&'a UnexplainedReason>,
    /// The number of comparisons that lack a document.
    moves: usize,
    /// Whether all these moves came soon after the first sighting.
    within_release: bool,
}

impl<'a> MissingDocuments<'a> {
    fn of(comparisons: &[&'a MoveComparison]) -> MissingDocuments<'a> {
        let mut missing = MissingDocuments { reasons: Vec::new(), moves: 0, within_release: true };
        for comparison in comparisons.iter().filter(|comparison| comparison.lacks_document()) {
            missing.moves += 1;
            missing.within_release &= matches!(comparison, MoveComparison::WithinRelease { .. });
            let known = |reason: &&UnexplainedReason| missing.reasons.iter().any(|other| other.same_document(reason));
            let new = comparison.unexplained_reason().filter(|reason| !known(reason));
            missing.reasons.extend(new);
        }
        missing
    }
}

impl fmt::Display for MissingDocuments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.within_release { WITHIN_RELEASE } else { NOT_EXPLAINED })?;
        match self.reasons[..] {
            [] => Ok(()),
            [only] => only.fmt(f),
            [UnexplainedReason::MissingDocument { repository, digest, cause }, ..] => {
                let (count, digest) = (self.reasons.len(), short(digest));
                write!(f, "{count} documents are not available, such as {repository}@{digest}: {cause}")
            }
            // `of` collects missing documents only.
            [UnexplainedReason::Difference(_), ..] => Ok(()),
        }
    }
}

impl UnexplainedReason {
    fn same_document(&self, other: &UnexplainedReason) -> bool {
        let document = |reason: &UnexplainedReason| match reason {
            UnexplainedReason::MissingDocument { repository, digest, .. } => Some((repository.clone(), *digest)),
            UnexplainedReason::Difference(_) => None,
        };
        document(self) == document(other)
    }
}
