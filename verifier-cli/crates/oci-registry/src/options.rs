//! How registries are reached.

use std::{path::PathBuf, time::Duration};

/// Timeouts, credentials and plain-HTTP hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Registries that are accessed over plain HTTP instead of HTTPS, as `host[:port]` exactly as in repository names.
    /// Loopback (`localhost`, `127.0.0.0/8`, `[::1]`) always uses plain HTTP and need not be named.
    pub plain_http: Vec<String>,
    /// The time limit for one operation, including redirects, log-in and body. A credential helper gets at most half of
    /// it. For a list of tags, the limit for each page.
    pub timeout: Duration,
    /// Whether stored credentials may be used.
    pub login: Login,
    /// The directory of Docker's `config.json`; `None` means `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
}

impl Default for RegistryOptions {
    /// HTTPS for everything but loopback, 30 seconds, and Docker's own configuration and logins.
    fn default() -> Self {
        Self { plain_http: Vec::new(), timeout: Duration::from_secs(30), login: Login::Stored, docker_config: None }
    }
}

/// Whether stored credentials are used when a registry asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Login {
    /// Docker's stored credentials, if there are any for the registry.
    #[default]
    Stored,
    /// No stored credentials are read or sent. Anonymous tokens are still requested; a registry that requires a login
    /// gives [`RegistryError::Unauthorized`](crate::RegistryError::Unauthorized).
    Never,
}
