//! What a log's answer to one entry means.

use std::fmt;

use taglog_proto::{checkpoint::SignedCheckpoint, note::VerifierKey, receipt::Receipt};

use crate::{
    client::{ClientError, LogClient, Submitted, receipt::check_receipt},
    witness::spool::Pending,
};

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
}

impl Outcome {
    pub(super) fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        match self {
            Outcome::Delivered(receipt) => Some(&receipt.checkpoint),
            _ => None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Outcome::Delivered(_) | Outcome::Never(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Delivered(receipt) => write!(f, "delivered as entry {}", receipt.index),
            Outcome::NotNow(_, why) | Outcome::Never(why) | Outcome::False(why) => f.write_str(why),
        }
    }
}

/// Judges an answer. The checkpoint in a receipt that verifies has still to be compared with earlier ones.
pub(super) fn judge(
    entry: &Pending,
    answer: &Submitted,
    log: &VerifierKey,
    witness: &VerifierKey,
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
    if let Some(why) = changed_index(entry, index) {
        return Outcome::False(why);
    }
    let Some(proof) = proof else {
        return Outcome::False("the log says that the entry is published, and gives no receipt".to_owned());
    };
    match check_receipt(proof, log, witness, &entry.note, index, duplicate) {
        Ok(receipt) => Outcome::Delivered(Box::new(receipt)),
        Err(why) => Outcome::False(why),
    }
}

/// What is wrong where a log gives an entry another index than before.
pub(super) fn changed_index(entry: &Pending, index: u64) -> Option<String> {
    let (before, at) = entry.acknowledged?;
    (before != index).then(|| format!("the log acknowledged the entry at {at} as {before}, and now says it is {index}"))
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
