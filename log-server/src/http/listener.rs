//! The limits within which the log serves its clients.

use std::time::Duration;

use taglog_service::listener::{self, Limits};
use tokio::net::TcpListener;

use super::{AppState, router};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may live, so that clients who read slowly do not hold it for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// How long requests under way may take to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves until `stop`. Each connection holds the way to the sequencer, which ends when all are gone.
pub async fn serve(listener: TcpListener, state: AppState, max_connections: usize, stop: impl Future<Output = ()>) {
    let limits = Limits {
        connections: max_connections,
        head: HEADER_TIMEOUT,
        lifetime: CONNECTION_LIFETIME,
        drain: DRAIN_TIMEOUT,
    };
    listener::serve(listener, router(state), limits, stop).await;
}
