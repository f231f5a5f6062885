//! `taglog-server`: what it serves, accepts and refuses, how it starts and stops, and its cosigners.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cosigners;
mod crash_recovery;
mod invalid_requests;
mod lifecycle;
mod lookup;
mod read_api;
mod slow_clients;
mod submission;
