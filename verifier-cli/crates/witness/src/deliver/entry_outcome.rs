//! Evaluates a log's answer to one entry.

use std::fmt;

use taglog_proto::{checkpoint::SignedCheckpoint, note::VerifierKey, receipt::Receipt};

use crate::spool::PendingEntry;
use taglog_log_client::{ClientError, LogClient, SubmissionResult, receipt::ReceiptChecker};

use super::bundle::is_intact;

/// The outcome of submitting an entry.
#[derive(Debug)]
pub(super) enum EntryOutcome {
    /// The receipt verifies under the log's key.
    Delivered(Box<Receipt>),
    /// The log refuses it temporarily, with this reason; `true` if the log does not know the witness.
    RefusedForNow(bool, String),
    /// The log refuses it permanently.
    RefusedForGood(String),
    /// The answer proves misbehaviour of the log.
    ProvenFalse(String),
    /// The stored entry no longer has a valid signature, so the answer proves nothing.
    Damaged,
}

impl EntryOutcome {
    pub(super) fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        match self {
            EntryOutcome::Delivered(receipt) => Some(&receipt.checkpoint),
            _ => None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self, EntryOutcome::Delivered(_) | EntryOutcome::RefusedForGood(_) | EntryOutcome::Damaged)
    }
}

impl fmt::Display for EntryOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryOutcome::Delivered(receipt) => write!(f, "delivered as entry {}", receipt.index),
            EntryOutcome::RefusedForNow(_, why)
            | EntryOutcome::RefusedForGood(why)
            | EntryOutcome::ProvenFalse(why) => f.write_str(why),
            EntryOutcome::Damaged => f.write_str("damaged in the spool"),
        }
    }
}

/// Evaluates an answer. The checkpoint of a verified receipt still has to be compared with earlier ones.
///
/// A log accepts no entry with an invalid signature. So the stored entry is checked for damage only before a log is accused
/// or a permanent refusal is accepted.
pub(super) fn evaluate(
    entry: &PendingEntry,
    answer: &SubmissionResult,
    receipts: &mut ReceiptChecker<'_>,
    witness: &VerifierKey,
    client: &LogClient,
) -> EntryOutcome {
    match evaluate_answer(entry, answer, receipts, client) {
        EntryOutcome::RefusedForGood(_) | EntryOutcome::ProvenFalse(_) if !is_intact(entry, witness) => {
            EntryOutcome::Damaged
        }
        outcome => outcome,
    }
}

fn evaluate_answer(
    entry: &PendingEntry,
    answer: &SubmissionResult,
    receipts: &mut ReceiptChecker<'_>,
    client: &LogClient,
) -> EntryOutcome {
    let (index, duplicate, proof) = match answer {
        SubmissionResult::Accepted { index, duplicate, proof } => (*index, *duplicate, proof),
        SubmissionResult::Refused(problem) => {
            return match entry.acknowledged {
                // An entry that is in the log is a duplicate, whatever other refusal applies (SPEC.md section 6.2).
                Some((index, at)) => EntryOutcome::ProvenFalse(format!(
                    "the log acknowledged the entry at {at} as {index}, and now refuses it: {}",
                    client.problem(problem)
                )),
                None => refused(client.problem(problem)),
            };
        }
    };
    let Some(proof) = proof else {
        return EntryOutcome::ProvenFalse(
            "the log says that the entry is published, but returns no receipt".to_owned(),
        );
    };
    match receipts.check(proof, &entry.note, index, duplicate) {
        Ok(receipt) => EntryOutcome::Delivered(Box::new(receipt)),
        Err(why) => EntryOutcome::ProvenFalse(why),
    }
}

/// The error where a log returns another index for an entry than before.
pub(super) fn changed_index(entry: &PendingEntry, answer: &SubmissionResult) -> Option<String> {
    let ((before, at), SubmissionResult::Accepted { index, .. }) = (entry.acknowledged?, answer) else { return None };
    (before != *index)
        .then(|| format!("the log acknowledged the entry at {at} as {before}, and now says it is {index}"))
}

