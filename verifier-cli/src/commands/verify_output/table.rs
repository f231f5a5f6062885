//! The table for people: a line for each image, what a failing tag has been below it, and the totals.

use anstyle::{AnsiColor, Style};

use super::{
    Rendering,
    item::{Item, Level, clean},
    totals::Totals,
};
use crate::commands::output;
use taglog_base::digest::short;
use taglog_verify::Verification;

/// The width of the first column: that of the longest verdict.
const VERDICT: usize = 10;
/// Wider images and places are not lined up with the others.
const WIDEST: usize = 60;

/// The whole answer as text.
pub fn render(verification: &Verification, items: &[Item], rendering: &Rendering) -> String {
    let matters = |item: &&Item| !rendering.quiet || matches!(item.level, Level::Failure | Level::Problem);
    let shown: Vec<&Item> = items.iter().filter(matters).collect();
    let widths = Widths::of(&shown);
    let mut text: String = shown.iter().map(|item| block(item, &widths, rendering.colour)).collect();
    if rendering.quiet {
        return text;
    }
    text += &format!("{}\n", Totals::of(items));
    let logs = verification.looked.iter().filter_map(|looked| looked.oldest());
    text + &logs.map(|part| output::log_lines(part, rendering.now)).collect::<String>()
}

/// How wide the columns are; one without cells is none. What tells images apart comes first, so that a terminal of 80 columns breaks
/// lines behind it.
struct Widths {
    image: usize,
    digest: usize,
    place: usize,
}

impl Widths {
    fn of(items: &[&Item]) -> Widths {
        let widest = |cell: fn(&Item) -> String| {
            let widths = items.iter().map(|item| cell(item).chars().count());
            widths.filter(|width| *width <= WIDEST).max().unwrap_or(0)
        };
        Widths { image: widest(image), digest: widest(digest), place: widest(place) }
    }
}

fn image(item: &Item) -> String {
    if item.image.is_empty() { "-".to_owned() } else { clean(&item.image) }
}

/// The beginning of what passes; an image that does not pass has none.
fn digest(item: &Item) -> String {
    item.digest.as_ref().map(short).unwrap_or_default()
}

/// The first place, and how many there are besides.
fn place(item: &Item) -> String {
    let first = item.places.first().map(|place| clean(&format!("{}:{}", place.file, place.line))).unwrap_or_default();
    if item.places.len() > 1 { format!("{first} +{}", item.places.len() - 1) } else { first }
}

fn block(item: &Item, widths: &Widths, colour: bool) -> String {
    let painted = |style: Style, text: String| if colour { format!("{style}{text}{style:#}") } else { text };
    let verdict = painted(style(item.level), format!("{:<VERDICT$}", item.rule));
    let column =
        |cell: String, width: usize| if cell.len().max(width) == 0 { cell } else { format!("  {cell:<width$}") };
    let image = column(image(item), widths.image);
    let (digest, place) = (column(digest(item), widths.digest), column(place(item), widths.place));
    let mut text = format!("{verdict}{image}{digest}{place}  {}\n", clean(&item.message));
    for line in details(item) {
        text += &painted(Style::new().dimmed(), format!("{:VERDICT$}  {}", "", clean(&line)));
        text.push('\n');
    }
    text
}

/// What passes without a warning needs no more than its line.
fn details(item: &Item) -> Vec<String> {
    let mut lines = Vec::new();
    if matches!(item.level, Level::Failure | Level::Problem) {
        lines.extend(item.places.iter().skip(1).map(|place| format!("also {}:{}", place.file, place.line)));
    }
    lines.extend(item.details.iter().cloned());
    lines
}

fn style(level: Level) -> Style {
    let colour = match level {
        Level::Pass => AnsiColor::Green,
        Level::Warning | Level::Ignored => AnsiColor::Yellow,
        Level::Failure | Level::Problem => AnsiColor::Red,
    };
    colour.on_default().bold()
}
