//! The verdicts. A registry shows what a tag points to now, the log what it pointed to before, and policy says which
//! witnesses are trusted.

use std::fmt;

use serde::Serialize;
use taglog_proto::{name::Digest, time::Timestamp};

/// The result of the evaluation of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough trusted witnesses have sighted this digest and no other, freshly enough.
    Ok,
    /// The tag may move, and this is the newest digest that enough witnesses have sighted.
    Moving,
    /// A person approved this digest.
    Approved,
    /// The tag moved, and what changed is consistent with a rebuild on a new base.
    Rebuilt,
    /// First seen a short time ago, or by too few witnesses.
    New,
    /// One trusted witness contradicts all others.
    Disputed,
    /// More than one digest has been sighted, and nothing explains it.
    Retagged,
    /// The registry serves an older logged digest.
    Behind,
    /// The registry serves a digest that no witness has seen under this tag.
    Mismatch,
    /// Nothing is logged for the tag.
    Unknown,
    /// Nothing is logged for the whole repository.
    Uncovered,
    /// The state of the log, or the last report of the witnesses, is too old.
    Stale,
    /// The log did not give the complete lists that are needed.
    Incomplete,
    /// A proof is false, or the log contradicts what it signed before.
    Misbehaved,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 14] = [
        Verdict::Ok,
        Verdict::Moving,
        Verdict::Approved,
        Verdict::Rebuilt,
        Verdict::New,
        Verdict::Disputed,
        Verdict::Retagged,
        Verdict::Behind,
        Verdict::Mismatch,
        Verdict::Unknown,
        Verdict::Uncovered,
        Verdict::Stale,
        Verdict::Incomplete,
        Verdict::Misbehaved,
    ];

    /// Whether it is about which digest the tag points to, so that a person can review and approve that digest. An
    /// approval does not override what is too old, missing or false.
    pub fn can_be_approved(self) -> bool {
        use Verdict::{Behind, Disputed, Mismatch, New, Retagged};
        matches!(self, Retagged | Disputed | Behind | Mismatch | New)
    }

    /// Whether nothing is logged for the tag.
    pub fn is_not_logged(self) -> bool {
        matches!(self, Verdict::Unknown | Verdict::Uncovered)
    }

    /// The rank by which the most severe of several verdicts is chosen: signs of an attack are more severe than what
    /// cannot exclude one, and that is more severe than insufficient evidence. No two verdicts have the same rank.
    fn severity(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Moving => 1,
            Verdict::Approved => 2,
            Verdict::Rebuilt => 3,
            Verdict::Uncovered => 4,
            Verdict::Unknown => 5,
            Verdict::New => 6,
            Verdict::Stale => 7,
            Verdict::Incomplete => 8,
            Verdict::Behind => 9,
            Verdict::Disputed => 10,
            Verdict::Mismatch => 11,
            Verdict::Retagged => 12,
            Verdict::Misbehaved => 13,
        }
    }
}

impl Verdict {
    /// The name that is shown and stored.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Moving => "moving",
            Verdict::Approved => "approved",
            Verdict::Rebuilt => "rebuilt",
            Verdict::New => "new",
            Verdict::Disputed => "disputed",
            Verdict::Retagged => "retagged",
            Verdict::Behind => "behind",
            Verdict::Mismatch => "mismatch",
            Verdict::Unknown => "unknown",
            Verdict::Uncovered => "uncovered",
            Verdict::Stale => "stale",
            Verdict::Incomplete => "incomplete",
            Verdict::Misbehaved => "misbehaved",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One change of a tag, as trusted witnesses saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The digest before the change.
    pub from: Digest,
    /// The digest after the change.
    pub to: Digest,
    /// When a trusted witness first saw this change.
    pub at: Timestamp,
    /// Whether that was at most 48 hours after the tag's first sighting.
    pub within_release: bool,
}

/// A verdict with its reason.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the image may be deployed.
    pub passes: bool,
    /// Whether it passes with a warning.
    pub warning: bool,
    /// Why, for users, in one sentence.
    pub reason: String,
    /// Further facts, one line each.
    pub notes: Vec<String>,
    /// The digest that was checked and passes.
    pub digest: Option<Digest>,
    /// How the tag moved, oldest first; only for `retagged` and the verdicts that replace it.
    pub moves: Vec<Move>,
    /// Of a retagged image: the evaluation that applies once every move is explained.
    pub if_explained: Option<Box<Evaluation>>,
}

impl Evaluation {
    /// An evaluation that does not pass.
    pub fn fails(verdict: Verdict, reason: impl Into<String>) -> Evaluation {
        Evaluation {
            verdict,
            passes: false,
            warning: false,
            reason: reason.into(),
            notes: Vec::new(),
            digest: None,
            moves: Vec::new(),
            if_explained: None,
        }
    }

    /// An evaluation that lets this digest pass.
    pub fn passes(verdict: Verdict, digest: Digest, reason: impl Into<String>) -> Evaluation {
        Evaluation { passes: true, digest: Some(digest), ..Evaluation::fails(verdict, reason) }
    }

    /// Orders evaluations by severity: failing, passing with a warning, passing; then by verdict.
    pub fn severity(&self) -> impl Ord + use<> {
        (!self.passes, self.warning, self.verdict.severity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_verdicts_have_the_same_severity() {
        let mut severities = Verdict::ALL.map(Verdict::severity);
        severities.sort_unstable();
        assert_eq!(severities.to_vec(), (0..Verdict::ALL.len()).map(|n| n as u8).collect::<Vec<_>>());
    }

    #[test]
    fn failing_is_more_severe_than_passing() {
        let digest = Digest::sha256(b"");
        for (verdict, other) in Verdict::ALL.iter().flat_map(|one| Verdict::ALL.map(|other| (*one, other))) {
            let (passes, fails) = (Evaluation::passes(verdict, digest, ""), Evaluation::fails(other, ""));
            let warns = Evaluation { warning: true, ..passes.clone() };
            assert!(passes.severity() < warns.severity() && warns.severity() < fails.severity(), "{verdict} {other}");
        }
    }
}
