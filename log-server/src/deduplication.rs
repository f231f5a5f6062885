//! Finds statements that are entries of the log already.

use std::collections::{HashMap, VecDeque};

use taglog_proto::{
    entry::{Entry, Statement},
    tag_proof::LookupSource as _,
};

use crate::store::{StatementKey, StoreError, View};

/// The log index of this statement if it is an entry of the log already. The key is a truncated hash, so the text of the
/// entry is compared as well.
pub fn find_duplicate(view: &View, statement: &Statement, key: &StatementKey) -> Result<Option<u64>, StoreError> {
    let Some(index) = view.statement(key)? else { return Ok(None) };
    let entry = Entry::parse(&view.entry(index)?).ok().and_then(Statement::from_entry);
    let same = entry.is_some_and(|entry| entry.text() == statement.text() && entry.witness() == statement.witness());
    Ok(same.then_some(index))
}

/// The statements of the last batches. They spare a second look-up in the store: a request was deduplicated against a
/// recent snapshot, so only what was added since has to be compared.
#[derive(Default)]
pub struct RecentBatches {
    /// For each batch its first log index, and the log index of each statement.
    batches: VecDeque<(u64, HashMap<StatementKey, u64>)>,
}

impl RecentBatches {
    const BATCHES: usize = 4;

    /// Whether every batch from this log index on is remembered.
    pub fn covers(&self, index: u64) -> bool {
        self.batches.front().is_some_and(|(first, _)| *first <= index)
    }

    /// The log index of a statement in the remembered batches.
    pub fn find(&self, key: &StatementKey) -> Option<u64> {
        self.batches.iter().find_map(|(_, batch)| batch.get(key)).copied()
    }

    /// Adds a batch, whose first log index is `first`.
    pub fn add(&mut self, first: u64, batch: HashMap<StatementKey, u64>) {
        self.batches.push_back((first, batch));
        if self.batches.len() > Self::BATCHES {
            self.batches.pop_front();
        }
    }
}
