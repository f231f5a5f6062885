//! Names: repositories, tags, images, digests, witnesses (SPEC.md section 2).
//!
//! `parse` accepts only the canonical form, which entries hold. User input (`busybox`,
//! `Docker.io/busybox:latest`) is brought into that form by [`Reference::parse`] first.

use std::{fmt, net::Ipv6Addr, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::c2sp::encoding::from_hex;
pub use crate::c2sp::{encoding::HexBytes, note::KeyId};

/// The longest repository, host included, in bytes.
pub const MAX_REPOSITORY: usize = 255;
/// The longest tag in bytes.
pub const MAX_TAG: usize = 128;
/// The longest witness name in bytes.
pub const MAX_WITNESS_NAME: usize = 128;

/// Why a name was refused. Each message names the part and the rule that it breaks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// The repository does not begin with a registry host.
    #[error("repository {0:?} names no registry host (one with a '.', a ':' or 'localhost'), such as docker.io/…")]
    NoHost(String),
    /// The host is not in its canonical form.
    #[error("registry host {0:?}: want lower case, no trailing dot, IPv6 in brackets in its shortest form")]
    Host(String),
    /// The port is not 1 to 65535 in plain decimal, or is the default one.
    #[error("registry port {0:?}: want 1 to 65535 without leading zeroes, and no ':443' (it is the default)")]
    Port(String),
    /// The path breaks the OCI distribution grammar.
    #[error("repository path {0:?}: want lower-case letters and digits, parted by '/', '.', '_', '__' or '-'")]
    Path(String),
    /// A Docker Hub name in one of its short forms.
    #[error("repository {0:?}: want Docker Hub's names in full, as docker.io/library/busybox")]
    DockerShortName(String),
    /// `git+…` is kept for Git tags, which come later.
    #[error("repository {0:?}: names beginning with 'git+' are reserved for Git tags, which this version does not log")]
    ReservedGit(String),
    /// Over [`MAX_REPOSITORY`] bytes.
    #[error("a repository of {0} bytes is over the limit of 255")]
    RepositoryTooLong(usize),
    /// The tag breaks `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    #[error("tag {0:?}: want 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'")]
    Tag(String),
    /// The digest is not `sha256:` + 64 or `sha512:` + 128 lower-case hex digits.
    #[error("digest {0:?}: want sha256: and 64, or sha512: and 128 lower-case hex digits")]
    Digest(String),
    /// No `:` between repository and tag.
    #[error("image {0:?} has no tag: want repository:tag")]
    NoTag(String),
    /// The witness name breaks `[a-z0-9._/-]{1,128}`.
    #[error("witness name {0:?}: want 1 to 128 of a-z, 0-9, '.', '_', '/', '-'")]
    WitnessName(String),
    /// The witness id is not a name, `+` and 8 hex digits.
    #[error("witness id {0:?}: want a witness name, '+' and 8 lower-case hex digits")]
    WitnessId(String),
}

/// Shows at most 80 characters of hostile input in an error.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A repository in canonical form: `host[:port]/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Arc<str>);

impl Repository {
    /// Parses the canonical form (SPEC.md section 2.1).
    ///
    /// # Errors
    /// Every variant of [`NameError`] about repositories, hosts, ports and paths.
    pub fn parse(text: &str) -> Result<Repository, NameError> {
        if text.starts_with("git+") {
            return Err(NameError::ReservedGit(shown(text)));
        }
        if text.len() > MAX_REPOSITORY {
            return Err(NameError::RepositoryTooLong(text.len()));
        }
        let (host, path) = text.split_once('/').ok_or_else(|| NameError::NoHost(shown(text)))?;
        check_host_and_port(host)?;
        check_path(path)?;
        let short = host == "docker.io" && !path.contains('/');
        if short || matches!(host, "index.docker.io" | "registry-1.docker.io") {
            return Err(NameError::DockerShortName(shown(text)));
        }
        Ok(Repository(text.into()))
    }

    /// The registry: `host[:port]`.
    pub fn registry(&self) -> &str {
        self.0.split_once('/').map_or("", |(host, _)| host)
    }

    /// The path within the registry.
    pub fn path(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, path)| path)
    }

    /// The name as text: `host[:port]/path`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_host_and_port(text: &str) -> Result<(), NameError> {
    let names_a_host = text.contains('.') || text.contains(':') || text == "localhost";
    if !names_a_host {
        return Err(NameError::NoHost(shown(text)));
    }
    let (host, port) = split_port(text);
    let good_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_string() == inner),
        None => host.split('.').all(is_host_label),
    };
    if !good_host {
        return Err(NameError::Host(shown(text)));
    }
    port.map_or(Ok(()), check_port)
}

/// Splits `host:port`; the colons of a bracketed IPv6 address belong to the host.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_host_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

fn check_port(port: &str) -> Result<(), NameError> {
    let canonical = port.parse::<u16>().is_ok_and(|n| n > 0 && n != 443 && n.to_string() == port);
    if canonical { Ok(()) } else { Err(NameError::Port(shown(port))) }
}

