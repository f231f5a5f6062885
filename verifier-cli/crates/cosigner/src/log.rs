//! A log as a cosigner knows it: its keys.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use taglog_proto::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    cosignature::CosignerKey,
    note::{NoteError, NoteSignature, VerifierKey},
};
use thiserror::Error;

/// How a log's origin is named in addresses (c2sp.org/tlog-witness): its SHA-256 in lower-case hex.
pub fn origin_hash(origin: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(origin.as_bytes()))
}

/// The keys of one log, all of one name, which is the log's origin: Ed25519 (0x01) or ML-DSA-44 (0x06).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys {
    origin: String,
    ed25519: Vec<VerifierKey>,
    others: Vec<CosignerKey>,
}

/// Why a checkpoint is not the log's.
#[derive(Debug, Error)]
pub enum Untrusted {
    /// No line by any of the keys.
    #[error("no signature is by a key that is known for this log")]
    Unsigned,
    /// A line by one of the keys that fails.
    #[error(transparent)]
    Bad(#[from] NoteError),
}

impl LogKeys {
    /// Reads the vkeys of one log.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(vkeys: &[String]) -> Result<LogKeys, String> {
        let (mut ed25519, mut others): (Vec<VerifierKey>, Vec<CosignerKey>) = (Vec::new(), Vec::new());
        for vkey in vkeys {
            match (vkey.parse(), vkey.parse()) {
                (Ok(key), _) => ed25519.push(key),
                (Err(_), Ok(key)) => others.push(key),
                // The first error is about keys as logs usually have them.
                (Err(error), Err(_)) => return Err(error.to_string()),
            }
        }
        let names = ed25519.iter().map(VerifierKey::name).chain(others.iter().map(CosignerKey::name));
        let mut names: Vec<&str> = names.collect();
        names.dedup();
        match names[..] {
            [origin] => Ok(LogKeys { origin: origin.to_owned(), ed25519, others }),
            [] => Err("name at least one key".to_owned()),
            _ => Err(format!("all keys of a log have one name, its origin; got {names:?}")),
        }
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The Ed25519 keys.
    pub fn ed25519(&self) -> &[VerifierKey] {
        &self.ed25519
    }

    /// Checks that the log signed the checkpoint, which is of its origin: at least one line is by one of its keys,
    /// and all lines that are verify (c2sp.org/tlog-witness, "add-checkpoint"). Returns the checkpoint with these
    /// lines alone.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn verify(&self, signed: &SignedCheckpoint) -> Result<SignedCheckpoint, Untrusted> {
        for key in &self.ed25519 {
            match signed.note().verify(key) {
                Ok(()) | Err(NoteError::NotSigned(_)) => {}
                Err(error) => return Err(Untrusted::Bad(error)),
            }
        }
        for key in &self.others {
            key.signed(signed)?;
        }
        let lines: Vec<&NoteSignature> = signed.note().signatures.iter().filter(|line| self.is_by_log(line)).collect();
        if lines.is_empty() {
            return Err(Untrusted::Unsigned);
        }
        // Without the lines of others, which nobody has checked, it parses as it did with them.
        with_only(signed, &lines).map_err(|_| Untrusted::Unsigned)
    }

    fn is_by_log(&self, line: &NoteSignature) -> bool {
        let ids = self.ed25519.iter().map(VerifierKey::key_id).chain(self.others.iter().map(CosignerKey::key_id));
        line.name == self.origin && ids.into_iter().any(|id| id == line.key_id)
    }
}

fn with_only(signed: &SignedCheckpoint, lines: &[&NoteSignature]) -> Result<SignedCheckpoint, CheckpointError> {
    let mut text = format!("{}\n", signed.note().text);
    for line in lines {
        // Writing to a String cannot fail.
        let _ = write!(text, "{line}");
    }
    SignedCheckpoint::parse_any(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use taglog_proto::{
        checkpoint::Checkpoint,
        cosignature::{Algorithm, CosignerSigningKey},
        merkle::Hash,
        note::SigningKey,
        time::Timestamp,
    };

    use super::*;

    const ORIGIN: &str = "log.example/a";

    #[test]
    fn one_key_is_enough_and_no_line_may_be_false() {
        let key = SigningKey::from_seed(ORIGIN, &[1; 32]).unwrap();
        let rotated = SigningKey::from_seed(ORIGIN, &[2; 32]).unwrap();
        let stranger = SigningKey::from_seed(ORIGIN, &[3; 32]).unwrap();
        let ml_dsa = CosignerSigningKey::from_seed(ORIGIN, Algorithm::MlDsa44, &[4; 32]).unwrap();
        let vkeys = [key.verifier_key().to_string(), rotated.verifier_key().to_string(), ml_dsa.key().to_string()];
        let keys = LogKeys::parse(&vkeys).unwrap();
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: Hash::of(b"x") };
        let signed = checkpoint.sign(&key);
        let text = signed.note().text.clone();
        let more = signed.with_signatures([stranger.sign(&text)]);
        assert_eq!(keys.verify(&more).unwrap(), signed, "what nobody has checked is dropped");
        let line = ml_dsa.cosign(&signed, Timestamp::from_unix(7).unwrap()).unwrap();
        let both = signed.with_signatures([line.clone()]);
        assert_eq!(keys.verify(&both).unwrap(), both);
        assert!(matches!(keys.verify(&checkpoint.sign(&stranger)), Err(Untrusted::Unsigned)));
        for mut bad in [rotated.sign(&text), line] {
            bad.signature[9] ^= 1;
            assert!(matches!(keys.verify(&signed.with_signatures([bad])), Err(Untrusted::Bad(_))));
        }
    }
}
