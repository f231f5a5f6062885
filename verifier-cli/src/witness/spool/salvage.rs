//! What is done with a damaged spool: it is set aside, and its entries are found again.
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

use super::{LogId, SpoolError, Statement, rows, schema};
use crate::witness::decision::TagState;

/// What every statement begins with.
const BEGINNING: &[u8] = b"taglog/";
/// How much of the file is held at once, in bytes.
const WINDOW: usize = 1 << 20;
/// What SQLite keeps beside the database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Moves a damaged database and its companions out of the way; returns where it is now.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let free = |number: &u32| !with_suffix(path, &format!(".damaged-{number}")).exists();
    let number = (1..=u32::MAX).find(free).unwrap_or(u32::MAX);
    let aside = with_suffix(path, &format!(".damaged-{number}"));
    for companion in COMPANIONS {
        match std::fs::rename(with_suffix(path, companion), with_suffix(&aside, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts what can be found in a damaged database into a new one; says what that was.
pub(super) fn salvage(
    connection: &Connection,
    aside: &Path,
    witness: &VerifierKey,
    logs: &[LogId],
) -> Result<String, SpoolError> {
    let mut found = BTreeSet::new();
    for path in [aside.to_owned(), with_suffix(aside, COMPANIONS[0])] {
        carve(&path, witness, &mut found)
            .map_err(|error| SpoolError::File { path: path.clone(), reason: error.to_string() })?;
    }
    let transaction = connection.unchecked_transaction()?;
    let tags = remembered_tags(aside);
    for row in &tags {
        rows::remember(&transaction, &row.image, &TagState { again: true, ..row.state }, row.error.as_deref())?;
    }
    let entries = found.len();
    for (_, note) in found {
        if let Some(statement) = own_statement(note.as_bytes(), witness) {
            rows::enqueue(&transaction, &statement)?;
        }
    }
    transaction.commit()?;
    Ok(format!(
        "the spool was damaged: {entries} signed entries were found in it and go to {} logs again, and {} tags are \
         looked at and reported again; anything else in it is lost",
        logs.len(),
        tags.len()
    ))
}

/// The rows of the damaged table up to where it cannot be read.
fn remembered_tags(aside: &Path) -> Vec<rows::TagRow> {
    let read = schema::open_read_only(aside).and_then(|connection| rows::readable_tags(&connection));
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
        found.insert((observed(&statement), note.to_owned()));
    }
}

/// Where a note with one signature line ends: at the second newline after the empty line.
fn end_of_note(bytes: &[u8]) -> Option<usize> {
    let empty_line = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let signature = bytes[empty_line..].iter().position(|byte| *byte == b'\n')?;
    Some(empty_line + signature + 1)
}

fn own_statement(bytes: &[u8], witness: &VerifierKey) -> Option<Statement> {
    match Entry::parse(bytes) {
        Ok(Entry::Observation(entry)) if entry.verify(witness).is_ok() => Some(Statement::Observation(entry)),
        Ok(Entry::Confirmation(entry)) if entry.verify(witness).is_ok() => Some(Statement::Confirmation(entry)),
        _ => None,
    }
}

fn observed(statement: &Statement) -> Timestamp {
    match statement {
        Statement::Observation(entry) => entry.observed,
        Statement::Confirmation(entry) => entry.observed,
    }
}