/// The path grammar of the OCI distribution specification ("Pulling manifests").
fn check_path(path: &str) -> Result<(), NameError> {
    if path.split('/').all(is_path_component) { Ok(()) } else { Err(NameError::Path(shown(path))) }
}

fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_separator = |s: &str| matches!(s, "." | "_" | "__") || (!s.is_empty() && s.bytes().all(|b| b == b'-'));
    let mut rest = component;
    loop {
        let word = rest.bytes().take_while(|b| alphanumeric(*b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.bytes().take_while(|b| matches!(b, b'.' | b'_' | b'-')).count();
        if !is_separator(&rest[..separator]) {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// A tag: 1 to 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Parses `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution specification).
    ///
    /// # Errors
    /// [`NameError::Tag`].
    pub fn parse(text: &str) -> Result<Tag, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Tag(text.into())) } else { Err(NameError::Tag(shown(text))) }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the log keeps a history of: `repository:tag`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// The repository, host included.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl Image {
    /// Parses `repository:tag` in canonical form, split at the last colon.
    ///
    /// # Errors
    /// [`NameError::NoTag`], or the errors of [`Repository::parse`] and [`Tag::parse`].
    pub fn parse(text: &str) -> Result<Image, NameError> {
        let (repository, tag) = text.rsplit_once(':').ok_or_else(|| NameError::NoTag(shown(text)))?;
        Ok(Image { repository: Repository::parse(repository)?, tag: Tag::parse(tag)? })
    }
}

/// The digest of a manifest (OCI image specification, "Digests").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// `sha256:` and 64 hex digits.
    Sha256([u8; 32]),
    /// `sha512:` and 128 hex digits.
    Sha512([u8; 64]),
}

impl Digest {
    /// Parses `sha256:…` or `sha512:…` in lower case.
    ///
    /// # Errors
    /// [`NameError::Digest`].
    pub fn parse(text: &str) -> Result<Digest, NameError> {
        let parsed = match text.split_once(':') {
            Some(("sha256", hex)) => from_hex(hex).map(Digest::Sha256),
            Some(("sha512", hex)) => from_hex(hex).map(Digest::Sha512),
            _ => None,
        };
        parsed.ok_or_else(|| NameError::Digest(shown(text)))
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Whether `bytes` hash to this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        use sha2::Digest as _;
        match self {
            Digest::Sha256(hash) => sha2::Sha256::digest(bytes)[..] == hash[..],
            Digest::Sha512(hash) => sha2::Sha512::digest(bytes)[..] == hash[..],
        }
    }
}

/// A witness's name: `[a-z0-9._/-]{1,128}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessName(Arc<str>);

impl WitnessName {
    /// Parses a witness name.
    ///
    /// # Errors
    /// [`NameError::WitnessName`].
    pub fn parse(text: &str) -> Result<WitnessName, NameError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'/' | b'-');
        if (1..=MAX_WITNESS_NAME).contains(&text.len()) && text.bytes().all(good) {
            Ok(WitnessName(text.into()))
        } else {
            Err(NameError::WitnessName(shown(text)))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `<name>+<8 hex key id>`: identifies one public key for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessId {
    /// The witness's name.
    pub name: WitnessName,
    /// The id of its key.
    pub key_id: KeyId,
}

impl WitnessId {
    /// Parses `<name>+<8 hex key id>`.
    ///
    /// # Errors
    /// [`NameError::WitnessId`] or [`NameError::WitnessName`].
    pub fn parse(text: &str) -> Result<WitnessId, NameError> {
        let error = || NameError::WitnessId(shown(text));
        let (name, id) = text.split_once('+').ok_or_else(error)?;
        Ok(WitnessId { name: WitnessName::parse(name)?, key_id: KeyId::parse(id).ok_or_else(error)? })
    }
}

/// An image reference as users write it, in canonical form: Docker's short names are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest after `@`, if one was written.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses `[host[:port]/]path[:tag][@digest]` by Docker's rules: without a host it is Docker
    /// Hub's, without a `/` it is one of Docker Hub's official images.
    ///
    /// # Errors
    /// The errors of the parsers of repository, tag and digest.
    pub fn parse(text: &str) -> Result<Reference, NameError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let path_start = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[path_start..].split_once(':') {
            Some((last, tag)) => (&rest[..path_start + last.len()], Some(Tag::parse(tag)?)),
            None => (rest, None),
        };
        Ok(Reference { repository: Repository::parse(&expand(name))?, tag, digest })
    }

    /// The image, when a tag was written.
    ///
    /// # Errors
    /// [`NameError::NoTag`].
    pub fn image(&self) -> Result<Image, NameError> {
        let tag = self.tag.clone().ok_or_else(|| NameError::NoTag(self.repository.to_string()))?;
        Ok(Image { repository: self.repository.clone(), tag })
    }
}

