//! What a witness needs that looks again and again: conditional looks, circumstances, and log-ins that last.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use axum::{http::Method, response::Response};
use taglog_oci_registry::{PullBudget, Registry, RegistryError, ResponseMetadata, TagResolution};
use taglog_proto::name::{Digest, Repository};
use tokio::task::JoinSet;

use super::{
    common::{DockerConfig, Fake, Seen, by_tag, client, client_without_login, reply, sha256, sha512, tagged},
    hostile::{BODY, INDEX, manifest_reply, no_config, token_registry},
};

fn known() -> Digest {
    sha256(BODY.as_bytes())
}

async fn resolved(fake: &Fake, known: Option<&Digest>) -> Result<TagResolution, RegistryError> {
    client(&no_config()).resolve(&fake.image(), known).await.map(|(resolved, _)| resolved)
}

fn conditions(fake: &Fake) -> Vec<(Method, Option<String>)> {
    let condition = |one: &Seen| one.header("if-none-match").map(str::to_owned);
    fake.seen().iter().map(|one| (one.method.clone(), condition(one))).collect()
}

fn quoted(digest: Digest) -> Option<String> {
    Some(format!("\"{digest}\""))
}

/// 304 where the condition names the digest of [`BODY`].
fn conditional(seen: &Seen) -> Response {
    match seen.header("if-none-match") == quoted(known()).as_deref() {
        true => reply(304, &[], ""),
        false => manifest_reply(),
    }
}

#[tokio::test]
async fn a_look_is_conditional_where_something_is_known() {
    let fake = Fake::start(|seen: &Seen, _: &str| conditional(seen)).await;
    let other = sha512(b"other");
    assert_eq!(resolved(&fake, None).await, Ok(TagResolution::Digest(known())));
    assert_eq!(resolved(&fake, Some(&other)).await, Ok(TagResolution::Digest(known())));
    assert_eq!(resolved(&fake, Some(&known())).await, Ok(TagResolution::Unchanged));
    let expected = [None, quoted(other), quoted(known())].map(|condition| (Method::HEAD, condition));
    assert_eq!(conditions(&fake), expected);
    // Not every registry knows conditions.
    let fake = Fake::start(|_: &Seen, _: &str| manifest_reply()).await;
    assert_eq!(resolved(&fake, Some(&known())).await, Ok(TagResolution::Unchanged));
}

