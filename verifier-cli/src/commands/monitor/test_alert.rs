//! `taglog monitor test-alert`: sends a test alert to every sink.

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigFile, failure};
use crate::commands::{
    context::{Failure, Format, Global, Report, exit},
    session::now,
};
use taglog_monitor::{
    alert::{Alert, AlertKind, SequencedAlert},
    setup::MonitorSetup,
    sinks::Sink,
};

/// Send a test alert to every sink
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog monitor test-alert --config monitor.toml

A feed is not written: it contains stored alerts only.

Exit codes:
  0  every sink has accepted it
  2  the configuration is wrong
  3  a sink has not accepted it")]
pub struct TestArgs {
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(global: &Global, args: &TestArgs) -> Result<Report, Failure> {
    let setup = MonitorSetup::read(&args.file.config, global.timeout()).map_err(failure)?;
    let time = now();
    let message = format!("a test alert about {}: nothing has happened", setup.trust.log.name());
    let alert = Alert::event(&setup.trust.log, AlertKind::Test, &[&time.to_string()], time, message);
    let alert = SequencedAlert { sequence: 0, alert };
    let mut outcomes = Vec::new();
    for (name, sink) in &setup.sinks {
        let outcome = match sink {
            Sink::Feed(_) => Ok("not written to"),
            _ => sink
                .send(std::slice::from_ref(&alert))
                .await
                .map(|()| "has accepted it")
                .map_err(|e| e.reason().to_owned()),
        };
        outcomes.push((name, outcome));
    }
    let failed = outcomes.iter().any(|(_, outcome)| outcome.is_err());
    let said = outcomes.iter().map(|(name, outcome)| match outcome {
        Ok(done) => (name, true, (*done).to_owned()),
        Err(why) => (name, false, format!("HAS NOT accepted it: {why}")),
    });
    let output = match global.output {
        Format::Text => said.map(|(name, _, text)| format!("sink {name}: {text}\n")).collect(),
        Format::Json => {
            let rows = said.map(|(name, ok, text)| json!({ "sink": name, "ok": ok, "message": text }));
            format!("{}\n", Value::Array(rows.collect()))
        }
    };
    Ok(Report { output, notes: Vec::new(), exit: if failed { exit::FAILED } else { exit::OK } })
}