/// Expands Docker's short names and drops the default port, as the distribution reference does.
fn expand(name: &str) -> String {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains('.') || host.contains(':') || host == "localhost" => {
            (host.to_ascii_lowercase(), path.to_owned())
        }
        _ => ("docker.io".to_owned(), name.to_owned()),
    };
    let host = host.strip_suffix(":443").unwrap_or(&host);
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" if !path.contains('/') => {
            format!("docker.io/library/{path}")
        }
        "index.docker.io" | "registry-1.docker.io" => format!("docker.io/{path}"),
        _ => format!("{host}/{path}"),
    }
}

macro_rules! text_form {
    ($($name:ident: $self:ident => $text:expr),* $(,)?) => {$(
        impl fmt::Display for $name {
            fn fmt(&$self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", $text)
            }
        }
    )*};
}

text_form! {
    Repository: self => self.0,
    Tag: self => self.0,
    Image: self => format_args!("{}:{}", self.repository, self.tag),
    WitnessName: self => self.0,
    WitnessId: self => format_args!("{}+{}", self.name, self.key_id),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Digest::Sha256(hash) => write!(f, "sha256:{}", HexBytes(hash)),
            Digest::Sha512(hash) => write!(f, "sha512:{}", HexBytes(hash)),
        }
    }
}

macro_rules! from_str {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $name::parse(text)
            }
        }
    )*};
}

from_str!(Repository, Tag, Image, Digest, WitnessName, WitnessId, Reference);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_one_canonical_form() {
        let sixty_three = format!("docker.io/{}", ["a"; 120].join("/"));
        for good in [
            "docker.io/library/busybox",
            "localhost/x",
            "localhost:5000/x",
            "registry.example:5000/team/app",
            "[::1]:5000/x",
            "[2001:db8::1]/x",
            "127.0.0.1:5000/a.b_c__d---e/f",
            "a.b/c",
            "x-y.z/0",
            &sixty_three,
        ] {
            assert_eq!(Repository::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "/",
            "a/b",
            "docker.io",
            "docker.io/",
            "docker.io//x",
            "docker.io/x/",
            "docker.io/busybox",
            "Docker.io/x/y",
            "docker.io/X/y",
            "docker.io/x/y ",
            "index.docker.io/x/y",
            "registry-1.docker.io/x/y",
            "a.b:443/c",
            "a.b:0/c",
            "a.b:080/c",
            "a.b:65536/c",
            "a.b:/c",
            "a.b:x/c",
            "a.b:+80/c",
            "a.b./c",
            ".a.b/c",
            "a..b/c",
            "-a.b/c",
            "a-.b/c",
            "[::1/c",
            "::1/c",
            "[0:0::1]/c",
            "[::1]x/c",
            "[::1]]:5/c",
            "a.b/c..d",
            "a.b/_c",
            "a.b/c_",
            "a.b/c___d",
            "a.b/c.-d",
            "a.b/c:d",
            "git+https.x/y",
            "a.b/c\n",
            "é.b/c",
            "a_b.c/d",
            "localhost5/x",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Repository::parse(&format!("a.b/{}", "c".repeat(251))).is_ok());
        assert!(Repository::parse(&format!("a.b/{}", "c".repeat(252))).is_err());
    }

    #[test]
    fn references_are_brought_into_canonical_form() {
        for (text, want) in [
            ("busybox", "docker.io/library/busybox"),
            ("martes13/harmless", "docker.io/martes13/harmless"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("registry-1.docker.io/a/b", "docker.io/a/b"),
            ("Registry.Example:443/a", "registry.example/a"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a", "localhost:5000/a"),
        ] {
            let reference = Reference::parse(&format!("{text}:1.0")).unwrap();
            assert_eq!(reference.repository.to_string(), want);
            assert_eq!(reference.tag, Some(Tag::parse("1.0").unwrap()));
            assert_eq!(Reference::parse(text).unwrap().tag, None);
        }
        let digest = Digest::sha256(b"a");
        let pinned = Reference::parse(&format!("busybox:1@{digest}")).unwrap();
        assert_eq!((pinned.digest, pinned.tag.is_some()), (Some(digest), true));
        for bad in ["", ":1", "a:", "a@sha256:00", "A/b:1", "a:b:c", "-a", "a b"] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn malformed_digests_tags_and_witnesses_are_refused() {
        let digest = Digest::sha256(b"");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        let upper = digest.to_string().to_uppercase().replace("SHA256", "sha256");
        for bad in ["", "sha256:", "md5:00", &upper, &digest.to_string()[..70], &format!("{digest}0")] {
            assert!(Digest::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".a", "-a", "a b", "a\n", "é", &"a".repeat(129)] {
            assert!(Tag::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Tag::parse(&"a".repeat(128)).is_ok());
        for bad in ["a", "a+", "a+1234567", "a+1234567G", "a+123456789", "A+12345678", "+12345678", "a+1234567A"] {
            assert!(WitnessId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(WitnessId::parse("a/b+0123abcd").unwrap().to_string(), "a/b+0123abcd");
    }
}
