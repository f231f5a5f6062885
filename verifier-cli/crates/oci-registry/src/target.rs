//! What a request is about: its URL, and the key of the registry's credentials.

use std::{fmt, net::IpAddr};

use reqwest::Url;
use taglog_proto::name::{Digest, Image, Repository, Tag};

use super::error::RegistryError;

/// How many tags are asked for in one request; registries may return fewer or more.
const TAGS_PER_PAGE: usize = 1000;
const DOCKER_HUB: &str = "docker.io";
/// The API host of docker.io.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The key under which Docker stores the credentials of docker.io.
const DOCKER_HUB_CREDENTIALS: &str = "https://index.docker.io/v1/";

/// A tag or a digest, by which a manifest is requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestReference {
    /// The manifest that the tag points to now.
    Tag(Tag),
    /// The manifest of this digest.
    Digest(Digest),
}

impl fmt::Display for ManifestReference {
    /// The tag or digest alone, as it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestReference::Tag(tag) => tag.fmt(f),
            ManifestReference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// What a request is about. Displayed as `repository:tag` or `repository@digest`, or as the repository alone.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) repository: Repository,
    pub(super) subject: Subject,
}

/// What is requested of a repository.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    Manifest(ManifestReference),
    Blob(Digest),
    /// The list of tags.
    Tags,
    /// `GET /v2/`.
    Protocol,
}

impl From<&Image> for Target {
    fn from(image: &Image) -> Self {
        Self::manifest(&image.repository, &ManifestReference::Tag(image.tag.clone()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Manifest(ManifestReference::Tag(tag)) => write!(f, "{}:{tag}", self.repository),
            Subject::Manifest(ManifestReference::Digest(digest)) | Subject::Blob(digest) => {
                write!(f, "{}@{digest}", self.repository)
            }
            Subject::Tags | Subject::Protocol => self.repository.fmt(f),
        }
    }
}

impl Target {
    pub(super) fn manifest(repository: &Repository, reference: &ManifestReference) -> Self {
        Self { repository: repository.clone(), subject: Subject::Manifest(reference.clone()) }
    }

    pub(super) fn blob(repository: &Repository, digest: &Digest) -> Self {
        Self { repository: repository.clone(), subject: Subject::Blob(*digest) }
    }

    /// `host[:port]` as in the repository name.
    pub(super) fn registry(&self) -> &str {
        self.repository.registry()
    }

    /// The key of the registry's credentials in Docker's config.json.
    pub(super) fn credentials_key(&self) -> &str {
        if self.registry() == DOCKER_HUB { DOCKER_HUB_CREDENTIALS } else { self.registry() }
    }

    /// The URL of the request; of a list of tags, the first page.
    ///
    /// URL parsers normalize some hosts, for example `0x7f.1` to 127.0.0.1. Such a host is refused, since another host
    /// than the named one would answer.
    pub(super) fn url(&self, plain_http: bool) -> Result<Url, RegistryError> {
        let scheme = if plain_http { "http" } else { "https" };
        let registry = if self.registry() == DOCKER_HUB { DOCKER_HUB_API } else { self.registry() };
        let host = host_only(registry);
        // An IPv6 address stays the same address, even where the URL parser normalizes it.
        let same_host = |url: &Url| host.starts_with('[') || url.host_str() == Some(host);
        let path = self.repository.path();
        let path = match &self.subject {
            Subject::Manifest(reference) => format!("{path}/manifests/{reference}"),
            Subject::Blob(digest) => format!("{path}/blobs/{digest}"),
            Subject::Tags => format!("{path}/tags/list?n={TAGS_PER_PAGE}"),
            Subject::Protocol => String::new(),
        };
        Url::parse(&format!("{scheme}://{registry}/v2/{path}")).ok().filter(same_host).ok_or_else(|| {
            RegistryError::Network {
                target: self.to_string(),
                registry: self.registry().to_owned(),
                reason: "a URL cannot name that host".to_owned(),
            }
        })
    }
}

/// Whether a URL's host is a loopback address.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host[:port]` of a URL; the port only where it is not the default of the scheme.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The host part of `host[:port]`.
pub(super) fn host_only(registry: &str) -> &str {
    match registry.find(']') {
        Some(end) => &registry[..=end],
        None => registry.split(':').next().unwrap_or(registry),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use super::*;

    fn tagged(image: &str) -> Target {
        Target::from(&Image::parse(image).unwrap())
    }

    #[test]
    fn urls_and_credential_keys_of_each_subject() {
        let hub = tagged("docker.io/library/busybox:1.36");
        assert_eq!(hub.url(false).unwrap().as_str(), "https://registry-1.docker.io/v2/library/busybox/manifests/1.36");
        assert_eq!(hub.credentials_key(), "https://index.docker.io/v1/");
        assert_eq!(hub.to_string(), "docker.io/library/busybox:1.36");

        let digest = Digest::sha256(b"");
        let repository = Repository::parse("[::1]:5000/a/b").unwrap();
        let local = Target::manifest(&repository, &ManifestReference::Digest(digest));
        let url = local.url(true).unwrap();
        assert_eq!(url.as_str(), format!("http://[::1]:5000/v2/a/b/manifests/{digest}"));
        assert_eq!(local.credentials_key(), "[::1]:5000");
        assert_eq!(local.to_string(), format!("[::1]:5000/a/b@{digest}"));

        let tags = Target { repository: repository.clone(), subject: Subject::Tags };
        assert_eq!(tags.url(true).unwrap().as_str(), "http://[::1]:5000/v2/a/b/tags/list?n=1000");
        let protocol = Target { repository, subject: Subject::Protocol };
        assert_eq!(protocol.url(false).unwrap().as_str(), "https://[::1]:5000/v2/");
        assert_eq!((tags.to_string(), protocol.to_string()), ("[::1]:5000/a/b".into(), "[::1]:5000/a/b".into()));
    }

    #[test]
    fn hosts_that_a_url_parser_would_change_are_refused() {
        for host in ["0x7f.1", "127.1", "010.0.0.1", "1.2.3.4.5", "a.1", "xn--a.example", "256.0.0.1:5000"] {
            let answer = tagged(&format!("{host}/a:v1")).url(false);
            assert!(matches!(answer, Err(RegistryError::Network { .. })), "{host} {answer:?}");
        }
        for host in ["127.0.0.1", "10.0.0.1:5000", "[2001:db8::1]", "[::ffff:10.0.0.1]:5000", "xn--bcher-kva.example"] {
            assert!(tagged(&format!("{host}/a:v1")).url(false).is_ok(), "{host}");
        }
    }

    /// The grammar of names excludes characters that would change the structure of the URL.
    #[test]
    fn names_are_not_changed_in_a_url() {
        let longest = "a".repeat(128);
        for (path, tag) in [("a__b/c-d.e", longest.as_str()), ("a---b/0", "_.-"), ("a/b/c", "1.2_3-4..")] {
            let url = tagged(&format!("reg.example:5000/{path}:{tag}")).url(false).unwrap();
            assert_eq!(url.as_str(), format!("https://reg.example:5000/v2/{path}/manifests/{tag}"));
        }
    }

    #[test]
    fn loopback_hosts_are_recognized() {
        for host in ["localhost", "127.0.0.1", "127.9.8.7", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "10.0.0.1", "[::2]", "127.0.0.1.example", ""] {
            assert!(!is_loopback(host), "{host}");
        }
        assert_eq!(host_only("[::1]:5000"), "[::1]");
        assert_eq!(host_only("a.example:5000"), "a.example");
    }
}
