//! What the real `docker-registry` sends when something is pushed to it, moved and deleted.

// What fails in here fails the test, at the line that says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../oci-registry/tests/registry/common.rs"]
mod common;

use std::{future::ready, time::Duration};

use axum::{http::StatusCode, middleware::map_response, response::Response};
use common::{Layout, RealRegistry, tagged};
use taglog_proto::name::{Repository, Tag};
use taglog_witness::push::{MAX_EVENTS, PollRequest, PushKind, PushSource, Secret, router};
use tokio::{sync::mpsc, time::timeout};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const SECRET: &str = "a secret of some length";
/// How long a notification may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A witness's receiver on loopback, and a registry that notifies it.
struct Listening {
    registry: RealRegistry,
    poll_requests: mpsc::Receiver<PollRequest>,
    /// What each notification was answered.
    answers: mpsc::UnboundedReceiver<StatusCode>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Listening {
    async fn start() -> Self {
        Self::start_with(SECRET, MAX_EVENTS).await
    }

    /// `sent` is the secret that the registry sends, `capacity` how many poll requests fit. The receiver takes the
    /// registry to speak for `registry.example`.
    async fn start_with(sent: &str, capacity: usize) -> Self {
        let (sender, poll_requests) = mpsc::channel(capacity);
        let (answered, answers) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let source = PushSource {
            kind: PushKind::Distribution,
            registry: "registry.example".to_owned(),
            path: "/push/distribution".to_owned(),
            secret: Some(Secret::new(SECRET).unwrap()),
        };
        let app = router(&[source], sender).layer(map_response(move |response: Response| {
            answered.send(response.status()).unwrap();
            ready(response)
        }));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let registry = RealRegistry::start_with(&format!(
            "notifications:\n  endpoints:\n    - name: taglog\n      url: http://{address}/push/distribution\n      \
             headers:\n        Authorization: [Bearer {sent}]\n      timeout: 10s\n      threshold: 5\n      \
             backoff: 100ms\n"
        ))
        .await;
        Self { registry, poll_requests, answers, server }
    }

    /// Pushes `main` of a layout as `team/app:<tag>`.
    fn push(&self, layout: &Layout, tag: &str) {
        layout.push(&tagged(&self.registry.repository("team/app"), tag), None);
    }

    /// Waits until a notification has been answered with `status`, `times` times.
    async fn answered(&mut self, status: u16, times: usize) {
        let wait = async {
            let mut left = times;
            while left > 0 {
                left -= usize::from(self.answers.recv().await.unwrap() == status);
            }
        };
        timeout(PATIENCE, wait).await.expect("these answers in time");
    }

    /// Waits for exactly these poll requests, in any order, since registries do not guarantee one.
    async fn expect(&mut self, tags: &[Option<&str>]) {
        let mut got = Vec::new();
        while got.len() < tags.len() {
            got.push(timeout(PATIENCE, self.poll_requests.recv()).await.expect("a notification in time").unwrap());
        }
        let mut want: Vec<PollRequest> = tags.iter().map(|tag| poll_request(*tag)).collect();
        for list in [&mut got, &mut want] {
            list.sort_by(|a, b| a.tag.cmp(&b.tag));
        }
        assert_eq!(got, want);
        assert!(self.poll_requests.try_recv().is_err());
    }
}

fn poll_request(tag: Option<&str>) -> PollRequest {
    let repository = Repository::parse("registry.example/team/app").unwrap();
    PollRequest { repository, tag: tag.map(|tag| Tag::parse(tag).unwrap()) }
}

#[tokio::test]
async fn pushes_moves_and_deletions_are_notified() {
    let mut listening = Listening::start().await;
    let layout = Layout::new();
    let first = layout.image("amd64");
    layout.main(OCI_IMAGE, &first);
    listening.push(&layout, "1.0");
    listening.expect(&[Some("1.0")]).await;

    // A second tag of the same image, and the first one moved to another.
    listening.push(&layout, "same");
    listening.expect(&[Some("same")]).await;
    layout.main(OCI_IMAGE, &layout.image("arm64"));
    listening.push(&layout, "1.0");
    listening.expect(&[Some("1.0")]).await;

    // The registry tells of the digest, and of every tag that pointed to it.
    listening.registry.delete_manifest("team/app", &first.digest).await;
    listening.expect(&[None, Some("same")]).await;
}

#[tokio::test]
async fn platforms_pushed_by_digest_move_no_tag() {
    let mut listening = Listening::start().await;
    let layout = Layout::new();
    layout.main(OCI_INDEX, &layout.index(&["amd64", "arm64"]));
    listening.push(&layout, "multi");
    listening.expect(&[Some("multi")]).await;
}

#[tokio::test]
async fn a_registry_with_the_wrong_secret_is_refused() {
    let mut listening = Listening::start_with("another secret of that length", 10).await;
    let layout = Layout::new();
    layout.main(OCI_IMAGE, &layout.image("amd64"));
    listening.push(&layout, "1.0");
    listening.answered(401, 3).await;
    assert!(listening.poll_requests.try_recv().is_err());
}

#[tokio::test]
async fn a_push_that_did_not_fit_is_repeated() {
    let mut listening = Listening::start_with(SECRET, 1).await;
    let layout = Layout::new();
    layout.main(OCI_IMAGE, &layout.image("amd64"));
    listening.push(&layout, "1.0");
    listening.push(&layout, "2.0");
    listening.answered(429, 3).await;
    listening.expect(&[Some("1.0"), Some("2.0")]).await;
}
