//! Reads the configuration and the files that it names, so that their errors are found before anything is started.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{
    alert_store::AlertStoreError,
    config::{Config, SinkConfig},
    sinks::Sink,
    tracker::TrackerError,
};
use taglog_audit::{AuditRunError, AuditorError};
use taglog_base::config_file::ConfigError;
use taglog_base::text::path_line;
use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    trust::{Trust, TrustError, TrustFile},
};

/// Why the monitor cannot start or continue.
#[derive(Debug, Error)]
pub enum MonitorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{path}: {error}", path = path_line(.path))]
    Trust { path: PathBuf, error: TrustError },
    #[error("{0}: the trust file has no address for the log; add log = \"https://…\" to the configuration")]
    NoAddress(PathBuf),
    #[error(transparent)]
    Location(#[from] StaticError),
    #[error("sink {name}: {why}")]
    Sink { name: String, why: String },
    #[error(transparent)]
    Auditor(#[from] AuditorError),
    #[error(transparent)]
    AlertStore(#[from] AlertStoreError),
    /// The alert store does not match the auditor's state.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    #[error(transparent)]
    Run(#[from] AuditRunError),
    #[error("cannot listen at {address}: {error}")]
    Listen { address: std::net::SocketAddr, error: std::io::Error },
    /// A task ended unexpectedly.
    #[error("{0}")]
    Ended(String),
}

/// A checked configuration with what it names. Reading it uses no network and writes nothing.
#[derive(Debug)]
pub struct MonitorSetup {
    pub config: Config,
    /// The keys of the log and its cosigners.
    pub trust: Trust,
    pub log: StaticLog,
    /// The sinks with their names.
    pub sinks: Vec<(String, Sink)>,
    /// The timeout of each request to the log, its mirrors and its cosigners.
    pub timeout: Duration,
}

impl MonitorSetup {
    /// Reads a configuration and the files that it names.
    pub fn read(path: &Path, timeout: Duration) -> Result<MonitorSetup, MonitorError> {
        let config = Config::read(path)?;
        let trust_error = |error| MonitorError::Trust { path: config.trust.clone(), error };
        let file = TrustFile::read(&config.trust).map_err(trust_error)?;
        let trust = file.chosen(config.log.as_deref()).and_then(TrustFile::only).map_err(trust_error)?;
        let location = trust.url.clone();
        let location = location.ok_or_else(|| MonitorError::NoAddress(config.trust.clone()))?;
        let log = StaticLog::open(&location, timeout)?;
        let sink = |sink: &SinkConfig| {
            let name = sink.name.clone();
            match Sink::new(sink, trust.log.name()) {
                Ok(ready) => Ok((name, ready)),
                Err(why) => Err(MonitorError::Sink { name, why }),
            }
        };
        let sinks = config.sinks.iter().map(sink).collect::<Result<Vec<_>, _>>()?;
        Ok(MonitorSetup { config, trust, log, sinks, timeout })
    }
}
