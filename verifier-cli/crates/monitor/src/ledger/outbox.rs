//! The delivering side of the ledger: what each sink has still to get.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row, params};
use tokio::sync::watch;

use super::{
    error::{LedgerError, damaged},
    values::from_sql,
};
use crate::alert::Numbered;

/// An alert that a sink has still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The alert.
    pub numbered: Numbered,
    /// How often it was tried.
    pub attempts: u32,
}

/// What each sink has still to get. Cheap to clone. Every call waits for the disk.
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
        // SQLite rolls back what a panic has left open.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first alerts that a sink has still to get: those tried least often first, so that one which it never takes
    /// holds up no other.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn pending(&self, sink: &str, most: u32) -> Result<Vec<Pending>, LedgerError> {
        let select = "SELECT alert.sequence, json, attempts FROM delivery JOIN alert USING (sequence)
                      WHERE sink = ? AND done = 0 ORDER BY attempts, delivery.sequence LIMIT ?";
        let connection = self.connection();
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query(params![sink, most])?;
        let mut pending = Vec::new();
        while let Some(row) = rows.next()? {
            pending.push(Pending { numbered: numbered(row)?, attempts: row.get(2)? });
        }
        Ok(pending)
    }

    /// How many alerts a sink has still to get.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn pending_count(&self, sink: &str) -> Result<u64, LedgerError> {
        let count = "SELECT count(*) FROM delivery WHERE sink = ? AND done = 0";
        let count: i64 = self.connection().query_row(count, [sink], |row| row.get(0))?;
        from_sql(count)
    }

    /// The newest alerts for a sink, delivered or not, newest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn newest(&self, sink: &str, most: u32) -> Result<Vec<Numbered>, LedgerError> {
        let select = "SELECT alert.sequence, json FROM delivery JOIN alert USING (sequence)
                      WHERE sink = ? ORDER BY delivery.sequence DESC LIMIT ?";
        let connection = self.connection();
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query(params![sink, most])?;
        let mut newest = Vec::new();
        while let Some(row) = rows.next()? {
            newest.push(numbered(row)?);
        }
        Ok(newest)
    }

    /// A sink has got these.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn delivered(&self, sink: &str, sequences: &[i64]) -> Result<(), LedgerError> {
        self.update(
            "UPDATE delivery SET done = 1, attempts = attempts + 1 WHERE sink = ? AND sequence = ?",
            sink,
            sequences,
        )
    }

    /// A sink did not get these.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn failed(&self, sink: &str, sequences: &[i64]) -> Result<(), LedgerError> {
        self.update("UPDATE delivery SET attempts = attempts + 1 WHERE sink = ? AND sequence = ?", sink, sequences)
    }

    fn update(&self, statement: &str, sink: &str, sequences: &[i64]) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for sequence in sequences {
            transaction.prepare_cached(statement)?.execute(params![sink, sequence])?;
        }
        Ok(transaction.commit()?)
    }
}

fn numbered(row: &Row<'_>) -> Result<Numbered, LedgerError> {
    let json: String = row.get(1)?;
    Ok(Numbered { sequence: row.get(0)?, alert: serde_json::from_str(&json).map_err(damaged)? })
}
