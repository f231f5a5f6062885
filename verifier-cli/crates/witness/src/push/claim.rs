//! Shared by all formats: JSON bodies become claims, and claims become poll requests.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use taglog_proto::name::{Reference, Repository, Tag};

use super::source::PollRequest;
use taglog_base::text::one_line;

/// A changed repository or tag according to a notification; its names are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PushClaim {
    /// A repository by its path within the registry. The host in the notification is ignored, since registries often use
    /// internal names.
    Path {
        /// The path, such as `team/app`.
        path: String,
        /// The tag, if the notification names one.
        tag: Option<String>,
    },
    /// A full image name, such as `registry.example/team/app:1.0`.
    Name(String),
}

impl PushClaim {
    /// The claim of a path; an empty tag is no tag, as senders written in Go encode it.
    pub(super) fn path(path: String, tag: String) -> PushClaim {
        PushClaim::Path { path, tag: Some(tag).filter(|tag| !tag.is_empty()) }
    }

    /// The poll request for `registry` (`host[:port]`); `None` where the names are not valid or belong to another registry.
    pub(super) fn poll_request(&self, registry: &str) -> Option<PollRequest> {
        let (repository, tag) = match self {
            PushClaim::Path { path, tag } => {
                let repository = Repository::parse(&format!("{registry}/{path}")).ok()?;
                (repository, tag.as_deref().map(Tag::parse).transpose().ok()?)
            }
            PushClaim::Name(name) => {
                let reference = Reference::parse(name).ok()?;
                (reference.repository, reference.tag)
            }
        };
        (repository.registry() == registry).then_some(PollRequest { repository, tag })
    }
}

/// Why a body is malformed, as a printable message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct MalformedPush(pub(super) String);

/// Parses JSON; `what` names the expected format in the error.
pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, MalformedPush> {
    serde_json::from_slice(body).map_err(|error| MalformedPush(format!("not {what}: {}", one_line(&error.to_string()))))
}

/// A list of at most `N` items. A longer one is refused while it is parsed, since a few bytes of JSON can need a hundred
/// bytes of memory.
pub(super) struct BoundedList<T, const N: usize>(pub(super) Vec<T>);

impl<T, const N: usize> Default for BoundedList<T, N> {
    fn default() -> Self {
        BoundedList(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for BoundedList<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
    type Value = BoundedList<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == N {
                return Err(A::Error::custom(format_args!("more than {N} items")));
            }
            items.push(item);
        }
        Ok(BoundedList(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_request(claim: PushClaim, registry: &str) -> Option<String> {
        let poll_request = claim.poll_request(registry)?;
        let tag = poll_request.tag.map(|tag| format!(":{tag}"));
        Some(format!("{}{}", poll_request.repository, tag.unwrap_or_default()))
    }

    #[test]
    fn paths_belong_to_the_configured_registry() {
        for (path, tag, want) in [
            ("team/app", "1.0", Some("r.example:5000/team/app:1.0")),
            ("team/app", "", Some("r.example:5000/team/app")),
            ("", "1.0", None),
            ("/team/app", "1.0", None),
            ("Team/app", "1.0", None),
            ("team/app", "-1", None),
            ("team/app:1.0", "", None),
            ("../app", "", None),
        ] {
            assert_eq!(
                poll_request(PushClaim::path(path.into(), tag.into()), "r.example:5000").as_deref(),
                want,
                "{path:?} {tag:?}"
            );
        }
    }

    #[test]
    fn names_of_other_registries_are_ignored() {
        for (name, registry, want) in [
            ("r.example/team/app:1.0", "r.example", Some("r.example/team/app:1.0")),
            ("r.example/team/app", "r.example", Some("r.example/team/app")),
            ("r.example:443/team/app", "r.example", Some("r.example/team/app")),
            ("busybox:1.36", "docker.io", Some("docker.io/library/busybox:1.36")),
            ("r.example:5000/team/app:1.0", "r.example", None),
            ("team/app:1.0", "r.example", None),
            ("r.example.evil/team/app", "r.example", None),
            ("r.example/team/app:1.0:2", "r.example", None),
            ("", "r.example", None),
        ] {
            assert_eq!(poll_request(PushClaim::Name(name.into()), registry).as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn long_lists_are_refused() {
        let good: BoundedList<u8, 3> = parse("numbers", b"[1,2,3]").unwrap();
        assert_eq!(good.0, [1, 2, 3]);
        let error = parse::<BoundedList<u8, 3>>("numbers", b"[1,2,3,4]").err().unwrap();
        assert!(error.0.contains("not numbers: more than 3 items"), "{error}");
    }
}
