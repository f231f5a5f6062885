//! Against servers that answer what no honest registry would, and against the several kinds of log-in.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common::{DockerConfig, Fake, Seen, by_digest, by_tag, client, client_with, reply, sha256, sha512, tagged};
use axum::{http::Method, response::Response};
use taglog_oci_registry::{ACCEPT, MAX_MANIFEST_BYTES, ManifestReference, RegistryError};
use taglog_proto::name::{Digest, Repository};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) const BODY: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn manifest_reply() -> Response {
    let digest = sha256(BODY.as_bytes()).to_string();
    reply(200, &[("content-type", INDEX), ("docker-content-digest", &digest)], BODY)
}

pub(super) fn no_config() -> DockerConfig {
    DockerConfig::none()
}

/// Both questions' answers, as digests.
async fn both(fake: &Fake, config: &DockerConfig) -> [Result<Digest, RegistryError>; 2] {
    let registry = client(config);
    let head = registry.head(&fake.image()).await;
    let get = registry.manifest(&fake.repository(), &by_tag("v1")).await;
    [head, get.map(|manifest| manifest.digest)]
}

#[tokio::test]
async fn the_accept_list_is_fixed() {
    let fake = Fake::start(|_, _| manifest_reply()).await;
    assert_eq!(both(&fake, &no_config()).await, [Ok(sha256(BODY.as_bytes())), Ok(sha256(BODY.as_bytes()))]);
    assert_eq!(
        ACCEPT,
        [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ]
    );
    let seen = fake.seen();
    assert_eq!(seen.len(), 2, "one request each");
    assert_eq!((&seen[0].method, &seen[1].method), (&Method::HEAD, &Method::GET));
    for one in seen {
        assert_eq!(one.uri.path(), "/v2/team/app/manifests/v1");
        assert_eq!(one.headers.get_all("accept").iter().count(), 1);
        assert_eq!(one.header("accept").unwrap(), ACCEPT.join(", "));
        assert_eq!(one.header("accept-encoding"), None);
        assert_eq!(one.header("authorization"), None);
    }
}

#[tokio::test]
async fn statuses() {
    let fake = Fake::start(|seen: &Seen, _: &str| {
        let status: u16 = seen.uri.path().rsplit('/').next().unwrap()[1..].parse().unwrap();
        reply(status, &[("retry-after", "17"), ("content-type", "application/json")], "{}")
    })
    .await;
    let registry = client(&no_config());
    let repository = fake.repository();
    let target = |tag: &str| format!("{repository}:{tag}");
    let host = || fake.host.clone();
    let server = |status: u16| RegistryError::Server {
        target: target(&format!("s{status}")),
        registry: host(),
        status,
        retry_after: (status == 503).then_some(Duration::from_secs(17)),
    };
    let refused = |tag| RegistryError::Unauthorized { target: target(tag), registry: host(), logged_in: false };
    let cases = [
        ("s401", refused("s401")),
        ("s403", refused("s403")),
        ("s404", RegistryError::NotFound { target: target("s404"), registry: host() }),
        (
            "s429",
            RegistryError::RateLimited {
                target: target("s429"),
                registry: host(),
                retry_after: Some(Duration::from_secs(17)),
            },
        ),
        ("s204", server(204)),
        ("s304", server(304)),
        ("s400", server(400)),
        ("s405", server(405)),
        ("s418", server(418)),
        ("s500", server(500)),
        ("s503", server(503)),
    ];
    for (tag, expected) in cases {
        assert_eq!(registry.head(&tagged(&repository, tag)).await, Err(expected.clone()));
        let answer = registry.manifest(&repository, &by_tag(tag)).await.unwrap_err();
        assert_eq!(answer, expected);
        assert!(answer.to_string().contains("team/app") && answer.to_string().contains(&fake.host), "{answer}");
    }
}

