//! Writes digests into the files that name images, and changes nothing else in them.
//!
//! ```text
//! files ── sources ── names and their bytes ─┬─ verifier ── decide ── a digest for each ─┐
//!                                            └───────────────────────────────── rewrite ─┴─ read again ── write
//! ```
//!
//! [`decide`] chooses the digest for each image; [`edit`] replaces ranges of bytes; [`rewrite`] edits one file and
//! parses the result again to check it; [`write`] replaces all files or none.

pub mod decide;
pub mod edit;
pub mod rewrite;
pub mod write;

#[cfg(test)]
mod tests;
