//! Workflows and actions of GitHub, Gitea and Forgejo: the `container`, the `services` and the steps of each job, with
//! the values of its matrix, and actions that are images themselves (docs.github.com, "Workflow syntax", "Metadata syntax").
//!
//! Actions and reusable workflows in other repositories are code: what images they use stands there, and not in this file.
//! A note for each of them would be one for nearly every workflow. Inputs of theirs that name images are read where it is
//! known which do ([`inputs`]).

mod expression;
mod inputs;
mod matrix;
#[cfg(test)]
mod tests;

use std::{cell::OnceCell, collections::BTreeSet};

use self::{
    expression::{evaluate, evaluate_whole},
    matrix::{Budget, Combinations, combinations},
};
use super::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// What marks an image where an action is named; runners take it off the images of containers too (actions/runner,
/// src/Runner.Worker, which does not look at its case).
const DOCKER: &str = "docker://";

/// Whether a document says of itself that it is a workflow.
pub fn is_workflow(document: &Node) -> bool {
    let jobs = document.get("jobs").is_some_and(Node::is_mapping);
    jobs && document.get("on").is_some()
}

/// Whether a document says of itself that it describes an action.
pub fn is_action(document: &Node) -> bool {
    document.at(&["runs", "using"]).is_some_and(|using| using.text().is_some())
}

/// Finds the images of each job of a workflow.
///
/// # Errors
/// An image with a template in it.
pub fn read_workflow(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let budget = Budget::default();
    let jobs = document.get("jobs").into_iter().flat_map(Node::values);
    jobs.into_iter().try_for_each(|job| Job::new(job, &budget).read(scan))
}

/// Finds the images that an action runs.
///
/// # Errors
/// As [`read_workflow`].
pub fn read_action(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let Some(runs) = document.get("runs") else { return Ok(()) };
    if let Some(image) = runs.get("image") {
        read_action_image(image, scan)?;
    }
    // The steps of a composite action run in a job of the workflow, whose matrix they see and this file does not have.
    let unknown = OnceCell::from(Err(expression::UNKNOWN.to_owned()));
    Job { job: runs, budget: &Budget::default(), combinations: unknown }.read_steps(scan)
}

/// A job, or what a composite action runs.
struct Job<'a> {
    job: &'a Node,
    budget: &'a Budget,
    /// Worked out when the first expression needs them.
    combinations: OnceCell<Combinations<'a>>,
}

impl<'a> Job<'a> {
    fn new(job: &'a Node, budget: &'a Budget) -> Job<'a> {
        Job { job, budget, combinations: OnceCell::new() }
    }

    fn read(&self, scan: &mut FileScan) -> Result<(), SourceError> {
        self.read_labels(scan)?;
        if let Some(container) = self.job.get("container") {
            self.read_container(container, scan)?;
        }
        if let Some(services) = self.job.get("services") {
            if services.text().is_some_and(|text| !text.is_empty()) || services.is_sequence() {
                scan.leave_out(
                    services.line,
                    "services as an expression: only a run of the workflow knows their images",
                );
            }
            services.values().try_for_each(|service| self.read_container(service, scan))?;
        }
        self.read_steps(scan)
    }

    /// Gitea and Forgejo know runners by labels such as `NAME:docker://IMAGE`.
    fn read_labels(&self, scan: &mut FileScan) -> Result<(), SourceError> {
        let Some(runs_on) = self.job.get("runs-on") else { return Ok(()) };
        let labels = if runs_on.is_mapping() { runs_on.get("labels").unwrap_or(runs_on) } else { runs_on };
        for label in [labels].into_iter().chain(labels.items()) {
            if let Some((_, image)) = label.text().and_then(|text| text.split_once(DOCKER)) {
                // With a digest in its label no runner would be found.
                let written = WrittenName { line: label.line, text: image, within: 0..0, prefix: "" };
                self.read_name(&written, scan)?;
            }
        }
        Ok(())
    }

    /// The name alone, or a mapping with it. An empty name is how a matrix says "no container".
    fn read_container(&self, container: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
        let image = if container.is_mapping() { container.get("image") } else { Some(container) };
        let Some(image) = image.filter(|image| !image.is_null()) else { return Ok(()) };
        match image.text() {
            None => scan.leave_out(image.line, "the name of the image is not a text"),
            Some("") => {}
            Some(text) => {
                let (prefix, name) = split_prefix(text);
                self.read_name(&WrittenName { line: image.line, text: name, within: image.span(), prefix }, scan)?;
            }
        }
        Ok(())
    }

    /// A name, with each value that the expressions in it have in the jobs of the matrix.
    fn read_name(&self, written: &WrittenName<'_>, scan: &mut FileScan) -> Result<(), SourceError> {
        if !written.text.contains("${{") {
            return scan.image_or_reason(written, Ok(written.text.to_owned()));
        }
        let results = self.results(written.text, scan);
        // Without a name there is no container.
        let named = results.into_iter().filter(|result| !matches!(result, Ok(name) if name.is_empty()));
        named.into_iter().try_for_each(|result| scan.image_or_reason(written, result))
    }

    fn results(&self, text: &str, scan: &FileScan) -> BTreeSet<Result<String, String>> {
        let all = || self.combinations.get_or_init(|| combinations(self.job)).as_ref().map_err(Clone::clone);
        match self.budget.take(1).and_then(|()| all()).and_then(|all| self.budget.take(all.len()).map(|()| all)) {
            Err(reason) => BTreeSet::from([Err(reason)]),
            Ok(all) => {
                let name = |combination| match evaluate_whole(text, combination, scan) {
                    Some(image) => image,
                    None => evaluate(text, combination, scan),
                };
                all.iter().map(|combination| name(combination).map(|name| split_prefix(&name).1.to_owned())).collect()
            }
        }
    }

    fn read_steps(&self, scan: &mut FileScan) -> Result<(), SourceError> {
        for step in self.job.get("steps").into_iter().flat_map(Node::items) {
            let Some(action) = step.get("uses") else { continue };
            read_action_image(action, scan)?;
            for input in inputs::images(action.text().unwrap_or_default(), step, scan) {
                self.read_name(&input.written(), scan)?;
            }
        }
        Ok(())
    }
}

/// An action is an image only with `docker://` before it: all else is a repository, a directory or a Dockerfile.
/// Expressions are not allowed there.
fn read_action_image(action: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let Some((prefix, text)) = action.text().map(split_prefix).filter(|(prefix, _)| !prefix.is_empty()) else {
        return Ok(());
    };
    let name = if text.contains("${{") { Err(expression::UNKNOWN.to_owned()) } else { Ok(text.to_owned()) };
    scan.image_or_reason(&WrittenName { line: action.line, text, within: action.span(), prefix }, name)
}

/// `docker://`, if a name begins with it, and the rest.
fn split_prefix(text: &str) -> (&str, &str) {
    let prefixed = text.get(..DOCKER.len()).is_some_and(|start| start.eq_ignore_ascii_case(DOCKER));
    text.split_at(if prefixed { DOCKER.len() } else { 0 })
}
