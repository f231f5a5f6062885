//! HTTP as registries need it: bounded bodies, redirects that leave credentials behind, and one way to turn
//! what went wrong into a [`RegistryError`].

use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};

use oci_client::secrets::RegistryAuth;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;

use super::{
    circumstances::Circumstances,
    error::{RegistryError, printable},
    grants::Grant,
    target::{Target, authority, host_only, is_loopback},
};

/// How many redirects are followed for one request. Real registries need one or two.
const MOST_REDIRECTS: usize = 5;
/// The longest wait that a registry may ask for; keeps sums with it far from overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A request without a body.
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Sent to every host that the request is redirected to.
    pub(super) headers: HeaderMap,
}

/// An answer, and who gave it to whom.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Whether a redirect led away from the host that was asked. Then no credentials were sent there, and its
    /// wish for some is not fulfilled.
    pub(super) left_origin: bool,
    /// Whether stored credentials were behind the request.
    pub(super) logged_in: bool,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn circumstances(&self) -> Circumstances {
        Circumstances::of(self.headers(), self.logged_in)
    }

    /// The error that this answer is where it is not the one hoped for.
    pub(super) fn refusal(&self, target: &Target) -> RegistryError {
        refusal(target, self.status(), self.headers(), self.logged_in)
    }
}

/// The HTTP clients, and which hosts may be asked without TLS.
#[derive(Debug)]
pub(super) struct Transport {
    /// For this machine itself: a proxy could not reach it, and must not see what is sent to it.
    loopback: Client,
    /// For everything else, through the system's proxy if there is one.
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

    /// Whether `registry` (`host[:port]`) is asked over plain HTTP.
    pub(super) fn is_plain(&self, registry: &str) -> bool {
        is_loopback(host_only(registry)) || self.plain_http.iter().any(|host| host == registry)
    }

    /// Sends a question and follows redirects. `grant` goes to the origin of its address (scheme, host and port)
    /// and nowhere else: once a redirect has left it, it is gone for good.
    pub(super) async fn fetch(
        &self,
        target: &Target,
        question: &Question,
        grant: Option<&Grant>,
    ) -> Result<Answer, RegistryError> {
        let mut url = question.url.clone();
        let mut authorization = grant.map(|grant| &grant.authorization);
        let mut left_origin = false;
        for _ in 0..=MOST_REDIRECTS {
            let request = self.request(question.method.clone(), url.clone()).headers(question.headers.clone());
            let response = send(target, with_authorization(request, authorization)).await?;
            let Some(next) = self.redirect(target, &url, &response)? else {
                let logged_in = grant.is_some_and(|grant| grant.logged_in);
                return Ok(Answer { response, left_origin, logged_in });
            };
            if next.origin() != url.origin() {
                authorization = None;
                left_origin = true;
            }
            url = next;
        }
        Err(away(target, &url, "too many redirects"))
    }

    /// Sends a form by POST. Its fields are secret, so that no redirect is followed, not even on the same host.
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
        Err(away(target, &location(&url, &response).unwrap_or(url), "it would carry the login along"))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let local = url.host_str().is_some_and(is_loopback);
        let client = if local { &self.loopback } else { &self.remote };
        client.request(method, url)
    }

    /// Where `response` redirects to; `None` where it is no redirect.
    fn redirect(&self, target: &Target, from: &Url, response: &Response) -> Result<Option<Url>, RegistryError> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(to) = location(from, response) else {
            return Err(away(target, from, "the redirect has no readable address"));
        };
        // Without TLS anybody on the way could choose the digest of a tag.
        match to.scheme() {
            "https" => Ok(Some(to)),
            "http" if from.scheme() == "https" => Err(away(target, &to, "it leads from HTTPS to plain HTTP")),
            "http" if self.is_plain(&authority(&to)) => Ok(Some(to)),
            "http" => Err(away(target, &to, "plain HTTP is not allowed for that host")),
            _ => Err(away(target, &to, "it is no HTTP address")),
        }
    }
}

/// One client setting for all requests. reqwest's own redirects are off because they cannot refuse to go from
/// HTTPS to a plain HTTP host of our choice; its decompression is off because digests are of the bytes sent.
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

fn with_authorization(request: RequestBuilder, authorization: Option<&RegistryAuth>) -> RequestBuilder {
    match authorization {
        None | Some(RegistryAuth::Anonymous) => request,
        Some(RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
        Some(RegistryAuth::Bearer(token)) => request.bearer_auth(token),
    }
}

async fn send(target: &Target, request: RequestBuilder) -> Result<Response, RegistryError> {
    request.send().await.map_err(|error| network(target, &error))
}

fn location(from: &Url, response: &Response) -> Option<Url> {
    resolve(from, response.headers().get(LOCATION)?.to_str().ok()?)
}

/// The address that `text` means on the page at `from`; `None` where it is none, or brings a login of its own.
pub(super) fn resolve(from: &Url, text: &str) -> Option<Url> {
    from.join(text).ok().filter(|to| to.username().is_empty() && to.password().is_none())
}

pub(super) fn away(target: &Target, to: &Url, reason: &'static str) -> RegistryError {
    // The query is left out: signed addresses carry a key in it.
    let to = printable(&format!("{}://{}{}", to.scheme(), authority(to), to.path()));
    RegistryError::RedirectedAway { target: target.to_string(), to, reason }
}

/// Reads a body of at most `limit` bytes, never holding more than one network read beyond it.
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

/// What a body says that is a JSON object; serde alone would take an array for a structure as well.
pub(super) fn json_object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if body.trim_ascii_start().first() == Some(&b'{') { serde_json::from_slice(body).ok() } else { None }
}

/// The error that a status other than 200 stands for.
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

/// An error where the answer is a page for people.
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
        reason: printable(reason),
    }
}

/// Whether the answer is a page for people.
fn is_html(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind == "text/html" || kind == "application/xhtml+xml")
}

/// The media type in `Content-Type`, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(reqwest::header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or(value).trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

/// `Retry-After` in either of its forms, at most [`LONGEST_WAIT`]; a date in the past is no wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER).map(HeaderValue::to_str)?.ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

fn network(target: &Target, error: &reqwest::Error) -> RegistryError {
    RegistryError::Network { target: target.to_string(), registry: target.registry().to_owned(), reason: cause(error) }
}

/// The innermost cause of an error: the outer ones only repeat the address.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // An error without a source would print its URL; a token service's may hold an account name.
    if error.source().is_none() { "the request failed".to_owned() } else { printable(&innermost.to_string()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use taglog_proto::name::Image;

    use super::*;

    #[test]
    fn retry_after_forms() {
        let wait = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers)
        };
        assert_eq!(wait("17"), Some(Duration::from_secs(17)));
        assert_eq!(wait("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Sat, 06 Nov 2094 08:49:37 GMT"), Some(LONGEST_WAIT));
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

    /// What becomes of a redirect from `from` to `to`. TLS cannot be had on loopback, hence no server here.
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
