//! Metrics in the format of Prometheus.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::state::AppState;
use crate::publisher::status;

/// Upper bounds of the buckets for request durations, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Installs the recorder, once in a process.
pub fn install() -> Result<PrometheusHandle, String> {
    let duration = Matcher::Full("taglog_http_request_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(duration, &BUCKETS);
    let handle = builder.and_then(PrometheusBuilder::install_recorder).map_err(|error| error.to_string())?;
    metrics::describe_counter!("taglog_entries_total", "Entries written since the start, rosters and seals included");
    metrics::describe_counter!("taglog_batches_total", "Batches sealed since the start");
    metrics::describe_counter!("taglog_clock_refusals_total", "Batches not sealed because the clock had jumped");
    metrics::describe_gauge!("taglog_tree_size", "Entries in the log");
    metrics::describe_gauge!("taglog_published_size", "Entries under the published checkpoint");
    metrics::describe_gauge!("taglog_tags", "Tag records in the index");
    metrics::describe_gauge!("taglog_last_seal_timestamp_seconds", "Time of the last seal");
    metrics::describe_gauge!("taglog_unpublished_entries", "Entries that are committed but not yet published");
    metrics::describe_gauge!("taglog_cosigner_up", "1 if the cosigner answered the last request with a cosignature");
    metrics::describe_gauge!("taglog_cosignature_age_seconds", "Age of the latest cosignature of each cosigner");
    metrics::describe_histogram!("taglog_http_request_seconds", "Time to answer, by route");
    metrics::describe_counter!("taglog_http_requests_total", "Requests, by route and status");
    Ok(handle)
}

/// `GET /metrics`.
pub async fn render(State(state): State<AppState>) -> String {
    status::record_ages(&state.publisher_state.statuses.borrow());
    metrics::gauge!("taglog_unpublished_entries").set(state.unpublished() as f64);
    state.metrics.run_upkeep();
    state.metrics.render()
}

/// Counts and times every request under its route, not its path: clients must not be able to create new series.
pub async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |p| p.as_str().to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("taglog_http_request_seconds", "route" => route.clone()).record(start.elapsed().as_secs_f64());
    metrics::counter!("taglog_http_requests_total", "route" => route, "status" => status).increment(1);
    response
}
