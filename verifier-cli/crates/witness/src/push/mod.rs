//! Push notifications of registries, which request an immediate poll.
//!
//! The content of a push is never signed. It only becomes a [`PollRequest`], and the agent then asks the registry itself. So a
//! forged push causes at most an unnecessary poll.

mod authentication;
mod claim;
mod distribution;
mod generic;
mod github;
mod harbor;
mod problem;
mod secret;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest as _, Request},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::json;
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError},
};

use claim::{MalformedPush, PushClaim};
use problem::PushProblem;
pub use secret::Secret;
use source::{BODY_TIME, MAX_BODY};
pub use source::{MAX_EVENTS, PollRequest, PushKind, PushSource, check_path};

/// The most pushes of one source that are read at once.
const MAX_AT_ONCE: usize = 16;

/// Routes for all sources: each takes `POST` at its path.
///
/// Answers 202 when all poll requests are queued, 204 when there is no relevant event, 401 without the secret, 400 and 413
/// for malformed bodies, 429 when the channel has no room for all poll requests (then none is queued, and the sender
/// repeats), 503 when the channel is closed. `poll_requests` needs a capacity of at least [`MAX_EVENTS`].
///
/// # Panics
/// When a path fails [`check_path`] or two sources have the same one.
pub fn router(sources: &[PushSource], poll_requests: mpsc::Sender<PollRequest>) -> Router {
    sources.iter().fold(Router::new(), |router, source| {
        let receiver = Arc::new(PushReceiver::new(source.clone(), poll_requests.clone()));
        router.route(&source.path, post(move |request| receiver.answer(request)))
    })
}

/// Receives the pushes of one source.
struct PushReceiver {
    source: PushSource,
    poll_requests: mpsc::Sender<PollRequest>,
    places: Semaphore,
}

impl PushReceiver {
    fn new(source: PushSource, poll_requests: mpsc::Sender<PollRequest>) -> PushReceiver {
        PushReceiver { source, poll_requests, places: Semaphore::new(MAX_AT_ONCE) }
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response {
        self.receive(request).await.unwrap_or_else(|problem| {
            tracing::debug!(path = self.source.path, ?problem, "a push was refused");
            problem.into_response()
        })
    }

    async fn receive(&self, request: Request) -> Result<Response, PushProblem> {
        let (parts, body) = request.into_parts();
        let proof = authentication::check_headers(&self.source, &parts.headers)?;
        let _place = self.places.try_acquire().map_err(|_| PushProblem::overloaded())?;
        let body = read(body, BODY_TIME).await?;
        proof.check_body(&self.source, &body)?;
        let claims = self.claims(&parts.headers, &body)?;
        let (poll_requests, ignored) = self.poll_requests_of(&claims);
        if claims.is_empty() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let queued = poll_requests.len();
        self.queue(poll_requests)?;
        Ok((StatusCode::ACCEPTED, Json(json!({ "queued": queued, "ignored": ignored }))).into_response())
    }

    fn claims(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<PushClaim>, MalformedPush> {
        match self.source.kind {
            PushKind::Distribution => distribution::claims(body),
            PushKind::Harbor => harbor::claims(body),
            PushKind::Github => github::claims(github_event(headers)?, body),
            PushKind::Generic => generic::claims(body),
        }
    }

    /// The distinct poll requests, in order, and how many claims name nothing in this registry.
    fn poll_requests_of(&self, claims: &[PushClaim]) -> (Vec<PollRequest>, usize) {
        let mut seen = HashSet::new();
        let valid: Vec<PollRequest> =
            claims.iter().filter_map(|claim| claim.poll_request(&self.source.registry)).collect();
        let ignored = claims.len() - valid.len();
        (valid.into_iter().filter(|poll_request| seen.insert(poll_request.clone())).collect(), ignored)
    }

    /// Queues all of them or none, since a sender repeats the whole push.
    fn queue(&self, poll_requests: Vec<PollRequest>) -> Result<(), PushProblem> {
        let places = self.poll_requests.try_reserve_many(poll_requests.len()).map_err(|error| match error {
            TrySendError::Full(()) => PushProblem::overloaded(),
            TrySendError::Closed(()) => PushProblem::stopping(),
        })?;
        places.zip(poll_requests).for_each(|(place, poll_request)| place.send(poll_request));
        Ok(())
    }
}

/// Reads a body that is neither too long nor too slow.
async fn read(body: Body, time: Duration) -> Result<Bytes, PushProblem> {
    let mut request = Request::new(body);
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    match tokio::time::timeout(time, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(PushProblem::too_large()),
        _ => Err(PushProblem::incomplete()),
    }
}

fn github_event(headers: &HeaderMap) -> Result<&str, MalformedPush> {
    let event = headers.get("x-github-event").and_then(|event| event.to_str().ok());
    event.ok_or_else(|| MalformedPush("not a GitHub webhook: it has no header X-GitHub-Event".to_owned()))
}
