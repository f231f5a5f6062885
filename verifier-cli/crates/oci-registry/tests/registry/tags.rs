//! Lists of tags: what pages of them may say, and where they may lead.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use axum::{body::Body, response::Response};
use governor::{Quota, RateLimiter};
use taglog_oci_registry::{RegistryError, TagList};
use taglog_proto::name::{Repository, Tag};

use super::{
    common::{DockerConfig, Fake, Seen, client, client_with, reply},
    hostile::{endless, no_config, only_repository},
};

const PAGE_LIMIT: usize = 4 * 1024 * 1024;

async fn tags(fake: &Fake, most: usize) -> Result<TagList, RegistryError> {
    client(&no_config()).tags(&fake.repository(), most).await
}

fn list(tags: &[&str], malformed: usize) -> TagList {
    TagList { tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(), malformed }
}

fn page(names: &[&str], next: Option<&str>) -> Response {
    let body = serde_json::json!({ "name": "team/app", "tags": names }).to_string();
    let link = next.map(|next| format!("<{next}>; rel=\"next\""));
    let headers: Vec<_> = link.iter().map(|link| ("link", link.as_str())).collect();
    reply(200, &headers, body)
}

/// The number after `page=` in the address; 0 for the first page.
fn number(seen: &Seen) -> usize {
    let query = seen.uri.query().unwrap_or_default();
    query.split('&').find_map(|part| part.strip_prefix("page=")).map_or(0, |number| number.parse().unwrap())
}

fn addresses(fake: &Fake) -> Vec<String> {
    fake.seen().iter().map(|one| one.uri.to_string()).collect()
}

#[tokio::test]
async fn pages_are_put_together() {
    let fake = Fake::start(|seen: &Seen, host: &str| match number(seen) {
        0 => page(&["b", "a", "-bad", "b"], Some("/v2/team/app/tags/list?n=1000&page=1")),
        1 => page(&["a", "", "ä"], Some(&format!("http://{host}/v2/team/app/tags/list?page=2"))),
        2 => page(&["C", "ok\u{1b}[2J"], Some("list?page=3")),
        3 => page(&[], Some("?page=4")),
        _ => page(&["1.0"], None),
    })
    .await;
    assert_eq!(tags(&fake, 100).await, Ok(list(&["b", "a", "C", "1.0"], 4)));
    let path = "/v2/team/app/tags/list";
    let expected = ["?n=1000", "?n=1000&page=1", "?page=2", "?page=3", "?page=4"];
    assert_eq!(addresses(&fake), expected.map(|query| format!("{path}{query}")));
}

#[tokio::test]
async fn each_page_waits_for_its_turn() {
    let fake = Fake::start(|seen: &Seen, _: &str| match number(seen) {
        last @ 4 => page(&[&last.to_string()], None),
        number => page(&[&number.to_string()], Some(&format!("?page={}", number + 1))),
    })
    .await;
    let period = Duration::from_secs(1);
    let limiter = RateLimiter::direct(Quota::with_period(period).unwrap());
    let started = Instant::now();
    // Less than all pages together wait: the timeout is for each page, and not for its turn.
    let registry = client_with(&no_config(), 2 * period);
    let listed = registry.tags_in_turn(&fake.repository(), 10, &limiter).await.unwrap();
    assert_eq!((listed.tags.len(), fake.seen().len()), (5, 5));
    assert!(started.elapsed() >= 4 * period, "{:?}", started.elapsed());
}

#[tokio::test]
async fn no_tags() {
    for body in [r#"{"tags":null}"#, r#"{"name":"team/app","tags":[]}"#] {
        let fake = Fake::start(move |_: &Seen, _: &str| reply(200, &[], body)).await;
        assert_eq!(tags(&fake, 0).await, Ok(TagList::default()), "{body}");
    }
}

