//! The audit of one log: entries are audited only after a signed checkpoint has proved that they are the log's.

use std::collections::VecDeque;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    evidence::Evidence,
    merkle::{Frontier, Hash, NodeReader, node_hash, verify_consistency},
    time::Timestamp,
};

use taglog_audit::{
    Auditor, AuditorError, ParsedEntries, PushError, WitnessKeys, admit_rosters,
    evidence::{broken_rule, fork, inconsistency, no_seal, with_accusation},
};

/// How many sizes at which batches ended are remembered, for checkpoints that are requested late.
const MAX_RECENT: usize = 256;
/// The most audited entries that are not committed, which a crash loses.
const MAX_UNCOMMITTED: usize = 100_000;
/// The fewest entries for which another thread is started.
const MIN_PER_THREAD: usize = 256;

/// Why an audit does not continue.
#[derive(Debug)]
pub enum AuditError {
    /// It may succeed later, or with other entries.
    Pending(String),
    /// The log broke a rule, as its signed checkpoint proves.
    Violation {
        /// Where, and which rule.
        reason: String,
        /// Evidence of it, if SPEC.md section 9 has a kind for it and all parts are available.
        evidence: Option<Box<Evidence>>,
    },
}

impl From<AuditorError> for AuditError {
    fn from(error: AuditorError) -> AuditError {
        AuditError::Pending(error.to_string())
    }
}

/// The proof that entries are the log's.
#[derive(Clone, Debug)]
pub struct EntryProof {
    /// A checkpoint that the log signed.
    pub signed: SignedCheckpoint,
    /// The proof that its tree starts with all entries up to the last of these.
    pub prefix: PrefixProof,
}

/// The proof that the tree of a signed checkpoint starts with certain entries.
#[derive(Clone, Debug)]
pub enum PrefixProof {
    /// A consistency proof; empty if the checkpoint ends there as well.
    Consistency(Vec<Hash>),
    /// Their root, which was computed on the way to the signed root.
    Root(Hash),
}

/// The auditor of one log, with the entries that wait for the seal of their batch.
#[derive(Debug)]
pub struct AuditSession {
    auditor: Auditor,
    rest: ParsedEntries,
    /// The bytes of the entries in `rest`, for evidence.
    raw: Vec<Vec<u8>>,
    recent: VecDeque<u64>,
    /// The last checkpoint that was audited to its end.
    reached: Option<SignedCheckpoint>,
}

