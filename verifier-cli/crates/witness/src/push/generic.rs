//! taglog's own format, for other senders, such as a build or a script.
//!
//! Either `{"repository": "registry.example/team/app", "tag": "1.0"}`, where the tag may be missing, or
//! `{"images": ["registry.example/team/app:1.0", …]}`.

use serde::Deserialize;

use super::claim::{BoundedList, MalformedPush, PushClaim, parse};

/// The most images in one request.
const MAX_IMAGES: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenericPush {
    repository: Option<String>,
    tag: Option<String>,
    images: Option<BoundedList<String, MAX_IMAGES>>,
}

/// The named tags and repositories.
pub(super) fn claims(body: &[u8]) -> Result<Vec<PushClaim>, MalformedPush> {
    let body: GenericPush = parse("a taglog push", body)?;
    match (body.repository, body.tag, body.images) {
        (Some(repository), None, None) => Ok(vec![PushClaim::Name(repository)]),
        (Some(repository), Some(tag), None) => Ok(vec![PushClaim::Name(format!("{repository}:{tag}"))]),
        (None, None, Some(images)) => Ok(images.0.into_iter().map(PushClaim::Name).collect()),
        _ => Err(MalformedPush(
            "not a taglog push: want either 'repository', with or without 'tag', or 'images'".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PushClaim {
        PushClaim::Name(text.into())
    }

    #[test]
    fn repositories_and_images() {
        for (body, want) in [
            (r#"{"repository":"r.example/team/app","tag":"1.0"}"#, vec![name("r.example/team/app:1.0")]),
            (r#"{"repository":"r.example/team/app"}"#, vec![name("r.example/team/app")]),
            (r#"{"repository":"r.example/team/app","tag":null}"#, vec![name("r.example/team/app")]),
            (r#"{"images":["r.example/a:1","r.example/b"]}"#, vec![name("r.example/a:1"), name("r.example/b")]),
            (r#"{"images":[]}"#, vec![]),
        ] {
            assert_eq!(claims(body.as_bytes()), Ok(want), "{body}");
        }
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for bad in [
            "",
            "{}",
            "{",
            "[3]",
            r#"{"image":"r.example/a:1"}"#,
            r#"{"repository":"r.example/a","tags":["1.0"]}"#,
            r#"{"tag":"1.0"}"#,
            r#"{"images":[3]}"#,
            r#"{"images":["r.example/a:1"],"tag":"1.0"}"#,
            r#"{"repository":"r.example/a","images":[]}"#,
        ] {
            let error = claims(bad.as_bytes()).unwrap_err();
            assert!(error.0.contains("taglog push"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_push_names_1_000_images() {
        let body = |count| format!(r#"{{"images":[{}]}}"#, vec![r#""r.example/a:1""#; count].join(","));
        assert_eq!(claims(body(1000).as_bytes()).unwrap().len(), 1000);
        assert!(claims(body(1001).as_bytes()).unwrap_err().0.contains("more than 1000"));
    }
}
