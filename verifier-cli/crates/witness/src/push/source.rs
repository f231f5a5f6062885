//! The configured senders of notifications, poll requests, and limits.

use std::time::Duration;

use serde::Deserialize;
use taglog_proto::name::{Repository, Tag};

use super::secret::Secret;

/// The most bytes of a push.
pub(super) const MAX_BODY: usize = 1 << 20;
/// How long a body may take to arrive.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);
/// The most events in a push, and so the most poll requests from one. The channel given to [`router`](super::router) needs at
/// least this capacity, or a push that large never fits.
pub const MAX_EVENTS: usize = 10_000;
/// The format of notifications; in a configuration `distribution`, `harbor`, `github` or `generic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushKind {
    /// A registry of the Docker Distribution code base, by its notifications.
    Distribution,
    /// Harbor, by a project's webhook.
    Harbor,
    /// GitHub's container registry, by a webhook of an organization or repository.
    Github,
    /// taglog's own format.
    Generic,
}

impl PushKind {
    pub fn default_path(self) -> &'static str {
        match self {
            PushKind::Distribution => "/push/distribution",
            PushKind::Harbor => "/push/harbor",
            PushKind::Github => "/push/github",
            PushKind::Generic => "/push/generic",
        }
    }
}

/// A configured sender of notifications.
#[derive(Clone, Debug)]
pub struct PushSource {
    /// The format.
    pub kind: PushKind,
    /// The registry it notifies about: `host[:port]` as in repository names. Other registries' repositories are ignored.
    pub registry: String,
    /// The path it posts to, such as `/push/harbor`; see [`check_path`].
    pub path: String,
    /// The shared secret; without one, anyone may post.
    pub secret: Option<Secret>,
}

/// A request to poll now. Not evidence of anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PollRequest {
    pub repository: Repository,
    /// `None`: every watched tag of the repository.
    pub tag: Option<Tag>,
}

/// Checks the path of a source: `/` and then letters, digits, `-`, `_`, `.` and `/`.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if path.starts_with('/') && path.bytes().all(plain) {
        Ok(())
    } else {
        Err("want '/' and then letters, digits, '-', '_', '.' and '/', such as /push/harbor".to_owned())
    }
}
