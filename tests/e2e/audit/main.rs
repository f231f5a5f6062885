//! `taglog audit`, `search`, `mirror` and `evidence` with real logs.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod evidence;
mod mirror;
