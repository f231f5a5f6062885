//! Finds evidence of misbehaviour that the verification of a single tag proof cannot find.
//!
//! - [`split_view`] compares two checkpoints; [`views`] fetches those that a log, its mirrors and its cosigners serve.
//! - [`from_tag_proof`] compares a saved tag proof with the log's entries.

pub mod from_tag_proof;
pub mod split_view;
pub mod views;
