//! Seals: the log closes a batch and commits to the tag index.

use std::fmt;

use super::{EntryError, Lines};
use crate::c2sp::{merkle::Hash, time::Timestamp};

/// The last entry of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// When the log closed the batch; never before the previous seal.
    pub time: Timestamp,
    /// The seal's own log index.
    pub size: u64,
    /// The log index of the roster in force.
    pub roster: u64,
    /// The number of tag records.
    pub tags: u64,
    /// The root of the tag index over all entries before this seal.
    pub index: Hash,
}

impl Seal {
    pub(super) const KIND: &'static str = "taglog/seal@v1";

    pub(super) fn parse_body(body: &str) -> Result<Seal, EntryError> {
        let mut lines = Lines::new(body);
        let time = lines.time("time")?;
        let (size, roster, tags) = (lines.number("size")?, lines.number("roster")?, lines.number("tags")?);
        let index = Hash::from_base64(lines.field("index")?).ok_or(EntryError::Value("index"))?;
        lines.end()?;
        Ok(Seal { time, size, roster, tags, index })
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seal { time, size, roster, tags, index } = self;
        writeln!(f, "{}\ntime {time}\nsize {size}\nroster {roster}\ntags {tags}\nindex {index}", Self::KIND)
    }
}
