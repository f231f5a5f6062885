//! Where entries are audited: on threads of their own, and only once a signed checkpoint vouches that they are the
//! log's.

use std::collections::VecDeque;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    evidence::Evidence,
    merkle::{Frontier, Hash, NodeReader, node_hash, verify_consistency},
    time::Timestamp,
};

use taglog_audit::{
    Auditor, AuditorError, Prepared, PushError, WitnessKeys, admit_rosters,
    evidence::{broken_rule, convicting, fork, inconsistency, no_seal},
};

/// How many sizes at which batches ended are remembered, for checkpoints that come late.
const RECENT: usize = 256;
/// How much may be lost of a long audit when the process is killed.
const UNCOMMITTED: usize = 100_000;
/// Entries below which it is not worth starting another thread.
const ALONE: usize = 256;

/// Why an audit does not go on.
#[derive(Debug)]
pub enum Stop {
    /// Try again later, or with other entries.
    Later(String),
    /// The log broke a rule, which its signed checkpoint vouches for.
    Violation {
        /// Where, and which rule.
        reason: String,
        /// What convicts it, where SPEC.md section 9 has a kind for it and all that is needed is at hand.
        evidence: Option<Box<Evidence>>,
    },
}

impl From<AuditorError> for Stop {
    fn from(error: AuditorError) -> Stop {
        Stop::Later(error.to_string())
    }
}

/// How entries are known to be the log's.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// A checkpoint that the log signed.
    pub signed: SignedCheckpoint,
    /// How it is known that its tree begins with all entries up to the last of these.
    pub prefix: Prefix,
}

/// How the tree of a signed checkpoint is known to begin with certain entries.
#[derive(Clone, Debug)]
pub enum Prefix {
    /// A consistency proof; empty where the checkpoint ends there as well.
    Proof(Vec<Hash>),
    /// The root that they have, found on the way to the root that is signed.
    Root(Hash),
}

/// One log's auditor, with the entries that wait for the seal of their batch.
#[derive(Debug)]
pub struct Desk {
    auditor: Auditor,
    rest: Prepared,
    /// The same entries as in `rest`, as they are in the log: for evidence.
    raw: Vec<Vec<u8>>,
    recent: VecDeque<u64>,
    /// The last checkpoint that was audited to its end.
    reached: Option<SignedCheckpoint>,
}

/// The log's tree up to the entries that wait.
struct Tree<'a> {
    auditor: &'a Auditor,
    /// The leaves after what was audited.
    leaves: &'a [Hash],
}

