//! The witness agent: watches registries, signs what it saw, and reports it to logs.
//!
//! ```text
//! push ── hint ──┐                       ┌── deliver ── log
//!                ▼                       │
//! config ─► watch::lane ─► watch::look ─► spool ─── deliver ── log
//!             when?          what?        durable   checked
//! ```
//!
//! - [`config`] is `witness.toml`; [`taglog_tag_selection`] says which tags are meant;
//! - [`watch`] asks registries, [`push`] makes it ask at once; [`decision`] has the rules by which it reports;
//!   [`clock`] says whether a look can be dated;
//! - [`spool`] keeps what was signed; [`deliver`] brings it to logs and checks them;
//! - [`alarm`] is for people; [`http`], [`progress`] and [`status`] show what goes on;
//! - [`agent`] puts it all together; `parts` are its tasks.

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
