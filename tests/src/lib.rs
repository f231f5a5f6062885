//! What the end-to-end tests and benchmarks share: real processes on free ports, cleaned up.
//!
//! | module | what |
//! |---|---|
//! | [`process`] | runs a program, reads what it says, ends it |
//! | [`server`] | a data directory and the `taglog-server` on it, with every HTTP call |
//! | [`agent`] | a home directory and the `taglog witness run` in it, with its status |
//! | [`cosigner`] | a cosigner whose every fault a test chooses |
//! | [`cosign`] | a home directory and the `taglog cosign serve` in it, and logs that only grow |
//! | [`witness`] | signs observations and confirmations |
//! | [`replay`] | fetches a whole log and audits it |
//! | [`registry`] | a real registry, and images pushed to it |
//! | [`hostile_registry`] | a registry whose every answer a test chooses |
//! | [`dishonest`] | a log that lies as it is told |
//!
//! The programs must have been built in the same profile before: `cargo build --release --workspace`.

// A harness: what fails in here fails the test that called it, at the line that says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod agent;
pub mod cosign;
pub mod cosigner;
pub mod dishonest;
pub mod hostile_registry;
pub mod process;
pub mod random;
pub mod registry;
pub mod replay;
pub mod server;
pub mod witness;

pub use agent::{Agent, Status};
pub use cosigner::Cosigner;
pub use dishonest::DishonestLog;
pub use process::{Process, binary};
pub use registry::{QuickPush, Registry, push_image, push_quickly};
pub use replay::replay;
pub use server::{Answer, Data, Outcome, Server};
pub use witness::Witness;
