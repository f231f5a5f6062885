//! A registry whose every answer a test chooses, and which remembers every request that it got.
//!
//! What is said here of a tag is said of its manifest: `HEAD` and `GET` by tag, and `GET` by the digest that the
//! tag's answers claim. What has been set once stays there by its digest, as in a registry that collects no garbage.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::Response,
};
use futures_util::stream;
use serde_json::json;
use taglog_proto::name::Digest;
use tokio::{net::TcpListener, runtime::Runtime, task::AbortHandle};

/// The one user of every hostile registry.
pub const USER: &str = "ann";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct-horse-battery";

/// Both, as `config.json` and the `Authorization` header have them: Base64 with a colon between them.
pub const LOGIN: &str = "YW5uOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DIGEST_HEADER: &str = "docker-content-digest";
const TOKEN_FOR_ALL: &str = "token-for-all";
const TOKEN_FOR_USER: &str = "token-for-user";
/// How many tags a page of an endless list has.
const PAGE: u64 = 1000;

/// A runtime of its own, so that a test may block on another one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A manifest that differs from those of other contents.
pub fn manifest(content: &str) -> Vec<u8> {
    manifest_of_size(content, 0)
}

/// A manifest of at least this many bytes.
pub fn manifest_of_size(content: &str, bytes: usize) -> Vec<u8> {
    let annotations = json!({ "content": content, "filling": "x".repeat(bytes) });
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "annotations": annotations }).to_string().into_bytes()
}

