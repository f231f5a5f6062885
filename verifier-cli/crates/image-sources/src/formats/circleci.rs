//! CircleCI: the `docker` images of jobs and executors (circleci.com/docs/reference/configuration-reference). Machine
//! images are virtual machines. What an orb runs is the orb's, as with the actions of other systems.

use super::{guess::has_variable, literal};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

const PARAMETER: &str = "a parameter that CircleCI replaces: give the result, as with 'circleci config process \
                         .circleci/config.yml | taglog … -f -'";

/// A version 2 configuration with jobs, executors or workflows.
pub fn is(document: &Node) -> bool {
    let version = document.get("version").and_then(Node::text);
    let named = |key: &str| document.get(key).is_some_and(Node::is_mapping);
    matches!(version, Some("2" | "2.0" | "2.1"))
        && document.get("services").is_none()
        && (named("jobs") || named("executors") || named("workflows"))
}

/// Finds the images of jobs and executors, also of orbs that are written in the file, at any depth.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for runner in ["jobs", "executors"].iter().filter_map(|key| document.get(key)).flat_map(Node::values) {
        if let Some(docker) = runner.get("docker") {
            read_docker(docker, scan)?;
        }
    }
    document.get("orbs").into_iter().flat_map(Node::values).try_for_each(|orb| read(orb, scan))
}

fn read_docker(docker: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if !docker.is_sequence() && !docker.is_null() {
        scan.leave_out(docker.line, PARAMETER);
    }
    docker.items().try_for_each(|container| read_container(container, scan))
}

fn read_container(container: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    match container.get("image") {
        Some(image) if !image.text().is_some_and(has_variable) => literal(image, "CircleCI", scan),
        image => {
            scan.leave_out(image.unwrap_or(container).line, PARAMETER);
            Ok(())
        }
    }
}
