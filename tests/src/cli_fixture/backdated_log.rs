//! A log in memory whose seals are as old as a test wants: those of a server are always new.

use crate::{
    Witness,
    server::ORIGIN,
    witness::{image, time},
};
use taglog_memory_log::MemoryLog;
use taglog_proto::{
    entry::{Entry, Limits, Roster, Seal},
    index::Batch,
    note::{SigningKey, VerifierKey},
    tag_proof::{self, LookupRequest},
};

/// A log of one witness, whose batches were sealed at times of the test's choice.
pub struct BackdatedLog {
    key: SigningKey,
    memory: MemoryLog,
    tags: u64,
}

impl BackdatedLog {
    /// A log with these observations, sealed at `sealed` seconds since 1970.
    pub fn new(witness: &Witness, notes: &[Vec<u8>], sealed: i64) -> BackdatedLog {
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let roster = Roster::new(time(sealed), limits, vec![witness.vkey().clone()]).unwrap();
        let mut memory = MemoryLog::default();
        let index = Batch::new(&memory, 0).finish().unwrap().tree.root;
        let first = Seal { time: time(sealed), size: 1, roster: 0, tags: 0, index };
        push(&mut memory, &[Entry::Roster(roster), Entry::Seal(first)]);
        let mut log = BackdatedLog { key: SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap(), memory, tags: 0 };
        log.add(notes, sealed);
        log
    }

    /// Adds observations in a batch that was sealed later.
    pub fn add(&mut self, notes: &[Vec<u8>], sealed: i64) {
        let mut entries: Vec<Entry> = notes.iter().map(|note| Entry::parse(note).unwrap()).collect();
        let size = self.size() + entries.len() as u64;
        let changes = {
            let mut batch = Batch::new(&self.memory, self.tags);
            for (index, entry) in (self.size()..).zip(&entries) {
                let Entry::Observation(entry) = entry else { panic!("{entry}") };
                batch.observe(index, entry).unwrap();
            }
            batch.finish().unwrap()
        };
        self.tags = changes.records.tags;
        let index = changes.tree.root;
        entries.push(Entry::Seal(Seal { time: time(sealed), size, roster: 0, tags: self.tags, index }));
        push(&mut self.memory, &entries);
    }

    pub fn size(&self) -> u64 {
        self.memory.entries().len() as u64
    }

    pub fn vkey(&self) -> &VerifierKey {
        self.key.verifier_key()
    }

    /// Its tag proof for an image, as a line of a saved file.
    pub fn tag_proof(&self, name: &str, from: Option<u64>) -> String {
        let checkpoint = self.memory.checkpoint(ORIGIN).sign(&self.key);
        let request = LookupRequest { images: vec![image(name)], page: 0, from };
        format!("{}\n", tag_proof::build(&self.memory, &checkpoint, &request).unwrap().to_json())
    }
}

fn push(memory: &mut MemoryLog, entries: &[Entry]) {
    let bytes: Vec<String> = entries.iter().map(Entry::to_string).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(String::as_bytes).collect();
    memory.push_batch(&bytes).unwrap_or_else(|error| panic!("the log in memory is not valid: {error}"));
}
