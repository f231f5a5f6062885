//! Cosignatures (c2sp.org/tlog-cosignature): a cosigner's signed statement of having checked, at a
//! time, that a log only ever appended.
//!
//! A cosignature is one more signature line under a checkpoint: key id, 8 bytes of time (big-endian
//! seconds since 1970), signature. What is signed depends on the algorithm:
//!
//! - Ed25519 (note signature type 0x04): `cosignature/v1`, `time <seconds>` and the checkpoint's text, a line each;
//! - ML-DSA-44 (type 0x06, FIPS 204, pure, without context): the structure `cosigned_message`, which also
//!   names the cosigner and can be about a subtree.
//!
//! A log that signs its own checkpoints with ML-DSA-44 does it in the same form (c2sp.org/tlog-checkpoint).

use std::{fmt, str::FromStr};

use ed25519_dalek::Signer as _;
use ml_dsa::{MlDsa44, signature::Verifier as _};
use thiserror::Error;

use crate::c2sp::{
    checkpoint::SignedCheckpoint,
    encoding::from_base64,
    merkle::Hash,
    note::{
        KeyId, NoteError, NoteSignature, SECRET_PREFIX, VerifierKey, is_key_name, key_id, key_text, split_key_text,
    },
    subtree::Subtree,
    time::Timestamp,
};

/// The most bytes of a cosigner's name and of a log's origin in an ML-DSA-44 cosignature.
const MAX_NAME: usize = 255;

/// How a cosigner signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Timestamped Ed25519 checkpoint cosignatures: note signature type 0x04.
    Ed25519,
    /// Timestamped ML-DSA-44 (sub)tree cosignatures: note signature type 0x06.
    MlDsa44,
}

impl Algorithm {
    fn note_type(self) -> u8 {
        match self {
            Algorithm::Ed25519 => 0x04,
            Algorithm::MlDsa44 => 0x06,
        }
    }

    fn from_note_type(kind: u8) -> Option<Algorithm> {
        [Algorithm::Ed25519, Algorithm::MlDsa44].into_iter().find(|algorithm| algorithm.note_type() == kind)
    }
}

/// Why a checkpoint or a subtree cannot be cosigned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CosignError {
    /// A cosignature's time is after 1970.
    #[error("no cosignature can be dated {0}: the clock is wrong")]
    Time(Timestamp),
    /// ML-DSA-44 cosignatures have room for 255 bytes of the origin.
    #[error("the origin has {0} bytes, and an ML-DSA-44 cosignature has room for 1 to 255")]
    Origin(usize),
    /// Only ML-DSA-44 can be about a subtree.
    #[error("an Ed25519 key cannot cosign a subtree")]
    Subtree,
    /// The signature could not be made; does not happen for a key that was made from a seed.
    #[error("ML-DSA-44 made no signature")]
    Signature,
}

/// A cosigner's public key with its name: the vkey `<name>+<8 hex>+<base64 of type || key>`.
///
/// Ed25519 keys are held to what [`VerifierKey`] holds them to.
#[derive(Clone, PartialEq)]
pub struct CosignerKey {
    name: String,
    key_id: KeyId,
    public: Public,
}

#[derive(Clone, PartialEq)]
enum Public {
    Ed25519(ed25519_dalek::VerifyingKey),
    MlDsa44(Box<ml_dsa::VerifyingKey<MlDsa44>>),
}

impl Eq for CosignerKey {}

