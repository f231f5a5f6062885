//! A small tree of files as projects have them, against what a person found in them.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use taglog_image_sources::{ScanResult, SourceProblem, read};

const IMAGES: &str = "\
.github/workflows/build.yml:11 docker.io/library/golang:1.23-bookworm
.github/workflows/build.yml:14 docker.io/library/postgres:16.4
.github/workflows/build.yml:19 registry.example/tools/licences:v3
.github/workflows/build.yml:26 docker.io/library/alpine:3.19
.github/workflows/build.yml:26 docker.io/library/alpine:3.20
.gitlab-ci.yml:10 docker.io/library/golang:1.23-bookworm
.gitlab-ci.yml:15 docker.io/library/docker:27-dind
.gitlab-ci.yml:23 registry.example/tools/trace:7
.hidden/Dockerfile:1 docker.io/library/hidden
app/Containerfile.windows:2 mcr.microsoft.com/windows/nanoserver:ltsc2022
app/Containerfile.windows:6 mcr.microsoft.com/powershell:lts-nanoserver-ltsc2022
app/Dockerfile:1 docker.io/docker/dockerfile:1
app/Dockerfile:6 docker.io/library/golang:1.23-bookworm
app/Dockerfile:14 registry.example/tools/licences:v3
app/Dockerfile:20 gcr.io/distroless/static-debian12:nonroot
app/Dockerfile:23 docker.io/library/busybox:1.36.1
app/compose.yaml:4 registry.example:5000/shop/worker:2024.11
app/compose.yaml:19 docker.io/library/postgres:16.4
app/compose.yaml:23 docker.io/valkey/valkey
app/tools.Dockerfile:3 docker.io/library/alpine:3.20
deploy/all.yaml:21 registry.example:5000/shop/migrate:v7
deploy/all.yaml:24 registry.example:5000/shop/web:v42@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79
deploy/all.yaml:26 docker.io/envoyproxy/envoy:v1.31.0
deploy/all.yaml:30 registry.example/models/ranking:2
deploy/all.yaml:46 docker.io/library/postgres:16.4
deploy/list.yml:10 docker.io/library/busybox
deploy/list.yml:13 registry.example/tools/trace@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79
deploy/list.yml:21 docker.io/fluent/fluent-bit:3.1
";

const LEFT_OUT: &str = "\
.gitlab-ci.yml:30 variable CI_REGISTRY_IMAGE
app/compose.yaml:17 variable REPORT_TAG
app/tools.Dockerfile:2 variable BASE
helm/values.yaml:2 the chart decides which image registry.example:5000/shop/web:v42 is
other/pipeline.yml:3 a kind of file that is not known
helm/templates/deployment.yaml:4 a template
other/broken.yaml:3 the file is not understood: read as YAML: broken YAML
";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/corpus")
}

fn images(found: &ScanResult, root: &Path) -> String {
    let root = format!("{}/", root.display());
    let line = |image: &taglog_image_sources::FoundImage| {
        let tag = image.reference.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = image.reference.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let file = image.place.file.trim_start_matches(&root);
        format!("{file}:{} {}{tag}{digest}\n", image.place.line, image.reference.repository)
    };
    found.images.iter().map(line).collect()
}

fn assert_left_out(found: &ScanResult, root: &Path) {
    let root = format!("{}/", root.display());
    let notes: Vec<String> = found
        .left_out
        .iter()
        .map(|note| format!("{}:{} {}", note.place.file.trim_start_matches(&root), note.place.line, note.reason))
        .collect();
    assert_eq!(notes.len(), LEFT_OUT.lines().count(), "{notes:#?}");
    for (note, want) in notes.iter().zip(LEFT_OUT.lines()) {
        assert!(note.starts_with(want), "{note} is not: {want}");
    }
}

#[test]
fn a_directory_is_walked() {
    let found = read(&[corpus()]).unwrap();
    assert_eq!(images(&found, &corpus()), IMAGES);
    assert_left_out(&found, &corpus());
    let compose = found.images.iter().find(|image| image.place.line == 4).unwrap();
    assert_eq!(compose.written, "registry.example:5000/shop/worker:${WORKER_TAG:-2024.11}");
}

#[test]
fn a_directory_that_is_named_is_walked_whatever_its_name_is() {
    for name in [".hidden", "node_modules"] {
        assert_eq!(read(&[corpus().join(name)]).unwrap().images.len(), 1, "{name}");
    }
}

#[test]
fn line_ends_and_byte_order_marks_change_nothing() {
    let copy = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(corpus()) {
        let entry = entry.unwrap();
        let to = copy.path().join(entry.path().strip_prefix(corpus()).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to).unwrap();
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            fs::write(&to, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
        }
    }
    let found = read(&[copy.path().to_owned()]).unwrap();
    assert_eq!(images(&found, copy.path()), IMAGES);
    assert_left_out(&found, copy.path());
}

#[test]
fn a_file_that_is_named_must_be_understood() {
    let problem = |name: &str| read(&[corpus().join(name)]).unwrap_err();
    assert!(matches!(problem("other/broken.yaml").problem, SourceProblem::SyntaxError(_)));
    assert_eq!(problem("other/broken.yaml").place.line, 3);
    for noted in ["helm/values.yaml", "other/pipeline.yml"] {
        assert_eq!(read(&[corpus().join(noted)]).unwrap().left_out.len(), 1, "{noted}");
    }
    assert_eq!(problem("helm/templates/deployment.yaml").problem, SourceProblem::Template);
    assert!(matches!(problem("no-such-file").problem, SourceProblem::Unreadable(_)));
}

#[test]
#[cfg(unix)]
fn symbolic_links_to_files_are_followed_and_those_to_other_directories_are_noted() {
    let tree = tempfile::tempdir().unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, tree.path().join(name)).unwrap();
    link(&corpus(), "out");
    link(&corpus().join("app/Dockerfile"), "Dockerfile");
    link(tree.path(), "circle");
    let found = read(&[tree.path().to_owned()]).unwrap();
    let places: Vec<_> = found.left_out.iter().map(|note| &note.place.file).collect();
    assert_eq!((found.images.len(), places), (5, vec![&tree.path().join("out").display().to_string()]));
    assert_eq!(read(&[tree.path().join("out")]).unwrap().images.len(), IMAGES.lines().count());
}
