//! Audits a log: re-derives everything that it claims from its entries (SPEC.md section 8).
//!
//! - [`auditor`] takes entries in log order, batch by batch, and keeps the state of the log: the tag index ([`index`], over
//!   a [`trie`]), the tree of entries ([`tree`]) and every checkpoint seen so far. Each commit makes that state durable
//!   ([`store`]); an interrupted audit resumes from the last commit.
//! - [`batch`] defines the input and output of the auditor, [`rows`] the stored form, [`record_state`] the form in memory.
//! - [`Run`] is one audit of a static log: it compares and replays one checkpoint and returns findings.
//! - [`retags`] builds the history of every retagged tag, for evaluation by a policy.
//! - [`evidence`] builds evidence files, which anyone can check with the log's key alone.

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