#[tokio::test]
async fn what_is_no_list_of_tags() {
    let json = "application/json";
    let cases = [
        (200, "text/html", "{\"tags\":[\"a\"]}"),
        (404, "text/html", "<html>"),
        (200, json, "<html>"),
        (200, json, "{}"),
        (200, json, "[[\"a\"]]"),
        (200, json, "{\"tags\":[1]}"),
        (200, json, "{\"tags\":\"a\"}"),
        (200, json, "{\"tags\":[\"a\"]"),
        (200, json, "{\"tags\":[],\"tags\":[]}"),
    ];
    for (status, kind, body) in cases {
        let fake = Fake::start(move |_: &Seen, _: &str| reply(status, &[("content-type", kind)], body)).await;
        let answer = tags(&fake, 10).await;
        assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{body} {answer:?}");
    }
    for link in ["/v2/x; rel=next", "</v2/x; rel=next", "<http://[>; rel=next"] {
        let fake = Fake::start(move |_: &Seen, _: &str| reply(200, &[("link", link)], "{\"tags\":[\"a\"]}")).await;
        let answer = tags(&fake, 10).await;
        assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{link} {answer:?}");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there() {
    let fake = Fake::start(|_: &Seen, _: &str| {
        reply(404, &[("content-type", "application/json")], r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)
    })
    .await;
    let (target, registry) = (fake.repository().to_string(), fake.host.clone());
    assert_eq!(tags(&fake, 10).await, Err(RegistryError::NotFound { target, registry }));
}

#[tokio::test]
async fn limits_and_failures_on_a_later_page() {
    for (status, kind) in [(429, "rate-limited"), (503, "server")] {
        let fake = Fake::start(move |seen: &Seen, _: &str| match number(seen) {
            0 => page(&["a"], Some("?page=1")),
            _ => reply(status, &[("retry-after", "17")], ""),
        })
        .await;
        let error = tags(&fake, 10).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (kind, Some(Duration::from_secs(17))));
    }
}

#[tokio::test]
async fn no_page_is_fetched_from_another_host() {
    let other = Fake::start(|_: &Seen, _: &str| page(&["b"], None)).await;
    let port = other.host.rsplit(':').next().unwrap().to_owned();
    for address in [
        format!("http://{}/v2/team/app/tags/list?page=1&key=secret", other.host),
        format!("//{}/v2/team/app/tags/list", other.host),
        format!("http://localhost:{port}/v2/team/app/tags/list"),
        "https://127.0.0.1/".to_owned(),
        "data:,x".to_owned(),
    ] {
        let to = address.clone();
        let fake = Fake::start(move |_: &Seen, _: &str| page(&["a"], Some(&to))).await;
        let answer = tags(&fake, 10).await;
        let Err(error @ RegistryError::RedirectedAway { .. }) = answer else { panic!("{address} {answer:?}") };
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(fake.seen().len(), 1);
    }
    assert!(other.seen().is_empty());
    // The same host, but with a login of the registry's choice.
    let fake = Fake::start(|_: &Seen, host: &str| page(&["a"], Some(&format!("http://u:p@{host}/v2/x")))).await;
    let answer = tags(&fake, 10).await;
    assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{answer:?}");
    assert_eq!(fake.seen().len(), 1);
}

/// A registry that hands its lists over to another host: the pages go on there, and no credentials go along.
#[tokio::test]
async fn credentials_do_not_follow_pages_to_where_a_redirect_led() {
    for second_page in [200, 401] {
        let other = Fake::start(move |seen: &Seen, _: &str| match (number(seen), second_page) {
            (0, _) => page(&["a"], Some("/there?page=1")),
            (_, 200) => page(&["b"], None),
            _ => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        })
        .await;
        let to = format!("http://{}/there", other.host);
        let fake = Fake::start(move |seen: &Seen, _: &str| match seen.header("authorization") {
            None => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
            Some(_) => reply(307, &[("location", &to)], ""),
        })
        .await;
        let answer = client(&DockerConfig::login(&fake.host, "ann", "secret")).tags(&fake.repository(), 10).await;
        match second_page {
            200 => assert_eq!(answer, Ok(list(&["a", "b"], 0))),
            _ => assert!(matches!(answer, Err(RegistryError::Unauthorized { logged_in: false, .. })), "{answer:?}"),
        }
        assert_eq!(addresses(&other), ["/there", "/there?page=1"]);
        assert!(other.seen().iter().all(|one| one.header("authorization").is_none()));
    }
}

