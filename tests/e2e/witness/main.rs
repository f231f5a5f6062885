//! Living with the witness agent: cron, reload, systemd, metrics, status, configurations that are wrong.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;
mod witness_scene;

#[path = "witness_living/configuration.rs"]
mod configuration;
#[path = "witness_living/once.rs"]
mod once;
#[path = "witness_living/reload.rs"]
mod reload;
#[path = "witness_living/running.rs"]
mod running;
