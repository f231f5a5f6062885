//! Client of a log: requests with bounded responses, parsing, and verification in the submodules.

#![warn(missing_docs)]

pub mod key;
pub mod lookup;
pub mod memory;
pub mod receipt;
pub mod static_log;
pub mod tile_nodes;
pub mod trust;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;
use taglog_base::text::one_line;
use taglog_proto::{
    encoding::MAX_INDEX,
    merkle::Hash,
    name::{Digest, Image},
    tag_proof::{MAX_TAG_PROOF, TagProof, TagProofError},
    tile::encode_bundle,
};
use thiserror::Error;

/// The most bytes of candidate entries that are read at once; a log sends 4 MiB.
const MAX_CANDIDATES: usize = 8 << 20;
/// The most bytes of any other response.
const MAX_ANSWER: usize = 8 << 20;
/// The most bytes of one receipt in the response to a bundle: it holds a checkpoint with its cosignatures.
const MAX_RECEIPT: usize = 64 << 10;

/// Why a request to a log failed. None of these proves misbehaviour.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not an HTTP or HTTPS URL.
    #[error("{0:?} is not the http or https address of a log")]
    Url(String),
    /// No connection, a timeout, or a broken connection.
    #[error("cannot reach the log at {url}: {reason}")]
    Network {
        /// The address.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The log refuses the request with a problem document.
    #[error("the log refuses ({kind}): {detail}")]
    Problem {
        /// The last part of the problem type, such as `unknown-witness`.
        kind: String,
        /// The reason given by the log.
        detail: String,
        /// The HTTP status.
        status: u16,
    },
    /// The response is too large or malformed.
    #[error("{url} does not answer like a taglog log: {reason}")]
    NotALog {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// The description of a log at `/api/v1/log`. Not verified.
#[derive(Clone, Debug, Deserialize)]
pub struct LogDescription {
    /// The origin.
    pub origin: String,
    /// Its public key.
    pub vkey: String,
    /// All its public keys: `vkey`, and the ML-DSA-44 key if it has one.
    #[serde(default)]
    pub vkeys: Vec<String>,
    /// Its cosigners.
    #[serde(default)]
    pub cosigners: Vec<DescribedCosigner>,
    /// The number of published entries.
    pub size: u64,
    /// Its witnesses.
    pub roster: DescribedRoster,
}

/// A cosigner as `/api/v1/log` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct DescribedCosigner {
    /// Its vkey.
    pub vkey: String,
}

/// The roster as `/api/v1/log` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct DescribedRoster {
    /// The vkeys of the witnesses.
    pub witnesses: Vec<String>,
}

/// A log's answer to one submitted entry. Not verified.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubmissionResult {
    /// It is in the log.
    Accepted {
        /// Its log index.
        index: u64,
        /// Whether it has the same text as an earlier entry.
        duplicate: bool,
        /// The receipt (tlog-proof), if the request waited for publication.
        proof: Option<String>,
    },
    /// The log refuses it.
    Refused(ProblemDocument),
}

/// The used fields of a problem document (RFC 9457).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ProblemDocument {
    /// Its stable type.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The reason.
    #[serde(default)]
    pub detail: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
}

/// The JSON of one answer. Unknown members are ignored.
#[derive(Deserialize)]
struct EntryResponse {
    index: Option<u64>,
    status: Option<String>,
    proof: Option<String>,
    error: Option<ProblemDocument>,
}

impl EntryResponse {
    fn into_result(self) -> Option<SubmissionResult> {
        match self {
            EntryResponse { error: Some(problem), index: None, .. } => Some(SubmissionResult::Refused(problem)),
            EntryResponse { error: None, index: Some(index), status: Some(status), proof } if index < MAX_INDEX => {
                let duplicate = match status.as_str() {
                    "added" => false,
                    "duplicate" => true,
                    _ => return None,
                };
                Some(SubmissionResult::Accepted { index, duplicate, proof })
            }
            _ => None,
        }
    }
}

/// A client of one log.
#[derive(Clone, Debug)]
pub struct LogClient {
    http: Client,
    base: Url,
}

