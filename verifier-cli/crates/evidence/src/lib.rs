//! Finds evidence of misbehaviour that one verifier alone cannot see, and keeps it.
//!
//! - [`split_view`] compares two checkpoints; [`views`] gets those that different people were given;
//! - [`from_tag_proof`] compares a saved answer with the log's entries.

pub mod from_tag_proof;
pub mod split_view;
pub mod views;
