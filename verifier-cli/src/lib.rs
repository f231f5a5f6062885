//! The library behind the `taglog` command: everything that asks, checks and judges.
//!
//! - [`audit`] re-derives all that a log claims, and keeps evidence;
//! - [`client`] talks to a log, and remembers the last checkpoint it verified;
//! - [`registry`] asks OCI registries what a tag is now;
//! - [`sources`] finds the images that files name;
//! - [`cosigner`] checks that logs only append, and cosigns their checkpoints;
//! - [`selection`] says which tags are meant, for the witness and the monitor;
//! - [`monitor`] keeps auditing a log, and alerts people;
//! - [`witness`] is the agent that watches registries and reports what it sees;
//! - [`mirror`] keeps a verified copy of a log; [`evidence`] finds what convicts one;
//! - [`pin`] writes digests into files, and changes nothing else in them;
//! - [`policy`] says whose word counts, and turns what was verified into one verdict;
//! - [`rebuilt`] tells whether a moved tag looks like a rebuild; [`platform`] names what images are built for;
//! - [`verifier`] puts these together: images in, verdicts out;
//! - [`digest`] and [`duration`] write both for people;
//! - [`config_file`], [`listener`] and [`parts`] are what long-running commands share: how their configurations are
//!   read, how they serve, and that none of their tasks ends unnoticed;
//! - [`commands`] has one file a command.

pub mod audit;
pub mod client;
pub mod commands;
pub mod config_file;
pub mod cosigner;
pub mod digest;
pub mod duration;
pub mod evidence;
pub mod key;
pub mod listener;
pub mod mirror;
pub mod monitor;
pub mod parts;
pub mod pin;
pub mod platform;
pub mod policy;
pub mod rebuilt;
pub mod registry;
pub mod selection;
pub mod sources;
pub mod verifier;
pub mod witness;
