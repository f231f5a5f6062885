//! Errors as `application/problem+json` (RFC 9457), each with a stable type, and with a remedy where there is one.

use axum::{
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{rejection::Rejection, store::StoreError};

/// An error response.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem of type `urn:taglog:problem:<kind>`.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), retry_after: None }
    }

    /// The request is malformed.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-request", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// Nothing is published yet. `cosigners` is a summary of their statuses, if there are any.
    pub fn not_published(cosigners: &str) -> Problem {
        let waits = waits_for(cosigners);
        let detail = format!("the log has not published a checkpoint since it started; try again later{waits}");
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-published", detail) }
    }

    /// The entries are committed, but were not published within the time limit of a request.
    pub fn not_yet_published(cosigners: &str) -> Problem {
        let waits = waits_for(cosigners);
        let detail = format!(
            "the entries are in the log, but no checkpoint that covers them is published yet; submit the same again to \
             get their receipts{waits}"
        );
        Problem { retry_after: Some(10), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-yet-published", detail) }
    }

    /// The server does not accept entries yet.
    pub fn starting() -> Problem {
        let detail = "the log is starting and does not accept entries yet; try again in a moment";
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", detail) }
    }

    /// Too many requests or entries.
    pub fn overloaded(retry_after: u64) -> Problem {
        let detail = "the log is overloaded; try again after the time in Retry-After";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail);
        Problem { retry_after: Some(retry_after), ..problem }
    }

    /// The server is stopping.
    pub fn stopping() -> Problem {
        let detail = "the log is stopping and does not accept entries; try again in a moment";
        Problem { retry_after: Some(5), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail) }
    }

    /// The log failed.
    pub fn internal() -> Problem {
        let detail = "the log failed to answer; the reason is in the log output of the server";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub fn to_json(&self) -> Value {
        json!({
            "type": format!("urn:taglog:problem:{}", self.kind),
            "title": self.kind.replace('-', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
        })
    }
}

fn waits_for(cosigners: &str) -> String {
    if cosigners.is_empty() { String::new() } else { format!(". It waits for a quorum of its cosigners: {cosigners}") }
}

/// The query is malformed.
pub fn query_problem(rejection: QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// The path is not UTF-8.
pub fn path_problem(rejection: PathRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// The body is too large or did not arrive.
pub fn body_problem(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "the body is larger than this request may have",
        ),
        _ => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-incomplete",
            "the body did not arrive completely and in time",
        ),
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        let (kind, status) = rejection.problem();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(10);
        Problem { status, kind, detail: rejection.to_string(), retry_after }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        tracing::error!(%error, "the store failed");
        Problem::internal()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
