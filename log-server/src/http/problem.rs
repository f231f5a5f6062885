//! Errors as `application/problem+json` (RFC 9457), each with a stable type and a remedy.

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{refusal::Refusal, store::StoreError};

/// An error for a client.
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

    /// A request that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-request", detail)
    }

    /// Nothing there.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// Nothing is published yet. `cosigners` says how they are, if there are any.
    pub fn not_published(cosigners: &str) -> Problem {
        let waits = waits_for(cosigners);
        let detail = format!("the log has not published a checkpoint since it started; try again{waits}");
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-published", detail) }
    }

    /// The entries are in the log, and not published in the time that one request may take.
    pub fn not_yet_published(cosigners: &str) -> Problem {
        let waits = waits_for(cosigners);
        let detail = format!(
            "the entries are in the log for good, but no checkpoint that covers them is published yet; submit the same \
             again for their receipts{waits}"
        );
        Problem { retry_after: Some(10), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-yet-published", detail) }
    }

    /// The server does not take entries yet.
    pub fn starting() -> Problem {
        let detail = "the log is starting and takes no entries yet; try again";
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", detail) }
    }

    /// Too much is going on.
    pub fn overloaded(retry_after: u64) -> Problem {
        let detail = "the log has as much work as it can hold; try again after the time in Retry-After";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail);
        Problem { retry_after: Some(retry_after), ..problem }
    }

    /// The server is going down.
    pub fn stopping() -> Problem {
        let detail = "the log is stopping and takes no entries; try again";
        Problem { retry_after: Some(5), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail) }
    }

    /// A fault of the log itself.
    pub fn internal() -> Problem {
        let detail = "the log failed to answer; its operator finds the reason in its own log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The problem as JSON.
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

/// What a query that does not fit is answered with.
pub fn query_problem(rejection: QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// What a path that is not UTF-8 is answered with.
pub fn path_problem(rejection: PathRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (kind, status) = refusal.kind();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(10);
        Problem { status, kind, detail: refusal.to_string(), retry_after }
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
