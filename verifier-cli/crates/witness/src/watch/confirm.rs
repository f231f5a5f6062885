//! Confirms periodically that what was reported of a repository still holds.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{WatchedRepository, resolver::Reporter};

/// Confirms repositories as they become due, until `stop` is cancelled.
pub async fn keep_confirming(reporter: Reporter, repositories: Vec<Arc<WatchedRepository>>, stop: CancellationToken) {
    let pause = (reporter.confirm / 20).clamp(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        confirm_all(&reporter, &repositories).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Confirms every repository that is due now.
pub async fn confirm_all(reporter: &Reporter, repositories: &[Arc<WatchedRepository>]) {
    for watched in repositories {
        match reporter.confirm_if_due(watched).await {
            Ok(true) => {
                let registry = watched.repository().registry().to_owned();
                metrics::counter!("taglog_witness_reports_total", "registry" => registry, "kind" => "confirmation")
                    .increment(1);
            }
            Ok(false) => {}
            // The alarm was raised; the repository stays due.
            Err(error) => tracing::warn!(repository = %watched.repository(), "not confirmed: {error}"),
        }
    }
}
