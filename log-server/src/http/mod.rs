//! The HTTP interface (SPEC.md section 6): parses requests, and answers from the published state.

mod cache;
mod candidate;
mod entries;
mod limits;
mod listener;
mod listings;
mod log_info;
mod lookup;
mod manifests;
mod metrics;
mod problem;
mod proofs;
mod state;
mod submission_queue;
mod tiles;

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post, put},
};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer, timeout::RequestBodyTimeoutLayer,
};

pub use listener::serve;
pub use metrics::install as install_metrics;
pub use state::{AppState, PublisherState};
pub use submission_queue::SubmissionQueue;

use limits::{MAX_LOOKUP_BODY, MAX_MANIFEST, MAX_SUBMISSION};
use problem::Problem;

/// How long a client may take to send the next part of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

pub fn router(state: AppState) -> Router {
    let api = Router::new()
        .route("/entries", post(entries::submit).layer(DefaultBodyLimit::max(MAX_SUBMISSION)))
        .route("/candidate/entries", get(candidate::entries))
        .route("/lookup", get(lookup::get).post(lookup::post).layer(DefaultBodyLimit::max(MAX_LOOKUP_BODY)))
        .route("/proof/inclusion", get(proofs::inclusion))
        .route("/proof/consistency", get(proofs::consistency))
        .route("/tags", get(listings::tags))
        .route("/retags", get(listings::retags))
        .route("/digests/{digest}", get(listings::digests))
        .route(
            "/manifests/{digest}",
            put(manifests::put).get(manifests::get).layer(DefaultBodyLimit::max(MAX_MANIFEST)),
        )
        .route("/log", get(log_info::log))
        .route("/openapi.json", get(log_info::openapi));
    Router::new()
        .route("/", get(log_info::welcome))
        .route("/checkpoint", get(tiles::checkpoint))
        .route("/tile/{*path}", get(tiles::tile))
        .nest("/api/v1", api)
        .route("/metrics", get(metrics::render))
        .route("/healthz", get(log_info::healthz))
        .route("/readyz", get(log_info::readyz))
        .fallback(no_such_page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(metrics::measure))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
        .with_state(state)
}

async fn no_such_page() -> Problem {
    Problem::not_found("no such page; /api/v1/openapi.json lists all of them")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this page does not support this method; see /api/v1/openapi.json",
    )
}
