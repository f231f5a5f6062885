//! What the witnesses report: many repositories of twenty tags each, seen by a few witnesses.

use std::{
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use taglog_proto::{
    entry::{Observation, Seen},
    name::{Digest, Image},
    note::SigningKey,
    tile::encode_bundle,
    time::Timestamp,
};

use crate::BenchResult;

const WITNESSES: u64 = 4;
const TAGS_PER_REPOSITORY: u64 = 20;
/// Of observations by a witness that has reported the tag before, one in so many has a new digest.
const CHANGED: u64 = 10;
/// A prime step through all tags, so that further observations come in no order of the index.
const STRIDE: u64 = 7_368_787;
/// Observations begin this long ago, in seconds: within the log's `past`, with room for later ones.
const AGE: i64 = 30 * 86_400;

/// A bundle of signed entries, ready to be sent.
pub struct Bundle {
    /// The entries' number.
    pub entries: u64,
    /// The entries' bytes, without the bundle's framing.
    pub bytes: u64,
    /// An entry bundle.
    pub body: Vec<u8>,
}

/// All observations, by number: the first `tags` are one for each tag; the further ones go through
/// all tags again and again, half by the witness that was first, half by another one.
#[derive(Clone)]
pub struct Workload {
    /// The number of distinct tags.
    pub tags: u64,
    witnesses: Arc<Vec<SigningKey>>,
    start: i64,
}

impl Workload {
    /// A workload over this many tags, the same each time but for its dates.
    pub fn new(tags: u64) -> BenchResult<Workload> {
        let key = |i: u64| SigningKey::from_seed(&format!("witness.example/w{i}"), &[i as u8 + 1; 32]);
        let witnesses = (0..WITNESSES).map(key).collect::<Result<Vec<SigningKey>, _>>()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Workload { tags, witnesses: Arc::new(witnesses), start: i64::try_from(now)? - AGE })
    }

    /// The witnesses' vkeys.
    pub fn vkeys(&self) -> Vec<String> {
        self.witnesses.iter().map(|key| key.verifier_key().to_string()).collect()
    }

    /// Tag number `tag`, counted around.
    pub fn image(&self, tag: u64) -> BenchResult<Image> {
        let tag = tag % self.tags;
        let (repository, version) = (tag / TAGS_PER_REPOSITORY, tag % TAGS_PER_REPOSITORY);
        Ok(Image::parse(&format!("registry.example/team-{}/service-{repository}:1.{version}.0", repository % 997))?)
    }

    /// Observation `number`, signed.
    pub fn observation(&self, number: u64) -> BenchResult<Observation> {
        let (round, place) = (number / self.tags, number % self.tags);
        // A step that shares no divisor with the number of tags leads to each of them once a round.
        let tag = if round == 0 { place } else { (place * self.stride() + round) % self.tags };
        let first = (tag / TAGS_PER_REPOSITORY) % WITNESSES;
        let by_first = round == 0 || (tag + round) % 2 == 0;
        let witness = if by_first { first } else { (first + 1) % WITNESSES };
        let changed = round > 0 && by_first && place.is_multiple_of(CHANGED);
        let digest = Digest::sha256(format!("{tag} {}", if changed { round } else { 0 }).as_bytes());
        // One second later in each round: in order, and never the same statement twice.
        let time =
            Timestamp::from_unix(self.start + i64::try_from(round)?).ok_or("the clock is beyond the year 9999")?;
        Ok(Observation::sign(self.image(tag)?, Seen::Digest(digest), time, &self.witnesses[witness as usize])?)
    }

    fn stride(&self) -> u64 {
        let coprime = |step: &u64| greatest_common_divisor(*step, self.tags) == 1;
        (STRIDE % self.tags..).find(coprime).unwrap_or(1)
    }

    /// Observations `first` to `first + count`, signed on all cores, in bundles of at most `size`.
    pub fn bundles(&self, first: u64, count: u64, size: u64) -> BenchResult<Vec<Bundle>> {
        let starts: Vec<u64> = (first..first + count).step_by(usize::try_from(size)?).collect();
        let share = starts.len().div_ceil(thread::available_parallelism()?.get()).max(1);
        let sign = |starts: &[u64]| -> BenchResult<Vec<Bundle>> {
            starts.iter().map(|start| self.bundle(*start, size.min(first + count - start))).collect()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = starts.chunks(share).map(|starts| scope.spawn(move || sign(starts))).collect();
            let mut bundles = Vec::with_capacity(starts.len());
            for thread in threads {
                bundles.extend(thread.join().map_err(|_| "a signing thread panicked")??);
            }
            Ok(bundles)
        })
    }

    fn bundle(&self, first: u64, count: u64) -> BenchResult<Bundle> {
        let entry = |number| Ok(self.observation(number)?.to_string());
        let entries = (first..first + count).map(entry).collect::<BenchResult<Vec<String>>>()?;
        let body = encode_bundle(entries.iter().map(|entry| entry.as_bytes()))?;
        Ok(Bundle { entries: count, bytes: entries.iter().map(|entry| entry.len() as u64).sum(), body })
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// What the log would refuse or count twice would spoil every number.
    #[test]
    fn observations_are_distinct_and_in_order() {
        let workload = Workload::new(60).unwrap();
        let (mut texts, mut latest, mut tags) = (HashSet::new(), HashMap::new(), HashSet::new());
        for number in 0..300 {
            let entry = workload.observation(number).unwrap();
            tags.insert(entry.image.clone());
            assert_eq!(tags.len() as u64, (number + 1).min(60));
            let who = (entry.image.clone(), entry.signature.witness.clone());
            assert!(latest.insert(who, entry.observed).is_none_or(|before| before <= entry.observed));
            assert!(texts.insert((entry.text(), entry.signature.witness)));
        }
    }

    #[test]
    fn bundles_hold_every_observation_once() {
        let workload = Workload::new(60).unwrap();
        let bundles = workload.bundles(50, 25, 10).unwrap();
        assert_eq!(bundles.iter().map(|bundle| bundle.entries).collect::<Vec<_>>(), [10, 10, 5]);
        let joined: Vec<u8> = bundles.iter().flat_map(|bundle| bundle.body.clone()).collect();
        let entries: Vec<String> = (50..75).map(|n| workload.observation(n).unwrap().to_string()).collect();
        assert_eq!(joined, encode_bundle(entries.iter().map(|entry| entry.as_bytes())).unwrap());
    }
}
