//! HTTP: bounded bodies, redirects that drop credentials on another origin, and the mapping of failures to
//! [`RegistryError`].

use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;
use taglog_base::text::excerpt;

use super::{
    authorization_cache::{AuthScheme, Authorization},
    error::RegistryError,
    metadata::ResponseMetadata,
    target::{Target, authority, host_only, is_loopback},
};

/// The most redirects for one request. Real registries need one or two.
const MAX_REDIRECTS: usize = 5;
/// Longer values of `Retry-After` count as this; keeps sums far from overflow.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A request without a body.
pub(super) struct RegistryRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Sent to every host that the request is redirected to.
    pub(super) headers: HeaderMap,
}

/// A response, and how it was obtained.
pub(super) struct RegistryResponse {
    pub(super) response: Response,
    /// Whether a redirect led to another origin. No credentials were sent there, and its challenge is not answered.
    pub(super) left_origin: bool,
    /// Whether the request was sent with stored credentials.
    pub(super) logged_in: bool,
}

impl RegistryResponse {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn metadata(&self) -> ResponseMetadata {
        ResponseMetadata::of(self.headers(), self.logged_in)
    }

    /// The error for a response with an unexpected status.
    pub(super) fn refusal(&self, target: &Target) -> RegistryError {
        refusal(target, self.status(), self.headers(), self.logged_in)
    }
}

/// The HTTP clients, and the hosts for which plain HTTP is allowed.
#[derive(Debug)]
pub(super) struct Transport {
    /// For loopback, without a proxy.
    loopback: Client,
    /// For all other hosts, through the system's proxy if there is one.
    remote: Client,
    plain_http: Vec<String>,
}

impl Transport {
    pub(super) fn new(plain_http: Vec<String>) -> Result<Self, RegistryError> {
        let setup = |error: reqwest::Error| RegistryError::Setup { reason: cause(&error) };
        Ok(Self {
            loopback: client().no_proxy().build().map_err(setup)?,
            remote: client().build().map_err(setup)?,
            plain_http: plain_http.iter().map(|host| host.to_ascii_lowercase()).collect(),
        })
    }

    /// Whether plain HTTP is used for `registry` (`host[:port]`).
    pub(super) fn is_plain(&self, registry: &str) -> bool {
        is_loopback(host_only(registry)) || self.plain_http.iter().any(|host| host == registry)
    }

    /// Sends a request and follows redirects. `authorization` is only sent to the origin of the request (scheme, host and
    /// port); after a redirect to another origin it is not sent again.
    pub(super) async fn fetch(
        &self,
        target: &Target,
        request: &RegistryRequest,
        authorization: Option<&Authorization>,
    ) -> Result<RegistryResponse, RegistryError> {
        let mut url = request.url.clone();
        let logged_in = authorization.is_some_and(|authorization| authorization.logged_in);
        let mut auth = authorization.map(|authorization| &authorization.auth);
        let mut left_origin = false;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(request.method.clone(), url.clone()).headers(request.headers.clone());
            let response = send(target, with_authorization(request, auth)).await?;
            let Some(next) = self.redirect(target, &url, &response)? else {
                return Ok(RegistryResponse { response, left_origin, logged_in });
            };
            if next.origin() != url.origin() {
                auth = None;
                left_origin = true;
            }
            url = next;
        }
        Err(redirected_away(target, &url, "too many redirects"))
    }

    /// Sends a form by POST. Its fields are secret, so no redirect is followed, not even to the same host.
    pub(super) async fn post_form(
        &self,
        target: &Target,
        url: Url,
        fields: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        let response = send(target, self.request(Method::POST, url.clone()).form(fields)).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        Err(redirected_away(target, &location(&url, &response).unwrap_or(url), "it would disclose the login"))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let local = url.host_str().is_some_and(is_loopback);
        let client = if local { &self.loopback } else { &self.remote };
        client.request(method, url)
    }

    /// The target of a redirect; `None` where `response` is no redirect.
    fn redirect(&self, target: &Target, from: &Url, response: &Response) -> Result<Option<Url>, RegistryError> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(to) = location(from, response) else {
            return Err(redirected_away(target, from, "the redirect has no well-formed address"));
        };
        // Without TLS anybody on the path could choose the digest of a tag.
        match to.scheme() {
            "https" => Ok(Some(to)),
            "http" if from.scheme() == "https" => {
                Err(redirected_away(target, &to, "it leads from HTTPS to plain HTTP"))
            }
            "http" if self.is_plain(&authority(&to)) => Ok(Some(to)),
            "http" => Err(redirected_away(target, &to, "plain HTTP is not allowed for that host")),
            _ => Err(redirected_away(target, &to, "it is no HTTP address")),
        }
    }
}

/// The common settings of both clients. reqwest's redirects are off because they cannot be limited as
/// [`Transport::redirect`] does; decompression is off because digests are of the bytes as sent.
fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("taglog/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
}

fn with_authorization(request: RequestBuilder, authorization: Option<&AuthScheme>) -> RequestBuilder {
    match authorization {
        None => request,
        Some(AuthScheme::Basic(user, password)) => request.basic_auth(user, Some(password)),
        Some(AuthScheme::Bearer(token)) => request.bearer_auth(token),
    }
}

async fn send(target: &Target, request: RequestBuilder) -> Result<Response, RegistryError> {
    request.send().await.map_err(|error| network(target, &error))
}

fn location(from: &Url, response: &Response) -> Option<Url> {
    resolve_url(from, response.headers().get(LOCATION)?.to_str().ok()?)
}

