//! An image's name taken apart: which host to ask, for what, and under which name its credentials are kept.

use std::net::IpAddr;

use oci_client::Reference;
use reqwest::Url;

use super::digest::Algorithm;
use super::error::RegistryError;

const DOCKER_HUB: &str = "docker.io";
/// The host that answers for docker.io.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The key under which Docker stores the credentials of docker.io.
const DOCKER_HUB_CREDENTIALS: &str = "https://index.docker.io/v1/";

/// A checked image name. Nothing in it can change the meaning of a URL it is put into.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// `host[:port]` as spelled.
    pub(super) registry: String,
    /// The path within the registry.
    pub(super) path: String,
    /// A tag or a digest.
    pub(super) reference: String,
    /// Whether `reference` is a digest.
    pub(super) by_digest: bool,
}

impl Image {
    /// Checks `repository` (`host[:port]/path`) and `reference` (a tag or a digest).
    pub(super) fn parse(repository: &str, reference: &str) -> Result<Self, RegistryError> {
        let by_digest = reference.contains(':');
        let separator = if by_digest { '@' } else { ':' };
        let invalid = |reason| RegistryError::InvalidName {
            image: super::error::printable(&format!("{repository}{separator}{reference}")),
            reason,
        };
        let (registry, path) = repository.split_once('/').ok_or_else(|| invalid("it has no host"))?;
        if !is_host(registry) {
            return Err(invalid("the host is malformed"));
        }
        if by_digest && Algorithm::of_digest(reference).is_none() {
            return Err(invalid("the digest is neither sha256 nor sha512 in lower-case hex"));
        }
        if !is_path(path) {
            return Err(invalid("the path is malformed"));
        }
        if !by_digest && !is_tag(reference) {
            return Err(invalid("the tag is malformed"));
        }
        let (registry, path, reference) = (registry.to_owned(), path.to_owned(), reference.to_owned());
        Ok(Self { registry, path, reference, by_digest })
    }

    /// The name as a person spells it.
    pub(super) fn spelled(&self) -> String {
        let separator = if self.by_digest { '@' } else { ':' };
        format!("{}/{}{separator}{}", self.registry, self.path, self.reference)
    }

    /// The key of the registry's credentials in Docker's config.json.
    pub(super) fn credentials_key(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_CREDENTIALS } else { &self.registry }
    }

    /// Where the registry serves the manifest.
    pub(super) fn manifest_url(&self, plain_http: bool) -> Result<Url, RegistryError> {
        let scheme = if plain_http { "http" } else { "https" };
        let host = if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry };
        let url = format!("{scheme}://{host}/v2/{}/manifests/{}", self.path, self.reference);
        // A checked name always parses; if it ever did not, an error is better than a panic.
        Url::parse(&url)
            .map_err(|_| RegistryError::InvalidName { image: self.spelled(), reason: "it does not make a URL" })
    }
}

/// Whether `text` is `host[:port]` in the one spelling that URLs keep: no user, no query, no upper case, no
/// octal or hexadecimal address.
fn is_host(text: &str) -> bool {
    let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if !text.bytes().all(known) {
        return false;
    }
    let name_end = text.find(']').map(|i| i + 1).or_else(|| text.find(':')).unwrap_or(text.len());
    let (name, port) = text.split_at(name_end);
    let port_ok = match port.strip_prefix(':') {
        Some(number) => number.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    let same_host = |url: Url| url.host_str() == Some(name);
    port_ok && Url::parse(&format!("https://{text}/")).is_ok_and(same_host)
}

/// Whether `path` follows the distribution grammar. The grammar is that of `oci_client`, which does not
/// know IPv6 hosts: hence the stand-in host.
fn is_path(path: &str) -> bool {
    matches_grammar(path, "tag", |image| image.repository() == path)
}

fn is_tag(tag: &str) -> bool {
    // The crate's expression takes letters of every alphabet in a tag; the grammar takes ASCII only.
    tag.is_ascii() && matches_grammar("path", tag, |image| image.tag() == Some(tag))
}

fn matches_grammar(path: &str, tag: &str, same: impl Fn(&Reference) -> bool) -> bool {
    Reference::try_from(format!("registry.invalid/{path}:{tag}")).is_ok_and(|image| same(&image))
}

/// Whether a URL's host is this machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host[:port]` of a URL, the port only where it is not the scheme's own.
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
mod tests {
    use super::*;

    #[test]
    fn urls_and_credential_keys() {
        let hub = Image::parse("docker.io/library/busybox", "1.36").unwrap();
        assert_eq!(
            hub.manifest_url(false).unwrap().as_str(),
            "https://registry-1.docker.io/v2/library/busybox/manifests/1.36"
        );
        assert_eq!(hub.credentials_key(), "https://index.docker.io/v1/");
        assert_eq!(hub.spelled(), "docker.io/library/busybox:1.36");

        let digest = Algorithm::Sha256.hash(b"");
        let local = Image::parse("[::1]:5000/a/b", &digest).unwrap();
        let url = local.manifest_url(true).unwrap();
        assert_eq!(url.as_str(), format!("http://[::1]:5000/v2/a/b/manifests/{digest}"));
        assert_eq!(local.credentials_key(), "[::1]:5000");
        assert_eq!(local.spelled(), format!("[::1]:5000/a/b@{digest}"));
    }

    #[test]
    fn names_that_could_bend_a_url_are_refused() {
        for repository in [
            "busybox",
            "/busybox",
            "reg.example/",
            "reg.example/a//b",
            "reg.example/../b",
            "reg.example/a?x=y",
            "reg.example/a#b",
            "reg.example/a b",
            "reg.example/A",
            "user@reg.example/a",
            "user:pass@reg.example/a",
            "reg.example:/a",
            "reg.example:0/a",
            "reg.example:99999/a",
            "reg.example:80:90/a",
            "REG.example/a",
            "0x7f.1/a",
            "[::1/a",
            "[::1]5000/a",
            "[0:0:0:0:0:0:0:1]/a",
            "https://reg.example/a",
            "reg.example\\evil/a",
        ] {
            let answer = Image::parse(repository, "latest");
            assert!(matches!(answer, Err(RegistryError::InvalidName { .. })), "{repository}");
        }
        for reference in ["", "a/b", "..", ".a", "a b", "a@b", "a%2fb", "é", "sha256:12", &"a".repeat(129)] {
            let answer = Image::parse("reg.example/a", reference);
            assert!(matches!(answer, Err(RegistryError::InvalidName { .. })), "{reference}");
        }
        assert!(Image::parse("reg.example/a__b/c-d.e", &"a".repeat(128)).is_ok());
    }

    #[test]
    fn loopback() {
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
