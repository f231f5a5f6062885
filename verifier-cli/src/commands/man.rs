//! `taglog man`: the manual, one page a command.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use serde_json::json;

use super::context::{Failure, Format, Global, Report};
use taglog_base::text::path_line;

/// Write the manual as man pages, one for each command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog man /usr/local/share/man/man1
  taglog man . && man ./taglog-verify.1")]
pub struct ManArgs {
    /// Where to; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes every page, and names them.
pub fn run(global: &Global, args: &ManArgs, command: Command) -> Result<Report, Failure> {
    let directory = &args.directory;
    let fault = |error: io::Error| Failure::usage(format!("{}: {error}", path_line(directory)));
    std::fs::create_dir_all(directory).map_err(fault)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    write_pages(&command, directory, &mut pages).map_err(fault)?;
    Ok(Report::done(match global.output {
        Format::Text => format!("{} man pages in {}\n", pages.len(), path_line(directory)),
        Format::Json => format!("{}\n", json!({ "directory": directory, "pages": pages })),
    }))
}

/// The page of a command, then those of the commands under it.
fn write_pages(command: &Command, directory: &Path, pages: &mut Vec<String>) -> io::Result<()> {
    let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
    std::fs::write(directory.join(&name), page(command)?)?;
    pages.push(name);
    let mut visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    visible.try_for_each(|sub| write_pages(sub, directory, pages))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(format!("taglog {}", env!("CARGO_PKG_VERSION"))).manual("taglog");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        sections(&text.to_string()).to_writer(&mut page)?;
    }
    page.flush()?;
    Ok(page)
}

/// What stands after the options in a help text: a line that ends in a colon heads a section, the others are kept line
/// by line.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
            }
            _ => {
                roff.text([roman(line)]);
            }
        }
    }
    roff
}
