//! Refusals as `application/problem+json` (RFC 9457), with the types that the log server uses for the same.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{BODY_TIME, MAX_BODY, Malformed};

/// After how many seconds a sender may repeat what did not fit.
const RETRY_AFTER: u64 = 5;

/// Why a push was not taken.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), header: None }
    }

    /// The secret, or the signature made with it, is missing or wrong.
    pub(super) fn unauthorized(detail: &str) -> Problem {
        let challenge = HeaderValue::from_static("Bearer realm=\"taglog\"");
        let header = Some((header::WWW_AUTHENTICATE, challenge));
        Problem { header, ..Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail) }
    }

    /// Over [`MAX_BODY`].
    pub(super) fn too_large() -> Problem {
        let detail = format!("the body is over {MAX_BODY} bytes; send fewer events at a time");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    /// The body broke off, or took longer than [`BODY_TIME`].
    pub(super) fn incomplete() -> Problem {
        let detail = format!("the body did not arrive whole within {} seconds; send it again", BODY_TIME.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-incomplete", detail)
    }

    /// More hints than are taken now.
    pub(super) fn overloaded() -> Problem {
        let detail = "the witness has as many hints as it can hold; send this again after the time in Retry-After";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail).retried()
    }

    /// Nobody takes hints any more.
    pub(super) fn stopping() -> Problem {
        let detail = "the witness is stopping; send this again after the time in Retry-After";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail).retried()
    }

    fn retried(self) -> Problem {
        Problem { header: Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))), ..self }
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-request", malformed.to_string())
    }
}

impl IntoResponse for Problem {
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
