//! The receiver as a whole; each format has its own tests beside it.

use axum::http::{HeaderValue, Method, header};
use futures_util::stream;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SECRET: &str = "a secret of some length";
const KINDS: [PushKind; 4] = [PushKind::Distribution, PushKind::Harbor, PushKind::Github, PushKind::Generic];

fn source(kind: PushKind, secret: Option<&str>) -> PushSource {
    let secret = secret.map(|text| Secret::new(text).unwrap());
    PushSource { kind, registry: "r.example".into(), path: "/push".into(), secret }
}

fn receiver(kind: PushKind, capacity: usize) -> (Arc<PushReceiver>, mpsc::Receiver<PollRequest>) {
    let (sender, poll_requests) = mpsc::channel(capacity);
    (Arc::new(PushReceiver::new(source(kind, Some(SECRET)), sender)), poll_requests)
}

fn request(body: impl Into<Body>) -> Request {
    let authorization = format!("Bearer {SECRET}");
    Request::builder().method(Method::POST).header("authorization", authorization).body(body.into()).unwrap()
}

async fn json_of(response: Response) -> Value {
    let body = axum::body::to_bytes(response.into_body(), MAX_BODY).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// Asserts that an answer is a problem in the log server's style, and gives its detail.
async fn problem(response: Response, status: u16, kind: &str) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let body = json_of(response).await;
    assert_eq!((&body["type"], &body["status"]), (&json!(format!("urn:taglog:problem:{kind}")), &json!(status)));
    body["detail"].as_str().unwrap().to_owned()
}

fn shown(poll_request: &PollRequest) -> String {
    let tag = poll_request.tag.as_ref().map(|tag| format!(":{tag}"));
    format!("{}{}", poll_request.repository, tag.unwrap_or_default())
}

fn queued(poll_requests: &mut mpsc::Receiver<PollRequest>) -> Vec<String> {
    std::iter::from_fn(|| poll_requests.try_recv().ok()).map(|poll_request| shown(&poll_request)).collect()
}

