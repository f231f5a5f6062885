//! Recovery of a damaged spool: the file is set aside, and its entries are extracted into a new one.
//!
//! A crash between any two steps loses nothing: the new database is written beside the damaged one, renamed when it is
//! complete, and only then put in its place.
//!
//! An entry is authenticated by the witness's own signature, so it can be extracted from any place in the file. Entries that
//! were delivered long ago may be among them; the logs answer those as duplicates. The states of tags are not authenticated:
//! they only name the tags to poll, and each of them is reported again.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use taglog_proto::{
    entry::{Entry, MAX_STATEMENT, Statement},
    note::VerifierKey,
    time::Timestamp,
};

use super::{error::SpoolError, rows, schema};

/// The first bytes of every entry.
const BEGINNING: &[u8] = b"taglog/";
/// Bytes of the file in memory at once.
const WINDOW: usize = 1 << 20;
/// The suffixes of SQLite's other files.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The suffix of the complete new database, before it replaces the damaged one.
const RECOVERED: &str = ".salvaged";
/// The suffix of the new database while it is written; removed at the next attempt.
const UNFINISHED: &str = ".salvaging";

/// Writes everything that can be extracted from a damaged database to a new one beside it. The damaged one is only read, so
/// this can be repeated after a crash; [`finish`] puts the new one in its place.
pub(super) fn recover(path: &Path, witness: &VerifierKey, logs: &[VerifierKey], limit: u64) -> Result<(), SpoolError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| SpoolError::File { path, reason: error.to_string() }
    };
    let unfinished = with_suffix(path, UNFINISHED);
    remove_database(&unfinished).map_err(file_error(&unfinished))?;
    let mut found = BTreeSet::new();
    for damaged in [path.to_owned(), with_suffix(path, COMPANIONS[0])] {
        extract_entries(&damaged, witness, &mut found).map_err(file_error(&damaged))?;
    }
    let connection = schema::open(&unfinished, limit)?;
    rows::claim(&connection, witness)?;
    rows::set_logs(&connection, logs)?;
    fill(&connection, &remembered_tags(path), &found, witness)?;
    connection.close().map_err(|(_, error)| SpoolError::from(error))?;
    std::fs::rename(&unfinished, with_suffix(path, RECOVERED)).map_err(file_error(&unfinished))
}

fn fill(
    connection: &Connection,
    tags: &[rows::WatchedTagRow],
    found: &BTreeSet<(Timestamp, String)>,
    witness: &VerifierKey,
) -> Result<(), SpoolError> {
    let transaction = connection.unchecked_transaction()?;
    rows::mark_recovered(&transaction)?;
    for (_, note) in found {
        let Some(statement) = own_statement(note.as_bytes(), witness) else { continue };
        // In chronological order, so that the latest report of a tag is the one that is remembered.
        rows::record(&transaction, &statement, None)?;
    }
    for row in tags {
        rows::remember(&transaction, &row.image, &row.state, row.error.as_deref())?;
    }
    rows::report_all_again(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Replaces the damaged database with a complete new one, if there is one; returns where the damaged one was set aside.
/// Continues after a crash.
pub(super) fn finish(path: &Path) -> io::Result<Option<PathBuf>> {
    let recovered = with_suffix(path, RECOVERED);
    if !recovered.exists() {
        return Ok(None);
    }
    let names = |number: u32| {
        let aside = with_suffix(path, &format!(".damaged-{number}"));
        let companions = COMPANIONS.map(|companion| with_suffix(&aside, companion));
        (aside, companions)
    };
    let is_free = |number: &u32| {
        let (aside, companions) = names(*number);
        !aside.exists() && companions.iter().all(|companion| !companion.exists())
    };
    let (aside, companions) = names((1..u32::MAX).find(is_free).unwrap_or(u32::MAX));
    // Companions first: none of them must be there when the new database comes.
    for (companion, to) in COMPANIONS.iter().zip(companions) {
        rename_if_there(&with_suffix(path, companion), &to)?;
    }
    rename_if_there(path, &aside)?;
    std::fs::rename(&recovered, path)?;
    Ok(Some(aside))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn remove_database(path: &Path) -> io::Result<()> {
    for file in [path.to_owned(), with_suffix(path, COMPANIONS[0]), with_suffix(path, COMPANIONS[1])] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The readable rows of the damaged table, up to the first unreadable one.
fn remembered_tags(damaged: &Path) -> Vec<rows::WatchedTagRow> {
    let read = schema::open_read_only(damaged).and_then(|connection| rows::readable_tags(&connection));
    read.unwrap_or_default()
}

/// Extracts the witness's own entries from a file, in chronological order. A missing file has none.
fn extract_entries(path: &Path, witness: &VerifierKey, found: &mut BTreeSet<(Timestamp, String)>) -> io::Result<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut window = Vec::with_capacity(WINDOW + MAX_STATEMENT);
    loop {
        let kept = window.len();
        file.by_ref().take(WINDOW as u64).read_to_end(&mut window)?;
        let at_end = window.len() == kept;
        extract_from_window(&window, witness, found);
        if at_end {
            return Ok(());
        }
        // An entry may span two windows.
        window.drain(..window.len().saturating_sub(MAX_STATEMENT));
    }
}

fn extract_from_window(window: &[u8], witness: &VerifierKey, found: &mut BTreeSet<(Timestamp, String)>) {
    let starts = (0..window.len()).filter(|at| window[*at..].starts_with(BEGINNING));
    for start in starts {
        let candidate = &window[start..window.len().min(start + MAX_STATEMENT)];
        let Some(end) = end_of_note(candidate) else { continue };
        let (Ok(note), Some(statement)) =
            (std::str::from_utf8(&candidate[..end]), own_statement(&candidate[..end], witness))
        else {
            continue;
        };
        found.insert((statement.observed(), note.to_owned()));
    }
}

/// Where a note with one signature line ends: at the second newline after the empty line.
fn end_of_note(bytes: &[u8]) -> Option<usize> {
    let empty_line = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let signature = bytes[empty_line..].iter().position(|byte| *byte == b'\n')?;
    Some(empty_line + signature + 1)
}

fn own_statement(bytes: &[u8], witness: &VerifierKey) -> Option<Statement> {
    let statement = Statement::from_entry(Entry::parse(bytes).ok()?)?;
    statement.verify(witness).is_ok().then_some(statement)
}
