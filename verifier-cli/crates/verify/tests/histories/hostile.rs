//! Documents that nobody honest would push, and more of them than anybody has.

use proptest::prelude::*;
use serde_json::{Value, json};
use taglog_policy::{Finding, Move};
use taglog_proto::{
    name::{Digest, Image},
    time::Timestamp,
};
use taglog_verify::rebuilt::{MAX_MOVES, findings};

use crate::world::{History, World};

fn image() -> Image {
    Image::parse("a.example/app:1.0").unwrap()
}

/// The findings on moves between these, one after the other.
fn found(world: &World, digests: &[Digest]) -> Vec<Finding> {
    let change =
        |pair: &[Digest]| Move { from: pair[0], to: pair[1], at: Timestamp::UNIX_EPOCH, within_release: false };
    let moves: Vec<Move> = digests.windows(2).map(change).collect();
    let platform = "linux/amd64".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(findings(&image(), &moves, &platform, world, world))
}

fn why(findings: &[Finding]) -> String {
    match findings {
        [Finding::Unexplained { why }] => why.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Which of an image's documents is spoiled.
#[derive(Clone, Copy, Debug)]
enum Spoiled {
    Configuration,
    Manifest,
    Index,
}

/// A real rebuild with one document of the newer image edited, linked together again.
fn edited(spoiled: Spoiled, edits: &[(prop::sample::Index, u8)]) -> (World, Digest, Digest) {
    let (mut world, history) = (World::default(), History::read("memcached-1.6.45.toml"));
    world.take_in(&history);
    let from = world.made(&history, "august-5");
    let from = world.write(&from);
    let from = world.index(&[from]);
    let mut to = world.made(&history, "august-25");
    let edit = |value: &Value| {
        let mut bytes = serde_json::to_vec(value).unwrap();
        for (index, byte) in edits {
            let place = index.index(bytes.len());
            bytes[place] = *byte;
        }
        bytes
    };
    let spoil = |which: Spoiled, value: &Value| match (which, spoiled) {
        (Spoiled::Configuration, Spoiled::Configuration)
        | (Spoiled::Manifest, Spoiled::Manifest)
        | (Spoiled::Index, Spoiled::Index) => edit(value),
        _ => serde_json::to_vec(value).unwrap(),
    };
    let config = world.put(spoil(Spoiled::Configuration, &to.config));
    to.manifest["config"]["digest"] = json!(config.to_string());
    let manifest = world.put(spoil(Spoiled::Manifest, &to.manifest));
    to.entry["digest"] = json!(manifest.to_string());
    let index = json!({ "schemaVersion": 2, "manifests": [to.entry] });
    let index = world.put(spoil(Spoiled::Index, &index));
    (world, from, index)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever bytes are edited, there is one finding, and never that nothing changed.
    #[test]
    fn edited_documents(
        spoiled in prop_oneof![Just(Spoiled::Configuration), Just(Spoiled::Manifest), Just(Spoiled::Index)],
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (world, from, to) = edited(spoiled, &edits);
        let found = found(&world, &[from, to]);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(!matches!(found[0], Finding::PlatformUnchanged { .. }), "{}", &found[0]);
    }

    /// Arbitrary bytes explain nothing.
    #[test]
    fn arbitrary_documents(one in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
        let mut world = World::default();
        let (one, other) = (world.put(one), world.put(other));
        let found = found(&world, &[one, other]);
        prop_assert!(matches!(found[..], [Finding::Unexplained { .. }]), "{:?}", found);
    }
}

#[test]
fn documents_without_measure() {
    let list = |count: usize| {
        let entry = json!({ "mediaType": "x", "size": 1, "digest": Digest::sha256(b"x").to_string(),
            "platform": { "os": "linux", "architecture": "arm64" } });
        json!({ "schemaVersion": 2, "manifests": vec![entry; count] })
    };
    let mut world = World::default();
    let (one, many) = (world.put_json(&list(1)), world.put_json(&list(20_000)));
    assert!(why(&found(&world, &[one, many])).contains("more than 1000 manifests"));
    let deep = world.put("[".repeat(4 << 20).into_bytes());
    assert!(why(&found(&world, &[one, deep])).contains("is not understood"));
    assert!(why(&found(&world, &[one, one])).contains("no image for linux/amd64"));
}

/// Of a history without end only the latest moves are looked into.
#[test]
fn moves_without_end() {
    let mut world = World::default();
    let (one, other) = (world.put(b"{}".to_vec()), world.put(b"[]".to_vec()));
    let digests: Vec<Digest> = [one, other].into_iter().cycle().take(MAX_MOVES + 51).collect();
    let found = found(&world, &digests);
    assert_eq!(found.len(), MAX_MOVES + 50);
    let untouched = |finding: &&Finding| finding.to_string().contains("only the latest");
    assert_eq!(found.iter().filter(untouched).count(), 50);
    assert!(untouched(&&found[49]) && !untouched(&&found[50]));
}

/// A history whose documents are too large together is given up, not read to the end.
#[test]
fn more_bytes_than_are_read() {
    let mut world = World::default();
    let digests: Vec<Digest> = (0..18u8)
        .map(|number| {
            let mut large = vec![b' '; 4 << 20];
            large.extend([b'{', b'"', b'a' + number, b'"', b':', b'1', b'}']);
            world.put(large)
        })
        .collect();
    let found = found(&world, &digests);
    let over = found.iter().filter(|finding| finding.to_string().contains("are over")).count();
    assert!(over > 0, "{:?}", found.last());
}
