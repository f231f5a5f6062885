//! Convenience listings as of the published checkpoint. They are without proofs: a verifier uses look-ups, and an
//! auditor derives the same from the log's entries.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use taglog_proto::{name::Repository, record::TagRecord};

use super::{
    cache::no_cache,
    manifests::parse_digest,
    problem::{Problem, query_problem},
    state::AppState,
};

/// The most rows in one answer.
const LIMIT: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagsQuery {
    repository: String,
    after: Option<String>,
}

/// `?repository=R[&after=TAG]`: the tags of a repository with the latest digest of each witness.
pub async fn tags(
    State(state): State<AppState>,
    query: Result<Query<TagsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(TagsQuery { repository, after }) = query.map_err(query_problem)?;
    let repository = Repository::parse(&repository)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-repository", error.to_string()))?;
    let published = state.published()?;
    let size = published.size();
    let records = state.run_blocking(move || Ok(published.view().tags(&repository, after.as_deref(), LIMIT)?)).await?;
    let next = (records.len() == LIMIT).then(|| records.last().map(|record| record.image.tag.to_string())).flatten();
    let tags: Vec<_> = records.iter().map(tag_row).collect();
    Ok(no_cache(Json(json!({ "proven": false, "size": size, "tags": tags, "next": next })).into_response()))
}

fn tag_row(record: &TagRecord) -> serde_json::Value {
    let witnesses: Vec<_> = record
        .lines()
        .iter()
        .map(|line| {
            json!({
                "witness": line.witness.to_string(),
                "sightings": line.sightings,
                "digest": line.seen.to_string(),
                "observed": line.observed.to_string(),
                "index": line.index,
            })
        })
        .collect();
    json!({ "tag": record.image.tag.to_string(), "witnesses": witnesses })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetagsQuery {
    #[serde(default)]
    since: u64,
}

/// `?since=INDEX`: sightings that show a tag to be retagged, oldest first.
pub async fn retags(
    State(state): State<AppState>,
    query: Result<Query<RetagsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(RetagsQuery { since }) = query.map_err(query_problem)?;
    let published = state.published()?;
    let size = published.size();
    let rows = state.run_blocking(move || Ok(published.view().retags(since, LIMIT)?)).await?;
    let next = (rows.len() == LIMIT).then(|| rows.last().map(|(index, _)| index + 1)).flatten();
    let retags: Vec<_> = rows.iter().map(|(index, image)| json!({ "index": index, "image": image })).collect();
    Ok(no_cache(Json(json!({ "proven": false, "size": size, "retags": retags, "next": next })).into_response()))
}

/// Every tag that ever had this digest.
pub async fn digests(
    State(state): State<AppState>,
    digest: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let digest = parse_digest(digest)?;
    let published = state.published()?;
    let size = published.size();
    let rows = state.run_blocking(move || Ok(published.view().images_with(&digest, LIMIT)?)).await?;
    let images: Vec<_> = rows.iter().map(|(image, index)| json!({ "image": image, "index": index })).collect();
    let body = json!({
        "proven": false, "size": size, "digest": digest.to_string(), "images": images,
        "complete": rows.len() < LIMIT,
    });
    Ok(no_cache(Json(body).into_response()))
}
