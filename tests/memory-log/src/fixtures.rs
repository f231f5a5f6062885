//! A small log for tests, honest unless a test makes it lie, and systematic mutation of JSON.

pub mod build;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{MemoryLog, Missing};
use serde_json::Value;
use taglog_proto::{
    audit::{AuditError, AuditedBatch, Violation},
    checkpoint::SignedCheckpoint,
    entry::{Confirmation, Entry, Limits, Observation, Roster, Seal, Seen},
    index::{Batch, IndexChanges, RecordReader},
    name::{Digest, Image, Repository, WitnessId, WitnessName},
    note::{SigningKey, VerifierKey},
    prefix_tree::{self, Key},
    tag_proof::{self, IndexAnswer, LookupRequest, TagProof, VerifiedLookup},
    time::Timestamp,
};

pub const ORIGIN: &str = "log.example/taglog";
pub const LIMITS: Limits = Limits { future: 300, past: 7000, quiet: 600 };
/// The image that most tests are about.
pub const APP: &str = "registry.example/team/app:1.0";

pub fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[9; 32]).unwrap()
}

pub fn log_vkey() -> VerifierKey {
    log_key().verifier_key().clone()
}

pub fn witness(number: u8) -> SigningKey {
    SigningKey::from_seed(&format!("witness.example/w{number}"), &[number; 32]).unwrap()
}

pub fn witness_id(key: &SigningKey) -> WitnessId {
    let key = key.verifier_key();
    WitnessId { name: WitnessName::parse(key.name()).unwrap(), key_id: key.key_id() }
}

/// Seconds after the log began.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_000_000 + seconds).unwrap()
}

pub fn image(text: &str) -> Image {
    Image::parse(text).unwrap()
}

/// A digest for each letter; `-` is `gone`.
pub fn seen(letter: char) -> Seen {
    if letter == '-' { Seen::Gone } else { Seen::Digest(Digest::sha256(letter.to_string().as_bytes())) }
}

pub fn observe(key: &SigningKey, name: &str, letter: char, at: i64) -> Entry {
    Entry::Observation(Observation::sign(image(name), seen(letter), time(at), key).unwrap())
}

pub fn confirm(key: &SigningKey, repository: &str, at: i64) -> Entry {
    Entry::Confirmation(Confirmation::sign(Repository::parse(repository).unwrap(), time(at), key).unwrap())
}

pub fn roster(at: i64, witnesses: &[&SigningKey]) -> Roster {
    let keys = witnesses.iter().map(|key| key.verifier_key().clone()).collect();
    Roster::new(time(at), LIMITS, keys).unwrap()
}

/// A batch before it is written: a test may change any part of it.
pub struct Draft {
    /// Roster first, without the seal.
    pub entries: Vec<Entry>,
    pub seal: Seal,
    pub changes: IndexChanges,
}

impl Draft {
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let text = |entry: &Entry| entry.to_string().into_bytes();
        self.entries.iter().chain([&Entry::Seal(self.seal)]).map(text).collect()
    }
}

#[derive(Clone, Default)]
pub struct Log {
    pub memory: MemoryLog,
    pub roster: u64,
    tags: u64,
}

impl Log {
    pub fn new(witnesses: &[&SigningKey]) -> Log {
        let mut log = Log::default();
        log.batch(0, Some(roster(0, witnesses)), vec![]);
        log
    }

    pub fn size(&self) -> u64 {
        self.memory.entries().len() as u64
    }

    /// The next batch, with the right index.
    pub fn draft(&self, at: i64, roster: Option<Roster>, statements: Vec<Entry>) -> Draft {
        let first = self.size() + u64::from(roster.is_some());
        let indexed: Vec<_> = (first..).zip(statements.clone()).collect();
        self.draft_indexed(at, roster, statements, &indexed)
    }

    /// The next batch, whose index is computed from `indexed` instead of its entries.
    pub fn draft_indexed(
        &self,
        at: i64,
        roster: Option<Roster>,
        statements: Vec<Entry>,
        indexed: &[(u64, Entry)],
    ) -> Draft {
        let mut batch = Batch::new(&self.memory, self.tags);
        for (index, entry) in indexed {
            match entry {
                Entry::Observation(entry) => batch.observe(*index, entry).unwrap(),
                Entry::Confirmation(entry) => batch.confirm(*index, entry).unwrap(),
                _ => {}
            }
        }
        let changes = batch.finish().unwrap();
        let in_force = if roster.is_some() { self.size() } else { self.roster };
        let entries: Vec<Entry> = roster.map(Entry::Roster).into_iter().chain(statements).collect();
        let (size, tags) = (self.size() + entries.len() as u64, changes.records.tags);
        let seal = Seal { time: time(at), size, roster: in_force, tags, index: changes.tree.root };
        Draft { entries, seal, changes }
    }

    pub fn audit(&mut self, batch: &[Vec<u8>]) -> Result<AuditedBatch, AuditError<Missing>> {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        self.memory.push_batch(&batch)
    }

