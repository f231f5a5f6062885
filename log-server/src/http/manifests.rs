//! Raw manifests of logged digests: outside the tree, since they prove themselves by their hash.

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

use super::{AppState, Problem, entries::body_problem, problem::path_problem};
use crate::store::KeptManifest;

/// The most digests that one manifest may name: far more platforms than there are.
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
        // Manifests are not part of a batch, so what was kept since the last one counts too.
        let view = store.view();
        if view.manifest(&digest)?.is_some() {
            return Ok(StatusCode::OK);
        }
        if !view.wants_manifest(&digest)? {
            let detail = format!("neither the log nor a manifest kept already names {digest}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "manifest-not-named", detail));
        }
        store.keep_manifest(&KeptManifest { digest, bytes: &body, names: named_digests(&body) })?;
        Ok(StatusCode::CREATED)
    };
    Ok(state.heavy(keep).await?.into_response())
}

/// `GET /api/v1/manifests/<digest>`.
pub async fn get(
    State(state): State<AppState>,
    digest: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let digest = parse_digest(digest)?;
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
pub(super) fn parse_digest(path: Result<Path<String>, PathRejection>) -> Result<Digest, Problem> {
    let Path(text) = path.map_err(path_problem)?;
    Digest::parse(&text).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-digest", error.to_string()))
}

/// The platform manifests and the configuration that a manifest names; none if it is not JSON.
fn named_digests(manifest: &[u8]) -> BTreeSet<Digest> {
    let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else { return BTreeSet::new() };
    let platforms = manifest["manifests"].as_array().into_iter().flatten();
    let named = platforms.chain([&manifest["config"]]).filter_map(|descriptor| descriptor["digest"].as_str());
    named.filter_map(|digest| Digest::parse(digest).ok()).take(MAX_NAMED).collect()
}
