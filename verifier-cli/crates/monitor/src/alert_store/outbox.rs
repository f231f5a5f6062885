//! The side of the dispatchers: the undelivered alerts of each sink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row, params};
use tokio::sync::watch;

use super::{
    error::{AlertStoreError, damaged},
    values::from_sql,
};
use crate::alert::SequencedAlert;

/// An alert that is not yet delivered to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub sequenced: SequencedAlert,
    /// The number of failed attempts.
    pub attempts: u32,
}

/// The undelivered alerts of each sink. Cheap to clone. Every call blocks on disk I/O.
#[derive(Clone, Debug)]
pub struct Outbox {
    connection: Arc<Mutex<Connection>>,
    news: watch::Receiver<u64>,
}

impl Outbox {
    pub(super) fn new(connection: Connection, news: watch::Receiver<u64>) -> Outbox {
        Outbox { connection: Arc::new(Mutex::new(connection)), news }
    }

    /// Changes whenever there are new alerts.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // SQLite rolls back a transaction that a panic left open.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first undelivered alerts of a sink, those with the fewest attempts first, so that an alert that is always
    /// rejected does not block others.
    pub fn pending(&self, sink: &str, most: u32) -> Result<Vec<Pending>, AlertStoreError> {
        let select = "SELECT alert.sequence, json, attempts FROM delivery JOIN alert USING (sequence)
                      WHERE sink = ? AND done = 0 ORDER BY attempts, delivery.sequence LIMIT ?";
        let connection = self.connection();
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query(params![sink, most])?;
        let mut pending = Vec::new();
        while let Some(row) = rows.next()? {
            pending.push(Pending { sequenced: sequenced(row)?, attempts: row.get(2)? });
        }
        Ok(pending)
    }

    /// The number of undelivered alerts of a sink.
    pub fn pending_count(&self, sink: &str) -> Result<u64, AlertStoreError> {
        let count = "SELECT count(*) FROM delivery WHERE sink = ? AND done = 0";
        let count: i64 = self.connection().query_row(count, [sink], |row| row.get(0))?;
        from_sql(count)
    }

    /// The newest alerts for a sink, delivered or not, newest first.
    pub fn newest(&self, sink: &str, most: u32) -> Result<Vec<SequencedAlert>, AlertStoreError> {
        let select = "SELECT alert.sequence, json FROM delivery JOIN alert USING (sequence)
                      WHERE sink = ? ORDER BY delivery.sequence DESC LIMIT ?";
        let connection = self.connection();
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query(params![sink, most])?;
        let mut newest = Vec::new();
        while let Some(row) = rows.next()? {
            newest.push(sequenced(row)?);
        }
        Ok(newest)
    }

    /// Records that alerts were delivered to a sink.
    pub fn delivered(&self, sink: &str, sequences: &[i64]) -> Result<(), AlertStoreError> {
        self.update(
            "UPDATE delivery SET done = 1, attempts = attempts + 1 WHERE sink = ? AND sequence = ?",
            sink,
            sequences,
        )
    }

    /// Records a failed attempt to deliver alerts to a sink.
    pub fn failed(&self, sink: &str, sequences: &[i64]) -> Result<(), AlertStoreError> {
        self.update("UPDATE delivery SET attempts = attempts + 1 WHERE sink = ? AND sequence = ?", sink, sequences)
    }

    fn update(&self, statement: &str, sink: &str, sequences: &[i64]) -> Result<(), AlertStoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for sequence in sequences {
            transaction.prepare_cached(statement)?.execute(params![sink, sequence])?;
        }
        Ok(transaction.commit()?)
    }
}

fn sequenced(row: &Row<'_>) -> Result<SequencedAlert, AlertStoreError> {
    let json: String = row.get(1)?;
    Ok(SequencedAlert { sequence: row.get(0)?, alert: serde_json::from_str(&json).map_err(damaged)? })
}
