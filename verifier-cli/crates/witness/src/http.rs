//! The HTTP routes of the agent: metrics, health and pushes.

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

use super::push::{self, PollRequest, PushSource};

/// All routes. They are served once everything is started, so `/readyz` is always positive.
pub fn router(sources: &[PushSource], poll_requests: mpsc::Sender<PollRequest>, metrics: PrometheusHandle) -> Router {
    let render = move || {
        let text = metrics.render();
        async move { text }
    };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .merge(push::router(sources, poll_requests))
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here; see /metrics, /healthz, /readyz\n") })
}
