//! Dockerfiles and Containerfiles: the frontend that `# syntax=` names, `FROM`, `COPY --from` and `RUN --mount=from=`.
//!
//! A file is read as BuildKit of several versions and Podman read it ([`dialect`]), and what any of them would use is found.
//! A file is refused if all of them refuse it.

mod build;
mod dialect;
mod directives;
mod heredoc;
mod mount;
mod parser;
mod pattern;
mod platform;
#[cfg(test)]
mod reading_tests;
mod shell;
#[cfg(test)]
mod shell_tests;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashSet};

use self::{
    build::{FoundReference, ReferenceKind},
    parser::Reading,
    text::Text,
};
use crate::{
    model::{SourceError, SourceProblem, SyntaxError},
    scan::{FileScan, WrittenName},
};

/// The build argument that names another frontend than the file does, and its value for the one that BuildKit has built in
/// (docs.docker.com, "BuildKit built-in build args").
const SYNTAX: &str = "BUILDKIT_SYNTAX";
const BUILT_IN: &str = "dockerfile.v0";

/// Finds the images that a Dockerfile builds on or copies from, with these values for its variables.
///
/// # Errors
/// A syntax that is not understood, with its line; a template.
pub fn read(text: &str, build_args: &BTreeMap<String, String>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let lines = Lines::new(text);
    let mut references = FoundReferences::default();
    frontend(text, build_args).into_iter().for_each(|reference| references.add(reference));
    if let Err(error) = references.read(text, &lines, build_args) {
        let template = text.lines().nth(error.line - 1).is_some_and(|line| line.contains("{{"));
        return Err(if template { scan.error(error.line, SourceProblem::Template) } else { scan.broken(error) });
    }
    references.all.into_iter().try_for_each(|reference| report(reference, &lines, scan))
}

/// The image that reads the file, and so decides what the others are.
fn frontend(text: &str, build_args: &BTreeMap<String, String>) -> Option<FoundReference> {
    let asked = build_args.get(SYNTAX).map(|value| value.trim().split(' ').next().unwrap_or_default());
    let (name, within) = match (asked, directives::syntax(text)) {
        (Some(BUILT_IN), _) | (None, None) => return None,
        (Some(name), _) => (name, 0..0),
        (None, Some(within)) => (text.get(within.clone())?, within),
    };
    Some(FoundReference { within, kind: ReferenceKind::Image(name.to_owned(), Ok(name.to_owned())) })
}

fn report(reference: FoundReference, lines: &Lines, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let FoundReference { within, kind } = reference;
    let line = lines.at(within.start);
    match kind {
        ReferenceKind::Image(text, name) => scan.image(&WrittenName { line, text: &text, within, prefix: "" }, name)?,
        ReferenceKind::Excluded(text, reason) => scan.exclude(line, &text, &reason),
        ReferenceKind::LeftOut(reason) => scan.leave_out(line, &reason),
    }
    Ok(())
}

/// What all builders find.
#[derive(Default)]
struct FoundReferences {
    all: Vec<FoundReference>,
    known: HashSet<FoundReference>,
}

impl FoundReferences {
    /// Reads the file as each builder does.
    ///
    /// # Errors
    /// What the newest one says if all refuse the file.
    fn read(&mut self, text: &str, lines: &Lines, build_args: &BTreeMap<String, String>) -> Result<(), SyntaxError> {
        let source = Text::whole(text);
        let (mut readings, mut refusals, mut hidden) = (Vec::<Reading>::new(), Vec::new(), Vec::new());
        for dialect in &dialect::ALL {
            let reading = parser::read(&source, dialect);
            if readings.contains(&reading) {
                continue;
            }
            match (build::found_references(&reading, build_args), &reading.refused) {
                (Ok(references), None) => references.into_iter().for_each(|reference| self.add(reference)),
                (Ok(references), Some(refused)) => {
                    if *dialect == dialect::BEFORE_BLANKS {
                        hidden = references;
                    }
                    refusals.push(SyntaxError { line: refused.line, reason: refused.reason.clone() });
                }
                (Err(refused), _) => {
                    refusals.push(SyntaxError { line: lines.at(refused.place), reason: refused.reason });
                }
            }
            readings.push(reading);
        }
        if refusals.len() == readings.len() {
            return refusals.into_iter().next().map_or(Ok(()), Err);
        }
        hidden.into_iter().for_each(|reference| self.add_hidden(reference));
        Ok(())
    }

    fn add(&mut self, reference: FoundReference) {
        if self.known.insert(reference.clone()) {
            self.all.push(reference);
        }
    }

    /// Adds what only a builder would find that refuses the file later on: it is in a here-document for the others.
    fn add_hidden(&mut self, reference: FoundReference) {
        let ReferenceKind::Image(text, _) = &reference.kind else { return };
        if self.known.contains(&reference) {
            return;
        }
        let reason = "text of a here-document since BuildKit 0.22, which allows a blank after '<<'; earlier versions read \
                      an instruction here, and refuse the file";
        let kind = ReferenceKind::Excluded(text.clone(), reason.to_owned());
        self.add(FoundReference { within: reference.within, kind });
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a place, from 1 on.
    fn at(&self, place: usize) -> usize {
        self.0.partition_point(|newline| *newline < place) + 1
    }
}
