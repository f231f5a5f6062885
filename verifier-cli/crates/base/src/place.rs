//! Where files name images, and what of it cannot be told.

use std::fmt;

use crate::text::one_line;

/// Where in the files something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, or as the walk found it; `-` is standard input.
    pub file: String,
    /// The line, from 1 on; 1 for what concerns the whole file.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", one_line(&self.file), self.line)
    }
}

/// Something that would name an image, if only it could be told which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub place: Place,
    /// Why it is left out; one line of safe text.
    pub reason: String,
}
