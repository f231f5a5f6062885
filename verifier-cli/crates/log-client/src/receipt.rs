//! Verification of receipts for submitted entries.

use taglog_proto::{checkpoint::SignedCheckpoint, entry::Entry, note::VerifierKey, receipt::Receipt};

/// Verifies the receipts of one log for one witness. The receipts of a bundle mostly have the same checkpoint, whose signature
/// is verified once.
#[derive(Debug)]
pub struct ReceiptChecker<'a> {
    log: &'a VerifierKey,
    witness: &'a VerifierKey,
    /// The last checkpoint that verified, with all its signature lines.
    verified: Option<SignedCheckpoint>,
}

impl<'a> ReceiptChecker<'a> {
    /// A checker for receipts by `log` for entries of `witness`.
    pub fn new(log: &'a VerifierKey, witness: &'a VerifierKey) -> ReceiptChecker<'a> {
        ReceiptChecker { log, witness, verified: None }
    }

    /// Verifies a receipt for the observation or confirmation `note` at `index`. Does not check that the checkpoint is
    /// consistent with earlier ones.
    ///
    /// # Errors
    /// Why the receipt is false.
    pub fn check(&mut self, proof: &str, note: &str, index: u64, duplicate: bool) -> Result<Receipt, String> {
        let receipt = Receipt::parse(proof.as_bytes()).map_err(|error| error.to_string())?;
        let bytes = logged_bytes(&receipt, self.witness, note, duplicate)?;
        if self.verified.as_ref() != Some(&receipt.checkpoint) {
            receipt.checkpoint.verify(self.log).map_err(|error| error.to_string())?;
            self.verified = Some(receipt.checkpoint.clone());
        }
        receipt.verify_inclusion(receipt.checkpoint.unverified(), &bytes).map_err(|error| error.to_string())?;
        if receipt.index == index { Ok(receipt) } else { Err("the receipt is for another entry".to_owned()) }
    }
}

/// The bytes that must be in the log: the submitted ones; or, for a duplicate, the same text signed earlier.
fn logged_bytes(receipt: &Receipt, witness: &VerifierKey, note: &str, duplicate: bool) -> Result<Vec<u8>, String> {
    match &receipt.extra {
        Some(extra) if duplicate && has_same_text(extra, note.as_bytes(), witness) => Ok(extra.clone()),
        _ if duplicate => Err("the log calls it a duplicate of an entry with another text".to_owned()),
        _ => Ok(note.as_bytes().to_vec()),
    }
}

/// Whether both are statements with one text, and both signed by the witness (SPEC.md section 6.2).
fn has_same_text(one: &[u8], other: &[u8], witness: &VerifierKey) -> bool {
    let signed_text = |bytes: &[u8]| match Entry::parse(bytes) {
        Ok(Entry::Observation(entry)) => entry.verify(witness).is_ok().then(|| entry.text()),
        Ok(Entry::Confirmation(entry)) => entry.verify(witness).is_ok().then(|| entry.text()),
        _ => None,
    };
    signed_text(one).is_some_and(|one| Some(one) == signed_text(other))
}

#[cfg(test)]
mod tests {
    use taglog_proto::{
        checkpoint::Checkpoint,
        entry::{Observation, Seen},
        merkle::{Hash, leaf_hash},
        name::{Digest, Image},
        note::SigningKey,
        time::Timestamp,
    };

    use super::*;

    const ORIGIN: &str = "log.example/x";

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(name, &[seed; 32]).unwrap()
    }

    fn note(witness: &SigningKey, tag: &str) -> String {
        let image = Image::parse(&format!("r.example/a:{tag}")).unwrap();
        let at = Timestamp::from_unix(1_800_000_000).unwrap();
        Observation::sign(image, Seen::Digest(Digest::sha256(b"x")), at, witness).unwrap().to_string()
    }

    /// A receipt in a log of two entries, of which this is the first.
    fn receipt(log: &SigningKey, entry: &str, other: &str) -> Receipt {
        let (leaf, sibling) = (leaf_hash(entry.as_bytes()), leaf_hash(other.as_bytes()));
        let root = taglog_proto::merkle::node_hash(&leaf, &sibling);
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 2, root }.sign(log);
        Receipt { extra: None, index: 0, proof: vec![sibling], checkpoint }
    }

    /// The cached checkpoint must not make another receipt valid.
    #[test]
    fn each_checkpoint_and_each_proof_is_checked() {
        let (log, liar, witness) = (key(ORIGIN, 1), key(ORIGIN, 2), key("w.example/a", 3));
        let (one, two) = (note(&witness, "1"), note(&witness, "2"));
        let good = receipt(&log, &one, &two);
        let mut checker = ReceiptChecker::new(log.verifier_key(), witness.verifier_key());
        let mut check = |receipt: &Receipt, note: &str, index| {
            checker.check(&receipt.to_string(), note, index, false).map(|receipt| receipt.index)
        };
        assert_eq!(check(&good, &one, 0), Ok(0));
        assert_eq!(check(&good, &one, 0), Ok(0));
        assert!(check(&good, &two, 0).is_err(), "another entry under a checkpoint that verified");
        assert!(check(&good, &one, 1).is_err(), "another index");
        assert!(check(&Receipt { proof: vec![Hash::of(b"x")], ..good.clone() }, &one, 0).is_err());
        let forged = receipt(&liar, &one, &two);
        assert_eq!(forged.checkpoint.unverified(), good.checkpoint.unverified());
        assert!(check(&forged, &one, 0).is_err(), "the same text that the log has not signed");
        assert!(check(&receipt(&liar, &two, &one), &two, 0).is_err());
        assert_eq!(check(&receipt(&log, &two, &one), &two, 0), Ok(0));
        assert_eq!(check(&good, &one, 0), Ok(0));
    }
}