#[tokio::test]
async fn pages_and_other_nonsense_are_not_a_registry() {
    let cases: [(u16, &str, &'static str); 6] = [
        (200, "text/html; charset=utf-8", "<html>Welcome</html>"),
        (404, "TEXT/HTML", "<html>Not found</html>"),
        (200, INDEX, "<html>Welcome</html>"),
        (200, INDEX, ""),
        (200, INDEX, "[]"),
        (200, INDEX, "{\"schemaVersion\":2"),
    ];
    for (status, kind, body) in cases {
        let kind = kind.to_owned();
        let fake = Fake::start(move |_: &Seen, _: &str| reply(status, &[("content-type", &kind)], body)).await;
        for answer in both(&fake, &no_config()).await {
            assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{body} {answer:?}");
        }
    }
    // A portal's page under a digest header must not count either.
    let fake = Fake::start(|_: &Seen, _: &str| {
        let digest = sha256(b"<html>").to_string();
        reply(200, &[("content-type", "text/html"), ("docker-content-digest", &digest)], "<html>")
    })
    .await;
    for answer in both(&fake, &no_config()).await {
        assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn head_without_a_usable_digest_is_followed_by_get() {
    let upper = sha256(BODY.as_bytes()).to_string().to_uppercase();
    let heads: Vec<(u16, Vec<String>)> = vec![
        (200, vec![]),
        (200, vec![String::new()]),
        (200, vec![upper]),
        (200, vec!["md5:00".into()]),
        (200, vec![sha256(b"1").to_string(), sha256(b"2").to_string()]),
        (405, vec![]),
        (405, vec![sha256(b"1").to_string()]),
        (501, vec![]),
    ];
    for (status, digests) in heads {
        let name = format!("{status} {digests:?}");
        let fake = Fake::start(move |seen: &Seen, _: &str| {
            if seen.method == Method::GET {
                return reply(200, &[("content-type", INDEX)], BODY);
            }
            let headers: Vec<_> = digests.iter().map(|digest| ("docker-content-digest", digest.as_str())).collect();
            reply(status, &headers, "")
        })
        .await;
        let answer = client(&no_config()).head(&fake.image()).await;
        assert_eq!(answer, Ok(sha256(BODY.as_bytes())), "{name}");
        assert_eq!(fake.seen().len(), 2, "{name}");
    }
}

/// Serves `BODY` under the given digest headers.
async fn serving(headers: &[String]) -> Fake {
    let headers = headers.to_owned();
    Fake::start(move |_: &Seen, _: &str| {
        let headers: Vec<_> = headers.iter().map(|digest| ("docker-content-digest", digest.as_str())).collect();
        reply(200, &headers, BODY)
    })
    .await
}

#[tokio::test]
async fn wrong_digests() {
    let (right, wrong) = (sha256(BODY.as_bytes()), sha256(b"other"));
    let check = async |headers: &[String], reference: ManifestReference, claimed: &str, actual: Digest| {
        let fake = serving(headers).await;
        let answer = client(&no_config()).manifest(&fake.repository(), &reference).await;
        let separator = if matches!(reference, ManifestReference::Digest(_)) { '@' } else { ':' };
        let target = format!("{}{separator}{reference}", fake.repository());
        let expected = RegistryError::WrongDigest { target, claimed: claimed.into(), actual };
        assert_eq!(answer, Err(expected), "{headers:?} {reference}");
    };
    let (right_header, wrong_header) = (right.to_string(), wrong.to_string());
    check(std::slice::from_ref(&wrong_header), by_tag("v1"), &wrong_header, right).await;
    check(&[right_header.clone(), wrong_header.clone()], by_tag("v1"), &wrong_header, right).await;
    let long = sha512(b"other").to_string();
    check(std::slice::from_ref(&long), by_tag("v1"), &long, sha512(BODY.as_bytes())).await;
    check(&["sha256:zz".into()], by_tag("v1"), "sha256:zz", right).await;
    // The registry serves other bytes than asked for, with a header that fits them, or none, or that lies.
    for headers in [vec![right_header], vec![], vec![wrong_header.clone()]] {
        check(&headers, by_digest(wrong), &wrong_header, right).await;
    }
    check(std::slice::from_ref(&wrong_header), by_digest(right), &wrong_header, right).await;
}

#[tokio::test]
async fn right_digests_of_both_kinds() {
    let (short, long) = (sha256(BODY.as_bytes()), sha512(BODY.as_bytes()));
    let cases = [
        (vec![], by_tag("v1"), short),
        (vec![long.to_string()], by_tag("v1"), long),
        (vec![short.to_string()], by_tag("v1"), short),
        (vec![], by_digest(long), long),
        (vec![short.to_string()], by_digest(long), long),
        (vec![long.to_string()], by_digest(short), short),
    ];
    for (headers, reference, expected) in cases {
        let fake = serving(&headers).await;
        let manifest = client(&no_config()).manifest(&fake.repository(), &reference).await.unwrap();
        assert_eq!(manifest.digest, expected, "{headers:?} {reference}");
    }
    let fake = serving(&[long.to_string()]).await;
    assert_eq!(client(&no_config()).head(&fake.image()).await, Ok(long));
}

/// A server on bare TCP that answers every request with `head` and then sends `chunk` until nobody takes it.
pub(super) async fn endless(head: &'static str, chunk: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (chunk, counter) = (chunk.clone(), counter.clone());
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while !chunk.is_empty() && stream.write_all(&chunk).await.is_ok() {
                    counter.fetch_add(chunk.len(), Ordering::Relaxed);
                }
                // Holds the connection open until the client leaves.
                let _ = stream.read(&mut request).await;
            });
        }
    });
    (host, sent)
}

