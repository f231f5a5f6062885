//! Workflow commands of GitHub Actions, which annotate the lines of files.

use super::{
    item::{Item, Level},
    totals::Totals,
};
use taglog_base::text::whole_line;
use taglog_image_sources::Place;

/// One command a line, and the totals. `quiet` leaves out warnings.
pub fn render(items: &[Item], totals: &Totals, quiet: bool) -> String {
    let mut text = String::new();
    for item in items {
        let command = match item.level {
            Level::Failure | Level::Problem => "error",
            Level::Warning if !quiet => "warning",
            Level::Ignored | Level::Excluded if !quiet => "notice",
            Level::Pass | Level::Warning | Level::Ignored | Level::Excluded => continue,
        };
        if item.places.is_empty() {
            text += &annotation(command, item, None);
        }
        for place in &item.places {
            text += &annotation(command, item, Some(place));
        }
    }
    if !quiet {
        text += &format!("{totals}\n");
    }
    text
}

fn annotation(command: &str, item: &Item, place: Option<&Place>) -> String {
    let place = place.filter(|place| place.file != "-").map(|place| {
        let file = place.file.strip_prefix("./").unwrap_or(&place.file);
        format!("file={},line={},", property(file), place.line)
    });
    let title = property(&format!("taglog: {}", item.rule));
    format!("::{command} {}title={title}::{}\n", place.unwrap_or_default(), data(&item.text()))
}

/// Escapes the message of a command. [`Item::text`] has removed control characters already.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property, in which colons and commas are special too.
fn property(text: &str) -> String {
    whole_line(&data(text)).replace(':', "%3A").replace(',', "%2C")
}
