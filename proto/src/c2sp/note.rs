//! Signed notes and their Ed25519 keys (c2sp.org/signed-note).
//!
//! A note is a text, an empty line and signature lines:
//!
//! ```text
//! <text, ending in a newline>
//!
//! — <key name> <base64 of: 4 bytes key id || signature>
//! ```
//!
//! A parsed [`Note`] may bear any signatures; [`Note::verify`] checks those of one key.

use std::{fmt, str::FromStr};

use curve25519_dalek::{edwards::CompressedEdwardsY, traits::IsIdentity};
use ed25519_dalek::{Signature, Signer as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::c2sp::encoding::{HexBytes, from_base64, from_base64_array, from_hex, to_base64};

/// The note signature type of Ed25519 (c2sp.org/signed-note, "Signature types").
const ED25519: u8 = 0x01;
/// The prefix of a secret key's text.
pub(crate) const SECRET_PREFIX: &str = "PRIVATE+KEY+";
/// The most signature lines that are read; c2sp.org/signed-note demands at least 16.
pub const MAX_SIGNATURES: usize = 64;
/// The most bytes of a note that are read: room for 64 post-quantum signatures.
pub const MAX_NOTE: usize = 512 * 1024;

/// The first four bytes of the hash of a key (c2sp.org/signed-note); 8 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// Parses 8 lower-case hex digits.
    pub fn parse(text: &str) -> Option<KeyId> {
        from_hex(text).map(KeyId)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HexBytes(&self.0).fmt(f)
    }
}

