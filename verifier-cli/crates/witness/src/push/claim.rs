//! What the formats have in common: bytes become claims, and claims become hints.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use taglog_proto::name::{Reference, Repository, Tag};

use super::Hint;
use taglog_log_client::printable;

/// What a notification says has changed; its names are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A repository by its path within the registry. What host the sender names does not matter: registries know
    /// themselves by internal names.
    Path {
        /// The path, such as `team/app`.
        path: String,
        /// The tag, if the sender knows which.
        tag: Option<String>,
    },
    /// A full name as people write it, such as `registry.example/team/app:1.0`.
    Name(String),
}

impl Claim {
    /// The claim of a path; an empty tag is none, as senders in Go have it.
    pub(super) fn path(path: String, tag: String) -> Claim {
        Claim::Path { path, tag: Some(tag).filter(|tag| !tag.is_empty()) }
    }

    /// The hint for `registry` (`host[:port]`); `None` where the names are not valid or another registry's.
    pub(super) fn hint(&self, registry: &str) -> Option<Hint> {
        let (repository, tag) = match self {
            Claim::Path { path, tag } => {
                let repository = Repository::parse(&format!("{registry}/{path}")).ok()?;
                (repository, tag.as_deref().map(Tag::parse).transpose().ok()?)
            }
            Claim::Name(name) => {
                let reference = Reference::parse(name).ok()?;
                (reference.repository, reference.tag)
            }
        };
        (repository.registry() == registry).then_some(Hint { repository, tag })
    }
}

/// Why a body was not understood, in words fit for a terminal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// Reads the JSON of `what`.
pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|error| Malformed(format!("not {what}: {}", printable(&error.to_string()))))
}

/// A list of at most `N` items. A longer one is refused while it is read: three bytes of JSON can ask for a
/// hundred bytes of memory.
pub(super) struct AtMost<T, const N: usize>(pub(super) Vec<T>);

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        AtMost(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
    type Value = AtMost<T, N>;

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
        Ok(AtMost(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(claim: Claim, registry: &str) -> Option<String> {
        let hint = claim.hint(registry)?;
        let tag = hint.tag.map(|tag| format!(":{tag}"));
        Some(format!("{}{}", hint.repository, tag.unwrap_or_default()))
    }

    #[test]
    fn paths_are_of_the_registry_listened_to() {
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
                hint(Claim::path(path.into(), tag.into()), "r.example:5000").as_deref(),
                want,
                "{path:?} {tag:?}"
            );
        }
    }

    #[test]
    fn names_of_other_registries_give_nothing() {
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
            assert_eq!(hint(Claim::Name(name.into()), registry).as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn long_lists_are_refused() {
        let good: AtMost<u8, 3> = parse("numbers", b"[1,2,3]").unwrap();
        assert_eq!(good.0, [1, 2, 3]);
        let error = parse::<AtMost<u8, 3>>("numbers", b"[1,2,3,4]").err().unwrap();
        assert!(error.0.contains("not numbers: more than 3 items"), "{error}");
    }
}