/// The log's tree up to the last waiting entry.
struct Tree<'a> {
    auditor: &'a Auditor,
    /// The leaves of the waiting entries.
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
            // If there is no such leaf, the auditor returns the error.
            return waiting.copied().map_or_else(|| self.auditor.node(level, index), Ok);
        }
        Ok(node_hash(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

impl AuditSession {
    pub fn new(auditor: Auditor) -> AuditSession {
        let recent = VecDeque::from([auditor.size()]);
        AuditSession { recent, auditor, rest: ParsedEntries::default(), raw: Vec::new(), reached: None }
    }

    /// The number of audited entries.
    pub fn audited(&self) -> u64 {
        self.auditor.size()
    }

    /// The index of the next entry to audit.
    pub fn next(&self) -> u64 {
        self.auditor.size() + self.rest.len() as u64
    }

    /// The time of the last audited seal.
    pub fn sealed(&self) -> Option<Timestamp> {
        self.auditor.seal().map(|seal| seal.time)
    }

    /// Checks a checkpoint, signed by the log, of at most the audited size: it must be the state of the log at the end
    /// of a batch. The audit is on disk when this returns.
    pub fn check(&mut self, signed: &SignedCheckpoint) -> Result<(), AuditError> {
        let checkpoint = signed.unverified();
        let root = self.auditor.root_at(checkpoint.size)?;
        if root.is_some_and(|root| root != checkpoint.root) {
            return Err(self.contradicted(signed));
        }
        if root.is_none() || !self.recent.contains(&checkpoint.size) {
            let audited = self.audited();
            return Err(AuditError::Pending(format!(
                "the audit is at {audited} entries, beyond this checkpoint; request a newer one"
            )));
        }
        Ok(self.auditor.commit()?)
    }

    /// Audits the entries from [`AuditSession::next`] on. At the end of the checkpoint the audit is on disk when this
    /// returns.
    pub fn take(&mut self, entries: Vec<Vec<u8>>, proof_of_entries: &EntryProof) -> Result<(), AuditError> {
        // A failed commit is repeated first, so that what is only in memory does not grow.
        self.auditor.settle()?;
        let borrowed: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let mut keys = self.auditor.keys().clone();
        admit_rosters(&mut keys, &borrowed);
        for parsed in prepare(&borrowed, &keys) {
            self.rest.append(parsed);
        }
        self.raw.extend(entries);
        if let Err(stop) = self.authenticate(proof_of_entries) {
            // The log did not sign these entries, so it must not be blamed for them.
            self.rest = ParsedEntries::default();
            self.raw.clear();
            return Err(stop);
        }
        let recent = &mut self.recent;
        let taken = self.auditor.take(&mut self.rest, |seal| {
            recent.push_back(seal.size + 1);
            if recent.len() > MAX_RECENT {
                recent.pop_front();
            }
        });
        self.raw.drain(..self.raw.len().saturating_sub(self.rest.len()));
        let is_end = self.next() == proof_of_entries.signed.unverified().size;
        if is_end || taken.is_err() || self.auditor.uncommitted() >= MAX_UNCOMMITTED {
            self.auditor.commit()?;
        }
        taken.map_err(|error| self.stop(error, proof_of_entries))?;
        if is_end && !self.rest.is_empty() {
            self.auditor.check_unsealed(&self.rest).map_err(|error| self.stop(error, proof_of_entries))?;
            return Err(self.unsealed(&proof_of_entries.signed));
        }
        if is_end {
            self.reached = Some(proof_of_entries.signed.clone());
        }
        Ok(())
    }

    /// The right edge of the tree up to [`AuditSession::next`].
    pub fn frontier(&self) -> Result<Frontier, AuditError> {
        let mut frontier = Frontier::read(&self.auditor, self.auditor.size())?;
        self.rest.leaves().iter().for_each(|leaf| frontier.append(*leaf, |_, _, _| {}));
        Ok(frontier)
    }

    fn tree(&self) -> Tree<'_> {
        Tree { auditor: &self.auditor, leaves: self.rest.leaves() }
    }

    /// The error for a batch that breaks a rule.
    fn stop(&self, error: PushError, proof_of_entries: &EntryProof) -> AuditError {
        match error {
            PushError::Violation { index, .. } => {
                self.violation(error.to_string(), self.broken_rule(index, &proof_of_entries.signed))
            }
            PushError::UnknownKind { .. } | PushError::Auditor(_) => AuditError::Pending(error.to_string()),
        }
    }

    /// Evidence that the first unaudited batch breaks a rule; `None` unless all entries of the checkpoint are
    /// available.
    fn broken_rule(&self, index: u64, signed: &SignedCheckpoint) -> Result<Option<Evidence>, AuditorError> {
        if self.next() != signed.unverified().size {
            return Ok(None);
        }
        let seal = self.raw.iter().position(|entry| entry.starts_with(b"taglog/seal@v1\n"));
        let end = seal.map_or(self.raw.len(), |seal| seal + 1);
        let batch: Vec<&[u8]> = self.raw[..end].iter().map(Vec::as_slice).collect();
        broken_rule(&self.auditor, &batch, index, signed, &self.tree())
    }

    /// The error for a checkpoint that ends in the middle of a batch.
    fn unsealed(&self, signed: &SignedCheckpoint) -> AuditError {
        let reason = format!("its checkpoint of size {} does not end in a seal", signed.unverified().size);
        let last = self.raw.last().map(Vec::as_slice).unwrap_or_default();
        self.violation(reason, no_seal(signed, last, &self.tree()))
    }

    /// The error for a checkpoint that is not a prefix of the audited log.
    fn contradicted(&self, signed: &SignedCheckpoint) -> AuditError {
        let size = signed.unverified().size;
        let reason =
            format!("it signed a checkpoint of size {size} that contradicts a larger one which it signed before");
        let evidence = self.reached.as_ref().map(|reached| match reached.unverified().size == size {
            true => Ok(fork(signed, reached)),
            false => inconsistency(signed, reached, &self.tree()),
        });
        self.violation(reason, evidence.transpose())
    }

    /// A violation, without evidence if none can be collected or the collected evidence proves nothing.
    fn violation(&self, reason: String, evidence: Result<Option<Evidence>, AuditorError>) -> AuditError {
        let evidence = evidence.unwrap_or_else(|error| {
            tracing::error!(%error, "evidence could not be collected");
            None
        });
        let evidence = evidence.and_then(|evidence| with_accusation(evidence, self.auditor.log()));
        AuditError::Violation { reason, evidence: evidence.map(|(evidence, _)| Box::new(evidence)) }
    }

    /// Checks that the audited and the waiting entries together are a prefix of the tree that the log signed.
    fn authenticate(&self, proof_of_entries: &EntryProof) -> Result<(), AuditError> {
        let frontier = self.frontier()?;
        let (from, root, to) = (frontier.size(), frontier.root(), proof_of_entries.signed.unverified());
        let proven = match &proof_of_entries.prefix {
            PrefixProof::Consistency(proof) => verify_consistency(from, to.size, proof, &root, &to.root).is_ok(),
            PrefixProof::Root(expected) => root == *expected,
        };
        if proven { Ok(()) } else { Err(not_signed_entries(from)) }
    }
}

/// The error for entries that do not have the signed root.
pub fn not_signed_entries(up_to: u64) -> AuditError {
    AuditError::Pending(format!(
        "the entries that the log serves up to {up_to} are not those that it signed; they may be altered in transit"
    ))
}

/// Parses, hashes and verifies entries on all cores.
fn prepare(entries: &[&[u8]], keys: &WitnessKeys) -> Vec<ParsedEntries> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = entries.len().div_ceil(cores).max(MIN_PER_THREAD);
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            entries.chunks(share).map(|part| scope.spawn(move || ParsedEntries::new(part, keys))).collect();
        // The entries of a thread that panicked are missing; then the root differs from the signed one.
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

    fn take(session: &mut AuditSession, log: &Log) -> Result<(), AuditError> {
        let entries = log.memory.entries()[session.next() as usize..].to_vec();
        session.take(entries, &EntryProof { signed: log.checkpoint(), prefix: PrefixProof::Consistency(Vec::new()) })
    }

    fn later<T>(outcome: &Result<T, AuditError>) -> bool {
        matches!(outcome, Err(AuditError::Pending(_)))
    }

    /// Also after the store failed in between.
    #[test]
    fn a_checkpoint_passes_only_when_its_audit_is_on_disk() {
        let (a, directory) = (witness(1), tempfile::tempdir().unwrap());
        let mut log = Log::new(&[&a]);
        let mut session = AuditSession::new(open(&directory));
        take(&mut session, &log).unwrap();
        let other = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
        other.execute_batch("ALTER TABLE sighting RENAME TO away").unwrap();
        log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
        assert!(later(&take(&mut session, &log)));
        // All of it was audited, and none of it is on disk.
        assert_eq!(session.audited(), log.size());
        assert!(later(&session.check(&log.checkpoint())));
        log.batch(20, None, vec![observe(&a, APP, 'B', 15)]);
        assert!(later(&take(&mut session, &log)), "no more is held in memory");
        assert!(session.audited() < log.size());
        other.execute_batch("ALTER TABLE away RENAME TO sighting").unwrap();
        take(&mut session, &log).unwrap();
        session.check(&log.checkpoint()).unwrap();
        drop(session);
        assert_eq!(open(&directory).size(), log.size());
    }

    /// Also batches that change no tag, or no record at all.
    #[test]
    fn batches_without_sightings_are_committed() {
        let (a, directory) = (witness(1), tempfile::tempdir().unwrap());
        let Image { repository, .. } = image(APP);
        let mut log = Log::new(&[&a]);
        let mut session = AuditSession::new(open(&directory));
        log.batch(10, None, vec![observe(&a, APP, 'A', 5)]);
        take(&mut session, &log).unwrap();
        for statements in [vec![confirm(&a, repository.as_str(), 15)], vec![]] {
            log.batch(20, None, statements);
            take(&mut session, &log).unwrap();
            session.check(&log.checkpoint()).unwrap();
            let other = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
            let query = "SELECT value FROM meta WHERE key = 'seal'";
            let stored: String = other.query_row(query, [], |row| row.get(0)).unwrap();
            assert_eq!(Some(stored.as_bytes()), log.memory.entries().last().map(Vec::as_slice));
        }
    }
}
