//! Builders of reports, witnesses and demands for tests. Times are seconds after 1970. At [`NOW`] nothing is `new`, unless a
//! test asks for that.

use std::time::Duration;

use taglog_proto::{
    entry::Seen,
    merkle::Hash,
    name::{Digest, Image, WitnessId},
    record::{Confirmed, Sighting, TagLine},
    tag_proof::{ImageReport, Sighted, WitnessReport},
    time::Timestamp,
};

use crate::{Demands, Evaluation, EvaluationInput, Expectation, TrustedWitness, Verdict, evaluate};

pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;
/// The time of most evaluations, long after all first sightings.
pub const NOW: i64 = 5 * DAY;

pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

pub fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY as u64)
}

pub fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

pub fn seen(name: &str) -> Seen {
    if name == "gone" { Seen::Gone } else { Seen::Digest(digest(name)) }
}

pub fn id(name: &str) -> WitnessId {
    WitnessId::parse(&format!("{name}+00000000")).unwrap()
}

/// A witness that saw these at these log indices and times, and has confirmed the last at `confirmed`.
pub fn at(name: &str, saw: &[(u64, i64, &str)], confirmed: Option<i64>) -> WitnessReport {
    let sighted = |(index, observed, name): &(u64, i64, &str)| Sighted {
        sighting: Sighting { index: *index, seen: seen(name) },
        observed: time(*observed),
    };
    let last = saw.last().unwrap();
    WitnessReport {
        line: TagLine {
            witness: id(name),
            observations: saw.len() as u64,
            sightings: saw.len() as u64,
            root: Hash::ZERO,
            index: last.0,
            observed: time(last.1),
            seen: seen(last.2),
        },
        sightings: saw.iter().map(sighted).collect(),
        start: 0,
        complete: true,
        confirmed: confirmed.map(|seconds| Confirmed { index: 1_000_000, observed: time(seconds) }),
        in_roster: true,
    }
}

/// A witness that saw these at log indices and times 1, 2, …
pub fn witness(name: &str, saw: &[&str]) -> WitnessReport {
    let saw: Vec<(u64, i64, &str)> = saw.iter().zip(1..).map(|(name, i)| (i as u64, i, *name)).collect();
    at(name, &saw, None)
}

pub fn report(witnesses: Vec<WitnessReport>) -> ImageReport {
    ImageReport { image: Image::parse("a.example/b:1.0").unwrap(), repository_covered: true, witnesses }
}

pub fn expecting(expectation: Expectation) -> Demands {
    Demands { expectation, ..Demands::default() }
}

pub fn agreeing(agree: usize) -> Demands {
    Demands { agree, ..Demands::default() }
}

pub fn trusting(names: &[&str]) -> Demands {
    let trusted = names.iter().map(|name| TrustedWitness::new(id(name), None)).collect();
    Demands { trusted, ..Demands::default() }
}

/// The evaluation at [`NOW`].
pub fn evaluated(witnesses: Vec<WitnessReport>, served: Option<&str>, demands: &Demands) -> Evaluation {
    evaluated_at(witnesses, served, demands, NOW)
}

pub fn evaluated_at(witnesses: Vec<WitnessReport>, served: Option<&str>, demands: &Demands, now: i64) -> Evaluation {
    let input = EvaluationInput {
        report: &report(witnesses),
        served: served.map(digest),
        demands,
        approved: &[],
        now: time(now),
    };
    let evaluation = evaluate(&input);
    assert_eq!(evaluation.passes, evaluation.digest.is_some(), "{evaluation:?}");
    evaluation
}

pub fn verdict(witnesses: Vec<WitnessReport>, served: Option<&str>, demands: &Demands) -> Verdict {
    evaluated(witnesses, served, demands).verdict
}
