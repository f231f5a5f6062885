//! Published formats, with nothing of taglog in them.
//!
//! | module | source |
//! |---|---|
//! | [`encoding`], [`time`] | RFC 4648 base64, decimal numbers, RFC 3339 times, each in one canonical encoding |
//! | [`note`] | c2sp.org/signed-note |
//! | [`checkpoint`] | c2sp.org/tlog-checkpoint |
//! | [`cosignature`] | c2sp.org/tlog-cosignature |
//! | [`policy`] | c2sp.org/tlog-policy |
//! | [`add_checkpoint`] | c2sp.org/tlog-witness |
//! | [`merkle`] | RFC 6962 section 2.1, RFC 9162 section 2.1 |
//! | [`subtree`] | draft-ietf-plants-merkle-tree-certs-03 section 4 |
//! | [`tile`] | c2sp.org/tlog-tiles |
//! | [`receipt`] | c2sp.org/tlog-proof |

pub mod add_checkpoint;
pub mod checkpoint;
pub mod cosignature;
pub mod encoding;
pub mod merkle;
pub mod note;
mod operation_error;
pub mod policy;
pub mod receipt;
pub mod subtree;
pub mod tile;
pub mod time;

pub use operation_error::OperationError;
