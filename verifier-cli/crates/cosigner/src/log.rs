//! The keys of a log, and the verification of its checkpoints.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use taglog_proto::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    cosignature::CosignerKey,
    note::{NoteError, NoteSignature, VerifierKey},
};
use thiserror::Error;

/// The SHA-256 of a log's origin in lower-case hex, which names it in URL paths (c2sp.org/tlog-witness).
pub fn origin_hash(origin: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(origin.as_bytes()))
}

/// The keys of one log: Ed25519 (0x01) or ML-DSA-44 (0x06). All have the same name, the log's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys {
    origin: String,
    ed25519: Vec<VerifierKey>,
    others: Vec<CosignerKey>,
}

/// Why a checkpoint is not the log's.
#[derive(Debug, Error)]
pub enum CheckpointSignatureError {
    /// No signature line is by any of the keys.
    #[error("no signature is by a key that is configured for this log")]
    Missing,
    /// A signature line by one of the keys does not verify.
    #[error(transparent)]
    Invalid(#[from] NoteError),
}

impl LogKeys {
    /// Parses the vkeys of one log.
    pub fn parse(vkeys: &[String]) -> Result<LogKeys, String> {
        let (mut ed25519, mut others): (Vec<VerifierKey>, Vec<CosignerKey>) = (Vec::new(), Vec::new());
        for vkey in vkeys {
            match (vkey.parse(), vkey.parse()) {
                (Ok(key), _) => ed25519.push(key),
                (Err(_), Ok(key)) => others.push(key),
                // The error for an Ed25519 key: most logs have no other.
                (Err(error), Err(_)) => return Err(error.to_string()),
            }
        }
        let names = ed25519.iter().map(VerifierKey::name).chain(others.iter().map(CosignerKey::name));
        let mut names: Vec<&str> = names.collect();
        names.dedup();
        match names[..] {
            [origin] => Ok(LogKeys { origin: origin.to_owned(), ed25519, others }),
            [] => Err("name at least one key".to_owned()),
            _ => Err(format!("all keys of a log have one name, its origin; these have {names:?}")),
        }
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn ed25519(&self) -> &[VerifierKey] {
        &self.ed25519
    }

    /// Verifies that the log signed the checkpoint, which has its origin: at least one line is by one of its keys, and
    /// all lines by its keys verify (c2sp.org/tlog-witness, "add-checkpoint"). Returns the checkpoint with only these
    /// lines.
    pub fn verify(&self, signed: &SignedCheckpoint) -> Result<SignedCheckpoint, CheckpointSignatureError> {
        for key in &self.ed25519 {
            match signed.note().verify(key) {
                Ok(()) | Err(NoteError::NotSigned(_)) => {}
                Err(error) => return Err(CheckpointSignatureError::Invalid(error)),
            }
        }
        for key in &self.others {
            key.signed(signed)?;
        }
        let lines: Vec<&NoteSignature> = signed.note().signatures.iter().filter(|line| self.is_by_log(line)).collect();
        if lines.is_empty() {
            return Err(CheckpointSignatureError::Missing);
        }
        // The lines by other keys were not verified. Without them, the checkpoint parses as before.
        with_only(signed, &lines).map_err(|_| CheckpointSignatureError::Missing)
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
    fn one_valid_line_suffices_and_every_line_by_a_known_key_must_verify() {
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
        assert_eq!(keys.verify(&more).unwrap(), signed, "unverified lines are dropped");
        let line = ml_dsa.cosign(&signed, Timestamp::from_unix(7).unwrap()).unwrap();
        let both = signed.with_signatures([line.clone()]);
        assert_eq!(keys.verify(&both).unwrap(), both);
        assert!(matches!(keys.verify(&checkpoint.sign(&stranger)), Err(CheckpointSignatureError::Missing)));
        for mut bad in [rotated.sign(&text), line] {
            bad.signature[9] ^= 1;
            assert!(matches!(keys.verify(&signed.with_signatures([bad])), Err(CheckpointSignatureError::Invalid(_))));
        }
    }
}
