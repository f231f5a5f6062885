//! Woodpecker and Drone pipelines: the images of steps, services and the clone step (woodpecker-ci.org/docs, "Workflow
//! syntax" and "Matrix workflows"; docs.drone.io, "Pipeline / Docker"; their first format had `pipeline` for `steps`).

use super::{each_below, guess::has_variable, substitute};
use crate::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// Where a pipeline has what runs.
const RUNNING: [&str; 4] = ["clone", "steps", "pipeline", "services"];

/// A document with a kind of Drone's, and no version of an interface, which Kubernetes' have.
pub fn is_drone(document: &Node) -> bool {
    let kind = document.get("kind").and_then(Node::text);
    document.get("apiVersion").is_none() && matches!(kind, Some("pipeline" | "template")) && has_image(document)
}

/// Steps that have an image each, which run commands or a plugin.
pub fn is_woodpecker(document: &Node) -> bool {
    let mut steps = each_below(document, "steps").chain(each_below(document, "pipeline"));
    let runs = |step: &Node| {
        step.get("image").is_some() && ["commands", "settings", "when"].iter().any(|key| step.get(key).is_some())
    };
    document.get("apiVersion").is_none() && document.get("jobs").is_none() && steps.any(runs)
}

fn has_image(document: &Node) -> bool {
    document.get("load").is_some()
        || RUNNING.iter().any(|key| each_below(document, key).any(|step| step.get("image").is_some()))
}

/// Finds the images of one document.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if let Some(template) = document.get("load").filter(|_| document.get("kind").is_some()) {
        scan.leave_out(template.line, "the steps come from a template that only Drone has");
    }
    let images = RUNNING.iter().flat_map(|key| each_below(document, key)).filter_map(|step| step.get("image"));
    images.into_iter().try_for_each(|image| read_image(image, document.get("matrix"), scan))
}

/// An image whose variable the matrix gives values is each of them.
fn read_image(image: &Node, matrix: Option<&Node>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let Some(text) = image.text().filter(|text| has_variable(text)) else {
        return scan.yaml_image(image);
    };
    let names = matrix_names(text, matrix);
    if names.is_empty() {
        let reason = format!("{text:?} has a variable that only a run of the pipeline can replace");
        scan.leave_out(image.line, &reason);
    }
    for name in names {
        let written = WrittenName { line: image.line, text, within: image.span(), prefix: "" };
        scan.image(&written, Ok(name))?;
    }
    Ok(())
}

/// The names that result from the values of the only variable.
fn matrix_names(text: &str, matrix: Option<&Node>) -> Vec<String> {
    let Some(matrix) = matrix else { return Vec::new() };
    let mut names = Vec::new();
    let included: Vec<&Node> = each_below(matrix, "include").collect();
    for (variable, axis) in matrix.entries().chain(included.iter().flat_map(|combination| combination.entries())) {
        for value in axis.items().chain(std::iter::once(axis)).filter_map(Node::text) {
            names.extend(substitute(text, &|name| (name == variable).then(|| value.to_owned())));
        }
    }
    names
}
