//! Requests cosignatures from the cosigners at one submission prefix (c2sp.org/tlog-witness, `add-checkpoint`).

use std::{net::IpAddr, time::Duration};

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

use crate::store::{Store, StoreError};

/// How often a cosigner may answer one request with another size (409). It may have advanced by an earlier request of
/// this log whose response was lost, but not repeatedly.
const MAX_CONFLICTS: usize = 3;
/// The most bytes of an error response that are read, as a message for the operator.
const MAX_ERROR_BODY: usize = 4096;

/// A cosigner has cosigned a history of this log that this log does not have, or rejects this one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Conflict {
    #[error("it has cosigned {cosigned} entries of this log, but only {committed} are in this data directory")]
    LongerHistory { cosigned: u64, committed: u64 },
    /// The checkpoint is not consistent with the one that it has cosigned, or, if it audits, an entry breaks a rule
    /// (422).
    #[error("it rejects the checkpoint of {size} entries as inconsistent: {message}")]
    Inconsistent { size: u64, message: String },
}

/// Why there is no cosignature.
#[derive(Debug, Error)]
pub enum CosignError {
    /// It cannot be reached, or gives no usable response.
    #[error("{0}")]
    Unavailable(String),
    /// It answers 404.
    #[error("it does not know this log; its operator must add the log's vkey to its configuration")]
    UnknownLog,
    /// It answers 503 with `Retry-After`.
    #[error("it is busy and asks to wait {} s: {message}", wait.as_secs())]
    Busy { wait: Duration, message: String },
    /// The server must end.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unavailable(reason: impl std::fmt::Display) -> CosignError {
    CosignError::Unavailable(reason.to_string())
}

/// One cosigner of the policy.
#[derive(Clone, Debug)]
pub struct EndpointCosigner {
    /// Its position in the policy.
    pub index: usize,
    pub name: String,
    pub key: CosignerKey,
}

/// A cosignature that verifies.
#[derive(Clone, Debug)]
pub struct VerifiedCosignature {
    /// The position of its cosigner in the policy.
    pub cosigner: usize,
    pub time: Timestamp,
    pub line: NoteSignature,
}

/// One submission prefix with its cosigners. A cosigner keeps one record for all its keys, so one request is made for
/// all cosigners at a prefix.
pub struct Endpoint {
    url: Url,
    cosigners: Vec<EndpointCosigner>,
    client: Client,
    timeout: Duration,
    store: Store,
    /// The size that was cosigned last, as far as known.
    size: u64,
}

impl Endpoint {
    /// The cosigners are assumed to have cosigned `size` entries. `timeout` is for one call of [`Endpoint::cosign`].
    ///
    /// # Errors
    /// No HTTP client can be created.
    pub fn new(
        url: Url,
        cosigners: Vec<EndpointCosigner>,
        timeout: Duration,
        store: Store,
        size: u64,
    ) -> reqwest::Result<Endpoint> {
        let builder = Client::builder().redirect(Policy::none()).pool_max_idle_per_host(1);
        let builder = if is_loopback(&url) { builder.no_proxy() } else { builder };
        let client = builder.user_agent(concat!("taglog-server/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Endpoint { url, cosigners, client, timeout, store, size })
    }

    pub fn cosigners(&self) -> &[EndpointCosigner] {
        &self.cosigners
    }

    /// The names of the cosigners, for messages.
    pub fn names(&self) -> String {
        self.cosigners.iter().map(|cosigner| cosigner.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }

    /// Requests cosignatures of a checkpoint, which must be on disk. The consistency proof starts at the size that the
    /// cosigner is assumed to have cosigned; if it answers with another size (409), the request is repeated from there.
    pub async fn cosign(&mut self, checkpoint: &SignedCheckpoint) -> Result<Vec<VerifiedCosignature>, CosignError> {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.request_cosignatures(checkpoint)).await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable(format!("no answer within {} ms", timeout.as_millis()))),
        }
    }

