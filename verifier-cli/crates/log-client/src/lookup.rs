//! Looks images up and verifies the response: proofs, consistency with the remembered checkpoint, and further pages of long
//! lists.

use std::sync::Arc;

use serde_json::json;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    evidence::{Evidence, Fork},
    merkle::verify_consistency,
    name::Image,
    note::VerifierKey,
    policy::Quorate,
    tag_proof::{ImageReport, MAX_IMAGES, TagProof, TagProofError, VerifiedLookup},
    time::Timestamp,
};
use thiserror::Error;

use super::{
    ClientError, LogClient,
    trust::{InsufficientTrust, Trust},
};

/// The most pages of a list of sightings that are fetched; a longer list stays incomplete.
const MAX_PAGES: u64 = 64;

/// The `type` of a file with a response that shows misbehaviour but does not prove it to others.
pub const MISBEHAVIOUR: &str = "taglog/misbehaviour@v1";

/// Why a look-up failed.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A proof is false, or the log contradicts an earlier checkpoint.
    #[error("{0}")]
    Misbehaved(Box<Misbehaviour>),
    /// The proofs hold, but the cosignatures do not satisfy the trust file.
    #[error(transparent)]
    InsufficientTrust(#[from] InsufficientTrust),
}

/// Why saved proofs are not accepted.
#[derive(Debug, Error)]
#[error("log {log}: {why}")]
pub struct SavedProofError {
    /// The origin of the log.
    pub log: String,
    /// What is wrong.
    pub why: SavedProofFault,
}

/// Why the saved proofs of one log are not accepted.
#[derive(Debug, Error)]
pub enum SavedProofFault {
    /// There are none.
    #[error("there is no proof of it")]
    Missing,
    /// A proof is false.
    #[error(transparent)]
    Proof(#[from] TagProofError),
    /// The proofs hold, but the cosignatures do not satisfy the trust file.
    #[error(transparent)]
    InsufficientTrust(#[from] InsufficientTrust),
}

/// A verified response, and the cosignatures of its checkpoint.
#[derive(Debug)]
pub struct CosignedLookup {
    /// The verified content.
    pub lookup: VerifiedLookup,
    /// The cosigners and the times of their cosignatures.
    pub cosigned: Quorate,
}

impl CosignedLookup {
    /// The time as of which the response is valid: of the quorum of cosigners, or without one, of the seal.
    pub fn time(&self) -> Timestamp {
        self.cosigned.fresh.unwrap_or(self.lookup.seal.time)
    }
}

/// Misbehaviour of a log, with the response that shows it.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Misbehaviour {
    /// What is wrong.
    pub error: TagProofError,
    /// The response as JSON; if possible, evidence that proves the misbehaviour to others.
    pub evidence: String,
}

/// Tag proofs of one log, and their verified content.
#[derive(Debug)]
pub struct LogLookup {
    /// The log's origin.
    pub log: String,
    /// The proofs, for saving: one for each part of a large request and each further page.
    pub proofs: Vec<TagProof>,
    /// The verified parts, in the order of the request.
    pub parts: Vec<Arc<CosignedLookup>>,
}

impl LogLookup {
    /// The part that has an image.
    pub fn part(&self, image: &Image) -> Option<&CosignedLookup> {
        self.parts.iter().map(Arc::as_ref).find(|part| part.lookup.report(image).is_some())
    }

    /// The report on an image.
    pub fn report(&self, image: &Image) -> Option<&ImageReport> {
        self.parts.iter().find_map(|part| part.lookup.report(image))
    }

    /// The part with the oldest checkpoint: everything is at least that new.
    pub fn oldest(&self) -> Option<&CosignedLookup> {
        self.parts.iter().map(Arc::as_ref).min_by_key(|part| part.lookup.checkpoint.size)
    }

    /// The newest checkpoint among the parts.
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        let parts = self.parts.iter().map(|part| &part.lookup.signed_checkpoint);
        parts.max_by_key(|signed| signed.unverified().size)
    }
}

