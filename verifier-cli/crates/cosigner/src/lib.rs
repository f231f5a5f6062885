//! The cosigner (c2sp.org/tlog-witness, where it is called a witness): checks that logs only ever append, and
//! cosigns their checkpoints. An auditing cosigner replays every entry first.
//!
//! ```text
//! log ── add-checkpoint ──► http ─► service ─► audit ──────► store ─► cosignatures
//!                          encoding  signature   every entry   durable
//!                                   and proof   and seal
//! ```
//!
//! - [`config`] reads `cosigner.toml`; [`log`] has the keys of a log;
//! - [`service`] decides what is cosigned, [`audit`] replays entries, [`store`] keeps what was cosigned;
//! - [`evidence`] writes files that prove misbehaviour; [`http`] is the HTTP interface.

pub mod audit;
pub mod config;
pub mod evidence;
pub mod http;
pub mod log;
pub mod service;
pub mod store;