pub(super) fn only_repository(host: &str) -> Repository {
    Repository::parse(&format!("{host}/a")).unwrap()
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000)).into_bytes();
    let (host, sent) = endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk).await;
    let answer = client(&no_config()).manifest(&only_repository(&host), &by_tag("v1")).await;
    assert!(matches!(answer, Err(RegistryError::TooLarge { limit: MAX_MANIFEST_BYTES, .. })), "{answer:?}");
    // What the sockets buffer comes on top.
    assert!(sent.load(Ordering::Relaxed) < 4 * MAX_MANIFEST_BYTES);
}

#[tokio::test]
async fn a_long_body_is_not_even_begun() {
    let (host, _) = endless("HTTP/1.1 200 OK\r\ncontent-length: 4194305\r\n\r\n", vec![]).await;
    let answer = client(&no_config()).manifest(&only_repository(&host), &by_tag("v1")).await;
    assert!(matches!(answer, Err(RegistryError::TooLarge { .. })), "{answer:?}");
}

#[tokio::test]
async fn the_largest_manifest_is_read() {
    let body = format!("{{{}}}", " ".repeat(MAX_MANIFEST_BYTES - 2));
    let digest = sha256(body.as_bytes());
    let fake = Fake::start(move |_: &Seen, _: &str| reply(200, &[], body.clone())).await;
    let manifest = client(&no_config()).manifest(&fake.repository(), &by_tag("v1")).await.unwrap();
    assert_eq!((manifest.digest, manifest.bytes.len()), (digest, MAX_MANIFEST_BYTES));
    assert_eq!(manifest.media_type, "");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let limit = Duration::from_millis(300);
    for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"] {
        let (host, _) = endless(head, vec![]).await;
        let registry = client_with(&no_config(), limit);
        let start = Instant::now();
        let answer = registry.manifest(&only_repository(&host), &by_tag("v1")).await;
        let expected = RegistryError::Timeout { target: format!("{host}/a:v1"), registry: host, after: limit };
        assert_eq!(answer, Err(expected));
        assert!(start.elapsed() >= limit && start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_broken_connection_is_a_network_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;
    });
    let answer = client(&no_config()).manifest(&only_repository(&host), &by_tag("v1")).await;
    assert!(matches!(answer, Err(RegistryError::Network { .. })), "{answer:?}");
}

