//! The number of images by outcome.

use std::fmt;

use serde::Serialize;

use super::item::{Item, Level};

/// The number of images by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Images that pass, with or without a warning.
    pub passed: usize,
    /// Images of `passed` with a warning.
    pub warnings: usize,
    /// Images that would fail, and that policy ignores for now.
    pub ignored: usize,
    /// Images that do not pass.
    pub failed: usize,
    /// Images without a verdict.
    pub problems: usize,
    /// What is deliberately not checked; no image of the others.
    pub excluded: usize,
}

impl Totals {
    pub fn of(items: &[Item]) -> Totals {
        let mut totals = Totals::default();
        for item in items {
            match item.level {
                Level::Pass => totals.passed += 1,
                Level::Warning => (totals.passed, totals.warnings) = (totals.passed + 1, totals.warnings + 1),
                Level::Ignored => totals.ignored += 1,
                Level::Excluded => totals.excluded += 1,
                Level::Failure => totals.failed += 1,
                Level::Problem => totals.problems += 1,
            }
        }
        totals
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { passed, warnings, ignored, failed, problems, excluded } = *self;
        let all = passed + ignored + failed + problems;
        write!(f, "{all} {}: {passed} {}", if all == 1 { "image" } else { "images" }, verb(passed, "pass"))?;
        if warnings > 0 {
            write!(f, " ({warnings} with a warning)")?;
        }
        for (count, word) in [(ignored, "ignored"), (problems, "without a verdict")] {
            if count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        if failed > 0 {
            write!(f, ", {failed} {}", verb(failed, "fail"))?;
        }
        if excluded > 0 {
            write!(f, "; {excluded} excluded")?;
        }
        Ok(())
    }
}

fn verb(count: usize, verb: &str) -> String {
    if count == 1 && verb.ends_with("ss") {
        format!("{verb}es")
    } else if count == 1 {
        format!("{verb}s")
    } else {
        verb.to_owned()
    }
}
