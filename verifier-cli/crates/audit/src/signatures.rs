//! Parses entries and checks their signatures in batches: faster than one by one, with the same verdicts.

use std::{collections::HashMap, sync::OnceLock};

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::CompressedEdwardsY,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use sha2::{Digest as _, Sha256, Sha512};
use taglog_proto::{
    audit::ParsedEntry,
    entry::Roster,
    name::WitnessId,
    note::VerifierKey,
    rules::{SignatureVerdict, check_signature},
};

/// The keys of the witnesses in the rosters of a log, by witness id.
#[derive(Clone, Debug, Default)]
pub struct WitnessKeys(HashMap<WitnessId, VerifierKey>);

impl WitnessKeys {
    /// Adds the witnesses of a roster. An id keeps its first key: the audit rejects a roster with another key for it.
    pub fn admit(&mut self, roster: &Roster) {
        for (id, key) in roster.ids().zip(roster.witnesses()) {
            self.0.entry(id).or_insert_with(|| key.clone());
        }
    }
}

/// Parses entries and checks their signatures. `keys` should have the witnesses of every roster up to these entries; signatures
/// by other witnesses are left to [`taglog_proto::audit::audit_parsed`].
pub(crate) fn parse_entries(entries: &[&[u8]], keys: &WitnessKeys) -> Vec<ParsedEntry> {
    let mut parsed: Vec<ParsedEntry> = entries.iter().map(|bytes| ParsedEntry::parse(bytes)).collect();
    let signed = parsed.iter().zip(entries).enumerate().filter_map(|(place, (parsed, bytes))| {
        let signature = parsed.entry.as_ref().ok()?.signature()?;
        let key = keys.0.get(&signature.witness)?;
        Some((place, SignedText { key, text: signed_text(bytes)?, signature: &signature.bytes }))
    });
    let (places, signed): (Vec<usize>, Vec<SignedText<'_>>) = signed.unzip();
    let verdicts = check_signatures(&signed);
    for (place, verdict) in places.into_iter().zip(verdicts) {
        parsed[place].verdict = Some(verdict);
    }
    parsed
}

/// The signed text of a valid statement: everything before its signature line.
fn signed_text(statement: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(statement).ok()?;
    let (before, _signature) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    Some(before)
}

/// A signature that is to be checked.
struct SignedText<'a> {
    key: &'a VerifierKey,
    text: &'a str,
    signature: &'a [u8; 64],
}

impl SignedText<'_> {
    /// SHA-512(R || A || message).
    fn challenge(&self) -> [u8; 64] {
        let hash = Sha512::new_with_prefix(&self.signature[..32]).chain_update(self.key.as_bytes());
        hash.chain_update(self.text).finalize().into()
    }
}

