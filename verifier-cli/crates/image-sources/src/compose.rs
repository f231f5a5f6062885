//! Compose files: the `image` of each service.

use super::{
    model::SourceError,
    scan::FileScan,
    variables::{Syntax, expand},
    yaml::Node,
};

/// Whether a document says of itself that it is a Compose file.
pub fn is_compose(document: &Node) -> bool {
    document.get("services").is_some_and(Node::is_mapping)
}

/// How the whole of several files is had.
const WHOLE: &str = "which is not read: give the whole, as with 'docker compose config | taglog … -f -'";

/// Finds the images of the services. What other files say is not read, but noted.
///
/// # Errors
/// An image with a template in it.
pub fn read(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    if let Some(include) = document.get("include").filter(|include| !include.is_null()) {
        scan.leave_out(include.line, &format!("more services come from what is included, {WHOLE}"));
    }
    document.get("services").into_iter().flat_map(Node::values).try_for_each(|service| read_service(service, scan))
}

fn read_service(service: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let written = |key: &str| service.get(key).filter(|node| !node.is_null());
    if let Some(inline) = service.at(&["build", "dockerfile_inline"]) {
        scan.leave_out(inline.line, "a Dockerfile within a Compose file is not read: give it a file of its own");
    }
    if let Some(image) = written("image") {
        return scan.yaml_image(image, |text| expand(text, Syntax::Compose, &|_| None));
    }
    let extended = service.at(&["extends", "file"]).filter(|_| written("build").is_none());
    if let Some(file) = extended {
        scan.leave_out(file.line, &format!("the image comes from the file that is extended, {WHOLE}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{
        SourceProblem,
        tests::{refusal, summary},
    };

    #[test]
    fn images_of_services() {
        let text = "\
services:
  web:
    image: nginx:1.27
    build: .
  app:
    build: {context: .}
  db:
    image: \"registry.example:5000/team/db:${TAG:-v2}\"
  cache:
    image: ${CACHE-redis}
  money:
    image: a$$b
  none:
    image:
x-image: {image: ignored}
";
        let (images, notes) = summary("compose.yaml", text);
        assert_eq!(
            images,
            ["3 docker.io/library/nginx:1.27", "8 registry.example:5000/team/db:v2", "10 docker.io/library/redis"]
        );
        assert!(notes.len() == 1 && notes[0].starts_with("12 repository path \"library/a$b\""), "{notes:?}");
    }

    #[test]
    fn what_is_written_is_kept() {
        let found = crate::tests::read_text("compose.yaml", "services: {a: {image: 'b:${C:-d}'}}").unwrap();
        assert_eq!(found.images[0].written, "b:${C:-d}");
        assert_eq!(found.images[0].place.to_string(), "compose.yaml:1");
    }

    #[test]
    fn anchors_merges_and_aliases() {
        let text = "\
x-base: &base
  image: busybox:1.36
services:
  a: {<<: *base, command: x}
  b:
    <<: *base
    image: busybox:1.37
  c: *base
";
        let (images, _) = summary("compose.yml", text);
        assert_eq!(images, ["2 docker.io/library/busybox:1.36", "7 docker.io/library/busybox:1.37"]);
    }

    #[test]
    fn what_cannot_be_told_is_noted() {
        let text = "\
include:
  - other.yaml
services:
  a:
    image: a:${TAG}
  b:
    image: [x]
  c:
    extends: {file: base.yaml, service: c}
  d:
    build:
      dockerfile_inline: |
        FROM x
  e:
    extends: {service: a}
  f:
    image: ''
";
        let (images, notes) = summary("compose.yaml", text);
        assert_eq!(images, [""; 0]);
        let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
        assert_eq!(lines, ["2", "5", "7", "9", "13", "17"], "{notes:?}");
        assert!(notes[1].contains("variable TAG has no default"), "{notes:?}");
    }

    #[test]
    fn templates_are_refused() {
        assert_eq!(refusal("compose.yaml", "services:\n  a:\n    image: '{{ x }}:1'\n"), (3, SourceProblem::Template));
        assert_eq!(
            refusal("compose.yaml", "services:\n{% for s in all %}\n  {{ s }}:\n"),
            (3, SourceProblem::Template)
        );
    }
}
