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
