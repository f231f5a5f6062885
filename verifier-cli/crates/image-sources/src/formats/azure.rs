//! Azure Pipelines: container resources, the `container` and the `services` of jobs (learn.microsoft.com, "Azure Pipelines
//! YAML schema": resources.containers.container, jobs.job.container, "Service containers").

use std::collections::BTreeSet;

use super::{guess, literal};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

const WHO: &str = "Azure Pipelines";
const CONTAINERS: &str = "only Azure Pipelines can replace the expression that stands for containers here";
/// Keys whose values are the author's own, or a task's: a `container` there is something else.
const NOT_SEARCHED: [&str; 6] = ["resources", "variables", "inputs", "env", "steps", "parameters"];

/// Jobs, stages or steps as only Azure writes them, or container resources.
pub fn is(document: &Node) -> bool {
    let any = |key: &str, marks: &[&str]| {
        document.get(key).is_some_and(|list| list.items().any(|item| marks.iter().any(|mark| item.get(mark).is_some())))
    };
    document.get("apiVersion").is_none()
        && (any("stages", &["stage", "template"])
            || any("jobs", &["job", "deployment", "template"])
            || any("steps", &["task", "bash", "pwsh", "powershell", "checkout"])
            || document.at(&["resources", "containers"]).is_some_and(Node::is_sequence))
}

/// Finds the images of a pipeline or a template.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let containers = document.at(&["resources", "containers"]);
    if let Some(list) = containers.filter(|list| !list.is_sequence() && !list.is_null()) {
        scan.leave_out(list.line, CONTAINERS);
    }
    let resources: Vec<&Node> = containers.into_iter().flat_map(Node::items).collect();
    for resource in &resources {
        match resource.get("image") {
            Some(image) => literal(image, WHO, scan)?,
            None => scan
                .leave_out(resource.line, "a container resource without 'image': only Azure Pipelines knows its image"),
        }
    }
    let aliases: BTreeSet<&str> =
        resources.iter().filter_map(|resource| resource.get("container")).filter_map(Node::text).collect();
    read_below(document, &aliases, scan)
}

fn read_below(node: &Node, aliases: &BTreeSet<&str>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for (key, child) in node.children() {
        match key {
            Some("container") => read_container(child, aliases, scan)?,
            Some("services") if child.is_mapping() => {
                child.values().try_for_each(|service| read_container(service, aliases, scan))?;
            }
            Some("services") if !child.is_null() => scan.leave_out(child.line, CONTAINERS),
            // What is given to a template can be an image.
            Some("parameters") => drop(guess::note(child, "the parameters of a template", scan)),
            Some(key) if NOT_SEARCHED.contains(&key) => {}
            _ => read_below(child, aliases, scan)?,
        }
    }
    Ok(())
}

/// The alias of a resource, the name of an image, or a mapping with it.
fn read_container(container: &Node, aliases: &BTreeSet<&str>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if container.is_mapping() {
        return read_container_mapping(container, aliases, scan);
    }
    match container.text() {
        Some(text) if aliases.contains(text) || text.is_empty() => Ok(()),
        Some(text) if aliases.is_empty() && !text.contains([':', '/', '@', '$']) => {
            let reason = format!(
                "{text:?} is the name of an image, or of a container resource of the pipeline that uses this file"
            );
            scan.leave_out(container.line, &reason);
            Ok(())
        }
        _ => literal(container, WHO, scan),
    }
}

fn read_container_mapping(
    container: &Node,
    aliases: &BTreeSet<&str>,
    scan: &mut FileScan<'_>,
) -> Result<(), SourceError> {
    let before = scan.count();
    for (_, conditional) in container.entries().filter(|(key, _)| key.contains("${{")) {
        scan.leave_out(conditional.line, CONTAINERS);
    }
    if let Some(image) = container.get("image") {
        return literal(image, WHO, scan);
    }
    let is_known = container.get("alias").and_then(Node::text).is_some_and(|alias| aliases.contains(alias));
    if !is_known && scan.count() == before {
        scan.leave_out(container.line, "a container without an image in this file: only Azure Pipelines knows it");
    }
    Ok(())
}
