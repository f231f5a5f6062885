//! Harbor's webhooks, in its own payload format ("Default") and as CloudEvents.

use serde::Deserialize;

use super::{
    claim::{BoundedList, MalformedPush, PushClaim, parse},
    source::MAX_EVENTS,
};

const WHAT: &str = "a Harbor webhook";

/// The type of an event, on which the other fields depend.
#[derive(Deserialize)]
struct EventType {
    r#type: String,
}

#[derive(Deserialize)]
struct ArtifactEvent {
    /// CloudEvents call it `data`.
    #[serde(alias = "data")]
    event_data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(default)]
    resources: BoundedList<HarborResource, MAX_EVENTS>,
    repository: HarborRepository,
}

#[derive(Deserialize)]
struct HarborResource {
    #[serde(default)]
    tag: String,
}

#[derive(Deserialize)]
struct HarborRepository {
    /// The path within the registry.
    repo_full_name: String,
}

/// The changed tags and repositories of an event.
pub(super) fn claims(body: &[u8]) -> Result<Vec<PushClaim>, MalformedPush> {
    match parse::<EventType>(WHAT, body)?.r#type.as_str() {
        "PUSH_ARTIFACT" | "harbor.artifact.pushed" => Ok(pushed(artifact(body)?)),
        "DELETE_ARTIFACT" | "harbor.artifact.deleted" => Ok(deleted(artifact(body)?)),
        _ => Ok(Vec::new()),
    }
}

fn artifact(body: &[u8]) -> Result<EventData, MalformedPush> {
    Ok(parse::<ArtifactEvent>(WHAT, body)?.event_data)
}

fn pushed(data: EventData) -> Vec<PushClaim> {
    let path = data.repository.repo_full_name;
    let claim = |resource: HarborResource| PushClaim::path(path.clone(), tag(resource.tag));
    data.resources.0.into_iter().map(claim).collect()
}

/// The whole repository: Harbor names one tag of a deleted artifact, but other tags may have been deleted with it.
fn deleted(data: EventData) -> Vec<PushClaim> {
    vec![PushClaim::path(data.repository.repo_full_name, String::new())]
}

/// For an artifact without a tag, Harbor sends its digest as the tag.
fn tag(text: String) -> String {
    if text.contains(':') { String::new() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4";

    fn data(tags: &[&str]) -> String {
        let resource = |tag: &&str| {
            format!(r#"{{"digest":"{DIGEST}","tag":"{tag}","resource_url":"harbor.internal/team/sub/app:{tag}"}}"#)
        };
        let resources: Vec<String> = tags.iter().map(resource).collect();
        format!(
            r#"{{"resources":[{}],"repository":{{"date_created":1677053165,"name":"sub/app","namespace":"team",
            "repo_full_name":"team/sub/app","repo_type":"private"}}}}"#,
            resources.join(",")
        )
    }

    fn default_format(kind: &str, tags: &[&str]) -> String {
        format!(r#"{{"type":"{kind}","occur_at":1680501893,"operator":"robot$ci","event_data":{}}}"#, data(tags))
    }

    fn cloud_event(kind: &str, tags: &[&str]) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"66f7a1a0-0d0f-4a53-a4d4-9d0e3b2f35d1","requestid":"2eedfab8",
            "source":"/projects/2/webhook/policies/15","type":"{kind}","datacontenttype":"application/json",
            "time":"2026-11-24T06:08:43Z","data":{},"operator":"robot$ci"}}"#,
            data(tags)
        )
    }

    fn app(tag: &str) -> PushClaim {
        PushClaim::path("team/sub/app".into(), tag.into())
    }

    #[test]
    fn pushes_in_both_formats() {
        let tags = ["1.0", "latest", DIGEST];
        for body in [default_format("PUSH_ARTIFACT", &tags), cloud_event("harbor.artifact.pushed", &tags)] {
            assert_eq!(claims(body.as_bytes()).unwrap(), [app("1.0"), app("latest"), app("")], "{body}");
        }
    }

    #[test]
    fn deletions_in_both_formats() {
        for tags in [&["1.0"][..], &["1.0", "2.0"], &[DIGEST], &[]] {
            for body in [default_format("DELETE_ARTIFACT", tags), cloud_event("harbor.artifact.deleted", tags)] {
                assert_eq!(claims(body.as_bytes()).unwrap(), [app("")], "{body}");
            }
        }
    }

    #[test]
    fn other_events_mean_nothing() {
        for body in [
            default_format("PULL_ARTIFACT", &["1.0"]),
            cloud_event("harbor.artifact.pulled", &["1.0"]),
            default_format("SCANNING_COMPLETED", &["1.0"]),
            // Events without a repository.
            r#"{"type":"QUOTA_EXCEED","event_data":{"custom_attributes":{"Details":"full"}}}"#.into(),
            r#"{"type":"REPLICATION","event_data":{"replication":{"job_status":"Success"}}}"#.into(),
        ] {
            assert_eq!(claims(body.as_bytes()), Ok(vec![]), "{body}");
        }
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for bad in [
            "",
            "{",
            "{}",
            r#"{"events":[]}"#,
            r#"{"type":3}"#,
            r#"{"type":"PUSH_ARTIFACT"}"#,
            r#"{"type":"PUSH_ARTIFACT","event_data":{"resources":[]}}"#,
            r#"{"type":"PUSH_ARTIFACT","event_data":{"resources":3,"repository":{"repo_full_name":"a"}}}"#,
        ] {
            let error = claims(bad.as_bytes()).unwrap_err();
            assert!(error.0.contains("Harbor"), "{bad}: {error}");
        }
    }
}
