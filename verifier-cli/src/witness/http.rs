//! What the agent serves: metrics, health, and the receiver of pushes.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::push::{self, Hint, Source};

/// A socket that outlives a reload of the configuration, so that no push finds the door closed.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    asked_for: SocketAddr,
}

impl Listener {
    /// Listens at an address; port 0 is a free one.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> std::io::Result<Listener> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Listener { socket, asked_for: address })
    }

    /// The address it was made for, before a free port was chosen.
    pub fn asked_for(&self) -> SocketAddr {
        self.asked_for
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// What the system says.
    pub async fn serve(self: Arc<Self>, router: Router, stop: CancellationToken) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket.try_clone()?)?;
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

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
