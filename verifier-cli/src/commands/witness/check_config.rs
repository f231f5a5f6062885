//! `taglog witness check-config`: checks a configuration, and shows which names it would make public.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::commands::context::{Failure, Format, Global, Report, exit};
use taglog_oci_registry::{Login, Registry, RegistryError};
use taglog_witness::{
    agent::{AgentSetup, registry},
    config::RepositoryWatch,
};

/// Concurrent requests.
const PARALLEL: usize = 16;
/// The most tags of a list.
const MOST_TAGS: usize = 200_000;

/// Check a configuration, and show which names would become public
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog witness check-config --config witness.toml
  taglog witness check-config --config witness.toml --offline

Each repository is requested without credentials. One that anybody can read is already public. Another one is not
reported, unless its [[watch]] has private = true: then its name, its tags and its digests become public forever.

Exit codes:
  0  the configuration is valid, and every repository can be watched
  2  the configuration is invalid; the message says where
  3  a repository cannot be watched")]
pub struct WitnessCheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
    /// Send no requests to registries
    #[arg(long)]
    offline: bool,
}

/// Whether a repository is public, or would be made public by reports.
enum Publication {
    /// Anybody can read it.
    Public,
    /// It can be read without a login, but its registry is on a private network.
    Internal,
    /// It needs a login, and is reported nevertheless (`private = true`).
    MadePublic,
    /// It needs a login, and is not reported.
    Withheld(String),
    /// The request failed.
    Unknown(String),
    /// `--offline`.
    NotAsked { private: bool },
}

impl Publication {
    fn as_str(&self) -> &'static str {
        match self {
            Publication::Public => "public",
            Publication::Internal => "internal",
            Publication::MadePublic => "made-public",
            Publication::Withheld(_) => "withheld",
            Publication::Unknown(_) => "unknown",
            Publication::NotAsked { .. } => "not-asked",
        }
    }

    fn is_watchable(&self) -> bool {
        !matches!(self, Publication::Withheld(_) | Publication::Unknown(_))
    }

    fn describe(&self) -> String {
        match self {
            Publication::Public => "can be read by anybody".to_owned(),
            Publication::Internal => {
                "needs no login, but the registry is not on the public network: its name, tags and digests WOULD BECOME \
                 PUBLIC"
                    .to_owned()
            }
            Publication::MadePublic => {
                "NEEDS A LOGIN: its name, tags and digests WOULD BECOME PUBLIC (private = true)".to_owned()
            }
            Publication::Withheld(why) => {
                format!("needs a login, so it would not be reported; private = true makes its name public ({why})")
            }
            Publication::Unknown(why) => format!("cannot be asked: {why}"),
            Publication::NotAsked { private: true } => {
                "its name, tags and digests WOULD BECOME PUBLIC even if it needs a login (private = true)".to_owned()
            }
            Publication::NotAsked { private: false } => "reported only if anybody can read it".to_owned(),
        }
    }
}

/// Reads the configuration, its key and its trust files, then sends a request for each repository.
pub async fn run(global: &Global, args: &WitnessCheckArgs) -> Result<Report, Failure> {
    let setup = AgentSetup::read(&args.config, global.timeout()).map_err(Failure::usage)?;
    let config = &setup.config;
    let mut rows: Vec<(RepositoryWatch, Publication)> = Vec::new();
    if args.offline {
        rows.extend(
            config.watches.iter().map(|watch| (watch.clone(), Publication::NotAsked { private: watch.private })),
        );
    } else {
        let anonymous = registry(config, Login::Never, setup.timeout).map_err(Failure::failed)?;
        let logged_in = registry(config, Login::Stored, setup.timeout).map_err(Failure::failed)?;
        rows = ask_all(&config.watches, &anonymous, &logged_in).await;
    }
    let exit = if rows.iter().all(|(_, publication)| publication.is_watchable()) { exit::OK } else { exit::FAILED };
    let output = match global.output {
        Format::Json => format!("{}\n", to_json(&setup, &rows)),
        Format::Text => to_text(&setup, &rows),
    };
    Ok(Report { output, notes: Vec::new(), exit })
}

