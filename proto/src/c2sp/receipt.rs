//! Receipts: c2sp.org/tlog-proof files, with the entry itself as `extra`.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of the entry>
//! index 1201
//! <base64 hash, from the leaf's sibling up>
//!
//! <signed checkpoint>
//! ```

use std::fmt;

use thiserror::Error;

use crate::c2sp::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    encoding::{field, from_base64, from_decimal, to_base64},
    merkle::{Hash, ProofError, leaf_hash, verify_inclusion},
    note::{MAX_NOTE, VerifierKey},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// The most hashes in an inclusion proof.
const MAX_HASHES: usize = 64;

/// Why a receipt was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReceiptError {
    /// A line of another shape.
    #[error("not a tlog-proof: want {0}")]
    Format(&'static str),
    /// The checkpoint is malformed or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The inclusion proof fails.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// There is no `extra` line to take the entry from.
    #[error("the tlog-proof does not hold the entry as 'extra'")]
    NoEntry,
}

/// Proof that one entry is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry; not authenticated by itself, but the proof is about its hash.
    pub extra: Option<Vec<u8>>,
    /// The log index.
    pub index: u64,
    /// RFC 6962 section 2.1.1, from the leaf's sibling up.
    pub proof: Vec<Hash>,
    /// The checkpoint that the proof leads to.
    pub checkpoint: SignedCheckpoint,
}

impl Receipt {
    /// Parses a `.tlog-proof` file; nothing is verified.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], [`ReceiptError::Checkpoint`].
    pub fn parse(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
        use ReceiptError::Format;
        if bytes.len() > 2 * MAX_NOTE {
            return Err(Format("at most 1 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Format("UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Format("an empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(Format(HEADER));
        }
        let extra = lines
            .next_if(|line| line.starts_with("extra "))
            .map(|line| field(line, "extra").and_then(from_base64).ok_or(Format("'extra' and base64")));
        let index = lines.next().and_then(|line| from_decimal(field(line, "index")?));
        let proof = lines.map(Hash::from_base64).collect::<Option<Vec<Hash>>>();
        let proof = proof.filter(|proof| proof.len() <= MAX_HASHES).ok_or(Format("at most 64 base64 hashes"))?;
        Ok(Receipt {
            extra: extra.transpose()?,
            index: index.ok_or(Format("'index' and a decimal number"))?,
            proof,
            checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())?,
        })
    }

    /// Checks that `entry` is in the log with this key, and returns the checkpoint.
    ///
    /// # Errors
    /// [`ReceiptError::Checkpoint`], [`ReceiptError::Proof`].
    pub fn verify(&self, log: &VerifierKey, entry: &[u8]) -> Result<&Checkpoint, ReceiptError> {
        let checkpoint = self.checkpoint.verify(log)?;
        self.verify_inclusion(checkpoint, entry)?;
        Ok(checkpoint)
    }

    /// Checks that `entry` is in the log under a checkpoint that the caller has verified.
    ///
    /// # Errors
    /// [`ReceiptError::Proof`].
    pub fn verify_inclusion(&self, checkpoint: &Checkpoint, entry: &[u8]) -> Result<(), ReceiptError> {
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.proof, &checkpoint.root)?;
        Ok(())
    }

    /// As [`Receipt::verify`], with the entry that the receipt brings along.
    ///
    /// # Errors
    /// Also [`ReceiptError::NoEntry`].
    pub fn verify_extra(&self, log: &VerifierKey) -> Result<&Checkpoint, ReceiptError> {
        self.verify(log, self.extra.as_ref().ok_or(ReceiptError::NoEntry)?)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", to_base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
