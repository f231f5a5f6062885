//! What is found in one file while it is read.

use std::{collections::HashSet, ops::Range};

use taglog_proto::name::{NameError, Reference};

use super::{
    model::{Excluded, FoundImage, LeftOut, Place, ScanResult, SourceError, SourceProblem, SyntaxError},
    variables::Unresolved,
    yaml::Node,
};
use taglog_base::text::one_line;

/// How far before a text of several lines its line may begin, in bytes.
const MAX_KEY: usize = 1000;

/// One file, and what was found in it so far.
pub struct FileScan<'t> {
    file: String,
    text: &'t str,
    /// Where the text begins in the file.
    offset: usize,
    found: ScanResult,
}

/// Where and how the name of an image is written.
pub struct WrittenName<'a> {
    /// From 1 on.
    pub line: usize,
    /// The name, variables and all.
    pub text: &'a str,
    /// The bytes of the text that hold it, with quotes, properties and comments around it.
    pub within: Range<usize>,
    /// What stands before the name in the same value and is not part of it.
    pub prefix: &'a str,
}

impl<'t> FileScan<'t> {
    /// Nothing found yet in a text that begins at `offset` in its file.
    pub fn new(file: String, text: &'t str, offset: usize) -> FileScan<'t> {
        FileScan { file, text, offset, found: ScanResult::default() }
    }

    /// Everything found, by line; what aliases, merge keys and references share is one thing in one place.
    pub fn finish(mut self) -> ScanResult {
        self.found.images.sort_by_key(|image| image.place.line);
        self.found.left_out.sort_by_key(|left_out| left_out.place.line);
        let mut seen = HashSet::new();
        self.found.images.retain(|image| seen.insert(identity(image)));
        let mut noted = HashSet::new();
        self.found.left_out.retain(|note| noted.insert((note.place.line, note.reason.clone())));
        self.found.excluded.sort_by_key(|excluded| excluded.place.line);
        let mut excluded = HashSet::new();
        self.found.excluded.retain(|note| excluded.insert((note.place.line, note.what.clone(), note.reason.clone())));
        self.found
    }

    /// Adds the image that is `written`; leaves it out if that is not the name of one.
    ///
    /// # Errors
    /// [`SourceProblem::Template`] if it holds a template.
    pub fn image(
        &mut self,
        written: &WrittenName<'_>,
        resolved: Result<String, Unresolved>,
    ) -> Result<(), SourceError> {
        self.image_or_reason(written, resolved.map_err(|unresolved| unresolved.to_string()))
    }

    /// As [`FileScan::image`]; a name that could not be resolved comes with the reason.
    ///
    /// # Errors
    /// As [`FileScan::image`].
    pub fn image_or_reason(
        &mut self,
        written: &WrittenName<'_>,
        resolved: Result<String, String>,
    ) -> Result<(), SourceError> {
        if written.text.contains("{{") && !written.text.contains("${{") {
            return Err(self.error(written.line, SourceProblem::Template));
        }
        self.image_of_parameters(written, resolved);
        Ok(())
    }

    /// Adds an image whose name, parameters and all, is `written`; leaves it out, with the reason, if it is not resolved or
    /// is not the name of one.
    pub fn image_of_parameters(&mut self, written: &WrittenName<'_>, resolved: Result<String, String>) {
        match resolved.and_then(|name| self.found_image(written, &name)) {
            Ok(image) => self.found.images.push(image),
            Err(reason) => self.leave_out(written.line, &reason),
        }
    }

    fn found_image(&self, written: &WrittenName<'_>, name: &str) -> Result<FoundImage, String> {
        if name.is_empty() {
            return Err("the name of the image is empty".to_owned());
        }
        if is_image_id(name) {
            return Err("an image by its ID, which only one machine knows: name it by repository and tag".to_owned());
        }
        if let Some((scheme, rest)) = name.split_once("://") {
            return Err(format!("{scheme}:// does not belong to the name of an image here: write {rest:?}"));
        }
        let reference = Reference::parse(name).map_err(|error| invalid_name(written.text, &error))?;
        let span = self.literal(written, name).map(|span| self.offset + span.start..self.offset + span.end);
        Ok(FoundImage { place: self.place(written.line), written: written.text.to_owned(), reference, span })
    }

    /// Where the name stands as it is meant, byte for byte.
    fn literal(&self, written: &WrittenName<'_>, name: &str) -> Option<Range<usize>> {
        let value = without_properties(self.text.get(written.within.clone())?);
        let in_value = literal_in(value, &format!("{}{name}", written.prefix))?;
        let start = written.within.end - value.len() + in_value + written.prefix.len();
        Some(start..start + name.len())
    }

    /// Adds the image that a YAML value names. A null names none.
    ///
    /// # Errors
    /// As [`FileScan::image`].
    pub fn yaml_image(&mut self, node: &Node) -> Result<(), SourceError> {
        match node.text() {
            Some(text) => {
                let written = WrittenName { line: node.line, text, within: node.span(), prefix: "" };
                self.image(&written, Ok(text.to_owned()))?;
            }
            None if node.is_null() => {}
            None => self.leave_out(node.line, "the name of the image is not a text"),
        }
        Ok(())
    }

    /// How much was found so far: images, notes, and what is not checked.
    pub fn count(&self) -> usize {
        self.found.images.len() + self.found.left_out.len() + self.found.excluded.len()
    }

    /// The path of the file as it was given; `-` for standard input.
    pub fn path(&self) -> &str {
        &self.file
    }

    /// What stands in the file for a YAML scalar, without the anchor, the tag and the comments before it.
    pub fn scalar_source(&self, node: &Node) -> &str {
        self.text.get(node.span()).map(without_properties).unwrap_or_default()
    }

    /// The line from which on the file has the lines of this text, apart from their indentation; `None` if that is not
    /// where the value stands, as with a text that is folded or has escapes.
    pub fn first_line_of(&self, node: &Node, text: &str) -> Option<usize> {
        let before = self.text.as_bytes().get(..node.span().start)?;
        let indent = before.iter().rev().take(MAX_KEY).position(|byte| *byte == b'\n')?;
        let lines = self.text.get(before.len() - indent..)?;
        // The value begins in the line of its indicator (`|`) or in the one after, whichever the parser says.
        let matches = |skipped: &usize| {
            let lines = lines.lines().skip(*skipped).map(str::trim);
            text.lines().map(str::trim).zip(lines.chain(std::iter::repeat("\n"))).all(|(text, line)| text == line)
        };
        (0..3).find(matches).map(|skipped| node.line + skipped)
    }

    /// Starts an empty scan of the same file for a text that is only a part of it or derived from it.
    pub fn part<'p>(&self, text: &'p str) -> FileScan<'p> {
        FileScan::new(self.file.clone(), text, 0)
    }

    /// Adds what was found in such a part, each at the line that `line_of` gives for its line in the part. None of it
    /// can be edited in place: its spans are positions in the part.
    pub fn add_part(&mut self, part: ScanResult, line_of: impl Fn(usize) -> usize) {
        let moved = |place: Place| Place { line: line_of(place.line), ..place };
        let image = |image: FoundImage| FoundImage { place: moved(image.place), span: None, ..image };
        self.found.images.extend(part.images.into_iter().map(image));
        self.found.left_out.extend(part.left_out.into_iter().map(|note| LeftOut { place: moved(note.place), ..note }));
        self.found.excluded.extend(part.excluded.into_iter().map(|note| Excluded { place: moved(note.place), ..note }));
    }

    /// Notes what is left out.
    pub fn leave_out(&mut self, line: usize, reason: &str) {
        let place = self.place(line);
        self.found.left_out.push(LeftOut { place, reason: one_line(reason) });
    }

    /// Records an image that is not checked, for a reason that the file gives.
    pub fn exclude(&mut self, line: usize, written: &str, reason: &str) {
        let place = self.place(line);
        self.found.excluded.push(Excluded { place, what: one_line(written), reason: one_line(reason) });
    }

    /// An error at a line of this file.
    pub fn error(&self, line: usize, problem: SourceProblem) -> SourceError {
        SourceError { place: self.place(line), problem }
    }

    /// The error for a broken syntax.
    pub fn broken(&self, broken: SyntaxError) -> SourceError {
        self.error(broken.line, SourceProblem::SyntaxError(one_line(&broken.reason)))
    }

    fn place(&self, line: usize) -> Place {
        Place { file: self.file.clone(), line }
    }
}

