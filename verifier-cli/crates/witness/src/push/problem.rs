//! Refusals as `application/problem+json` (RFC 9457), with the problem types of the log server.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    claim::MalformedPush,
    source::{BODY_TIME, MAX_BODY},
};

/// `Retry-After`, in seconds.
const RETRY_AFTER: u64 = 5;

/// Why a push was refused.
#[derive(Debug)]
pub(super) struct PushProblem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl PushProblem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> PushProblem {
        PushProblem { status, kind, detail: detail.into(), header: None }
    }

    /// The secret, or the signature made with it, is missing or wrong.
    pub(super) fn unauthorized(detail: &str) -> PushProblem {
        let challenge = HeaderValue::from_static("Bearer realm=\"taglog\"");
        let header = Some((header::WWW_AUTHENTICATE, challenge));
        PushProblem { header, ..PushProblem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail) }
    }

    /// Over [`MAX_BODY`].
    pub(super) fn too_large() -> PushProblem {
        let detail = format!("the body is over {MAX_BODY} bytes; send fewer events at a time");
        PushProblem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    /// The body was incomplete, or took longer than [`BODY_TIME`].
    pub(super) fn incomplete() -> PushProblem {
        let detail = format!("the body did not arrive whole within {} seconds; send it again", BODY_TIME.as_secs());
        PushProblem::new(StatusCode::REQUEST_TIMEOUT, "body-incomplete", detail)
    }

    /// The queue of poll requests is full.
    pub(super) fn overloaded() -> PushProblem {
        let detail = "the queue of the witness is full; send this again after the time in Retry-After";
        PushProblem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail).retried()
    }

    /// The agent is stopping.
    pub(super) fn stopping() -> PushProblem {
        let detail = "the witness is stopping; send this again after the time in Retry-After";
        PushProblem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail).retried()
    }

    fn retried(self) -> PushProblem {
        PushProblem { header: Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))), ..self }
    }
}

impl From<MalformedPush> for PushProblem {
    fn from(malformed: MalformedPush) -> PushProblem {
        PushProblem::new(StatusCode::BAD_REQUEST, "malformed-request", malformed.to_string())
    }
}

impl IntoResponse for PushProblem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:taglog:problem:{}", self.kind),
            "title": self.kind.replace('-', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header);
        response
    }
}