/// Checks signatures in batches, and one by one only if a batch fails. Returns the verdicts in order.
fn check_signatures(signed: &[SignedText<'_>]) -> Vec<SignatureVerdict> {
    /// Larger batches are hardly faster per signature.
    const BATCH: usize = 4096;
    let mut verdicts = Vec::with_capacity(signed.len());
    signed.chunks(BATCH).for_each(|batch| check_batch(batch, &mut verdicts));
    verdicts
}

/// Checks a batch. A batch that fails is halved until it is small enough to be checked one by one.
fn check_batch(signed: &[SignedText<'_>], verdicts: &mut Vec<SignatureVerdict>) {
    const ONE_BY_ONE: usize = 16;
    let alone = |s: &SignedText<'_>| check_signature(s.key, s.text.as_bytes(), s.signature);
    if batch_holds(signed) == Some(true) {
        let usual = |s: &SignedText<'_>| if has_unusual_r(s.signature) { alone(s) } else { SignatureVerdict::Strict };
        verdicts.extend(signed.iter().map(usual));
    } else if signed.len() <= ONE_BY_ONE {
        verdicts.extend(signed.iter().map(alone));
    } else {
        let (left, right) = signed.split_at(signed.len() / 2);
        check_batch(left, verdicts);
        check_batch(right, verdicts);
    }
}

/// Whether Σ zᵢ·(Sᵢ·B − Rᵢ − kᵢ·Aᵢ) = 0 with kᵢ = SHA-512(Rᵢ || Aᵢ || messageᵢ) and factors zᵢ that are derived from all
/// signatures of the batch, so that a signer cannot choose them (Bernstein et al., "High-speed high-security signatures",
/// section 5). `None` if a signature is malformed.
///
/// Each key is multiplied only once, by its sum of zᵢ·kᵢ, since few keys sign many texts.
fn batch_holds(signed: &[SignedText<'_>]) -> Option<bool> {
    let challenges: Vec<[u8; 64]> = signed.iter().map(SignedText::challenge).collect();
    let factors = factors(signed, &challenges);
    let mut places: HashMap<&[u8; 32], usize> = HashMap::new();
    let (mut keys, mut key_scalars): (Vec<EdwardsPoint>, Vec<Scalar>) = (Vec::new(), Vec::new());
    let mut base = Scalar::ZERO;
    let mut points = Vec::with_capacity(signed.len());
    for ((text, challenge), factor) in signed.iter().zip(&challenges).zip(&factors) {
        let (r, s) = text.signature.split_first_chunk::<32>()?;
        let s: Scalar = Option::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        base -= factor * s;
        points.push(CompressedEdwardsY(*r).decompress()?);
        let place = *places.entry(text.key.as_bytes()).or_insert(keys.len());
        if place == keys.len() {
            keys.push(CompressedEdwardsY(*text.key.as_bytes()).decompress()?);
            key_scalars.push(Scalar::ZERO);
        }
        key_scalars[place] += factor * Scalar::from_bytes_mod_order_wide(challenge);
    }
    points.extend(keys.into_iter().chain([ED25519_BASEPOINT_POINT]));
    let scalars: Vec<Scalar> = factors.into_iter().chain(key_scalars).chain([base]).collect();
    Some(EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).is_identity())
}

/// For each signature an odd number of 128 bits, derived from a hash over all of them. Odd, so that the torsion component of a
/// single R is never cancelled.
fn factors(signed: &[SignedText<'_>], challenges: &[[u8; 64]]) -> Vec<Scalar> {
    let mut all = Sha512::new_with_prefix(b"taglog batch verification");
    for (text, challenge) in signed.iter().zip(challenges) {
        // The challenge covers key, R and message.
        all.update(challenge);
        all.update(&text.signature[32..]);
    }
    let seed = all.finalize();
    let mut factors = Vec::with_capacity(signed.len());
    for pair in 0..signed.len().div_ceil(2) as u64 {
        let hash = Sha256::new_with_prefix(seed).chain_update(pair.to_be_bytes()).finalize();
        let (low, high) = hash.split_at(16);
        for half in [low, high] {
            let bytes = half.iter().rev().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
            factors.push(Scalar::from(bytes | 1));
        }
    }
    factors.truncate(signed.len());
    factors
}

/// Whether R is one of the few encodings that batch verification accepts and strict verification does not: y not below the
/// field's prime 2²⁵⁵ − 19, or a point of small order.
fn has_unusual_r(signature: &[u8; 64]) -> bool {
    let mut y = [0; 32];
    y.copy_from_slice(&signature[..32]);
    // The top bit is the sign of x; points of small order have both signs.
    y[31] &= 0x7f;
    let not_below_prime = y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff) && y[0] >= 0xed;
    not_below_prime || small_order_y().contains(&y)
}

/// The y coordinates of the eight points of small order.
fn small_order_y() -> &'static [[u8; 32]; 8] {
    static Y: OnceLock<[[u8; 32]; 8]> = OnceLock::new();
    Y.get_or_init(|| {
        EIGHT_TORSION.map(|point| {
            let mut y = point.compress().to_bytes();
            y[31] &= 0x7f;
            y
        })
    })
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::scalar::clamp_integer;
    use taglog_proto::note::SigningKey;

    use super::*;

    #[test]
    fn one_forgery_among_many_signatures_is_found() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let strict: [u8; 64] = key.sign("text\n").signature.try_into().unwrap();
        let mut high_s = strict;
        high_s[63] |= 0xe0;
        let signed = |signature| SignedText { key: key.verifier_key(), text: "text\n", signature };
        let mut many: Vec<_> = (0..300).map(|_| signed(&strict)).collect();
        assert!(check_signatures(&many).iter().all(|v| *v == SignatureVerdict::Strict));
        many[299] = signed(&high_s);
        let verdicts = check_signatures(&many);
        assert_eq!(
            (verdicts.len(), verdicts[298], verdicts[299]),
            (300, SignatureVerdict::Strict, SignatureVerdict::Invalid)
        );
    }

    /// The scalar of the secret key with this seed (RFC 8032 section 5.1.5).
    fn secret_scalar(seed: [u8; 32]) -> Scalar {
        let hash: [u8; 64] = Sha512::digest(seed).into();
        Scalar::from_bytes_mod_order(clamp_integer(hash[..32].try_into().unwrap()))
    }

    /// R with a torsion component: batch verification accepts one in eight of these as strict, but must reject none.
    #[test]
    fn signatures_valid_only_with_the_cofactor_are_never_invalid() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let mut lax = 0;
        for nonce in 1..33u64 {
            let point = (EdwardsPoint::mul_base(&Scalar::from(nonce)) + EIGHT_TORSION[1]).compress().to_bytes();
            let hash =
                Sha512::new_with_prefix(point).chain_update(key.verifier_key().as_bytes()).chain_update("text\n");
            let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
            let s = Scalar::from(nonce) + challenge * secret_scalar([5; 32]);
            let signature: [u8; 64] = [point, s.to_bytes()].concat().try_into().unwrap();
            let signed = SignedText { key: key.verifier_key(), text: "text\n", signature: &signature };
            let verdicts = check_signatures(&[signed]);
            assert_ne!(verdicts, [SignatureVerdict::Invalid]);
            lax += usize::from(verdicts == [SignatureVerdict::Lax]);
        }
        assert!(lax > 16, "{lax} of 32 signatures give a warning");
    }

    /// Points of small order in every encoding, canonical or not, as R of a signature that satisfies
    /// the equation: the verdict must not depend on the other signatures of the batch.
    #[test]
    fn a_batch_gives_the_verdicts_of_single_checks() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let secret = secret_scalar([5; 32]);
        let not_canonical = [0xed, 0xee].into_iter().flat_map(|low| {
            [0x7f, 0xff].map(|high| {
                let mut r = [0xff; 32];
                (r[0], r[31]) = (low, high);
                r
            })
        });
        let small = EIGHT_TORSION.map(|point| point.compress().to_bytes());
        let signs = small.into_iter().flat_map(|r| {
            let mut other = r;
            other[31] ^= 0x80;
            [r, other]
        });
        for r in not_canonical.chain(signs) {
            let hash = Sha512::new_with_prefix(r).chain_update(key.verifier_key().as_bytes()).chain_update(b"text\n");
            let s = Scalar::from_bytes_mod_order_wide(&hash.finalize().into()) * secret;
            let signature: [u8; 64] = [r, s.to_bytes()].concat().try_into().unwrap();
            let alone = check_signature(key.verifier_key(), b"text\n", &signature);
            let signed = SignedText { key: key.verifier_key(), text: "text\n", signature: &signature };
            assert_eq!(check_signatures(&[signed]), [alone], "{r:?}");
            assert_ne!(alone, SignatureVerdict::Strict, "{r:?}");
        }
    }
}
