//! Checks receipts for what this client submitted.

use taglog_proto::{entry::Entry, note::VerifierKey, receipt::Receipt};

/// Verifies a receipt for the observation or confirmation `note` of `witness` at `index`; the error says what is false in it.
/// Whether its checkpoint is consistent with what was seen before is another question.
///
/// # Errors
/// What is false, in words.
pub fn check_receipt(
    proof: &str,
    log: &VerifierKey,
    witness: &VerifierKey,
    note: &str,
    index: u64,
    duplicate: bool,
) -> Result<Receipt, String> {
    let receipt = Receipt::parse(proof.as_bytes()).map_err(|error| error.to_string())?;
    let bytes = logged_bytes(&receipt, witness, note, duplicate)?;
    receipt.verify(log, &bytes).map_err(|error| error.to_string())?;
    if receipt.index == index { Ok(receipt) } else { Err("the receipt is for another entry".to_owned()) }
}

/// The bytes that must be in the log: ours; or, for a duplicate, the same text signed earlier.
fn logged_bytes(receipt: &Receipt, witness: &VerifierKey, note: &str, duplicate: bool) -> Result<Vec<u8>, String> {
    match &receipt.extra {
        Some(extra) if duplicate && says_the_same(extra, note.as_bytes(), witness) => Ok(extra.clone()),
        _ if duplicate => Err("the log calls it a duplicate of an entry that says something else".to_owned()),
        _ => Ok(note.as_bytes().to_vec()),
    }
}

/// Whether both are statements with one text, and both signed by the witness (SPEC.md section 6.2).
fn says_the_same(one: &[u8], other: &[u8], witness: &VerifierKey) -> bool {
    let signed_text = |bytes: &[u8]| match Entry::parse(bytes) {
        Ok(Entry::Observation(entry)) => entry.verify(witness).is_ok().then(|| entry.text()),
        Ok(Entry::Confirmation(entry)) => entry.verify(witness).is_ok().then(|| entry.text()),
        _ => None,
    };
    signed_text(one).is_some_and(|one| Some(one) == signed_text(other))
}
