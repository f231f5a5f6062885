//! The monitor: audits a log continuously, and sends alerts about watched tags and about the log itself.
//!
//! ```text
//! log ─► auditor ─► tracker ─► alert store ─► dispatcher ─► standard output, webhook, mail, feed
//!          │        alerts     durable        one for each sink
//!          └─► violations, liveness of the log
//! ```
//!
//! - [`config`] reads `monitor.toml`, [`setup`] also the files that it names; [`watches`] selects tags;
//! - [`alert`] defines alerts; [`tracker`] derives them from audited batches, [`liveness`] from how the log answers;
//! - [`alert_store`] keeps alerts, and the tracking state between batches, in one SQLite file; [`dispatcher`] delivers
//!   alerts to [`sinks`];
//! - [`http`] serves metrics and health; [`run`] runs everything.

pub mod alert;
pub mod alert_store;
pub mod config;
pub mod dispatcher;
pub mod http;
pub mod liveness;
pub mod run;
pub mod setup;
pub mod sinks;
pub mod tracker;
pub mod watches;
mod webhook_secret;