    async fn request_cosignatures(
        &mut self,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Vec<VerifiedCosignature>, CosignError> {
        let size = checkpoint.unverified().size;
        for _ in 0..MAX_CONFLICTS {
            let old = self.size.min(size);
            let response = self.post(old, checkpoint).await?;
            if response.status() != StatusCode::CONFLICT {
                let cosignatures = self.read_response(checkpoint, response).await?;
                self.size = size;
                return Ok(cosignatures);
            }
            let cosigned = parse_size(&read(response, MAX_ERROR_BODY).await?)?;
            let committed = self.store.size()?;
            if cosigned > committed {
                return Err(Conflict::LongerHistory { cosigned, committed }.into());
            }
            self.size = cosigned;
            if cosigned > size {
                // The response to an earlier request was lost; the next candidate has more entries.
                return Err(unavailable(format!(
                    "it has cosigned {cosigned} entries already, more than the checkpoint has"
                )));
            }
            if cosigned == old {
                return Err(unavailable(format!(
                    "it contradicts itself: it rejects the old size {old}, and answers with the same size"
                )));
            }
        }
        Err(unavailable("it answers every request with another size"))
    }

    async fn post(&self, old: u64, checkpoint: &SignedCheckpoint) -> Result<Response, CosignError> {
        let proof = self.proof(old, checkpoint.unverified().size)?;
        let request = AddCheckpoint { old, proof, checkpoint: checkpoint.clone() };
        let request = self.client.post(self.address("add-checkpoint")).body(request.to_string());
        request.send().await.map_err(|error| unavailable(describe(&error)))
    }

    /// Reads the store without a snapshot: nodes never change.
    fn proof(&self, old: u64, size: u64) -> Result<Vec<Hash>, CosignError> {
        if old == 0 {
            return Ok(Vec::new());
        }
        consistency_proof(&self.store, old, size).map_err(|error| error.map_refused(unavailable))
    }

    /// Reads a response with any status but 409.
    async fn read_response(
        &self,
        checkpoint: &SignedCheckpoint,
        response: Response,
    ) -> Result<Vec<VerifiedCosignature>, CosignError> {
        let status = response.status();
        if status == StatusCode::OK {
            let body = read(response, MAX_NOTE).await?;
            return self.cosignatures(checkpoint, &body);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The status is enough if the body cannot be read.
        let message = read(response, MAX_ERROR_BODY).await.unwrap_or_default();
        let message = excerpt(&String::from_utf8_lossy(&message));
        Err(match (status, wait) {
            (StatusCode::UNPROCESSABLE_ENTITY, _) => {
                Conflict::Inconsistent { size: checkpoint.unverified().size, message }.into()
            }
            (StatusCode::NOT_FOUND, _) => CosignError::UnknownLog,
            (StatusCode::FORBIDDEN, _) => {
                unavailable(format!("it does not accept the signature of this log's key: {message}"))
            }
            (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
                CosignError::Busy { wait: Duration::from_secs(wait), message }
            }
            _ => unavailable(format!("it answered {status}: {message}")),
        })
    }

    /// The valid cosignatures of a response. Lines by other keys and lines that do not verify are ignored.
    fn cosignatures(
        &self,
        checkpoint: &SignedCheckpoint,
        body: &[u8],
    ) -> Result<Vec<VerifiedCosignature>, CosignError> {
        let lines =
            parse_signature_lines(body).map_err(|error| unavailable(format!("its response is malformed: {error}")))?;
        let cosignatures: Vec<VerifiedCosignature> = self
            .cosigners
            .iter()
            .flat_map(|cosigner| lines.iter().find_map(|line| cosignature(cosigner, checkpoint, line)))
            .collect();
        if cosignatures.is_empty() {
            return Err(unavailable("its response has no valid cosignature by the key in the policy"));
        }
        Ok(cosignatures)
    }

    /// The newest checkpoint of this log that the cosigner serves, if it serves any (c2sp.org/tlog-witness, "Monitor
    /// Retrieval Mechanism").
    pub async fn retrieve_checkpoint(&self, origin: &str) -> Option<SignedCheckpoint> {
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

/// Parses a line that is a valid cosignature by this cosigner.
fn cosignature(
    cosigner: &EndpointCosigner,
    checkpoint: &SignedCheckpoint,
    line: &NoteSignature,
) -> Option<VerifiedCosignature> {
    let cosigned = checkpoint.with_signatures([line.clone()]);
    let time = cosigner.key.cosigned(&cosigned).ok()??;
    Some(VerifiedCosignature { cosigner: cosigner.index, time, line: line.clone() })
}

/// The body of a 409: a decimal and a newline.
fn parse_size(body: &[u8]) -> Result<u64, CosignError> {
    let text = std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\n'));
    text.and_then(from_decimal).ok_or_else(|| unavailable("it answered 409 without the size that it has cosigned"))
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, CosignError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(describe(&error)))? {
        if chunk.len() > limit - body.len() {
            return Err(unavailable(format!("its response is longer than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause, which is the most specific: "connection refused" rather than "error sending request".
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    excerpt(&cause.to_string())
}

/// Whether an address is this machine's own; such a request must not go through a proxy.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_conflict_is_a_decimal_and_a_newline() {
        assert_eq!(parse_size(b"0\n").unwrap(), 0);
        assert_eq!(parse_size(b"20852014\n").unwrap(), 20_852_014);
        for bad in [&b""[..], b"\n", b"7", b"07\n", b"-1\n", b"7\n\n", b"7 \n", b"99999999999999999999\n", b"\xff\n"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        for (url, is) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("https://w.example", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
