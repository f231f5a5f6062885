//! `taglog monitor check-config`: what a configuration means.

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigFile, failure};
use crate::commands::context::{Failure, Format, Global, Report};
use taglog_monitor::{
    config::{SinkConfig, Way},
    prepared::Prepared,
};

/// Check a configuration and what it refers to; nothing is asked and nothing sent
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog monitor check-config --config monitor.toml

Exit codes:
  0  the configuration holds
  2  the configuration, or a file that it names, is wrong; the message says where")]
pub struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// Reads the configuration and what it refers to.
pub fn run(global: &Global, args: &CheckArgs) -> Result<Report, Failure> {
    let prepared = Prepared::read(&args.file.config, global.timeout()).map_err(failure)?;
    Ok(Report::done(match global.output {
        Format::Json => format!("{}\n", to_json(&prepared)),
        Format::Text => to_text(&prepared),
    }))
}

fn to_text(prepared: &Prepared) -> String {
    let config = &prepared.config;
    let mut lines = vec![
        format!("audits {} at {}", prepared.trust.log.name(), prepared.log.location()),
        format!("keeps its state in {}", config.state.display()),
        match config.watches.len() {
            1 => "alerts on changes that 1 watch matches".to_owned(),
            count => format!("alerts on changes that {count} watches match"),
        },
    ];
    if config.watches.is_empty() {
        lines.push("no [[watch]]: it alerts only on what is wrong with the log and its witnesses".to_owned());
    }
    lines.extend(config.compare.iter().map(|other| format!("compares with what {other} is shown")));
    lines.extend(config.sinks.iter().map(|sink| format!("sink {}: {}", sink.name, describe(sink))));
    lines.join("\n") + "\n"
}

/// Where alerts go, without what may be secret.
fn describe(sink: &SinkConfig) -> String {
    let way = match &sink.way {
        Way::Stdout => "lines of JSON on standard output".to_owned(),
        Way::Webhook { url, secret } => {
            let signed = if secret.is_some() { "signed" } else { "NOT signed: add secret-file" };
            format!("webhook at {}, {signed}", url.host_str().unwrap_or(""))
        }
        Way::Mail { command, to, .. } => {
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            format!("mail to {} by {}", to.join(", "), command.join(" "))
        }
        Way::Feed { path, entries } => format!("feed of {entries} alerts in {}", path.display()),
    };
    match &sink.kinds {
        None => format!("{way}; every alert"),
        Some(kinds) => format!("{way}; {}", kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")),
    }
}

fn to_json(prepared: &Prepared) -> Value {
    let config = &prepared.config;
    let sinks: Vec<Value> = config
        .sinks
        .iter()
        .map(|sink| {
            json!({
                "name": sink.name,
                "kind": sink.way.kind(),
                "alerts": sink.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()),
                "message": describe(sink),
            })
        })
        .collect();
    json!({
        "origin": prepared.trust.log.name(),
        "log": prepared.log.location(),
        "state": config.state.display().to_string(),
        "compare": config.compare,
        "watches": config.watches.len(),
        "sinks": sinks,
    })
}
