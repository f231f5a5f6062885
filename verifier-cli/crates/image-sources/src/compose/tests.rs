use crate::{
    Options, SourceProblem,
    tests::{read_text, read_text_with, refusal, summary},
};

/// The place, the name and the reason of what is deliberately not checked.
fn excluded(text: &str) -> Vec<String> {
    let found = read_text("compose.yaml", text).unwrap();
    found.excluded.iter().map(|one| format!("{} {} {}", one.place.line, one.what, one.reason)).collect()
}

/// The text at the span of each image, or `-` where nothing may be written.
fn spans(text: &str) -> Vec<String> {
    let images = read_text("compose.yaml", text).unwrap().images;
    images.into_iter().map(|image| image.span.map_or("-".to_owned(), |span| text[span].to_owned())).collect()
}

fn library(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.replacen(' ', " docker.io/library/", 1)).collect()
}

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
    assert_eq!(images, ["8 registry.example:5000/team/db:v2", "10 docker.io/library/redis"]);
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
    assert_eq!(images, library(&["13 x"]));
    let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
    assert_eq!(lines, ["2", "5", "7", "9", "17"], "{notes:?}");
    assert!(
        notes.iter().take(4).all(|note| note.contains("docker compose config") || note.starts_with("7 ")),
        "{notes:?}"
    );
    assert!(notes[1].contains("variable TAG has no default"), "{notes:?}");
}

#[test]
fn templates_are_refused() {
    assert_eq!(refusal("compose.yaml", "services:\n  a:\n    image: '{{ x }}:1'\n"), (3, SourceProblem::Template));
    assert_eq!(refusal("compose.yaml", "services:\n{% for s in all %}\n  {{ s }}:\n"), (3, SourceProblem::Template));
}

