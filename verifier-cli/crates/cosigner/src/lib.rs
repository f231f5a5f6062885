//! The cosigner (c2sp.org/tlog-witness, where it is called a witness): checks that logs only ever append, and
//! cosigns their checkpoints; an auditing cosigner replays every entry first.
//!
//! ```text
//! log ── add-checkpoint ──► http ─► service ─► audit ──────► store ─► cosignatures
//!                            form   signature   every entry   durable
//!                                   and proof   and seal
//! ```
//!
//! - [`config`] is `cosigner.toml`; [`log`] has the keys of a log;
//! - [`service`] decides, [`audit`] replays, [`store`] remembers, [`evidence`] is for others;
//! - [`http`] serves.

pub mod audit;
pub mod config;
pub mod evidence;
pub mod http;
pub mod log;
pub mod service;
pub mod store;
