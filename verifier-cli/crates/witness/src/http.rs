//! What the agent serves: metrics, health, and the receiver of pushes.

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

use super::push::{self, Hint, Source};

/// All routes. What is served once everything is up is ready.
pub fn router(sources: &[Source], hints: mpsc::Sender<Hint>, metrics: PrometheusHandle) -> Router {
    let render = move || {
        let text = metrics.render();
        async move { text }
    };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .merge(push::router(sources, hints))
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here; see /metrics, /healthz, /readyz\n") })
}
