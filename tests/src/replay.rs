//! Fetches a whole log and audits it.

use taglog_memory_log::MemoryLog;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    merkle::{NodeReader as _, consistency_proof, verify_consistency},
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle},
};

use crate::server::Server;

/// The tiles of one kind that cover the first `count` of its leaves or nodes, the last one partial.
pub fn tile_paths(kind: TileKind, count: u64) -> Vec<TilePath> {
    let width = |index: u64| (count - index * FULL_WIDTH).min(FULL_WIDTH) as u16;
    (0..count.div_ceil(FULL_WIDTH)).map(|index| TilePath { kind, index, width: width(index) }).collect()
}

/// All entries below `size`, from the entry bundles.
pub async fn fetch_entries(server: &Server, size: u64) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for path in tile_paths(TileKind::Entries, size) {
        let answer = server.get(&format!("/tile/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let bundle = decode_bundle(&answer.body, usize::from(path.width)).unwrap();
        assert_eq!(bundle.len(), usize::from(path.width), "{path}");
        entries.extend(bundle.into_iter().map(<[u8]>::to_vec));
    }
    entries
}

/// A whole audit: every entry, signature, rule, record, seal and tile below the checkpoint that the
/// server publishes now, re-derived.
pub async fn replay(server: &Server) -> MemoryLog {
    let checkpoint = server.checkpoint().await;
    let size = checkpoint.unverified().size;
    let entries = fetch_entries(server, size).await;
    let log = audit_entries(&entries);
    assert_eq!(log.checkpoint(server.vkey.name()), *checkpoint.unverified(), "the audit leads to another root");
    check_tiles(server, &log, size).await;
    log
}

/// Audits entries batch by batch.
pub fn audit_entries(entries: &[Vec<u8>]) -> MemoryLog {
    let mut log = MemoryLog::default();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    while log.entries().len() < entries.len() {
        log.push_batch(&entries[log.entries().len()..]).unwrap_or_else(|error| panic!("the audit fails: {error}"));
    }
    log
}

async fn check_tiles(server: &Server, log: &MemoryLog, size: u64) {
    for level in 0..8u8 {
        // Nodes at multiples of eight levels are the hashes of tiles.
        for path in tile_paths(TileKind::Hashes(level), size >> (8 * u32::from(level))) {
            let served = server.get(&format!("/tile/{path}")).await;
            let first = path.index * FULL_WIDTH;
            let nodes = (first..first + u64::from(path.width)).map(|index| log.node(8 * level, index).unwrap().0);
            assert!(served.status == 200 && served.body == nodes.collect::<Vec<_>>().concat(), "tile {path}");
        }
    }
}

/// Checks that a checkpoint seen earlier is a prefix of the replayed log.
pub fn assert_prefix(old: &SignedCheckpoint, log: &MemoryLog) {
    let (old, new) = (old.unverified(), log.checkpoint(&old.unverified().origin));
    let proof = consistency_proof(log, old.size, new.size).unwrap();
    let verdict = verify_consistency(old.size, new.size, &proof, &old.root, &new.root);
    assert!(verdict.is_ok(), "a checkpoint of size {} is no prefix of size {}: {verdict:?}", old.size, new.size);
}
