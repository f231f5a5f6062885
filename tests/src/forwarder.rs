//! An address that leads to one server now and to another later, as a log's name does.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::cli_common::{runtime, wait};

#[derive(Default)]
struct Lines {
    upstream: Option<String>,
    open: Vec<AbortHandle>,
}

/// Passes connections on to where it is turned. Dropping it closes them.
pub struct Switch {
    /// Its address.
    pub url: String,
    lines: Arc<Mutex<Lines>>,
    task: AbortHandle,
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Switch {
    /// Leads to this address.
    pub fn to(url: &str) -> Switch {
        let listener = wait(TcpListener::bind("127.0.0.1:0")).unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let lines = Arc::new(Mutex::new(Lines::default()));
        let task = runtime().spawn(accept(listener, Arc::clone(&lines))).abort_handle();
        let switch = Switch { url: own, lines, task };
        switch.turn_to(url);
        switch
    }

    /// From now on, leads to this address. What was on the way is cut off.
    pub fn turn_to(&self, url: &str) {
        self.cut();
        self.lines.lock().unwrap().upstream = Some(url.strip_prefix("http://").unwrap().to_owned());
    }

    /// From now on, leads nowhere.
    pub fn cut(&self) {
        let mut lines = self.lines.lock().unwrap();
        lines.upstream = None;
        lines.open.drain(..).for_each(|line| line.abort());
    }
}

async fn accept(listener: TcpListener, lines: Arc<Mutex<Lines>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut lines = lines.lock().unwrap();
        let Some(upstream) = lines.upstream.clone() else { continue };
        let line = runtime().spawn(async move {
            if let Ok(mut far) = TcpStream::connect(upstream).await {
                // Ends when either side does.
                drop(copy_bidirectional(&mut near, &mut far).await);
            }
        });
        lines.open.push(line.abort_handle());
    }
}
