//! The monitor: keeps auditing a log, and alerts people about what matters to them.
//!
//! ```text
//! log ─► auditor ─► tracker ─► ledger ─► courier ─► standard output, webhook, mail, feed
//!          │          what?    durable     one a sink
//!          └─► violations, watch over the log's liveness
//! ```
//!
//! - [`config`] is `monitor.toml`, [`prepared`] all that it refers to; [`watches`] says which tags are meant;
//! - [`alert`] is what people get; [`tracker`] finds alerts in audited batches, [`liveness`] in how the log answers;
//! - [`ledger`] keeps alerts, and what is remembered from batch to batch, in one SQLite file; [`courier`] brings alerts
//!   to [`sinks`];
//! - [`http`] shows metrics and health; [`run`] puts it all together.

pub mod alert;
pub mod config;
pub mod courier;
pub mod http;
pub mod ledger;
pub mod liveness;
pub mod prepared;
pub mod run;
pub mod sinks;
pub mod tracker;
pub mod watches;
mod webhook_secret;
