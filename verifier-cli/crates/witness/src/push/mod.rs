//! Watching by push: registries and their webhooks say that it is time to look.
//!
//! What a push claims is never signed as seen. It only becomes a [`Hint`], and the agent then asks the registry
//! itself. So the worst that a forged push does is one look too many.

mod authentic;
mod claim;
mod distribution;
mod generic;
mod github;
mod harbor;
mod problem;
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
use serde::Deserialize;
use serde_json::json;
use taglog_proto::name::{Repository, Tag};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError},
};

pub use authentic::Secret;
use claim::{Claim, Malformed};
use problem::Problem;

/// The most bytes of a push.
const MAX_BODY: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// The most events in a push, and so the most hints that come of one. The channel given to [`router`] needs at
/// least this capacity, or a push that large never fits.
pub const MAX_EVENTS: usize = 10_000;
/// The most pushes of one source that are read at once.
const MAX_AT_ONCE: usize = 16;

/// Whose notifications these are; in a configuration `distribution`, `harbor`, `github` or `generic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A registry of the Docker Distribution code base, by its notifications.
    Distribution,
    /// Harbor, by a project's webhook.
    Harbor,
    /// GitHub's container registry, by a webhook of an organization or repository.
    Github,
    /// Anyone who sends taglog's own format.
    Generic,
}

impl SourceKind {
    /// Where it posts, if nothing else is said.
    pub fn default_path(self) -> &'static str {
        match self {
            SourceKind::Distribution => "/push/distribution",
            SourceKind::Harbor => "/push/harbor",
            SourceKind::Github => "/push/github",
            SourceKind::Generic => "/push/generic",
        }
    }
}

/// One sender that is listened to.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it sends.
    pub kind: SourceKind,
    /// The registry it speaks for: `host[:port]` as in the names of repositories. Hints are for repositories of
    /// this registry only.
    pub registry: String,
    /// Where it posts, such as `/push/harbor`; [`check_path`] says what it may be.
    pub path: String,
    /// What it must know; anyone may post if absent.
    pub secret: Option<Secret>,
}

/// It is time to look. Not evidence of anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// Where.
    pub repository: Repository,
    /// At which tag; `None`: at every watched tag of the repository.
    pub tag: Option<Tag>,
}

/// Checks where a source may post: `/` and then letters, digits, `-`, `_`, `.` and `/`.
///
/// # Errors
/// In words.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if path.starts_with('/') && path.bytes().all(plain) {
        Ok(())
    } else {
        Err("want '/' and then letters, digits, '-', '_', '.' and '/', such as /push/harbor".to_owned())
    }
}

/// Routes for all sources: each takes `POST` at its path.
///
/// Answers 202 when all hints are queued, 204 when nothing in it is of interest, 401 without the secret, 400 and 413
/// for what cannot be read, 429 when the channel has no room for all its hints (then none is queued, and the sender
/// repeats), 503 when the channel is closed. `hints` needs a capacity of at least [`MAX_EVENTS`].
///
/// # Panics
/// When a path fails [`check_path`] or two sources have the same one.
pub fn router(sources: &[Source], hints: mpsc::Sender<Hint>) -> Router {
    sources.iter().fold(Router::new(), |router, source| {
        let receiver = Arc::new(Receiver::new(source.clone(), hints.clone()));
        router.route(&source.path, post(move |request| receiver.answer(request)))
    })
}

/// Takes the pushes of one source.
struct Receiver {
    source: Source,
    hints: mpsc::Sender<Hint>,
    places: Semaphore,
}

impl Receiver {
    fn new(source: Source, hints: mpsc::Sender<Hint>) -> Receiver {
        Receiver { source, hints, places: Semaphore::new(MAX_AT_ONCE) }
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response {
        self.receive(request).await.unwrap_or_else(|problem| {
            tracing::debug!(path = self.source.path, ?problem, "a push was refused");
            problem.into_response()
        })
    }

    async fn receive(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let proof = authentic::check_headers(&self.source, &parts.headers)?;
        let _place = self.places.try_acquire().map_err(|_| Problem::overloaded())?;
        let body = read(body, BODY_TIME).await?;
        proof.check_body(&self.source, &body)?;
        let claims = self.claims(&parts.headers, &body)?;
        let (hints, ignored) = self.hints_of(&claims);
        if claims.is_empty() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let queued = hints.len();
        self.queue(hints)?;
        Ok((StatusCode::ACCEPTED, Json(json!({ "queued": queued, "ignored": ignored }))).into_response())
    }

    fn claims(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Claim>, Malformed> {
        match self.source.kind {
            SourceKind::Distribution => distribution::claims(body),
            SourceKind::Harbor => harbor::claims(body),
            SourceKind::Github => github::claims(github_event(headers)?, body),
            SourceKind::Generic => generic::claims(body),
        }
    }

    /// The hints, each once, in the order in which they came; and how many claims name nothing in this registry.
    fn hints_of(&self, claims: &[Claim]) -> (Vec<Hint>, usize) {
        let mut seen = HashSet::new();
        let valid: Vec<Hint> = claims.iter().filter_map(|claim| claim.hint(&self.source.registry)).collect();
        let ignored = claims.len() - valid.len();
        (valid.into_iter().filter(|hint| seen.insert(hint.clone())).collect(), ignored)
    }

    /// Queues all of them or none: a sender repeats the whole push.
    fn queue(&self, hints: Vec<Hint>) -> Result<(), Problem> {
        let places = self.hints.try_reserve_many(hints.len()).map_err(|error| match error {
            TrySendError::Full(()) => Problem::overloaded(),
            TrySendError::Closed(()) => Problem::stopping(),
        })?;
        places.zip(hints).for_each(|(place, hint)| place.send(hint));
        Ok(())
    }
}

/// Reads a body that is neither too long nor too slow.
async fn read(body: Body, time: Duration) -> Result<Bytes, Problem> {
    let mut request = Request::new(body);
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    match tokio::time::timeout(time, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::too_large()),
        _ => Err(Problem::incomplete()),
    }
}

fn github_event(headers: &HeaderMap) -> Result<&str, Malformed> {
    let event = headers.get("x-github-event").and_then(|event| event.to_str().ok());
    event.ok_or_else(|| Malformed("not a GitHub webhook: it has no header X-GitHub-Event".to_owned()))
}
