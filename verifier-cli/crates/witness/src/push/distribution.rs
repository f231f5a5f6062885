//! Notifications of Docker Distribution and of registries derived from it.
//!
//! An envelope holds events. Version 2 (`…events.v2+json`, from Distribution 3 on) has the same fields. A push or
//! deletion of a tag names it; a push or deletion by digest names the repository alone. A push by digest moves no tag and is
//! ignored: a multi-platform image has one for each platform, which must not cause a poll of every tag of the repository.

use serde::Deserialize;

use super::{
    claim::{BoundedList, MalformedPush, PushClaim, parse},
    source::MAX_EVENTS,
};

#[derive(Deserialize)]
struct Envelope {
    events: BoundedList<DistributionEvent, MAX_EVENTS>,
}

#[derive(Deserialize)]
struct DistributionEvent {
    action: String,
    target: EventTarget,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventTarget {
    repository: String,
    tag: String,
}

/// The changed tags and repositories of an envelope.
pub(super) fn claims(body: &[u8]) -> Result<Vec<PushClaim>, MalformedPush> {
    let envelope: Envelope = parse("an envelope of Docker Distribution notifications", body)?;
    let changes = envelope.events.0.into_iter().filter(changes_a_tag);
    Ok(changes.map(|DistributionEvent { target, .. }| PushClaim::path(target.repository, target.tag)).collect())
}

fn changes_a_tag(event: &DistributionEvent) -> bool {
    match event.action.as_str() {
        "push" => !event.target.tag.is_empty(),
        // Deleted blobs look like manifests deleted by digest. They are rare, and an unnecessary poll does no harm.
        "delete" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event with all the fields that a registry sends.
    fn event(action: &str, target: &str) -> String {
        format!(
            r#"{{"id":"0e3a8d0c-6f0e-4d6e-9d0b-5f6f0d8f3c11","timestamp":"2026-11-24T13:31:55.534267858Z",
            "action":"{action}","target":{target},
            "request":{{"id":"9b76df30-8969-476a-bf32-efa55da4ea22","addr":"10.0.0.7:36902","host":"registry:5000",
            "method":"PUT","useragent":"skopeo/1.9.3"}},
            "actor":{{"name":"ann"}},"source":{{"addr":"registry-6d9f:5000","instanceID":"041e138f"}}}}"#
        )
    }

    fn target(media_type: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","size":259,"digest":"sha256:ee2d","length":259,"repository":"team/app",
            "url":"http://registry:5000/v2/team/app/manifests/sha256:ee2d"{more}}}"#
        )
    }

    fn envelope(events: &[String]) -> Vec<PushClaim> {
        claims(format!(r#"{{"events":[{}]}}"#, events.join(",")).as_bytes()).unwrap()
    }

    fn app(tag: &str) -> PushClaim {
        PushClaim::path("team/app".into(), tag.into())
    }

    #[test]
    fn pushes_of_tags() {
        for media_type in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.example.new",
        ] {
            let tagged = event("push", &target(media_type, r#","tag":"1.0""#));
            let by_digest = event("push", &target(media_type, ""));
            assert_eq!(envelope(&[by_digest, tagged]), [app("1.0")], "{media_type}");
        }
    }

    #[test]
    fn deletions_with_and_without_tag() {
        let by_digest = event("delete", r#"{"digest":"sha256:ee2d","repository":"team/app"}"#);
        let of_tag = event("delete", r#"{"repository":"team/app","tag":"1.0"}"#);
        assert_eq!(envelope(&[by_digest, of_tag]), [app(""), app("1.0")]);
    }

    #[test]
    fn pulls_and_blobs_mean_nothing() {
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let events = [
            event("pull", &target(manifest, r#","tag":"1.0""#)),
            event("push", &target("application/octet-stream", "")),
            event("push", &target("application/vnd.docker.image.rootfs.diff.tar.gzip", "")),
            event("push", &target("application/vnd.oci.image.config.v1+json", "")),
            event("mount", &target("application/octet-stream", r#","fromRepository":"team/other""#)),
            event("", &target(manifest, r#","tag":"1.0""#)),
        ];
        assert_eq!(envelope(&events), []);
        assert_eq!(envelope(&[]), []);
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for bad in [
            "",
            "{",
            "[",
            "{}",
            "null",
            "7",
            r#"{"events":null}"#,
            r#"{"events":[3]}"#,
            r#"{"type":"PUSH_ARTIFACT"}"#,
            r#"{"events":[{"action":"push","target":{"tag":1}}]}"#,
        ] {
            let error = claims(bad.as_bytes()).unwrap_err();
            assert!(error.0.contains("Docker Distribution"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_envelope_holds_10_000_events() {
        let body = |count: usize| {
            let events = vec![r#"{"action":"delete","target":{"repository":"a/b"}}"#; count];
            format!(r#"{{"events":[{}]}}"#, events.join(","))
        };
        assert_eq!(claims(body(10_000).as_bytes()).unwrap().len(), 10_000);
        assert!(claims(body(10_001).as_bytes()).unwrap_err().0.contains("more than 10000"));
    }
}
