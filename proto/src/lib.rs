//! The formats of taglog and every check on them: no I/O, no async, no clock.

#![warn(missing_docs)]
//!
//! taglog is a transparency log for container tags. Witnesses report which digest they saw behind
//! `repository:tag`; the log records every report in an append-only Merkle tree; anyone can check
//! what a tag has ever pointed to. `SPEC.md` beside this crate specifies every byte.
//!
//! One module a format, named after the format:
//!
//! | module | what |
//! |---|---|
//! | [`name`], [`time`], [`encoding`] | the words that all formats share |
//! | [`note`], [`checkpoint`] | signed notes, keys, the log's signed state |
//! | [`cosignature`], [`policy`], [`add_checkpoint`] | cosigners, who is believed, what cosigners are asked |
//! | [`entry`] | observations, confirmations, rosters, seals |
//! | [`merkle`], [`multiproof`], [`subtree`], [`tile`] | the append-only tree |
//! | [`prefix_tree`], [`record`], [`index`] | the tag index |
//! | [`tag_proof`], [`receipt`] | what a log answers, and how it is verified |
//! | [`rules`], [`audit`], [`evidence`] | what an auditor checks, and what it can show to others |
//!
//! Every function of hostile input is total: an error, never a panic.

pub mod add_checkpoint;
pub mod audit;
pub mod checkpoint;
pub mod cosignature;
pub mod encoding;
pub mod entry;
pub mod evidence;
pub mod index;
pub mod merkle;
pub mod multiproof;
pub mod name;
pub mod note;
pub mod policy;
pub mod prefix_tree;
pub mod receipt;
pub mod record;
pub mod rules;
pub mod subtree;
pub mod tag_proof;
pub mod tile;
pub mod time;
