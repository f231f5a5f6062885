//! Cosigners: a quorum publishes, faults hold up nobody else, an old backup is refused.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "server_cosigners/common.rs"]
mod common;
#[path = "server_cosigners/faults.rs"]
mod faults;
#[path = "server_cosigners/kill.rs"]
mod kill;
#[path = "server_cosigners/quorum.rs"]
mod quorum;
#[path = "server_cosigners/rollback.rs"]
mod rollback;