#[tokio::test]
async fn valid_names_are_queued_once_and_others_counted() {
    let (receiver, mut poll_requests) = receiver(PushKind::Generic, 10);
    let images =
        r#"["r.example/b:1","r.example/a","r.example/b:1","other.example/b:1","r.example/B:1","r.example/b:2"]"#;
    let answer = receiver.answer(request(format!(r#"{{"images":{images}}}"#))).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(json_of(answer).await, json!({ "queued": 3, "ignored": 2 }));
    assert_eq!(queued(&mut poll_requests), ["r.example/b:1", "r.example/a", "r.example/b:2"]);
}

#[tokio::test]
async fn invalid_names_alone_are_no_error() {
    let (receiver, mut poll_requests) = receiver(PushKind::Generic, 10);
    let answer = receiver.answer(request(r#"{"repository":"other.example/a"}"#)).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(json_of(answer).await, json!({ "queued": 0, "ignored": 1 }));
    assert!(queued(&mut poll_requests).is_empty());
}

#[tokio::test]
async fn events_of_no_interest_are_204() {
    for (kind, body) in [
        (PushKind::Distribution, r#"{"events":[{"action":"pull","target":{"repository":"a","tag":"1"}}]}"#),
        (PushKind::Harbor, r#"{"type":"PULL_ARTIFACT"}"#),
    ] {
        let (receiver, mut poll_requests) = receiver(kind, 10);
        assert_eq!(receiver.answer(request(body)).await.status(), 204);
        assert!(queued(&mut poll_requests).is_empty());
    }
}

/// Signatures as `openssl dgst -sha256 -hmac` makes them.
#[tokio::test]
async fn github_signs_its_bodies() {
    const PACKAGE: &str = r#"{"action":"published","package":{"name":"app","namespace":"Team","package_type":"CONTAINER","package_version":{"container_metadata":{"tag":{"name":"1.0"}}}}}"#;
    const PING: &str = r#"{"zen":"x"}"#;
    const OF_PACKAGE: &str = "f7a3a1a42b2c9b8a0ad265b85c7b4eef1c7e3c49c5a79722c4288be864e19464";
    const OF_PING: &str = "5db2bf8e9bd789361bc2e7e9e13ae2f2f34eba2cca9f2a4fc71a2f501f99d82b";
    let (receiver, mut poll_requests) = receiver(PushKind::Github, 10);
    let signed = |event: &str, body: &'static str, signature: &str| {
        let request = Request::builder().header("x-hub-signature-256", format!("sha256={signature}"));
        receiver.clone().answer(request.header("x-github-event", event).body(Body::from(body)).unwrap())
    };
    assert_eq!(signed("ping", PING, OF_PING).await.status(), 204);
    assert_eq!(signed("package", PACKAGE, OF_PACKAGE).await.status(), 202);
    assert_eq!(queued(&mut poll_requests), ["r.example/team/app:1.0"]);
    problem(signed("package", PACKAGE, OF_PING).await, 401, "unauthorized").await;
    assert!(queued(&mut poll_requests).is_empty());

    let request = Request::builder().header("x-hub-signature-256", format!("sha256={OF_PING}"));
    let answer = receiver.clone().answer(request.body(Body::from(PING)).unwrap()).await;
    assert!(problem(answer, 400, "malformed-request").await.contains("X-GitHub-Event"));
}

#[tokio::test]
async fn unauthenticated_senders_are_refused_before_their_body_is_read() {
    for kind in KINDS {
        let (receiver, mut poll_requests) = receiver(kind, 10);
        for authorization in [None, Some("Bearer another secret of that length")] {
            // A body that never comes: whoever waits for it hangs.
            let mut request = Request::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
            if let Some(value) = authorization {
                request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            let answer = tokio::time::timeout(BODY_TIME / 2, receiver.clone().answer(request)).await.unwrap();
            assert!(answer.headers().contains_key(header::WWW_AUTHENTICATE));
            problem(answer, 401, "unauthorized").await;
            assert!(queued(&mut poll_requests).is_empty());
        }
    }
}

#[tokio::test]
async fn without_a_secret_anyone_may_post() {
    let (sender, mut poll_requests) = mpsc::channel(10);
    let receiver = Arc::new(PushReceiver::new(source(PushKind::Generic, None), sender));
    let answer = receiver.answer(Request::new(Body::from(r#"{"repository":"r.example/a"}"#))).await;
    assert_eq!((answer.status(), queued(&mut poll_requests).len()), (StatusCode::ACCEPTED, 1));
}

#[tokio::test]
async fn garbage_is_refused() {
    for kind in [PushKind::Distribution, PushKind::Harbor, PushKind::Generic] {
        let (receiver, _hints) = receiver(kind, 10);
        problem(receiver.answer(request("\x1b[2J")).await, 400, "malformed-request").await;
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let body = |length: usize| {
        let mut body = br#"{"images":["r.example/a"]}"#.to_vec();
        body.resize(length, b' ');
        body
    };
    let (receiver, mut poll_requests) = receiver(PushKind::Generic, 10);
    assert_eq!(receiver.clone().answer(request(body(MAX_BODY))).await.status(), 202);
    assert_eq!(queued(&mut poll_requests).len(), 1);
    problem(receiver.clone().answer(request(body(MAX_BODY + 1))).await, 413, "body-too-large").await;
    // The same without a length that is known beforehand.
    let parts = stream::iter(
        body(MAX_BODY + 1).chunks(9999).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>(),
    );
    problem(receiver.clone().answer(request(Body::from_stream(parts))).await, 413, "body-too-large").await;
    assert!(queued(&mut poll_requests).is_empty());
}

#[tokio::test]
async fn bodies_that_do_not_arrive() {
    let slow = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let error = read(slow, Duration::from_millis(20)).await.unwrap_err();
    problem(error.into_response(), 408, "body-incomplete").await;
    let broken = Body::from_stream(stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("reset"))]));
    let error = read(broken, BODY_TIME).await.unwrap_err();
    problem(error.into_response(), 408, "body-incomplete").await;
}

#[tokio::test]
async fn a_full_channel_takes_all_hints_of_a_push_or_none() {
    let (receiver, mut poll_requests) = receiver(PushKind::Generic, 3);
    let push = |images: &str| receiver.clone().answer(request(format!(r#"{{"images":[{images}]}}"#)));
    assert_eq!(push(r#""r.example/a","r.example/b""#).await.status(), 202);
    let answer = push(r#""r.example/c","r.example/d""#).await;
    assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
    problem(answer, 429, "overloaded").await;
    assert_eq!(push(r#""r.example/e""#).await.status(), 202);
    assert_eq!(queued(&mut poll_requests), ["r.example/a", "r.example/b", "r.example/e"]);
    assert_eq!(push(r#""r.example/c","r.example/d""#).await.status(), 202);

    drop(poll_requests);
    let answer = push(r#""r.example/a""#).await;
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    problem(answer, 503, "stopping").await;
}

/// Waits until so many places are free.
async fn free_places(receiver: &PushReceiver, count: usize) {
    let wait = async {
        while receiver.places.available_permits() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BODY_TIME / 2, wait).await.unwrap();
}

#[tokio::test]
async fn few_pushes_are_read_at_once() {
    let (receiver, _hints) = receiver(PushKind::Generic, 10);
    let slow = || {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        tokio::spawn(receiver.clone().answer(request(never)))
    };
    let waiting: Vec<_> = std::iter::repeat_with(slow).take(MAX_AT_ONCE).collect();
    free_places(&receiver, 0).await;
    problem(receiver.clone().answer(request("{}")).await, 429, "overloaded").await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    free_places(&receiver, MAX_AT_ONCE).await;
    problem(receiver.answer(request("{}")).await, 400, "malformed-request").await;
}

#[tokio::test]
async fn each_source_has_its_path() {
    let (sender, mut poll_requests) = mpsc::channel(10);
    let at = |path: &str, registry: &str, kind| PushSource {
        path: path.into(),
        registry: registry.into(),
        ..source(kind, None)
    };
    let sources =
        [at("/push/a", "a.example", PushKind::Generic), at("/push/b", "b.example:5000", PushKind::Distribution)];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router(&sources, sender)).into_future());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let status = async |method: Method, path: &str, body: &'static str| {
        http.request(method, format!("http://{address}{path}")).body(body).send().await.unwrap().status()
    };
    let event = r#"{"events":[{"action":"push","target":{"repository":"x","tag":"1"}}]}"#;
    assert_eq!(status(Method::POST, "/push/a", r#"{"repository":"a.example/x"}"#).await, 202);
    assert_eq!(status(Method::POST, "/push/b", event).await, 202);
    assert_eq!(status(Method::POST, "/push/a", event).await, 400);
    assert_eq!(status(Method::POST, "/push/c", event).await, 404);
    assert_eq!(status(Method::POST, "/push/a/", event).await, 404);
    assert_eq!(status(Method::GET, "/push/a", "").await, 405);
    assert_eq!(queued(&mut poll_requests), ["a.example/x", "b.example:5000/x:1"]);
    server.abort();
}

#[test]
fn paths() {
    for good in ["/", "/push/harbor", "/a-b_c.d/E2"] {
        assert!(check_path(good).is_ok(), "{good:?}");
        let (sender, _hints) = mpsc::channel(1);
        let _ = router(&[PushSource { path: good.into(), ..source(PushKind::Generic, None) }], sender);
    }
    for bad in ["", "push", "/{x}", "/{*x}", "/:x", "/*x", "/a b", "/é", "/a?b", "/a#b", "/%2f"] {
        assert!(check_path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn kinds_as_configurations_write_them() {
    let read: Vec<PushKind> = serde_json::from_str(r#"["distribution","harbor","github","generic"]"#).unwrap();
    assert_eq!(read, KINDS);
}

/// JSON out of the words that the formats look for.
fn json_like_a_push() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "events",
        "action",
        "push",
        "delete",
        "target",
        "mediaType",
        "repository",
        "tag",
        "type",
        "PUSH_ARTIFACT",
        "harbor.artifact.deleted",
        "data",
        "event_data",
        "resources",
        "repo_full_name",
        "package",
        "registry_package",
        "package_type",
        "container",
        "published",
        "package_version",
        "package_url",
        "container_metadata",
        "name",
        "namespace",
        "images",
        "team/app",
        "r.example/a:1",
        "1.0",
        "",
    ]);
    let leaf = prop_oneof![
        4 => word.clone().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        let object = prop::collection::hash_map(word.clone(), inner.clone(), 0..6);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
            3 => object.prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn takes_anything(body: &[u8]) -> Result<(), TestCaseError> {
    for (kind, event) in KINDS.iter().flat_map(|kind| [(*kind, "package"), (*kind, "registry_package")]) {
        let (receiver, _hints) = receiver(kind, 1);
        let headers = HeaderMap::from_iter([("x-github-event".parse().unwrap(), HeaderValue::from_static(event))]);
        let Ok(claims) = receiver.claims(&headers, body) else { continue };
        let (poll_requests, ignored) = receiver.poll_requests_of(&claims);
        prop_assert!(poll_requests.len() + ignored <= claims.len());
        prop_assert!(poll_requests.iter().all(|poll_request| poll_request.repository.registry() == "r.example"));
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes(body in prop::collection::vec(any::<u8>(), 0..512)) {
        takes_anything(&body)?;
    }

    #[test]
    fn arbitrary_json(body in json_like_a_push()) {
        takes_anything(body.to_string().as_bytes())?;
    }

    #[test]
    fn arbitrary_names(path in any::<String>(), tag in any::<String>()) {
        let event = json!({ "action": "push", "target": { "repository": path, "tag": tag, "mediaType": "a.manifest.b" } });
        takes_anything(json!({ "events": [event] }).to_string().as_bytes())?;
        takes_anything(json!({ "repository": path, "tag": tag }).to_string().as_bytes())?;
        takes_anything(json!({ "repository": format!("r.example/{path}") }).to_string().as_bytes())?;
    }

    #[test]
    fn arbitrary_secrets(text in "[ -~]{14,20}", other in "[ -~]{14,20}") {
        let secret = Secret::new(&text);
        prop_assert_eq!(secret.is_ok(), text.len() >= 16 && text.trim() == text);
        if let Ok(secret) = secret {
            let source = PushSource { secret: Some(secret), ..source(PushKind::Harbor, None) };
            let heard = |text: &str| {
                let value = HeaderValue::from_str(text).unwrap();
                authentication::check_headers(&source, &HeaderMap::from_iter([(header::AUTHORIZATION, value)])).is_ok()
            };
            prop_assert!(heard(&text));
            prop_assert_eq!(heard(&other), other == text);
        }
    }
}
