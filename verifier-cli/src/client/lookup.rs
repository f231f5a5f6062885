//! Looks images up and verifies the answer: proofs, consistency with what is remembered, and the
//! further pages of long lists.

use serde_json::json;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    evidence::{Evidence, Fork},
    merkle::verify_consistency,
    name::Image,
    note::VerifierKey,
    tag_proof::{ImageReport, MAX_IMAGES, TagProof, TagProofError, VerifiedLookup},
};
use thiserror::Error;

use super::{ClientError, LogClient};

/// The most pages of one list of sightings that are fetched; beyond that a list stays incomplete.
const MAX_PAGES: u64 = 64;

/// The `type` of a file that keeps what shows misbehaviour without convicting by itself.
pub const MISBEHAVIOUR: &str = "taglog/misbehaviour@v1";

/// Why there is no verified answer.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The log cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A proof is false, or the log contradicts what it signed before.
    #[error("{0}")]
    Misbehaved(Box<Misbehaviour>),
}

/// What the log did, with what shows it.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Misbehaviour {
    /// What is wrong.
    pub error: TagProofError,
    /// The answer, and where possible evidence that convicts, as JSON.
    pub evidence: String,
}

/// Tag proofs as they came, and what they say once verified.
#[derive(Debug)]
pub struct Looked {
    /// The proofs, for saving: one for each part of a large request and each further page.
    pub proofs: Vec<TagProof>,
    /// The verified parts, in the order of the request.
    pub parts: Vec<VerifiedLookup>,
}

impl Looked {
    /// The report on an image.
    pub fn report(&self, image: &Image) -> Option<&ImageReport> {
        self.parts.iter().find_map(|part| part.report(image))
    }

    /// The part whose checkpoint is the oldest: what is said of all images is at least that new.
    pub fn oldest(&self) -> Option<&VerifiedLookup> {
        self.parts.iter().min_by_key(|part| part.checkpoint.size)
    }

    /// The newest checkpoint among the parts.
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        self.parts.iter().max_by_key(|part| part.checkpoint.size).map(|part| &part.signed_checkpoint)
    }
}

/// Looks up all images (each once), normally in one request, and verifies everything, consistency
/// with `remembered` included.
///
/// # Errors
/// [`LookupError`].
pub async fn look_up(
    client: &LogClient,
    log: &VerifierKey,
    images: &[Image],
    remembered: Option<&SignedCheckpoint>,
) -> Result<Looked, LookupError> {
    let mut looked = Looked { proofs: Vec::new(), parts: Vec::new() };
    let mut last = remembered.cloned();
    let mut waiting: Vec<&[Image]> = images.chunks(MAX_IMAGES).rev().collect();
    while let Some(part) = waiting.pop() {
        match verified_page(client, log, part, last.as_ref(), 0).await {
            Ok((proof, verified)) => {
                last = Some(verified.signed_checkpoint.clone());
                looked.proofs.push(proof);
                looked.parts.push(verified);
            }
            // The answer would not fit into one proof: ask for the halves.
            Err(LookupError::Client(ClientError::Problem { kind, .. }))
                if kind == "lookup-too-large" && part.len() > 1 =>
            {
                let (first, second) = part.split_at(part.len() / 2);
                waiting.extend([second, first]);
            }
            Err(error) => return Err(error),
        }
    }
    complete(client, log, &mut looked).await?;
    Ok(looked)
}

async fn verified_page(
    client: &LogClient,
    log: &VerifierKey,
    images: &[Image],
    last: Option<&SignedCheckpoint>,
    page: u64,
) -> Result<(TagProof, VerifiedLookup), LookupError> {
    let from = last.map(|last| last.unverified().size);
    let proof = match client.tag_proof(images, from, page).await {
        // The log says that it is smaller than what is remembered: let it prove what it has.
        Err(ClientError::Problem { kind, .. }) if kind == "size-out-of-range" && from.is_some() => {
            client.tag_proof(images, None, page).await?
        }
        answer => answer?,
    };
    let verified = verify(&proof, log, last).map_err(|error| misbehaved(error, &proof, last))?;
    if let Some(missing) = images.iter().find(|image| verified.report(image).is_none()) {
        let why = "the log was asked for it and does not answer".to_owned();
        let error = TagProofError::Contradiction { image: missing.to_string(), why };
        return Err(misbehaved(error, &proof, last));
    }
    Ok((proof, verified))
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

/// What shows the misbehaviour, as JSON. Two roots for one size convict by themselves.
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
async fn complete(client: &LogClient, log: &VerifierKey, looked: &mut Looked) -> Result<(), LookupError> {
    for part in &mut looked.parts {
        let mut pages = Vec::new();
        for page in 1..MAX_PAGES {
            let long = |report: &&ImageReport| report.witnesses.iter().any(|witness| !witness.complete);
            let images: Vec<Image> = part.images.iter().filter(long).map(|report| report.image.clone()).collect();
            if images.is_empty() {
                break;
            }
            let (proof, verified) = verified_page(client, log, &images, Some(&part.signed_checkpoint), page).await?;
            looked.proofs.push(proof);
            pages.push(verified);
            part.join_pages(&pages);
        }
    }
    Ok(())
}

/// Verifies saved tag proofs: the first of each image, completed by the pages after it.
///
/// # Errors
/// [`TagProofError`].
pub fn verify_saved(proofs: Vec<TagProof>, log: &VerifierKey) -> Result<Looked, TagProofError> {
    let verified: Vec<VerifiedLookup> = proofs.iter().map(|proof| proof.verify(log)).collect::<Result<_, _>>()?;
    check_consistent(&proofs, &verified)?;
    let is_first = |part: &VerifiedLookup| part.images.iter().flat_map(|r| &r.witnesses).all(|w| w.start == 0);
    let (mut parts, pages): (Vec<_>, Vec<_>) = verified.into_iter().partition(is_first);
    let first_page_of = |image: &Image| parts.iter().any(|part| part.report(image).is_some());
    if let Some(report) = pages.iter().flat_map(|page| &page.images).find(|report| !first_page_of(&report.image)) {
        let why = "the file has a further page of its sightings, but not the first".to_owned();
        return Err(TagProofError::Contradiction { image: report.image.to_string(), why });
    }
    parts.iter_mut().for_each(|part| part.join_pages(&pages));
    Ok(Looked { proofs, parts })
}

/// Saved proofs of several sizes follow each other, each with the proof that the log only grew.
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

/// Checks that `new` is consistent with `remembered` by asking the log for a proof.
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
