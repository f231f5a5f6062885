//! The log server of taglog.
//!
//! Data flows one way: [`http`] parses statements and queues them for the [`sequencer`], which decides their order,
//! updates tree and index, and commits to the [`store`]; the [`publisher`] publishes committed checkpoints; `http`
//! answers from the published state.

pub mod clock;
pub mod config;
pub mod cosigning;
pub mod deduplication;
pub mod http;
pub mod keys;
pub mod publisher;
pub mod quota;
pub mod rejection;
pub mod rollback;
pub mod run;
pub mod sequencer;
pub mod snapshot;
pub mod startup;

pub mod store;
