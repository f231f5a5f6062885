//! The rules that entries obey, one function each: the log applies them before it accepts, the
//! auditor applies the same ones afterwards (SPEC.md sections 3.5 and 8).

use std::{collections::HashMap, sync::OnceLock};

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::CompressedEdwardsY,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

use crate::{entry::Limits, note::VerifierKey, time::Timestamp};

/// An observation or confirmation outside the times that the roster allows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TimeError {
    /// More than `past` before the previous seal.
    #[error("observed {observed} is more than {past} s before the previous seal ({previous}): too old to be logged")]
    TooOld {
        /// The time of the entry.
        observed: Timestamp,
        /// The time of the previous seal.
        previous: Timestamp,
        /// The limit in seconds.
        past: u64,
    },
    /// More than `future` after the closing seal.
    #[error(
        "observed {observed} is more than {future} s after the closing seal ({closing}): check the witness's clock"
    )]
    InFuture {
        /// The time of the entry.
        observed: Timestamp,
        /// The time of the closing seal.
        closing: Timestamp,
        /// The limit in seconds.
        future: u64,
    },
}

/// The time rule: previous seal − `past` ≤ `observed` ≤ closing seal + `future`. In the first batch
/// the roster's time stands for the previous seal.
///
/// # Errors
/// [`TimeError`].
pub fn check_time(
    observed: Timestamp,
    previous: Timestamp,
    closing: Timestamp,
    limits: &Limits,
) -> Result<(), TimeError> {
    // 128 bits hold every sum of a time and a limit.
    let seconds = |time: Timestamp| i128::from(time.unix());
    let Limits { past, future, .. } = *limits;
    if seconds(observed) < seconds(previous) - i128::from(past) {
        return Err(TimeError::TooOld { observed, previous, past });
    }
    if seconds(observed) > seconds(closing) + i128::from(future) {
        return Err(TimeError::InFuture { observed, closing, future });
    }
    Ok(())
}

/// How a signature stands up to an auditor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// Valid in the strict sense.
    Strict,
    /// Valid only with the cofactor: the log should have refused it, but it frames nobody.
    Lax,
    /// S or R is not canonical, or the cofactored equation fails: the log accepted a forgery.
    Invalid,
}

/// Judges one signature as an auditor does.
pub fn judge_signature(key: &VerifierKey, message: &[u8], signature: &[u8; 64]) -> SignatureVerdict {
    if key.verify(message, signature).is_ok() {
        return SignatureVerdict::Strict;
    }
    match satisfies_cofactored(key, message, signature) {
        Some(true) => SignatureVerdict::Lax,
        _ => SignatureVerdict::Invalid,
    }
}

/// Whether 8·(S·B − R − k·A) = 0 with k = SHA-512(R || A || message) (RFC 8032 section 5.1.7);
/// `None` when S or R is not canonical.
fn satisfies_cofactored(key: &VerifierKey, message: &[u8], signature: &[u8; 64]) -> Option<bool> {
    let (r, s) = signature.split_first_chunk::<32>()?;
    let s: Scalar = Option::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
    let point = CompressedEdwardsY(*r).decompress()?;
    if point.compress().as_bytes() != r {
        return None;
    }
    let a = CompressedEdwardsY(*key.as_bytes()).decompress()?;
    let hash = Sha512::new_with_prefix(r).chain_update(key.as_bytes()).chain_update(message).finalize();
    let k = Scalar::from_bytes_mod_order_wide(&hash.into());
    let difference = EdwardsPoint::mul_base(&s) - point - a * k;
    Some(difference.mul_by_cofactor().is_identity())
}

/// A signature to be judged with others.
pub struct SignedText<'a> {
    /// Whose key.
    pub key: &'a VerifierKey,
    /// What was signed.
    pub text: &'a str,
    /// The signature.
    pub signature: &'a [u8; 64],
}

impl SignedText<'_> {
    /// SHA-512(R || A || message).
    fn challenge(&self) -> [u8; 64] {
        let hash = Sha512::new_with_prefix(&self.signature[..32]).chain_update(self.key.as_bytes());
        hash.chain_update(self.text).finalize().into()
    }
}

