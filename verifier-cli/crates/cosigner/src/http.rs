//! What a cosigner serves: `add-checkpoint`, `sign-subtree`, the latest checkpoints, metrics and health.

use std::{fmt::Display, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use taglog_proto::{add_checkpoint::MAX_REQUEST, note::NoteSignature};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::service::{Cosigner, Refusal};

/// How long a client may take to send the body of a request.
const BODY_TIME: Duration = Duration::from_secs(20);
/// How many requests may be under way at once.
const REQUESTS: usize = 256;
/// When a request that came too early may be made again, in seconds.
const AGAIN: HeaderValue = HeaderValue::from_static("1");

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    cosigner: Arc<Cosigner>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// The calls of the specification.
#[derive(Clone, Copy)]
enum Call {
    AddCheckpoint,
    SignSubtree,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::AddCheckpoint => "add-checkpoint",
            Call::SignSubtree => "sign-subtree",
        }
    }
}

/// All routes. Requests that are under way run as `tasks`, to their end even if their client goes away.
pub fn router(cosigner: Arc<Cosigner>, tasks: TaskTracker, metrics: PrometheusHandle) -> Router {
    let render = move || {
        let text = metrics.render();
        async move { text }
    };
    let subtrees = cosigner.signs_subtrees();
    let shared = Shared { cosigner, places: Arc::new(Semaphore::new(REQUESTS)), tasks };
    let router = Router::new()
        .route("/add-checkpoint", post(|State(shared), body| answer(shared, Call::AddCheckpoint, body)))
        .route("/{origin}/checkpoint", get(checkpoint))
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }));
    let router = match subtrees {
        true => router.route("/sign-subtree", post(|State(shared), body| answer(shared, Call::SignSubtree, body))),
        false => router,
    };
    let nothing = "nothing here; see c2sp.org/tlog-witness, and /metrics, /healthz, /readyz\n";
    router.fallback(move || async move { (StatusCode::NOT_FOUND, nothing) }).with_state(shared)
}

async fn answer(shared: Shared, call: Call, body: Body) -> Response {
    let response = match serve(shared, call, body).await {
        Ok(lines) => text(StatusCode::OK, lines.iter().map(NoteSignature::to_string).collect::<String>()),
        Err(response) => response,
    };
    let status = response.status().as_u16().to_string();
    metrics::counter!("taglog_cosigner_requests_total", "call" => call.name(), "status" => status).increment(1);
    response
}

async fn serve(shared: Shared, call: Call, body: Body) -> Result<Vec<NoteSignature>, Response> {
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_REQUEST)).await {
        Ok(Ok(body)) => body.to_vec(),
        Ok(Err(_)) => {
            let message = format!("a request has at most {MAX_REQUEST} bytes, and ends\n");
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Err(_) => return Err(text(StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n")),
    };
    let place = Arc::clone(&shared.places).try_acquire_owned().map_err(|_| refuse(call, &Refusal::Busy))?;
    // A task of its own: what is stored must be remembered even if nobody waits for the answer any more.
    let task = shared.tasks.spawn(async move {
        let _place = place;
        match call {
            Call::AddCheckpoint => shared.cosigner.add_checkpoint(body).await,
            Call::SignSubtree => shared.cosigner.sign_subtree(body).await,
        }
    });
    task.await.unwrap_or_else(|died| Err(Refusal::from(died))).map_err(|refusal| refuse(call, &refusal))
}

/// The answer that the specification has for a refusal.
fn refuse(call: Call, refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::UnknownLog => StatusCode::NOT_FOUND,
        Refusal::Untrusted(_) => StatusCode::FORBIDDEN,
        Refusal::Conflict(size) => return conflict(*size),
        Refusal::EmptyRoot | Refusal::Fork | Refusal::Proof(_) | Refusal::Violation(_) | Refusal::Cosign(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Refusal::Busy => StatusCode::TOO_MANY_REQUESTS,
        Refusal::NotAudited(_) | Refusal::Clock(_) | Refusal::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Task(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() && !matches!(refusal, Refusal::NotAudited(_)) {
        tracing::error!(call = call.name(), "{refusal}");
    } else {
        tracing::debug!(call = call.name(), %status, "{refusal}");
    }
    let mut response = text(status, format!("{refusal}\n"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, AGAIN);
    }
    response
}

/// The size that the client should have begun from.
fn conflict(size: u64) -> Response {
    (StatusCode::CONFLICT, [(CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
}

fn text(status: StatusCode, body: impl Display) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.to_string()).into_response()
}

/// The latest cosigned checkpoint of a log (c2sp.org/tlog-witness, "Monitor Retrieval Mechanism").
async fn checkpoint(State(shared): State<Shared>, Path(origin): Path<String>) -> Response {
    let Some(signed) = shared.cosigner.latest(&origin) else {
        return text(StatusCode::NOT_FOUND, "no checkpoint of this log was cosigned\n");
    };
    let headers: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-cache"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, text(StatusCode::OK, signed)).into_response()
}
