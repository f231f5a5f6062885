//! Where files name images, what of it cannot be determined, and what is deliberately not checked.

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

/// Something that would name an image, if it could be determined which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub place: Place,
    /// Why it is left out; one line of safe text.
    pub reason: String,
}

/// Something in a file that is deliberately not checked. It is listed in every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Where it is.
    pub place: Place,
    /// What stands there: the name of an image as it is written, or the reason why none could be read. One line of
    /// safe text.
    pub what: String,
    /// Why it is not checked; one line of safe text.
    pub reason: String,
}