    /// The violation that an audit of the draft ends in, with the index of its entry.
    pub fn violation(&self, draft: &Draft) -> (u64, Violation) {
        match self.clone().audit(&draft.bytes()).map(|batch| batch.state.size) {
            Err(AuditError::Violation { index, violation }) => (index, violation),
            other => panic!("want a violation, got {other:?}"),
        }
    }

    /// Writes an honest batch, audited.
    pub fn batch(&mut self, at: i64, roster: Option<Roster>, statements: Vec<Entry>) -> AuditedBatch {
        let draft = self.draft(at, roster, statements);
        let audited = self.audit(&draft.bytes()).unwrap();
        (self.roster, self.tags) = (draft.seal.roster, draft.seal.tags);
        audited
    }

    /// Writes the draft without an audit; from here on the log can only write unaudited batches.
    pub fn write(&mut self, draft: Draft) {
        self.write_raw(&draft.bytes());
        self.memory.apply(&draft.changes.records, draft.changes.tree);
        (self.roster, self.tags) = (draft.seal.roster, draft.seal.tags);
    }

    /// Writes entries and no index.
    pub fn write_raw(&mut self, entries: &[Vec<u8>]) {
        self.memory.append(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.memory.checkpoint(ORIGIN).sign(&log_key())
    }

    pub fn entry(&self, index: u64) -> String {
        String::from_utf8(self.memory.entries()[index as usize].clone()).unwrap()
    }

    pub fn tag_proof(&self, images: &[&str], from: Option<u64>) -> TagProof {
        self.tag_proof_page(images, from, 0)
    }

    pub fn tag_proof_page(&self, images: &[&str], from: Option<u64>, page: u64) -> TagProof {
        let request = LookupRequest { images: images.iter().map(|name| image(name)).collect(), page, from };
        tag_proof::build(&self.memory, &self.checkpoint(), &request).unwrap()
    }

    /// The index record of a tag, with its proof.
    pub fn tag_answer(&self, image: &Image) -> IndexAnswer {
        let record = self.memory.tag_record(image).unwrap().map(|record| record.to_string());
        self.answer(record, &taglog_proto::record::tag_key(image))
    }

    pub fn repository_answer(&self, repository: &Repository) -> IndexAnswer {
        let record = self.memory.repository_record(repository).unwrap().map(|record| record.to_string());
        self.answer(record, &taglog_proto::record::repository_key(repository))
    }

    fn answer(&self, record: Option<String>, key: &Key) -> IndexAnswer {
        IndexAnswer { record, proof: prefix_tree::prove(&self.memory, key).unwrap() }
    }

    pub fn sightings(&self, image: &Image, witness: &WitnessId) -> Vec<String> {
        self.memory.all_sightings(image, witness).iter().map(ToString::to_string).collect()
    }
}

/// The content of a verified tag proof as text, independent of the order of its images.
pub fn meaning(lookup: &VerifiedLookup) -> String {
    let images: BTreeMap<_, _> = lookup.images.iter().map(|report| (report.image.clone(), report)).collect();
    format!("{:?} {:?} {:?} {images:?}", lookup.checkpoint, lookup.seal, lookup.roster)
}

/// Runs `check` on all items, on every core.
pub fn on_all_cores<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Relaxed)) {
                    check(item);
                }
            });
        }
    });
}

/// A change of one node of a JSON document.
pub struct Mutation {
    pub pointer: String,
    pub value: Value,
}

impl Mutation {
    pub fn apply(&self, document: &Value) -> Value {
        let mut mutant = document.clone();
        *mutant.pointer_mut(&self.pointer).unwrap() = self.value.clone();
        mutant
    }
}

/// Every node of a document, with its JSON pointer.
fn nodes(document: &Value) -> Vec<(String, &Value)> {
    let mut found = vec![(String::new(), document)];
    let mut next = 0;
    while let Some((pointer, value)) = found.get(next).cloned() {
        match value {
            Value::Array(items) => found.extend(items.iter().enumerate().map(|(i, v)| (format!("{pointer}/{i}"), v))),
            // No field of taglog's has a '/' or '~', which a pointer would have to escape.
            Value::Object(fields) => found.extend(fields.iter().map(|(k, v)| (format!("{pointer}/{k}"), v))),
            _ => {}
        }
        next += 1;
    }
    found
}