#[tokio::test]
async fn the_condition_outlives_log_in_and_redirect() {
    let other = Fake::start(|seen: &Seen, _: &str| conditional(seen)).await;
    let to = format!("http://{}/elsewhere", other.host);
    let fake = Fake::start(move |seen: &Seen, host: &str| match (seen.uri.path(), seen.header("authorization")) {
        ("/token", _) => reply(200, &[], r#"{"token":"good"}"#),
        (_, None) => reply(401, &[("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))], ""),
        (_, Some(_)) => reply(307, &[("location", &to)], ""),
    })
    .await;
    assert_eq!(resolved(&fake, Some(&known())).await, Ok(TagResolution::Unchanged));
    let (head, condition) = (Method::HEAD, quoted(known()));
    let expected = [(head.clone(), condition.clone()), (Method::GET, None), (head.clone(), condition.clone())];
    assert_eq!(conditions(&fake), expected);
    assert_eq!(conditions(&other), [(head, condition)]);
}

#[tokio::test]
async fn without_head_the_manifest_is_fetched_on_the_same_condition() {
    let fake = Fake::start(|seen: &Seen, _: &str| match seen.method {
        Method::HEAD => reply(405, &[], ""),
        _ => conditional(seen),
    })
    .await;
    assert_eq!(resolved(&fake, Some(&known())).await, Ok(TagResolution::Unchanged));
    assert_eq!(conditions(&fake), [(Method::HEAD, quoted(known())), (Method::GET, quoted(known()))]);
    assert_eq!(resolved(&fake, Some(&sha256(b"other"))).await, Ok(TagResolution::Digest(known())));

    // Neither HEAD nor conditions nor digests: the bytes say by either algorithm that nothing has changed.
    let fake = Fake::start(|seen: &Seen, _: &str| match seen.method {
        Method::HEAD => reply(200, &[], ""),
        _ => reply(200, &[("content-type", INDEX)], BODY),
    })
    .await;
    for known in [known(), sha512(BODY.as_bytes())] {
        assert_eq!(resolved(&fake, Some(&known)).await, Ok(TagResolution::Unchanged));
    }
    assert_eq!(resolved(&fake, Some(&sha512(b"other"))).await, Ok(TagResolution::Digest(known())));
}

#[tokio::test]
async fn a_304_that_contradicts_itself_is_settled_by_the_bytes() {
    let wrong = sha256(b"other").to_string();
    let fake = Fake::start(move |seen: &Seen, _: &str| match seen.header("if-none-match") {
        Some(_) => reply(304, &[("docker-content-digest", &wrong)], ""),
        None => manifest_reply(),
    })
    .await;
    assert_eq!(resolved(&fake, Some(&known())).await, Ok(TagResolution::Unchanged));
    assert_eq!(resolved(&fake, Some(&sha256(b"old"))).await, Ok(TagResolution::Digest(known())));
    let seen = conditions(&fake);
    assert_eq!(seen[..2], [(Method::HEAD, quoted(known())), (Method::GET, None)]);
    // The digest that was asked about is no contradiction.
    assert_eq!(resolved(&fake, Some(&sha256(b"other"))).await, Ok(TagResolution::Unchanged));
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_an_error() {
    let status = |answer| match answer {
        Err(RegistryError::Server { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    let fake = Fake::start(|seen: &Seen, _: &str| match seen.method {
        Method::HEAD => reply(304, &[], ""),
        _ => manifest_reply(),
    })
    .await;
    assert_eq!(status(resolved(&fake, None).await), 304);
    let fake = Fake::start(|seen: &Seen, _: &str| match seen.method {
        Method::HEAD => reply(405, &[], ""),
        _ => reply(304, &[("docker-content-digest", &sha256(b"other").to_string())], ""),
    })
    .await;
    assert_eq!(status(resolved(&fake, None).await), 304);
    assert_eq!(status(resolved(&fake, Some(&known())).await), 304, "by GET, another digest");
}

#[tokio::test]
async fn metadata() {
    let fake = Fake::start(|seen: &Seen, host: &str| {
        if seen.uri.path() == "/token" {
            return reply(200, &[("date", "Sat, 06 Nov 2094 08:49:37 GMT")], r#"{"token":"good"}"#);
        }
        if seen.header("authorization").is_none() {
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            return reply(401, &[("www-authenticate", &challenge), ("ratelimit-limit", "1;w=1")], "");
        }
        let mut answer = manifest_reply();
        for (name, value) in [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let expected = |logged_in| ResponseMetadata {
        date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
        pulls: Some(PullBudget { remaining: 76, limit: 100, window: Duration::from_secs(21600) }),
        logged_in,
    };
    for (config, logged_in) in [(no_config(), false), (DockerConfig::login(&fake.host, "ann", "secret"), true)] {
        let registry = client(&config);
        for _ in 0..2 {
            let (_, metadata) = registry.resolve(&fake.image(), None).await.unwrap();
            assert_eq!(metadata, expected(logged_in));
            let (manifest, metadata) = registry.fetch(&fake.repository(), &by_tag("v1")).await.unwrap();
            assert_eq!((manifest.digest, metadata), (known(), expected(logged_in)));
        }
    }
}

#[tokio::test]
async fn how_long_to_wait_and_one_word_for_it() {
    let fake = Fake::start(|seen: &Seen, _: &str| {
        let status: u16 = seen.uri.path().rsplit('/').next().unwrap()[1..].parse().unwrap();
        reply(status, &[("retry-after", "17")], "")
    })
    .await;
    let registry = client(&no_config());
    let wait = Some(Duration::from_secs(17));
    for (tag, expected, kind) in [
        ("s429", wait, "rate-limited"),
        ("s503", wait, "server"),
        ("s500", None, "server"),
        ("s404", None, "not-found"),
    ] {
        let error = registry.resolve(&tagged(&fake.repository(), tag), None).await.unwrap_err();
        assert_eq!((error.retry_after(), error.kind()), (expected, kind), "{tag}");
    }
}

/// Everything that a client without log-in asks of `fake`, and that none of it carries a login.
async fn without_login(fake: &Fake) -> Vec<Result<(), RegistryError>> {
    let config = DockerConfig::login(&fake.host, "ann", "hunter2");
    let registry = client_without_login(&config);
    let answers = vec![
        registry.resolve(&fake.image(), None).await.map(|_| ()),
        registry.fetch(&fake.repository(), &by_tag("v1")).await.map(|_| ()),
        registry.tags(&fake.repository(), 10).await.map(|_| ()),
        registry.ping(&fake.repository()).await.map(|_| ()),
    ];
    for one in fake.seen() {
        let sent = one.header("authorization");
        assert!(sent.is_none_or(|sent| sent == "Bearer anonymous"), "{one:?}");
        assert_eq!(one.body, "", "{one:?}");
    }
    answers
}

#[tokio::test]
async fn without_login_no_password_is_sent() {
    let refused = |answer: &Result<(), _>| matches!(answer, Err(RegistryError::Unauthorized { logged_in: false, .. }));
    let basic = Fake::start(|_: &Seen, _: &str| reply(401, &[("www-authenticate", "Basic realm=\"x\"")], "")).await;
    let answers = without_login(&basic).await;
    assert!(answers[..3].iter().all(refused) && answers[3].is_ok(), "{answers:?}");

    for (token_status, open) in [(200, true), (401, false)] {
        let tokens =
            Fake::start(move |seen: &Seen, host: &str| match (seen.uri.path(), seen.header("authorization")) {
                ("/token", _) => reply(token_status, &[], r#"{"token":"anonymous"}"#),
                (_, None) => reply(401, &[("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))], ""),
                (path, Some(_)) if path.ends_with("/list") => reply(200, &[], r#"{"tags":["v1"]}"#),
                (_, Some(_)) => manifest_reply(),
            })
            .await;
        let answers = without_login(&tokens).await;
        assert!(answers[..3].iter().all(|answer| if open { answer.is_ok() } else { refused(answer) }), "{answers:?}");
        let asked_for_tokens = tokens.seen().iter().filter(|one| one.uri.path() == "/token").count();
        assert_eq!(asked_for_tokens, if open { 1 } else { 3 });
    }
}

#[tokio::test]
async fn without_login_broken_logins_do_not_matter() {
    let fake = token_registry(|_: &Seen| reply(200, &[], r#"{"token":"good"}"#)).await;
    let config = DockerConfig::new("{ broken");
    let registry = client_without_login(&config);
    assert_eq!(registry.head(&fake.image()).await, Ok(known()));
}

/// Looks at `count` tags of each repository, all at once.
async fn look_at_once(registry: &Registry, repositories: &[Repository], count: usize) {
    let mut looks = JoinSet::new();
    for repository in repositories {
        for tag in 0..count {
            let (registry, image) = (registry.clone(), tagged(repository, &format!("v{tag}")));
            looks.spawn(async move { registry.resolve(&image, None).await });
        }
    }
    while let Some(answer) = looks.join_next().await {
        assert_eq!(answer.unwrap().unwrap().0, TagResolution::Digest(known()));
    }
}

#[tokio::test]
async fn many_looks_at_a_repository_log_in_once() {
    let fake = token_registry(|_: &Seen| reply(200, &[], r#"{"token":"good"}"#)).await;
    let registry = client(&no_config());
    let repositories = ["a", "b"].map(|path| Repository::parse(&format!("{}/{path}", fake.host)).unwrap());
    look_at_once(&registry, &repositories, 20).await;
    let count = |fake: &Fake| {
        let mut paths: HashMap<String, usize> = HashMap::new();
        fake.seen().iter().for_each(|one| *paths.entry(one.uri.path().to_owned()).or_default() += 1);
        paths
    };
    assert_eq!(count(&fake)["/token"], 2, "one for each repository");
    // From then on every look is one request.
    let before = fake.seen().len();
    look_at_once(&registry, &repositories, 20).await;
    assert_eq!(fake.seen().len() - before, 40);
}

#[tokio::test]
async fn a_refusal_that_says_how_to_log_in_is_taken_at_its_word() {
    let fake = Fake::start(|seen: &Seen, host: &str| {
        let serial = seen.header("authorization").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        match (seen.uri.path(), serial, seen.uri.path().ends_with("v2")) {
            ("/token", ..) => reply(200, &[], r#"{"token":"good"}"#),
            // The token is for v1 alone, as if it had ended in between.
            (_, "Bearer good", false) => manifest_reply(),
            _ => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let registry = client(&no_config());
    registry.resolve(&fake.image(), None).await.unwrap();
    let before = fake.seen().len();
    let answer = registry.resolve(&tagged(&fake.repository(), "v2"), None).await;
    assert!(matches!(answer, Err(RegistryError::Unauthorized { logged_in: false, .. })), "{answer:?}");
    let paths: Vec<_> = fake.seen()[before..].iter().map(|one| one.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/v2/team/app/manifests/v2", "/token", "/v2/team/app/manifests/v2"]);
}

#[tokio::test]
async fn ping() {
    type Expected = fn(&Result<ResponseMetadata, RegistryError>) -> bool;
    let cases: [(u16, &str, Expected); 8] = [
        (200, "application/json", |answer| answer.as_ref().is_ok_and(|here| here.date.is_some() && !here.logged_in)),
        (401, "application/json", |answer| answer.is_ok()),
        (200, "text/html", |answer| matches!(answer, Err(RegistryError::NotARegistry { .. }))),
        (401, "text/html", |answer| matches!(answer, Err(RegistryError::NotARegistry { .. }))),
        (404, "text/plain", |answer| matches!(answer, Err(RegistryError::NotARegistry { .. }))),
        (403, "text/plain", |answer| matches!(answer, Err(RegistryError::Unauthorized { .. }))),
        (429, "text/plain", |answer| matches!(answer, Err(RegistryError::RateLimited { .. }))),
        (502, "text/html", |answer| matches!(answer, Err(RegistryError::Server { status: 502, .. }))),
    ];
    for (status, kind, expected) in cases {
        let fake = Fake::start(move |_: &Seen, _: &str| reply(status, &[("content-type", kind)], "{}")).await;
        let config = DockerConfig::login(&fake.host, "ann", "secret");
        let answer = client(&config).ping(&fake.repository()).await;
        assert!(expected(&answer), "{status} {kind} {answer:?}");
        let seen = fake.seen();
        assert_eq!((seen.len(), seen[0].uri.path(), seen[0].header("authorization")), (1, "/v2/", None));
    }
}
