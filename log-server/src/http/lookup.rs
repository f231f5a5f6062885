//! `GET` and `POST /api/v1/lookup`: a tag proof of all named images.

use axum::{
    body::Bytes,
    extract::{RawQuery, State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use taglog_proto::{
    encoding::from_decimal,
    name::Image,
    tag_proof::{LookupError, LookupRequest, MAX_IMAGES, build},
};

use super::{
    cache::no_cache,
    problem::{Problem, body_problem},
    state::AppState,
};

/// `?image=R:T&image=…&from=N&page=P`.
pub async fn get(State(state): State<AppState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    answer(&state, parse_query(query.as_deref().unwrap_or(""))?).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupBody {
    images: Vec<String>,
    from: Option<u64>,
    #[serde(default)]
    page: u64,
}

/// The same as JSON: `{"images": […], "from": N, "page": P}`.
pub async fn post(State(state): State<AppState>, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let body = body.map_err(body_problem)?;
    let body: LookupBody = serde_json::from_slice(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let images = parse_images(body.images.iter().map(String::as_str))?;
    answer(&state, LookupRequest { images, from: body.from, page: body.page }).await
}

fn parse_query(query: &str) -> Result<LookupRequest, Problem> {
    let (mut images, mut from, mut page) = (Vec::new(), None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || from_decimal(&value).ok_or_else(|| Problem::bad_request(format!("{key}: want a number")));
        match &*key {
            "image" => images.push(value.into_owned()),
            "from" if from.is_none() => from = Some(number()?),
            "page" if page.is_none() => page = Some(number()?),
            _ => return Err(Problem::bad_request(format!("{key}: want image, and at most one from and page"))),
        }
    }
    let images = parse_images(images.iter().map(String::as_str))?;
    Ok(LookupRequest { images, from, page: page.unwrap_or(0) })
}

fn parse_images<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Image>, Problem> {
    let parse = |name| {
        Image::parse(name).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-image", error.to_string()))
    };
    names.take(MAX_IMAGES + 1).map(parse).collect()
}

async fn answer(state: &AppState, request: LookupRequest) -> Result<Response, Problem> {
    let published = state.published()?;
    let single = request.images.len() == 1 && request.from.is_none();
    let work = move || {
        let proof = build(published.view(), &published.checkpoint, &request)
            .map_err(|error| error.map_refused(lookup_problem))?;
        Ok(proof.to_json())
    };
    // The look-up of one image takes less time than moving it to another thread.
    let json = if single { state.run_inline(work).await? } else { state.run_blocking(work).await? };
    Ok(no_cache(([(header::CONTENT_TYPE, "application/json")], json).into_response()))
}

fn lookup_problem(error: LookupError) -> Problem {
    let (status, kind) = match error {
        LookupError::Images | LookupError::Page(_) => (StatusCode::BAD_REQUEST, "malformed-request"),
        LookupError::TooManyEntries(_) => (StatusCode::UNPROCESSABLE_ENTITY, "lookup-too-large"),
        LookupError::From { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "size-out-of-range"),
        LookupError::NoSeal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    };
    Problem::new(status, kind, error.to_string())
}
