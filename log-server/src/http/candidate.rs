//! `GET /api/v1/candidate/entries`: entries that may not be published yet, for auditing cosigners, which read them before
//! they cosign. Caches must not keep them, because entries that are not published may still be lost.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use taglog_proto::tile::encode_bundle;

use super::{
    problem::{Problem, query_problem},
    state::AppState,
};
use crate::store::View;

/// The most bytes of a response; it has at least one entry.
const MAX_BYTES: usize = 4 << 20;
/// Entries read at a time.
const CHUNK: u64 = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    from: u64,
    to: u64,
}

/// `?from=N&to=M`: an entry bundle of the entries N to M - 1, as many as fit.
pub async fn entries(
    State(state): State<AppState>,
    query: Result<Query<EntriesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(EntriesQuery { from, to }) = query.map_err(query_problem)?;
    let committed = *state.publisher_state.committed.borrow();
    if from >= to || to > committed {
        let detail = format!("want from less than to, and to at most {committed}, the size of the log");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "size-out-of-range", detail));
    }
    let store = state.store;
    let bundle = state.run_blocking(move || bundle(&store.view(), from, to)).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, bundle).into_response())
}

fn bundle(view: &View, from: u64, to: u64) -> Result<Vec<u8>, Problem> {
    let mut bundle = Vec::new();
    let mut next = from;
    while next < to {
        let entries = view.entries(next, (to - next).min(CHUNK) as usize)?;
        if entries.is_empty() {
            return Err(Problem::internal());
        }
        next += entries.len() as u64;
        for entry in entries {
            let encoded = encode_bundle([&entry[..]]).map_err(|_| Problem::internal())?;
            if !bundle.is_empty() && bundle.len() + encoded.len() > MAX_BYTES {
                return Ok(bundle);
            }
            bundle.extend_from_slice(&encoded);
        }
    }
    Ok(bundle)
}
