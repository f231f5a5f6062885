//! The witness agent: watches registries, signs what it saw, and reports it to logs.
//!
//! ```text
//! push ─ poll request ─┐                                       ┌── deliver ── log
//!                      ▼                                       │
//! config ─► watch::scheduler ─► watch::resolver ─► spool ──────┴── deliver ── log
//!                when?               what?        durable          checked
//! ```
//!
//! - [`config`] is `witness.toml`; [`taglog_tag_selection`] selects the tags;
//! - [`watch`] polls registries, [`push`] turns notifications into poll requests; [`decision`] has the rules of reporting;
//!   [`clock`] checks the local clock;
//! - [`spool`] stores signed entries; [`deliver`] submits them to logs and verifies the receipts;
//! - [`alarm`] reports conditions that need an operator; [`http`], [`progress`] and [`status`] show the state;
//! - [`agent`] starts and stops all of it.

pub mod agent;
pub mod alarm;
pub mod clock;
pub mod config;
pub mod decision;
pub mod deliver;
pub mod http;
pub mod progress;
pub mod push;
pub mod spool;
pub mod status;
pub mod watch;
