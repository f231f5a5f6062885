//! The text format: a line for each image, the history of a failing tag below it, and the totals.

use anstyle::{AnsiColor, Style};

use super::{
    RenderOptions,
    item::{Item, Level, clean},
    totals::Totals,
};
use crate::commands::output;
use taglog_base::digest::short;
use taglog_verify::Verification;

/// The width of the first column: that of the longest verdict.
const VERDICT_WIDTH: usize = 10;
/// Wider images and places are not aligned with the others.
const MAX_WIDTH: usize = 60;

pub fn render(verification: &Verification, items: &[Item], options: &RenderOptions) -> String {
    let matters = |item: &&Item| !options.quiet || matches!(item.level, Level::Failure | Level::Problem);
    let shown: Vec<&Item> = items.iter().filter(matters).collect();
    let widths = Widths::of(&shown);
    let mut text: String = shown.iter().map(|item| block(item, &widths, options.colour)).collect();
    if options.quiet {
        return text;
    }
    text += &format!("{}\n", Totals::of(items));
    let logs = verification.lookups.iter().filter_map(|lookup| lookup.oldest());
    text + &logs.map(|part| output::log_lines(part, options.now)).collect::<String>()
}

/// The widths of the columns; a column without cells has width 0. The image and its digest come first, so that they fit
/// into 80 columns.
struct Widths {
    image: usize,
    digest: usize,
    place: usize,
}

impl Widths {
    fn of(items: &[&Item]) -> Widths {
        let widest = |cell: fn(&Item) -> String| {
            let widths = items.iter().map(|item| cell(item).chars().count());
            widths.filter(|width| *width <= MAX_WIDTH).max().unwrap_or(0)
        };
        Widths { image: widest(image), digest: widest(digest), place: widest(place) }
    }
}

fn image(item: &Item) -> String {
    if item.image.is_empty() { "-".to_owned() } else { clean(&item.image) }
}

/// The shortened digest that passes; empty for an image that does not pass.
fn digest(item: &Item) -> String {
    item.digest.as_ref().map(short).unwrap_or_default()
}

/// The first place, and the number of others.
fn place(item: &Item) -> String {
    let first = item.places.first().map(|place| clean(&format!("{}:{}", place.file, place.line))).unwrap_or_default();
    if item.places.len() > 1 { format!("{first} +{}", item.places.len() - 1) } else { first }
}

fn block(item: &Item, widths: &Widths, colour: bool) -> String {
    let painted = |style: Style, text: String| if colour { format!("{style}{text}{style:#}") } else { text };
    let verdict = painted(style(item.level), format!("{:<VERDICT_WIDTH$}", item.rule));
    let column =
        |cell: String, width: usize| if cell.len().max(width) == 0 { cell } else { format!("  {cell:<width$}") };
    let image = column(image(item), widths.image);
    let (digest, place) = (column(digest(item), widths.digest), column(place(item), widths.place));
    let mut text = format!("{verdict}{image}{digest}{place}  {}\n", clean(&item.message));
    for line in details(item) {
        text += &painted(Style::new().dimmed(), format!("{:VERDICT_WIDTH$}  {}", "", clean(&line)));
        text.push('\n');
    }
    text
}

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
        Level::Warning | Level::Ignored | Level::Excluded => AnsiColor::Yellow,
        Level::Failure | Level::Problem => AnsiColor::Red,
    };
    colour.on_default().bold()
}
