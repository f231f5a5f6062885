//! The log as of one commit.

use std::sync::Arc;

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::{Entry, Roster, Seal},
    tag_proof::LookupSource,
};

use crate::store::{StoreError, View};

/// The checkpoint of a commit with everything that it covers. It pins a snapshot of the store, so at most two are held
/// for long: the published one, and the one that is being cosigned.
pub struct Snapshot {
    /// The checkpoint, signed by the log alone.
    pub checkpoint: SignedCheckpoint,
    /// The last entry.
    pub seal: Seal,
    /// The roster in force, whose log index the seal names.
    pub roster: Arc<Roster>,
    pub view: View,
}

impl Snapshot {
    /// Reads the snapshot from a view; `None` for an empty log. If the roster is that of `before`, it is not parsed
    /// again.
    pub fn read(view: View, before: Option<&Snapshot>) -> Result<Option<Snapshot>, StoreError> {
        let Some(checkpoint) = view.checkpoint()? else { return Ok(None) };
        // A checkpoint of size 0 does not parse, so this does not underflow.
        let seal = read_seal(&view, checkpoint.unverified().size - 1)?;
        let roster = match before.filter(|before| before.seal.roster == seal.roster) {
            Some(before) => Arc::clone(&before.roster),
            None => Arc::new(read_roster(&view, seal.roster)?),
        };
        Ok(Some(Snapshot { checkpoint, seal, roster, view }))
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.checkpoint.unverified().size
    }
}

fn read_seal(view: &View, index: u64) -> Result<Seal, StoreError> {
    let entry = Entry::parse(&view.entry(index)?).ok();
    let seal = entry.and_then(|entry| entry.seal_at(index).copied());
    seal.ok_or_else(|| StoreError::Corrupt(format!("entry {index}, which must be the seal of its checkpoint,")))
}

fn read_roster(view: &View, index: u64) -> Result<Roster, StoreError> {
    match Entry::parse(&view.entry(index)?) {
        Ok(Entry::Roster(roster)) => Ok(roster),
        _ => Err(StoreError::Corrupt(format!("entry {index}, which must be the roster that the seal names,"))),
    }
}
