//! A small log in a directory of files, which lies on request.

use std::path::Path;

use taglog_memory_log::MemoryLog;
use taglog_proto::{
    entry::{Entry, Limits, Observation, Roster, Seal, Seen},
    index::Batch,
    merkle::leaf_hash,
    note::{SigningKey, VerifierKey},
    tile::encode_bundle,
};
use taglog_tests::{
    Witness,
    witness::{digest, image, now, time},
};

fn key() -> SigningKey {
    SigningKey::from_seed("log.example/directory", &[7; 32]).unwrap()
}

/// At most 255 entries.
#[derive(Clone)]
pub struct DirectoryLog {
    memory: MemoryLog,
    tags: u64,
    time: i64,
}

impl DirectoryLog {
    /// A log that admits witness 1.
    pub fn new() -> DirectoryLog {
        let mut log = DirectoryLog { memory: MemoryLog::default(), tags: 0, time: now() - 1000 };
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let roster = Roster::new(time(log.time), limits, vec![Witness::new(1).vkey().clone()]).unwrap();
        log.close(vec![Entry::Roster(roster)], false);
        log
    }

    pub fn vkey(&self) -> VerifierKey {
        key().verifier_key().clone()
    }

    fn size(&self) -> u64 {
        self.memory.entries().len() as u64
    }

    /// Witness 1 sees this content; the seal may count one tag too many.
    pub fn batch(&mut self, name: &str, content: &str, lies: bool) {
        self.time += 1;
        let image = image(&format!("registry.example/{name}"));
        let seen = Seen::Digest(digest(content));
        let observation = Observation::sign(image, seen, time(self.time), &Witness::new(1).key).unwrap();
        self.close(vec![Entry::Observation(observation)], lies);
    }

    fn close(&mut self, entries: Vec<Entry>, lies: bool) {
        let mut batch = Batch::new(&self.memory, self.tags);
        for (index, entry) in (self.size()..).zip(&entries) {
            if let Entry::Observation(observation) = entry {
                batch.observe(index, observation).unwrap();
            }
        }
        let changes = batch.finish().unwrap();
        self.tags = changes.records.tags;
        let (size, tags) = (self.size() + entries.len() as u64, self.tags + u64::from(lies));
        let seal = Seal { time: time(self.time), size, roster: 0, tags, index: changes.tree.root };
        let texts: Vec<Vec<u8>> =
            entries.into_iter().chain([Entry::Seal(seal)]).map(|entry| entry.to_string().into_bytes()).collect();
        self.memory.append(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        self.memory.apply(&changes.records, changes.tree);
    }

    /// Writes all of it.
    pub fn publish(&self, directory: &Path) {
        let entries: Vec<&[u8]> = self.memory.entries().iter().map(Vec::as_slice).collect();
        let hashes: Vec<u8> = entries.iter().flat_map(|entry| leaf_hash(entry).0).collect();
        let width = entries.len();
        for (level, content) in [("0", hashes), ("entries", encode_bundle(entries.iter().copied()).unwrap())] {
            let tiles = directory.join(format!("tile/{level}/000.p"));
            std::fs::create_dir_all(&tiles).unwrap();
            std::fs::write(tiles.join(width.to_string()), content).unwrap();
        }
        let checkpoint = self.memory.checkpoint(key().verifier_key().name()).sign(&key());
        std::fs::write(directory.join("checkpoint"), checkpoint.to_string()).unwrap();
    }
}
