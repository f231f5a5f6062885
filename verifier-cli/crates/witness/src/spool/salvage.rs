//! What is done with a damaged spool: it is set aside, and its entries are found again.
//!
//! The order of steps is such that a crash between any two of them loses nothing: the new database is made beside the
//! damaged one, renamed when it is whole, and only then put in its place.
//!
//! An entry proves itself by the witness's own signature, so that it can be taken from anywhere in the file,
//! whatever became of the tables around it. Entries that were delivered long ago may turn up among them: the
//! logs answer those as duplicates. What is remembered of tags does not prove itself; it only says which tags
//! to look at, and each of them is reported again.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use taglog_proto::{
    entry::{Entry, MAX_STATEMENT},
    note::VerifierKey,
    time::Timestamp,
};

use super::{SpoolError, Statement, rows, schema};

/// What every statement begins with.
const BEGINNING: &[u8] = b"taglog/";
/// How much of the file is held at once, in bytes.
const WINDOW: usize = 1 << 20;
/// What SQLite keeps beside the database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A new database with all that could be saved, before it takes the place of the damaged one.
const SALVAGED: &str = ".salvaged";
/// The same while it is being made: whatever is in it does not count.
const UNFINISHED: &str = ".salvaging";

/// Puts what can be found in a damaged database into a new one beside it. The damaged one is only read, so that this
/// can be begun anew after a crash; [`finish`] puts the new one in its place.
pub(super) fn salvage(path: &Path, witness: &VerifierKey, logs: &[VerifierKey], limit: u64) -> Result<(), SpoolError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| SpoolError::File { path, reason: error.to_string() }
    };
    let unfinished = with_suffix(path, UNFINISHED);
    remove_database(&unfinished).map_err(file_error(&unfinished))?;
    let mut found = BTreeSet::new();
    for damaged in [path.to_owned(), with_suffix(path, COMPANIONS[0])] {
        carve(&damaged, witness, &mut found).map_err(file_error(&damaged))?;
    }
    let connection = schema::open(&unfinished, limit)?;
    rows::claim(&connection, witness)?;
    rows::set_logs(&connection, logs)?;
    fill(&connection, &remembered_tags(path), &found, witness)?;
    connection.close().map_err(|(_, error)| SpoolError::from(error))?;
    std::fs::rename(&unfinished, with_suffix(path, SALVAGED)).map_err(file_error(&unfinished))
}

fn fill(
    connection: &Connection,
    tags: &[rows::TagRow],
    found: &BTreeSet<(Timestamp, String)>,
    witness: &VerifierKey,
) -> Result<(), SpoolError> {
    let transaction = connection.unchecked_transaction()?;
    rows::mark_salvaged(&transaction)?;
    for (_, note) in found {
        let Some(statement) = own_statement(note.as_bytes(), witness) else { continue };
        // In the order of their times, so that the latest report of a tag is the one that is remembered.
        rows::record(&transaction, &statement, None)?;
    }
    for row in tags {
        rows::remember(&transaction, &row.image, &row.state, row.error.as_deref())?;
    }
    rows::report_all_again(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Puts a finished new database in the place of the damaged one, which is set aside; says where. After a crash in
/// the middle it goes on.
pub(super) fn finish(path: &Path) -> io::Result<Option<PathBuf>> {
    let salvaged = with_suffix(path, SALVAGED);
    if !salvaged.exists() {
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
    std::fs::rename(&salvaged, path)?;
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

/// The rows of the damaged table up to where it cannot be read.
fn remembered_tags(damaged: &Path) -> Vec<rows::TagRow> {
    let read = schema::open_read_only(damaged).and_then(|connection| rows::readable_tags(&connection));
    read.unwrap_or_default()
}

/// Finds the witness's own entries in a file, in the order of their times. A file that is not there has none.
fn carve(path: &Path, witness: &VerifierKey, found: &mut BTreeSet<(Timestamp, String)>) -> io::Result<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut window = Vec::with_capacity(WINDOW + MAX_STATEMENT);
    loop {
        let kept = window.len();
        file.by_ref().take(WINDOW as u64).read_to_end(&mut window)?;
        let at_end = window.len() == kept;
        carve_window(&window, witness, found);
        if at_end {
            return Ok(());
        }
        // An entry may lie across the border of two windows.
        window.drain(..window.len().saturating_sub(MAX_STATEMENT));
    }
}

fn carve_window(window: &[u8], witness: &VerifierKey, found: &mut BTreeSet<(Timestamp, String)>) {
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
