//! What every format but text and JSON shows: one thing that is said of one image, at the places that name it.

use taglog_proto::name::Digest;

use super::rules;
use taglog_image_sources::{LeftOut, Place};

/// How much an item matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Pass,
    /// It passes, and somebody should look.
    Warning,
    /// It would fail, and policy ignores that for a while.
    Ignored,
    /// It does not pass.
    Failure,
    /// It could not be told.
    Problem,
}

/// One thing that is said of one image.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name of a row in [`rules`]: a verdict, or what went wrong.
    pub rule: &'static str,
    /// How much it matters.
    pub level: Level,
    /// The image as it was asked about; empty when it cannot be told.
    pub image: String,
    /// The digest that passes.
    pub digest: Option<Digest>,
    /// Where files name it; empty for what the command line names.
    pub places: Vec<Place>,
    /// One sentence.
    pub message: String,
    /// Further lines: notes, and what the tag has been.
    pub details: Vec<String>,
}

impl Item {
    /// What a file names in a way that cannot be told.
    pub fn left_out(left_out: &LeftOut) -> Item {
        Item {
            rule: "left-out",
            level: Level::Problem,
            image: String::new(),
            digest: None,
            places: vec![left_out.place.clone()],
            message: left_out.reason.clone(),
            details: Vec::new(),
        }
    }

    /// The message with what it is about in front, on one line.
    pub fn headline(&self) -> String {
        let message = clean(&self.message);
        if self.image.is_empty() { message } else { format!("{}: {message}", clean(&self.image)) }
    }

    /// The headline, and where it stands.
    pub fn headline_with_places(&self) -> String {
        let places: Vec<String> =
            self.places.iter().map(|place| clean(&format!("{}:{}", place.file, place.line))).collect();
        let headline = self.headline();
        if places.is_empty() { headline } else { format!("{headline} ({})", places.join(", ")) }
    }

    /// The headline and the details, a line each.
    pub fn text(&self) -> String {
        let details = self.details.iter().map(|line| clean(line));
        [self.headline()].into_iter().chain(details).collect::<Vec<_>>().join("\n")
    }

    /// What tells this item from the others of this and of earlier runs, whatever line it stands on by now.
    pub fn fingerprint(&self, place: Option<&Place>) -> String {
        let file = place.map_or("", |place| &place.file);
        let identity = format!("{}\n{}\n{file}", rules::id(self.rule), self.image);
        // The hexadecimal part of the digest alone.
        Digest::sha256(identity.as_bytes()).to_string().split_off("sha256:".len())
    }
}

/// Text on one line without what steers a terminal, reorders a line (bidirectional controls), or is no character of XML
/// 1.0: each such character becomes a `?`, a line end a space.
pub fn clean(text: &str) -> String {
    let clean = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => '?',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '?',
        c => c,
    };
    text.trim().chars().map(clean).collect()
}
