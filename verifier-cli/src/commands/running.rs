//! Shared by long-running commands: the log on standard error, signals, and notifications to systemd.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use sd_notify::NotifyState;
use taglog_base::text::LogWriter;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// How to write the log on standard error.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to `writer`, which writes to standard error; the level is in `RUST_LOG` (`info` by default).
pub fn start_logging<W>(format: LogFormat, writer: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let events = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Text => {
            let styles = std::io::stderr().is_terminal();
            events.with_writer(SafeLines { writer, styles }).with_ansi(styles).init();
        }
        LogFormat::Json => events.with_writer(writer).json().init(),
    }
}

/// Makes writers that keep each event one line of safe text.
struct SafeLines<W> {
    writer: W,
    styles: bool,
}

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for SafeLines<W> {
    type Writer = LogWriter<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        LogWriter::new(self.writer.make_writer(), self.styles)
    }
}

/// Returns a token that the first SIGTERM or SIGINT cancels.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Notifies systemd, if the program runs under it.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