/// Resolves the reference `text` against `from`; `None` where it is malformed or contains user information.
pub(super) fn resolve_url(from: &Url, text: &str) -> Option<Url> {
    from.join(text).ok().filter(|to| to.username().is_empty() && to.password().is_none())
}

pub(super) fn redirected_away(target: &Target, to: &Url, reason: &'static str) -> RegistryError {
    // Without the query, which may hold a signature or key.
    let to = excerpt(&format!("{}://{}{}", to.scheme(), authority(to), to.path()));
    RegistryError::RedirectedAway { target: target.to_string(), to, reason }
}

/// Reads a body of at most `limit` bytes; holds at most one network read more.
pub(super) async fn read_body(target: &Target, mut response: Response, limit: usize) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::TooLarge { target: target.to_string(), limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network(target, &error))? {
        if chunk.len() > limit - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Parses a JSON object; serde alone would also accept an array for a structure.
pub(super) fn json_object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if body.trim_ascii_start().first() == Some(&b'{') { serde_json::from_slice(body).ok() } else { None }
}

/// The error for a status other than 200.
pub(super) fn refusal(target: &Target, status: StatusCode, headers: &HeaderMap, logged_in: bool) -> RegistryError {
    let (asked, registry) = (target.to_string(), target.registry().to_owned());
    match status.as_u16() {
        401 | 403 => RegistryError::Unauthorized { target: asked, registry, logged_in },
        404 if is_html(headers) => not_a_registry(target, "it answered 404 with an HTML page"),
        404 => RegistryError::NotFound { target: asked, registry },
        429 => RegistryError::RateLimited { target: asked, registry, retry_after: retry_after(headers) },
        503 => RegistryError::Server { target: asked, registry, status: 503, retry_after: retry_after(headers) },
        status => RegistryError::Server { target: asked, registry, status, retry_after: None },
    }
}

/// Fails where the response is an HTML page.
pub(super) fn refuse_html(target: &Target, headers: &HeaderMap) -> Result<(), RegistryError> {
    if is_html(headers) {
        return Err(not_a_registry(target, "it answered with an HTML page"));
    }
    Ok(())
}

pub(super) fn not_a_registry(target: &Target, reason: &str) -> RegistryError {
    RegistryError::NotARegistry {
        target: target.to_string(),
        registry: target.registry().to_owned(),
        reason: excerpt(reason),
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind == "text/html" || kind == "application/xhtml+xml")
}

/// The media type in `Content-Type`, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(reqwest::header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or(value).trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3), at most [`MAX_RETRY_AFTER`]; a date in the past is no wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER).map(HeaderValue::to_str)?.ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn network(target: &Target, error: &reqwest::Error) -> RegistryError {
    RegistryError::Network { target: target.to_string(), registry: target.registry().to_owned(), reason: cause(error) }
}

/// The innermost cause of an error; the outer ones only repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // An error without a source would print its URL; a token service's may hold an account name.
    if error.source().is_none() { "the request failed".to_owned() } else { excerpt(&innermost.to_string()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use taglog_proto::name::Image;

    use super::*;

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        let wait = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers)
        };
        assert_eq!(wait("17"), Some(Duration::from_secs(17)));
        assert_eq!(wait("18446744073709551615"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Sat, 06 Nov 2094 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn plain_http_only_where_allowed() {
        let transport = Transport::new(vec!["Reg.example:5000".to_owned()]).unwrap();
        for plain in ["localhost", "localhost:1", "127.0.0.1:5000", "[::1]:5000", "reg.example:5000"] {
            assert!(transport.is_plain(plain), "{plain}");
        }
        for tls in ["reg.example", "reg.example:5001", "a.reg.example:5000", "10.0.0.1:5000", "docker.io"] {
            assert!(!transport.is_plain(tls), "{tls}");
        }
    }

    /// The result of a redirect from `from` to `to`. The test servers have no TLS, so the response is made here.
    fn redirected(from: &str, to: &str) -> Result<Option<Url>, RegistryError> {
        let transport = Transport::new(vec!["reg.example:5000".to_owned()]).unwrap();
        let target = Target::from(&Image::parse("reg.example/a:v1").unwrap());
        let answer = axum::http::Response::builder().status(307).header("location", to);
        let answer = Response::from(answer.body("").unwrap());
        transport.redirect(&target, &Url::parse(from).unwrap(), &answer)
    }

    #[test]
    fn redirects_never_lead_from_tls_to_plain_http() {
        for to in ["http://reg.example/a", "http://reg.example:5000/a", "http://127.0.0.1:5000/a", "http://localhost/a"]
        {
            let answer = redirected("https://reg.example/a", to);
            assert!(matches!(answer, Err(RegistryError::RedirectedAway { .. })), "{to}");
        }
        let https = redirected("https://reg.example/a", "https://other.example/b").unwrap();
        assert_eq!(https.unwrap().as_str(), "https://other.example/b");
        let relative = redirected("https://reg.example/a", "/b").unwrap();
        assert_eq!(relative.unwrap().as_str(), "https://reg.example/b");
    }

    #[test]
    fn plain_http_redirects_only_to_allowed_hosts() {
        assert!(redirected("http://127.0.0.1/a", "http://reg.example:5000/b").is_ok());
        assert!(redirected("http://127.0.0.1/a", "https://other.example/b").is_ok());
        let answer = redirected("http://127.0.0.1/a", "http://reg.example/b?key=secret");
        let Err(RegistryError::RedirectedAway { to, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(to, "http://reg.example/b");
    }
}
