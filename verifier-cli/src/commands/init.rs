//! `taglog init`: trusts a log.

use std::{fs, io::IsTerminal as _, path::Path, time::Duration};

use clap::Args;
use serde_json::json;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    name::{Digest, HexBytes},
    note::VerifierKey,
};

use super::{Failure, Format, Global, Report, session::trust_path};
use crate::client::{LogClient, printable, trust::Trust};

/// Trust a log: show who it is, ask, and write the trust file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog init https://log.example/taglog
  taglog init https://log.example/taglog --yes --vkey log.example/taglog+c6d2d89e+Abuv…")]
pub struct InitArgs {
    /// The address of the log
    url: String,
    /// Do not ask: trust what the log says of itself, or what --vkey says
    #[arg(long)]
    yes: bool,
    /// The log's vkey, if you have it from its operator: any other is refused
    #[arg(long, value_name = "VKEY")]
    vkey: Option<String>,
    /// Replace a trust file that trusts another log
    #[arg(long)]
    replace: bool,
}

/// Fetches the log's description, checks that the key signs its checkpoint, asks, writes.
pub async fn run(global: &Global, args: InitArgs) -> Result<Report, Failure> {
    let wanted = args.vkey.as_deref().map(str::parse::<VerifierKey>).transpose().map_err(Failure::usage)?;
    let client = LogClient::new(&args.url, Duration::from_secs(global.timeout)).map_err(Failure::usage)?;
    let about = client.about().await.map_err(Failure::failed)?;
    let log: VerifierKey = about.vkey.parse().map_err(Failure::failed)?;
    if wanted.is_some_and(|wanted| wanted != log) {
        return Err(Failure::misbehaved(format!("this log's key is {log}, not the one you gave: do not trust it")));
    }
    let checkpoint = client.checkpoint().await.map_err(Failure::failed)?;
    let checkpoint = SignedCheckpoint::parse(&checkpoint).map_err(Failure::failed)?;
    let size = checkpoint.verify(&log).map_err(Failure::misbehaved)?.size;

    let trust = Trust { log, url: Some(client.url().to_owned()) };
    let path = trust_path(global)?;
    check_existing(&path, &trust, args.replace)?;
    let description = describe(&trust, size, &about.roster.witnesses);
    if !args.yes {
        confirm(&description)?;
    }
    write(&path, &trust).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(match global.output {
        Format::Text => Report::done(format!("{description}\nTrusted from now on: {}\n", path.display())),
        Format::Json => {
            let log = &trust.log;
            let body = json!({
                "origin": log.name(), "vkey": log.to_string(), "fingerprint": fingerprint(log),
                "size": size, "trust": path.display().to_string(),
            });
            Report::done(format!("{body}\n"))
        }
    })
}

fn fingerprint(log: &VerifierKey) -> String {
    let Digest::Sha256(hash) = Digest::sha256(log.as_bytes()) else { return String::new() };
    let hex = HexBytes(&hash).to_string();
    let groups: Vec<String> =
        hex.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join(" ")
}

fn describe(trust: &Trust, size: u64, witnesses: &[String]) -> String {
    let Trust { log, url } = trust;
    let witnesses: Vec<String> = witnesses.iter().map(|vkey| format!("  {}", printable(vkey))).collect();
    format!(
        "Log          {}\nAddress      {}\nVerifier key {log}\nFingerprint  {}\nEntries      {size}\nWitnesses    {}\n{}",
        log.name(),
        url.as_deref().unwrap_or(""),
        fingerprint(log),
        witnesses.len(),
        witnesses.join("\n"),
    )
}

/// A trust file for another log is not replaced by accident.
fn check_existing(path: &Path, trust: &Trust, replace: bool) -> Result<(), Failure> {
    if replace || !path.exists() {
        return Ok(());
    }
    match Trust::read(path) {
        Ok(existing) if existing.log == trust.log => Ok(()),
        _ => Err(Failure::usage(format!(
            "{} exists and trusts something else: give --replace, or another --trust",
            path.display()
        ))),
    }
}

fn confirm(description: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("{description}\nCompare the fingerprint with the operator's, and run again with --yes");
        return Err(Failure::usage(message));
    }
    eprintln!("{description}\nCompare the fingerprint with what the log's operator publishes. Trust this log? [y/N]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::usage)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("not trusted; nothing was written"))
    }
}

fn write(path: &Path, trust: &Trust) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, trust.to_text())
}
