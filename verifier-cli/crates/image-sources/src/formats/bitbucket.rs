//! Bitbucket Pipelines: every `image`, of the file, of a step and of a service, and pipes that are images
//! (support.atlassian.com, "Bitbucket Pipelines configuration reference", "Docker image options", "Use pipes").

use super::literal;
use crate::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

const WHO: &str = "Bitbucket";
/// What marks an image where a pipe is named; any other pipe is a repository.
const DOCKER: &str = "docker://";

/// Pipelines by what starts them.
pub fn is(document: &Node) -> bool {
    let starts = ["default", "branches", "pull-requests", "tags", "custom"];
    document.get("pipelines").is_some_and(|pipelines| starts.iter().any(|start| pipelines.get(start).is_some()))
}

/// Finds the images at every depth.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for (key, child) in document.children() {
        match key {
            Some("image") if child.is_mapping() => match child.get("name") {
                Some(name) => literal(name, WHO, scan)?,
                None => scan.leave_out(child.line, "an image without 'name': only Bitbucket knows which it is"),
            },
            Some("image") => literal(child, WHO, scan)?,
            Some("pipe") => read_pipe(child, scan)?,
            Some("variables") => {}
            _ => read(child, scan)?,
        }
    }
    Ok(())
}

fn read_pipe(pipe: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let Some(name) = pipe.text().and_then(|text| text.strip_prefix(DOCKER)) else { return Ok(()) };
    let written = WrittenName { line: pipe.line, text: name, within: pipe.span(), prefix: DOCKER };
    scan.image(&written, Ok(name.to_owned()))
}