impl CosignerKey {
    /// A key from its name and the bytes of the public key: 32 for Ed25519, 1,312 for ML-DSA-44.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`] when the name may not be a key's name, or the key is weak or of another length.
    pub fn new(name: &str, algorithm: Algorithm, key: &[u8]) -> Result<CosignerKey, NoteError> {
        let error = |why| NoteError::VerifierKey(name.chars().take(80).collect(), why);
        if !is_key_name(name) {
            return Err(error("the name is empty or has a space or '+'"));
        }
        let public = match algorithm {
            Algorithm::Ed25519 => {
                let key = key.try_into().map_err(|_| error("an Ed25519 key has 32 bytes"))?;
                Public::Ed25519(*VerifierKey::new(name, key)?.dalek())
            }
            Algorithm::MlDsa44 if name.len() > MAX_NAME => {
                return Err(error("the name of an ML-DSA-44 key has at most 255 bytes"));
            }
            Algorithm::MlDsa44 => {
                let key = key.try_into().map_err(|_| error("an ML-DSA-44 key has 1312 bytes"))?;
                Public::MlDsa44(Box::new(ml_dsa::VerifyingKey::decode(&key)))
            }
        };
        Ok(CosignerKey { name: name.to_owned(), key_id: key_id(name, algorithm.note_type(), key), public })
    }

    /// The cosigner's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// How the cosigner signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::Ed25519(_) => Algorithm::Ed25519,
            Public::MlDsa44(_) => Algorithm::MlDsa44,
        }
    }

    /// The bytes of the public key, without the type.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.public {
            Public::Ed25519(key) => key.as_bytes().to_vec(),
            Public::MlDsa44(key) => key.encode().to_vec(),
        }
    }

    /// When this cosigner last cosigned the checkpoint, by its own clock; `None` when no line is by this key, or
    /// only such that state no time.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] when any line of this key fails: c2sp.org/signed-note calls such a note malformed.
    pub fn cosigned(&self, signed: &SignedCheckpoint) -> Result<Option<Timestamp>, NoteError> {
        let times = self.times(signed)?;
        Ok(times.into_iter().filter(|time| *time > Timestamp::UNIX_EPOCH).max())
    }

    /// Whether this key signed the checkpoint, with a time or without: how a log's own ML-DSA-44 signature is checked.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] when any line of this key fails.
    pub fn signed(&self, signed: &SignedCheckpoint) -> Result<bool, NoteError> {
        Ok(!self.times(signed)?.is_empty())
    }

    /// The times of this key's lines, all of which must verify.
    fn times(&self, signed: &SignedCheckpoint) -> Result<Vec<Timestamp>, NoteError> {
        let lines = signed.note().signatures.iter().filter(|line| line.name == self.name && line.key_id == self.key_id);
        lines.map(|line| self.verify_line(signed, &line.signature).ok_or_else(|| self.bad_signature())).collect()
    }

    fn verify_line(&self, signed: &SignedCheckpoint, line: &[u8]) -> Option<Timestamp> {
        let (time, signature) = split_time(line)?;
        let message = match self.public {
            Public::Ed25519(_) => ed25519_message(&signed.note().text, time),
            Public::MlDsa44(_) => {
                let checkpoint = signed.unverified();
                let whole = Part { origin: &checkpoint.origin, start: 0, end: checkpoint.size, hash: &checkpoint.root };
                ml_dsa_message(&self.name, time, &whole).ok()?
            }
        };
        self.verifies(&message, signature).then_some(time)
    }

    /// Checks a cosignature of a subtree, which states no time.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] when the line is not by this key, [`NoteError::BadSignature`].
    pub fn verify_subtree(
        &self,
        origin: &str,
        subtree: Subtree,
        hash: &Hash,
        line: &NoteSignature,
    ) -> Result<(), NoteError> {
        if line.name != self.name || line.key_id != self.key_id {
            return Err(NoteError::NotSigned(self.to_string()));
        }
        let part = Part { origin, start: subtree.start(), end: subtree.end(), hash };
        let good = split_time(&line.signature)
            .filter(|(time, _)| self.algorithm() == Algorithm::MlDsa44 && *time == Timestamp::UNIX_EPOCH)
            .and_then(|(time, signature)| Some((ml_dsa_message(&self.name, time, &part).ok()?, signature)))
            .is_some_and(|(message, signature)| self.verifies(&message, signature));
        if good { Ok(()) } else { Err(self.bad_signature()) }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Public::MlDsa44(key) => ml_dsa::Signature::<MlDsa44>::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    fn bad_signature(&self) -> NoteError {
        NoteError::BadSignature(format!("{}+{}", self.name, self.key_id))
    }
}

