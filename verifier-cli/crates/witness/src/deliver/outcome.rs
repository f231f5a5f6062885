//! What a log's answer to one entry means.

use std::fmt;

use taglog_proto::{checkpoint::SignedCheckpoint, note::VerifierKey, receipt::Receipt};

use crate::spool::Pending;
use taglog_log_client::{ClientError, LogClient, Submitted, receipt::ReceiptChecker};

use super::bundle::is_intact;

/// What is to become of an entry.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The receipt verifies under the log's key.
    Delivered(Box<Receipt>),
    /// The log refuses it for now, in these words; `true` if because it does not know the witness.
    NotNow(bool, String),
    /// The log will never take it.
    Never(String),
    /// The answer is false.
    False(String),
    /// The entry is no longer what the witness signed: the disk has changed it, and no answer to it means anything.
    Damaged,
}

impl Outcome {
    pub(super) fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        match self {
            Outcome::Delivered(receipt) => Some(&receipt.checkpoint),
            _ => None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Outcome::Delivered(_) | Outcome::Never(_) | Outcome::Damaged)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Delivered(receipt) => write!(f, "delivered as entry {}", receipt.index),
            Outcome::NotNow(_, why) | Outcome::Never(why) | Outcome::False(why) => f.write_str(why),
            Outcome::Damaged => f.write_str("damaged in the spool"),
        }
    }
}

/// Judges an answer. The checkpoint in a receipt that verifies has still to be compared with earlier ones.
///
/// A log takes nothing whose signature does not hold. So it is looked for damage of our own only where a log is about to
/// be accused, or believed that it will never take the entry.
pub(super) fn judge(
    entry: &Pending,
    answer: &Submitted,
    receipts: &mut ReceiptChecker<'_>,
    witness: &VerifierKey,
    client: &LogClient,
) -> Outcome {
    match taken_at_its_word(entry, answer, receipts, client) {
        Outcome::Never(_) | Outcome::False(_) if !is_intact(entry, witness) => Outcome::Damaged,
        outcome => outcome,
    }
}

fn taken_at_its_word(
    entry: &Pending,
    answer: &Submitted,
    receipts: &mut ReceiptChecker<'_>,
    client: &LogClient,
) -> Outcome {
    let (index, duplicate, proof) = match answer {
        Submitted::Accepted { index, duplicate, proof } => (*index, *duplicate, proof),
        Submitted::Refused(problem) => {
            return match entry.acknowledged {
                // What is in the log is a duplicate, whatever else may be said against it (SPEC.md section 6.2).
                Some((index, at)) => Outcome::False(format!(
                    "the log acknowledged the entry at {at} as {index}, and now refuses it: {}",
                    client.problem(problem)
                )),
                None => refused(client.problem(problem)),
            };
        }
    };
    let Some(proof) = proof else {
        return Outcome::False("the log says that the entry is published, and gives no receipt".to_owned());
    };
    match receipts.check(proof, &entry.note, index, duplicate) {
        Ok(receipt) => Outcome::Delivered(Box::new(receipt)),
        Err(why) => Outcome::False(why),
    }
}

/// What is wrong where a log gives an entry another index than before.
pub(super) fn changed_index(entry: &Pending, answer: &Submitted) -> Option<String> {
    let ((before, at), Submitted::Accepted { index, .. }) = (entry.acknowledged?, answer) else { return None };
    (before != *index)
        .then(|| format!("the log acknowledged the entry at {at} as {before}, and now says it is {index}"))
}

fn refused(problem: ClientError) -> Outcome {
    let kind = match &problem {
        ClientError::Problem { kind, .. } => kind.as_str(),
        // A refusal that names no reason may be over soon.
        _ => "",
    };
    match kind {
        // Submitting these again can change nothing.
        "malformed-entry" | "entry-too-long" | "not-a-statement" | "bad-signature" | "too-old" | "out-of-order"
        | "nothing-to-confirm" => Outcome::Never(problem.to_string()),
        "unknown-witness" => Outcome::NotNow(true, problem.to_string()),
        _ => Outcome::NotNow(false, problem.to_string()),
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
    use taglog_log_client::Problem;

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

        fn entry(&self, acknowledged: Option<u64>) -> Pending {
            let at = Timestamp::from_unix(1_800_000_000).unwrap();
            let image = Image::parse("r.example/a:1").unwrap();
            let note = Observation::sign(image, Seen::Gone, at, &self.witness).unwrap().to_string();
            let acknowledged = acknowledged.map(|index| (index, at));
            Pending { seq: 1, repository: "r.example/a".into(), tag: Some("1".into()), note, acknowledged }
        }

        /// The answer of a log whose only entry this is.
        fn accepts(&self, entry: &Pending) -> Submitted {
            let root = leaf_hash(entry.note.as_bytes());
            let checkpoint = Checkpoint { origin: "log.example/x".into(), size: 1, root }.sign(&self.log);
            let receipt = Receipt { extra: None, index: 0, proof: Vec::new(), checkpoint };
            Submitted::Accepted { index: 0, duplicate: false, proof: Some(receipt.to_string()) }
        }

        fn judge(&self, entry: &Pending, answer: &Submitted) -> Outcome {
            let mut receipts = ReceiptChecker::new(self.log.verifier_key(), self.witness.verifier_key());
            judge(entry, answer, &mut receipts, self.witness.verifier_key(), &self.client)
        }
    }

    fn refuses(kind: &str) -> Submitted {
        let kind = format!("urn:taglog:problem:{kind}");
        Submitted::Refused(Problem { kind, detail: "as the test wants it".into(), status: 400 })
    }

    #[test]
    fn what_a_log_says_of_an_entry() {
        let scene = Scene::new();
        let (new, known) = (scene.entry(None), scene.entry(Some(0)));
        for entry in [&new, &known] {
            assert!(matches!(scene.judge(entry, &scene.accepts(entry)), Outcome::Delivered(_)));
        }
        assert!(matches!(scene.judge(&new, &refuses("bad-signature")), Outcome::Never(_)));
        assert!(matches!(scene.judge(&new, &refuses("unknown-witness")), Outcome::NotNow(true, _)));
        assert!(matches!(scene.judge(&known, &refuses("unknown-witness")), Outcome::False(_)));
        let other = scene.entry(Some(7));
        assert!(matches!(scene.judge(&other, &scene.accepts(&other)), Outcome::Delivered(_)), "its receipt holds");
        assert!(changed_index(&other, &scene.accepts(&other)).is_some());
        assert!(changed_index(&known, &scene.accepts(&known)).is_none());
    }

    /// A log must not be accused of what the disk has done.
    #[test]
    fn what_the_disk_has_changed_accuses_nobody() {
        let scene = Scene::new();
        for acknowledged in [None, Some(0)] {
            let entry = scene.entry(acknowledged);
            let note = entry.note.replace("gone", "gune");
            assert_ne!(note, entry.note);
            let damaged = Pending { note, ..entry.clone() };
            assert!(matches!(scene.judge(&damaged, &refuses("bad-signature")), Outcome::Damaged));
            assert!(matches!(scene.judge(&damaged, &scene.accepts(&entry)), Outcome::Damaged));
        }
    }
}
