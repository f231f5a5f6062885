//! The rules that entries obey, one function each: the log applies them before it accepts, the
//! auditor applies the same ones afterwards (SPEC.md sections 3.5 and 8).

use curve25519_dalek::{EdwardsPoint, Scalar, edwards::CompressedEdwardsY, traits::IsIdentity};
use sha2::{Digest as _, Sha512};
use thiserror::Error;

use crate::{
    c2sp::{note::VerifierKey, time::Timestamp},
    formats::entry::Limits,
};

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

/// The result of checking a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// Valid in the strict sense.
    Strict,
    /// Valid only with the cofactor: the log should have refused it, but no false statement follows from it.
    Lax,
    /// S or R is not canonical, or the cofactored equation fails: the log accepted a forgery.
    Invalid,
}

/// Checks one signature as an auditor does.
pub fn check_signature(key: &VerifierKey, message: &[u8], signature: &[u8; 64]) -> SignatureVerdict {
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

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::c2sp::note::SigningKey;

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
    fn a_signature_that_holds_with_the_cofactor_is_lax_and_any_other_invalid() {
        let key = SigningKey::from_seed("w.example", &[5; 32]).unwrap();
        let strict: [u8; 64] = key.sign("text\n").signature.try_into().unwrap();
        let lax = lax_signature([5; 32], b"text\n");
        let mut high_s = strict;
        high_s[63] |= 0xe0;
        let check = |signature| check_signature(key.verifier_key(), b"text\n", signature);
        assert_eq!(check(&strict), SignatureVerdict::Strict);
        assert_eq!(check(&lax), SignatureVerdict::Lax);
        assert_eq!(check(&high_s), SignatureVerdict::Invalid);
        assert_eq!(check_signature(key.verifier_key(), b"other\n", &strict), SignatureVerdict::Invalid);
    }
}
