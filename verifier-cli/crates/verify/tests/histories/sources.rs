//! Documents come from the log first, then from the registry, and are verified.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use taglog_log_client::LogClient;
use taglog_oci_registry::{Login, Registry, RegistryError, RegistryOptions};
use taglog_proto::name::{Digest, Repository};
use taglog_verify::rebuilt::{DocumentKind, MAX_CONFIGURATION, ManifestSource, RemoteDocuments};

/// What a server answers by path, and which paths it was asked for.
#[derive(Clone, Default)]
struct Pages {
    pages: Arc<Mutex<HashMap<String, Page>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
enum Page {
    Document(Vec<u8>),
    Elsewhere(String),
}

/// A server on a free port of this machine that is a log and a registry at once.
struct Server {
    pages: Pages,
    host: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Server {
        let pages = Pages::default();
        let app = Router::new().fallback(answer).with_state(pages.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { pages, host, task }
    }

    fn serve(&self, path: &str, bytes: &[u8]) {
        self.put(path, Page::Document(bytes.to_vec()));
    }

    fn put(&self, path: &str, page: Page) {
        self.pages.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.pages.asked.lock().unwrap())
    }

    fn repository(&self, path: &str) -> Repository {
        Repository::parse(&format!("{}/{path}", self.host)).unwrap()
    }

    fn log(&self) -> LogClient {
        LogClient::new(&format!("http://{}", self.host), Duration::from_secs(10)).unwrap()
    }

    fn manifests(&self) -> RemoteDocuments {
        RemoteDocuments::new(Some(self.log()), Some(registry()))
    }
}

fn registry() -> Registry {
    Registry::new(RegistryOptions { login: Login::Never, ..RegistryOptions::default() }).unwrap()
}

async fn answer(State(pages): State<Pages>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    pages.asked.lock().unwrap().push(path.clone());
    let page = pages.pages.lock().unwrap().get(&path).cloned();
    match page {
        Some(Page::Document(bytes)) => Body::from(bytes).into_response(),
        Some(Page::Elsewhere(to)) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
        None => {
            let problem = r#"{"type":"urn:taglog:not-found","detail":"not here","status":404}"#;
            (StatusCode::NOT_FOUND, problem).into_response()
        }
    }
}

const DOCUMENT: &[u8] = br#"{"schemaVersion":2}"#;

#[tokio::test]
async fn the_log_comes_first_then_the_registry() {
    let server = Server::start().await;
    let (digest, repository) = (Digest::sha256(DOCUMENT), server.repository("team/app"));
    let kept = format!("/api/v1/manifests/{digest}");
    for (kind, path) in [(DocumentKind::Manifest, "manifests"), (DocumentKind::Configuration, "blobs")] {
        let at_the_registry = format!("/v2/team/app/{path}/{digest}");
        server.serve(&at_the_registry, DOCUMENT);
        let got = server.manifests().get(&repository, &digest, kind).await;
        assert_eq!(got.as_deref(), Ok(DOCUMENT));
        assert_eq!(server.asked(), [kept.clone(), at_the_registry]);
    }
    server.serve(&kept, DOCUMENT);
    let got = server.manifests().get(&repository, &digest, DocumentKind::Manifest).await;
    assert_eq!((got.as_deref(), server.asked()), (Ok(DOCUMENT), vec![kept.clone()]));
    // A log that keeps something else is passed over.
    server.serve(&kept, b"{}");
    let got = server.manifests().get(&repository, &digest, DocumentKind::Manifest).await;
    assert_eq!((got.as_deref(), server.asked().len()), (Ok(DOCUMENT), 2));
}

#[tokio::test]
async fn a_mirror_is_asked_instead_of_the_original() {
    let server = Server::start().await;
    let (digest, asked) = (Digest::sha256(DOCUMENT), server.repository("hub/team/app"));
    server.serve(&format!("/v2/hub/team/app/manifests/{digest}"), DOCUMENT);
    // A host that answers nobody: to ask it would be an error.
    let logged = Repository::parse("registry.invalid/team/app").unwrap();
    let manifests = RemoteDocuments::new(None, Some(registry())).with_mirror(logged.clone(), asked);
    assert_eq!(manifests.get(&logged, &digest, DocumentKind::Manifest).await.as_deref(), Ok(DOCUMENT));
}

#[tokio::test]
async fn a_missing_document_names_both_sources() {
    let server = Server::start().await;
    let digest = Digest::sha256(DOCUMENT);
    let missing =
        server.manifests().get(&server.repository("team/app"), &digest, DocumentKind::Manifest).await.unwrap_err();
    assert!(missing.to_string().starts_with("the log does not keep it; "), "{missing}");
    let nobody =
        RemoteDocuments::new(None, None).get(&server.repository("team/app"), &digest, DocumentKind::Manifest).await;
    assert_eq!(nobody.unwrap_err().to_string(), "no log is configured; no registry is configured");
}

#[tokio::test]
async fn blobs_are_followed_to_other_hosts_and_checked() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let (digest, repository) = (Digest::sha256(DOCUMENT), server.repository("team/app"));
    let path = format!("/v2/team/app/blobs/{digest}");
    server.put(&path, Page::Elsewhere(format!("http://{}/storage?key=1", elsewhere.host)));
    elsewhere.serve("/storage", DOCUMENT);
    let blob = || async { registry().blob(&repository, &digest, MAX_CONFIGURATION).await };
    assert_eq!(blob().await.as_deref(), Ok(DOCUMENT));
    elsewhere.serve("/storage", b"other bytes");
    let claimed = digest.to_string();
    assert!(matches!(blob().await, Err(RegistryError::WrongDigest { claimed: said, actual, .. })
            if said == claimed && actual == Digest::sha256(b"other bytes")));
    let endless = vec![b' '; MAX_CONFIGURATION + 1];
    elsewhere.serve("/storage", &endless);
    assert!(matches!(blob().await, Err(RegistryError::TooLarge { limit: MAX_CONFIGURATION, .. })));
    server.serve(&path, &endless);
    assert!(matches!(blob().await, Err(RegistryError::TooLarge { .. })));
}
