//! Accepts connections: a bounded number, with time limits against slow clients.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http1::Builder;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{AppState, router};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may live, so that clients who read slowly do not hold it for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// How long requests under way may take to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves HTTP/1.1 until `stop`, then lets requests under way finish. (A proxy in front that speaks
/// HTTP/2 to the world speaks HTTP/1.1 here; one protocol has one set of time limits.)
pub async fn serve(listener: TcpListener, state: AppState, max_connections: usize, stop: impl Future<Output = ()>) {
    let app = router(state);
    let places = Arc::new(Semaphore::new(max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        // Those that have ended are forgotten here, so that the set follows what is open.
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accepted else { continue };
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let service = TowerToHyperService::new(app.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            let _place = place;
            // Errors of a connection are its client's; there is nobody left to tell.
            let _ = tokio::time::timeout(CONNECTION_LIFETIME, connection).await;
        });
    }
    drop((listener, app));
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not finish in time, and are cut off");
    }
    // Each connection holds the way to the sequencer, which ends when all are gone.
    connections.shutdown().await;
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are written whole; waiting for more to send only delays them.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of file descriptors, most likely: without a pause this would spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
