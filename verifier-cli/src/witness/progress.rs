//! How far the first look at every tag has come, for a person who watches it happen.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Counts first looks, and shows them where there is a terminal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    tags: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Progress {
    /// Shows nothing.
    pub fn hidden() -> Progress {
        Progress::with(ProgressBar::hidden())
    }

    /// Shows a bar on standard error, if that is a terminal.
    pub fn shown() -> Progress {
        let bar = ProgressBar::new(0);
        // A template of our own that does not parse is found by the test below.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.with_key("rate", rate));
        }
        Progress::with(bar)
    }

    fn with(bar: ProgressBar) -> Progress {
        Progress { bar, tags: Arc::default() }
    }

    /// So many tags of a registry are watched.
    pub fn set_tags(&self, registry: &str, count: usize) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.insert(registry.to_owned(), count);
        self.bar.set_length(tags.values().sum::<usize>() as u64);
        // Far fewer tags than a float can count.
        metrics::gauge!("taglog_witness_tags", "registry" => registry.to_owned()).set(count as f64);
    }

    /// A tag was looked at for the first time.
    pub fn looked(&self) {
        self.bar.inc(1);
        if Some(self.bar.position()) >= self.bar.length() {
            self.bar.finish_and_clear();
        }
    }

    /// Lets something be written to the terminal that the bar is on.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

const TEMPLATE: &str = "first look {bar:30} {pos}/{len} tags, {rate}, {eta} left";

/// Tags a second, without the fractions that nobody needs.
fn rate(state: &ProgressState, to: &mut dyn Write) {
    // Writing to the bar's text cannot fail.
    let _ = write!(to, "{:.0}/s", state.per_sec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
