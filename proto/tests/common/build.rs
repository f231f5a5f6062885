//! Evidence of each kind, built from whatever a log is.

use std::collections::BTreeSet;

use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    entry::Entry,
    evidence::{
        Evidence, FalseEntry, FalseSeal, Fork, Inconsistency, NoSeal, OldRepository, OldTag, Omission, Phantom,
    },
    index::RecordReader as _,
    merkle::{Frontier, Hash, inclusion_proof, root},
    multiproof,
    name::{Image, Repository},
    note::SigningKey,
    record::TagRecord,
    tag_proof::IndexedEntry,
};

use super::{APP, Log, ORIGIN, image, log_key, witness_id};

pub fn inclusion(log: &Log, index: u64) -> Vec<Hash> {
    inclusion_proof(&log.memory, index, log.size()).unwrap().unwrap()
}

pub fn checkpoint_of(log: &Log, size: u64) -> SignedCheckpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size, root: root(&log.memory, size).unwrap() }.sign(&log_key())
}

pub fn fork(a: &SignedCheckpoint, b: &SignedCheckpoint) -> Evidence {
    Evidence::Fork(Fork { checkpoints: [a.to_string(), b.to_string()] })
}

pub fn inconsistency(old: &SignedCheckpoint, new: &Log, size: u64) -> Inconsistency {
    Inconsistency::collect(old, &checkpoint_of(new, size), &new.memory).unwrap()
}

pub fn omission(log: &Log, index: u64) -> Evidence {
    let entry = log.entry(index);
    let name = match Entry::parse(entry.as_bytes()) {
        Ok(Entry::Observation(entry)) => entry.image.to_string(),
        _ => APP.to_owned(),
    };
    Evidence::Omission(Omission {
        tag_proof: log.tag_proof(&[&name], None),
        observation: IndexedEntry { index, entry },
        inclusion: inclusion(log, index),
    })
}

pub fn phantom(log: &Log, name: &str, key: &SigningKey, cited: u64, by_list: bool) -> Evidence {
    let (image, witness) = (image(name), witness_id(key));
    let indices: BTreeSet<u64> = [cited, log.size() - 1].into_iter().filter(|index| *index < log.size()).collect();
    let indices: Vec<u64> = indices.into_iter().collect();
    Evidence::Phantom(Phantom {
        checkpoint: log.checkpoint().to_string(),
        image: name.to_owned(),
        tag: log.tag_answer(&image),
        witness: witness.to_string(),
        sightings: by_list.then(|| log.sightings(&image, &witness)),
        cited,
        entries: indices.iter().map(|index| IndexedEntry { index: *index, entry: log.entry(*index) }).collect(),
        multiproof: multiproof::build(&log.memory, &indices, log.size()).unwrap().unwrap(),
    })
}

pub fn no_seal(log: &Log) -> Evidence {
    let last = log.size() - 1;
    let checkpoint = log.checkpoint().to_string();
    Evidence::NoSeal(NoSeal { checkpoint, entry: log.entry(last), inclusion: inclusion(log, last) })
}

pub fn statements(log: &Log, from: u64) -> impl Iterator<Item = Entry> {
    let rest = log.memory.entries()[from as usize..].to_vec();
    rest.into_iter().filter_map(|entry| Entry::parse(&entry).ok())
}

/// Of the batch after `before`, in `after`, which may go on beyond it to `end`.
pub fn false_seal_until(before: &Log, after: &Log, end: u64) -> FalseSeal {
    let (start, size) = (before.size() - 1, after.size());
    let entries: Vec<String> = (start..end).map(|index| after.entry(index)).collect();
    let mut names: (BTreeSet<Image>, BTreeSet<Repository>) = Default::default();
    for entry in statements(after, before.size()).take((end - before.size()) as usize) {
        match entry {
            Entry::Observation(entry) => {
                names.1.insert(entry.image.repository.clone());
                names.0.insert(entry.image);
            }
            Entry::Confirmation(entry) => drop(names.1.insert(entry.repository)),
            _ => {}
        }
    }
    let tag = |image: &Image| OldTag {
        image: image.to_string(),
        answer: before.tag_answer(image),
        sightings: old_lists(before, image),
    };
    let repository =
        |name: &Repository| OldRepository { repository: name.to_string(), answer: before.repository_answer(name) };
    let whole = inconsistency(&checkpoint_of(after, end), after, size);
    FalseSeal {
        checkpoint: after.checkpoint().to_string(),
        prefix: Frontier::read(&after.memory, start).unwrap().nodes().to_vec(),
        start,
        entries,
        rest: whole.rest,
        roster: IndexedEntry { index: before.roster, entry: after.entry(before.roster) },
        roster_inclusion: inclusion(after, before.roster),
        tags: names.0.iter().map(tag).collect(),
        repositories: names.1.iter().map(repository).collect(),
    }
}

pub fn old_lists(log: &Log, image: &Image) -> Vec<Vec<String>> {
    let record = log.memory.tag_record(image).unwrap();
    record.iter().flat_map(TagRecord::lines).map(|line| log.sightings(image, &line.witness)).collect()
}

pub fn false_seal(before: &Log, after: &Log) -> Evidence {
    Evidence::FalseSeal(false_seal_until(before, after, after.size()))
}

/// A roster, an entry and a seal of a log, as evidence against the entry.
pub fn false_entry(log: &Log, indices: [u64; 3]) -> Evidence {
    Evidence::FalseEntry(FalseEntry {
        checkpoint: log.checkpoint().to_string(),
        entries: indices.map(|index| IndexedEntry { index, entry: log.entry(index) }),
        multiproof: multiproof::build(&log.memory, &indices, log.size()).unwrap().unwrap(),
    })
}
