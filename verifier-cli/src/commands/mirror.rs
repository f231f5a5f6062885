//! `taglog mirror`: keeps a verified copy of a static log, and serves it.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    context::{Failure, Format, Global, Report, exit},
    progress_bar::Bar,
    running::{LogFormat, start_logging, stop_on_signals},
    session::Session,
};
use taglog_base::{directory_lock::LockError, duration::parse_duration, text::whole_line};
use taglog_log_client::static_log::StaticLog;
use taglog_mirror::{
    MirrorError,
    check::{CopyCheck, check},
    directory::OwnCheckpoint,
    pass::{Mirror, MirrorUpdate},
    serve::router,
};
use taglog_service::listener::Listener;

/// How many damaged files are named.
const NAMED: usize = 20;

/// Keep a verified copy of a log's entries and tiles, which any web server can serve
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog mirror --directory /srv/taglog
  taglog mirror --directory /srv/taglog --interval 30s --serve 0.0.0.0:8080
  taglog mirror https://mirror.example/taglog --directory copy
  taglog mirror --directory /srv/taglog --check

Nothing gets its name in the directory before it is proven by a checkpoint that the trust file takes: signed by the log,
with every key that stands there, and by the quorum of cosigners; the checkpoint itself comes last. So the copy is whole
at any moment, also after a crash, and a damaged answer changes nothing. What is there is used again. A log that has
shrunk or forked is an alarm: the copy stays as it is, and the evidence is kept in DIRECTORY/.taglog-mirror/evidence.

With --check, exit code 1 says that files are missing or damaged. Remove them and mirror again: they are fetched anew.")]
pub struct MirrorArgs {
    /// The log or a mirror of it: an address or a directory [default: the trust file's]
    #[arg(value_name = "LOCATION", conflicts_with = "check")]
    location: Option<String>,
    /// The directory of the copy
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Keep following the log, this long after each pass (30s, 5m); without it, one pass
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, conflicts_with = "check")]
    interval: Option<Duration>,
    /// Serve the copy at this address, at once and also while the log cannot be reached
    #[arg(long, value_name = "IP:PORT", conflicts_with = "check")]
    serve: Option<SocketAddr>,
    /// Verify the whole copy on disk instead, without the log
    #[arg(long)]
    check: bool,
}

/// Checks the copy, or brings it up to date, once or again and again.
pub async fn run(global: &Global, args: &MirrorArgs) -> Result<Report, Failure> {
    let session = Session::open(global)?;
    let key = session.trust.log.clone();
    if args.check {
        let checked =
            check(&args.directory, &session.trust, Bar::entries("mirroring").shared()).await.map_err(failure)?;
        let directory = args.directory.display();
        let checked = checked.ok_or_else(|| Failure::usage(format!("{directory}: there is no copy here yet")))?;
        return Ok(check_report(global.output, &checked));
    }
    let location = args.location.as_deref().map_or_else(|| session.address(), Ok)?;
    let log = StaticLog::open(location, global.timeout()).map_err(Failure::usage)?;
    let mirror = Mirror::open(session.trust.clone(), log, &args.directory, Bar::entries("mirroring").shared())
        .map_err(failure)?;
    let (sender, receiver) = watch::channel(mirror.checkpoint().map_err(failure)?);
    let stop = stop_on_signals().map_err(Failure::failed)?;
    let served = match args.serve {
        None => None,
        Some(address) => {
            let router = router(&args.directory, &key, receiver).map_err(failure)?;
            let listener = Arc::new(Listener::bind(address).map_err(|e| Failure::failed(format!("{address}: {e}")))?);
            announce(key.name(), &listener).map_err(Failure::failed)?;
            Some(tokio::spawn(listener.serve(router, stop.clone())))
        }
    };
    start_logging(LogFormat::Text, std::io::stderr);
    let outcome = follow(global.output, args, mirror, &sender, &stop).await;
    stop.cancel();
    if let Some(served) = served {
        // Requests under way have a moment to end; how they did is their clients' business.
        let _ = served.await;
    }
    outcome
}

/// Makes passes until there is nothing more to do, or a signal comes.
async fn follow(
    format: Format,
    args: &MirrorArgs,
    mut mirror: Mirror,
    sender: &watch::Sender<Option<OwnCheckpoint>>,
    stop: &CancellationToken,
) -> Result<Report, Failure> {
    let mut last = Report::done("");
    loop {
        let passed = tokio::select! {
            () = stop.cancelled() => return Ok(last),
            passed = mirror.pass() => passed,
        };
        match passed {
            Ok(pass) => {
                sender.send_replace(Some(pass.checkpoint.clone()));
                if last.exit != exit::MISBEHAVED {
                    last.exit = exit::OK;
                }
                print(&update_line(format, &pass)).map_err(Failure::failed)?;
            }
            Err(error) => {
                let may_succeed = may_succeed_later(&error);
                let failure = failure(error);
                // What is served stays up; what the log did is told when it ends, and by its exit code.
                let goes_on = args.serve.is_some() || (args.interval.is_some() && may_succeed);
                if !goes_on {
                    return Err(failure);
                }
                tracing::error!("{}", failure.message);
                if last.exit != exit::MISBEHAVED {
                    last.exit = failure.exit;
                }
            }
        }
        match (args.interval, args.serve) {
            (Some(interval), _) => drop(tokio::time::timeout(interval, stop.cancelled()).await),
            (None, Some(_)) => stop.cancelled().await,
            (None, None) => return Ok(last),
        }
    }
}

/// Whether another pass may do better.
fn may_succeed_later(error: &MirrorError) -> bool {
    matches!(
        error,
        MirrorError::Static(_)
            | MirrorError::Checkpoint(_)
            | MirrorError::InsufficientTrust(_)
            | MirrorError::Untrue { .. }
            | MirrorError::Compare(_)
    )
}

fn failure(error: MirrorError) -> Failure {
    match &error {
        MirrorError::Misbehaved { .. } => Failure::misbehaved(error),
        MirrorError::Lock(LockError::InUse { .. }) | MirrorError::OwnCheckpoint { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

fn update_line(format: Format, pass: &MirrorUpdate) -> String {
    let checkpoint = pass.checkpoint.signed.unverified();
    let added = checkpoint.size - pass.before;
    match format {
        Format::Text => format!("mirrored {} entries of {} ({added} new)", checkpoint.size, checkpoint.origin),
        Format::Json => json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.to_base64(),
            "added": added,
        })
        .to_string(),
    }
}

fn check_report(format: Format, checked: &CopyCheck) -> Report {
    let CopyCheck { size, damaged } = checked;
    let mut report = Report::done(match format {
        Format::Text if damaged.is_empty() => format!("all of {size} entries and their tiles are as signed\n"),
        Format::Text => {
            let named: Vec<&str> = damaged.iter().take(NAMED).map(String::as_str).collect();
            let more = damaged.len() - named.len();
            let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
            format!("missing or damaged:\n{}{more}\n", named.join("\n"))
        }
        Format::Json => format!("{}\n", json!({ "size": size, "damaged": damaged })),
    });
    if !damaged.is_empty() {
        report.exit = exit::VERDICT;
        report.notes.push("remove what is damaged and mirror again: it is fetched anew".to_owned());
    }
    report
}

fn announce(origin: &str, listener: &Listener) -> std::io::Result<()> {
    print(&format!("mirror of {origin} at http://{}", listener.address()?))
}

fn print(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", whole_line(line))?;
    out.flush()
}

/// Without a pause between them, passes would be an attack.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() { Err("want at least 1s".to_owned()) } else { Ok(interval) }
}