/// Looks up all images (each once), normally in one request, and verifies everything, the quorum of cosigners and
/// consistency with `remembered` included.
///
/// # Errors
/// [`LookupError`].
pub async fn look_up(
    client: &LogClient,
    trust: &Trust,
    images: &[Image],
    remembered: Option<&SignedCheckpoint>,
) -> Result<LogLookup, LookupError> {
    let (mut proofs, mut parts) = (Vec::new(), Vec::new());
    let mut last = remembered.cloned();
    let mut waiting: Vec<&[Image]> = images.chunks(MAX_IMAGES).rev().collect();
    while let Some(part) = waiting.pop() {
        match verified_page(client, trust, part, last.as_ref(), 0).await {
            Ok((proof, part)) => {
                last = Some(part.lookup.signed_checkpoint.clone());
                proofs.push(proof);
                parts.push(part);
            }
            // The response would not fit into one proof: request the halves.
            Err(LookupError::Client(ClientError::Problem { kind, .. }))
                if kind == "lookup-too-large" && part.len() > 1 =>
            {
                let (first, second) = part.split_at(part.len() / 2);
                waiting.extend([second, first]);
            }
            Err(error) => return Err(error),
        }
    }
    complete(client, trust, &mut proofs, &mut parts).await?;
    Ok(LogLookup { log: trust.origin().to_owned(), proofs, parts: parts.into_iter().map(Arc::new).collect() })
}

async fn verified_page(
    client: &LogClient,
    trust: &Trust,
    images: &[Image],
    last: Option<&SignedCheckpoint>,
    page: u64,
) -> Result<(TagProof, CosignedLookup), LookupError> {
    let from = last.map(|last| last.unverified().size);
    let proof = match client.tag_proof(images, from, page).await {
        // The log claims to be smaller than the remembered checkpoint: request a proof of its current size.
        Err(ClientError::Problem { kind, .. }) if kind == "size-out-of-range" && from.is_some() => {
            client.tag_proof(images, None, page).await?
        }
        answer => answer?,
    };
    let lookup = verify(&proof, &trust.log, last).map_err(|error| misbehaved(error, &proof, last))?;
    if let Some(missing) = images.iter().find(|image| lookup.report(image).is_none()) {
        let why = "the log left it out of its response".to_owned();
        let error = TagProofError::Contradiction { image: missing.to_string(), why };
        return Err(misbehaved(error, &proof, last));
    }
    let cosigned = trust.check_lookup(&lookup)?;
    Ok((proof, CosignedLookup { lookup, cosigned }))
}

fn verify(
    proof: &TagProof,
    log: &VerifierKey,
    last: Option<&SignedCheckpoint>,
) -> Result<VerifiedLookup, TagProofError> {
    let verified = proof.verify(log)?;
    if let Some(last) = last {
        proof.verify_consistency(last.unverified(), &verified.checkpoint)?;
    }
    Ok(verified)
}

fn misbehaved(error: TagProofError, proof: &TagProof, last: Option<&SignedCheckpoint>) -> LookupError {
    let new = SignedCheckpoint::parse(proof.checkpoint.as_bytes()).ok();
    let answer = serde_json::to_value(proof).unwrap_or_default();
    LookupError::Misbehaved(Box::new(Misbehaviour { evidence: evidence(&error, last, new.as_ref(), answer), error }))
}

/// The evidence as JSON. Two roots for one size prove the fork to everyone.
fn evidence(
    error: &TagProofError,
    last: Option<&SignedCheckpoint>,
    new: Option<&SignedCheckpoint>,
    answer: serde_json::Value,
) -> String {
    match (last, new) {
        (Some(last), Some(new))
            if last.unverified().size == new.unverified().size && last.unverified() != new.unverified() =>
        {
            Evidence::Fork(Fork { checkpoints: [last.to_string(), new.to_string()] }).to_json()
        }
        (last, new) => json!({
            "type": MISBEHAVIOUR,
            "error": error.to_string(),
            "remembered": last.map(ToString::to_string),
            "checkpoint": new.map(ToString::to_string),
            "answer": answer,
        })
        .to_string(),
    }
}

/// Fetches the further pages of lists that are longer than one page.
async fn complete(
    client: &LogClient,
    trust: &Trust,
    proofs: &mut Vec<TagProof>,
    parts: &mut [CosignedLookup],
) -> Result<(), LookupError> {
    for CosignedLookup { lookup: part, .. } in parts {
        let mut pages = Vec::new();
        for page in 1..MAX_PAGES {
            let long = |report: &&ImageReport| report.witnesses.iter().any(|witness| !witness.complete);
            let images: Vec<Image> = part.images.iter().filter(long).map(|report| report.image.clone()).collect();
            if images.is_empty() {
                break;
            }
            let (proof, further) = verified_page(client, trust, &images, Some(&part.signed_checkpoint), page).await?;
            proofs.push(proof);
            pages.push(further.lookup);
            part.join_pages(&pages);
        }
    }
    Ok(())
}

