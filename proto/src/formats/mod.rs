//! taglog's own texts: names, entries, and the records that the tag index commits to.

pub mod entry;
pub mod name;
pub mod record;
