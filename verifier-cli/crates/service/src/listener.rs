//! How long-running commands serve HTTP: bounded in connections, in what a client may take, and in the time that a
//! stop takes.

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

/// What clients, known or not, may take.
#[derive(Clone, Copy)]
struct Limits {
    /// How many connections there may be at once.
    connections: usize,
    /// How long a client may take to send the head of a request.
    head: Duration,
    /// How long one connection may live, so that clients who read slowly do not hold it for ever.
    lifetime: Duration,
    /// How long requests under way may take to end when the program stops.
    drain: Duration,
}

const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(10),
    lifetime: Duration::from_secs(600),
    drain: Duration::from_secs(2),
};

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

    /// Serves HTTP/1.1 until told to stop; requests under way have a moment to end then.
    ///
    /// # Errors
    /// What the system says.
    pub async fn serve(self: Arc<Self>, router: Router, stop: CancellationToken) -> std::io::Result<()> {
        let listener = TcpListener::from_std(self.socket.try_clone()?)?;
        serve(&listener, &router, LIMITS, &stop).await;
        Ok(())
    }
}

async fn serve(listener: &TcpListener, router: &Router, limits: Limits, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(listener, &places) => accepted,
        };
        // Those that have ended are forgotten here, so that the set follows what is open.
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accepted else { continue };
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            let _place = place;
            // Errors of a connection are its client's; there is nobody left to tell.
            let _ = tokio::time::timeout(limits.lifetime, connection).await;
        });
    }
    // Whoever is not done by then is cut off: half a request must not hold up a reload.
    let _ = tokio::time::timeout(limits.drain, graceful.shutdown()).await;
    connections.shutdown().await;
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of file descriptors, most likely: without a pause this would spin.
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
        let task = tokio::spawn(async move { serve(&listener, &router, limits, &stopped).await });
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
    async fn half_a_request_does_not_hold_up_the_end() {
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
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let served = served(Limits { connections: 2, ..LIMITS }).await;
        let (mut first, mut second) = (served.client(REQUEST).await, served.client(REQUEST).await);
        assert!(is_answered(&mut first, PATIENCE).await && is_answered(&mut second, PATIENCE).await);
        let mut third = served.client(REQUEST).await;
        assert!(!is_answered(&mut third, Duration::from_millis(200)).await, "both places are taken");
        drop(first);
        assert!(is_answered(&mut third, PATIENCE).await, "a place is free");
    }

    #[tokio::test]
    async fn half_a_request_gives_its_place_up() {
        let served = served(Limits { connections: 1, head: Duration::from_millis(50), ..LIMITS }).await;
        let _half = served.client(&REQUEST[..10]).await;
        assert!(is_answered(&mut served.client(REQUEST).await, PATIENCE).await, "the place is still taken");
    }
}