#[tokio::test]
async fn a_log_in_is_for_all_pages() {
    let fake = Fake::start(|seen: &Seen, host: &str| match (seen.uri.path(), seen.header("authorization")) {
        ("/token", _) => reply(200, &[], r#"{"token":"good"}"#),
        (_, None) => reply(401, &[("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))], ""),
        (_, Some(_)) if number(seen) == 0 => page(&["a"], Some("?page=1")),
        (_, Some(_)) => page(&["b"], None),
    })
    .await;
    assert_eq!(tags(&fake, 10).await, Ok(list(&["a", "b"], 0)));
    let asked: Vec<_> = fake.seen().iter().map(|one| one.header("authorization").is_some()).collect();
    assert_eq!(asked, [false, false, true, true]);
}

#[tokio::test]
async fn lists_that_never_end() {
    let limit = |repository: Repository| Err(RegistryError::TooManyTags { target: repository.to_string(), most: 5 });
    // Always the same address.
    let same = Fake::start(|_: &Seen, _: &str| page(&["a"], Some("?n=1000"))).await;
    // In a circle of three.
    let circle = Fake::start(|seen: &Seen, _: &str| {
        let names = ["a", "b", "c"];
        page(&[names[number(seen) % 3]], Some(&format!("?page={}", (number(seen) + 1) % 3)))
    })
    .await;
    // Nothing but names that no tag can have.
    let empty = Fake::start(|seen: &Seen, _: &str| page(&["?"], Some(&format!("?page={}", number(seen) + 1)))).await;
    // Every other page empty.
    let thin = Fake::start(|seen: &Seen, _: &str| {
        let name = format!("v{}", number(seen));
        let names = if number(seen).is_multiple_of(2) { vec![name.as_str()] } else { vec![] };
        page(&names, Some(&format!("?page={}", number(seen) + 1)))
    })
    .await;
    for (fake, requests) in [(same, 1), (circle, 5), (empty, 2), (thin, 11)] {
        let answer = tags(&fake, 10).await;
        assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{answer:?}");
        assert_eq!(fake.seen().len(), requests);
    }
    // A new tag on every page.
    let fresh = Fake::start(|seen: &Seen, _: &str| {
        page(&[&format!("v{}", number(seen))], Some(&format!("?page={}", number(seen) + 1)))
    })
    .await;
    assert_eq!(tags(&fresh, 5).await, limit(fresh.repository()));
    assert_eq!(fresh.seen().len(), 6);
}

#[tokio::test]
async fn as_many_tags_as_were_asked_for() {
    let names: Vec<String> = (0..1001).map(|number| format!("v{number}")).collect();
    let fake = Fake::start(move |_: &Seen, _: &str| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        page(&names, None)
    })
    .await;
    assert_eq!(tags(&fake, 1001).await.unwrap().tags.len(), 1001);
    let answer = tags(&fake, 1000).await;
    assert_eq!(answer, Err(RegistryError::TooManyTags { target: fake.repository().to_string(), most: 1000 }));
}

#[tokio::test]
async fn a_page_that_never_ends_is_cut_off() {
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000)).into_bytes();
    let (host, sent) = endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk).await;
    let answer = client(&no_config()).tags(&only_repository(&host), 10).await;
    assert!(matches!(answer, Err(RegistryError::TooLarge { limit: PAGE_LIMIT, .. })), "{answer:?}");
    // What the sockets buffer comes on top.
    assert!(sent.load(Ordering::Relaxed) < 4 * PAGE_LIMIT);
}

/// The body of a page that comes only after `delay`.
fn late(delay: Duration, answer: Response) -> Response {
    let (parts, body) = answer.into_parts();
    let bytes = async move {
        tokio::time::sleep(delay).await;
        axum::body::to_bytes(body, PAGE_LIMIT).await
    };
    Response::from_parts(parts, Body::from_stream(futures_util::stream::once(bytes)))
}

#[tokio::test]
async fn each_page_has_its_own_time() {
    let (delay, timeout) = (Duration::from_millis(1500), Duration::from_secs(5));
    let fake = Fake::start(move |seen: &Seen, _: &str| match number(seen) {
        last @ 4 => late(delay, page(&[&format!("v{last}")], None)),
        number => late(delay, page(&[&format!("v{number}")], Some(&format!("?page={}", number + 1)))),
    })
    .await;
    let start = Instant::now();
    let answer = client_with(&no_config(), timeout).tags(&fake.repository(), 10).await;
    assert_eq!(answer, Ok(list(&["v0", "v1", "v2", "v3", "v4"], 0)));
    assert!(start.elapsed() > timeout);

    let fake = Fake::start(move |seen: &Seen, _: &str| match number(seen) {
        0 => page(&["a"], Some("?page=1")),
        _ => late(Duration::from_secs(60), page(&["b"], None)),
    })
    .await;
    let answer = client_with(&no_config(), timeout).tags(&fake.repository(), 10).await;
    assert!(matches!(answer, Err(RegistryError::Timeout { .. })), "{answer:?}");
}
