//! `Cache-Control` of responses.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};

/// For content that never changes: tiles and manifests.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// For responses that change with every batch.
pub fn no_cache(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
