//! JUnit XML, for the test report of a CI: a test suite for each file, a test case for each image in it.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::item::{Item, Level, clean};
use crate::commands::context::Failure;
use taglog_image_sources::Place;

/// The test suite of images on the command line.
const COMMAND_LINE: &str = "command line";

/// # Errors
/// Never in practice: a document in memory can always be written.
pub fn render(items: &[Item]) -> Result<String, Failure> {
    let mut report = Report::new("taglog");
    for file in files(items) {
        let mut suite = TestSuite::new(file.map_or(COMMAND_LINE.to_owned(), clean));
        for item in items {
            let mut here = item.places.iter().map(Some).filter(|place| place.map(|place| place.file.as_str()) == file);
            let nowhere = (file.is_none() && item.places.is_empty()).then_some(None);
            suite.add_test_cases(here.by_ref().chain(nowhere).map(|place| case(item, place)));
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(Failure::failed)
}

/// Every file once, in order; `None` is the command line.
fn files(items: &[Item]) -> Vec<Option<&str>> {
    let mut files = Vec::new();
    for item in items {
        let nowhere = item.places.is_empty().then_some(None);
        for file in item.places.iter().map(|place| Some(place.file.as_str())).chain(nowhere) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

fn case(item: &Item, place: Option<&Place>) -> TestCase {
    let what = if item.image.is_empty() { item.rule.to_owned() } else { clean(&item.image) };
    let name = place.map_or(what.clone(), |place| format!("{what} (line {})", place.line));
    let mut case = TestCase::new(name, status(item));
    case.set_classname(place.map_or(COMMAND_LINE.to_owned(), |place| clean(&place.file)));
    if let Some(place) = place {
        case.extra.insert("file".into(), clean(&place.file).into());
        case.extra.insert("line".into(), place.line.to_string().into());
    }
    case.add_property(Property::new("verdict", item.rule));
    if matches!(item.level, Level::Pass | Level::Warning) {
        case.set_system_out(item.text());
    }
    case
}

/// JUnit has no warnings: an image with a warning is a success, with the warning as output.
fn status(item: &Item) -> TestCaseStatus {
    let mut status = match item.level {
        Level::Pass | Level::Warning => return TestCaseStatus::success(),
        Level::Ignored | Level::Excluded => TestCaseStatus::skipped(),
        Level::Failure => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Level::Problem => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_type(item.rule).set_message(item.headline()).set_description(item.text());
    status
}
