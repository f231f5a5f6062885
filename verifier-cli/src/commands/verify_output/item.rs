//! An item of a report: one statement about one image, at the places that name it.

use taglog_proto::name::Digest;

use super::rules;
use taglog_base::text::whole_line;
use taglog_image_sources::{Excluded, LeftOut, Place};

/// The level of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The image passes.
    Pass,
    /// The image passes with a warning.
    Warning,
    /// The image would fail, and policy ignores that for now.
    Ignored,
    /// It is deliberately not checked, and no image in the totals.
    Excluded,
    /// The image does not pass.
    Failure,
    /// No verdict could be reached.
    Problem,
}

/// One statement about one image.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name of a row in [`rules`]: a verdict, or what went wrong.
    pub rule: &'static str,
    pub level: Level,
    /// The image as requested; empty if it is not known.
    pub image: String,
    /// The digest that passes.
    pub digest: Option<Digest>,
    /// Where files name the image; empty for the command line.
    pub places: Vec<Place>,
    pub message: String,
    /// Further lines: notes, history, and what to do.
    pub details: Vec<String>,
}

impl Item {
    /// An item for a reference in a file that cannot be resolved to an image.
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

    /// An item for what is deliberately not checked in a file.
    pub fn excluded(excluded: &Excluded) -> Item {
        Item {
            rule: "excluded",
            level: Level::Excluded,
            image: excluded.what.clone(),
            digest: None,
            places: vec![excluded.place.clone()],
            message: excluded.reason.clone(),
            details: Vec::new(),
        }
    }

    /// The image and the message, on one line.
    pub fn headline(&self) -> String {
        let message = clean(&self.message);
        if self.image.is_empty() { message } else { format!("{}: {message}", clean(&self.image)) }
    }

    /// The headline with all places.
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

    /// Identifies this item across runs, independent of the line in the file.
    pub fn fingerprint(&self, place: Option<&Place>) -> String {
        let file = place.map_or("", |place| &place.file);
        let identity = format!("{}\n{}\n{file}", rules::id(self.rule), self.image);
        // Only the hexadecimal part of the digest.
        Digest::sha256(identity.as_bytes()).to_string().split_off("sha256:".len())
    }
}

/// The text on one line, safe to show and valid in XML 1.0; line ends become spaces.
pub fn clean(text: &str) -> String {
    whole_line(&text.trim().replace(['\n', '\t'], " "))
}