impl NodeReader for Tree<'_> {
    type Error = AuditorError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, AuditorError> {
        let audited = self.auditor.size();
        if index.checked_add(1).and_then(|end| end.checked_mul(1_u64.checked_shl(level.into())?)) <= Some(audited) {
            return self.auditor.node(level, index);
        }
        if level == 0 {
            let waiting = index.checked_sub(audited).and_then(|place| self.leaves.get(usize::try_from(place).ok()?));
            // That there is no such leaf, the auditor says.
            return waiting.copied().map_or_else(|| self.auditor.node(level, index), Ok);
        }
        Ok(node_hash(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

impl Desk {
    /// A desk for this auditor.
    pub fn new(auditor: Auditor) -> Desk {
        let recent = VecDeque::from([auditor.size()]);
        Desk { recent, auditor, rest: Prepared::default(), raw: Vec::new(), reached: None }
    }

    /// How many entries were audited.
    pub fn audited(&self) -> u64 {
        self.auditor.size()
    }

    /// The index of the entry that is wanted next.
    pub fn next(&self) -> u64 {
        self.auditor.size() + self.rest.len() as u64
    }

    /// The time of the last audited seal.
    pub fn sealed(&self) -> Option<Timestamp> {
        self.auditor.seal().map(|seal| seal.time)
    }

    /// How a checkpoint, signed by the log, of at most the audited size stands to what was audited: it must be what
    /// the log was at the end of a batch. What was audited is on disk then.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn check(&mut self, signed: &SignedCheckpoint) -> Result<(), Stop> {
        let checkpoint = signed.unverified();
        let root = self.auditor.root_at(checkpoint.size)?;
        if root.is_some_and(|root| root != checkpoint.root) {
            return Err(self.contradicted(signed));
        }
        if root.is_none() || !self.recent.contains(&checkpoint.size) {
            let audited = self.audited();
            return Err(Stop::Later(format!("the audit is at {audited} entries, beyond this checkpoint")));
        }
        Ok(self.auditor.commit()?)
    }

    /// Audits the entries from [`Desk::next`] on, which the checkpoint vouches for; what was audited is on disk in the
    /// end.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn take(&mut self, entries: Vec<Vec<u8>>, vouched: &Vouched) -> Result<(), Stop> {
        // What could not be written waits in memory, which no more shall be added to.
        self.auditor.settle()?;
        let borrowed: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let mut keys = self.auditor.keys().clone();
        admit_rosters(&mut keys, &borrowed);
        for prepared in prepare(&borrowed, &keys) {
            self.rest.append(prepared);
        }
        self.raw.extend(entries);
        if let Err(stop) = self.authenticate(vouched) {
            // They are not what the log signed, so nobody shall be blamed for what is in them.
            self.rest = Prepared::default();
            self.raw.clear();
            return Err(stop);
        }
        let recent = &mut self.recent;
        let taken = self.auditor.take(&mut self.rest, |seal| {
            recent.push_back(seal.size + 1);
            if recent.len() > RECENT {
                recent.pop_front();
            }
        });
        self.raw.drain(..self.raw.len().saturating_sub(self.rest.len()));
        let is_end = self.next() == vouched.signed.unverified().size;
        if is_end || taken.is_err() || self.auditor.uncommitted() >= UNCOMMITTED {
            self.auditor.commit()?;
        }
        taken.map_err(|error| self.stop(error, vouched))?;
        if is_end && !self.rest.is_empty() {
            self.auditor.check_unsealed(&self.rest).map_err(|error| self.stop(error, vouched))?;
            return Err(self.unsealed(&vouched.signed));
        }
        if is_end {
            self.reached = Some(vouched.signed.clone());
        }
        Ok(())
    }

    /// The right edge of the tree up to [`Desk::next`].
    ///
    /// # Errors
    /// [`Stop`].
    pub fn frontier(&self) -> Result<Frontier, Stop> {
        let mut frontier = Frontier::read(&self.auditor, self.auditor.size())?;
        self.rest.leaves().iter().for_each(|leaf| frontier.append(*leaf, |_, _, _| {}));
        Ok(frontier)
    }

    fn tree(&self) -> Tree<'_> {
        Tree { auditor: &self.auditor, leaves: self.rest.leaves() }
    }

    /// A batch that breaks a rule.
    fn stop(&self, error: PushError, vouched: &Vouched) -> Stop {
        match error {
            PushError::Violation { index, .. } => {
                self.violation(error.to_string(), self.broken_rule(index, &vouched.signed))
            }
            PushError::UnknownKind { .. } | PushError::Auditor(_) => Stop::Later(error.to_string()),
        }
    }

    /// The batch after what was audited, under a checkpoint whose whole tree is at hand.
    fn broken_rule(&self, index: u64, signed: &SignedCheckpoint) -> Result<Option<Evidence>, AuditorError> {
        if self.next() != signed.unverified().size {
            return Ok(None);
        }
        let seal = self.raw.iter().position(|entry| entry.starts_with(b"taglog/seal@v1\n"));
        let end = seal.map_or(self.raw.len(), |seal| seal + 1);
        let batch: Vec<&[u8]> = self.raw[..end].iter().map(Vec::as_slice).collect();
        broken_rule(&self.auditor, &batch, index, signed, &self.tree())
    }

    /// A checkpoint that ends in the middle of a batch.
    fn unsealed(&self, signed: &SignedCheckpoint) -> Stop {
        let reason = format!("its checkpoint of size {} does not end in a seal", signed.unverified().size);
        let last = self.raw.last().map(Vec::as_slice).unwrap_or_default();
        self.violation(reason, no_seal(signed, last, &self.tree()))
    }

    /// A checkpoint that is no prefix of what was audited.
    fn contradicted(&self, signed: &SignedCheckpoint) -> Stop {
        let size = signed.unverified().size;
        let reason =
            format!("it signed a checkpoint of size {size} that contradicts a larger one which it signed before");
        let evidence = self.reached.as_ref().map(|reached| match reached.unverified().size == size {
            true => Ok(fork(signed, reached)),
            false => inconsistency(signed, reached, &self.tree()),
        });
        self.violation(reason, evidence.transpose())
    }

    /// Evidence that cannot be collected, or does not convict, leaves the violation as it is.
    fn violation(&self, reason: String, evidence: Result<Option<Evidence>, AuditorError>) -> Stop {
        let evidence = evidence.unwrap_or_else(|error| {
            tracing::error!(%error, "evidence could not be collected");
            None
        });
        let evidence = evidence.and_then(|evidence| convicting(evidence, self.auditor.log()));
        Stop::Violation { reason, evidence: evidence.map(|(evidence, _)| Box::new(evidence)) }
    }

    /// Entries, those that were audited before and those that wait, have the root that the log signed.
    fn authenticate(&self, vouched: &Vouched) -> Result<(), Stop> {
        let frontier = self.frontier()?;
        let (from, root, to) = (frontier.size(), frontier.root(), vouched.signed.unverified());
        let proven = match &vouched.prefix {
            Prefix::Proof(proof) => verify_consistency(from, to.size, proof, &root, &to.root).is_ok(),
            Prefix::Root(known) => root == *known,
        };
        if proven { Ok(()) } else { Err(not_signed(from)) }
    }
}

