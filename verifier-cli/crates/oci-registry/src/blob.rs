//! Blobs that are small enough to be read into memory, such as an image's configuration.

use reqwest::{Method, StatusCode, header::HeaderMap};
use taglog_proto::name::Digest;

use super::{
    client::RegistryClient,
    error::RegistryError,
    target::Target,
    transport::{self, RegistryRequest},
};

impl RegistryClient {
    /// The blob that the target names, at most `most` bytes, checked against `digest`.
    pub(super) async fn blob(&self, target: &Target, digest: &Digest, most: usize) -> Result<Vec<u8>, RegistryError> {
        let request = RegistryRequest { method: Method::GET, url: self.url(target)?, headers: HeaderMap::new() };
        let answer = self.request(target, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.refusal(target));
        }
        let bytes = transport::read_body(target, answer.response, most).await?;
        if digest.matches(&bytes) {
            return Ok(bytes);
        }
        let actual = Digest::sha256(&bytes);
        Err(RegistryError::WrongDigest { target: target.to_string(), claimed: digest.to_string(), actual })
    }
}
