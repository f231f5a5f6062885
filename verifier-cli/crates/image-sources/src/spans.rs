//! Where in the bytes of a file the names of images stand.

use std::path::Path;

use super::{Options, read_bytes, tests::summary};

/// The text at the span of each image, or what is written where there is none.
fn spans(name: &str, text: &str) -> Vec<Result<String, String>> {
    let found = read_bytes(Path::new(name), text.as_bytes(), &Options::default()).unwrap();
    found.images.into_iter().map(|image| image.span.map(|span| text[span].to_owned()).ok_or(image.written)).collect()
}

fn literal(names: &[&str]) -> Vec<Result<String, String>> {
    names.iter().map(|name| Ok((*name).to_owned())).collect()
}

fn no_span(names: &[&str]) -> Vec<Result<String, String>> {
    names.iter().map(|name| Err((*name).to_owned())).collect()
}

const DIGEST: &str = "sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79";

#[test]
fn every_way_to_write_text_in_yaml() {
    let text = format!(
        "\
# Grüße, ünïcode 🦀 before it all
services:
  plain: {{image: a:1, x: 'é'}}
  double: {{\"image\": \"b:2\"}}
  single: {{'image': 'c:3' , y: 1}}
  comment:
    image: d:4 # d:4
  folded:
    image: >-
      e:5
  literal:
    image: |-
      f:6

  anchor:
    image: &name g:7
  tag:
    image: !!str &x # 'h:8' é
      \"h:8\" # h:8 é
  next:
    image:
      # not here: i:9
      i:9
  pinned:
    image: registry.example:5000/j/k:10@{DIGEST}
  bare:
    image: l
  last: {{image: m:12}}
"
    );
    let names = ["a:1", "b:2", "c:3", "d:4", "e:5", "f:6", "g:7", "h:8", "i:9"];
    let pinned = format!("registry.example:5000/j/k:10@{DIGEST}");
    let want = literal(&[&names[..], &[&pinned, "l", "m:12"]].concat());
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}"), text.trim_end().to_owned()] {
        assert_eq!(spans("compose.yaml", &text), want);
    }
}

#[test]
fn aliases_share_the_place_of_the_anchor() {
    let text = "x: &x {image: a:1}\nservices:\n  a: *x\n  b: {<<: *x}\n  c: {image: &y b:2}\n  d: {image: *y}\n";
    let found = read_bytes(Path::new("compose.yaml"), text.as_bytes(), &Options::default()).unwrap();
    let spans: Vec<_> = found.images.iter().map(|image| &text[image.span.clone().unwrap()]).collect();
    assert_eq!(spans, ["a:1", "b:2"]);
}

#[test]
fn names_that_are_not_written_as_they_are_meant() {
    let text = "services:\n  a: {image: 'a:${T:-1}'}\n  b: {image: \"b\\x3a1\"}\n  c: {image: '${X:-}c:1'}\n";
    assert_eq!(spans("compose.yaml", text), no_span(&["a:${T:-1}", "b:1", "${X:-}c:1"]));
    let pipeline = "variables: {A: a:1, E: ''}\njob: {script: x, image: $A, services: [\"${E}b:1\", c:1]}\n";
    assert_eq!(spans(".gitlab-ci.yml", pipeline), [no_span(&["$A", "${E}b:1"]), literal(&["c:1"])].concat());
    let dockerfile = "ARG A=a:1\nFROM $A\nFROM b\\\n:1\nFROM \"c\"':1'\nFROM ${E:+x}d:1\nFROM \\e:1\n";
    assert_eq!(spans("Dockerfile", dockerfile), no_span(&["$A", "b:1", "\"c\"':1'", "${E:+x}d:1", "\\e:1"]));
}

#[test]
fn dockerfiles() {
    let text = "\
# syntax = z/y:0 --é
# é
FROM --platform=linux/amd64 a:1 AS x
from \"b:2\"
FROM \\
  # c:3
  c:3 \\
  as y
COPY --chown=1:1 --from=d:4 /e /f
COPY --from='e:5' /e /f
RUN --mount=type=bind,from=f:6,target=/é --mount=from=g:7 \\
  --mount=target=/x,from=h:8 true <<EOF
FROM z
EOF
FROM i
";
    let want = literal(&["z/y:0", "a:1", "b:2", "c:3", "d:4", "e:5", "f:6", "g:7", "h:8", "i"]);
    for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        assert_eq!(spans("Dockerfile", &text), want);
    }
}

#[test]
fn other_kinds_of_yaml() {
    let workflow = "on: push\njobs:\n  a:\n    container: a:1\n    services: {b: {image: 'b:2'}}\n    steps:\n    - uses: docker://c:3\n    - uses: \"docker://d:4\"\n";
    assert_eq!(spans("x.yml", workflow), literal(&["a:1", "b:2", "c:3", "d:4"]));
    let pod = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a:1\"}]}}\n";
    assert_eq!(spans("x.json", pod), literal(&["a:1"]));
}

#[test]
fn images_by_id_are_noted() {
    let id = "3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79";
    for (name, text) in [
        ("Dockerfile", format!("FROM {id}\n")),
        ("Dockerfile", format!("FROM sha256:{id}\n")),
        ("compose.yaml", format!("services: {{a: {{image: 'sha256:{id}'}}}}\n")),
    ] {
        let (images, notes) = summary(name, &text);
        assert!(images.is_empty() && notes.len() == 1, "{images:?} {notes:?}");
        assert!(notes[0].starts_with("1 an image by its ID"), "{notes:?}");
    }
    let text = format!("FROM a@{DIGEST}\nFROM b:1@{DIGEST}\nFROM c\n");
    let found = read_bytes(Path::new("Dockerfile"), text.as_bytes(), &Options::default()).unwrap();
    let images: Vec<_> = found.images.iter().map(|image| image.image().map(|image| image.to_string()).ok()).collect();
    let names = ["docker.io/library/b:1", "docker.io/library/c:latest"].map(|name| Some(name.to_owned()));
    assert_eq!(images, [&[None], &names[..]].concat());
}

#[test]
fn build_arguments_come_before_defaults() {
    let build = |args: &[(&str, &str)], text: &str| {
        let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { build_args, ..Options::default() };
        let found = read_bytes(Path::new("Dockerfile"), text.as_bytes(), &options).unwrap();
        let images: Vec<_> = found.images.iter().map(|image| image.image().unwrap().to_string()).collect();
        (images, found.left_out.len())
    };
    let hub =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| format!("docker.io/library/{name}")).collect() };
    let text = "ARG V=1\nARG N\nFROM a:$V\nFROM $N\nARG L=2\nCOPY --from=b:$L / /\nCOPY --from=c:$V / /\nARG V\nCOPY --from=d:$V / /\n";
    assert_eq!(build(&[], text), (hub(&["a:1", "b:2", "d:1"]), 2));
    let all = hub(&["a:7", "n:latest", "b:8", "d:7"]);
    assert_eq!(build(&[("V", "7"), ("N", "n"), ("L", "8")], text), (all, 1));
    // Only what the file declares is a variable of it, but for what every build knows.
    let undeclared = build(&[("X", "1"), ("TARGETARCH", "arm64")], "FROM a:$X\nFROM b-$TARGETARCH:1\n");
    assert_eq!(undeclared, (hub(&["b-arm64:1"]), 1));
}
