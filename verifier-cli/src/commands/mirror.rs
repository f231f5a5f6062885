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
use taglog_base::text::path_line;
use taglog_base::{directory_lock::LockError, duration::parse_duration, text::whole_line};
use taglog_log_client::static_log::StaticLog;
use taglog_mirror::{
    MirrorError,
    check::{CopyCheck, check},
    directory::OwnCheckpoint,
    serve::router,
    update::{Mirror, MirrorUpdate},
};
use taglog_service::listener::Listener;

/// The maximum number of damaged files in the text report.
const NAMED: usize = 20;

/// Keep a verified copy of a log's entries and tiles, which any web server can serve
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog mirror --directory /srv/taglog
  taglog mirror --directory /srv/taglog --interval 30s --serve 0.0.0.0:8080
  taglog mirror https://mirror.example/taglog --directory copy
  taglog mirror --directory /srv/taglog --check

Every file is verified against a checkpoint that the trust file accepts (signed by the log with every key listed there, and
by the quorum of cosigners) before it gets its final name; the checkpoint itself is written last. So the copy is complete at
any time, also after a crash, and damaged responses do not change it. Existing files are reused. If the log has shrunk or
forked, the copy stays as it is, and evidence is kept in DIRECTORY/.taglog-mirror/evidence (exit code 4).

With --check, exit code 1 means that files are missing or damaged. Remove them and mirror again: they are fetched again.")]
pub struct MirrorArgs {
    /// The log or a mirror of it: an address or a directory [default: the trust file's]
    #[arg(value_name = "LOCATION", conflicts_with = "check")]
    location: Option<String>,
    /// The directory of the copy
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Keep updating the copy, this long after each update (30s, 5m); without it, update once
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, conflicts_with = "check")]
    interval: Option<Duration>,
    /// Serve the copy over HTTP at this address, also while the log is unreachable
    #[arg(long, value_name = "IP:PORT", conflicts_with = "check")]
    serve: Option<SocketAddr>,
    /// Verify the whole copy on disk instead, without contacting the log
    #[arg(long)]
    check: bool,
}

/// Verifies the copy, or updates it once or at intervals.
pub async fn run(global: &Global, args: &MirrorArgs) -> Result<Report, Failure> {
    let session = Session::open(global)?;
    let key = session.trust.log.clone();
    if args.check {
        let checked =
            check(&args.directory, &session.trust, Bar::entries("mirroring").shared()).await.map_err(failure)?;
        let directory = path_line(&args.directory);
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
        // Waits for requests in flight; how they ended does not affect the exit code.
        let _ = served.await;
    }
    outcome
}

/// Updates the copy until there is nothing more to do or a signal arrives.
async fn follow(
    format: Format,
    args: &MirrorArgs,
    mut mirror: Mirror,
    sender: &watch::Sender<Option<OwnCheckpoint>>,
    stop: &CancellationToken,
) -> Result<Report, Failure> {
    let mut last = Report::done("");
    loop {
        let updated = tokio::select! {
            () = stop.cancelled() => return Ok(last),
            updated = mirror.update() => updated,
        };
        match updated {
            Ok(update) => {
                sender.send_replace(Some(update.checkpoint.clone()));
                if last.exit != exit::MISBEHAVED {
                    last.exit = exit::OK;
                }
                print(&update_line(format, &update)).map_err(Failure::failed)?;
            }
            Err(error) => {
                let may_succeed = may_succeed_later(&error);
                let failure = failure(error);
                // The copy is still served; misbehaviour determines the exit code when the process ends.
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

/// Whether a later update may succeed.
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

fn update_line(format: Format, update: &MirrorUpdate) -> String {
    let checkpoint = update.checkpoint.signed.unverified();
    let added = checkpoint.size - update.before;
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
        report.notes.push("remove what is damaged and mirror again: it is fetched again".to_owned());
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

/// An interval of at least one second, so that updates do not overload the log.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() { Err("want at least 1s".to_owned()) } else { Ok(interval) }
}
