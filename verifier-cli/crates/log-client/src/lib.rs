//! Talks to a log: fetches, bounds and parses. What comes back is not trusted until it is verified.

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
/// The most bytes of any other answer.
const MAX_ANSWER: usize = 8 << 20;
/// The most bytes of one receipt in the answer to a bundle: it holds a whole checkpoint with its cosignatures.
const MAX_RECEIPT: usize = 64 << 10;

/// Why a log gave no usable answer. None of these is proof of misbehaviour.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The address is no URL.
    #[error("{0:?} is no http or https address of a log")]
    Url(String),
    /// No connection, no answer in time, or a broken one.
    #[error("cannot reach the log at {url}: {reason}")]
    Network {
        /// The address.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The log refuses, in its own words.
    #[error("the log refuses ({kind}): {detail}")]
    Problem {
        /// The last part of the problem type, such as `unknown-witness`.
        kind: String,
        /// What it says.
        detail: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is too large or of another shape.
    #[error("{url} does not answer like a taglog log: {reason}")]
    NotALog {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a log says about itself at `/api/v1/log`.
#[derive(Clone, Debug, Deserialize)]
pub struct About {
    /// Its identity.
    pub origin: String,
    /// Its public key.
    pub vkey: String,
    /// All its public keys: this one, and the ML-DSA-44 one if it has one.
    #[serde(default)]
    pub vkeys: Vec<String>,
    /// Its cosigners.
    #[serde(default)]
    pub cosigners: Vec<AboutCosigner>,
    /// Entries that are published.
    pub size: u64,
    /// Its witnesses.
    pub roster: AboutRoster,
}

/// A cosigner as `/api/v1/log` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct AboutCosigner {
    /// Its vkey.
    pub vkey: String,
}

/// The roster as `/api/v1/log` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct AboutRoster {
    /// The vkeys of the witnesses.
    pub witnesses: Vec<String>,
}

/// What a log answers to one submitted entry. On its word alone.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Submitted {
    /// It is in the log.
    Accepted {
        /// Its log index.
        index: u64,
        /// Whether it is a repetition of an earlier entry.
        duplicate: bool,
        /// The receipt, if publication was waited for: a tlog-proof.
        proof: Option<String>,
    },
    /// It is not.
    Refused(Problem),
}

/// A problem document (RFC 9457), as far as it is used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Problem {
    /// Its stable type.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(default)]
    pub detail: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
}

/// One answer as it is written. Members that are not named here are read over without being kept.
#[derive(Deserialize)]
struct Answer {
    index: Option<u64>,
    status: Option<String>,
    proof: Option<String>,
    error: Option<Problem>,
}

impl Answer {
    fn understand(self) -> Option<Submitted> {
        match self {
            Answer { error: Some(problem), index: None, .. } => Some(Submitted::Refused(problem)),
            Answer { error: None, index: Some(index), status: Some(status), proof } if index < MAX_INDEX => {
                let duplicate = match status.as_str() {
                    "added" => false,
                    "duplicate" => true,
                    _ => return None,
                };
                Some(Submitted::Accepted { index, duplicate, proof })
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
    /// A client of the log at this address. Sends nothing.
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
        // A proxy could not reach this machine itself.
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| network(&base, &error))?;
        Ok(LogClient { http, base })
    }

    /// The address of the log.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn address(&self, path: &str) -> Url {
        // The base ends in a slash and the paths are constants or checked names, so joining holds.
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
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        if problem.kind.is_empty() || problem.detail.is_empty() {
            return self.not_a_log(format!("it answered {status}"));
        }
        self.problem(&Problem { status: status.as_u16(), ..problem })
    }