async fn ask_all(
    watches: &[RepositoryWatch],
    anonymous: &Registry,
    logged_in: &Registry,
) -> Vec<(RepositoryWatch, Publication)> {
    let mut rows = Vec::with_capacity(watches.len());
    for group in watches.chunks(PARALLEL) {
        let mut asked = JoinSet::new();
        for watch in group {
            let (watch, anonymous, logged_in) = (watch.clone(), anonymous.clone(), logged_in.clone());
            asked.spawn(async move {
                let publication = publication(&watch, &anonymous, &logged_in).await;
                (watch, publication)
            });
        }
        rows.extend(asked.join_all().await);
    }
    rows.sort_by(|(one, _), (other, _)| one.repository.cmp(&other.repository));
    rows
}

async fn publication(watch: &RepositoryWatch, anonymous: &Registry, logged_in: &Registry) -> Publication {
    match ask(watch, anonymous).await {
        Ok(()) if is_internal(watch.repository.registry()) => Publication::Internal,
        Ok(()) => Publication::Public,
        Err(RegistryError::Unauthorized { .. }) if watch.private => match ask(watch, logged_in).await {
            Ok(()) => Publication::MadePublic,
            Err(error) => Publication::Unknown(error.to_string()),
        },
        Err(error @ RegistryError::Unauthorized { .. }) => Publication::Withheld(error.to_string()),
        Err(error) => Publication::Unknown(error.to_string()),
    }
}

/// Whether a host is on a private network, by its name or address.
fn is_internal(registry: &str) -> bool {
    let host = match registry.find(']') {
        Some(end) => &registry[1..end],
        None => registry.split(':').next().unwrap_or(registry),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        // RFC 6762, RFC 8375, and other names that are reserved or common for private networks.
        Err(_) => {
            !host.contains('.')
                || [".local", ".internal", ".lan", ".corp", ".intranet", ".home.arpa"]
                    .iter()
                    .any(|end| host.ends_with(end))
        }
    }
}

/// Checks that the repository can be read: its list of tags, if a pattern needs it; else one of its tags.
async fn ask(watch: &RepositoryWatch, registry: &Registry) -> Result<(), RegistryError> {
    match watch.selection.named().first() {
        Some(tag) if !watch.selection.needs_list() => {
            let image = taglog_proto::name::Image { repository: watch.repository.clone(), tag: tag.clone() };
            registry.resolve(&image, None).await.map(|_| ())
        }
        _ => registry.tags(&watch.repository, MOST_TAGS).await.map(|_| ()),
    }
}

fn to_text(setup: &AgentSetup, rows: &[(RepositoryWatch, Publication)]) -> String {
    let mut lines = vec![format!("witness {}", setup.witness())];
    lines.extend(
        setup.logs.iter().map(|(trust, client)| format!("reports to {} at {}", trust.log.name(), client.url())),
    );
    lines.extend(rows.iter().map(|(watch, publication)| format!("{}  {}", watch.repository, publication.describe())));
    lines.join("\n") + "\n"
}

fn to_json(setup: &AgentSetup, rows: &[(RepositoryWatch, Publication)]) -> Value {
    let logs: Vec<Value> =
        setup.logs.iter().map(|(trust, client)| json!({ "origin": trust.log.name(), "url": client.url() })).collect();
    let repositories: Vec<Value> = rows
        .iter()
        .map(|(watch, publication)| {
            json!({
                "repository": watch.repository.as_str(),
                "private": watch.private,
                "publicity": publication.as_str(),
                "message": publication.describe(),
            })
        })
        .collect();
    json!({ "witness": setup.witness(), "logs": logs, "repositories": repositories })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_on_private_networks_are_recognized() {
        for host in
            ["localhost", "localhost:5000", "10.1.2.3:5000", "[::1]:5000", "[fd00::1]", "registry.corp", "r.local:1"]
        {
            assert!(is_internal(host), "{host}");
        }
        for host in ["docker.io", "ghcr.io:444", "8.8.8.8", "[2001:db8::1]:5000", "registry.example"] {
            assert!(!is_internal(host), "{host}");
        }
    }
}
