//! Audits a log: everything that it claims, re-derived from its entries (DESIGN 3.6, SPEC.md section 8).
//!
//! - [`auditor`] takes entries in log order, batch by batch, and knows where the log stands: the tag index
//!   ([`index`], over a [`trie`]), the tree of entries ([`tree`]), what was seen before. What it knows is durable with
//!   every commit ([`store`]), and an audit that was cut off goes on from the last one.
//! - [`batch`] is what goes into it and comes out of it; [`rows`] what is stored, [`record_state`] what is held in memory.
//! - [`Run`] is one audit of a static log, from its checkpoint to what is wrong with it, if anything is.
//! - [`retags`] has the history of every retagged tag, for a policy to judge.
//! - [`evidence`] puts what convicts a log into the files that anyone can check.

pub mod auditor;
pub mod batch;
mod codec;
mod download;
mod error;
pub mod evidence;
mod full_replay;
mod index;
mod outcome;
mod record_state;
pub mod retags;
mod rows;
mod run;
mod signatures;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod trie;

pub use auditor::{Auditor, Consistency};
pub use batch::{BatchReport, Counts, ParsedEntries, TagChange, admit_rosters};
pub use error::{AuditorError, PushError};
pub use full_replay::FullReplay;
pub use index::{Current, Index, TagView};
pub use outcome::{AuditFinding, AuditFindingKind, AuditOutcome, AuditRunError};
pub use run::{Follower, Run, SharedFollower};
pub use signatures::WitnessKeys;
pub use store::{DigestSearchResult, SearchMatch, search};
