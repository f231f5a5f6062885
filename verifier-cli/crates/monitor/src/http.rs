//! What the monitor serves: metrics and health.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

/// Whether the monitor has audited what the log shows; if not, why not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness(Arc::new(Mutex::new(Err("the first audit is under way".to_owned()))))
    }
}

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    /// What it is now.
    pub fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All routes. What is served is alive; it is ready once the newest checkpoint is audited.
pub fn router(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    let render = move || {
        let text = metrics.render();
        async move { text }
    };
    let ready = move || {
        let answer = match readiness.get() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        };
        async move { answer }
    };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here; see /metrics, /healthz, /readyz\n") })
}
