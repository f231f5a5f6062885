//! The log's secret keys.

use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::{CosignError, CosignerSigningKey},
    note::{SigningKey, VerifierKey},
    time::Timestamp,
};

/// The keys that sign checkpoints: always Ed25519, and optionally ML-DSA-44.
pub struct LogKeys {
    /// The key that identifies the log.
    pub ed25519: SigningKey,
    /// A post-quantum key of the same name. Its signature has the form of a cosignature, which c2sp.org/tlog-checkpoint
    /// allows for a log's own name.
    pub ml_dsa: Option<CosignerSigningKey>,
}

impl LogKeys {
    /// Signs a checkpoint with every key. The caller guarantees that it is consistent with all earlier checkpoints.
    /// `time` is the time of the seal, which becomes part of the ML-DSA-44 signature.
    pub fn sign(&self, checkpoint: &Checkpoint, time: Timestamp) -> Result<SignedCheckpoint, CosignError> {
        let signed = checkpoint.sign(&self.ed25519);
        let ml_dsa = self.ml_dsa.as_ref().map(|key| key.cosign(&signed, time)).transpose()?;
        Ok(signed.with_signatures(ml_dsa))
    }

    /// The public key that identifies the log.
    pub fn verifier_key(&self) -> &VerifierKey {
        self.ed25519.verifier_key()
    }

    /// The vkeys of all keys, Ed25519 first.
    pub fn vkeys(&self) -> Vec<String> {
        let ml_dsa = self.ml_dsa.iter().map(|key| key.key().to_string());
        std::iter::once(self.verifier_key().to_string()).chain(ml_dsa).collect()
    }
}
