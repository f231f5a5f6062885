//! How a verification is shown: a table for people, JSON, and what CI systems read (verifier-cli/docs/OUTPUTS.md).
//!
//! ```text
//! Verification ─┬─ table, json                  everything that is known
//!               └─ items ── sarif, junit, github   one thing said of one image, at its places
//! ```
//!
//! Invariant: whatever stands in file names, images and reasons, no format loses its shape by it.

mod github;
mod item;
mod items;
mod json;
mod junit;
pub mod rules;
mod sarif;
mod table;
#[cfg(test)]
mod tests;
mod totals;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, ValueEnum as _};
pub use item::{Item, Level};
use taglog_proto::time::Timestamp;
use totals::Totals;

use super::{
    context::{Failure, Report, ReportFormat, exit, exit_code},
    session::now,
};
use taglog_verify::Verification;

/// How the answers are wanted.
#[derive(Clone, Debug)]
pub struct Manner {
    /// In which format, on standard output.
    pub format: ReportFormat,
    /// Only digests, and only if all pass.
    pub print_digest: bool,
    /// How much, and where else.
    pub reports: ReportArgs,
}

/// How much to report, and where.
#[derive(Clone, Debug, Default, Args)]
pub struct ReportArgs {
    /// Print only what does not pass; nothing if all passes
    #[arg(short, long, conflicts_with = "print_digest")]
    quiet: bool,
    /// Write a report to a file too: text, json, sarif, junit or github; may be repeated
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    files: Vec<FileReport>,
}

/// A report that goes to a file, as in `junit=report.xml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    format: ReportFormat,
    path: PathBuf,
}

impl FromStr for FileReport {
    type Err = String;

    fn from_str(text: &str) -> Result<FileReport, String> {
        let (format, path) = text.split_once('=').ok_or("want FORMAT=FILE, as in junit=report.xml")?;
        let format = ReportFormat::from_str(format, false)
            .map_err(|_| format!("{format} is no format: want text, json, sarif, junit or github"))?;
        if path.is_empty() {
            Err("the file has no name".to_owned())
        } else {
            Ok(FileReport { format, path: path.into() })
        }
    }
}

/// How one text is made.
struct Rendering {
    format: ReportFormat,
    quiet: bool,
    colour: bool,
    now: Timestamp,
}

/// What the command prints, and its exit code; further reports are written to their files.
///
/// # Errors
/// [`Failure`] names the file that cannot be written.
pub fn report(manner: &Manner, verification: &Verification) -> Result<Report, Failure> {
    let (items, now) = (items::items(verification), now());
    for FileReport { format, path } in &manner.reports.files {
        let text = render(verification, &items, &Rendering { format: *format, quiet: false, colour: false, now })?;
        write(path, &text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    }
    let exit = exit_code(verification.conclusion());
    if manner.print_digest {
        let output = if exit == exit::OK { digests(verification) } else { String::new() };
        return Ok(Report { output, notes: obstacles(&items), exit });
    }
    let rendering = Rendering { format: manner.format, quiet: manner.reports.quiet, colour: wants_colour(), now };
    let output = render(verification, &items, &rendering)?;
    Ok(Report { output, notes: notes(manner.format, verification, &items), exit })
}

/// Renders what is said of images in a format for CI systems; `None` for text and JSON, which each command has its own
/// of. `exit` is how the command ends.
///
/// # Errors
/// Never in practice: a document in memory can always be written.
pub fn render_items(format: ReportFormat, items: &[Item], exit: u8, quiet: bool) -> Result<Option<String>, Failure> {
    let totals = Totals::of(items);
    Ok(match format {
        ReportFormat::Text | ReportFormat::Json => None,
        ReportFormat::Sarif => Some(sarif::render(items, &totals, exit)),
        ReportFormat::Junit => Some(junit::render(items)?),
        ReportFormat::Github => Some(github::render(items, &totals, quiet)),
    })
}

fn render(verification: &Verification, items: &[Item], rendering: &Rendering) -> Result<String, Failure> {
    let of_items = render_items(rendering.format, items, exit_code(verification.conclusion()), rendering.quiet)?;
    Ok(of_items.unwrap_or_else(|| match rendering.format {
        ReportFormat::Json => json::render(verification, items, rendering.now),
        _ => table::render(verification, items, rendering),
    }))
}

/// Colour on a terminal only, and as NO_COLOR, CLICOLOR and TERM have it.
fn wants_colour() -> bool {
    let stdout = io::stdout();
    stdout.is_terminal() && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
}

fn digests(verification: &Verification) -> String {
    let answers = verification.answers.iter();
    answers.filter_map(|a| Some(format!("{}@{}\n", a.question.image.repository, a.digest()?))).collect()
}

/// What keeps digests from being printed, a line each.
fn obstacles(items: &[Item]) -> Vec<String> {
    let stands_in_the_way = |item: &&Item| matches!(item.level, Level::Failure | Level::Problem);
    items
        .iter()
        .filter(stands_in_the_way)
        .map(|item| format!("{}: {}", item.rule, item.headline_with_places()))
        .collect()
}

/// For standard error: an alarm always, and what could not be told where standard output is read by programs. The table
/// and the annotations for people have it already.
fn notes(format: ReportFormat, verification: &Verification, items: &[Item]) -> Vec<String> {
    let mut notes: Vec<String> = verification.misbehaviour.iter().map(|alarm| item::clean(alarm)).collect();
    if matches!(format, ReportFormat::Json | ReportFormat::Sarif | ReportFormat::Junit) {
        let problems = items.iter().filter(|item| item.level == Level::Problem);
        notes.extend(problems.map(Item::headline_with_places));
    }
    notes
}

/// Whole or not at all, unless the target is no ordinary file (a pipe, a device).
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
    }
    // A link keeps pointing to its file.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// A report is no secret: who else may read it is for the umask to say.
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
