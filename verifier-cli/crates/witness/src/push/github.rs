//! GitHub's webhooks for its container registry: the events `package` and `registry_package`.

use serde::Deserialize;

use super::claim::{MalformedPush, PushClaim, parse};

const WHAT: &str = "a GitHub webhook for packages (content type application/json)";

/// The fields that tell whether an event is relevant.
#[derive(Deserialize)]
struct PackageEvent {
    action: String,
    #[serde(alias = "registry_package")]
    package: PackageType,
}

#[derive(Deserialize)]
struct PackageType {
    #[serde(default)]
    package_type: Option<String>,
    #[serde(default)]
    ecosystem: Option<String>,
}

#[derive(Deserialize)]
struct PackageDelivery {
    #[serde(alias = "registry_package")]
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    package_version: Option<PackageVersion>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PackageVersion {
    package_url: Option<String>,
    container_metadata: Option<ContainerMetadata>,
}

#[derive(Deserialize)]
struct ContainerMetadata {
    #[serde(default)]
    tag: Option<ContainerTag>,
}

#[derive(Deserialize)]
struct ContainerTag {
    #[serde(default)]
    name: Option<String>,
}

/// The changed tag or repository of a delivery; `event` is the header `X-GitHub-Event`.
pub(super) fn claims(event: &str, body: &[u8]) -> Result<Vec<PushClaim>, MalformedPush> {
    if !matches!(event, "package" | "registry_package") {
        return Ok(Vec::new());
    }
    let head: PackageEvent = parse(WHAT, body)?;
    if !matches!(head.action.as_str(), "published" | "updated") || !head.package.is_container() {
        return Ok(Vec::new());
    }
    Ok(vec![parse::<PackageDelivery>(WHAT, body)?.package.claim()])
}

impl PackageType {
    fn is_container(&self) -> bool {
        let names = [&self.package_type, &self.ecosystem];
        names
            .into_iter()
            .flatten()
            .any(|name| ["container", "docker"].iter().any(|kind| name.eq_ignore_ascii_case(kind)))
    }
}

impl Package {
    fn claim(self) -> PushClaim {
        let version = self.package_version.unwrap_or_default();
        let tag = version.container_metadata.and_then(|metadata| metadata.tag?.name).unwrap_or_default();
        let from_address = version.package_url.as_deref().and_then(path_in);
        let path = from_address.unwrap_or_else(|| format!("{}/{}", self.namespace.unwrap_or_default(), self.name));
        // Owner names may have upper case in webhooks, but not in the registry.
        PushClaim::path(path.to_ascii_lowercase(), tag)
    }
}

/// The path in `ghcr.io/owner/image:tag`, where the tag may be missing or empty.
fn path_in(address: &str) -> Option<String> {
    let (host, rest) = address.split_once('/')?;
    let path = rest.split_once(':').map_or(rest, |(path, _)| path);
    host.contains('.').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(field: &str, action: &str, kind: &str, version: &str) -> String {
        format!(
            r#"{{"action":"{action}","{field}":{{"id":10696,"name":"app","namespace":"OctoTeam","description":null,
            "ecosystem":"{kind}","package_type":"{kind}","html_url":"https://github.com/OctoTeam/packages/10696",
            "created_at":"2026-11-24T13:31:55Z","owner":{{"login":"OctoTeam","id":21031067,"type":"Organization"}},
            "package_version":{version},
            "registry":{{"name":"GitHub CONTAINER registry","type":"CONTAINER","vendor":"GitHub Inc"}}}},
            "organization":{{"login":"OctoTeam"}},"sender":{{"login":"ann"}}}}"#
        )
    }

    fn version(tag: &str, url: &str) -> String {
        format!(
            r#"{{"id":57755791,"version":"sha256:3da1","name":"sha256:3da1","summary":"","body":{{"x":1}},
            "metadata":[],"container_metadata":{{"tag":{{"name":"{tag}","digest":"sha256:3da1"}},"labels":{{}},
            "manifest":{{"digest":"sha256:3da1","layers":[]}}}},"package_files":[]{url}}}"#
        )
    }

    fn app(tag: &str) -> PushClaim {
        PushClaim::path("octoteam/app".into(), tag.into())
    }

    #[test]
    fn pushes_of_containers() {
        for event in ["package", "registry_package"] {
            for action in ["published", "updated"] {
                for kind in ["CONTAINER", "container", "docker"] {
                    let body = delivery(event, action, kind, &version("1.0", ""));
                    assert_eq!(claims(event, body.as_bytes()), Ok(vec![app("1.0")]), "{body}");
                }
            }
        }
    }

    #[test]
    fn versions_without_tag_mean_the_repository() {
        for version in [
            &*version("", ""),
            "null",
            "{}",
            r#"{"container_metadata":null}"#,
            r#"{"container_metadata":{}}"#,
            r#"{"container_metadata":{"tag":{}}}"#,
        ] {
            let body = delivery("package", "published", "CONTAINER", version);
            assert_eq!(claims("package", body.as_bytes()), Ok(vec![app("")]), "{body}");
        }
    }

    #[test]
    fn the_address_says_where_the_image_is() {
        for (url, path) in [
            ("ghcr.io/OctoTeam/repo/app:1.0", "octoteam/repo/app"),
            ("ghcr.io/OctoTeam/other:", "octoteam/other"),
            ("ghcr.io/OctoTeam/other", "octoteam/other"),
            ("https://ghcr.io/OctoTeam/other", "octoteam/app"),
            ("", "octoteam/app"),
        ] {
            let version = version("1.0", &format!(r#","package_url":"{url}""#));
            let body = delivery("package", "published", "CONTAINER", &version);
            let want = PushClaim::path(path.into(), "1.0".into());
            assert_eq!(claims("package", body.as_bytes()), Ok(vec![want]), "{url}");
        }
    }

    #[test]
    fn other_events_mean_nothing() {
        let push = delivery("package", "published", "CONTAINER", &version("1.0", ""));
        assert_eq!(claims("ping", br#"{"zen":"Keep it logically awesome.","hook_id":1}"#), Ok(vec![]));
        assert_eq!(claims("push", push.as_bytes()), Ok(vec![]));
        // A package of another kind may have any version.
        let npm = delivery("package", "published", "npm", r#"{"package_url":3}"#);
        assert_eq!(claims("package", npm.as_bytes()), Ok(vec![]));
        let deleted = delivery("package", "deleted", "CONTAINER", "{}");
        assert_eq!(claims("package", deleted.as_bytes()), Ok(vec![]));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for bad in [
            "",
            "{",
            "{}",
            "payload=%7B%7D",
            r#"{"action":"published"}"#,
            r#"{"action":"published","package":{"package_type":"container"}}"#,
        ] {
            let error = claims("package", bad.as_bytes()).unwrap_err();
            assert!(error.0.contains("application/json"), "{bad}: {error}");
        }
    }
}
