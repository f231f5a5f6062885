//! `taglog monitor` with a real log: every kind of alert, every sink, and SIGKILL at random moments.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod attacks;
mod crashes;
mod directory_log;
mod fixture;
mod liveness;
mod misbehaviour;