    fn not_a_log(&self, reason: impl Into<String>) -> ClientError {
        ClientError::NotALog { url: self.url().to_owned(), reason: printable(&reason.into()) }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.not_a_log(error.to_string()))
    }

    /// What the log says about itself. On its word alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn about(&self) -> Result<About, ClientError> {
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
        struct Answer {
            proof: Vec<Hash>,
        }
        let request = self.http.get(self.address("api/v1/proof/consistency")).query(&[("from", from), ("to", to)]);
        let body = self.send(request, MAX_ANSWER).await?;
        Ok(self.parse::<Answer>(&body)?.proof)
    }

    /// Entries that the log has committed and may not have published yet, from `from` on and below `to`: an entry bundle
    /// of as many as the log likes to send at once, not verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn candidate_entries(&self, from: u64, to: u64) -> Result<Vec<u8>, ClientError> {
        let request = self.http.get(self.address("api/v1/candidate/entries")).query(&[("from", from), ("to", to)]);
        self.send(request, MAX_CANDIDATES).await
    }

    /// Submits one signed entry and waits until it is published: its log index, whether it is a repetition, and its
    /// receipt, which is not verified.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Problem`] when the log refuses the entry.
    pub async fn submit(&self, entry: &str) -> Result<(u64, bool, String), ClientError> {
        let address = self.address("api/v1/entries?wait=published");
        let request =
            self.http.post(address).header("content-type", "text/plain; charset=utf-8").body(entry.to_owned());
        let body = self.send(request, MAX_ANSWER).await?;
        match <[Submitted; 1]>::try_from(self.submitted(&body)?) {
            Ok([Submitted::Accepted { index, duplicate, proof: Some(proof) }]) => Ok((index, duplicate, proof)),
            Ok([Submitted::Refused(problem)]) => Err(self.problem(&problem)),
            _ => Err(self.not_a_log("it did not answer for one entry")),
        }
    }

    /// Submits signed entries as one bundle; with `wait`, until they are published. The answers are in the order of
    /// the entries; receipts are not verified.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer for each entry.
    pub async fn submit_bundle(&self, entries: &[&str], wait: bool) -> Result<Vec<Submitted>, ClientError> {
        let bundle = encode_bundle(entries.iter().map(|entry| entry.as_bytes()));
        let bundle = bundle.map_err(|error| self.not_a_log(error.to_string()))?;
        let address = self.address(if wait { "api/v1/entries?wait=published" } else { "api/v1/entries" });
        let request = self.http.post(address).header("content-type", "application/octet-stream").body(bundle);
        let body = self.send(request, MAX_ANSWER + MAX_RECEIPT * entries.len()).await?;
        let answers = self.submitted(&body)?;
        if answers.len() == entries.len() {
            Ok(answers)
        } else {
            Err(self.not_a_log("it did not answer for each entry"))
        }
    }

    fn submitted(&self, body: &[u8]) -> Result<Vec<Submitted>, ClientError> {
        let answers: Vec<Answer> = self.parse(body)?;
        let answers: Option<Vec<Submitted>> = answers.into_iter().map(Answer::understand).collect();
        answers.ok_or_else(|| self.not_a_log("an answer to an entry has neither index nor error"))
    }

    /// The error that a problem document stands for.
    pub fn problem(&self, problem: &Problem) -> ClientError {
        if problem.kind.is_empty() || problem.detail.is_empty() {
            return self.not_a_log("it refuses an entry and does not say why");
        }
        ClientError::Problem {
            kind: printable(problem.kind.rsplit(':').next().unwrap_or_default()),
            detail: printable(&problem.detail),
            status: problem.status,
        }
    }

    /// A raw manifest that the log keeps, if it does; the bytes hash to the digest.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NotALog`] for other bytes.
    pub async fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ClientError> {
        let address = self.address(&format!("api/v1/manifests/{digest}"));
        match self.send(self.http.get(address), MAX_ANSWER).await {
            Ok(bytes) if digest.matches(&bytes) => Ok(Some(bytes)),
            Ok(_) => Err(self.not_a_log(format!("what it keeps as {digest} does not hash to that"))),
            Err(ClientError::Problem { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores a raw manifest with the log.
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
    ClientError::Network { url: url.as_str().trim_end_matches('/').to_owned(), reason: printable(&cause(error)) }
}

/// The innermost cause, which is what helps.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Text from the network, safe for a terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
