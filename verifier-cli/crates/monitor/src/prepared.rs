//! What can be found wrong before anything is started: the configuration, and all that it refers to.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{
    config::{Config, SinkConfig},
    ledger::LedgerError,
    sinks::Sink,
    tracker::TrackerError,
};
use taglog_audit::{AuditorError, RunError};
use taglog_base::config_file::ConfigError;
use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    trust::{Trust, TrustError, TrustFile},
};

/// Why the monitor cannot start, or cannot go on.
#[derive(Debug, Error)]
pub enum MonitorError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The trust file.
    #[error("{path}: {error}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TrustError,
    },
    /// A log without an address.
    #[error("{0}: the trust file names no address for the log: add log = \"https://…\" to the configuration")]
    NoAddress(PathBuf),
    /// The log's address.
    #[error(transparent)]
    Location(#[from] StaticError),
    /// A sink.
    #[error("sink {name}: {why}")]
    Sink {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The auditor's state.
    #[error(transparent)]
    Auditor(#[from] AuditorError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger does not fit the auditor's state.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// An audit that could not be made.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The address to listen at.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// A part ended although nobody asked it to.
    #[error("{0}")]
    Ended(String),
}

/// A checked configuration with what it refers to. Nothing was asked over the network, nothing written.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// The log and its cosigners.
    pub trust: Trust,
    /// The way to the log.
    pub log: StaticLog,
    /// The ways out, with their names.
    pub sinks: Vec<(String, Sink)>,
    /// For each exchange with the log and with those who are shown it.
    pub timeout: Duration,
}

impl Prepared {
    /// Reads a configuration and what it refers to. `timeout` is for each exchange with the log.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn read(path: &Path, timeout: Duration) -> Result<Prepared, MonitorError> {
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
        Ok(Prepared { config, trust, log, sinks, timeout })
    }
}
