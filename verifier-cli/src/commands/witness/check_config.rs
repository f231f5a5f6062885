//! `taglog witness check-config`: what a configuration means, and which names it would make public.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::commands::{Failure, Format, Global, Report, exit};
use taglog_oci_registry::{Login, Registry, RegistryError};
use taglog_witness::{
    agent::{Prepared, registry},
    config::Watch,
};

/// Registries asked at once.
const PARALLEL: usize = 16;
/// The most tags of a list that is asked for here; the agent itself takes longer ones.
const MOST_TAGS: usize = 200_000;

/// Check a configuration, and show which names would become public
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog witness check-config --config witness.toml
  taglog witness check-config --config witness.toml --offline

Each registry is asked without credentials whether the repository can be read. What can be is public already. What
cannot be is not reported, unless its [[watch]] says private = true: then its name, its tags and its digests become
public for ever.

Exit codes:
  0  the configuration holds, and everything in it can be watched
  2  the configuration is wrong; the message says where
  3  something cannot be watched as it stands")]
pub struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
    /// Ask no registry
    #[arg(long)]
    offline: bool,
}

/// What becomes of a repository's name.
enum Publicity {
    /// Anybody can read it.
    Public,
    /// Anybody who reaches it can read it, which is not the whole world.
    Internal,
    /// It needs a login, and is reported all the same.
    MadePublic,
    /// It needs a login, and is not reported.
    Withheld(String),
    /// The registry could not be asked.
    Unknown(String),
    /// Nobody was asked.
    NotAsked { private: bool },
}

impl Publicity {
    fn word(&self) -> &'static str {
        match self {
            Publicity::Public => "public",
            Publicity::Internal => "internal",
            Publicity::MadePublic => "made-public",
            Publicity::Withheld(_) => "withheld",
            Publicity::Unknown(_) => "unknown",
            Publicity::NotAsked { .. } => "not-asked",
        }
    }

    fn is_watchable(&self) -> bool {
        !matches!(self, Publicity::Withheld(_) | Publicity::Unknown(_))
    }

    fn describe(&self) -> String {
        match self {
            Publicity::Public => "can be read by anybody".to_owned(),
            Publicity::Internal => {
                "needs no login, but the registry is not on the public network: its name, tags and digests WOULD BECOME \
                 PUBLIC"
                    .to_owned()
            }
            Publicity::MadePublic => {
                "NEEDS A LOGIN: its name, tags and digests WOULD BECOME PUBLIC (private = true)".to_owned()
            }
            Publicity::Withheld(why) => {
                format!("needs a login, so it would not be reported; private = true makes its name public ({why})")
            }
            Publicity::Unknown(why) => format!("cannot be asked: {why}"),
            Publicity::NotAsked { private: true } => {
                "its name, tags and digests WOULD BECOME PUBLIC even if it needs a login (private = true)".to_owned()
            }
            Publicity::NotAsked { private: false } => "reported only if anybody can read it".to_owned(),
        }
    }
}

/// Reads the configuration and what it refers to, then asks each registry.
pub async fn run(global: &Global, args: &CheckArgs) -> Result<Report, Failure> {
    let prepared = Prepared::read(&args.config, global.timeout()).map_err(Failure::usage)?;
    let config = &prepared.config;
    let mut rows: Vec<(Watch, Publicity)> = Vec::new();
    if args.offline {
        rows.extend(config.watches.iter().map(|watch| (watch.clone(), Publicity::NotAsked { private: watch.private })));
    } else {
        let anonymous = registry(config, Login::Never, prepared.timeout).map_err(Failure::failed)?;
        let logged_in = registry(config, Login::Stored, prepared.timeout).map_err(Failure::failed)?;
        rows = ask_all(&config.watches, &anonymous, &logged_in).await;
    }
    let exit = if rows.iter().all(|(_, publicity)| publicity.is_watchable()) { exit::OK } else { exit::FAILED };
    let output = match global.output {
        Format::Json => format!("{}\n", to_json(&prepared, &rows)),
        Format::Text => to_text(&prepared, &rows),
    };
    Ok(Report { output, notes: Vec::new(), exit })
}

async fn ask_all(watches: &[Watch], anonymous: &Registry, logged_in: &Registry) -> Vec<(Watch, Publicity)> {
    let mut rows = Vec::with_capacity(watches.len());
    for group in watches.chunks(PARALLEL) {
        let mut asked = JoinSet::new();
        for watch in group {
            let (watch, anonymous, logged_in) = (watch.clone(), anonymous.clone(), logged_in.clone());
            asked.spawn(async move {
                let publicity = publicity(&watch, &anonymous, &logged_in).await;
                (watch, publicity)
            });
        }
        rows.extend(asked.join_all().await);
    }
    rows.sort_by(|(one, _), (other, _)| one.repository.cmp(&other.repository));
    rows
}

async fn publicity(watch: &Watch, anonymous: &Registry, logged_in: &Registry) -> Publicity {
    match ask(watch, anonymous).await {
        Ok(()) if is_internal(watch.repository.registry()) => Publicity::Internal,
        Ok(()) => Publicity::Public,
        Err(RegistryError::Unauthorized { .. }) if watch.private => match ask(watch, logged_in).await {
            Ok(()) => Publicity::MadePublic,
            Err(error) => Publicity::Unknown(error.to_string()),
        },
        Err(error @ RegistryError::Unauthorized { .. }) => Publicity::Withheld(error.to_string()),
        Err(error) => Publicity::Unknown(error.to_string()),
    }
}

/// Whether a host's name or address says that it is not for everybody.
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
        // RFC 6762, RFC 8375, and what is reserved or in use for private networks.
        Err(_) => {
            !host.contains('.')
                || [".local", ".internal", ".lan", ".corp", ".intranet", ".home.arpa"]
                    .iter()
                    .any(|end| host.ends_with(end))
        }
    }
}

/// Whether the repository can be read: its list, where a pattern needs that; else one of its tags, there or not.
async fn ask(watch: &Watch, registry: &Registry) -> Result<(), RegistryError> {
    match watch.selection.named().first() {
        Some(tag) if !watch.selection.needs_list() => {
            let image = taglog_proto::name::Image { repository: watch.repository.clone(), tag: tag.clone() };
            registry.look(&image, None).await.map(|_| ())
        }
        _ => registry.tags(&watch.repository, MOST_TAGS).await.map(|_| ()),
    }
}

fn to_text(prepared: &Prepared, rows: &[(Watch, Publicity)]) -> String {
    let mut lines = vec![format!("witness {}", prepared.witness())];
    lines.extend(
        prepared.logs.iter().map(|(trust, client)| format!("reports to {} at {}", trust.log.name(), client.url())),
    );
    lines.extend(rows.iter().map(|(watch, publicity)| format!("{}  {}", watch.repository, publicity.describe())));
    lines.join("\n") + "\n"
}

fn to_json(prepared: &Prepared, rows: &[(Watch, Publicity)]) -> Value {
    let logs: Vec<Value> = prepared
        .logs
        .iter()
        .map(|(trust, client)| json!({ "origin": trust.log.name(), "url": client.url() }))
        .collect();
    let repositories: Vec<Value> = rows
        .iter()
        .map(|(watch, publicity)| {
            json!({
                "repository": watch.repository.as_str(),
                "private": watch.private,
                "publicity": publicity.word(),
                "message": publicity.describe(),
            })
        })
        .collect();
    json!({ "witness": prepared.witness(), "logs": logs, "repositories": repositories })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_that_are_not_for_everybody() {
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
