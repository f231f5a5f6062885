//! Inclusion and consistency proofs, for use with curl; clients compute them from tiles.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use taglog_proto::merkle::{Hash, ProofError, consistency_proof, inclusion_proof, root};

use super::{
    cache::no_cache,
    problem::{Problem, query_problem},
    state::AppState,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionQuery {
    index: u64,
    size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    from: u64,
    to: u64,
}

/// `?index=&size=`: RFC 6962 section 2.1.1.
pub async fn inclusion(
    State(state): State<AppState>,
    query: Result<Query<InclusionQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(InclusionQuery { index, size }) = query.map_err(query_problem)?;
    let published = state.published()?;
    check_size(size, published.size())?;
    let proof = inclusion_proof(published.view(), index, size).map_err(|error| error.map_refused(proof_problem))?;
    let root = root(published.view(), size)?;
    let body = json!({ "index": index, "size": size, "root": root.to_base64(), "proof": base64(&proof) });
    Ok(no_cache(Json(body).into_response()))
}

/// `?from=&to=`: RFC 6962 section 2.1.2.
pub async fn consistency(
    State(state): State<AppState>,
    query: Result<Query<ConsistencyQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(ConsistencyQuery { from, to }) = query.map_err(query_problem)?;
    let published = state.published()?;
    check_size(to, published.size())?;
    let proof = consistency_proof(published.view(), from, to).map_err(|error| error.map_refused(proof_problem))?;
    let body = json!({ "from": from, "to": to, "proof": base64(&proof) });
    Ok(no_cache(Json(body).into_response()))
}

fn base64(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(Hash::to_base64).collect()
}

fn check_size(size: u64, published: u64) -> Result<(), Problem> {
    if size <= published {
        return Ok(());
    }
    let detail = format!("size {size} is above the published size {published}");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "size-out-of-range", detail))
}

fn proof_problem(error: ProofError) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "size-out-of-range", error.to_string())
}
