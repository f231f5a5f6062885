//! `taglog monitor` with a real log: every kind of alert, every way out, and `kill -9` at any moment.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "monitor/attacks.rs"]
mod attacks;
#[path = "monitor/crashes.rs"]
mod crashes;
#[path = "monitor/directory_log.rs"]
mod directory_log;
#[path = "monitor/liveness.rs"]
mod liveness;
#[path = "monitor/misbehaviour.rs"]
mod misbehaviour;
#[path = "monitor/scene.rs"]
mod scene;
#[path = "monitor/story.rs"]
mod story;