impl LogClient {
    /// Creates a client for the log at this address. Sends nothing.
    ///
    /// # Errors
    /// [`ClientError::Url`]; [`ClientError::Network`] when TLS cannot be set up.
    pub fn new(url: &str, timeout: Duration) -> Result<LogClient, ClientError> {
        let with_slash = format!("{}/", url.trim_end_matches('/'));
        let base = Url::parse(&with_slash).map_err(|_| ClientError::Url(url.to_owned()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(ClientError::Url(url.to_owned()));
        }
        let builder = Client::builder().timeout(timeout).user_agent(concat!("taglog/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach loopback.
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| network(&base, &error))?;
        Ok(LogClient { http, base })
    }

    /// The address of the log.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn address(&self, path: &str) -> Url {
        // The base ends in a slash and the paths are constants or checked names, so joining cannot fail.
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    async fn send(&self, request: RequestBuilder, limit: usize) -> Result<Vec<u8>, ClientError> {
        let response = request.send().await.map_err(|error| network(&self.base, &error))?;
        let status = response.status();
        let body = self.read(response, limit).await?;
        if status.is_success() { Ok(body) } else { Err(self.refusal(status, &body)) }
    }

    async fn read(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| network(&self.base, &error))? {
            if chunk.len() > limit - body.len() {
                return Err(self.not_a_log(format!("the answer is over {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let problem: ProblemDocument = serde_json::from_slice(body).unwrap_or_default();
        if problem.kind.is_empty() || problem.detail.is_empty() {
            return self.not_a_log(format!("it answered {status}"));
        }
        self.problem(&ProblemDocument { status: status.as_u16(), ..problem })
    }

    fn not_a_log(&self, reason: impl Into<String>) -> ClientError {
        ClientError::NotALog { url: self.url().to_owned(), reason: one_line(&reason.into()) }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.not_a_log(error.to_string()))
    }

    /// The log's description of itself. Not verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn description(&self) -> Result<LogDescription, ClientError> {
        let body = self.send(self.http.get(self.address("api/v1/log")), MAX_ANSWER).await?;
        self.parse(&body)
    }

    /// The published checkpoint, not verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn checkpoint(&self) -> Result<Vec<u8>, ClientError> {
        self.send(self.http.get(self.address("checkpoint")), MAX_ANSWER).await
    }

    /// A tag proof for these images, not verified; `page` of each list of sightings.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tag_proof(&self, images: &[Image], from: Option<u64>, page: u64) -> Result<TagProof, ClientError> {
        let images: Vec<String> = images.iter().map(Image::to_string).collect();
        let mut body = json!({ "images": images, "page": page });
        if let Some(from) = from {
            body["from"] = json!(from);
        }
        let answer = self.send(self.http.post(self.address("api/v1/lookup")).json(&body), MAX_TAG_PROOF).await?;
        TagProof::from_json(&answer).map_err(|error: TagProofError| self.not_a_log(error.to_string()))
    }

    /// A consistency proof between two sizes, not verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ClientError> {
        #[derive(Deserialize)]
        struct ConsistencyResponse {
            proof: Vec<Hash>,
        }
        let request = self.http.get(self.address("api/v1/proof/consistency")).query(&[("from", from), ("to", to)]);
        let body = self.send(request, MAX_ANSWER).await?;
        Ok(self.parse::<ConsistencyResponse>(&body)?.proof)
    }

    /// Entries that the log has committed and may not have published yet, in `from..to`: an entry bundle, which the log may
    /// cut short; not verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn candidate_entries(&self, from: u64, to: u64) -> Result<Vec<u8>, ClientError> {
        let request = self.http.get(self.address("api/v1/candidate/entries")).query(&[("from", from), ("to", to)]);
        self.send(request, MAX_CANDIDATES).await
    }

    /// Submits one signed entry and waits until it is published: its log index, whether it is a duplicate, and its
    /// receipt, which is not verified.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Problem`] when the log refuses the entry.
    pub async fn submit(&self, entry: &str) -> Result<(u64, bool, String), ClientError> {
        let address = self.address("api/v1/entries?wait=published");
        let request =
            self.http.post(address).header("content-type", "text/plain; charset=utf-8").body(entry.to_owned());
        let body = self.send(request, MAX_ANSWER).await?;
        match <[SubmissionResult; 1]>::try_from(self.parse_results(&body)?) {
            Ok([SubmissionResult::Accepted { index, duplicate, proof: Some(proof) }]) => Ok((index, duplicate, proof)),
            Ok([SubmissionResult::Refused(problem)]) => Err(self.problem(&problem)),
            _ => Err(self.not_a_log("it did not answer for one entry")),
        }
    }

    /// Submits signed entries as one bundle; with `wait`, until they are published. The answers are in the order of
    /// the entries; receipts are not verified.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer for each entry.
    pub async fn submit_bundle(&self, entries: &[&str], wait: bool) -> Result<Vec<SubmissionResult>, ClientError> {
        let bundle = encode_bundle(entries.iter().map(|entry| entry.as_bytes()));
        let bundle = bundle.map_err(|error| self.not_a_log(error.to_string()))?;
        let address = self.address(if wait { "api/v1/entries?wait=published" } else { "api/v1/entries" });
        let request = self.http.post(address).header("content-type", "application/octet-stream").body(bundle);
        let body = self.send(request, MAX_ANSWER + MAX_RECEIPT * entries.len()).await?;
        let answers = self.parse_results(&body)?;
        if answers.len() == entries.len() {
            Ok(answers)
        } else {
            Err(self.not_a_log("it did not answer for each entry"))
        }
    }

    fn parse_results(&self, body: &[u8]) -> Result<Vec<SubmissionResult>, ClientError> {
        let answers: Vec<EntryResponse> = self.parse(body)?;
        let answers: Option<Vec<SubmissionResult>> = answers.into_iter().map(EntryResponse::into_result).collect();
        answers.ok_or_else(|| self.not_a_log("an answer to an entry has neither index nor error"))
    }

    /// The error for a problem document.
    pub fn problem(&self, problem: &ProblemDocument) -> ClientError {
        if problem.kind.is_empty() || problem.detail.is_empty() {
            return self.not_a_log("it refuses an entry without a reason");
        }
        ClientError::Problem {
            kind: one_line(problem.kind.rsplit(':').next().unwrap_or_default()),
            detail: one_line(&problem.detail),
            status: problem.status,
        }
    }

    /// A raw manifest, if the log stores it; checked against the digest.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NotALog`] for other bytes.
    pub async fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ClientError> {
        let address = self.address(&format!("api/v1/manifests/{digest}"));
        match self.send(self.http.get(address), MAX_ANSWER).await {
            Ok(bytes) if digest.matches(&bytes) => Ok(Some(bytes)),
            Ok(_) => Err(self.not_a_log(format!("its manifest for {digest} has another digest"))),
            Err(ClientError::Problem { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Uploads a raw manifest to the log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_manifest(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        let address = self.address(&format!("api/v1/manifests/{digest}"));
        let request = self.http.put(address).header("content-type", "application/octet-stream").body(bytes);
        self.send(request, MAX_ANSWER).await.map(|_| ())
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn network(url: &Url, error: &reqwest::Error) -> ClientError {
    ClientError::Network { url: url.as_str().trim_end_matches('/').to_owned(), reason: one_line(&cause(error)) }
}

/// The innermost cause, which is what helps.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
