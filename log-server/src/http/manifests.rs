//! Raw manifests of logged digests: outside the tree, since they prove themselves by their hash.

use std::collections::BTreeSet;

use axum::{
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use taglog_proto::name::Digest;

use super::{AppState, Problem, entries::body_problem};
use crate::store::KeptManifest;

/// The most digests that one manifest may name: far more platforms than there are.
const MAX_NAMED: usize = 1000;

/// `PUT /api/v1/manifests/<digest>`.
pub async fn put(
    State(state): State<AppState>,
    Path(digest): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let digest = parse_digest(&digest)?;
    let body = body.map_err(body_problem)?;
    let (published, store) = (state.published()?, state.store);
    let keep = move || {
        if !digest.matches(&body) {
            let detail = format!("the body does not hash to {digest}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch", detail));
        }
        if published.view.manifest(&digest)?.is_some() {
            return Ok(StatusCode::OK);
        }
        if !published.view.wants_manifest(&digest)? {
            let detail = format!("neither the published log nor a manifest kept already names {digest}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "manifest-not-named", detail));
        }
        store.keep_manifest(&KeptManifest { digest, bytes: &body, names: named_digests(&body) })?;
        Ok(StatusCode::CREATED)
    };
    Ok(state.heavy(keep).await?.into_response())
}

/// `GET /api/v1/manifests/<digest>`.
pub async fn get(State(state): State<AppState>, Path(digest): Path<String>) -> Result<Response, Problem> {
    let digest = parse_digest(&digest)?;
    let store = state.store;
    // Manifests are not part of a batch, so what was kept since the last one counts too.
    let bytes = state.heavy(move || Ok(store.view().manifest(&digest)?)).await?;
    let bytes = bytes.ok_or_else(|| Problem::not_found(format!("no manifest with digest {digest} is kept")))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes).into_response())
}

/// A digest in a path.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Problem> {
    Digest::parse(text).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-digest", error.to_string()))
}

/// The platform manifests and the configuration that a manifest names; none if it is not JSON.
fn named_digests(manifest: &[u8]) -> BTreeSet<Digest> {
    let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else { return BTreeSet::new() };
    let platforms = manifest["manifests"].as_array().into_iter().flatten();
    let named = platforms.chain([&manifest["config"]]).filter_map(|descriptor| descriptor["digest"].as_str());
    named.filter_map(|digest| Digest::parse(digest).ok()).take(MAX_NAMED).collect()
}
