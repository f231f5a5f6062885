//! A log made in memory, whose seals are as old as a test wants: a server's are always new.

use taglog_proto::{
    entry::{Entry, Limits, Roster, Seal},
    index::Batch,
    memory::MemoryLog,
    note::{SigningKey, VerifierKey},
    tag_proof::{self, LookupRequest, TagProof},
};
use taglog_tests::{
    Witness,
    server::ORIGIN,
    witness::{image, time},
};

/// A log of one witness, whose one batch was sealed at a time of the test's choice.
pub struct OldLog {
    key: SigningKey,
    memory: MemoryLog,
}

impl OldLog {
    /// A log with these observations, sealed at `sealed` seconds since 1970.
    pub fn new(witness: &Witness, notes: &[Vec<u8>], sealed: i64) -> OldLog {
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let roster = Roster::new(time(sealed), limits, vec![witness.vkey().clone()]).unwrap();
        let mut memory = MemoryLog::default();
        let index = Batch::new(&memory, 0).finish().unwrap().tree.root;
        let first = Seal { time: time(sealed), size: 1, roster: 0, tags: 0, index };
        push(&mut memory, &[Entry::Roster(roster), Entry::Seal(first)]);
        let batch = sealed_batch(&memory, notes, sealed);
        push(&mut memory, &batch);
        OldLog { key: SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap(), memory }
    }

    /// Its public key.
    pub fn vkey(&self) -> &VerifierKey {
        self.key.verifier_key()
    }

    /// What it answers to a look-up.
    pub fn tag_proof(&self, names: &[&str]) -> TagProof {
        let checkpoint = self.memory.checkpoint(ORIGIN).sign(&self.key);
        let images = names.iter().map(|name| image(name)).collect();
        tag_proof::build(&self.memory, &checkpoint, &LookupRequest { images, page: 0, from: None }).unwrap().unwrap()
    }
}

fn sealed_batch(memory: &MemoryLog, notes: &[Vec<u8>], sealed: i64) -> Vec<Entry> {
    let mut batch = Batch::new(memory, 0);
    let mut entries: Vec<Entry> = notes.iter().map(|note| Entry::parse(note).unwrap()).collect();
    for (index, entry) in (2..).zip(&entries) {
        let Entry::Observation(entry) = entry else { panic!("{entry}") };
        batch.observe(index, entry).unwrap().unwrap();
    }
    let changes = batch.finish().unwrap();
    let (size, tags) = (2 + entries.len() as u64, changes.records.tags);
    entries.push(Entry::Seal(Seal { time: time(sealed), size, roster: 0, tags, index: changes.tree.root }));
    entries
}

fn push(memory: &mut MemoryLog, entries: &[Entry]) {
    let bytes: Vec<String> = entries.iter().map(Entry::to_string).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(String::as_bytes).collect();
    memory.push_batch(&bytes).unwrap_or_else(|error| panic!("the log in memory is not honest: {error}"));
}
