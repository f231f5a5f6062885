//! Asks the cosigners behind one submission prefix (c2sp.org/tlog-witness, `add-checkpoint`).

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, header::RETRY_AFTER, redirect::Policy};
use taglog_base::text::excerpt;
use taglog_proto::{
    add_checkpoint::{AddCheckpoint, parse_signature_lines},
    checkpoint::SignedCheckpoint,
    cosignature::CosignerKey,
    encoding::from_decimal,
    merkle::{Hash, consistency_proof},
    note::{MAX_NOTE, NoteSignature},
    time::Timestamp,
};
use thiserror::Error;

use crate::{
    cosigning::is_loopback,
    store::{Store, StoreError},
};

/// How often a cosigner may say in one question that it knows another size: it may have moved on
/// because of a question of ours whose answer was lost, but not all the time.
const MAX_CONFLICTS: usize = 3;
/// The most bytes of a refusal that are read: its first words are for the operator.
const MAX_REFUSAL: usize = 4096;

/// A cosigner knows a history of this log that this log does not know, or refutes this one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Conflict {
    /// It has cosigned more entries than the log has.
    #[error("it has cosigned {theirs} entries of this log, but there are only {ours} here")]
    Longer {
        /// What it has cosigned.
        theirs: u64,
        /// What is committed here.
        ours: u64,
    },
    /// It says that the checkpoint is not consistent with the one it cosigned, or, if it audits,
    /// that an entry breaks the rules.
    #[error("it refuses the checkpoint of {size} entries as inconsistent: {said}")]
    Refuted {
        /// The size of the checkpoint.
        size: u64,
        /// Its words.
        said: String,
    },
}

/// Why there is no cosignature.
#[derive(Debug, Error)]
pub enum CosignError {
    /// It cannot be reached, or fails.
    #[error("{0}")]
    Away(String),
    /// It answers 404.
    #[error("it does not know this log: its operator must add the log's vkey to its configuration")]
    UnknownLog,
    /// It answers 503 and says when to ask again.
    #[error("it is busy and asks to wait {} s: {said}", wait.as_secs())]
    Busy {
        /// How long.
        wait: Duration,
        /// Its words.
        said: String,
    },
    /// It contradicts the log. This ends the server.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// The log's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn away(reason: impl std::fmt::Display) -> CosignError {
    CosignError::Away(reason.to_string())
}

/// One cosigner of the policy.
#[derive(Clone, Debug)]
pub struct Cosigner {
    /// Its place in the policy.
    pub index: usize,
    /// Its name in the policy.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
}

/// A cosignature that verifies.
#[derive(Clone, Debug)]
pub struct Cosignature {
    /// The place of its cosigner in the policy.
    pub cosigner: usize,
    /// When it was made.
    pub time: Timestamp,
    /// The signature line.
    pub line: NoteSignature,
}

/// One submission prefix, the cosigners behind it, and what they are known to have cosigned. A
/// cosigner has one memory for all its keys, so they are asked together.
pub struct Endpoint {
    url: Url,
    cosigners: Vec<Cosigner>,
    client: Client,
    timeout: Duration,
    store: Store,
    /// The size that was cosigned last, as far as is known.
    size: u64,
}