/// Why a note or a key was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoteError {
    /// Not UTF-8, control characters, no empty line, or over [`MAX_NOTE`].
    #[error("malformed note: {0}")]
    Malformed(&'static str),
    /// A signature line of another shape.
    #[error("malformed signature line {0}: want '— <name> <base64>'")]
    SignatureLine(usize),
    /// The note bears no signature by this key.
    #[error("the note is not signed by {0}")]
    NotSigned(String),
    /// A signature by this key does not verify.
    #[error("the signature of {0} does not verify")]
    BadSignature(String),
    /// A vkey that is malformed or not canonical, or whose key is weak.
    #[error("verifier key {0:?}: {1}")]
    VerifierKey(String, &'static str),
    /// A secret key that is malformed or not canonical.
    #[error("secret key: {0}")]
    SecretKey(&'static str),
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub key_id: KeyId,
    /// What follows the key id: 64 bytes for Ed25519.
    pub signature: Vec<u8>,
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = self.key_id.0.iter().chain(&self.signature).copied().collect();
        writeln!(f, "— {} {}", self.name, to_base64(&bytes))
    }
}

/// A note: a text and its signatures, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, with its final newline.
    pub text: String,
    /// The signature lines in their order.
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// Parses a note of at most [`MAX_NOTE`] bytes and [`MAX_SIGNATURES`] signature lines.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] and [`NoteError::SignatureLine`].
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        use NoteError::Malformed;
        if bytes.len() > MAX_NOTE {
            return Err(Malformed("it is too large"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| Malformed("it is not UTF-8"))?;
        if whole.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(Malformed("it has a control character other than newline"));
        }
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(Malformed("no empty line parts text and signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or(Malformed("no newline ends it"))?;
        let signatures: Vec<&str> = lines.split('\n').collect();
        if signatures.len() > MAX_SIGNATURES {
            return Err(Malformed("it has too many signatures"));
        }
        let parse = |(i, line): (usize, &&str)| parse_signature(line).ok_or(NoteError::SignatureLine(i + 1));
        Ok(Note {
            text: format!("{text}\n"),
            signatures: signatures.iter().enumerate().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// Checks the signatures by `key`, which is known by name *and* id; all others are ignored, as
    /// c2sp.org/signed-note demands.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`], [`NoteError::BadSignature`] when any line of this key fails.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut signed = false;
        for line in self.signatures.iter().filter(|s| s.name == key.name && s.key_id == key.key_id) {
            key.verify(self.text.as_bytes(), &line.signature)?;
            signed = true;
        }
        if signed { Ok(()) } else { Err(NoteError::NotSigned(key.to_string())) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

/// Parses `— <name> <base64>`, without the newline.
pub(crate) fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = from_base64(encoded)?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    let good = is_key_name(name) && !signature.is_empty();
    good.then(|| NoteSignature { name: name.to_owned(), key_id: KeyId(*key_id), signature: signature.to_vec() })
}

/// Key names are not empty and have no Unicode space and no plus (c2sp.org/signed-note, "Format").
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

/// The id of a key of this note signature type: SHA-256(name || newline || type || key), its first four bytes.
pub(crate) fn key_id(name: &str, kind: u8, key: &[u8]) -> KeyId {
    let hash = Sha256::new_with_prefix(name).chain_update([b'\n', kind]).chain_update(key).finalize();
    KeyId([hash[0], hash[1], hash[2], hash[3]])
}

/// `<name>+<8 hex>+<base64 of type || key>`: the text of a public key and, after a prefix, of a secret key.
pub(crate) fn key_text(name: &str, id: KeyId, kind: u8, key: &[u8]) -> String {
    let bytes: Vec<u8> = [kind].iter().chain(key).copied().collect();
    format!("{name}+{id}+{}", to_base64(&bytes))
}

/// Splits what [`key_text`] writes into name, id and base64.
pub(crate) fn split_key_text(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (id, encoded) = rest.split_once('+')?;
    Some((name, id, encoded))
}

/// A public Ed25519 key with its name: the vkey `<name>+<8 hex>+<base64>`.
///
/// The key is canonically encoded, free of torsion and not the identity, so that every library
/// agrees on what it has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: KeyId,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// A key from its name and its 32 bytes.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`] when the name may not be a key's name or the key is weak.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<VerifierKey, NoteError> {
        let error = |why| NoteError::VerifierKey(name.chars().take(80).collect(), why);
        if !is_key_name(name) {
            return Err(error("the name is empty or has a space or '+'"));
        }
        let point = CompressedEdwardsY(*key).decompress().ok_or(error("the key is not a point of the curve"))?;
        if point.compress().as_bytes() != key {
            return Err(error("the key is not canonically encoded"));
        }
        if point.is_identity() || !point.is_torsion_free() {
            return Err(error("the key is the identity or has a torsion part"));
        }
        let key = ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| error("the key is not a point"))?;
        Ok(VerifierKey { name: name.to_owned(), key_id: key_id(name, ED25519, key.as_bytes()), key })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key of the Ed25519 library.
    pub(crate) fn dalek(&self) -> &ed25519_dalek::VerifyingKey {
        &self.key
    }

    /// Checks a 64-byte signature in the strict sense (`verify_strict`: S and R canonical, R not of
    /// small order, the equation without the cofactor).
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        Signature::from_slice(signature)
            .and_then(|signature| self.key.verify_strict(message, &signature))
            .map_err(|_| NoteError::BadSignature(format!("{}+{}", self.name, self.key_id)))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifierKey, NoteError> {
        if text.starts_with(SECRET_PREFIX) {
            // Never repeat it: messages end up in logs.
            return Err(NoteError::VerifierKey(
                "(not shown)".to_owned(),
                "this is a secret key, and a public one is wanted",
            ));
        }
        let error = |why| NoteError::VerifierKey(text.chars().take(80).collect(), why);
        let (name, id, encoded) = split_key_text(text).ok_or(error("want <name>+<8 hex>+<base64>"))?;
        let bytes: [u8; 33] =
            from_base64_array(encoded).ok_or(error("want the base64 of a type byte and a 32-byte key"))?;
        let [kind, key @ ..] = bytes;
        if kind != ED25519 {
            return Err(error("only Ed25519 keys (type 0x01) are known"));
        }
        let vkey = VerifierKey::new(name, &key)?;
        if KeyId::parse(id) != Some(vkey.key_id) {
            return Err(error("the key id does not belong to this name and key"));
        }
        Ok(vkey)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.key_id, ED25519, self.as_bytes()))
    }
}

/// A secret Ed25519 key with its name: `PRIVATE+KEY+<name>+<8 hex>+<base64 of 0x01 || seed>`, the
/// form that Go's `sumdb/note` writes.
pub struct SigningKey {
    public: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// A key from its name and its 32 secret bytes.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`] when the name may not be a key's name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<SigningKey, NoteError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifierKey::new(name, key.verifying_key().as_bytes())?;
        Ok(SigningKey { public, key })
    }

    /// The public half.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs a text, which must end in a newline.
    pub fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature {
            name: self.public.name.clone(),
            key_id: self.public.key_id,
            signature: self.key.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }

    /// The secret key as text. Keep it out of logs.
    pub fn to_secret_string(&self) -> String {
        let text = key_text(&self.public.name, self.public.key_id, ED25519, self.key.as_bytes());
        format!("{SECRET_PREFIX}{text}")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl FromStr for SigningKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<SigningKey, NoteError> {
        let error = NoteError::SecretKey;
        let rest = text.strip_prefix(SECRET_PREFIX).ok_or(error("want PRIVATE+KEY+<name>+<8 hex>+<base64>"))?;
        let (name, id, encoded) = split_key_text(rest).ok_or(error("want PRIVATE+KEY+<name>+<8 hex>+<base64>"))?;
        let bytes: [u8; 33] = from_base64_array(encoded).ok_or(error("want the base64 of 33 bytes"))?;
        let [kind, seed @ ..] = bytes;
        if kind != ED25519 {
            return Err(error("only Ed25519 keys (type 0x01) are known"));
        }
        let key = SigningKey::from_seed(name, &seed)?;
        if KeyId::parse(id) != Some(key.public.key_id) {
            return Err(error("the key id does not belong to this name and key"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed("log.example/taglog", &[9; 32]).unwrap()
    }

    fn signed(text: &str) -> Note {
        Note { text: text.to_owned(), signatures: vec![key().sign(text)] }
    }

    #[test]
    fn keys_have_one_canonical_encoding() {
        let vkey = key().verifier_key().clone();
        assert_eq!(vkey.to_string().parse(), Ok(vkey.clone()));
        let again: SigningKey = key().to_secret_string().parse().unwrap();
        assert_eq!(again.verifier_key(), &vkey);
        let text = vkey.to_string();
        for bad in [
            text.replace("ecf6521c", "ecf6521d"),
            text.replace("ecf6521c", "ECF6521C"),
            text.replace("taglog+", "taglog +"),
            format!("{text}="),
            text[..text.len() - 1].to_owned(),
            text.replace("+Af", "+Bf"),
            String::new(),
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
        assert!(!format!("{:?}", key()).contains("PRIVATE"));
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let order_two: [u8; 32] = {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (0xec, 0x7f);
            y
        };
        let not_canonical: [u8; 32] = {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (0xee, 0x7f);
            y
        };
        let torsion = {
            use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
            (ED25519_BASEPOINT_POINT + EIGHT_TORSION[1]).compress().to_bytes()
        };
        for weak in [identity, order_two, not_canonical, torsion, [0; 32]] {
            assert!(VerifierKey::new("a", &weak).is_err(), "{weak:?}");
        }
    }

    #[test]
    fn unknown_signatures_are_ignored_and_known_ones_must_verify() {
        let vkey = key().verifier_key().clone();
        let mut note = signed("hello\n");
        assert_eq!(note.verify(&vkey), Ok(()));
        for i in 0..20 {
            let other = NoteSignature { name: format!("other{i}"), key_id: KeyId([1; 4]), signature: vec![7; 2420] };
            note.signatures.insert(0, other);
        }
        let reparsed = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!((&reparsed, reparsed.verify(&vkey)), (&note, Ok(())));
        let mut forged = note.signatures.last().unwrap().clone();
        forged.signature[0] ^= 1;
        note.signatures.push(forged);
        assert!(matches!(note.verify(&vkey), Err(NoteError::BadSignature(_))));
        note.signatures.clear();
        assert!(matches!(note.verify(&vkey), Err(NoteError::NotSigned(_))));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = signed("a\n\nb\n").to_string();
        assert_eq!(Note::parse(good.as_bytes()).unwrap().text, "a\n\nb\n");
        for bad in [
            "",
            "\n",
            "\n\n",
            "a\n",
            "a\n\n",
            "a\n\n— x\n",
            "a\n\n— x AAAAAA==",
            "a\n\n— x AAAAAA==\n",
            "a\n\n- x AAAAAAA=\n",
            "a\r\n\n— x AAAAAAA=\n",
            "a\n\n— x+y AAAAAAA=\n",
            "a\n\n— x AAAAAAA= \n",
            "a\n\n—  AAAAAAA=\n",
        ] {
            assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Note::parse(b"a\n\n\xff\n").is_err());
        assert!(Note::parse(format!("a\n\n{}", "— x AAAAAAA=\n".repeat(MAX_SIGNATURES + 1)).as_bytes()).is_err());
        assert!(Note::parse(&vec![b'a'; MAX_NOTE + 1]).is_err());
    }
}
