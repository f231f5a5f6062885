//! Whatever is done to evidence that was built from an honest log, it proves no misbehaviour: random logs, evidence of each
//! kind from random places in them, several changes at once to fields and to bytes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use taglog_memory_log::fixtures::{build::*, *};
use taglog_proto::{
    entry::Entry,
    evidence::{Evidence, EvidenceError},
    note::SigningKey,
};

const NAMES: [&str; 4] = [APP, "registry.example/team/app:2.0", "registry.example/other:1", "a.b/c:latest"];
const LETTERS: [char; 4] = ['A', 'B', 'C', '-'];
/// Changed fields and changed bytes that are tried of each piece of evidence.
const MUTANTS: usize = 100;

/// xorshift64*: all of a case follows from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// An honest log, batch by batch: the last one is the log, the ones before are what it was.
fn histories(random: &mut Random) -> Vec<Log> {
    let witnesses = [witness(1), witness(2), witness(3)];
    let all: Vec<&SigningKey> = witnesses.iter().collect();
    let mut logs = vec![Log::new(&all)];
    let mut reported = BTreeSet::new();
    let mut at = 10;
    for _ in 0..2 + random.below(3) {
        let mut log = logs.last().unwrap().clone();
        let roster = (random.below(4) == 0).then(|| roster(at, &all));
        let mut statements = Vec::new();
        for _ in 0..random.below(7) {
            at += random.below(3) as i64;
            let (key, name) = (random.below(3) as usize, *random.pick(&NAMES));
            let repository = name.rsplit_once(':').unwrap().0;
            if random.below(4) == 0 && reported.contains(&(key, repository)) {
                statements.push(confirm(&witnesses[key], repository, at));
            } else {
                reported.insert((key, repository));
                statements.push(observe(&witnesses[key], name, *random.pick(&LETTERS), at));
            }
        }
        at += 1;
        log.batch(at, roster, statements);
        logs.push(log);
    }
    logs
}

/// Evidence of every kind, dressed up from true data.
fn dressed_up(logs: &[Log], random: &mut Random) -> Vec<Evidence> {
    let log = logs.last().unwrap();
    let earlier = random.below(logs.len() as u64 - 1) as usize;
    let old = logs[earlier].checkpoint();
    let any = random.below(log.size());
    let mut evidence = vec![
        fork(&old, &log.checkpoint()),
        Evidence::Inconsistency(inconsistency(&old, log, log.size())),
        omission(log, any),
        Evidence::FalseSeal(false_seal_until(&logs[earlier], log, logs[earlier + 1].size())),
        no_seal(log),
    ];
    // Any three entries, and those that belong together but for the statement itself, which is true.
    let mut three = [0; 3].map(|_| random.below(log.size()));
    three.sort_unstable();
    if three.windows(2).all(|pair| pair[0] < pair[1]) {
        evidence.push(false_entry(log, three));
    }
    let end = logs[earlier + 1].size() - 1;
    if let Ok(Entry::Seal(seal)) = Entry::parse(log.entry(end).as_bytes())
        && seal.roster < any
        && any < end
    {
        evidence.push(false_entry(log, [seal.roster, any, end]));
    }
    let observations = (0..log.size()).filter_map(|index| match Entry::parse(log.entry(index).as_bytes()) {
        Ok(Entry::Observation(entry)) => Some((index, entry)),
        _ => None,
    });
    let observations: Vec<_> = observations.collect();
    if !observations.is_empty() {
        let (index, entry) = random.pick(&observations);
        let keys = [witness(1), witness(2), witness(3)];
        let key = keys.iter().find(|key| witness_id(key) == entry.signature.witness).unwrap();
        evidence.push(omission(log, *index));
        let by_list = random.below(2) == 0;
        evidence.push(phantom(log, &entry.image.to_string(), key, *index, by_list));
    }
    evidence
}

/// Several fields changed, one after the other.
fn changed_fields(document: &Value, changes: &[Mutation], random: &mut Random) -> String {
    let mut mutant = document.clone();
    for _ in 0..1 + random.below(3) {
        let change = random.pick(changes);
        // An earlier change may have removed the field.
        if let Some(node) = mutant.pointer_mut(&change.pointer) {
            *node = change.value.clone();
        }
    }
    mutant.to_string()
}

/// Several runs of bytes changed, moved or left out.
fn changed_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(mutant.len() as u64) as usize;
        let end = (at + random.below(80) as usize).min(mutant.len());
        match random.below(4) {
            0 => mutant[at] = random.below(256) as u8,
            1 => mutant[at] = *random.pick(b"0123456789ABCDEFabcdef+/=\"\\n "),
            2 => drop(mutant.drain(at..end)),
            _ => {
                let moved = mutant[at..end].to_vec();
                let to = random.below(mutant.len() as u64) as usize;
                mutant.splice(to..to, moved);
            }
        }
        if mutant.is_empty() {
            break;
        }
    }
    mutant
}

fn verify(bytes: &[u8]) -> Result<String, EvidenceError> {
    Evidence::from_json(bytes)?.proves_misbehaviour(&log_vkey())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn no_change_to_honest_data_proves_misbehaviour(seed in 1u64..) {
        let mut random = Random(seed);
        let logs = histories(&mut random);
        let evidence = dressed_up(&logs, &mut random);
        let documents: Vec<Value> =
            evidence.iter().map(|evidence| serde_json::from_str(&evidence.to_json()).unwrap()).collect();
        let donors: Vec<&Value> = documents.iter().collect();
        for (evidence, document) in evidence.iter().zip(&documents) {
            let verdict = evidence.proves_misbehaviour(&log_vkey());
            prop_assert!(verdict.is_err(), "unchanged: {verdict:?}");
            let (changes, bytes) = (mutations(document, &donors), evidence.to_json().into_bytes());
            for _ in 0..MUTANTS {
                let mutant = changed_fields(document, &changes, &mut random);
                let verdict = verify(mutant.as_bytes());
                prop_assert!(verdict.is_err(), "{verdict:?}: {mutant}");
                let mutant = changed_bytes(&bytes, &mut random);
                let verdict = verify(&mutant);
                prop_assert!(verdict.is_err(), "{verdict:?}: {}", String::from_utf8_lossy(&mutant));
            }
        }
    }
}

/// The same random logs with one lie in them do prove misbehaviour: what the test above looks for can happen.
#[test]
fn lies_in_random_logs_are_proven() {
    for seed in 1..20 {
        let mut random = Random(seed * 7919);
        let before = histories(&mut random).pop().unwrap();
        let a = witness(1);
        let mut lied = before.clone();
        let mut draft = before.draft(1000, None, vec![observe(&a, APP, 'Z', 999)]);
        draft.seal.index.0[0] ^= 1;
        lied.write(draft);
        assert!(false_seal(&before, &lied).proves_misbehaviour(&log_vkey()).is_ok(), "{seed}");
        let mut left_out = before.clone();
        left_out.write(before.draft_indexed(1000, None, vec![observe(&a, APP, 'Z', 999)], &[]));
        assert!(omission(&left_out, before.size()).proves_misbehaviour(&log_vkey()).is_ok(), "{seed}");
    }
}
