//! Recorded histories of real tags come out right: rebuilds do not fail, attacks do. `README.md` says what is recorded
//! and what is made up.

use std::time::Duration;

use crate::world::{History, World, data};
use taglog_policy::{Case, Demands, Expectation, Finding, Judgement, Policy, Verdict, explained, judge};
use taglog_proto::{
    entry::Seen,
    merkle::Hash,
    name::{Digest, Image, WitnessId},
    record::{Sighting, TagLine},
    tag_proof::{ImageReport, Sighted, WitnessReport},
    time::Timestamp,
};
use taglog_verify::platform::Platform;
use taglog_verify::rebuilt::findings;

/// A log in which three witnesses saw these, one after the other.
fn report(image: &Image, seen: &[(Digest, Timestamp)]) -> ImageReport {
    let witness = |number: u64| {
        let sighted = |(place, (digest, observed)): (u64, &(Digest, Timestamp))| Sighted {
            sighting: Sighting { index: 10 * place + number, seen: Seen::Digest(*digest) },
            observed: *observed,
        };
        let sightings: Vec<Sighted> = (1..).zip(seen).map(sighted).collect();
        let last = sightings.last().unwrap();
        let line = TagLine {
            witness: WitnessId::parse(&format!("witness-{number}+0000000{number}")).unwrap(),
            observations: seen.len() as u64,
            sightings: seen.len() as u64,
            root: Hash::ZERO,
            index: last.sighting.index,
            observed: last.observed,
            seen: last.sighting.seen,
        };
        WitnessReport { line, sightings, start: 0, complete: true, confirmed: None, in_roster: true }
    };
    ImageReport { image: image.clone(), repository_covered: true, witnesses: (1..=3).map(witness).collect() }
}

fn expectation(name: &str) -> Expectation {
    match name {
        "unstated" => Expectation::Unstated,
        "moving" => Expectation::Moving,
        "rebuilds" => Expectation::Rebuilds,
        "immutable" => Expectation::Immutable,
        other => panic!("{other}"),
    }
}

fn shown(finding: &Finding) -> &'static str {
    match finding {
        Finding::PlatformUnchanged { .. } => "unchanged",
        Finding::Rebuild { .. } => "rebuild",
        Finding::WithinRelease { .. } => "release",
        Finding::Unexplained { .. } => "unexplained",
    }
}

/// A recorded history, and the documents behind it.
struct Recorded {
    history: History,
    world: World,
    seen: Vec<(Digest, Timestamp)>,
}

impl Recorded {
    fn of(name: &str) -> Recorded {
        let history = History::read(name);
        let mut world = World::default();
        let digests = world.take_in(&history);
        let times = history.sighting.iter().map(|pointed| pointed.seen.parse::<Timestamp>().unwrap());
        let seen = digests.into_iter().zip(times).collect();
        Recorded { history, world, seen }
    }

    /// The judgement when this many sightings are logged and the last of them is served, and the finding on the last move.
    async fn judged(&self, count: usize, platform: &str, demands: &Demands) -> (Judgement, Vec<Finding>) {
        let image = self.history.image();
        let report = report(&image, &self.seen[..count]);
        let (served, at) = self.seen[count - 1];
        let now = Timestamp::from_unix(at.unix() + 60 * self.history.minutes_later).unwrap();
        let judgement = judge(&Case { report: &report, served: Some(served), demands, approved: &[], now });
        let platform: Platform = platform.parse().unwrap();
        let found = findings(&image, &judgement.moves, &platform, &self.world, &self.world).await;
        (explained(judgement, demands, &found), found)
    }
}

fn histories() -> Vec<String> {
    let files = std::fs::read_dir(data()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|name| name.ends_with(".toml")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn each_sighting_gets_its_verdict() {
    for name in histories() {
        let recorded = Recorded::of(&name);
        let demands = Demands { expectation: expectation(&recorded.history.expectation), ..Demands::default() };
        let guarded = Demands { min_age: Some(Duration::from_secs(3 * 86_400)), ..demands.clone() };
        for (i, pointed) in recorded.history.sighting.iter().enumerate() {
            let at = format!("{name}, {} ({})", pointed.digest, pointed.seen);
            let (judgement, found) = recorded.judged(i + 1, "linux/amd64", &demands).await;
            assert_eq!(judgement.verdict.to_string(), pointed.verdict, "{at}: {judgement:?}");
            assert_eq!(judgement.passes, judgement.verdict != Verdict::Retagged, "{at}: {judgement:?}");
            assert_eq!(
                found.last().map(shown),
                pointed.finding.as_deref().or(found.last().map(shown)),
                "{at}: {found:?}"
            );
            let why = pointed.why.as_deref().unwrap_or_default();
            assert!(judgement.reason.contains(why), "{at}: {}", judgement.reason);
            let shipped = Policy::without_file().demands(&recorded.history.image());
            let (by_profiles, _) = recorded.judged(i + 1, "linux/amd64", &shipped).await;
            let expected = pointed.shipped.as_ref().unwrap_or(&pointed.verdict);
            assert_eq!(by_profiles.verdict.to_string(), *expected, "{at}, by what is shipped: {by_profiles:?}");
            if let Some(verdict) = &pointed.guarded {
                let (judgement, _) = recorded.judged(i + 1, "linux/amd64", &guarded).await;
                assert_eq!((judgement.verdict.to_string(), judgement.passes), (verdict.clone(), false), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn a_tag_that_never_moves_is_not_rebuilt() {
    let recorded = Recorded::of("memcached-1.6.45.toml");
    let immutable = Demands { expectation: Expectation::Immutable, ..Demands::default() };
    let (judgement, _) = recorded.judged(2, "linux/amd64", &immutable).await;
    assert_eq!((judgement.verdict, judgement.passes), (Verdict::Retagged, false));
    // For the platform whose image is the same in both indexes nothing has moved.
    let (judgement, found) = recorded.judged(2, "linux/arm/v5", &immutable).await;
    assert_eq!((judgement.verdict, judgement.passes), (Verdict::Rebuilt, true), "{judgement:?}");
    assert_eq!(found, [Finding::PlatformUnchanged { platform: "linux/arm/v5".to_owned() }]);
}

#[tokio::test]
async fn findings_never_promise_anything() {
    for name in histories() {
        let recorded = Recorded::of(&name);
        let (judgement, found) = recorded.judged(recorded.seen.len(), "linux/amd64", &Demands::default()).await;
        let said = found.iter().map(Finding::to_string).chain([judgement.reason]).collect::<Vec<_>>().join("; ");
        for promise in ["safe", "secure", "trusted", "harmless", "verified"] {
            assert!(!said.contains(promise), "{said}");
        }
    }
}

#[test]
fn every_history_names_its_sources() {
    for name in histories() {
        let history = History::read(&name);
        let pages = history.sighting.iter().filter_map(|pointed| pointed.page.as_ref());
        for source in history.sources.iter().chain(pages) {
            assert!(source.starts_with("https://"), "{name}: {source}");
        }
        assert!(!history.sources.is_empty(), "{name}");
        for pointed in &history.sighting {
            Digest::parse(&pointed.digest).unwrap();
            assert!(pointed.builds.is_empty() || pointed.page.is_some(), "{name}: {}", pointed.digest);
        }
    }
}
