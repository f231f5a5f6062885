//! One verdict for each image (DESIGN: the registry says what a tag is now, the log what it has
//! been, policy whose word counts).

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use taglog_proto::{
    entry::Seen,
    name::Digest,
    tag_proof::{ImageReport, WitnessReport},
    time::Timestamp,
};

use super::Policy;

/// What is to be thought of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough trusted witnesses have sighted this digest and no other, freshly enough.
    Ok,
    /// The tag may move, and this is the newest digest that enough witnesses see.
    Moving,
    /// Too few witnesses have sighted the digest.
    New,
    /// More than one digest has been sighted.
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
    /// Whether an image with this verdict may be deployed.
    pub fn passes(self) -> bool {
        matches!(self, Verdict::Ok | Verdict::Moving)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Moving => "moving",
            Verdict::New => "new",
            Verdict::Retagged => "retagged",
            Verdict::Behind => "behind",
            Verdict::Mismatch => "mismatch",
            Verdict::Unknown => "unknown",
            Verdict::Uncovered => "uncovered",
            Verdict::Stale => "stale",
            Verdict::Incomplete => "incomplete",
            Verdict::Misbehaved => "misbehaved",
        })
    }
}

/// A verdict with its reason.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence for people.
    pub reason: String,
    /// The digest that was checked and passes.
    pub digest: Option<Digest>,
}

impl Judgement {
    /// A judgement that does not pass.
    pub fn fails(verdict: Verdict, reason: impl Into<String>) -> Judgement {
        Judgement { verdict, reason: reason.into(), digest: None }
    }
}

/// The verdict on one image. `served` is what the registry serves or what was asked about, `None`
/// when only the history is judged; `now` is the time to which freshness refers.
pub fn judge(report: &ImageReport, served: Option<Digest>, policy: &Policy, now: Timestamp) -> Judgement {
    if !report.repository_covered {
        return Judgement::fails(Verdict::Uncovered, "no witness has ever reported a tag of this repository");
    }
    let trusted: Vec<&WitnessReport> =
        report.witnesses.iter().filter(|witness| policy.trusts(&witness.line.witness)).collect();
    if trusted.is_empty() {
        return Judgement::fails(Verdict::Unknown, "no witness that counts has ever reported this tag");
    }
    if let Some(witness) = trusted.iter().find(|witness| !witness.complete) {
        let reason = format!("the list of sightings of {} is not complete", witness.line.witness);
        return Judgement::fails(Verdict::Incomplete, reason);
    }
    let history = History { trusted, policy, now };
    if policy.may_move(&report.image.tag) { history.judge_moving(served) } else { history.judge_fixed(served) }
}

struct History<'a> {
    trusted: Vec<&'a WitnessReport>,
    policy: &'a Policy,
    now: Timestamp,
}