/// Judges many signatures: in batches, and one by one only where a batch fails. Returns the
/// verdicts in order.
pub fn judge_signatures(signed: &[SignedText<'_>]) -> Vec<SignatureVerdict> {
    /// Larger batches gain little more.
    const BATCH: usize = 4096;
    let mut verdicts = Vec::with_capacity(signed.len());
    signed.chunks(BATCH).for_each(|batch| judge_batch(batch, &mut verdicts));
    verdicts
}

/// Judges a batch; one that fails is halved until it is small enough to be looked at one by one.
fn judge_batch(signed: &[SignedText<'_>], verdicts: &mut Vec<SignatureVerdict>) {
    const ONE_BY_ONE: usize = 16;
    let alone = |s: &SignedText<'_>| judge_signature(s.key, s.text.as_bytes(), s.signature);
    if batch_holds(signed) == Some(true) {
        let usual = |s: &SignedText<'_>| if has_unusual_r(s.signature) { alone(s) } else { SignatureVerdict::Strict };
        verdicts.extend(signed.iter().map(usual));
    } else if signed.len() <= ONE_BY_ONE {
        verdicts.extend(signed.iter().map(alone));
    } else {
        let (left, right) = signed.split_at(signed.len() / 2);
        judge_batch(left, verdicts);
        judge_batch(right, verdicts);
    }
}

/// Whether Σ zᵢ·(Sᵢ·B − Rᵢ − kᵢ·Aᵢ) = 0 with kᵢ = SHA-512(Rᵢ || Aᵢ || messageᵢ) and factors zᵢ that
/// nobody can choose, since they follow from all that is summed (Bernstein and others, "High-speed
/// high-security signatures", section 5). `None` when a signature is malformed.
///
/// The few keys that sign many texts are each multiplied once, by their sum of zᵢ·kᵢ.
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
            keys.push(text.key.dalek().to_edwards());
            key_scalars.push(Scalar::ZERO);
        }
        key_scalars[place] += factor * Scalar::from_bytes_mod_order_wide(challenge);
    }
    points.extend(keys.into_iter().chain([ED25519_BASEPOINT_POINT]));
    let scalars: Vec<Scalar> = factors.into_iter().chain(key_scalars).chain([base]).collect();
    Some(EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).is_identity())
}

/// For each signature an odd number of 128 bits, from a hash over all of them. Odd, so that a lone R
/// with a torsion part never vanishes.
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

/// Whether R is one of the few encodings that batch verification takes and the strict sense does
/// not: y not below the field's prime 2²⁵⁵ − 19, or a point of small order.
fn has_unusual_r(signature: &[u8; 64]) -> bool {
    let mut y = [0; 32];
    y.copy_from_slice(&signature[..32]);
    // The top bit is the sign of x, with which the points of small order come in pairs.
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
    use super::*;
    use crate::note::SigningKey;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    #[test]
    fn the_time_rule_holds_to_the_second() {
        let limits = Limits { future: 300, past: 100, quiet: 600 };
        let check = |observed| check_time(time(observed), time(1000), time(2000), &limits);
        assert!(check(900).is_ok() && check(2300).is_ok());
        assert!(matches!(check(899), Err(TimeError::TooOld { .. })));
        assert!(matches!(check(2301), Err(TimeError::InFuture { .. })));
        let endless = Limits { future: (1 << 53) - 1, past: (1 << 53) - 1, quiet: 0 };
        assert!(check_time(time(-1), time(253402207200), time(0), &endless).is_ok());
    }

    /// A signature whose R has a torsion part: made with the secret key, valid only with the cofactor.
    fn lax_signature(seed: [u8; 32], message: &[u8]) -> [u8; 64] {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let r = Scalar::from(12345u64);
        let point = (EdwardsPoint::mul_base(&r) + EIGHT_TORSION[1]).compress().to_bytes();
        let public = key.verifying_key().to_bytes();
        let hash = Sha512::new_with_prefix(point).chain_update(public).chain_update(message).finalize();
        let s = r + Scalar::from_bytes_mod_order_wide(&hash.into()) * key.to_scalar();
        [point, s.to_bytes()].concat().try_into().unwrap()
    }

    #[test]
    fn only_what_fails_with_the_cofactor_convicts() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let strict: [u8; 64] = key.sign("text\n").signature.try_into().unwrap();
        let lax = lax_signature([5; 32], b"text\n");
        let mut high_s = strict;
        high_s[63] |= 0xe0;
        let judge = |signature| judge_signature(key.verifier_key(), b"text\n", signature);
        assert_eq!(judge(&strict), SignatureVerdict::Strict);
        assert_eq!(judge(&lax), SignatureVerdict::Lax);
        assert_eq!(judge(&high_s), SignatureVerdict::Invalid);
        assert_eq!(judge_signature(key.verifier_key(), b"other\n", &strict), SignatureVerdict::Invalid);

        let signed = |signature| SignedText { key: key.verifier_key(), text: "text\n", signature };
        let mut many: Vec<_> = (0..300).map(|_| signed(&strict)).collect();
        assert!(judge_signatures(&many).iter().all(|v| *v == SignatureVerdict::Strict));
        many[299] = signed(&high_s);
        let verdicts = judge_signatures(&many);
        assert_eq!(
            (verdicts.len(), verdicts[298], verdicts[299]),
            (300, SignatureVerdict::Strict, SignatureVerdict::Invalid)
        );
    }

    /// Points of small order in every encoding, canonical or not, as R of a signature that satisfies
    /// the equation: the verdict must not depend on the company a signature is in.
    #[test]
    fn a_batch_judges_as_one_by_one() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let secret = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
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
            let s = Scalar::from_bytes_mod_order_wide(&hash.finalize().into()) * secret.to_scalar();
            let signature: [u8; 64] = [r, s.to_bytes()].concat().try_into().unwrap();
            let alone = judge_signature(key.verifier_key(), b"text\n", &signature);
            let signed = SignedText { key: key.verifier_key(), text: "text\n", signature: &signature };
            assert_eq!(judge_signatures(&[signed]), [alone], "{r:?}");
            assert_ne!(alone, SignatureVerdict::Strict, "{r:?}");
        }
    }
}
