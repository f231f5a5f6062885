//! The HTTP listener of long-running programs, with limits on connections, on slow clients and on the time of a shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
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
use tokio_util::sync::CancellationToken;

/// Limits for all clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once.
    pub connections: usize,
    /// The time for a client to send the head of a request.
    pub head: Duration,
    /// The lifetime of a connection, so that a client that reads slowly does not occupy it forever.
    pub lifetime: Duration,
    /// The time for requests in progress to end at shutdown.
    pub drain: Duration,
}

/// The limits of a [`Listener`]. The drain time is short: an incomplete request must not delay a reload.
const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(10),
    lifetime: Duration::from_secs(600),
    drain: Duration::from_secs(2),
};

/// A listening socket that stays open while the configuration is reloaded, so that no request is refused meanwhile.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    asked_for: SocketAddr,
}

impl Listener {
    /// Listens at an address; with port 0, at a free port.
    pub fn bind(address: SocketAddr) -> std::io::Result<Listener> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Listener { socket, asked_for: address })
    }

    /// The address given to [`bind`](Self::bind), before a free port was chosen.
    pub fn asked_for(&self) -> SocketAddr {
        self.asked_for
    }

    /// The address with the actual port.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves HTTP/1.1 until `stop` is cancelled; requests in progress then have a short time to end.
    pub async fn serve(self: Arc<Self>, router: Router, stop: CancellationToken) -> std::io::Result<()> {
        let listener = TcpListener::from_std(self.socket.try_clone()?)?;
        serve(listener, router, LIMITS, stop.cancelled()).await;
        Ok(())
    }
}

/// Serves HTTP/1.1 until `stop`; requests in progress then have the drain time to end, and all connections are closed when
/// this returns. (HTTP/2 is for a proxy in front: one protocol has one set of time limits.)
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        // Removes ended connections from the set.
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accepted else { continue };
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            let _place = place;
            // Errors of a connection concern only its client.
            let _ = tokio::time::timeout(limits.lifetime, connection).await;
        });
    }
    // No new connection is accepted, and the state behind the router is dropped with the last connection.
    drop((listener, router));
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not finish in time: their connections are closed");
    }
    connections.shutdown().await;
}

/// Accepts the next connection once fewer than the limit are open.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Responses are written whole; waiting for more to send only delays them.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Probably out of file descriptors: without a pause this would be a busy loop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: agent\r\n\r\n";

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn served(limits: Limits) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (router, stopped) = (Router::new().route("/healthz", get(|| async { "ok" })), stop.clone());
        let task = tokio::spawn(async move { serve(listener, router, limits, stopped.cancelled()).await });
        Served { address, stop, task }
    }

    impl Served {
        async fn client(&self, request: &[u8]) -> TcpStream {
            let mut client = TcpStream::connect(self.address).await.unwrap();
            client.write_all(request).await.unwrap();
            client
        }
    }

    async fn is_answered(client: &mut TcpStream, within: Duration) -> bool {
        let mut start = [0; 12];
        let read = tokio::time::timeout(within, client.read_exact(&mut start)).await;
        read.is_ok_and(|read| read.is_ok() && start == *b"HTTP/1.1 200")
    }

    #[tokio::test]
    async fn an_incomplete_request_does_not_delay_the_shutdown() {
        let served = served(Limits { head: 10 * PATIENCE, drain: Duration::from_millis(50), ..LIMITS }).await;
        let mut client = served.client(&REQUEST[..10]).await;
        assert!(is_answered(&mut served.client(REQUEST).await, PATIENCE).await, "both connections are accepted");
        served.stop.cancel();
        tokio::time::timeout(PATIENCE, served.task).await.expect("it still waits for the client").unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the connection is cut");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait() {
        let served = served(Limits { connections: 2, ..LIMITS }).await;
        let (mut first, mut second) = (served.client(REQUEST).await, served.client(REQUEST).await);
        assert!(is_answered(&mut first, PATIENCE).await && is_answered(&mut second, PATIENCE).await);
        let mut third = served.client(REQUEST).await;
        assert!(!is_answered(&mut third, Duration::from_millis(200)).await, "both places are taken");
        drop(first);
        assert!(is_answered(&mut third, PATIENCE).await, "a place is free");
    }

    #[tokio::test]
    async fn an_incomplete_request_times_out() {
        let served = served(Limits { connections: 1, head: Duration::from_millis(50), ..LIMITS }).await;
        let _half = served.client(&REQUEST[..10]).await;
        assert!(is_answered(&mut served.client(REQUEST).await, PATIENCE).await, "the place is still taken");
    }
}
