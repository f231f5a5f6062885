//! The verdicts (DESIGN: the registry says what a tag is now, the log what it has been, policy whose word counts).

use std::fmt;

use serde::Serialize;
use taglog_proto::{name::Digest, time::Timestamp};

/// What is to be thought of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough trusted witnesses have sighted this digest and no other, freshly enough.
    Ok,
    /// The tag may move, and this is the newest digest that enough witnesses see.
    Moving,
    /// A person approved this very digest.
    Approved,
    /// The tag moved, and what changed is consistent with a rebuild on a new base.
    Rebuilt,
    /// First seen a short time ago, or by too few witnesses.
    New,
    /// One trusted witness stands alone against the others.
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
    /// What is known is too old.
    Stale,
    /// Lists that are needed are missing.
    Incomplete,
    /// A proof is false, or the log contradicts what it signed before.
    Misbehaved,
}

impl Verdict {
    /// Every verdict, in the order of DESIGN 3.7.
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

    /// Whether it is about which digest the tag points to, so that a person who has looked at that very digest can
    /// approve it. What is too old, missing or false no approval can mend.
    pub fn can_be_approved(self) -> bool {
        use Verdict::{Behind, Disputed, Mismatch, New, Retagged};
        matches!(self, Retagged | Disputed | Behind | Mismatch | New)
    }

    /// Whether it says that there is nothing to judge by.
    pub fn knows_nothing(self) -> bool {
        matches!(self, Verdict::Unknown | Verdict::Uncovered)
    }

    /// How grave it is, where one of several must stand: what shows an attack comes before what cannot exclude one, and
    /// that before what there is not enough of. No two are equally grave.
    fn gravity(self) -> u8 {
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
    /// Its name, as it is shown and stored.
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
    /// What the tag pointed to.
    pub from: Digest,
    /// What it pointed to then.
    pub to: Digest,
    /// When a trusted witness first saw this change.
    pub at: Timestamp,
    /// Whether that was at most 48 hours after the tag's first sighting.
    pub within_release: bool,
}

/// A verdict with its reason.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the image may be deployed.
    pub passes: bool,
    /// Whether it passes with something that a person should know.
    pub warning: bool,
    /// One sentence for people.
    pub reason: String,
    /// What else there is to say, one line each.
    pub notes: Vec<String>,
    /// The digest that was checked and passes.
    pub digest: Option<Digest>,
    /// How the tag moved, oldest first; filled in where that decides (`retagged`, and what stands in its place).
    pub moves: Vec<Move>,
    /// Of a retagged image: what is thought of it once every move is explained.
    pub otherwise: Option<Box<Judgement>>,
}

impl Judgement {
    /// A judgement that does not pass.
    pub fn fails(verdict: Verdict, reason: impl Into<String>) -> Judgement {
        Judgement {
            verdict,
            passes: false,
            warning: false,
            reason: reason.into(),
            notes: Vec::new(),
            digest: None,
            moves: Vec::new(),
            otherwise: None,
        }
    }

    /// A judgement that lets this digest pass.
    pub fn passes(verdict: Verdict, digest: Digest, reason: impl Into<String>) -> Judgement {
        Judgement { passes: true, digest: Some(digest), ..Judgement::fails(verdict, reason) }
    }

    /// What orders judgements by how grave they are: what fails is graver than what passes, what passes with a warning
    /// than what passes without; then the verdict decides.
    pub fn gravity(&self) -> impl Ord + use<> {
        (!self.passes, self.warning, self.verdict.gravity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_two_verdicts_one_is_graver() {
        let mut gravities = Verdict::ALL.map(Verdict::gravity);
        gravities.sort_unstable();
        assert_eq!(gravities.to_vec(), (0..Verdict::ALL.len()).map(|n| n as u8).collect::<Vec<_>>());
    }

    #[test]
    fn what_fails_is_graver_than_what_passes() {
        let digest = Digest::sha256(b"");
        for (verdict, other) in Verdict::ALL.iter().flat_map(|one| Verdict::ALL.map(|other| (*one, other))) {
            let (passes, fails) = (Judgement::passes(verdict, digest, ""), Judgement::fails(other, ""));
            let warns = Judgement { warning: true, ..passes.clone() };
            assert!(passes.gravity() < warns.gravity() && warns.gravity() < fails.gravity(), "{verdict} {other}");
        }
    }
}
