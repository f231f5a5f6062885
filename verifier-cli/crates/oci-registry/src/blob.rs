//! Blobs: what a manifest names and is small enough to be read whole, such as an image's configuration.

use reqwest::{Method, StatusCode, header::HeaderMap};
use taglog_proto::name::Digest;

use super::{
    Shared,
    error::RegistryError,
    target::Target,
    transport::{self, Question},
};

impl Shared {
    /// The blob that the target names, which hashes to the digest asked for.
    pub(super) async fn blob(&self, target: &Target, digest: &Digest, most: usize) -> Result<Vec<u8>, RegistryError> {
        let question = Question { method: Method::GET, url: self.url(target)?, headers: HeaderMap::new() };
        let answer = self.request(target, question).await?;
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