impl FromStr for CosignerKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<CosignerKey, NoteError> {
        if text.starts_with(SECRET_PREFIX) {
            let why = "this is a secret key, and a public one is wanted";
            return Err(NoteError::VerifierKey("(not shown)".to_owned(), why));
        }
        let error = |why| NoteError::VerifierKey(text.chars().take(80).collect(), why);
        let (name, id, encoded) = split_key_text(text).ok_or(error("want <name>+<8 hex>+<base64>"))?;
        let bytes = from_base64(encoded).ok_or(error("want the base64 of a type byte and a key"))?;
        let (kind, key) = bytes.split_first().ok_or(error("want the base64 of a type byte and a key"))?;
        let algorithm = Algorithm::from_note_type(*kind)
            .ok_or(error("cosigners have Ed25519 cosignature keys (type 0x04) or ML-DSA-44 keys (type 0x06)"))?;
        let vkey = CosignerKey::new(name, algorithm, key)?;
        if KeyId::parse(id) != Some(vkey.key_id) {
            return Err(error("the key id does not belong to this name and key"));
        }
        Ok(vkey)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.key_id, self.algorithm().note_type(), &self.public_bytes()))
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({}+{}, {:?})", self.name, self.key_id, self.algorithm())
    }
}

/// A cosigner's secret key: `PRIVATE+KEY+<name>+<8 hex>+<base64 of type || 32-byte seed>`.
pub struct CosignerSigningKey {
    public: CosignerKey,
    secret: Secret,
}

enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    MlDsa44(Box<ml_dsa::SigningKey<MlDsa44>>),
}

impl CosignerSigningKey {
    /// A key from its name and its 32 secret bytes.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`] when the name may not be a key's name.
    pub fn from_seed(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Result<CosignerSigningKey, NoteError> {
        let (secret, public) = match algorithm {
            Algorithm::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(seed);
                let public = key.verifying_key().as_bytes().to_vec();
                (Secret::Ed25519(Box::new(key)), public)
            }
            Algorithm::MlDsa44 => {
                let key = ml_dsa::SigningKey::<MlDsa44>::from_seed(&(*seed).into());
                let public = key.as_ref().encode().to_vec();
                (Secret::MlDsa44(Box::new(key)), public)
            }
        };
        Ok(CosignerSigningKey { public: CosignerKey::new(name, algorithm, &public)?, secret })
    }

    /// The public half.
    pub fn key(&self) -> &CosignerKey {
        &self.public
    }

    /// Cosigns a checkpoint. The caller has checked that it is consistent with all that this key cosigned before,
    /// and that none of them was larger.
    pub fn cosign(&self, signed: &SignedCheckpoint, time: Timestamp) -> Result<NoteSignature, CosignError> {
        if time <= Timestamp::UNIX_EPOCH {
            return Err(CosignError::Time(time));
        }
        let checkpoint = signed.unverified();
        let message = match self.secret {
            Secret::Ed25519(_) => ed25519_message(&signed.note().text, time),
            Secret::MlDsa44(_) => {
                let whole = Part { origin: &checkpoint.origin, start: 0, end: checkpoint.size, hash: &checkpoint.root };
                ml_dsa_message(&self.public.name, time, &whole)?
            }
        };
        self.line(time, &message)
    }

    /// Cosigns a subtree, without a time. The caller has checked that it is part of a checkpoint that this key cosigned.
    ///
    /// # Errors
    /// [`CosignError::Subtree`] for an Ed25519 key, [`CosignError::Origin`].
    pub fn cosign_subtree(&self, origin: &str, subtree: Subtree, hash: &Hash) -> Result<NoteSignature, CosignError> {
        if self.public.algorithm() != Algorithm::MlDsa44 {
            return Err(CosignError::Subtree);
        }
        let part = Part { origin, start: subtree.start(), end: subtree.end(), hash };
        let time = Timestamp::UNIX_EPOCH;
        self.line(time, &ml_dsa_message(&self.public.name, time, &part)?)
    }

