//! GitLab CI: the `image` and the `services` of the defaults and of each job (docs.gitlab.com, "CI/CD YAML
//! syntax reference").

use super::{
    model::SourceError,
    scan::FileScan,
    variables::{Syntax, expand},
    yaml::Node,
};

/// How far variables are followed that stand for other variables.
const MAX_DEPTH: usize = 8;
/// How far `!reference` is followed; GitLab allows as much.
const MAX_REFERENCES: usize = 10;
/// Keys of the whole pipeline that are no jobs.
const NO_JOBS: [&str; 8] = ["image", "services", "variables", "include", "stages", "workflow", "cache", "spec"];
/// What only a job has.
const JOB_KEYS: [&str; 4] = ["script", "stage", "trigger", "extends"];

/// Whether a document says of itself that it is a pipeline.
pub fn is_pipeline(document: &Node) -> bool {
    let listed = document.get("stages").is_some_and(|stages| stages.items().next().is_some());
    let is_job =
        |job: &Node| job.get("script").is_some() || (listed && JOB_KEYS.iter().any(|key| job.get(key).is_some()));
    document.is_mapping() && document.values().any(is_job)
}

/// Finds the images of the pipeline, of its defaults and of its jobs, templates (`.name`) included. What `!reference`
/// takes from elsewhere in the file has the place where it is written.
///
/// # Errors
/// An image with a template in it.
pub fn read(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    if let Some(include) = document.get("include").filter(|include| !include.is_null()) {
        // Jobs, defaults and variables of one file are changed by the others: read alone, each would give wrong names.
        scan.leave_out(
            include.line,
            "included files change what this one means: give the merged pipeline, as with 'glab ci config compile | \
             taglog … -f -'",
        );
    }
    let pipeline = Pipeline { document, global: document.get("variables") };
    pipeline.read_images(document, None, scan)?;
    for (_, job) in document.entries().filter(|(key, job)| !NO_JOBS.contains(key) && job.is_mapping()) {
        pipeline.read_images(job, job.get("variables"), scan)?;
    }
    Ok(())
}

/// The whole file.
#[derive(Clone, Copy)]
struct Pipeline<'a> {
    document: &'a Node,
    global: Option<&'a Node>,
}

impl<'a> Pipeline<'a> {
    fn read_images(
        self,
        holder: &'a Node,
        variables: Option<&'a Node>,
        scan: &mut FileScan,
    ) -> Result<(), SourceError> {
        let scopes = Scopes { global: self.global, job: variables };
        if let Some(image) = holder.get("image").and_then(|image| self.referred(image, scan)) {
            self.read_image(image, &scopes, scan)?;
        }
        let Some(services) = holder.get("services").and_then(|services| self.referred(services, scan)) else {
            return Ok(());
        };
        for service in services.items() {
            match self.referred(service, scan) {
                Some(several) if several.is_sequence() => {
                    several.items().try_for_each(|service| self.read_image(service, &scopes, scan))?;
                }
                Some(service) => self.read_image(service, &scopes, scan)?,
                None => {}
            }
        }
        Ok(())
    }

    /// An image is its name, or a mapping with `name`.
    fn read_image(self, image: &'a Node, scopes: &Scopes<'_>, scan: &mut FileScan) -> Result<(), SourceError> {
        let name = if image.is_mapping() { image.get("name") } else { Some(image) };
        match name.and_then(|name| self.referred(name, scan)) {
            Some(name) => {
                scan.yaml_image(name, |text| expand(text, Syntax::Compose, &|variable| scopes.value_of(variable, 0)))
            }
            None => Ok(()),
        }
    }

    /// What a value stands for: itself, or what `!reference` says. What that does not lead to is left out.
    fn referred(self, value: &'a Node, scan: &mut FileScan) -> Option<&'a Node> {
        let mut referred = value;
        for _ in 0..MAX_REFERENCES {
            if !referred.is_reference() {
                return Some(referred);
            }
            let keys: Option<Vec<&str>> = referred.items().map(Node::text).collect();
            let Some(next) = keys.and_then(|keys| self.document.at(&keys)) else { break };
            referred = next;
        }
        scan.leave_out(
            value.line,
            "a !reference to what is not in this file, so that only GitLab knows which image it is",
        );
        None
    }
}

/// The variables that the file itself gives a value. What a project, a group or a run adds is not in it.
#[derive(Clone, Copy)]
struct Scopes<'a> {
    global: Option<&'a Node>,
    job: Option<&'a Node>,
}

