//! `taglog monitor check-config`: checks and summarises a configuration.

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigFile, failure};
use crate::commands::context::{Failure, Format, Global, Report};
use taglog_base::text::path_line;
use taglog_monitor::{
    config::{SinkConfig, SinkTarget},
    setup::MonitorSetup,
};

/// Check a configuration and the files that it names, without using the network
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog monitor check-config --config monitor.toml

Exit codes:
  0  the configuration is valid
  2  the configuration, or a file that it names, is not valid; the message says where")]
pub struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
}

pub fn run(global: &Global, args: &CheckArgs) -> Result<Report, Failure> {
    let setup = MonitorSetup::read(&args.file.config, global.timeout()).map_err(failure)?;
    Ok(Report::done(match global.output {
        Format::Json => format!("{}\n", to_json(&setup)),
        Format::Text => to_text(&setup),
    }))
}

fn to_text(setup: &MonitorSetup) -> String {
    let config = &setup.config;
    let mut lines = vec![
        format!("audits {} at {}", setup.trust.log.name(), setup.log.location()),
        format!("keeps its state in {}", path_line(&config.state)),
        match config.watches.len() {
            1 => "alerts on changes that 1 watch matches".to_owned(),
            count => format!("alerts on changes that {count} watches match"),
        },
    ];
    if config.watches.is_empty() {
        lines.push("no [[watch]]: alerts are only about the log and its witnesses".to_owned());
    }
    lines.extend(config.compare.iter().map(|other| format!("compares checkpoints with {other}")));
    lines.extend(config.sinks.iter().map(|sink| format!("sink {}: {}", sink.name, describe(sink))));
    lines.join("\n") + "\n"
}

/// The target of a sink, without parts that may be secret.
fn describe(sink: &SinkConfig) -> String {
    let target = match &sink.target {
        SinkTarget::Stdout => "lines of JSON on standard output".to_owned(),
        SinkTarget::Webhook { url, secret } => {
            let signed = if secret.is_some() { "signed" } else { "NOT signed: add secret-file" };
            format!("webhook at {}, {signed}", url.host_str().unwrap_or(""))
        }
        SinkTarget::Mail { command, to, .. } => {
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            format!("mail to {} by {}", to.join(", "), command.join(" "))
        }
        SinkTarget::Feed { path, entries } => format!("feed of {entries} alerts in {}", path_line(path)),
    };
    match &sink.kinds {
        None => format!("{target}; every alert"),
        Some(kinds) => format!("{target}; {}", kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")),
    }
}

fn to_json(setup: &MonitorSetup) -> Value {
    let config = &setup.config;
    let sinks: Vec<Value> = config
        .sinks
        .iter()
        .map(|sink| {
            json!({
                "name": sink.name,
                "kind": sink.target.kind(),
                "alerts": sink.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()),
                "message": describe(sink),
            })
        })
        .collect();
    json!({
        "origin": setup.trust.log.name(),
        "log": setup.log.location(),
        "state": config.state.display().to_string(),
        "compare": config.compare,
        "watches": config.watches.len(),
        "sinks": sinks,
    })
}