#[test]
fn what_a_build_names_is_not_checked() {
    let text = "\
services:
  a: {build: ., image: \"${REGISTRY}/a:1\", pull_policy: never}
  b: {build: ., image: b:1}
  c: {image: b:1}
  d: {extends: a, image: d:1}
  e: {build: ., image: e:1, pull_policy: always}
  f: {build: ., image: f:1, pull_policy: \"${POLICY}\"}
  g: {extends: a, image: g:1, build: null}
  h: {image: b:1, pull_policy: always}
";
    let not_checked = excluded(text);
    let starts = ["2 ${REGISTRY}/a:1 this", "3 b:1 this", "4 b:1 service b builds it", "5 d:1 this"];
    assert!(not_checked.len() == 4, "{not_checked:?}");
    assert!(not_checked.iter().zip(starts).all(|(one, start)| one.starts_with(start)), "{not_checked:?}");
    assert!(not_checked[1].contains("pull_policy: build") && not_checked[0].ends_with("it is never pulled"));
    assert_eq!(summary("compose.yaml", text), (library(&["6 e:1", "7 f:1", "8 g:1", "9 b:1"]), vec![]));
    // With a digest behind it the build fails.
    assert_eq!(spans(text), ["-", "-", "g:1", "-"]);
    let options = Options { check_built: true, ..Options::default() };
    let found = read_text_with("compose.yaml", text, &options).unwrap();
    assert_eq!((found.images.len(), found.left_out.len(), found.excluded.len()), (7, 1, 0), "{found:?}");
    assert_eq!(found.images.iter().filter(|image| image.span.is_some()).count(), 1);
}

#[test]
fn additional_contexts_are_images() {
    let text = "\
services:
  a:
    build:
      context: .
      additional_contexts:
        base: docker-image://a:1
        src: ./src
        peer: service:b
        variable: ${BASE:-docker-image://b:2}
        tag: docker-image://c:${TAG:-3}
        unknown: ${CONTEXT}
      sbom: generator=d:4,mode=max
  b:
    build:
      additional_contexts:
        - tools=docker-image://e:5
        - src=./src
        - docker-image://x
        - later=docker-image://f:${TAG}
      args: [BUILDKIT_SYNTAX=g:6 more, OTHER=h:7]
";
    let (images, notes) = summary("compose.yaml", text);
    assert_eq!(images, library(&["6 a:1", "9 b:2", "10 c:3", "12 d:4", "16 e:5", "20 g:6"]));
    assert_eq!(spans(text), ["a:1", "-", "-", "-", "e:5", "-"]);
    let lines: Vec<_> = notes.iter().map(|note| note.split_once(' ').unwrap().0).collect();
    assert_eq!(lines, ["11", "19"], "{notes:?}");
    assert_eq!(
        summary("compose.yaml", "services: {a: {build: {args: {BUILDKIT_SYNTAX: a/b:1}}}}").0,
        ["1 docker.io/a/b:1"]
    );
    assert_eq!(summary("compose.yaml", "services: {a: {build: {args: {BUILDKIT_SYNTAX: dockerfile.v0}}}}").0, [""; 0]);
}

#[test]
fn a_context_elsewhere_is_noted() {
    for context in ["https://example.com/x.git", "git@example.com:x.git", "github.com/a/b", "{context: 'ssh://x/y'}"] {
        let (_, notes) = summary(
            "compose.yaml",
            &format!("services: {{a: {{build: '{context}'}}}}").replace("'{", "{").replace("}'}", "}}"),
        );
        assert!(notes.len() == 1 && notes[0].starts_with("1 the Dockerfile of this build"), "{context}: {notes:?}");
    }
    for context in [".", "./github.com", "/a/b", "${DIR}"] {
        assert_eq!(
            summary("compose.yaml", &format!("services: {{a: {{build: '{context}'}}}}")).1,
            [""; 0],
            "{context}"
        );
    }
}

#[test]
fn a_dockerfile_within_the_file() {
    let text = "\
services:
  a:
    build:
      dockerfile_inline: |
        # syntax=docker/dockerfile:1
        ARG BASE=x:1
        FROM ${IMAGE:-a:1} AS s
        FROM $$BASE

        COPY --from=b:2 / /
        RUN echo $$HOME <<EOF
        FROM no
        EOF
      args: {BASE: c:3}
  b: {build: {dockerfile_inline: \"FROM d:4\\nFROM e:5\\n\"}}
  c:
    build:
      args: [V=3.10, W]
      dockerfile_inline: |-
        ARG V
        FROM f:$$V
        FROM g:$NO
  d: {build: {args: {V: 3.10}, dockerfile_inline: FROM h}}
";
    let (images, notes) = summary("compose.yaml", text);
    let mut want = vec!["5 docker.io/docker/dockerfile:1".to_owned()];
    want.extend(library(&["7 a:1", "8 c:3", "10 b:2", "15 d:4", "15 e:5"]));
    assert_eq!(images, want);
    assert!(spans(text).iter().all(|span| span == "-"));
    assert!(notes.len() == 2 && notes[0].starts_with("22 variable NO"), "{notes:?}");
    assert!(notes[1].starts_with("23 3.10 is a number"), "{notes:?}");
    let (line, problem) = refusal(
        "compose.yaml",
        "services:\n  a:\n    build:\n      dockerfile_inline: |\n        FROM a\n        FORM b\n",
    );
    assert!(line == 6 && matches!(problem, SourceProblem::SyntaxError(_)), "{line} {problem}");
}

#[test]
fn volumes_hooks_models_and_jobs() {
    let text = "\
services:
  a:
    image: a:1
    volumes:
      - data:/data
      - {type: image, source: b:2, target: /b}
      - {type: volume, source: data, target: /c}
      - {type: \"${KIND:-image}\", source: c:3, target: /c}
    pre_start:
      - image: d:4
        volumes: [{type: image, source: e:5, target: /e}]
      - command: [x]
    post_start: [{command: x}]
  b:
    provider: {type: cloud, options: {type: mysql}}
models:
  llm: {model: ai/smollm2:1}
jobs:
  nightly: {image: f:6}
";
    let mut want = library(&["3 a:1", "6 b:2", "8 c:3", "10 d:4", "11 e:5"]);
    want.push("17 docker.io/ai/smollm2:1".to_owned());
    want.extend(library(&["19 f:6"]));
    assert_eq!(summary("compose.yaml", text), (want, vec![]));
    assert_eq!(spans(text), ["a:1", "b:2", "c:3", "d:4", "e:5", "-", "f:6"]);
}

#[test]
fn files_of_the_first_format() {
    let text = "web:\n  image: a:1\n  links: [db]\ndb:\n  build: .\nnetworks: {x: {image: no}}\n";
    assert_eq!(summary("docker-compose.yml", text), (library(&["2 a:1"]), vec![]));
    for text in ["services: [{image: a}]", "services: {a: b:1}"] {
        let (images, notes) = summary("compose.yaml", text);
        assert!(images.is_empty() && notes.len() == 1, "{text}: {images:?} {notes:?}");
    }
}

#[test]
fn a_file_with_variables_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "# B=1\nA=evil:1\n").unwrap();
    let file = directory.path().join("compose.yaml");
    let (images, notes) = summary(
        file.to_str().unwrap(),
        "services:\n  a: {image: '${A:-a:1}'}\n  b: {image: '${B:-b:1}'}\n  c: {image: 'c:${C:+$A}'}\n",
    );
    assert_eq!(images, library(&["3 b:1"]));
    assert!(notes.len() == 2 && notes[0].starts_with("2 the file .env may set the variable A"), "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("docker compose config")), "{notes:?}");
}

#[test]
fn names_are_shown_as_they_are_written() {
    let notes =
        summary("compose.yaml", "services: {a: {image: 'a$$b'}, b: {image: 'docker://c:1'}, c: {image: 'd:*t'}}").1;
    assert!(notes[0].ends_with("(written as \"a$$b\")"), "{notes:?}");
    assert!(notes[1].contains("docker:// does not belong") && notes[1].contains("\"c:1\""), "{notes:?}");
    assert!(notes[2].starts_with("1 tag \"*t\"") && !notes[2].contains("written as"), "{notes:?}");
}

#[test]
fn arguments_of_a_build_change_the_images_of_its_dockerfile() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("app")).unwrap();
    std::fs::write(
        directory.path().join("app/Dockerfile"),
        "ARG BASE=a:1\nARG SHA\nFROM $BASE\nFROM b:2\nRUN x $SHA\n",
    )
    .unwrap();
    let file = directory.path().join("compose.yaml");
    let of = |args: &str| {
        let text = format!("services:\n  a:\n    build:\n      context: ./app\n      args: {args}\n");
        std::fs::write(&file, &text).unwrap();
        summary(file.to_str().unwrap(), &text)
    };
    assert_eq!(of("{BASE: 'c:3'}"), (library(&["5 c:3"]), vec![]));
    assert_eq!(of("['BASE=c:3', SHA]"), (library(&["5 c:3"]), vec![]));
    for same in ["{BASE: 'a:1'}", "[BASE]", "{SHA: \"${SHA}\"}", "{OTHER: x}"] {
        assert_eq!(of(same), (vec![], vec![]), "{same}");
    }
    let (images, notes) = of("{BASE: \"${BASE}\"}");
    assert!(images.is_empty() && notes.len() == 1 && notes[0].starts_with("5 images of the Dockerfile"), "{notes:?}");
}

#[test]
fn what_only_a_profile_or_a_job_builds_is_verified_elsewhere() {
    for builder in [
        "services:\n  a: {build: ., image: 'x/a:1', profiles: [dev]}\n",
        "jobs:\n  a: {build: ., image: 'x/a:1'}\nservices:\n",
    ] {
        let text = format!("{builder}  b:\n    image: x/a:1\n");
        let line = text.lines().count();
        let (images, _) = summary("compose.yaml", &text);
        assert!(images.contains(&format!("{line} docker.io/x/a:1")), "{text}: {images:?}");
    }
}

#[test]
fn arguments_of_a_build_in_a_directory_that_cannot_be_opened_are_noted() {
    let text = "services:\n  a:\n    build:\n      context: .\n      args: {BASE: 'evil/a:1'}\n";
    let (images, notes) = summary("\u{fffd}/compose.yaml", text);
    assert!(images.is_empty() && notes.len() == 1 && notes[0].starts_with("5 the path of this file"), "{notes:?}");
    assert_eq!(summary("\u{fffd}/compose.yaml", "services: {a: {build: .}}\n"), (vec![], vec![]));
}
