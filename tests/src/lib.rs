//! Shared by the end-to-end tests and the benchmark: real processes on free ports, and simulated counterparts.
//!
//! | module | what |
//! |---|---|
//! | [`process`] | runs a program, reads its output, ends it |
//! | [`server`] | a data directory, `taglog-server` on it, and its HTTP calls |
//! | [`cli_fixture`] | a user of `taglog`, with trust file, memory and key; relays and servers that answer falsely |
//! | [`agent`] | a home directory and `taglog witness run` in it, with its status |
//! | [`agent_fixture`] | a log, two registries and a witness agent between them |
//! | [`cosigner_process`] | a home directory and `taglog cosign serve` in it, and logs that only grow |
//! | [`fake_cosigner`] | a cosigner with any fault that a test wants |
//! | [`witness`] | signs observations and confirmations |
//! | [`replay`] | fetches a whole log and audits it |
//! | [`registry`] | a real registry, and images pushed to it |
//! | [`hostile_registry`] | a registry with any answer that a test wants |
//! | [`dishonest`] | a log that lies in any way that a test wants |
//!
//! The programs must have been built in the same profile before: `cargo build --workspace --bins`.

// A harness: what fails in here fails the test that called it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod agent;
pub mod agent_fixture;
pub mod cli_fixture;
pub mod cosigner_process;
pub mod dishonest;
pub mod fake_cosigner;
pub mod hostile_registry;
pub mod process;
pub mod random;
pub mod registry;
pub mod replay;
pub mod server;
pub mod witness;

pub use agent::{Agent, Status};
pub use dishonest::DishonestLog;
pub use fake_cosigner::FakeCosigner;
pub use process::{Process, binary};
pub use registry::{QuickPush, Registry, push_image, push_quickly};
pub use replay::replay;
pub use server::{DataDirectory, HttpResponse, Server, SubmissionResult};
pub use witness::Witness;
