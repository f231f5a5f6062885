//! Malformed, ambiguous and oversized documents, and histories with too many moves.

use proptest::prelude::*;
use serde_json::{Value, json};
use taglog_policy::{Move, MoveComparison};
use taglog_proto::{
    name::{Digest, Image},
    time::Timestamp,
};
use taglog_verify::rebuilt::{MAX_MOVES, compare_moves};

use crate::world::{History, World};

fn image() -> Image {
    Image::parse("a.example/app:1.0").unwrap()
}

/// The comparisons on moves between these, one after the other.
fn found(world: &World, digests: &[Digest]) -> Vec<MoveComparison> {
    let change =
        |pair: &[Digest]| Move { from: pair[0], to: pair[1], at: Timestamp::UNIX_EPOCH, within_release: false };
    let moves: Vec<Move> = digests.windows(2).map(change).collect();
    let platform = "linux/amd64".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(compare_moves(&image(), &moves, &platform, world, world))
}

fn why(comparisons: &[MoveComparison]) -> String {
    match comparisons {
        [MoveComparison::Unexplained { reason }] => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Which of an image's documents is edited.
#[derive(Clone, Copy, Debug)]
enum EditedDocument {
    Configuration,
    Manifest,
    Index,
}

/// A real rebuild with one document of the newer image edited, linked together again.
fn edited(document: EditedDocument, edits: &[(prop::sample::Index, u8)]) -> (World, Digest, Digest) {
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
    let encode = |which: EditedDocument, value: &Value| match (which, document) {
        (EditedDocument::Configuration, EditedDocument::Configuration)
        | (EditedDocument::Manifest, EditedDocument::Manifest)
        | (EditedDocument::Index, EditedDocument::Index) => edit(value),
        _ => serde_json::to_vec(value).unwrap(),
    };
    let config = world.put(encode(EditedDocument::Configuration, &to.config));
    to.manifest["config"]["digest"] = json!(config.to_string());
    let manifest = world.put(encode(EditedDocument::Manifest, &to.manifest));
    to.entry["digest"] = json!(manifest.to_string());
    let index = json!({ "schemaVersion": 2, "manifests": [to.entry] });
    let index = world.put(encode(EditedDocument::Index, &index));
    (world, from, index)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Edited documents get one comparison, and never `PlatformUnchanged`.
    #[test]
    fn edited_documents_are_never_unchanged(
        document in prop_oneof![Just(EditedDocument::Configuration), Just(EditedDocument::Manifest), Just(EditedDocument::Index)],
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (world, from, to) = edited(document, &edits);
        let found = found(&world, &[from, to]);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(!matches!(found[0], MoveComparison::PlatformUnchanged { .. }), "{}", &found[0]);
    }

    /// Arbitrary bytes explain nothing.
    #[test]
    fn arbitrary_documents_are_unexplained(one in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
        let mut world = World::default();
        let (one, other) = (world.put(one), world.put(other));
        let found = found(&world, &[one, other]);
        prop_assert!(matches!(found[..], [MoveComparison::Unexplained { .. }]), "{:?}", found);
    }
}

#[test]
fn oversized_documents_are_unexplained() {
    let list = |count: usize| {
        let entry = json!({ "mediaType": "x", "size": 1, "digest": Digest::sha256(b"x").to_string(),
            "platform": { "os": "linux", "architecture": "arm64" } });
        json!({ "schemaVersion": 2, "manifests": vec![entry; count] })
    };
    let mut world = World::default();
    let (one, many) = (world.put_json(&list(1)), world.put_json(&list(20_000)));
    assert!(why(&found(&world, &[one, many])).contains("more than 1000 manifests"));
    let deep = world.put("[".repeat(4 << 20).into_bytes());
    assert!(why(&found(&world, &[one, deep])).contains("cannot be compared"));
    assert!(why(&found(&world, &[one, one])).contains("no image for linux/amd64"));
}

/// Of too many moves only the latest are compared.
#[test]
fn only_the_latest_moves_are_compared() {
    let mut world = World::default();
    let (one, other) = (world.put(b"{}".to_vec()), world.put(b"[]".to_vec()));
    let digests: Vec<Digest> = [one, other].into_iter().cycle().take(MAX_MOVES + 51).collect();
    let found = found(&world, &digests);
    assert_eq!(found.len(), MAX_MOVES + 50);
    let untouched = |comparison: &&MoveComparison| comparison.to_string().contains("only the latest");
    assert_eq!(found.iter().filter(untouched).count(), 50);
    assert!(untouched(&&found[49]) && !untouched(&&found[50]));
}

/// Documents beyond the limit of bytes are not read.
#[test]
fn the_total_size_of_documents_is_limited() {
    let mut world = World::default();
    let digests: Vec<Digest> = (0..18u8)
        .map(|number| {
            let mut large = vec![b' '; 4 << 20];
            large.extend([b'{', b'"', b'a' + number, b'"', b':', b'1', b'}']);
            world.put(large)
        })
        .collect();
    let found = found(&world, &digests);
    let over = found.iter().filter(|comparison| comparison.to_string().contains("are larger than")).count();
    assert!(over > 0, "{:?}", found.last());
}
