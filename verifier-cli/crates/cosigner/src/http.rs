//! The HTTP interface of the cosigner: `add-checkpoint`, `sign-subtree`, the latest checkpoints, metrics and health.

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

use super::service::{CosignRejection, Cosigner};

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How many requests may be processed at once.
const MAX_REQUESTS: usize = 256;
/// The value of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The state that the handlers share.
#[derive(Clone)]
struct HandlerState {
    cosigner: Arc<Cosigner>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A request of the specification.
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

/// Requests run as `tasks`, to their end even if their client disconnects.
pub fn router(cosigner: Arc<Cosigner>, tasks: TaskTracker, metrics: PrometheusHandle) -> Router {
    let render = move || {
        let text = metrics.render();
        async move { text }
    };
    let subtrees = cosigner.signs_subtrees();
    let shared = HandlerState { cosigner, permits: Arc::new(Semaphore::new(MAX_REQUESTS)), tasks };
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
    let nothing = "no such page; see c2sp.org/tlog-witness, and /metrics, /healthz, /readyz\n";
    router.fallback(move || async move { (StatusCode::NOT_FOUND, nothing) }).with_state(shared)
}

async fn answer(shared: HandlerState, call: Call, body: Body) -> Response {
    let response = match serve(shared, call, body).await {
        Ok(lines) => text(StatusCode::OK, lines.iter().map(NoteSignature::to_string).collect::<String>()),
        Err(response) => response,
    };
    let status = response.status().as_u16().to_string();
    metrics::counter!("taglog_cosigner_requests_total", "call" => call.name(), "status" => status).increment(1);
    response
}

async fn serve(shared: HandlerState, call: Call, body: Body) -> Result<Vec<NoteSignature>, Response> {
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_REQUEST)).await {
        Ok(Ok(body)) => body.to_vec(),
        Ok(Err(_)) => {
            let message = format!("the request is longer than {MAX_REQUEST} bytes, or did not arrive completely\n");
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Err(_) => return Err(text(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n")),
    };
    let permit = Arc::clone(&shared.permits)
        .try_acquire_owned()
        .map_err(|_| rejection_response(call, &CosignRejection::Busy))?;
    // A task of its own: after the record is stored, the state in memory must be updated even if the client
    // disconnects.
    let task = shared.tasks.spawn(async move {
        let _permit = permit;
        match call {
            Call::AddCheckpoint => shared.cosigner.add_checkpoint(body).await,
            Call::SignSubtree => shared.cosigner.sign_subtree(body).await,
        }
    });
    task.await
        .unwrap_or_else(|error| Err(CosignRejection::from(error)))
        .map_err(|rejection| rejection_response(call, &rejection))
}

/// The response that the specification defines for a rejection.
fn rejection_response(call: Call, rejection: &CosignRejection) -> Response {
    let status = match rejection {
        CosignRejection::Malformed(_) => StatusCode::BAD_REQUEST,
        CosignRejection::UnknownLog => StatusCode::NOT_FOUND,
        CosignRejection::Untrusted(_) => StatusCode::FORBIDDEN,
        CosignRejection::Conflict(size) => return conflict(*size),
        CosignRejection::EmptyRoot
        | CosignRejection::Fork
        | CosignRejection::Proof(_)
        | CosignRejection::Violation(_)
        | CosignRejection::Cosign(_) => StatusCode::UNPROCESSABLE_ENTITY,
        CosignRejection::Busy => StatusCode::TOO_MANY_REQUESTS,
        CosignRejection::NotAudited(_) | CosignRejection::Clock(_) | CosignRejection::Store(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CosignRejection::Task(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() && !matches!(rejection, CosignRejection::NotAudited(_)) {
        tracing::error!(call = call.name(), "{rejection}");
    } else {
        tracing::debug!(call = call.name(), %status, "{rejection}");
    }
    let mut response = text(status, format!("{rejection}\n"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

/// The response with the size of the latest cosigned checkpoint.
fn conflict(size: u64) -> Response {
    (StatusCode::CONFLICT, [(CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
}

fn text(status: StatusCode, body: impl Display) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.to_string()).into_response()
}

/// The latest cosigned checkpoint of a log (c2sp.org/tlog-witness, "Monitor Retrieval Mechanism").
async fn checkpoint(State(shared): State<HandlerState>, Path(origin): Path<String>) -> Response {
    let Some(signed) = shared.cosigner.latest(&origin) else {
        return text(StatusCode::NOT_FOUND, "no checkpoint of this log has been cosigned\n");
    };
    let headers: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-cache"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, text(StatusCode::OK, signed)).into_response()
}
