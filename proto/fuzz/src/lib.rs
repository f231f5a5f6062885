//! What the fuzz targets share: the property that each parser is checked for, and a small log that
//! is valid, so that a target can start from something near the truth.

use std::{fmt::Display, sync::LazyLock};

use taglog_memory_log::MemoryLog;
use taglog_proto::{
    audit::AuditState,
    checkpoint::SignedCheckpoint,
    merkle::Hash,
    name::Image,
    note::SigningKey,
    tag_proof::{self, LookupRequest, TagProof},
};

/// Checks a parser of text: what it accepts it prints back byte for byte.
pub fn one_spelling<T: Display, E>(data: &[u8], parse: impl Fn(&str) -> Result<T, E>) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(parsed) = parse(text)
    {
        assert_eq!(parsed.to_string(), text);
    }
}

/// A whole small log.
pub struct History {
    /// The key of the log.
    pub key: SigningKey,
    /// Its entries.
    pub entries: Vec<String>,
    /// Its checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The log after its last batch.
    pub log: MemoryLog,
    /// The log before its last batch.
    pub before: MemoryLog,
    /// A tag proof under the checkpoint.
    pub proof: TagProof,
}

/// The log of `vectors/history.json`.
pub static HISTORY: LazyLock<History> = LazyLock::new(|| {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../vectors/history.json")).expect("the vectors are JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let entries: Vec<String> = vectors["entries"].as_array().expect("a list").iter().map(text).collect();
    let bytes: Vec<&[u8]> = entries.iter().map(String::as_bytes).collect();
    let (mut log, mut before) = (MemoryLog::default(), MemoryLog::default());
    while (log.state().size as usize) < bytes.len() {
        before = log.clone();
        log.push_batch(&bytes[log.state().size as usize..]).expect("the history is valid");
    }
    let key = SigningKey::from_seed("log.example/taglog", &[9; 32]).expect("a good name");
    let checkpoint = log.checkpoint("log.example/taglog").sign(&key);
    let names = ["docker.io/martes13/harmless:1.0", "docker.io/library/nothing:1"];
    let images = names.map(|name| Image::parse(name).expect("a good name")).to_vec();
    let request = LookupRequest { images, page: 0, from: Some(7) };
    let proof = tag_proof::build(&log, &checkpoint, &request).expect("the log holds it, and the request is good");
    History { key, entries, checkpoint, log, before, proof }
});

impl History {
    /// The last batch, and the state before it.
    pub fn last_batch(&self) -> (&AuditState, &[String]) {
        let state = self.before.state();
        (state, &self.entries[state.size as usize..])
    }
}

/// Changes valid text as the fuzzer says: each change is a place, how many bytes go, and what comes.
pub fn spoil(valid: &str, changes: &[(u16, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = valid.as_bytes().to_vec();
    for (place, gone, come) in changes.iter().take(8) {
        let at = usize::from(*place) % (bytes.len() + 1);
        let end = (at + usize::from(*gone)).min(bytes.len());
        bytes.splice(at..end, come.iter().copied());
    }
    bytes
}

/// Hashes of a proof from the fuzzer: few distinct values, so that equal ones are common.
pub fn hashes(seeds: &[u8]) -> Vec<Hash> {
    seeds.iter().map(|seed| Hash([*seed; 32])).collect()
}
