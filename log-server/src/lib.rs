//! The log server of taglog.
//!
//! Data flows one way: [`http`] parses and hands statements to the [`sequencer`], which decides
//! their order, updates tree and index, and commits to the [`store`]; the [`publisher`] makes a
//! committed checkpoint public; `http` answers from what is public.

pub mod clock;
pub mod config;
pub mod cosigning;
pub mod http;
pub mod keys;
pub mod publisher;
pub mod quota;
pub mod refusal;
pub mod rollback;
pub mod run;
pub mod sequencer;
pub mod snapshot;
pub mod startup;
pub mod store;
