//! Profiles: what publishers document about their tags. The list is shipped with taglog, each entry with its source.

use std::sync::LazyLock;

use serde::Deserialize;
use taglog_proto::name::Image;

use crate::{
    demands::Expectation,
    pattern::{RepositoryPattern, TagPattern},
};

const TEXT: &str = include_str!("profiles.toml");

/// What one publisher documents about some tags.
#[derive(Debug)]
pub struct Profile {
    /// Who publishes the images.
    pub publisher: String,
    repositories: Vec<RepositoryPattern>,
    tags: Vec<TagPattern>,
    /// The expectation for these tags.
    pub expect: Expectation,
    /// A summary of the source.
    pub fact: String,
    /// The address of the source.
    pub source: String,
    /// The day on which the source was last checked: `2026-11-24`.
    pub checked: String,
    /// The line of the entry in the shipped list, counted from 1.
    pub line: usize,
}

impl Profile {
    fn matches(&self, image: &Image) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(&image.repository))
            && (self.tags.is_empty() || self.tags.iter().any(|pattern| pattern.matches(&image.tag)))
    }
}

/// The first profile that matches this image.
pub fn profile_of(image: &Image) -> Option<&'static Profile> {
    static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
        // The list is compiled in, and a test parses it.
        parse(TEXT).unwrap_or_default()
    });
    PROFILES.iter().find(|profile| profile.matches(image))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListToml {
    profile: Vec<toml::Spanned<ProfileToml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileToml {
    publisher: String,
    repositories: Vec<RepositoryPattern>,
    #[serde(default)]
    tags: Vec<String>,
    expect: Expectation,
    fact: String,
    source: String,
    checked: String,
}

fn parse(text: &str) -> Result<Vec<Profile>, toml::de::Error> {
    let list: ListToml = toml::from_str(text)?;
    let profile = |spanned: toml::Spanned<ProfileToml>| {
        let line = line_at(text, spanned.span().start);
        let ProfileToml { publisher, repositories, tags, expect, fact, source, checked } = spanned.into_inner();
        let tags = tags.into_iter().map(TagPattern::shipped).collect();
        Profile { publisher, repositories, tags, expect, fact, source, checked, line }
    };
    Ok(list.profile.into_iter().map(profile).collect())
}

/// The line of this byte offset in a text, counted from 1.
pub(super) fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shipped_list_parses_and_every_entry_has_a_source() {
        let profiles = parse(TEXT).unwrap();
        assert!(profiles.len() > 20);
        let shipped: Vec<&str> = TEXT.lines().collect();
        for profile in &profiles {
            for tags in &profile.tags {
                TagPattern::parse(&tags.to_string()).unwrap();
            }
            assert!(profile.source.starts_with("https://") && !profile.fact.is_empty(), "{profile:?}");
            assert!(format!("{}T00:00:00Z", profile.checked).parse::<taglog_proto::time::Timestamp>().is_ok());
            assert_eq!(shipped[profile.line - 1], "[[profile]]", "{profile:?}");
        }
        let lines: BTreeSet<usize> = profiles.iter().map(|profile| profile.line).collect();
        assert_eq!(lines.len(), profiles.len());
    }

    #[test]
    fn real_images_have_the_documented_expectation() {
        let sha = "0".repeat(64);
        let (signature, referrers) = (format!("a.example/b:sha256-{sha}.sig"), format!("a.example/b:sha256-{sha}"));
        let expected = |image: &str| profile_of(&Image::parse(image).unwrap()).map(|profile| profile.expect);
        use Expectation::{Immutable, Moving, Rebuilds};
        for (image, want) in [
            ("docker.io/library/busybox:1.36.1", Rebuilds),
            ("docker.io/library/busybox:1.36", Moving),
            ("docker.io/library/busybox:1", Moving),
            ("docker.io/library/busybox:stable", Moving),
            ("docker.io/library/busybox:latest", Moving),
            ("docker.io/library/python:3.10.21-slim", Rebuilds),
            ("docker.io/library/python:3.10-slim", Moving),
            ("docker.io/library/postgres:16.4-alpine3.20", Rebuilds),
            ("docker.io/library/postgres:16-alpine3.20", Moving),
            ("docker.io/library/postgres:alpine3.20", Moving),
            ("docker.io/library/debian:bookworm-20260801-slim", Rebuilds),
            ("docker.io/library/debian:bookworm-slim", Moving),
            ("docker.io/library/eclipse-temurin:8u502-b07-jdk", Rebuilds),
            ("docker.io/library/wordpress:cli-2.12.0-php8.2", Rebuilds),
            ("docker.io/library/nginx:1.27-alpine3.20", Moving),
            ("registry.k8s.io/pause:3.10", Immutable),
            ("registry.k8s.io/kube-apiserver:v1.31.0", Immutable),
            ("docker.io/bitnami/redis:7.4.1-debian-12-r0", Immutable),
            ("docker.io/bitnami/redis:7.4.1", Moving),
            ("mcr.microsoft.com/dotnet/aspnet:8.0.0-alpine3.18", Rebuilds),
            ("mcr.microsoft.com/dotnet/aspnet:8.0-alpine3.18", Moving),
            ("gcr.io/distroless/static-debian12:nonroot", Moving),
            ("gcr.io/distroless/static-debian12:debug-nonroot-arm64", Moving),
            ("quay.io/podman/stable:v5.2.1-immutable", Immutable),
            ("quay.io/podman/stable:v5.2.1", Moving),
            ("quay.io/containers/skopeo:latest", Moving),
            ("quay.io/keycloak/keycloak:26.6.4", Rebuilds),
            ("quay.io/keycloak/keycloak:26.6", Moving),
            ("cgr.dev/chainguard/go:1.21.1", Moving),
            (&signature, Moving),
            (&referrers, Moving),
        ] {
            assert_eq!(expected(image), Some(want), "{image}");
        }
        for unknown in [
            "docker.io/team/app:1.0.0",
            "registry.example/app:v1",
            "ghcr.io/x/y:1",
            "quay.io/keycloak/keycloak:26.6.4-1",
        ] {
            assert_eq!(expected(unknown), None, "{unknown}");
        }
    }
}
