//! The progress of long operations as a bar on standard error, where that is a terminal.

use std::{fmt::Write, io::IsTerminal as _, sync::Arc};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use taglog_base::progress::{Progress, SharedProgress, Silent};

const ENTRIES: &str = "{prefix} {bar:30} {human_pos}/{human_len} entries, {per_sec}, {eta} left";
const IMAGES: &str = "{prefix} {bar:30} {pos}/{len} images";
const FIRST_LOOKS: &str = "{prefix} {bar:30} {pos}/{len} tags, {rate}, {eta} left";
/// Fewer images than this are done before a bar can be read.
const SHOWN_FROM: usize = 5;

/// A progress bar. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Counts log entries; `doing` says what is done with them.
    pub fn entries(doing: &'static str) -> Bar {
        Bar::new(ENTRIES, doing)
    }

    /// Counts tags that a witness agent looks at for the first time.
    pub fn first_looks() -> Bar {
        Bar::new(FIRST_LOOKS, "first look")
    }

    /// Counts images whose registry has answered; shows nothing where there are only a few.
    pub fn images(count: usize) -> SharedProgress {
        if count < SHOWN_FROM { Silent::shared() } else { Bar::new(IMAGES, "asking registries").shared() }
    }

    fn new(template: &str, prefix: &'static str) -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(prefix);
        // The test below checks that every template parses.
        Bar(match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style.with_key("rate", rate)),
            Err(_) => bar,
        })
    }

    /// For a library to report to.
    pub fn shared(&self) -> SharedProgress {
        Arc::new(self.clone())
    }

    /// Runs `write`, which writes to the terminal that the bar is on.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Progress for Bar {
    fn start(&self, done: u64, total: u64) {
        self.0.reset();
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.reset_eta();
    }

    fn set_total(&self, total: u64) {
        self.0.set_length(total);
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Steps per second, without a fraction.
fn rate(state: &ProgressState, to: &mut dyn Write) {
    // Writing to the bar's text cannot fail.
    let _ = write!(to, "{:.0}/s", state.per_sec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for template in [ENTRIES, IMAGES, FIRST_LOOKS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
