//! The thread that writes commits while the audit continues.

use std::{
    cell::Cell,
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::values::signed;
use crate::{
    batch::Counts,
    codec,
    error::AuditorError,
    rows::{IndexRows, RepositoryRow, Rows, StoredSighting, TagRow, TileRow},
};

/// The state of the last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Written,
    Writing,
    Failed,
}

/// A thread with its own database connection. Writes the rows of each commit in one transaction and in order. If a write fails,
/// it keeps the rows and writes them together with the next ones. Dropping it waits for the current write.
#[derive(Debug)]
pub(super) struct Writer {
    /// Sends rows, or `None` to retry a failed write. `None` once the thread has to end.
    rows: Option<SyncSender<Option<Rows>>>,
    written: Receiver<rusqlite::Result<()>>,
    state: Cell<State>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which must be the only writer to the database.
    pub fn start(connection: Connection) -> io::Result<Writer> {
        let (sender, rows) = sync_channel(1);
        let (done, written) = sync_channel(1);
        let serve = move || serve(connection, &rows, &done);
        let thread = thread::Builder::new().name("commit".to_owned()).spawn(serve)?;
        Ok(Writer { rows: Some(sender), written, state: Cell::new(State::Written), thread: Some(thread) })
    }

    /// Waits for the previous write and starts the next one.
    ///
    /// # Errors
    /// The previous write failed; its rows are written together with these. After [`AuditorError::Writer`] nothing is written any
    /// more.
    pub fn begin(&self, rows: Rows) -> Result<(), AuditorError> {
        let before = self.wait();
        self.send(Some(rows))?;
        before
    }

    /// Waits until all rows are durable. Retries a failed write once.
    ///
    /// # Errors
    /// The write failed; the next call retries it.
    pub fn settle(&self) -> Result<(), AuditorError> {
        if self.state.get() == State::Failed {
            self.send(None)?;
        }
        self.wait()
    }

    fn send(&self, rows: Option<Rows>) -> Result<(), AuditorError> {
        let sender = self.rows.as_ref().ok_or(AuditorError::Writer)?;
        // Set before sending: if that fails, the rows must not count as written.
        self.state.set(State::Writing);
        sender.send(rows).map_err(|_| AuditorError::Writer)
    }

    /// Waits for the current write, if any.
    fn wait(&self) -> Result<(), AuditorError> {
        if self.state.get() != State::Writing {
            return Ok(());
        }
        let written = self.written.recv().map_err(|_| AuditorError::Writer)?;
        self.state.set(if written.is_ok() { State::Written } else { State::Failed });
        Ok(written?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.rows = None;
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, its last transaction was rolled back, as after a crash.
            let _ = thread.join();
        }
    }
}

fn serve(mut connection: Connection, rows: &Receiver<Option<Rows>>, done: &SyncSender<rusqlite::Result<()>>) {
    let mut unwritten: Vec<Rows> = Vec::new();
    for rows in rows {
        unwritten.extend(rows);
        let written = commit(&mut connection, &unwritten);
        if written.is_ok() {
            unwritten.clear();
        }
        if done.send(written).is_err() {
            return;
        }
    }
}

/// Writes all rows in one transaction.
fn commit(connection: &mut Connection, all: &[Rows]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    all.iter().try_for_each(|rows| write(&transaction, rows))?;
    transaction.commit()
}

fn write(transaction: &Transaction<'_>, rows: &Rows) -> rusqlite::Result<()> {
    write_progress(transaction, rows)?;
    write_index(transaction, &rows.index)?;
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO tile VALUES (?1, ?2, ?3)")?;
    for TileRow { index, hashes, root } in &rows.tiles {
        let hashes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        put.execute(params![signed(*index), hashes, root.map(|root| root.0)])?;
    }
    let mut put = transaction.prepare_cached("INSERT INTO sighting VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for StoredSighting { index, tag, witness, observed, seen } in &rows.sightings {
        put.execute(params![signed(*index), tag, witness, observed.unix(), codec::seen_bytes(seen)])?;
    }
    let mut put = transaction.prepare_cached("INSERT INTO lax VALUES (?1)")?;
    for index in &rows.lax {
        put.execute([signed(*index)])?;
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2, ?3)")?;
    for checkpoint in &rows.checkpoints {
        let claimed = checkpoint.unverified();
        put.execute(params![signed(claimed.size), claimed.root.0, checkpoint.to_string()])?;
    }
    Ok(())
}

fn write_progress(transaction: &Transaction<'_>, rows: &Rows) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    if let Some(seal) = &rows.seal {
        put.execute(["seal", &seal.to_string()])?;
    }
    let Counts { observations, confirmations, seals, lax_signatures, rosters: _ } = &rows.counts;
    let numbers = [
        ("observations", observations),
        ("confirmations", confirmations),
        ("seals", seals),
        ("lax", lax_signatures),
        ("tiles", &rows.tiles_checked),
    ];
    for (key, value) in numbers {
        put.execute([key, &value.to_string()])?;
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO roster VALUES (?1, ?2)")?;
    for (index, roster) in &rows.rosters {
        put.execute(params![signed(*index), roster.to_string()])?;
    }
    Ok(())
}

/// Writes the rows ordered by primary key, so that each table is written sequentially.
fn write_index(transaction: &Transaction<'_>, rows: &IndexRows) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT INTO witness VALUES (?1, ?2)")?;
    for (id, witness) in &rows.witnesses {
        put.execute(params![id, witness.to_string()])?;
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO repository VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET lines = excluded.lines",
    )?;
    for RepositoryRow { id, name, lines } in &rows.repositories {
        put.execute(params![id, name.as_str(), lines])?;
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO tag VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET
        first = excluded.first, retagged = excluded.retagged, lines = excluded.lines",
    )?;
    for TagRow { id, repository, name, first, retagged, lines } in &rows.tags {
        let (first, retagged) = (first.map(|hash| hash.0), retagged.map(signed));
        put.execute(params![id, repository, name.as_str(), first, retagged, lines])?;
    }
    Ok(())
}