impl Endpoint {
    /// An endpoint that is assumed to have cosigned `size` entries. An answer may take `timeout`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(
        url: Url,
        cosigners: Vec<Cosigner>,
        timeout: Duration,
        store: Store,
        size: u64,
    ) -> reqwest::Result<Endpoint> {
        let builder = Client::builder().redirect(Policy::none()).pool_max_idle_per_host(1);
        let builder = if is_loopback(&url) { builder.no_proxy() } else { builder };
        let client = builder.user_agent(concat!("taglog-server/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Endpoint { url, cosigners, client, timeout, store, size })
    }

    /// The cosigners behind the prefix.
    pub fn cosigners(&self) -> &[Cosigner] {
        &self.cosigners
    }

    /// The names of the cosigners in the policy.
    pub fn names(&self) -> String {
        self.cosigners.iter().map(|cosigner| cosigner.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// An address below the prefix.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }

    /// Asks for cosignatures of a checkpoint, which must be on disk. A proof is made from the size
    /// that the cosigner is assumed to know, and made again from the one that it says it knows.
    ///
    /// # Errors
    /// [`CosignError`].
    pub async fn cosign(&mut self, checkpoint: &SignedCheckpoint) -> Result<Vec<Cosignature>, CosignError> {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.follow(checkpoint)).await {
            Ok(answer) => answer,
            Err(_) => Err(away(format!("no answer within {} ms", timeout.as_millis()))),
        }
    }

    async fn follow(&mut self, checkpoint: &SignedCheckpoint) -> Result<Vec<Cosignature>, CosignError> {
        let size = checkpoint.unverified().size;
        for _ in 0..MAX_CONFLICTS {
            let old = self.size.min(size);
            let response = self.ask(old, checkpoint).await?;
            if response.status() != StatusCode::CONFLICT {
                let cosignatures = self.judge(checkpoint, response).await?;
                self.size = size;
                return Ok(cosignatures);
            }
            let known = known_size(&read(response, MAX_REFUSAL).await?)?;
            let ours = self.store.size()?;
            if known > ours {
                return Err(Conflict::Longer { theirs: known, ours }.into());
            }
            self.size = known;
            if known > size {
                // An earlier question whose answer was lost; the next candidate is beyond it.
                return Err(away(format!("it has cosigned {known} entries already, more than were asked for")));
            }
            if known == old {
                return Err(away(format!("it contradicts itself: it refuses the old size {old}, and says that it is")));
            }
        }
        Err(away("it says another size every time"))
    }

    async fn ask(&self, old: u64, checkpoint: &SignedCheckpoint) -> Result<Response, CosignError> {
        let proof = self.proof(old, checkpoint.unverified().size)?;
        let request = AddCheckpoint { old, proof, checkpoint: checkpoint.clone() };
        let request = self.client.post(self.address("add-checkpoint")).body(request.to_string());
        request.send().await.map_err(|error| away(describe(&error)))
    }

    /// Read from the store as it is now: nodes never change.
    fn proof(&self, old: u64, size: u64) -> Result<Vec<Hash>, CosignError> {
        if old == 0 {
            return Ok(Vec::new());
        }
        consistency_proof(&self.store, old, size).map_err(|error| error.map_refused(away))
    }

    /// Reads any answer but 409.
    async fn judge(&self, checkpoint: &SignedCheckpoint, response: Response) -> Result<Vec<Cosignature>, CosignError> {
        let status = response.status();
        if status == StatusCode::OK {
            let body = read(response, MAX_NOTE).await?;
            return self.cosignatures(checkpoint, &body);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The status says what matters, even if the words are cut off.
        let said = read(response, MAX_REFUSAL).await.unwrap_or_default();
        let said = excerpt(&String::from_utf8_lossy(&said));
        Err(match (status, wait) {
            (StatusCode::UNPROCESSABLE_ENTITY, _) => {
                Conflict::Refuted { size: checkpoint.unverified().size, said }.into()
            }
            (StatusCode::NOT_FOUND, _) => CosignError::UnknownLog,
            (StatusCode::FORBIDDEN, _) => away(format!("it does not accept the signature of this log's key: {said}")),
            (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
                CosignError::Busy { wait: Duration::from_secs(wait), said }
            }
            _ => away(format!("it answered {status}: {said}")),
        })
    }

    /// The cosignatures in an answer: what is by other keys is ignored, one that fails is not taken.
    fn cosignatures(&self, checkpoint: &SignedCheckpoint, body: &[u8]) -> Result<Vec<Cosignature>, CosignError> {
        let lines = parse_signature_lines(body).map_err(|error| away(format!("its answer: {error}")))?;
        let cosignatures: Vec<Cosignature> = self
            .cosigners
            .iter()
            .flat_map(|cosigner| lines.iter().find_map(|line| cosignature(cosigner, checkpoint, line)))
            .collect();
        if cosignatures.is_empty() {
            return Err(away("its answer has no valid cosignature by the key in the policy"));
        }
        Ok(cosignatures)
    }

    /// The newest checkpoint of this log that the cosigner shows under its prefix, if it shows any
    /// there (c2sp.org/tlog-witness, "Monitor Retrieval Mechanism").
    pub async fn monitored(&self, origin: &str) -> Option<SignedCheckpoint> {
        use sha2::{Digest as _, Sha256};
        let hash: String = Sha256::digest(origin).iter().map(|byte| format!("{byte:02x}")).collect();
        let fetch = async {
            let response = self.client.get(self.address(&format!("{hash}/checkpoint"))).send().await.ok()?;
            let body = read(response.error_for_status().ok()?, MAX_NOTE).await.ok()?;
            SignedCheckpoint::parse(&body).ok()
        };
        tokio::time::timeout(self.timeout, fetch).await.ok().flatten()
    }
}

/// What this line says, if it is a valid cosignature by this cosigner.
fn cosignature(cosigner: &Cosigner, checkpoint: &SignedCheckpoint, line: &NoteSignature) -> Option<Cosignature> {
    let cosigned = checkpoint.with_signatures([line.clone()]);
    let time = cosigner.key.cosigned(&cosigned).ok()??;
    Some(Cosignature { cosigner: cosigner.index, time, line: line.clone() })
}

/// The body of a 409: a decimal and a newline.
fn known_size(body: &[u8]) -> Result<u64, CosignError> {
    let text = std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\n'));
    text.and_then(from_decimal).ok_or_else(|| away("it answered 409 without the size that it knows"))
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, CosignError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away(describe(&error)))? {
        if chunk.len() > limit - body.len() {
            return Err(away(format!("its answer is over {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause says most: "connection refused" rather than "error sending request".
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    excerpt(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_conflict_is_a_decimal_and_a_newline() {
        assert_eq!(known_size(b"0\n").unwrap(), 0);
        assert_eq!(known_size(b"20852014\n").unwrap(), 20_852_014);
        for bad in [&b""[..], b"\n", b"7", b"07\n", b"-1\n", b"7\n\n", b"7 \n", b"99999999999999999999\n", b"\xff\n"] {
            assert!(known_size(bad).is_err(), "{bad:?}");
        }
    }
}
