//! Recorded histories of real tags get the expected verdicts: rebuilds pass, attacks fail. `README.md` says what is
//! recorded and what is made up.

use std::time::Duration;

use crate::world::{History, World, data};
use taglog_policy::{
    Demands, Evaluation, EvaluationInput, Expectation, MoveComparison, Policy, Verdict, apply_comparisons, evaluate,
};
use taglog_proto::{
    entry::Seen,
    merkle::Hash,
    name::{Digest, Image, WitnessId},
    record::{Sighting, TagLine},
    tag_proof::{ImageReport, Sighted, WitnessReport},
    time::Timestamp,
};
use taglog_verify::platform::Platform;
use taglog_verify::rebuilt::compare_moves;

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

fn shown(comparison: &MoveComparison) -> &'static str {
    match comparison {
        MoveComparison::PlatformUnchanged { .. } => "unchanged",
        MoveComparison::Rebuild { .. } => "rebuild",
        MoveComparison::WithinRelease { .. } => "release",
        MoveComparison::Unexplained { .. } => "unexplained",
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

    /// The evaluation when this many sightings are logged and the last of them is served, and the comparison on the
    /// last move.
    async fn evaluated(&self, count: usize, platform: &str, demands: &Demands) -> (Evaluation, Vec<MoveComparison>) {
        let image = self.history.image();
        let report = report(&image, &self.seen[..count]);
        let (served, at) = self.seen[count - 1];
        let now = Timestamp::from_unix(at.unix() + 60 * self.history.minutes_later).unwrap();
        let evaluation =
            evaluate(&EvaluationInput { report: &report, served: Some(served), demands, approved: &[], now });
        let platform: Platform = platform.parse().unwrap();
        let found = compare_moves(&image, &evaluation.moves, &platform, &self.world, &self.world).await;
        (apply_comparisons(evaluation, demands, &found), found)
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
            let (evaluation, found) = recorded.evaluated(i + 1, "linux/amd64", &demands).await;
            assert_eq!(evaluation.verdict.to_string(), pointed.verdict, "{at}: {evaluation:?}");
            assert_eq!(evaluation.passes, evaluation.verdict != Verdict::Retagged, "{at}: {evaluation:?}");
            assert_eq!(
                found.last().map(shown),
                pointed.comparison.as_deref().or(found.last().map(shown)),
                "{at}: {found:?}"
            );
            let why = pointed.why.as_deref().unwrap_or_default();
            assert!(evaluation.reason.contains(why), "{at}: {}", evaluation.reason);
            let shipped = Policy::without_file().demands(&recorded.history.image());
            let (by_profiles, _) = recorded.evaluated(i + 1, "linux/amd64", &shipped).await;
            let expected = pointed.shipped.as_ref().unwrap_or(&pointed.verdict);
            assert_eq!(by_profiles.verdict.to_string(), *expected, "{at}, by what is shipped: {by_profiles:?}");
            if let Some(verdict) = &pointed.guarded {
                let (evaluation, _) = recorded.evaluated(i + 1, "linux/amd64", &guarded).await;
                assert_eq!((evaluation.verdict.to_string(), evaluation.passes), (verdict.clone(), false), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn a_rebuild_does_not_explain_a_move_of_an_immutable_tag() {
    let recorded = Recorded::of("memcached-1.6.45.toml");
    let immutable = Demands { expectation: Expectation::Immutable, ..Demands::default() };
    let (evaluation, _) = recorded.evaluated(2, "linux/amd64", &immutable).await;
    assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::Retagged, false));
    // For the platform whose image is the same in both indexes nothing has moved.
    let (evaluation, found) = recorded.evaluated(2, "linux/arm/v5", &immutable).await;
    assert_eq!((evaluation.verdict, evaluation.passes), (Verdict::Rebuilt, true), "{evaluation:?}");
    assert_eq!(found, [MoveComparison::PlatformUnchanged { platform: "linux/arm/v5".to_owned() }]);
}

#[tokio::test]
async fn messages_never_promise_safety() {
    for name in histories() {
        let recorded = Recorded::of(&name);
        let (evaluation, found) = recorded.evaluated(recorded.seen.len(), "linux/amd64", &Demands::default()).await;
        let said =
            found.iter().map(MoveComparison::to_string).chain([evaluation.reason]).collect::<Vec<_>>().join("; ");
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
