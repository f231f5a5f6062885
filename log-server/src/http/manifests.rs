//! Raw manifests of logged digests. They are stored outside the tree, because their digest authenticates them.

use std::collections::BTreeSet;

use axum::{
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use taglog_proto::name::Digest;

use super::{
    cache::IMMUTABLE,
    problem::{Problem, body_problem, path_problem},
    state::AppState,
};
use crate::store::KeptManifest;

/// The most digests that are read from one manifest, far more than there are platforms.
const MAX_NAMED: usize = 1000;

/// `PUT /api/v1/manifests/<digest>`.
pub async fn put(
    State(state): State<AppState>,
    digest: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let digest = parse_digest(digest)?;
    let body = body.map_err(body_problem)?;
    let store = state.store;
    let keep = move || {
        if !digest.matches(&body) {
            let detail = format!("the body does not hash to {digest}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch", detail));
        }
        // Manifests are not part of a batch: this view also has those stored since the last commit.
        let view = store.view();
        if view.manifest(&digest)?.is_some() {
            return Ok(StatusCode::OK);
        }
        if !view.wants_manifest(&digest)? {
            let detail =
                format!("neither an entry nor a stored manifest names {digest}; submit an observation of it first");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "manifest-not-named", detail));
        }
        store.keep_manifest(&KeptManifest { digest, bytes: &body, names: named_digests(&body) })?;
        Ok(StatusCode::CREATED)
    };
    Ok(state.run_blocking(keep).await?.into_response())
}

/// `GET /api/v1/manifests/<digest>`.
pub async fn get(
    State(state): State<AppState>,
    digest: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let digest = parse_digest(digest)?;
    let store = state.store;
    // Manifests are not part of a batch: this view also has those stored since the last commit.
    let bytes = state.run_blocking(move || Ok(store.view().manifest(&digest)?)).await?;
    let bytes = bytes.ok_or_else(|| Problem::not_found(format!("there is no manifest with digest {digest}")))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, IMMUTABLE),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes).into_response())
}

/// Parses the digest in a path.
pub(super) fn parse_digest(path: Result<Path<String>, PathRejection>) -> Result<Digest, Problem> {
    let Path(text) = path.map_err(path_problem)?;
    Digest::parse(&text).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-digest", error.to_string()))
}

/// The digests of the platform manifests and the configuration that a manifest names; none if it is not JSON.
fn named_digests(manifest: &[u8]) -> BTreeSet<Digest> {
    let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else { return BTreeSet::new() };
    let platforms = manifest["manifests"].as_array().into_iter().flatten();
    let named = platforms.chain([&manifest["config"]]).filter_map(|descriptor| descriptor["digest"].as_str());
    named.filter_map(|digest| Digest::parse(digest).ok()).take(MAX_NAMED).collect()
}
