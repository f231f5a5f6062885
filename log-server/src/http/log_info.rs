//! Information about the log and the server: `GET log`, the start page, health and readiness.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{problem::Problem, state::AppState};
use crate::publisher::status;

/// `GET /api/v1/log`: origin, keys, roster, cosigners, limits and versions.
pub async fn log(State(state): State<AppState>) -> Result<Response, Problem> {
    let published = state.published()?;
    let witnesses: Vec<String> = published.roster().witnesses().iter().map(ToString::to_string).collect();
    let limits = published.roster().limits;
    let body = json!({
        "origin": state.log_key.name(),
        "vkey": state.log_key.to_string(),
        "vkeys": *state.vkeys,
        "size": published.size(),
        "roster": {
            "index": published.seal().roster,
            "witnesses": witnesses,
            "limits": { "future": limits.future, "past": limits.past, "quiet": limits.quiet },
        },
        "cosigners": cosigners_json(&state),
        "limits": *state.limits,
        "versions": { "formats": ["v1"], "api": "v1", "server": env!("CARGO_PKG_VERSION") },
    });
    Ok(Json(body).into_response())
}

pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

pub async fn welcome(State(state): State<AppState>) -> String {
    format!(
        "This is the taglog log {}.\n\n\
         A transparency log for container tags: what repository:tag has ever pointed to.\n\n\
         /checkpoint            the log's signed state\n\
         /tile/...              the log itself (c2sp.org/tlog-tiles)\n\
         /api/v1/log            origin, key, witnesses, limits\n\
         /api/v1/lookup?image=  everything ever seen of a tag, with proofs\n\
         /api/v1/openapi.json   all calls\n",
        state.log_key
    )
}

fn cosigners_json(state: &AppState) -> Vec<serde_json::Value> {
    state.publisher_state.statuses.borrow().iter().map(status::CosignerStatus::to_json).collect()
}

/// The process runs.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// A checkpoint is published, and entries are accepted.
pub async fn readyz(State(state): State<AppState>) -> Result<Response, Problem> {
    let published = state.published()?;
    if state.submissions.is_closed() {
        return Err(Problem::stopping());
    }
    state.submissions.check_open()?;
    let body = json!({
        "ready": true,
        "size": published.size(),
        "lastSeal": published.seal().time.to_string(),
        "unpublished": state.unpublished(),
        "cosigners": cosigners_json(&state),
    });
    Ok(Json(body).into_response())
}