fn refused(problem: ClientError) -> EntryOutcome {
    let kind = match &problem {
        ClientError::Problem { kind, .. } => kind.as_str(),
        // A refusal without a reason may be temporary.
        _ => "",
    };
    match kind {
        // Submitting these again cannot succeed.
        "malformed-entry" | "entry-too-long" | "not-a-statement" | "bad-signature" | "too-old" | "out-of-order"
        | "nothing-to-confirm" => EntryOutcome::RefusedForGood(problem.to_string()),
        "unknown-witness" => EntryOutcome::RefusedForNow(true, problem.to_string()),
        _ => EntryOutcome::RefusedForNow(false, problem.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taglog_proto::{
        checkpoint::Checkpoint,
        entry::{Observation, Seen},
        merkle::leaf_hash,
        name::Image,
        note::SigningKey,
        time::Timestamp,
    };

    use super::*;
    use taglog_log_client::ProblemDocument;

    struct Scene {
        log: SigningKey,
        witness: SigningKey,
        client: LogClient,
    }

    impl Scene {
        fn new() -> Scene {
            let key = |name, seed| SigningKey::from_seed(name, &[seed; 32]).unwrap();
            let client = LogClient::new("http://127.0.0.1:1", Duration::from_secs(1)).unwrap();
            Scene { log: key("log.example/x", 1), witness: key("w.example/a", 2), client }
        }

        fn entry(&self, acknowledged: Option<u64>) -> PendingEntry {
            let at = Timestamp::from_unix(1_800_000_000).unwrap();
            let image = Image::parse("r.example/a:1").unwrap();
            let note = Observation::sign(image, Seen::Gone, at, &self.witness).unwrap().to_string();
            let acknowledged = acknowledged.map(|index| (index, at));
            PendingEntry { seq: 1, repository: "r.example/a".into(), tag: Some("1".into()), note, acknowledged }
        }

        /// The answer of a log whose only entry this is.
        fn accepts(&self, entry: &PendingEntry) -> SubmissionResult {
            let root = leaf_hash(entry.note.as_bytes());
            let checkpoint = Checkpoint { origin: "log.example/x".into(), size: 1, root }.sign(&self.log);
            let receipt = Receipt { extra: None, index: 0, proof: Vec::new(), checkpoint };
            SubmissionResult::Accepted { index: 0, duplicate: false, proof: Some(receipt.to_string()) }
        }

        fn evaluate(&self, entry: &PendingEntry, answer: &SubmissionResult) -> EntryOutcome {
            let mut receipts = ReceiptChecker::new(self.log.verifier_key(), self.witness.verifier_key());
            evaluate(entry, answer, &mut receipts, self.witness.verifier_key(), &self.client)
        }
    }

    fn refuses(kind: &str) -> SubmissionResult {
        let kind = format!("urn:taglog:problem:{kind}");
        SubmissionResult::Refused(ProblemDocument { kind, detail: "as the test wants it".into(), status: 400 })
    }

    #[test]
    fn answers_of_a_log_are_evaluated() {
        let scene = Scene::new();
        let (new, known) = (scene.entry(None), scene.entry(Some(0)));
        for entry in [&new, &known] {
            assert!(matches!(scene.evaluate(entry, &scene.accepts(entry)), EntryOutcome::Delivered(_)));
        }
        assert!(matches!(scene.evaluate(&new, &refuses("bad-signature")), EntryOutcome::RefusedForGood(_)));
        assert!(matches!(scene.evaluate(&new, &refuses("unknown-witness")), EntryOutcome::RefusedForNow(true, _)));
        assert!(matches!(scene.evaluate(&known, &refuses("unknown-witness")), EntryOutcome::ProvenFalse(_)));
        let other = scene.entry(Some(7));
        assert!(
            matches!(scene.evaluate(&other, &scene.accepts(&other)), EntryOutcome::Delivered(_)),
            "its receipt holds"
        );
        assert!(changed_index(&other, &scene.accepts(&other)).is_some());
        assert!(changed_index(&known, &scene.accepts(&known)).is_none());
    }

    /// A log must not be accused of what the disk has done.
    #[test]
    fn a_damaged_entry_does_not_accuse_the_log() {
        let scene = Scene::new();
        for acknowledged in [None, Some(0)] {
            let entry = scene.entry(acknowledged);
            let note = entry.note.replace("gone", "gune");
            assert_ne!(note, entry.note);
            let damaged = PendingEntry { note, ..entry.clone() };
            assert!(matches!(scene.evaluate(&damaged, &refuses("bad-signature")), EntryOutcome::Damaged));
            assert!(matches!(scene.evaluate(&damaged, &scene.accepts(&entry)), EntryOutcome::Damaged));
        }
    }
}
