//! GitHub Actions: the `container`, the `services` and the `docker://` steps of a workflow, and actions that are
//! images themselves (docs.github.com, "Workflow syntax" and "Metadata syntax").

use super::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// What marks an image where an action is named.
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
/// None that a workflow can cause; the type is what all kinds of files share.
pub fn read_workflow(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let jobs = document.get("jobs").into_iter().flat_map(Node::values);
    jobs.into_iter().try_for_each(|job| read_job(job, scan))
}

/// Finds the images that an action runs.
///
/// # Errors
/// As [`read_workflow`].
pub fn read_action(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let Some(runs) = document.get("runs") else { return Ok(()) };
    if let Some(image) = runs.get("image") {
        read_step_image(image, scan)?;
    }
    read_steps(runs, scan)
}

fn read_job(job: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    if let Some(container) = job.get("container") {
        read_image(container, scan)?;
    }
    for service in job.get("services").into_iter().flat_map(Node::values) {
        read_image(service, scan)?;
    }
    read_steps(job, scan)
}

fn read_steps(job: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let uses = job.get("steps").into_iter().flat_map(Node::items).filter_map(|step| step.get("uses"));
    uses.into_iter().try_for_each(|action| read_step_image(action, scan))
}

/// An action is an image only with `docker://` before it: all else is a repository or a directory.
fn read_step_image(action: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    match action.text().and_then(|text| text.strip_prefix(DOCKER)) {
        Some(image) => read_text(action, DOCKER, image, scan),
        None => Ok(()),
    }
}

/// The name alone, or a mapping with it. An empty name is how a matrix says "no container".
fn read_image(container: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let image = if container.is_mapping() { container.get("image") } else { Some(container) };
    match image.map(|node| (node, node.text())) {
        Some((_, Some(""))) | None => Ok(()),
        Some((node, Some(text))) => read_text(node, "", text, scan),
        Some((node, None)) => scan.yaml_image(node, |text| Ok(text.to_owned())),
    }
}

fn read_text(node: &Node, prefix: &'static str, text: &str, scan: &mut FileScan) -> Result<(), SourceError> {
    if text.contains("${{") {
        scan.leave_out(node.line, "an expression (${{ … }}) that only a run of the workflow can evaluate");
        return Ok(());
    }
    let written = WrittenName { line: node.line, text, within: node.span(), prefix };
    scan.image(&written, Ok(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use crate::tests::summary;

    #[test]
    fn jobs_services_and_steps() {
        let text = "\
name: build
on: [push]
jobs:
  test:
    runs-on: ubuntu-latest
    container: node:22
    services:
      db:
        image: postgres:16
      none: {image: ''}
    steps:
      - uses: actions/checkout@v4
      - uses: docker://alpine:3.20
      - run: echo image
  lint:
    container:
      image: registry.example/lint@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79
      credentials: {username: u, password: p}
    steps:
      - uses: ./local
  matrix:
    container: ${{ matrix.image }}
    steps:
      - uses: docker://app:${{ github.sha }}
  reused:
    uses: ./.github/workflows/other.yml
";
        let (images, notes) = summary(".github/workflows/ci.yml", text);
        assert_eq!(
            images,
            [
                "6 docker.io/library/node:22",
                "9 docker.io/library/postgres:16",
                "13 docker.io/library/alpine:3.20",
                "17 registry.example/lint@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79",
            ]
        );
        let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
        assert_eq!(lines, ["22", "24"], "{notes:?}");
    }

    #[test]
    fn actions_that_are_images() {
        let docker = "name: x\nruns:\n  using: docker\n  image: docker://alpine:3\n";
        assert_eq!(summary("action.yml", docker).0, ["4 docker.io/library/alpine:3"]);
        let built = "name: x\nruns: {using: docker, image: Dockerfile}\n";
        assert_eq!(summary("action.yml", built).0, [""; 0]);
        let composite = "runs:\n  using: composite\n  steps:\n    - uses: docker://a:1\n    - uses: b/c@v1\n";
        assert_eq!(summary("action.yaml", composite).0, ["4 docker.io/library/a:1"]);
    }
}