/// Entries that a signed checkpoint does not vouch for.
pub fn not_signed(up_to: u64) -> Stop {
    Stop::Later(format!("the entries that the log serves up to {up_to} are not those that it signed"))
}

/// Reads, hashes and judges entries on all cores.
fn prepare(entries: &[&[u8]], keys: &WitnessKeys) -> Vec<Prepared> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = entries.len().div_ceil(cores).max(ALONE);
    std::thread::scope(|scope| {
        let parts: Vec<_> = entries.chunks(share).map(|part| scope.spawn(move || Prepared::new(part, keys))).collect();
        // A thread that has died has no part to give; then the entries do not have the signed root.
        parts.into_iter().filter_map(|part| part.join().ok()).collect()
    })
}

#[cfg(test)]
mod tests {
    use taglog_proto::name::Image;
    use tempfile::TempDir;

    use super::*;
    use taglog_memory_log::fixtures::{APP, Log, confirm, image, log_vkey, observe, witness};

    const FILE: &str = "audit.db";

    fn open(directory: &TempDir) -> Auditor {
        Auditor::open(directory.path(), &log_vkey()).unwrap()
    }

    fn take(desk: &mut Desk, log: &Log) -> Result<(), Stop> {
        let entries = log.memory.entries()[desk.next() as usize..].to_vec();
        desk.take(entries, &Vouched { signed: log.checkpoint(), prefix: Prefix::Proof(Vec::new()) })
    }

    fn later<T>(outcome: &Result<T, Stop>) -> bool {
        matches!(outcome, Err(Stop::Later(_)))
    }

    /// What a cosignature stands for is on disk before it, whether the disk was full in between or not.
    #[test]
    fn nothing_is_checked_that_is_not_on_disk() {
        let (a, directory) = (witness(1), tempfile::tempdir().unwrap());
        let mut log = Log::new(&[&a]);
        let mut desk = Desk::new(open(&directory));
        take(&mut desk, &log).unwrap();
        let other = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
        other.execute_batch("ALTER TABLE sighting RENAME TO away").unwrap();
        log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
        assert!(later(&take(&mut desk, &log)));
        // All of it was audited, and none of it is on disk.
        assert_eq!(desk.audited(), log.size());
        assert!(later(&desk.check(&log.checkpoint())));
        log.batch(20, None, vec![observe(&a, APP, 'B', 15)]);
        assert!(later(&take(&mut desk, &log)), "no more is held in memory");
        assert!(desk.audited() < log.size());
        other.execute_batch("ALTER TABLE away RENAME TO sighting").unwrap();
        take(&mut desk, &log).unwrap();
        desk.check(&log.checkpoint()).unwrap();
        drop(desk);
        assert_eq!(open(&directory).size(), log.size());
    }

    /// A batch changes no tag, or no record at all.
    #[test]
    fn batches_without_sightings_are_on_disk_too() {
        let (a, directory) = (witness(1), tempfile::tempdir().unwrap());
        let Image { repository, .. } = image(APP);
        let mut log = Log::new(&[&a]);
        let mut desk = Desk::new(open(&directory));
        log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
        take(&mut desk, &log).unwrap();
        for statements in [vec![confirm(&a, repository.as_str(), 15)], vec![]] {
            log.batch(20, None, statements);
            take(&mut desk, &log).unwrap();
            desk.check(&log.checkpoint()).unwrap();
            let other = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
            let query = "SELECT value FROM meta WHERE key = 'seal'";
            let stored: String = other.query_row(query, [], |row| row.get(0)).unwrap();
            assert_eq!(Some(stored.as_bytes()), log.memory.entries().last().map(Vec::as_slice));
        }
    }
}
