//! Errors of requests to registries.

use std::time::Duration;

use taglog_proto::name::Digest;

/// Why a registry gave no usable answer.
///
/// `target` is what was requested: `repository:tag`, `repository@digest`, or the repository for its list of tags or the
/// registry itself. `registry` is the `host[:port]` in the repository name. Every message is one sentence that names the
/// target and says what to do. Text from the network is stripped of control characters and shortened before it is stored
/// here, and no variant holds a credential or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry answered 404: it has no such repository or no such tag.
    #[error("{registry} has no {target}: check the spelling, or push the image first")]
    NotFound {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
    },
    /// The registry, or its token service, answered 401 or 403.
    #[error("{registry} refuses access to {target}: {}", login_hint(registry, *.logged_in))]
    Unauthorized {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// Whether stored credentials were sent (they were refused), or the request was anonymous.
        logged_in: bool,
    },
    /// The registry answered 429.
    #[error("{registry} limits how often {target} may be asked for: {}", wait_hint(*.retry_after))]
    RateLimited {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// How long the registry asks to wait, at most a day; `None` if it does not say.
        retry_after: Option<Duration>,
    },
    /// The registry, or its token service, answered with another status than 200.
    #[error("{registry} answered {status} when asked for {target}: try again later, or ask the registry's operator")]
    Server {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// How long the registry asks to wait, at most a day; `None` if it does not say, or if the status is not 503.
        retry_after: Option<Duration>,
    },
    /// What answered does not speak the registry protocol.
    #[error("{registry} does not answer like a registry when asked for {target} ({reason}): check the host and port")]
    NotARegistry {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The response is larger than allowed; the rest of it was not read.
    #[error("the answer about {target} is larger than {limit} bytes: no registry should send that, ask its operator")]
    TooLarge {
        /// What was asked for.
        target: String,
        /// In bytes.
        limit: usize,
    },
    /// The repository has more tags than the caller asked for; none of them is returned.
    #[error("{target} has more than {most} tags: allow more, or name the tags that matter")]
    TooManyTags {
        /// The repository.
        target: String,
        /// The limit of the caller.
        most: usize,
    },
    /// The bytes are not those of the digest that was asked for or that the registry claims.
    #[error(
        "{target} should be {claimed} but the bytes received are {actual}: do not use it, and tell \
         the registry's operator"
    )]
    WrongDigest {
        /// What was asked for.
        target: String,
        /// The digest asked for or claimed by the registry.
        claimed: String,
        /// The digest of the bytes received.
        actual: Digest,
    },
    /// The registry sent a redirect that is not followed.
    #[error(
        "the registry sent the request for {target} on to {to}, which was not followed ({reason}): name the \
         repository by its real registry, or ask the registry's operator"
    )]
    RedirectedAway {
        /// What was asked for.
        target: String,
        /// The address redirected to, without its query.
        to: String,
        /// Why it was not followed.
        reason: &'static str,
    },
    /// The stored credentials could not be read, or do not fit the challenge; nothing secret was sent.
    #[error(
        "the credentials for {registry}, needed for {target}, cannot be used ({reason}): correct Docker's \
         config.json, or run `docker login {registry}` again"
    )]
    Credentials {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// What is wrong with them.
        reason: String,
    },
    /// No connection, a broken connection, a TLS failure, or a host that no URL can name.
    #[error(
        "cannot reach {registry} to ask for {target} ({reason}): check the name, the network and, for a \
         registry without TLS, that plain HTTP is allowed for it"
    )]
    Network {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// The innermost cause.
        reason: String,
    },
    /// No complete response within the time limit.
    #[error(
        "{registry} gave no complete answer about {target} within {} seconds: try again, or allow more time",
        after.as_secs_f32()
    )]
    Timeout {
        /// What was asked for.
        target: String,
        /// The registry in the repository's name.
        registry: String,
        /// The time limit of the operation.
        after: Duration,
    },
    /// The HTTP client could not be built; nothing was sent.
    #[error("cannot set up access to registries ({reason}): check the system's TLS certificates and proxy settings")]
    Setup {
        /// The innermost cause.
        reason: String,
    },
}

impl RegistryError {
    /// How long the registry asks to wait before the next request (`Retry-After` with 429 and 503), at most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The label in metrics and JSON; stable between versions.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Unauthorized { .. } => "unauthorized",
            Self::RateLimited { .. } => "rate-limited",
            Self::Server { .. } => "server",
            Self::NotARegistry { .. } => "not-a-registry",
            Self::TooLarge { .. } => "too-large",
            Self::TooManyTags { .. } => "too-many-tags",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::RedirectedAway { .. } => "redirected",
            Self::Credentials { .. } => "credentials",
            Self::Network { .. } => "network",
            Self::Timeout { .. } => "timeout",
            Self::Setup { .. } => "setup",
        }
    }
}

fn login_hint(registry: &str, logged_in: bool) -> String {
    if logged_in {
        format!(
            "the stored login was not enough, check that it may read the image or run `docker login {registry}` again"
        )
    } else {
        format!("if it exists it is private, so run `docker login {registry}` first")
    }
}

fn wait_hint(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("wait {} seconds, or log in for a higher limit", wait.as_secs()),
        None => "wait a while, or log in for a higher limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_target_and_remedy() {
        let target = "reg.example/a:b".to_owned();
        let registry = "reg.example".to_owned();
        let anonymous = RegistryError::Unauthorized { target, registry, logged_in: false }.to_string();
        assert!(anonymous.contains("reg.example/a:b") && anonymous.contains("`docker login reg.example`"));
        let limited = RegistryError::RateLimited {
            target: "reg.example/a:b".into(),
            registry: "reg.example".into(),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert!(limited.to_string().contains("wait 7 seconds"));
    }
}
