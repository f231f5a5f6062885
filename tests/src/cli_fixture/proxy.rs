//! A relay between a user and a log that changes requests or responses, and a server that is no log.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::Server;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use tokio::task::AbortHandle;

/// Maps a path and a body to the body that is passed on.
type Edit = Box<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// What a relay answers by itself.
#[derive(Clone, Copy, Debug)]
pub enum RelayAnswer {
    /// 503 with a problem of this type.
    Unavailable(&'static str),
    /// Nothing, on a connection that stays open.
    Silence,
}

/// The relay's own answer for a path; `None` passes the request on.
type Instead = Box<dyn Fn(&str) -> Option<RelayAnswer> + Send + Sync>;

struct Relay {
    upstream: String,
    client: reqwest::Client,
    instead: Instead,
    request: Edit,
    answer: Edit,
}

/// A relay in front of a real log. Dropping it closes it.
pub struct Proxy {
    pub url: String,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Passes everything on as it is.
    pub fn honest(server: &Server) -> Proxy {
        Proxy::start(server, Box::new(|_, body| body), Box::new(|_, body| body))
    }

    /// Changes the bodies of requests.
    pub fn asking(server: &Server, edit: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Proxy {
        Proxy::start(server, Box::new(edit), Box::new(|_, body| body))
    }

    /// Changes the bodies of responses.
    pub fn answering(server: &Server, edit: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Proxy {
        Proxy::start(server, Box::new(|_, body| body), Box::new(edit))
    }

    /// Changes the text of answers to calls whose path has `part`. The change must change something.
    pub fn editing(
        server: &Server,
        part: &'static str,
        edit: impl Fn(String) -> String + Send + Sync + 'static,
    ) -> Proxy {
        Proxy::answering(server, move |path, body| {
            if !path.contains(part) {
                return body;
            }
            let text = String::from_utf8(body).unwrap();
            let edited = edit(text.clone());
            assert_ne!(edited, text, "the edit changes nothing: {path}");
            edited.into_bytes()
        })
    }

    /// Answers some requests itself and does not pass them on.
    pub fn instead(server: &Server, instead: impl Fn(&str) -> Option<RelayAnswer> + Send + Sync + 'static) -> Proxy {
        Proxy::start_with(server, Box::new(instead), Box::new(|_, body| body), Box::new(|_, body| body))
    }

    /// Answers some requests itself, and changes the responses to others.
    pub fn instead_and_answering(
        server: &Server,
        instead: impl Fn(&str) -> Option<RelayAnswer> + Send + Sync + 'static,
        edit: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Proxy {
        Proxy::start_with(server, Box::new(instead), Box::new(|_, body| body), Box::new(edit))
    }

    fn start(server: &Server, request: Edit, answer: Edit) -> Proxy {
        Proxy::start_with(server, Box::new(|_| None), request, answer)
    }

    fn start_with(server: &Server, instead: Instead, request: Edit, answer: Edit) -> Proxy {
        let client = server.client.clone();
        let relay = Arc::new(Relay { upstream: server.url.clone(), client, instead, request, answer });
        let router = axum::Router::new().fallback(pass_on).with_state(relay);
        let listener = super::wait(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = super::runtime().spawn(async move { axum::serve(listener, router).await });
        Proxy { url, task: task.abort_handle() }
    }
}

async fn pass_on(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    match (relay.instead)(&path) {
        Some(RelayAnswer::Unavailable(kind)) => return unavailable(kind),
        Some(RelayAnswer::Silence) => return std::future::pending().await,
        None => {}
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let mut onward = relay.client.request(head.method, format!("{}{path}", relay.upstream));
    if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
        onward = onward.header(CONTENT_TYPE, content_type);
    }
    let Ok(answer) = onward.body((relay.request)(&path, body)).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, content_type) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    let bytes = answer.bytes().await.unwrap().to_vec();
    let bytes = if status.is_success() { (relay.answer)(&path, bytes) } else { bytes };
    let mut response = Response::builder().status(status);
    if let Some(content_type) = content_type {
        response = response.header(CONTENT_TYPE, content_type);
    }
    response.body(Body::from(bytes)).unwrap()
}

fn unavailable(kind: &str) -> Response {
    let problem = serde_json::json!({
        "type": format!("urn:taglog:problem:{kind}"),
        "title": kind,
        "status": 503,
        "detail": "as the test wants it",
    });
    let content_type = [(CONTENT_TYPE, "application/problem+json")];
    (StatusCode::SERVICE_UNAVAILABLE, content_type, problem.to_string()).into_response()
}

/// What a [`FakeServer`] does once it has read a request.
#[derive(Clone, Copy, Debug)]
pub enum FakeServerMode {
    /// Sends these bytes and closes.
    Sends(&'static str),
    /// Sends these bytes, then zeroes without end.
    NeverEnds(&'static str),
    /// Sends these bytes, then nothing, and stays connected.
    Stalls(&'static str),
}

/// A server that is no log, and need not even speak HTTP. Dropping it closes it.
pub struct FakeServer {
    pub url: String,
    address: String,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Starts it on a free port.
    pub fn start(mode: FakeServerMode) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let closing = Arc::new(AtomicBool::new(false));
        let is_closing = Arc::clone(&closing);
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_closing.load(SeqCst) {
                    break;
                }
                // Ends when the other side closes.
                std::thread::spawn(move || answer(stream, mode));
            }
        };
        let thread = Some(std::thread::spawn(accept));
        FakeServer { url: format!("http://{address}"), address, closing, thread }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.closing.store(true, SeqCst);
        // Wakes the thread, so that it sees that it shall end.
        if TcpStream::connect(&self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

/// Writing fails when the client closes the connection, which is what the tests want.
fn answer(mut stream: TcpStream, mode: FakeServerMode) {
    read_request(&mut stream);
    match mode {
        FakeServerMode::Sends(text) => drop(stream.write_all(text.as_bytes())),
        FakeServerMode::NeverEnds(head) => {
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&[b'0'; 1 << 16]);
            }
        }
        FakeServerMode::Stalls(head) => {
            drop(stream.write_all(head.as_bytes()));
            // Until the other side closes.
            drop(stream.read_to_end(&mut Vec::new()));
        }
    }
}

/// Reads the whole request: closing a connection with unread bytes would reset it.
fn read_request(stream: &mut TcpStream) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    drop(stream.set_read_timeout(Some(Duration::from_secs(30))));
    while !is_whole(&request) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