/// The digest of [`manifest`].
pub fn manifest_digest(content: &str) -> Digest {
    Digest::sha256(&manifest(content))
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct FixedResponse {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl FixedResponse {
    /// A status, with the body of a registry's error.
    pub fn status(status: u16) -> FixedResponse {
        let body = json!({ "errors": [{ "code": "UNKNOWN", "message": "as the test wants it" }] }).to_string();
        FixedResponse { status, headers: vec![("content-type", "application/json".to_owned())], body }
    }

    /// An HTML page, as a captive portal sends it.
    pub fn page(status: u16) -> FixedResponse {
        let body = "<html><body>Please log in to the network!</body></html>".to_owned();
        FixedResponse { status, headers: vec![("content-type", "text/html; charset=utf-8".to_owned())], body }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> FixedResponse {
        self.headers.push((name, value.into()));
        self
    }

    fn response(&self) -> Response {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        reply(self.status, &headers, self.body.clone())
    }
}

/// The body that is sent for a digest.
#[derive(Clone, Debug)]
pub enum DigestBody {
    /// 404.
    Nothing,
    /// These bytes, whether they hash to it or not.
    Bytes(Vec<u8>),
    /// Bytes without end, as fast as they are taken.
    Endless,
    /// A byte now and then, without end.
    Drops,
}

/// The response to requests for a tag's manifest.
#[derive(Clone, Debug)]
pub enum ManifestResponse {
    /// An honest answer: this manifest.
    Serves(Vec<u8>),
    /// This manifest, without the header that says its digest.
    ServesWithoutDigest(Vec<u8>),
    /// This digest, and something of the test's choice for it.
    Claims(Digest, DigestBody),
    /// Always the same.
    Answers(FixedResponse),
    /// A redirect to the same path at this address.
    SendsTo(String),
    /// Nothing, on a connection that stays open.
    Stalls,
    /// The inner answer for [`USER`] with [`PASSWORD`], else 401.
    WantsLogin(Box<ManifestResponse>),
    /// The inner answer for whoever has a token, which the registry gives to everybody.
    WantsToken(Box<ManifestResponse>),
    /// The inner answer for whoever has a token, which the registry gives to [`USER`] alone.
    WantsUsersToken(Box<ManifestResponse>),
    /// One answer for each request by tag; the last one for ever.
    InTurn(Vec<ManifestResponse>),
}

impl ManifestResponse {
    /// An honest answer: a manifest with this content.
    pub fn serves(content: &str) -> ManifestResponse {
        ManifestResponse::Serves(manifest(content))
    }

    /// A status, with the body of a registry's error.
    pub fn status(status: u16) -> ManifestResponse {
        ManifestResponse::Answers(FixedResponse::status(status))
    }

    /// The response in which a digest is answered, if this one's answers name it. Whoever is sent elsewhere for a tag
    /// is sent there for any digest, with `redirects`.
    fn for_digest(&self, digest: &Digest, redirects: bool) -> Option<ManifestResponse> {
        let inner = |inner: &ManifestResponse| inner.for_digest(digest, redirects).map(Box::new);
        match self {
            ManifestResponse::Serves(bytes) | ManifestResponse::ServesWithoutDigest(bytes) => {
                digest.matches(bytes).then(|| self.clone())
            }
            ManifestResponse::Claims(claimed, _) => (claimed == digest).then(|| self.clone()),
            ManifestResponse::Answers(_) | ManifestResponse::Stalls => None,
            ManifestResponse::SendsTo(_) => redirects.then(|| self.clone()),
            ManifestResponse::WantsLogin(behind) => inner(behind).map(ManifestResponse::WantsLogin),
            ManifestResponse::WantsToken(behind) => inner(behind).map(ManifestResponse::WantsToken),
            ManifestResponse::WantsUsersToken(behind) => inner(behind).map(ManifestResponse::WantsUsersToken),
            ManifestResponse::InTurn(responses) => {
                responses.iter().find_map(|response| response.for_digest(digest, redirects))
            }
        }
    }
}

/// The response to a request for the tags of a repository.
#[derive(Clone, Debug)]
pub enum TagList {
    /// These tags, on one page.
    Tags(Vec<String>),
    /// Page after page of a thousand new tags each.
    Endless,
    /// The same page, which leads to itself.
    Circle,
    /// A page whose next one is at this address.
    GoesOnAt(String),
    /// One page without end.
    NeverEnds,
    /// Always the same.
    Answers(FixedResponse),
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub at: Instant,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

impl RecordedRequest {
    /// A header field; `None` where it is not there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether it asks for the manifest of this tag, `path:tag`.
    pub fn is_for(&self, image: &str) -> bool {
        image.split_once(':').is_some_and(|(path, tag)| self.uri.path() == format!("/v2/{path}/manifests/{tag}"))
    }
}

#[derive(Default)]
struct RepositoryState {
    tags: HashMap<String, TagState>,
    /// What tags were set to before.
    earlier: Vec<ManifestResponse>,
    list: Option<TagList>,
}

struct TagState {
    response: ManifestResponse,
    /// Requests by tag since it was set.
    asked: usize,
}

#[derive(Default)]
struct RegistryContent {
    repositories: HashMap<String, RepositoryState>,
    /// What is answered to everything.
    everything: Option<FixedResponse>,
    /// What is answered to `GET /v2/`.
    protocol: Option<FixedResponse>,
    /// How far the registry's clock is off, in seconds.
    clock: i64,
    /// What is added to the header of every answer.
    stated: Vec<(&'static str, String)>,
    seen: Vec<RecordedRequest>,
}

struct RegistryState {
    host: String,
    content: Mutex<RegistryContent>,
}

impl RegistryState {
    fn content(&self) -> MutexGuard<'_, RegistryContent> {
        self.content.lock().unwrap()
    }
}

/// A registry whose responses a test chooses. Dropping it closes it.
pub struct HostileRegistry {
    /// `127.0.0.1:port`, the host part of its repositories.
    pub host: String,
    shared: Arc<RegistryState>,
    task: AbortHandle,
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HostileRegistry {
    /// An empty registry on a free port.
    pub fn start() -> HostileRegistry {
        HostileRegistry::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// An empty registry at this address.
    pub fn start_at(address: SocketAddr) -> HostileRegistry {
        let listener = block_on(TcpListener::bind(address)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(RegistryState { host: host.clone(), content: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = RUNTIME.spawn(async move { axum::serve(listener, router).await });
        HostileRegistry { host, shared, task: task.abort_handle() }
    }

    /// The full name of a repository, or of an image, in this registry.
    pub fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.host)
    }

    /// From now on, `path:tag` is answered like this; returns its full name.
    pub fn set(&self, image: &str, response: ManifestResponse) -> String {
        let (path, tag) = image.split_once(':').unwrap();
        let mut content = self.shared.content();
        let repository = content.repositories.entry(path.to_owned()).or_default();
        let before = repository.tags.insert(tag.to_owned(), TagState { response, asked: 0 });
        repository.earlier.extend(before.map(|tag| tag.response));
        self.name(image)
    }

    /// From now on, `path:tag` is not there.
    pub fn remove(&self, image: &str) {
        let (path, tag) = image.split_once(':').unwrap();
        let mut content = self.shared.content();
        let repository = content.repositories.entry(path.to_owned()).or_default();
        let before = repository.tags.remove(tag);
        repository.earlier.extend(before.map(|tag| tag.response));
    }

    /// From now on, the tags of a repository are listed like this, and not as they were set.
    pub fn list(&self, path: &str, list: TagList) {
        self.shared.content().repositories.entry(path.to_owned()).or_default().list = Some(list);
    }

    /// From now on, every request is answered like this; with `None`, as before.
    pub fn everything(&self, fixed: Option<FixedResponse>) {
        self.shared.content().everything = fixed;
    }

    /// From now on, `GET /v2/` is answered like this; with `None`, as a registry does.
    pub fn protocol(&self, fixed: Option<FixedResponse>) {
        self.shared.content().protocol = fixed;
    }

    /// From now on, the registry's clock is off by this many seconds.
    pub fn clock(&self, seconds: i64) {
        self.shared.content().clock = seconds;
    }

    /// From now on, every answer states this in its header as well.
    pub fn states(&self, headers: &[(&'static str, &str)]) {
        self.shared.content().stated = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    }

    pub fn seen(&self) -> Vec<RecordedRequest> {
        self.shared.content().seen.clone()
    }

    /// The requests for the manifest of `path:tag` so far.
    pub fn seen_for(&self, image: &str) -> Vec<RecordedRequest> {
        self.shared.content().seen.iter().filter(|seen| seen.is_for(image)).cloned().collect()
    }

    /// How often `path:tag` was polled with HEAD so far.
    pub fn polls(&self, image: &str) -> usize {
        self.shared.content().seen.iter().filter(|seen| seen.method == Method::HEAD && seen.is_for(image)).count()
    }

    /// How many requests there were so far for this path.
    pub fn asked(&self, path: &str) -> usize {
        self.shared.content().seen.iter().filter(|seen| seen.uri.path() == path).count()
    }
}

/// Blocks on a future, whether the test is on a runtime or not.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    // A thread of its own: a test may be on a runtime itself.
    std::thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(future)).join().unwrap())
}

async fn answer(State(shared): State<Arc<RegistryState>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let seen = RecordedRequest { at: Instant::now(), method: head.method, uri: head.uri, headers: head.headers };
    shared.content().seen.push(seen.clone());
    let mut response = shared.route(&seen).await;
    let (clock, stated) = {
        let content = shared.content();
        (content.clock, content.stated.clone())
    };
    for (name, value) in stated {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    if clock != 0 {
        let shift = Duration::from_secs(clock.unsigned_abs());
        let now = SystemTime::now();
        let date = if clock > 0 { now + shift } else { now - shift };
        response.headers_mut().insert(header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
    }
    response
}

impl RegistryState {
    async fn route(&self, seen: &RecordedRequest) -> Response {
        if let Some(fixed) = &self.content().everything {
            return fixed.response();
        }
        let path = seen.uri.path();
        if path == "/v2/" {
            let protocol = self.content().protocol.clone();
            return protocol.map_or_else(|| reply(200, &[], "{}"), |fixed| fixed.response());
        }
        if path == "/token" {
            return self.token(seen);
        }
        let path = path.strip_prefix("/v2/").unwrap_or("");
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return self.tags(repository, seen);
        }
        match path.split_once("/manifests/") {
            Some((repository, reference)) => self.manifest(repository, reference, seen).await,
            None => not_found(),
        }
    }

    /// Anonymous clients get one token, the user another.
    fn token(&self, seen: &RecordedRequest) -> Response {
        let token = match seen.header("authorization") {
            None => TOKEN_FOR_ALL,
            Some(login) if login == basic() => TOKEN_FOR_USER,
            Some(_) => return FixedResponse::status(401).response(),
        };
        reply(200, &[("content-type", "application/json")], json!({ "token": token }).to_string())
    }

    async fn manifest(&self, path: &str, reference: &str, seen: &RecordedRequest) -> Response {
        let response = match Digest::parse(reference) {
            Ok(digest) => self.by_digest(path, &digest),
            Err(_) => self.by_tag(path, reference),
        };
        match response.map_or_else(|| Some(not_found()), |response| self.as_told(&response, path, seen)) {
            Some(response) => response,
            // Until the other side closes.
            None => std::future::pending().await,
        }
    }

    fn by_digest(&self, path: &str, digest: &Digest) -> Option<ManifestResponse> {
        let content = self.content();
        let repository = content.repositories.get(path)?;
        let responses = || repository.tags.values().map(|tag| &tag.response).chain(&repository.earlier);
        [false, true]
            .iter()
            .find_map(|redirects| responses().find_map(|response| response.for_digest(digest, *redirects)))
    }

    fn by_tag(&self, path: &str, tag: &str) -> Option<ManifestResponse> {
        let mut content = self.content();
        let tag = content.repositories.get_mut(path)?.tags.get_mut(tag)?;
        tag.asked += 1;
        Some(match &tag.response {
            ManifestResponse::InTurn(responses) => responses[(tag.asked - 1).min(responses.len() - 1)].clone(),
            other => other.clone(),
        })
    }

    /// `None` for a response that never comes.
    fn as_told(&self, response: &ManifestResponse, path: &str, seen: &RecordedRequest) -> Option<Response> {
        let response = match response {
            ManifestResponse::Serves(bytes) => serve(bytes, seen),
            ManifestResponse::ServesWithoutDigest(bytes) => reply(200, &[("content-type", MANIFEST)], bytes.clone()),
            ManifestResponse::Claims(digest, _) if seen.method == Method::HEAD => {
                reply(200, &[("content-type", MANIFEST), (DIGEST_HEADER, &digest.to_string())], "")
            }
            ManifestResponse::Claims(digest, sent) => send(digest, sent.clone()),
            ManifestResponse::Answers(fixed) => fixed.response(),
            ManifestResponse::SendsTo(address) => reply(307, &[("location", &format!("{address}{}", seen.uri))], ""),
            ManifestResponse::Stalls => return None,
            ManifestResponse::WantsLogin(inner) => {
                return self.with(&basic(), "Basic realm=\"registry\"", inner, path, seen);
            }
            ManifestResponse::WantsToken(inner) => return self.with_token(TOKEN_FOR_ALL, inner, path, seen),
            ManifestResponse::WantsUsersToken(inner) => return self.with_token(TOKEN_FOR_USER, inner, path, seen),
            ManifestResponse::InTurn(_) => panic!("InTurn is for whole tags"),
        };
        Some(response)
    }

    fn with_token(
        &self,
        token: &str,
        inner: &ManifestResponse,
        path: &str,
        seen: &RecordedRequest,
    ) -> Option<Response> {
        let realm = format!("http://{}/token", self.host);
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:{path}:pull\"");
        self.with(&format!("Bearer {token}"), &challenge, inner, path, seen)
    }

    fn with(
        &self,
        wanted: &str,
        challenge: &str,
        inner: &ManifestResponse,
        path: &str,
        seen: &RecordedRequest,
    ) -> Option<Response> {
        if seen.header("authorization") == Some(wanted) {
            return self.as_told(inner, path, seen);
        }
        Some(FixedResponse::status(401).header("www-authenticate", challenge).response())
    }

    fn tags(&self, path: &str, seen: &RecordedRequest) -> Response {
        let own = format!("http://{}/v2/{path}/tags/list", self.host);
        let last = seen.uri.query().and_then(|query| query.split('&').find_map(|part| part.strip_prefix("last=")));
        let content = self.content();
        let Some(repository) = content.repositories.get(path) else { return not_found() };
        match repository.list.as_ref() {
            None => {
                let mut tags: Vec<&String> = repository.tags.keys().collect();
                tags.sort();
                page(path, json!(tags), None)
            }
            // Whoever is in the middle of an endless list must not find its end here.
            Some(TagList::Tags(_)) if last.is_some() => not_found(),
            Some(TagList::Tags(tags)) => page(path, json!(tags), None),
            Some(TagList::Endless) => {
                let first: u64 = last.and_then(|last| last.parse().ok()).unwrap_or(0);
                let tags: Vec<String> = (first..first + PAGE).map(|number| format!("giant-{number}")).collect();
                page(path, json!(tags), Some(&format!("{own}?last={}", first + PAGE)))
            }
            Some(TagList::Circle) => page(path, json!(["1", "2"]), Some(&own)),
            Some(TagList::GoesOnAt(address)) => page(path, json!(["1", "2"]), Some(address)),
            Some(TagList::NeverEnds) => {
                let head = stream::iter([Ok(Bytes::from_static(b"{\"tags\":[\""))]);
                let body = futures_util::StreamExt::chain(head, zeroes());
                reply(200, &[("content-type", "application/json")], Body::from_stream(body))
            }
            Some(TagList::Answers(fixed)) => fixed.response(),
        }
    }
}

fn serve(bytes: &[u8], seen: &RecordedRequest) -> Response {
    let digest = Digest::sha256(bytes).to_string();
    let tag = format!("\"{digest}\"");
    let headers = [("content-type", MANIFEST), (DIGEST_HEADER, &digest), ("etag", &tag)];
    if seen.header("if-none-match") == Some(&tag) {
        return reply(304, &headers[1..], "");
    }
    reply(200, &headers, bytes.to_owned())
}

fn send(digest: &Digest, sent: DigestBody) -> Response {
    let digest = digest.to_string();
    let headers = [("content-type", MANIFEST), (DIGEST_HEADER, digest.as_str())];
    match sent {
        DigestBody::Nothing => not_found(),
        DigestBody::Bytes(bytes) => reply(200, &headers, bytes),
        DigestBody::Endless => reply(200, &headers, Body::from_stream(zeroes())),
        DigestBody::Drops => {
            let drops = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((std::io::Result::Ok(Bytes::from_static(b"{")), ()))
            });
            reply(200, &headers, Body::from_stream(drops))
        }
    }
}

fn zeroes() -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    static ZEROES: [u8; 1 << 16] = [b'0'; 1 << 16];
    stream::repeat_with(|| Ok(Bytes::from_static(&ZEROES)))
}

fn page(path: &str, tags: serde_json::Value, next: Option<&str>) -> Response {
    let link = next.map(|next| format!("<{next}>; rel=\"next\""));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(link.as_deref().map(|link| ("link", link)));
    reply(200, &headers, json!({ "name": path, "tags": tags }).to_string())
}

fn not_found() -> Response {
    FixedResponse::status(404).response()
}

fn basic() -> String {
    format!("Basic {LOGIN}")
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        response.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
    }
    response
}
