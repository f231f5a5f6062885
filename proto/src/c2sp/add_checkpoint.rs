//! What cosigners are asked, and what they answer (c2sp.org/tlog-witness, where they are called witnesses).
//!
//! ```text
//! old 20852014
//! <base64 hashes of the consistency proof, a line each>
//!
//! <signed checkpoint>
//! ```
//!
//! The answer is signature lines. Other logs than taglog's are cosigned too, so their checkpoints may have
//! size 0 and extension lines.

use std::fmt;

use thiserror::Error;

use crate::c2sp::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    encoding::{field, from_decimal},
    merkle::Hash,
    note::{MAX_NOTE, MAX_SIGNATURES, NoteError, NoteSignature, parse_signature},
    subtree::Subtree,
};

/// The most lines of a proof.
pub const MAX_PROOF: usize = 63;
/// The most bytes of a request: a note, and 63 hashes of 45 bytes after at most two lines.
pub const MAX_REQUEST: usize = MAX_NOTE + 4096;

/// Why a request was refused: the answer is 400.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddCheckpointError {
    /// Too large, not UTF-8, or no empty line before the checkpoint.
    #[error("malformed request: want {0}")]
    Format(&'static str),
    /// The old size is above the size of the checkpoint.
    #[error("the old size {old} is above the checkpoint's size {size}")]
    OldSize {
        /// The old size of the request.
        old: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// The range is not a subtree of the checkpoint's tree.
    #[error("[{start}, {end}) is no subtree of a tree of {size} leaves")]
    Range {
        /// The first leaf.
        start: u64,
        /// The leaf after the last.
        end: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// The checkpoint is malformed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A request to cosign a checkpoint. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the cosigner last cosigned, as the sender believes; 0 for none. Not above the checkpoint's.
    pub old: u64,
    /// The consistency proof from `old` to the checkpoint's size (RFC 6962 section 2.1.2).
    pub proof: Vec<Hash>,
    /// The checkpoint, with all signature lines that were sent; prints back byte for byte.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// Parses the body of a request of at most [`MAX_REQUEST`] bytes.
    pub fn parse(body: &[u8]) -> Result<AddCheckpoint, AddCheckpointError> {
        let (head, checkpoint) = split(body)?;
        let (first, proof) = head.split_first().ok_or(AddCheckpointError::Format("'old <size>'"))?;
        let old = field(first, "old").and_then(from_decimal).ok_or(AddCheckpointError::Format("'old <size>'"))?;
        let size = checkpoint.unverified().size;
        if old > size {
            return Err(AddCheckpointError::OldSize { old, size });
        }
        Ok(AddCheckpoint { old, proof: parse_proof(proof)?, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// A request to cosign a subtree of a checkpoint that the cosigner cosigned. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignSubtree {
    /// Its leaves; not beyond the checkpoint's size.
    pub subtree: Subtree,
    /// The root over them.
    pub hash: Hash,
    /// The subtree consistency proof to the checkpoint ([`crate::c2sp::subtree::verify_subtree`]).
    pub proof: Vec<Hash>,
    /// The checkpoint, with the cosigner's own signature.
    pub checkpoint: SignedCheckpoint,
}

impl SignSubtree {
    /// Parses the body of a request of at most [`MAX_REQUEST`] bytes.
    pub fn parse(body: &[u8]) -> Result<SignSubtree, AddCheckpointError> {
        use AddCheckpointError::Format;
        let (head, checkpoint) = split(body)?;
        let [range, hash, proof @ ..] = &head[..] else {
            return Err(Format("'subtree <start> <end>' and a base64 hash"));
        };
        let range = field(range, "subtree").and_then(|range| range.split_once(' '));
        let range = range.and_then(|(start, end)| Some((from_decimal(start)?, from_decimal(end)?)));
        let (start, end) = range.ok_or(Format("'subtree <start> <end>'"))?;
        let size = checkpoint.unverified().size;
        let subtree = Subtree::new(start, end).filter(|subtree| subtree.end() <= size);
        Ok(SignSubtree {
            subtree: subtree.ok_or(AddCheckpointError::Range { start, end, size })?,
            hash: Hash::from_base64(hash).ok_or(Format("the base64 of the subtree's hash"))?,
            proof: parse_proof(proof)?,
            checkpoint,
        })
    }
}

impl fmt::Display for SignSubtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "subtree {} {}\n{}", self.subtree.start(), self.subtree.end(), self.hash)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The lines before the first empty line, and the checkpoint after it.
fn split(body: &[u8]) -> Result<(Vec<&str>, SignedCheckpoint), AddCheckpointError> {
    use AddCheckpointError::Format;
    if body.len() > MAX_REQUEST {
        return Err(Format("at most 528384 bytes"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Format("UTF-8"))?;
    let (head, checkpoint) = text.split_once("\n\n").ok_or(Format("an empty line before the checkpoint"))?;
    Ok((head.split('\n').collect(), SignedCheckpoint::parse_any(checkpoint.as_bytes())?))
}

fn parse_proof(lines: &[&str]) -> Result<Vec<Hash>, AddCheckpointError> {
    let proof: Option<Vec<Hash>> = lines.iter().map(|line| Hash::from_base64(line)).collect();
    proof
        .filter(|proof| proof.len() <= MAX_PROOF)
        .ok_or(AddCheckpointError::Format("a proof of at most 63 lines, each the base64 of a hash"))
}

/// Parses a cosigner's answer: one to [`MAX_SIGNATURES`] signature lines, of whatever keys.
///
/// # Errors
/// [`NoteError::Malformed`], [`NoteError::SignatureLine`].
pub fn parse_signature_lines(body: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    use NoteError::Malformed;
    if body.len() > MAX_NOTE {
        return Err(Malformed("it is too large"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Malformed("it is not UTF-8"))?;
    let lines: Vec<&str> = text.strip_suffix('\n').ok_or(Malformed("no newline ends it"))?.split('\n').collect();
    if lines.len() > MAX_SIGNATURES {
        return Err(Malformed("it has too many signatures"));
    }
    let parse = |(i, line): (usize, &&str)| parse_signature(line).ok_or(NoteError::SignatureLine(i + 1));
    lines.iter().enumerate().map(parse).collect()
}