impl Scopes<'_> {
    fn value_of(&self, variable: &str, depth: usize) -> Option<String> {
        let find = |scope: Option<&Node>| scope.and_then(|scope| scope.get(variable)).and_then(written);
        let value = find(self.job).or_else(|| find(self.global)).filter(|_| depth < MAX_DEPTH)?;
        expand(&value, Syntax::Compose, &|inner| self.value_of(inner, depth + 1)).ok()
    }
}

/// A variable is a text, or a mapping with `value`.
fn written(variable: &Node) -> Option<String> {
    let value = if variable.is_mapping() { variable.get("value")? } else { variable };
    value.text().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use crate::tests::summary;

    #[test]
    fn defaults_jobs_and_templates() {
        let text = "\
stages: [build, test]
variables:
  REGISTRY: registry.example:5000
  TAG: {value: \"v2\", description: which}
  APP: $REGISTRY/team/app:$TAG
  image: not:one
default:
  image: ruby:3.3
  services:
    - postgres:16
    - name: redis:7
      alias: cache
.base:
  image: {name: \"$APP\", entrypoint: [\"\"]}
build:
  extends: .base
  script: make
test:
  variables: {TAG: v3}
  image: ${APP}
  script: make test
deploy:
  image: $CI_REGISTRY_IMAGE:latest
  stage: test
  script: make
other:
  image: !reference [.base, image]
  services: [!reference [.elsewhere, services], mongo:7]
  script: make
include:
  - local: more.yml
";
        let (images, notes) = summary(".gitlab-ci.yml", text);
        assert_eq!(
            images,
            [
                "8 docker.io/library/ruby:3.3",
                "10 docker.io/library/postgres:16",
                "11 docker.io/library/redis:7",
                "14 registry.example:5000/team/app:v2",
                "20 registry.example:5000/team/app:v3",
                "28 docker.io/library/mongo:7",
            ]
        );
        let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
        assert_eq!(lines, ["23", "28", "31"], "{notes:?}");
    }

    #[test]
    fn references_lead_to_what_is_written_elsewhere() {
        let text = "\
.images:
  go: golang:1.23
  tool: {name: 'tool:2', entrypoint: ['']}
.db:
  services: [postgres:16]
.more:
  - redis:7
.hop: !reference [.images, go]
services: !reference [.db, services]
a:
  image: !reference [.hop]
  services: !reference [.more]
  script: x
b:
  image: {name: !reference [.images, go]}
  services: [!reference [.db, services], !reference [.images, tool], mongo:7]
  script: x
c:
  image: !reference [.loop]
  script: x
d:
  services: [!reference [.more, 0]]
  script: x
.loop: !reference [.loop]
";
        let (images, notes) = summary("x.yml", text);
        let names = ["2 golang:1.23", "3 tool:2", "5 postgres:16", "7 redis:7", "16 mongo:7"];
        assert_eq!(images, names.map(|name| name.replace(' ', " docker.io/library/")));
        let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
        assert_eq!(lines, ["19", "22"], "{notes:?}");
        assert!(notes[0].contains("!reference"), "{notes:?}");
    }

    #[test]
    fn the_name_of_a_file_makes_it_a_part_of_a_pipeline() {
        let part = ".base:\n  image: a:1\nrelease:\n  trigger: {project: x/y}\n";
        for name in [".gitlab-ci.yml", "ci/release.gitlab-ci.yml", "x.GitLab-CI.yaml"] {
            assert_eq!(summary(name, part), (vec!["2 docker.io/library/a:1".to_owned()], vec![]), "{name}");
        }
        let (images, notes) = summary("x.yml", part);
        assert!(images.is_empty() && notes.len() == 1 && notes[0].contains("not known"), "{notes:?}");
    }

    #[test]
    fn variables_that_go_in_circles_are_unknown() {
        let text = "variables: {A: $B, B: $A}\njob:\n  image: a:$A\n  script: x\n";
        let (images, notes) = summary("x.yml", text);
        assert!(images.is_empty() && notes.len() == 1 && notes[0].starts_with("3 "), "{images:?} {notes:?}");
    }
}