/// A pointer with `*` for its indices: nodes of one shape can replace each other.
fn shape(pointer: &str) -> String {
    let segment = |s: &str| if s.parse::<usize>().is_ok() { "*".to_owned() } else { s.to_owned() };
    pointer.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// The most nodes that replace one node.
const SPLICES: usize = 32;

/// Every small change of every node, and every node replaced by those of the same shape; `donors` are
/// further documents to take nodes from.
pub fn mutations(document: &Value, donors: &[&Value]) -> Vec<Mutation> {
    let mut pool: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (pointer, value) in [&[document], donors].concat().into_iter().flat_map(nodes) {
        let alike = pool.entry(shape(&pointer)).or_default();
        if !alike.contains(&value) {
            alike.push(value);
        }
    }
    let mut found = Vec::new();
    for (pointer, value) in nodes(document) {
        let alike = &pool[&shape(&pointer)];
        let step = alike.len().div_ceil(SPLICES);
        // Replacing the whole document is no mutation.
        let spliced = alike.iter().step_by(step).filter(|_| !pointer.is_empty());
        let spliced = spliced.flat_map(|other| splices(value, other));
        let changed = small_changes(value).into_iter().chain(spliced).filter(|new| new != value);
        found.extend(changed.map(|value| Mutation { pointer: pointer.clone(), value }));
    }
    found
}

/// `value` replaced by `other` as a whole and, for texts, line by line.
fn splices(value: &Value, other: &Value) -> Vec<Value> {
    let mut spliced = vec![other.clone()];
    if let (Value::String(a), Value::String(b)) = (value, other) {
        let lines: Vec<&str> = a.split_inclusive('\n').collect();
        for (i, line) in lines.iter().enumerate().filter(|_| lines.len() > 1) {
            let word = line.split(' ').next();
            for foreign in b.split_inclusive('\n').filter(|foreign| foreign.split(' ').next() == word) {
                spliced.push([&lines[..i], &[foreign], &lines[i + 1..]].concat().concat().into());
            }
        }
    }
    spliced
}

fn small_changes(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => list_changes(items).into_iter().map(Value::Array).collect(),
        Value::Object(fields) => {
            let without = fields.keys().map(|key| {
                let mut fewer = fields.clone();
                fewer.remove(key);
                Value::Object(fewer)
            });
            let with_more = fields.clone().into_iter().chain([("more".to_owned(), Value::Null)]).collect();
            without.chain([with_more, Value::Null]).collect()
        }
        Value::Number(number) => number_changes(number.as_u64().unwrap()),
        Value::String(text) => text_changes(text).into_iter().map(Value::String).collect(),
        Value::Bool(_) | Value::Null => Vec::new(),
    }
}

/// Each item left out, doubled, swapped with the next; the list cut short, and with one more.
fn list_changes<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let mut changed = Vec::new();
    for i in 0..items.len() {
        changed.push([&items[..i], &items[i + 1..]].concat());
        changed.push([&items[..=i], &items[i..]].concat());
        changed.push(items[..i].to_vec());
        changed.push([items, &items[i..=i]].concat());
        if i + 1 < items.len() {
            let mut swapped = items.to_vec();
            swapped.swap(i, i + 1);
            changed.push(swapped);
        }
    }
    changed
}

fn number_changes(number: u64) -> Vec<Value> {
    let near = [number.wrapping_add(1), number.wrapping_sub(1), 0, 256, number + (1 << 32), 1 << 53, u64::MAX];
    let other = [Value::from(-1), Value::from(number as f64), number.to_string().into(), Value::Null];
    near.into_iter().map(Value::from).chain(other).collect()
}

/// Another encoding, or another value, of each part of a text.
fn text_changes(text: &str) -> Vec<String> {
    let mut changed = vec![String::new(), text.to_uppercase(), format!("{text}{text}"), text.trim_end().to_owned()];
    for space in [" ", "\n", "\r\n", "\0", "=", "0"] {
        changed.extend([format!("{text}{space}"), format!("{space}{text}")]);
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() > 1 {
        changed.extend(list_changes(&lines).into_iter().map(|lines| lines.concat()));
        changed.push(text.replace('\n', "\r\n"));
    }
    let words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    for (i, word) in words.iter().enumerate() {
        let bare = word.trim_end();
        for new in word_changes(bare) {
            let new = format!("{new}{}", &word[bare.len()..]);
            changed.push([&words[..i], &[new.as_str()], &words[i + 1..]].concat().concat());
        }
    }
    changed
}

/// Numbers off by one or non-canonical, base64 that is non-canonical, digest and `gone` exchanged.
fn word_changes(word: &str) -> Vec<String> {
    let mut changed = Vec::new();
    if let Ok(number) = word.parse::<u64>() {
        changed.extend([(number + 1).to_string(), number.saturating_sub(1).to_string()]);
        changed.extend([format!("0{word}"), format!("+{word}"), format!("{word}.0")]);
    }
    if let Some(bare) = word.strip_suffix('=').filter(|bare| bare.len() > 8) {
        let bare = bare.trim_end_matches('=');
        let last = bare.bytes().last().unwrap_or(b'A');
        // The last digit carries unused bits: its neighbours decode to the same bytes in a lax decoder.
        let respelled = [last + 1, last - 1].map(|b| format!("{}{}", &bare[..bare.len() - 1], char::from(b)));
        let padding = "=".repeat(word.len() - bare.len());
        changed.extend(respelled.map(|bare| format!("{bare}{padding}")));
        changed.extend([bare.to_owned(), word.replace('+', "-").replace('/', "_"), format!("{word}=")]);
    }
    if word == "gone" || word.starts_with("sha256:") {
        changed.extend([seen('-').to_string(), seen('A').to_string(), seen('Z').to_string()]);
    }
    changed
}
