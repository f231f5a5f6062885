//! A receiver of alarms.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::cli_fixture::{runtime, wait};

#[derive(Default)]
struct Inbox {
    failures: AtomicUsize,
    received: Mutex<Vec<Value>>,
}

/// Keeps the alarms that are posted to it. Dropping it closes it.
pub struct Webhook {
    pub url: String,
    inbox: Arc<Inbox>,
    task: AbortHandle,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    /// Answers the first requests with an error, this many.
    pub fn failing_first(failures: usize) -> Webhook {
        let inbox = Arc::new(Inbox { failures: AtomicUsize::new(failures), ..Inbox::default() });
        let router = Router::new().route("/alarms", post(take)).with_state(Arc::clone(&inbox));
        let listener = wait(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/alarms", listener.local_addr().unwrap());
        let task = runtime().spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Webhook { url, inbox, task }
    }

    pub fn received(&self) -> Vec<Value> {
        self.inbox.received.lock().unwrap().clone()
    }
}

async fn take(State(inbox): State<Arc<Inbox>>, Json(alarm): Json<Value>) -> StatusCode {
    let fails = inbox.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    if fails {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    inbox.received.lock().unwrap().push(alarm);
    StatusCode::OK
}