    fn line(&self, time: Timestamp, message: &[u8]) -> Result<NoteSignature, CosignError> {
        let signature = match &self.secret {
            Secret::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            Secret::MlDsa44(key) => key.try_sign(message).map_err(|_| CosignError::Signature)?.encode().to_vec(),
        };
        let signature = seconds(time).to_be_bytes().into_iter().chain(signature).collect();
        Ok(NoteSignature { name: self.public.name.clone(), key_id: self.public.key_id, signature })
    }

    /// The secret key as text. Keep it out of logs.
    pub fn to_secret_string(&self) -> String {
        let CosignerKey { name, key_id, .. } = &self.public;
        let seed: &[u8] = match &self.secret {
            Secret::Ed25519(key) => key.as_bytes(),
            Secret::MlDsa44(key) => key.as_seed(),
        };
        format!("{SECRET_PREFIX}{}", key_text(name, *key_id, self.public.algorithm().note_type(), seed))
    }
}

impl FromStr for CosignerSigningKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<CosignerSigningKey, NoteError> {
        let error = NoteError::SecretKey;
        let rest = text.strip_prefix(SECRET_PREFIX).and_then(split_key_text);
        let (name, id, encoded) = rest.ok_or(error("want PRIVATE+KEY+<name>+<8 hex>+<base64>"))?;
        let bytes = from_base64(encoded).ok_or(error("want the base64 of 33 bytes"))?;
        let (kind, seed) = bytes.split_first().ok_or(error("want the base64 of 33 bytes"))?;
        let seed = seed.try_into().map_err(|_| error("want the base64 of 33 bytes"))?;
        let algorithm = Algorithm::from_note_type(*kind)
            .ok_or(error("a cosigner's key is of type 0x04 or 0x06: make one with 'taglog keygen --cosigner'"))?;
        let key = CosignerSigningKey::from_seed(name, algorithm, seed)?;
        if KeyId::parse(id) != Some(key.public.key_id) {
            return Err(error("the key id does not belong to this name and key"));
        }
        Ok(key)
    }
}

impl fmt::Debug for CosignerSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerSigningKey({}+{})", self.public.name, self.public.key_id)
    }
}

/// The subject of an ML-DSA-44 cosignature: the leaves `[start, end)` of a log, and the root over them.
struct Part<'a> {
    origin: &'a str,
    start: u64,
    end: u64,
    hash: &'a Hash,
}

/// Seconds since 1970; times before it are refused by all callers.
fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.unix()).unwrap_or(0)
}

/// Splits a `timestamped_signature` into its time and the signature.
fn split_time(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (time, signature) = line.split_first_chunk::<8>()?;
    let time = i64::try_from(u64::from_be_bytes(*time)).ok().and_then(Timestamp::from_unix)?;
    Some((time, signature))
}

fn ed25519_message(checkpoint_text: &str, time: Timestamp) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{checkpoint_text}", seconds(time)).into_bytes()
}

/// The structure `cosigned_message`: label, name, time, origin, start, end, hash; texts after a byte of length.
fn ml_dsa_message(cosigner: &str, time: Timestamp, part: &Part<'_>) -> Result<Vec<u8>, CosignError> {
    let short = |text: &str| u8::try_from(text.len()).ok().filter(|len| *len > 0);
    let origin = short(part.origin).ok_or(CosignError::Origin(part.origin.len()))?;
    // A key's name is checked when the key is made.
    let name = short(cosigner).ok_or(CosignError::Signature)?;
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(name);
    message.extend_from_slice(cosigner.as_bytes());
    message.extend_from_slice(&seconds(time).to_be_bytes());
    message.push(origin);
    message.extend_from_slice(part.origin.as_bytes());
    message.extend_from_slice(&part.start.to_be_bytes());
    message.extend_from_slice(&part.end.to_be_bytes());
    message.extend_from_slice(&part.hash.0);
    Ok(message)
}
