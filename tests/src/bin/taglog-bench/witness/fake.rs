//! A registry that costs next to nothing: it holds no images, and makes each manifest from the tag's name.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use taglog_proto::name::Digest;
use tokio::runtime::Runtime;

use crate::BenchResult;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Tags in one page of a list, so that pages are followed.
const PAGE: usize = 100;

/// It serves from a thread of its own until it is dropped.
pub struct FakeRegistry {
    /// `127.0.0.1:port`.
    pub host: String,
    content: Arc<Content>,
    _runtime: Runtime,
}

struct Content {
    tags: usize,
    per_repository: usize,
    /// The names behind the digests, as numbers of tags.
    by_digest: HashMap<String, usize>,
}

impl FakeRegistry {
    /// A registry of `tags` tags, so many in each repository.
    pub fn start(tags: usize, per_repository: usize) -> BenchResult<FakeRegistry> {
        let digest = |tag: usize| Digest::sha256(manifest(tag).as_bytes()).to_string();
        let by_digest = (0..tags).map(|tag| (digest(tag), tag)).collect();
        let content = Arc::new(Content { tags, per_repository, by_digest });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let host = listener.local_addr()?.to_string();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&content));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(FakeRegistry { host, content, _runtime: runtime })
    }

    /// The paths of its repositories.
    pub fn repositories(&self) -> impl Iterator<Item = String> {
        (0..self.content.tags.div_ceil(self.content.per_repository)).map(|number| format!("bench/r{number}"))
    }
}

/// What tag number `tag` points to: an image without layers.
fn manifest(tag: usize) -> String {
    let config = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[],"annotations":{{"tag":"{tag}"}}}}"#
    )
}

/// HEAD as GET: the body is left out by what sends it.
async fn answer(State(content): State<Arc<Content>>, uri: Uri) -> Response {
    if uri.path() == "/v2/" {
        return "{}".into_response();
    }
    let found = content.find(uri.path(), uri.query().unwrap_or(""));
    found.unwrap_or_else(|| (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#).into_response())
}

impl Content {
    fn find(&self, path: &str, query: &str) -> Option<Response> {
        let (number, rest) = path.strip_prefix("/v2/bench/r")?.split_once('/')?;
        let number: usize = number.parse().ok()?;
        let tags = number * self.per_repository..self.tags.min((number + 1) * self.per_repository);
        match rest.split_once('/')? {
            ("tags", "list") => Some(list(number, tags, query)),
            ("manifests", digest) if digest.contains(':') => Some(served(*self.by_digest.get(digest)?)),
            ("manifests", tag) => tag.strip_prefix('t')?.parse().ok().filter(|tag| tags.contains(tag)).map(served),
            _ => None,
        }
    }
}

fn served(tag: usize) -> Response {
    let body = manifest(tag);
    let digest = Digest::sha256(body.as_bytes()).to_string();
    ([(header::CONTENT_TYPE.as_str(), MANIFEST.to_owned()), ("docker-content-digest", digest)], Body::from(body))
        .into_response()
}

/// The page after the tag that `last` names.
fn list(number: usize, tags: std::ops::Range<usize>, query: &str) -> Response {
    let last = query.split('&').find_map(|pair| pair.strip_prefix("last=t")?.parse::<usize>().ok());
    let start = last.map_or(tags.start, |last| last + 1);
    let end = tags.end.min(start + PAGE);
    let names: Vec<String> = (start..end).map(|tag| format!("t{tag}")).collect();
    let body = serde_json::json!({ "name": format!("bench/r{number}"), "tags": names }).to_string();
    let json = [(header::CONTENT_TYPE, "application/json".to_owned())];
    if end == tags.end {
        return (json, body).into_response();
    }
    let next = format!("</v2/bench/r{number}/tags/list?n={PAGE}&last=t{}>; rel=\"next\"", end - 1);
    (json, [(header::LINK, next)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is listed, page by page, has a manifest by tag and by digest.
    #[tokio::test]
    async fn every_tag_is_listed_and_served() {
        let registry = tokio::task::spawn_blocking(|| FakeRegistry::start(350, 150)).await.unwrap().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (mut seen, base) = (Vec::new(), format!("http://{}", registry.host));
        for repository in registry.repositories() {
            let mut next = Some(format!("/v2/{repository}/tags/list?n=1000"));
            while let Some(page) = next {
                let answer = client.get(format!("{base}{page}")).send().await.unwrap();
                let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
                next = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
                let json: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                let tags = json["tags"].as_array().unwrap().iter();
                seen.extend(tags.map(|tag| format!("{base}/v2/{repository}/manifests/{}", tag.as_str().unwrap())));
            }
        }
        assert_eq!(seen.len(), 350);
        for address in [&seen[0], &seen[349]] {
            let head = client.head(address).send().await.unwrap();
            let digest = head.headers()["docker-content-digest"].to_str().unwrap().to_owned();
            let by_digest = format!("{}/{digest}", address.rsplit_once('/').unwrap().0);
            let body = client.get(by_digest).send().await.unwrap().bytes().await.unwrap();
            assert!(digest.parse::<Digest>().unwrap().matches(&body));
        }
        let missing = format!("{base}/v2/bench/r0/manifests/t150");
        assert_eq!(client.get(missing).send().await.unwrap().status(), 404);
        tokio::task::spawn_blocking(|| drop(registry)).await.unwrap();
    }
}
