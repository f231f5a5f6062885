//! What is found in one file while it is read.

use taglog_proto::name::Reference;

use super::{Broken, Found, FoundImage, LeftOut, Place, Problem, SourceError, variables::Unresolved, yaml::Node};
use crate::client::printable;

/// One file, and what was found in it so far.
pub struct Reading {
    file: String,
    found: Found,
}

impl Reading {
    /// Nothing found yet.
    pub fn new(file: String) -> Reading {
        Reading { file, found: Found::default() }
    }

    /// Everything found, by line.
    pub fn finish(mut self) -> Found {
        self.found.images.sort_by_key(|image| image.place.line);
        self.found.left_out.sort_by_key(|left_out| left_out.place.line);
        self.found
    }

    /// Adds the image that `written` at `line` means; leaves it out if that is not the name of one.
    ///
    /// # Errors
    /// [`Problem::Template`] if it holds a template.
    pub fn image(
        &mut self,
        line: usize,
        written: &str,
        resolved: Result<String, Unresolved>,
    ) -> Result<(), SourceError> {
        if written.contains("{{") {
            return Err(self.error(line, Problem::Template));
        }
        let parsed = match resolved {
            Err(unresolved) => Err(unresolved.to_string()),
            Ok(name) if name.is_empty() => Err("the name of the image is empty".to_owned()),
            Ok(name) => Reference::parse(&name).map_err(|error| error.to_string()),
        };
        match parsed {
            Ok(reference) => {
                let place = self.place(line);
                self.found.images.push(FoundImage { place, written: written.to_owned(), reference });
            }
            Err(reason) => self.leave_out(line, &reason),
        }
        Ok(())
    }

    /// Adds the image that a YAML value names. A null names none.
    ///
    /// # Errors
    /// As [`Reading::image`].
    pub fn yaml_image(
        &mut self,
        node: &Node,
        resolve: impl Fn(&str) -> Result<String, Unresolved>,
    ) -> Result<(), SourceError> {
        match node.text() {
            Some(text) => self.image(node.line, text, resolve(text))?,
            None if node.is_null() => {}
            None => self.leave_out(node.line, "the name of the image is no text"),
        }
        Ok(())
    }

    /// Notes what is left out.
    pub fn leave_out(&mut self, line: usize, reason: &str) {
        let place = self.place(line);
        self.found.left_out.push(LeftOut { place, reason: printable(reason) });
    }

    /// An error at a line of this file.
    pub fn error(&self, line: usize, problem: Problem) -> SourceError {
        SourceError { place: self.place(line), problem }
    }

    /// The error for a broken syntax.
    pub fn broken(&self, broken: Broken) -> SourceError {
        self.error(broken.line, Problem::Broken(printable(&broken.reason)))
    }

    fn place(&self, line: usize) -> Place {
        Place { file: self.file.clone(), line }
    }
}
