//! The library behind the `taglog` command: everything that asks, checks and judges.
//!
//! - [`client`] talks to a log, and remembers the last checkpoint it verified;
//! - [`registry`] asks OCI registries what a tag is now;
//! - [`sources`] finds the images that files name;
//! - [`witness`] is the agent that watches registries and reports what it sees;
//! - [`policy`] says whose word counts, and turns what was verified into one verdict;
//! - [`commands`] has one file a command.

pub mod client;
pub mod commands;
pub mod duration;
pub mod key;
pub mod policy;
pub mod registry;
pub mod sources;
pub mod witness;