impl History<'_> {
    /// Every digest ever sighted, in the order of their first sighting in the log.
    fn digests(&self) -> Vec<Digest> {
        let sightings = self.trusted.iter().flat_map(|witness| &witness.sightings);
        let mut sightings: Vec<_> = sightings.map(|sighted| sighted.sighting).collect();
        sightings.sort_by_key(|sighting| sighting.index);
        let mut digests = Vec::new();
        for sighting in sightings {
            if let Seen::Digest(digest) = sighting.seen
                && !digests.contains(&digest)
            {
                digests.push(digest);
            }
        }
        digests
    }

    fn judge_fixed(&self, served: Option<Digest>) -> Judgement {
        let digests = self.digests();
        match (&digests[..], served) {
            ([], Some(_)) => Judgement::fails(Verdict::Mismatch, "witnesses have only ever seen the tag gone"),
            ([], None) => Judgement::fails(Verdict::Unknown, "witnesses have only ever seen the tag gone"),
            ([only], Some(served)) if served != *only => {
                Judgement::fails(Verdict::Mismatch, format!("no witness has seen {served}; all have only seen {only}"))
            }
            ([only], _) => self.judge_vouched(*only, Verdict::Ok, "and no other digest was ever sighted"),
            _ => self.judge_retagged(&digests, served),
        }
    }

    fn judge_retagged(&self, digests: &[Digest], served: Option<Digest>) -> Judgement {
        let now = match served {
            Some(served) if digests.contains(&served) => "the one in question among them",
            Some(_) => "and the one in question is yet another, which no witness has seen",
            None => "all of them on record",
        };
        Judgement::fails(
            Verdict::Retagged,
            format!("this tag has pointed to {} different digests, {now}", digests.len()),
        )
    }

    fn judge_moving(&self, served: Option<Digest>) -> Judgement {
        let Some(newest) = self.newest() else {
            let reason = format!("no digest is what at least {} of the witnesses see last", self.policy.quorum);
            return Judgement::fails(Verdict::New, reason);
        };
        match served {
            Some(served) if served == newest => {}
            None => {}
            Some(served) if self.digests().contains(&served) => {
                let reason = format!("{served} is an older digest, the newest is {newest}");
                return Judgement::fails(Verdict::Behind, reason);
            }
            Some(served) => {
                let reason = format!("no witness has seen {served}");
                return Judgement::fails(Verdict::Mismatch, reason);
            }
        }
        self.judge_vouched(newest, Verdict::Moving, "the newest digest of a tag that may move")
    }

    /// The digest that enough witnesses saw last; of several, the one that came last into the log.
    fn newest(&self) -> Option<Digest> {
        let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
        for witness in &self.trusted {
            if let (Seen::Digest(digest), Some(last)) = (witness.line.seen, witness.sightings.last()) {
                let (count, index) = seen.entry(digest).or_default();
                *count += 1;
                *index = (*index).max(last.sighting.index);
            }
        }
        let enough = seen.into_iter().filter(|(_, (count, _))| *count >= self.policy.quorum);
        enough.max_by_key(|(_, (_, index))| *index).map(|(digest, _)| digest)
    }

    /// Counts the witnesses whose latest word is `digest`, and how fresh it is.
    fn judge_vouched(&self, digest: Digest, verdict: Verdict, why: &str) -> Judgement {
        let quorum = self.policy.quorum;
        let agree: Vec<&&WitnessReport> =
            self.trusted.iter().filter(|witness| witness.line.seen == Seen::Digest(digest)).collect();
        if agree.is_empty() {
            return Judgement::fails(Verdict::Stale, "the witnesses last saw the tag gone, and have not seen it back");
        }
        if agree.len() < quorum {
            let reason = format!("{} of the {quorum} witnesses asked for have sighted {digest}", agree.len());
            return Judgement::fails(Verdict::New, reason);
        }
        let limit = self.now.unix().saturating_sub_unsigned(self.policy.freshness.as_secs());
        let fresh = agree.iter().filter(|witness| witness.vouched().unix() >= limit).count();
        if fresh < quorum {
            let last = agree.iter().map(|witness| witness.vouched()).max();
            let last = last.map(|time| time.to_string()).unwrap_or_default();
            let reason = format!("witnesses last vouched for {digest} at {last}, which is too long ago");
            return Judgement::fails(Verdict::Stale, reason);
        }
        let plural = if fresh == 1 { "witness vouches" } else { "witnesses vouch" };
        Judgement { verdict, reason: format!("{fresh} {plural} for it, {why}"), digest: Some(digest) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taglog_proto::{
        merkle::Hash,
        name::{Image, Tag, WitnessId},
        record::{Confirmed, Sighting, TagLine},
        tag_proof::Sighted,
    };

    use super::*;

    const DAY: i64 = 86_400;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn seen(name: &str) -> Seen {
        if name == "gone" { Seen::Gone } else { Seen::Digest(digest(name)) }
    }

    /// A witness that saw these at log indices and times 1, 2, …
    fn witness(name: &str, saw: &[&str]) -> WitnessReport {
        let sighted = |(i, name): (usize, &&str)| Sighted {
            sighting: Sighting { index: i as u64 + 1, seen: seen(name) },
            observed: time(i as i64 + 1),
        };
        let count = saw.len() as u64;
        WitnessReport {
            line: TagLine {
                witness: WitnessId::parse(&format!("{name}+00000000")).unwrap(),
                observations: count,
                sightings: count,
                root: Hash::ZERO,
                index: count,
                observed: time(count as i64),
                seen: seen(saw.last().unwrap()),
            },
            sightings: saw.iter().enumerate().map(sighted).collect(),
            start: 0,
            complete: true,
            confirmed: None,
            in_roster: true,
        }
    }

    fn report(witnesses: Vec<WitnessReport>) -> ImageReport {
        ImageReport { image: Image::parse("a.example/b:1.0").unwrap(), repository_covered: true, witnesses }
    }

    fn policy() -> Policy {
        Policy { witnesses: vec![], quorum: 1, moving: vec![], freshness: Duration::from_secs(DAY as u64) }
    }

    fn verdict(witnesses: Vec<WitnessReport>, served: Option<&str>, policy: &Policy) -> Verdict {
        let judgement = judge(&report(witnesses), served.map(digest), policy, time(10));
        assert_eq!(judgement.verdict.passes(), judgement.digest.is_some(), "{judgement:?}");
        judgement.verdict
    }

    #[test]
    fn fixed_tags() {
        let p = policy();
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("A"), &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A"])], None, &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("B"), &p), Verdict::Mismatch);
        assert_eq!(verdict(vec![witness("x", &["A", "B"])], Some("B"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "B", "A"])], Some("A"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A"]), witness("y", &["B"])], Some("A"), &p), Verdict::Retagged);
        assert_eq!(verdict(vec![witness("x", &["A", "gone", "A"])], Some("A"), &p), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A", "gone"])], Some("A"), &p), Verdict::Stale);
        assert_eq!(verdict(vec![witness("x", &["gone"])], Some("A"), &p), Verdict::Mismatch);
        assert_eq!(verdict(vec![], Some("A"), &p), Verdict::Unknown);
        let uncovered = ImageReport { repository_covered: false, ..report(vec![]) };
        assert_eq!(judge(&uncovered, None, &p, time(10)).verdict, Verdict::Uncovered);
    }

    #[test]
    fn moving_tags() {
        let p = Policy { moving: vec![Tag::parse("1.0").unwrap()], ..policy() };
        let history = || vec![witness("x", &["A", "B"])];
        assert_eq!(verdict(history(), Some("B"), &p), Verdict::Moving);
        assert_eq!(verdict(history(), None, &p), Verdict::Moving);
        assert_eq!(verdict(history(), Some("A"), &p), Verdict::Behind);
        assert_eq!(verdict(history(), Some("C"), &p), Verdict::Mismatch);
        let two = Policy { quorum: 2, ..p };
        assert_eq!(verdict(vec![witness("x", &["A", "B"]), witness("y", &["A"])], Some("B"), &two), Verdict::New);
        assert_eq!(verdict(vec![witness("x", &["A", "B"]), witness("y", &["B"])], Some("B"), &two), Verdict::Moving);
    }

    #[test]
    fn whose_word_counts() {
        let only_y = Policy { witnesses: vec![WitnessId::parse("y+00000000").unwrap()], ..policy() };
        let both = || vec![witness("x", &["A", "B"]), witness("y", &["B"])];
        assert_eq!(verdict(both(), Some("B"), &only_y), Verdict::Ok);
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("A"), &only_y), Verdict::Unknown);
        let two = Policy { quorum: 2, ..policy() };
        assert_eq!(verdict(vec![witness("x", &["A"])], Some("A"), &two), Verdict::New);
        assert_eq!(verdict(vec![witness("x", &["A"]), witness("y", &["A"])], Some("A"), &two), Verdict::Ok);
        let mut cut = witness("x", &["A"]);
        cut.complete = false;
        assert_eq!(verdict(vec![cut], Some("A"), &policy()), Verdict::Incomplete);
    }

    #[test]
    fn freshness_is_the_later_of_observation_and_confirmation() {
        let at = |confirmed: Option<i64>, now| {
            let mut old = witness("x", &["A"]);
            old.confirmed = confirmed.map(|seconds| Confirmed { index: 9, observed: time(seconds) });
            judge(&report(vec![old]), Some(digest("A")), &policy(), time(now)).verdict
        };
        assert_eq!(at(None, 1 + DAY), Verdict::Ok);
        assert_eq!(at(None, 2 + DAY), Verdict::Stale);
        assert_eq!(at(Some(DAY), 2 + DAY), Verdict::Ok);
    }
}
