//! Digests written into the files that name images, and nothing else of them changed.
//!
//! ```text
//! files ── sources ── names and their bytes ─┬─ verifier ── decide ── a digest for each ─┐
//!                                            └───────────────────────────────── rewrite ─┴─ read again ── write
//! ```
//!
//! [`decide`] says which digest each image gets, or why none; [`edit`] puts text in place of text; [`rewrite`] makes the edits of one file, and reads the result again before it
//! gives it out; [`write`] replaces whole files, all of them or none.

pub mod decide;
pub mod edit;
pub mod rewrite;
pub mod write;

#[cfg(test)]
mod tests;
