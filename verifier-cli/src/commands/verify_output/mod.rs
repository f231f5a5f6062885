//! Renders a verification: a table, JSON, and the formats of CI systems (verifier-cli/docs/OUTPUTS.md).
//!
//! ```text
//! Verification ─┬─ table, json                     everything
//!               └─ items ── sarif, junit, github   one item for each image, at its places
//! ```
//!
//! Invariant: no text in file names, images and reasons breaks a format.

mod github;
mod item;
mod items;
mod json;
mod junit;
pub mod rules;
mod sarif;
mod source_root;
mod table;
#[cfg(test)]
mod tests;
mod totals;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, ValueEnum as _};
pub use item::{Item, Level};
pub use json::excluded_json;
use source_root::SourceRoot;
use taglog_base::text::{for_terminal, path_line};
use taglog_proto::time::Timestamp;
use totals::Totals;

use super::{
    context::{Failure, Report, ReportFormat, exit, exit_code, wants_styles},
    session::now,
};
use taglog_verify::Verification;

/// Options for the output.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// The format on standard output.
    pub format: ReportFormat,
    /// Whether to print only digests, and only if all images pass.
    pub print_digest: bool,
    pub reports: ReportArgs,
}

/// Options for reports.
#[derive(Clone, Debug, Default, Args)]
pub struct ReportArgs {
    /// Print only what does not pass; nothing if all passes
    #[arg(short, long, conflicts_with = "print_digest")]
    quiet: bool,
    /// Write a report to a file too: text, json, sarif, junit or github; may be repeated
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    files: Vec<FileReport>,
}

/// A report to a file, as in `junit=report.xml`.
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
            .map_err(|_| format!("unknown format {format}: want text, json, sarif, junit or github"))?;
        if path.is_empty() {
            Err("the file has no name".to_owned())
        } else {
            Ok(FileReport { format, path: path.into() })
        }
    }
}

struct RenderOptions {
    format: ReportFormat,
    quiet: bool,
    colour: bool,
    now: Timestamp,
}

/// The output and exit code of the command. Reports to files are written.
///
/// # Errors
/// [`Failure`] names the file that cannot be written.
pub fn report(options: &OutputOptions, verification: &Verification) -> Result<Report, Failure> {
    let (items, now) = (items::items(verification), now());
    for FileReport { format, path } in &options.reports.files {
        let mut text =
            render(verification, &items, &RenderOptions { format: *format, quiet: false, colour: false, now })?;
        if matches!(format, ReportFormat::Text | ReportFormat::Github) {
            text = for_terminal(&text, false);
        }
        write(path, &text).map_err(|error| Failure::usage(format!("{}: {error}", path_line(path))))?;
    }
    let exit = exit_code(verification.conclusion());
    if options.print_digest {
        // An image that policy ignores and its registry does not have passes, but there is no digest to print.
        let exit = if exit == exit::OK && !verification.unresolved.is_empty() { exit::FAILED } else { exit };
        let output = if exit == exit::OK { digests(verification) } else { String::new() };
        return Ok(Report { output, notes: failure_lines(&items), exit });
    }
    let text = RenderOptions {
        format: options.format,
        quiet: options.reports.quiet,
        colour: wants_styles(&io::stdout()),
        now,
    };
    let output = render(verification, &items, &text)?;
    Ok(Report { output, notes: notes(options.format, verification, &items), exit })
}

/// Renders items in a format for CI systems; `None` for text and JSON, which each command renders itself. `exit` is the
/// exit code of the command. Paths are relative to the repository.
///
/// # Errors
/// Never in practice: a document in memory can always be written.
pub fn render_items(format: ReportFormat, items: &[Item], exit: u8, quiet: bool) -> Result<Option<String>, Failure> {
    let root = SourceRoot::find();
    let items: Vec<Item> =
        items.iter().map(|item| root.as_ref().map_or_else(|| item.clone(), |root| root.relative(item))).collect();
    render_relative(format, &items, exit, quiet)
}

fn render_relative(format: ReportFormat, items: &[Item], exit: u8, quiet: bool) -> Result<Option<String>, Failure> {
    let totals = Totals::of(items);
    Ok(match format {
        ReportFormat::Text | ReportFormat::Json => None,
        ReportFormat::Sarif => Some(sarif::render(items, &totals, exit)),
        ReportFormat::Junit => Some(junit::render(items)?),
        ReportFormat::Github => Some(github::render(items, &totals, quiet)),
    })
}

fn render(verification: &Verification, items: &[Item], options: &RenderOptions) -> Result<String, Failure> {
    let of_items = render_items(options.format, items, exit_code(verification.conclusion()), options.quiet)?;
    Ok(of_items.unwrap_or_else(|| match options.format {
        ReportFormat::Json => json::render(verification, items, options.now),
        _ => table::render(verification, items, options),
    }))
}

fn digests(verification: &Verification) -> String {
    let results = verification.results.iter();
    results.filter_map(|a| Some(format!("{}@{}\n", a.query.image.repository, a.digest()?))).collect()
}

/// One line for each item because of which no digests are printed.
fn failure_lines(items: &[Item]) -> Vec<String> {
    let fails = |item: &&Item| matches!(item.level, Level::Failure | Level::Problem) || item.rule == "unanswered";
    items.iter().filter(fails).map(|item| format!("{}: {}", item.rule, item.headline_with_places())).collect()
}

/// The lines for standard error: alarms always, and problems if standard output is for programs. The table and the
/// GitHub annotations contain problems already.
fn notes(format: ReportFormat, verification: &Verification, items: &[Item]) -> Vec<String> {
    let mut notes: Vec<String> = verification.misbehaviour.iter().map(|alarm| item::clean(alarm)).collect();
    if matches!(format, ReportFormat::Json | ReportFormat::Sarif | ReportFormat::Junit) {
        let problems = items.iter().filter(|item| item.level == Level::Problem);
        notes.extend(problems.map(Item::headline_with_places));
    }
    notes
}

/// Replaces the file atomically, unless it is not a regular file (a pipe, a device).
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
    }
    // A symbolic link is kept.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Readable by everyone, subject to the umask: a report is not secret.
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
