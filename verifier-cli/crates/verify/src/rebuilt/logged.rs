//! What a log holds of base images.

use std::collections::BTreeMap;

use taglog_proto::{entry::Seen, name::Digest, record::Sighting, tag_proof::ImageReport};

use super::source::Missing;
use taglog_policy::{Demands, Expectation};

/// What [`BaseSightings`](super::BaseSightings) asks for: the digests that a base's tag has pointed to, by the word of enough
/// witnesses that count, the oldest first. `demands` are the base's.
///
/// # Errors
/// When the base has moved, and policy does not say that it may. Who can push an image can mostly push its publisher's other
/// images too, and would make a base to measure; such a base fails by itself, and what stands on it is no better.
pub fn sighted(report: &ImageReport, demands: &Demands) -> Result<Vec<Digest>, Missing> {
    let digests = digests(report, demands);
    let may_move = matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds);
    if digests.len() > 1 && !may_move {
        return Err(Missing(format!(
            "its base {} has moved, and policy does not say that it may (expect = \"moving\" or \"rebuilds\")",
            report.image
        )));
    }
    Ok(digests)
}

fn digests(report: &ImageReport, demands: &Demands) -> Vec<Digest> {
    let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
    for witness in &report.witnesses {
        let Some(trusted) = demands.trusts(&witness.line.witness) else { continue };
        let mut own: BTreeMap<Digest, u64> = BTreeMap::new();
        for Sighting { index, seen } in witness.sightings.iter().map(|sighted| sighted.sighting) {
            if let Seen::Digest(digest) = seen
                && trusted.until.is_none_or(|until| index < until)
            {
                own.entry(digest).or_insert(index);
            }
        }
        for (digest, index) in own {
            let (witnesses, first) = seen.entry(digest).or_insert((0, index));
            *witnesses += 1;
            *first = index.min(*first);
        }
    }
    let enough = seen.into_iter().filter(|(_, (witnesses, _))| *witnesses >= demands.agree);
    let mut digests: Vec<(u64, Digest)> = enough.map(|(digest, (_, first))| (first, digest)).collect();
    digests.sort_unstable();
    digests.into_iter().map(|(_, digest)| digest).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use taglog_proto::{
        merkle::Hash,
        name::{Image, WitnessId},
        record::TagLine,
        tag_proof::{Sighted, WitnessReport},
        time::Timestamp,
    };

    use super::*;
    use taglog_policy::TrustedWitness;

    fn id(name: &str) -> WitnessId {
        WitnessId::parse(&format!("{name}+00000000")).unwrap()
    }

    /// A witness that saw these, each at its log index; an empty name is `gone`.
    fn witness(name: &str, saw: &[(u64, &str)]) -> WitnessReport {
        let seen = |name: &str| if name.is_empty() { Seen::Gone } else { Seen::Digest(digest(name)) };
        let sighted = |(index, name): &(u64, &str)| Sighted {
            sighting: Sighting { index: *index, seen: seen(name) },
            observed: Timestamp::UNIX_EPOCH,
        };
        let (index, last) = *saw.last().unwrap();
        let (count, observed) = (saw.len() as u64, Timestamp::UNIX_EPOCH);
        let (witness, root) = (id(name), Hash::ZERO);
        let line = TagLine { witness, observations: count, sightings: count, root, index, observed, seen: seen(last) };
        let sightings = saw.iter().map(sighted).collect();
        WitnessReport { line, sightings, start: 0, complete: true, confirmed: None, in_roster: true }
    }

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn report() -> ImageReport {
        let image = Image::parse("a.example/base:1").unwrap();
        let witnesses = vec![
            witness("one", &[(1, "A"), (4, ""), (5, "A"), (9, "C")]),
            witness("two", &[(2, "B"), (3, "A"), (8, "C")]),
            witness("three", &[(7, "D")]),
        ];
        ImageReport { image, repository_covered: true, witnesses }
    }

    fn counted(demands: &Demands) -> Vec<Digest> {
        sighted(&report(), &Demands { expectation: Expectation::Moving, ..demands.clone() }).unwrap()
    }

    #[test]
    fn whose_word_counts_and_how_many_must_agree() {
        let [a, b, c, d] = ["A", "B", "C", "D"].map(digest);
        assert_eq!(counted(&Demands::default()), [a, b, d, c]);
        assert_eq!(counted(&Demands { agree: 2, ..Demands::default() }), [a, c]);
        let trust = |name: &str, until| TrustedWitness::new(id(name), until);
        let trusting = |trusted| Demands { trusted, ..Demands::default() };
        assert_eq!(counted(&trusting(vec![trust("two", None)])), [b, a, c]);
        assert_eq!(counted(&trusting(vec![trust("two", Some(8))])), [b, a]);
        assert_eq!(counted(&trusting(vec![trust("two", Some(0))])), []);
        assert_eq!(counted(&trusting(vec![trust("four", None)])), []);
    }
    #[test]
    fn a_base_must_be_one_that_may_move() {
        let expecting = |expectation| Demands { expectation, ..Demands::default() };
        for expectation in [Expectation::Moving, Expectation::Rebuilds] {
            assert!(sighted(&report(), &expecting(expectation)).is_ok());
        }
        for expectation in [Expectation::Unstated, Expectation::Immutable] {
            let error = sighted(&report(), &expecting(expectation)).unwrap_err();
            assert!(error.to_string().contains("a.example/base:1 has moved"), "{error}");
        }
        // One that never moved needs no promise.
        let trusted = vec![TrustedWitness::new(id("three"), None)];
        assert_eq!(sighted(&report(), &Demands { trusted, ..Demands::default() }), Ok(vec![digest("D")]));
    }
}
