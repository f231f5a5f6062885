//! Signs observations and confirmations.

use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::Sha512;
use taglog_proto::{
    entry::{Confirmation, Observation, Seen},
    name::{Digest, Image, Repository, WitnessId, WitnessName},
    note::{SigningKey, VerifierKey},
    time::Timestamp,
};

/// What the clock says, in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A time as entries spell it.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

pub fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

pub fn image(name: &str) -> Image {
    Image::parse(name).unwrap()
}

pub struct Witness {
    pub key: SigningKey,
    seed: [u8; 32],
}

impl Witness {
    /// A witness whose key follows from its number.
    pub fn new(number: u8) -> Witness {
        Witness::named(&format!("witness.example/w{number}"), number)
    }

    /// A witness of this name whose key follows from the number.
    pub fn named(name: &str, number: u8) -> Witness {
        let seed = [number; 32];
        Witness { key: SigningKey::from_seed(name, &seed).unwrap(), seed }
    }

    pub fn vkey(&self) -> &VerifierKey {
        self.key.verifier_key()
    }

    /// The id, as records name it.
    pub fn id(&self) -> WitnessId {
        WitnessId { name: WitnessName::parse(self.vkey().name()).unwrap(), key_id: self.vkey().key_id() }
    }

    /// An observation, as bytes to submit: the digest of `content` at `at` seconds since 1970.
    pub fn observe(&self, name: &str, content: &str, at: i64) -> Vec<u8> {
        self.see(name, Seen::Digest(digest(content)), at)
    }

    /// An observation that the tag is gone.
    pub fn gone(&self, name: &str, at: i64) -> Vec<u8> {
        self.see(name, Seen::Gone, at)
    }

    /// An observation of anything.
    pub fn see(&self, name: &str, seen: Seen, at: i64) -> Vec<u8> {
        Observation::sign(image(name), seen, time(at), &self.key).unwrap().to_string().into_bytes()
    }

    pub fn confirm(&self, repository: &str, at: i64) -> Vec<u8> {
        let repository = Repository::parse(repository).unwrap();
        Confirmation::sign(repository, time(at), &self.key).unwrap().to_string().into_bytes()
    }

    /// Signs any text, well-formed or not: the note as bytes to submit.
    pub fn note(&self, text: &str) -> Vec<u8> {
        format!("{text}\n{}", self.key.sign(text)).into_bytes()
    }

    /// The same note with another signature of the same text, equally valid: the nonce of Ed25519 is
    /// the signer's choice.
    pub fn sign_again(&self, note: &[u8]) -> Vec<u8> {
        let (text, _) = std::str::from_utf8(note).unwrap().rsplit_once("\n\n").unwrap();
        let text = format!("{text}\n");
        let mut secret = ExpandedSecretKey::from(&self.seed);
        secret.hash_prefix[0] ^= 1;
        let public = ed25519_dalek::VerifyingKey::from_bytes(self.vkey().as_bytes()).unwrap();
        let mut line = self.key.sign(&text);
        line.signature = raw_sign::<Sha512>(&secret, text.as_bytes(), &public).to_bytes().to_vec();
        format!("{text}\n{line}").into_bytes()
    }
}