/// A server that redirects everything to `to`, asking for a password first.
async fn redirecting(status: u16, to: String) -> Fake {
    Fake::start(move |seen: &Seen, _: &str| {
        if seen.header("authorization").is_none() {
            return reply(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
        }
        reply(status, &[("location", &to)], "")
    })
    .await
}

#[tokio::test]
async fn credentials_stay_behind_at_a_redirect_to_another_host() {
    for status in [301, 302, 303, 307, 308] {
        let other = Fake::start(|_: &Seen, _: &str| manifest_reply()).await;
        let fake = redirecting(status, format!("http://{}/elsewhere?key=1", other.host)).await;
        let config = DockerConfig::login(&fake.host, "ann", "secret");
        assert_eq!(both(&fake, &config).await, [Ok(sha256(BODY.as_bytes())), Ok(sha256(BODY.as_bytes()))]);
        let seen = other.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!((&seen[0].method, &seen[1].method), (&Method::HEAD, &Method::GET));
        for one in seen {
            assert_eq!(one.header("authorization"), None);
            assert_eq!(one.header("accept").unwrap(), ACCEPT.join(", "));
        }
    }
}

#[tokio::test]
async fn credentials_do_not_come_back_after_a_detour() {
    let back = Arc::new(Mutex::new(String::new()));
    let target = back.clone();
    let other = Fake::start(move |_: &Seen, _: &str| reply(307, &[("location", &target.lock().unwrap())], "")).await;
    let away = format!("http://{}/", other.host);
    let fake = Fake::start(move |seen: &Seen, _: &str| {
        if seen.uri.path() == "/back" {
            return manifest_reply();
        }
        match seen.header("authorization") {
            None => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
            Some(_) => reply(307, &[("location", &away)], ""),
        }
    })
    .await;
    *back.lock().unwrap() = format!("http://{}/back", fake.host);
    let config = DockerConfig::login(&fake.host, "ann", "secret");
    let digest = client(&config).head(&fake.image()).await;
    assert_eq!(digest, Ok(sha256(BODY.as_bytes())));
    let seen = fake.seen();
    assert_eq!(seen.last().unwrap().uri.path(), "/back");
    assert_eq!(seen.last().unwrap().header("authorization"), None);
}

#[tokio::test]
async fn credentials_stay_at_a_redirect_on_the_same_host() {
    let fake = Fake::start(|seen: &Seen, _: &str| match (seen.header("authorization"), seen.uri.path()) {
        (None, _) => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        (Some(_), "/moved") => manifest_reply(),
        (Some(_), _) => reply(302, &[("location", "/moved")], ""),
    })
    .await;
    let config = DockerConfig::login(&fake.host, "ann", "secret");
    let digest = client(&config).head(&fake.image()).await;
    assert_eq!(digest, Ok(sha256(BODY.as_bytes())));
}

#[tokio::test]
async fn redirects_that_are_not_followed() {
    let wants_login =
        Fake::start(|_: &Seen, _: &str| reply(401, &[("www-authenticate", "Basic realm=\"x\"")], "")).await;
    let targets = [
        format!("http://{}/", wants_login.host),
        "http://registry.invalid/x".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "http://user:pass@127.0.0.1:1/x".to_owned(),
        "/v2/team/app/manifests/v1".to_owned(),
        "http://[".to_owned(),
    ];
    for target in targets {
        let to = target.clone();
        let fake = Fake::start(move |_: &Seen, _: &str| reply(307, &[("location", &to)], "")).await;
        let config = DockerConfig::login(&fake.host, "ann", "secret");
        let answer = client(&config).head(&fake.image()).await;
        assert!(matches!(answer, Err(RegistryError::RedirectedAway { .. })), "{target} {answer:?}");
        assert!(fake.seen().len() <= 6);
    }
    assert!(wants_login.seen().iter().all(|one| one.header("authorization").is_none()));
    let nowhere = Fake::start(|_: &Seen, _: &str| reply(307, &[], "")).await;
    let answer = client(&no_config()).head(&nowhere.image()).await;
    assert!(matches!(answer, Err(RegistryError::RedirectedAway { .. })), "{answer:?}");
}

/// A registry with token log-in: `/token` is answered by `token`, and manifests are there for `Bearer good`.
pub(super) async fn token_registry(token: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Fake {
    Fake::start(move |seen: &Seen, host: &str| {
        if seen.uri.path() == "/token" {
            return token(seen);
        }
        if seen.header("authorization") == Some("Bearer good") {
            return manifest_reply();
        }
        let challenge =
            format!("Bearer realm=\"http://{host}/token\",service=\"my registry\",scope=\"repository:team/app:pull\"");
        reply(401, &[("www-authenticate", &challenge)], "")
    })
    .await
}

#[tokio::test]
async fn anonymous_token() {
    let fake = token_registry(|_: &Seen| reply(200, &[], r#"{"token":"good"}"#)).await;
    assert_eq!(both(&fake, &no_config()).await, [Ok(sha256(BODY.as_bytes())), Ok(sha256(BODY.as_bytes()))]);
    let seen = fake.seen();
    let methods: Vec<_> = seen.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["HEAD", "GET", "HEAD", "GET"], "the token is used again");
    assert_eq!(seen[1].uri, "/token?service=my+registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(seen[1].header("authorization"), None);
}

#[tokio::test]
async fn token_for_a_password() {
    let fake = token_registry(|seen: &Seen| match seen.header("authorization") {
        // ann:secret
        Some("Basic YW5uOnNlY3JldA==") => reply(200, &[], r#"{"access_token":"good","expires_in":60}"#),
        _ => reply(401, &[], "{}"),
    })
    .await;
    let config = DockerConfig::login(&fake.host, "ann", "secret");
    assert_eq!(both(&fake, &config).await, [Ok(sha256(BODY.as_bytes())), Ok(sha256(BODY.as_bytes()))]);
    for one in fake.seen().iter().filter(|one| one.uri.path() != "/token") {
        assert!(!one.header("authorization").unwrap_or_default().starts_with("Basic"), "{one:?}");
    }
    for (config, expected) in [(DockerConfig::login(&fake.host, "ann", "no"), true), (no_config(), false)] {
        for answer in both(&fake, &config).await {
            let Err(RegistryError::Unauthorized { logged_in, .. }) = answer else { panic!("{answer:?}") };
            assert_eq!(logged_in, expected);
        }
    }
}

#[tokio::test]
async fn token_for_an_identity_token() {
    let fake = token_registry(|seen: &Seen| {
        let wanted = "grant_type=refresh_token&client_id=taglog&service=my+registry\
                      &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=id%2Ftoken";
        let form = seen.header("content-type") == Some("application/x-www-form-urlencoded");
        match seen.method == Method::POST && form && seen.body == wanted {
            true => reply(200, &[], r#"{"access_token":"good"}"#),
            false => reply(400, &[], "{}"),
        }
    })
    .await;
    let config =
        |token: &str| DockerConfig::new(&format!(r#"{{"auths":{{"{}":{{"identitytoken":"{token}"}}}}}}"#, fake.host));
    let good = client(&config("id/token")).head(&fake.image()).await;
    assert_eq!(good, Ok(sha256(BODY.as_bytes())));
    let stale = client(&config("stale")).head(&fake.image()).await;
    assert!(matches!(stale, Err(RegistryError::Unauthorized { logged_in: true, .. })), "{stale:?}");
}

#[tokio::test]
async fn an_identity_token_is_no_password() {
    let fake = redirecting(302, "/".into()).await;
    let config = DockerConfig::new(&format!(r#"{{"auths":{{"{}":{{"identitytoken":"id"}}}}}}"#, fake.host));
    let answer = client(&config).head(&fake.image()).await;
    assert!(matches!(answer, Err(RegistryError::Credentials { .. })), "{answer:?}");
    assert!(fake.seen().iter().all(|one| one.header("authorization").is_none()));
}

#[tokio::test]
async fn a_password_does_not_follow_a_token_service_elsewhere() {
    let other = Fake::start(|_: &Seen, _: &str| reply(200, &[], r#"{"token":"good"}"#)).await;
    let to = format!("http://{}/token", other.host);
    let fake = token_registry(move |_: &Seen| reply(307, &[("location", &to)], "")).await;
    let config = DockerConfig::login(&fake.host, "ann", "secret");
    assert_eq!(client(&config).head(&fake.image()).await, Ok(sha256(BODY.as_bytes())));
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("authorization"), None);
    // An identity token is in the body, which a redirect would carry along.
    let config = DockerConfig::new(&format!(r#"{{"auths":{{"{}":{{"identitytoken":"id"}}}}}}"#, fake.host));
    let answer = client(&config).head(&fake.image()).await;
    assert!(matches!(answer, Err(RegistryError::RedirectedAway { .. })), "{answer:?}");
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn token_services_that_fail() {
    type Expected = fn(&RegistryError) -> bool;
    let cases: [(u16, &str, Expected); 7] = [
        (429, "", |e| matches!(e, RegistryError::RateLimited { .. })),
        (500, "", |e| matches!(e, RegistryError::Server { status: 500, .. })),
        (404, "", |e| matches!(e, RegistryError::NotARegistry { .. })),
        (200, "<html>", |e| matches!(e, RegistryError::NotARegistry { .. })),
        (200, "{}", |e| matches!(e, RegistryError::NotARegistry { .. })),
        (200, r#"{"token":"a\r\nX-Evil: 1"}"#, |e| matches!(e, RegistryError::NotARegistry { .. })),
        (200, r#"{"token":"bad"}"#, |e| matches!(e, RegistryError::Unauthorized { logged_in: false, .. })),
    ];
    for (status, body, expected) in cases {
        let fake = token_registry(move |_: &Seen| reply(status, &[], body)).await;
        for answer in both(&fake, &no_config()).await {
            assert!(answer.as_ref().is_err_and(expected), "{status} {body} {answer:?}");
        }
    }
    let fake = token_registry(|_: &Seen| reply(200, &[], " ".repeat(1 << 20))).await;
    let answer = client(&no_config()).head(&fake.image()).await;
    assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{answer:?}");
}

/// A grant that ends is asked for anew, also where the registry says 403 instead of 401.
#[tokio::test]
async fn an_expired_token_is_renewed() {
    for refusal in [401, 403] {
        let expired = Arc::new(AtomicBool::new(false));
        let flag = expired.clone();
        let fake = Fake::start(move |seen: &Seen, host: &str| {
            let now = if flag.load(Ordering::SeqCst) { "Bearer second" } else { "Bearer first" };
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            match (seen.uri.path(), seen.header("authorization")) {
                ("/token", _) => reply(200, &[], format!("{{\"token\":\"{}\"}}", &now["Bearer ".len()..])),
                (_, Some(sent)) if sent == now => manifest_reply(),
                (_, Some(_)) => reply(refusal, &[], ""),
                (_, None) => reply(401, &[("www-authenticate", &challenge)], ""),
            }
        })
        .await;
        let registry = client(&no_config());
        let clone = registry.clone();
        let digest = Ok(sha256(BODY.as_bytes()));
        assert_eq!(registry.head(&fake.image()).await, digest);
        expired.store(true, Ordering::SeqCst);
        assert_eq!(clone.head(&fake.image()).await, digest);
        let renewed = fake.seen();
        // No scope in the challenge: pulling from this repository is asked for, and nothing else.
        assert_eq!(renewed[1].uri, "/token?scope=repository%3Ateam%2Fapp%3Apull");
        assert_eq!(renewed.len(), 7);
        assert_eq!(registry.head(&fake.image()).await, digest);
        assert_eq!(fake.seen().len(), 8);
    }
}

/// A grant for one repository is not shown for another.
#[tokio::test]
async fn grants_are_kept_apart() {
    let fake = token_registry(|_: &Seen| reply(200, &[], r#"{"token":"good"}"#)).await;
    let registry = client(&no_config());
    registry.head(&fake.image()).await.unwrap();
    let other = Repository::parse(&format!("{}/team/other", fake.host)).unwrap();
    registry.head(&tagged(&other, "v1")).await.unwrap();
    let other: Vec<_> = fake.seen().into_iter().filter(|one| one.uri.path().contains("other")).collect();
    assert_eq!(other[0].header("authorization"), None);
}

#[tokio::test]
async fn a_broken_login_file_is_an_error_only_once_it_is_needed() {
    let config = DockerConfig::new("{ broken");
    let open = Fake::start(|_: &Seen, _: &str| manifest_reply()).await;
    assert_eq!(client(&config).head(&open.image()).await, Ok(sha256(BODY.as_bytes())));
    let closed = token_registry(|_: &Seen| reply(200, &[], r#"{"token":"good"}"#)).await;
    let answer = client(&config).head(&closed.image()).await;
    let Err(error @ RegistryError::Credentials { .. }) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains(closed.repository().as_str()), "{error}");
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let fake = redirecting(302, "/v2/team/app/manifests/v1".into()).await;
    let config = DockerConfig::login(&fake.host, "ann", "hunter2");
    let registry = client(&config);
    let error = registry.head(&fake.image()).await.unwrap_err();
    assert!(fake.seen().iter().any(|one| one.header("authorization").is_some()));
    assert!(!format!("{error} {error:?} {registry:?}").contains("hunter2"));
}
