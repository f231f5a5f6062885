//! The sightings of base images in a log.

use std::collections::BTreeMap;

use taglog_proto::{entry::Seen, name::Digest, record::Sighting, tag_proof::ImageReport};

use super::documents::Unavailable;
use taglog_policy::{Demands, Expectation};

/// The digests that a base's tag has pointed to according to enough trusted witnesses, oldest first, as
/// [`BaseSightings::sighted`](super::BaseSightings::sighted) returns them. `demands` are those of the base.
///
/// # Errors
/// The base has moved, and policy does not allow that. An account that can push an image can mostly push the
/// publisher's other images too, and so a base to fit. A base that does not pass by itself explains nothing.
pub fn base_digests(report: &ImageReport, demands: &Demands) -> Result<Vec<Digest>, Unavailable> {
    let digests = agreed_digests(report, demands);
    let may_move = matches!(demands.expectation, Expectation::Moving | Expectation::Rebuilds);
    if digests.len() > 1 && !may_move {
        return Err(Unavailable(format!(
            "its base image {} has moved, which policy does not allow (expect = \"moving\" or \"rebuilds\" does)",
            report.image
        )));
    }
    Ok(digests)
}

fn agreed_digests(report: &ImageReport, demands: &Demands) -> Vec<Digest> {
    let mut seen: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
    for witness in &report.witnesses {
        let Some(trusted) = demands.trusts(&witness.line.witness) else { continue };
        let mut first_sightings: BTreeMap<Digest, u64> = BTreeMap::new();
        for Sighting { index, seen } in witness.sightings.iter().map(|sighted| sighted.sighting) {
            if let Seen::Digest(digest) = seen
                && trusted.until.is_none_or(|until| index < until)
            {
                first_sightings.entry(digest).or_insert(index);
            }
        }
        for (digest, index) in first_sightings {
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
        base_digests(&report(), &Demands { expectation: Expectation::Moving, ..demands.clone() }).unwrap()
    }

    #[test]
    fn only_digests_of_enough_trusted_witnesses_count() {
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
    fn a_moved_base_must_be_allowed_to_move() {
        let expecting = |expectation| Demands { expectation, ..Demands::default() };
        for expectation in [Expectation::Moving, Expectation::Rebuilds] {
            assert!(base_digests(&report(), &expecting(expectation)).is_ok());
        }
        for expectation in [Expectation::Unstated, Expectation::Immutable] {
            let error = base_digests(&report(), &expecting(expectation)).unwrap_err();
            assert!(error.to_string().contains("a.example/base:1 has moved"), "{error}");
        }
        // A base that never moved needs no such expectation.
        let trusted = vec![TrustedWitness::new(id("three"), None)];
        assert_eq!(base_digests(&report(), &Demands { trusted, ..Demands::default() }), Ok(vec![digest("D")]));
    }
}