/// Why a text is not the name of an image, with the text as it stands in the file where the error shows another.
fn invalid_name(written: &str, error: &NameError) -> String {
    let reason = error.to_string();
    let shown = reason.split('"').nth(1).unwrap_or_default();
    if written.contains(shown) { reason } else { format!("{reason} (written as {written:?})") }
}

/// Where an image stands in its file, and what it means there.
fn identity(image: &FoundImage) -> (usize, Option<usize>, String) {
    let start = image.span.as_ref().map(|span| span.start);
    (image.place.line, start, format!("{:?}", image.reference))
}

/// A YAML value without the anchor, the tag and the comments before it.
fn without_properties(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let length = match text.chars().next() {
            Some('&' | '!') => text.find(char::is_whitespace),
            Some('#') => text.find('\n'),
            _ => return text,
        };
        text = &text[length.unwrap_or(text.len())..];
    }
}

/// Where a literal begins in a value that is nothing else: alone, quoted, or as a block. What follows a closing quote may
/// be a comment.
fn literal_in(value: &str, literal: &str) -> Option<usize> {
    match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].strip_prefix(literal)?.starts_with(quote).then_some(1),
        '|' | '>' => {
            let before = value.trim_end().strip_suffix(literal)?;
            before.ends_with(char::is_whitespace).then_some(before.len())
        }
        _ => (value.trim_end() == literal).then_some(0),
    }
}

/// `sha256:` and 64 hex digits, or the digits alone: what a container engine calls an image in its own store.
fn is_image_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
