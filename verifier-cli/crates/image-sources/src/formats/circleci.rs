//! CircleCI: the `docker` images of jobs and executors (circleci.com/docs/reference/configuration-reference). Machine
//! images are virtual machines. What an orb runs is the orb's, as with the actions of other systems.

use super::{guess::has_variable, literal};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

/// A version 2 configuration with jobs, executors or workflows.
pub fn is(document: &Node) -> bool {
    let version = document.get("version").and_then(Node::text);
    let named = |key: &str| document.get(key).is_some_and(Node::is_mapping);
    matches!(version, Some("2" | "2.0" | "2.1"))
        && document.get("services").is_none()
        && (named("jobs") || named("executors") || named("workflows"))
}

/// Finds the images of jobs and executors, also of orbs that are written in the file.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for holder in std::iter::once(document).chain(document.get("orbs").into_iter().flat_map(Node::values)) {
        let runners =
            ["jobs", "executors"].into_iter().flat_map(|key| holder.get(key).into_iter().flat_map(Node::values));
        for container in runners.flat_map(|runner| runner.get("docker").into_iter().flat_map(Node::items)) {
            read_container(container, scan)?;
        }
    }
    Ok(())
}

fn read_container(container: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let Some(image) = container.get("image") else { return Ok(()) };
    if image.text().is_some_and(has_variable) {
        let reason = "a parameter that CircleCI replaces: give the result, as with 'circleci config process \
                      .circleci/config.yml | taglog … -f -'";
        scan.leave_out(image.line, reason);
        return Ok(());
    }
    literal(image, "CircleCI", scan)
}
