//! The log's secret keys.

use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::{CosignError, CosignerSigningKey},
    note::{SigningKey, VerifierKey},
    time::Timestamp,
};

/// The keys that sign checkpoints: Ed25519 always, ML-DSA-44 beside it if the log has one.
pub struct LogKeys {
    /// The key that the log is known by.
    pub ed25519: SigningKey,
    /// A key that stays safe when there are quantum computers (c2sp.org/tlog-checkpoint allows a log
    /// to sign with a cosignature of its own name).
    pub ml_dsa: Option<CosignerSigningKey>,
}

impl LogKeys {
    /// Signs a checkpoint with every key; the caller guarantees consistency with all before. `time`
    /// stands in the ML-DSA-44 signature, and is that of the seal.
    ///
    /// # Errors
    /// [`CosignError`] by the ML-DSA-44 key.
    pub fn sign(&self, checkpoint: &Checkpoint, time: Timestamp) -> Result<SignedCheckpoint, CosignError> {
        let signed = checkpoint.sign(&self.ed25519);
        let ml_dsa = self.ml_dsa.as_ref().map(|key| key.cosign(&signed, time)).transpose()?;
        Ok(signed.with_signatures(ml_dsa))
    }

    /// The key that the log is known by, as everyone may see it.
    pub fn verifier_key(&self) -> &VerifierKey {
        self.ed25519.verifier_key()
    }

    /// The vkeys of all keys, Ed25519 first.
    pub fn vkeys(&self) -> Vec<String> {
        let ml_dsa = self.ml_dsa.iter().map(|key| key.key().to_string());
        std::iter::once(self.verifier_key().to_string()).chain(ml_dsa).collect()
    }
}