/// Verifies saved tag proofs, each under the key of the log that it names. Every one of these logs must have a proof; proofs of
/// other logs are ignored.
///
/// # Errors
/// The first [`SavedProofError`], but a false proof before a missing one.
pub fn verify_saved(proofs: Vec<TagProof>, logs: &[Trust]) -> Result<Vec<LogLookup>, SavedProofError> {
    let (mut left, mut looked, mut wrong) = (proofs, Vec::new(), Vec::new());
    for log in logs {
        let (own, others) = left.into_iter().partition(|proof| origin(proof) == log.origin());
        left = others;
        match verify_saved_log(own, log) {
            Ok(verified) => looked.push(verified),
            Err(why) => wrong.push(SavedProofError { log: log.origin().to_owned(), why }),
        }
    }
    let is_false = |error: &SavedProofError| matches!(error.why, SavedProofFault::Proof(_));
    match wrong.into_iter().min_by_key(|error| !is_false(error)) {
        Some(most_severe) => Err(most_severe),
        None => Ok(looked),
    }
}

/// The origin that a proof names: the first line of its checkpoint.
pub fn origin(proof: &TagProof) -> &str {
    proof.checkpoint.lines().next().unwrap_or_default()
}

/// Joins the first proof of each image with its further pages.
fn verify_saved_log(proofs: Vec<TagProof>, trust: &Trust) -> Result<LogLookup, SavedProofFault> {
    if proofs.is_empty() {
        return Err(SavedProofFault::Missing);
    }
    let verified: Vec<VerifiedLookup> =
        proofs.iter().map(|proof| proof.verify(&trust.log)).collect::<Result<_, _>>()?;
    check_consistent(&proofs, &verified)?;
    let is_first = |part: &VerifiedLookup| part.images.iter().flat_map(|r| &r.witnesses).all(|w| w.start == 0);
    let (mut parts, pages): (Vec<_>, Vec<_>) = verified.into_iter().partition(is_first);
    let first_page_of = |image: &Image| parts.iter().any(|part| part.report(image).is_some());
    if let Some(report) = pages.iter().flat_map(|page| &page.images).find(|report| !first_page_of(&report.image)) {
        let why = "the file has a further page of its sightings, but not the first".to_owned();
        return Err(TagProofError::Contradiction { image: report.image.to_string(), why }.into());
    }
    for page in &pages {
        trust.check_lookup(page)?;
    }
    parts.iter_mut().for_each(|part| part.join_pages(&pages));
    let trusted = |lookup| Ok(Arc::new(CosignedLookup { cosigned: trust.check_lookup(&lookup)?, lookup }));
    let parts = parts.into_iter().map(trusted).collect::<Result<_, InsufficientTrust>>()?;
    Ok(LogLookup { log: trust.origin().to_owned(), proofs, parts })
}

/// Checks that each saved proof is consistent with an earlier one.
fn check_consistent(proofs: &[TagProof], verified: &[VerifiedLookup]) -> Result<(), TagProofError> {
    for (i, new) in verified.iter().enumerate().skip(1) {
        let from = proofs[i].consistency.as_ref().map_or(new.checkpoint.size, |consistency| consistency.from);
        let old = verified[..i].iter().find(|old| old.checkpoint.size == from);
        let old = old.ok_or_else(|| TagProofError::Inconsistent {
            from,
            why: "the file does not hold the proof before it".to_owned(),
        })?;
        proofs[i].verify_consistency(&old.checkpoint, &new.checkpoint)?;
    }
    Ok(())
}

/// Checks that `new` is consistent with `remembered`, with a proof from the log.
///
/// # Errors
/// [`LookupError`].
pub async fn check_growth(
    client: &LogClient,
    remembered: Option<&SignedCheckpoint>,
    new: &SignedCheckpoint,
) -> Result<(), LookupError> {
    let Some(old) = remembered.map(SignedCheckpoint::unverified) else { return Ok(()) };
    let new_checkpoint = new.unverified();
    let refused = |why: String| {
        let error = TagProofError::Inconsistent { from: old.size, why };
        let evidence = evidence(&error, remembered, Some(new), serde_json::Value::Null);
        LookupError::Misbehaved(Box::new(Misbehaviour { error, evidence }))
    };
    if new_checkpoint.size < old.size {
        return Err(refused(format!("the log has shrunk to {}", new_checkpoint.size)));
    }
    let same_size = new_checkpoint.size == old.size;
    let proof = if same_size { Vec::new() } else { client.consistency(old.size, new_checkpoint.size).await? };
    verify_consistency(old.size, new_checkpoint.size, &proof, &old.root, &new_checkpoint.root)
        .map_err(|error| refused(error.to_string()))
}
