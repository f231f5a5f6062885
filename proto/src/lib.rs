//! The formats of taglog and every check on them: no I/O, no async, no clock, no threads.

#![warn(missing_docs)]
//!
//! taglog is a transparency log for container tags. Witnesses report which digest they saw behind
//! `repository:tag`; the log records every report in an append-only Merkle tree; anyone can check
//! what a tag has ever pointed to. `SPEC.md` beside this crate specifies every byte.
//!
//! The modules are in four layers, one folder each. A module imports from its own layer and from
//! those above it in this table, never the other way round.
//!
//! | layer | what it holds | modules |
//! |---|---|---|
//! | `c2sp` | published formats, which know nothing of tags: C2SP, RFC 6962 and RFC 9162 | [`encoding`], [`time`], [`note`], [`checkpoint`], [`cosignature`], [`policy`], [`add_checkpoint`], [`merkle`], [`subtree`], [`tile`], [`receipt`] |
//! | `formats` | taglog's own texts | [`name`], [`entry`], [`record`] |
//! | `verify` | what a verifier of one tag runs, and the log's side of it | [`multiproof`], [`prefix_tree`], [`tag_proof`] |
//! | `replay` | what the log applies before it accepts an entry, and an auditor afterwards | [`rules`], [`index`], [`audit`], [`evidence`] |
//!
//! Every function of hostile input is total: it returns an error and never panics.

mod c2sp;
mod formats;
mod replay;
mod verify;

pub use c2sp::{
    OperationError, add_checkpoint, checkpoint, cosignature, encoding, merkle, note, policy, receipt, subtree, tile,
    time,
};
pub use formats::{entry, name, record};
pub use replay::{audit, evidence, index, rules};
pub use verify::{multiproof, prefix_tree, tag_proof};
