//! What the spool keeps for the logs, and the outcome.

use taglog_proto::name::Digest;

/// A manifest that goes to the logs once its digest is logged.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, which hash to the digest.
    pub bytes: Vec<u8>,
}

/// A log's number in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub(super) i64);

/// The outcome of one pending entry at one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// A receipt verified; the entry is removed.
    Delivered,
    /// The log gave this index, and has not published it yet.
    Acknowledged(u64),
    /// The log refuses it permanently, for this reason; it is kept, and not submitted again.
    Refused(String),
}
