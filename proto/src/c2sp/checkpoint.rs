//! Checkpoints (c2sp.org/tlog-checkpoint): the log's signed statement of its size and root.
//!
//! ```text
//! log.example/taglog
//! 1235
//! <base64 of the 32-byte root>
//!
//! — log.example/taglog <base64>
//! ```
//!
//! Exactly three text lines; the log's key name equals the origin; size 0 is never signed.

use thiserror::Error;

use crate::c2sp::{
    encoding::from_decimal,
    merkle::Hash,
    note::{Note, NoteError, NoteSignature, SigningKey, VerifierKey},
};

/// Why a checkpoint was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// The note around it is malformed or not signed by the log.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The text is not origin, size and root.
    #[error("checkpoint text: want three lines: origin, size, base64 root")]
    Text,
    /// Size 0, which a log never signs.
    #[error("checkpoint of size 0: a log never signs that")]
    Empty,
    /// The origin is not the name of the log's key.
    #[error("checkpoint of origin {got:?}, want {want:?}")]
    Origin {
        /// The origin of the checkpoint.
        got: String,
        /// The name of the key that the caller trusts.
        want: String,
    },
}

/// The statement of a checkpoint: the first `size` entries have this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The identity of the log.
    pub origin: String,
    /// The number of entries, at least 1.
    pub size: u64,
    /// The RFC 6962 root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Parses the three text lines.
    ///
    /// # Errors
    /// [`CheckpointError::Text`], [`CheckpointError::Empty`].
    pub fn parse_text(text: &str) -> Result<Checkpoint, CheckpointError> {
        match Checkpoint::parse_lines(text)? {
            (_, extensions) if !extensions.is_empty() => Err(CheckpointError::Text),
            (checkpoint, _) if checkpoint.size == 0 => Err(CheckpointError::Empty),
            (checkpoint, _) => Ok(checkpoint),
        }
    }

    /// The text of any log: size 0 and extension lines, which are returned, may be.
    fn parse_lines(text: &str) -> Result<(Checkpoint, Vec<&str>), CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Text)?;
        let lines: Vec<&str> = lines.split('\n').collect();
        let [origin, size, root, extensions @ ..] = &lines[..] else { return Err(CheckpointError::Text) };
        let size = from_decimal(size).ok_or(CheckpointError::Text)?;
        let root = Hash::from_base64(root).ok_or(CheckpointError::Text)?;
        if origin.is_empty() || extensions.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError::Text);
        }
        Ok((Checkpoint { origin: (*origin).to_owned(), size, root }, extensions.to_vec()))
    }

    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Signs the checkpoint with the log's key; the caller guarantees consistency with all before.
    pub fn sign(&self, key: &SigningKey) -> SignedCheckpoint {
        let text = self.to_text();
        let signatures = vec![key.sign(&text)];
        SignedCheckpoint { checkpoint: self.clone(), note: Note { text, signatures } }
    }
}

/// A checkpoint with its signature lines. Not trusted until [`SignedCheckpoint::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Parses a signed checkpoint; no signature is checked.
    ///
    /// # Errors
    /// The errors of [`Note::parse`] and [`Checkpoint::parse_text`].
    pub fn parse(bytes: &[u8]) -> Result<SignedCheckpoint, CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok(SignedCheckpoint { checkpoint: Checkpoint::parse_text(&note.text)?, note })
    }

    /// Parses a checkpoint of any log, as cosigners get them: c2sp.org/tlog-checkpoint allows size 0 and extension
    /// lines, which [`SignedCheckpoint::parse`] refuses. No signature is checked.
    ///
    /// # Errors
    /// [`CheckpointError::Note`], [`CheckpointError::Text`].
    pub fn parse_any(bytes: &[u8]) -> Result<SignedCheckpoint, CheckpointError> {
        let note = Note::parse(bytes)?;
        let (checkpoint, _) = Checkpoint::parse_lines(&note.text)?;
        Ok(SignedCheckpoint { checkpoint, note })
    }

    /// The same checkpoint with these signature lines after its own. A line takes the place of an earlier one by the
    /// same key, so that a checkpoint which is cosigned again and again does not grow. The caller has verified them.
    #[must_use]
    pub fn with_signatures(&self, lines: impl IntoIterator<Item = NoteSignature>) -> SignedCheckpoint {
        let mut signed = self.clone();
        let old = &mut signed.note.signatures;
        for line in lines {
            match old.iter_mut().find(|old| old.name == line.name && old.key_id == line.key_id) {
                Some(place) => *place = line,
                None => old.push(line),
            }
        }
        signed
    }

    /// Checks that the log with this key signed the checkpoint, and returns it.
    ///
    /// # Errors
    /// [`CheckpointError::Origin`], or [`CheckpointError::Note`] when it is not signed by the key.
    pub fn verify(&self, log: &VerifierKey) -> Result<&Checkpoint, CheckpointError> {
        if self.checkpoint.origin != log.name() {
            let got = self.checkpoint.origin.clone();
            return Err(CheckpointError::Origin { got, want: log.name().to_owned() });
        }
        self.note.verify(log)?;
        Ok(&self.checkpoint)
    }

    /// The checkpoint, unverified.
    pub fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note: text and signature lines.
    pub fn note(&self) -> &Note {
        &self.note
    }
}

impl std::fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.note.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_text_has_exactly_three_lines() {
        let root = Hash::of(b"x");
        let good = format!("log.example/x\n7\n{root}\n");
        assert_eq!(Checkpoint::parse_text(&good).unwrap().to_text(), good);
        for bad in [
            format!("{good}extension\n"),
            format!("\n7\n{root}\n"),
            format!("a\n07\n{root}\n"),
            format!("a\n7\n{root}"),
            format!("a\n7\n{}\n", &root.to_base64()[..40]),
            "a\n7\n".into(),
            String::new(),
            format!("a\n0\n{root}\n"),
        ] {
            assert!(Checkpoint::parse_text(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_of_the_key_must_be_the_origin() {
        let key = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
        let other = SigningKey::from_seed("log.example/y", &[1; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "log.example/x".into(), size: 3, root: Hash::of(b"x") };
        let signed = SignedCheckpoint::parse(checkpoint.sign(&key).to_string().as_bytes()).unwrap();
        assert_eq!(signed.verify(key.verifier_key()), Ok(&checkpoint));
        let foreign = checkpoint.sign(&other);
        assert!(matches!(foreign.verify(other.verifier_key()), Err(CheckpointError::Origin { .. })));
        assert!(matches!(foreign.verify(key.verifier_key()), Err(CheckpointError::Note(_))));
    }
}
