//! An address that leads to one server now and to another later, as a DNS name may.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::cli_fixture::{runtime, wait};

#[derive(Default)]
struct Connections {
    upstream: Option<String>,
    open: Vec<AbortHandle>,
}

/// Passes connections on to where it is turned. Dropping it closes them.
pub struct Forwarder {
    pub url: String,
    connections: Arc<Mutex<Connections>>,
    task: AbortHandle,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Forwarder {
    /// Leads to this address.
    pub fn to(url: &str) -> Forwarder {
        let listener = wait(TcpListener::bind("127.0.0.1:0")).unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(Connections::default()));
        let task = runtime().spawn(accept(listener, Arc::clone(&connections))).abort_handle();
        let forwarder = Forwarder { url: own, connections, task };
        forwarder.turn_to(url);
        forwarder
    }

    /// From now on, leads to this address. What was on the way is cut off.
    pub fn turn_to(&self, url: &str) {
        self.cut();
        self.connections.lock().unwrap().upstream = Some(url.strip_prefix("http://").unwrap().to_owned());
    }

    /// From now on, leads nowhere.
    pub fn cut(&self) {
        let mut connections = self.connections.lock().unwrap();
        connections.upstream = None;
        connections.open.drain(..).for_each(|connection| connection.abort());
    }
}

async fn accept(listener: TcpListener, connections: Arc<Mutex<Connections>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut connections = connections.lock().unwrap();
        let Some(upstream) = connections.upstream.clone() else { continue };
        let connection = runtime().spawn(async move {
            if let Ok(mut far) = TcpStream::connect(upstream).await {
                // Ends when either side does.
                drop(copy_bidirectional(&mut near, &mut far).await);
            }
        });
        connections.open.push(connection.abort_handle());
    }
}
