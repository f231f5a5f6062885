//! Files of further tools, and of unknown kinds.

use proptest::prelude::*;

use super::{json, substitute};
use crate::{
    SourceProblem,
    tests::{read_text, refusal, summary},
};

/// Names without the registry and repository that short names stand for, and the lines of notes.
fn found(name: &str, text: &str) -> (Vec<String>, Vec<usize>) {
    let found = read_text(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let images = found.images.iter().map(|image| format!("{} {}", image.place.line, image.written)).collect();
    (images, found.left_out.iter().map(|note| note.place.line).collect())
}

fn check(name: &str, text: &str, images: &[&str], notes: &[usize]) {
    assert_eq!(
        found(name, text),
        (images.iter().map(|image| (*image).to_owned()).collect(), notes.to_vec()),
        "{name}:\n{text}"
    );
}

#[test]
fn drone_and_woodpecker() {
    let drone = "kind: pipeline\ntype: docker\nname: t\nsteps:\n- {name: a, image: tool:v1}\n- {name: b, image: 'x:${DRONE_TAG}'}\n\
                 services:\n- {name: db, image: postgres:16}\n---\nkind: secret\nname: s\n";
    for name in [".drone.yml", "x.yaml"] {
        check(name, drone, &["5 tool:v1", "8 postgres:16"], &[6]);
    }
    check(".drone.yml", "kind: template\nload: x.yaml\n", &[], &[2]);
    check(
        ".drone.yml",
        "pipeline:\n  build:\n    image: go:1\nservices:\n  db:\n    image: pg:1\n",
        &["3 go:1", "6 pg:1"],
        &[],
    );
    let woodpecker = "matrix:\n  GO: ['1.22', '1.23']\n  DB: [mysql:8]\nclone:\n  git: {image: clone:1}\nsteps:\n- name: a\n  \
                      image: golang:${GO}\n  commands: [x]\nservices:\n- {name: db, image: '${DB}'}\n- {name: x, image: '${X}:${GO}'}\n";
    let (images, notes) = summary(".woodpecker/a.yml", woodpecker);
    let want = ["5 clone:1", "8 golang:1.22", "8 golang:1.23", "11 mysql:8"];
    assert_eq!(images, want.map(|name| name.replacen(' ', " docker.io/library/", 1)));
    assert!(notes.len() == 1 && notes[0].starts_with("12 "), "{notes:?}");
    let included = "matrix:\n  include:\n  - {V: '1'}\n  - {V: '2'}\nsteps:\n  a: {image: 'x:$V', commands: y}\n";
    assert_eq!(summary("x.yaml", included).0.len(), 2);
}

#[test]
fn circleci() {
    let text = "version: 2.1\nexecutors:\n  e:\n    docker: [{image: cimg/go:1.22}]\njobs:\n  a:\n    docker:\n    - image: node:22\n    \
                - image: << parameters.db >>\n  b:\n    machine: {image: ubuntu-2404:current}\norbs:\n  o:\n    jobs:\n      c:\n        \
                docker: [{image: o:1}]\n  slack: circleci/slack@4\n";
    for name in [".circleci/config.yml", "x.yml"] {
        check(name, text, &["4 cimg/go:1.22", "8 node:22", "16 o:1"], &[9]);
    }
}

#[test]
fn azure_pipelines() {
    let text = "resources:\n  containers:\n  - container: c\n    image: tool:v1\n  - {container: acr, type: ACR}\nstages:\n- stage: s\n  \
                jobs:\n  - job: a\n    container: c\n    services: {db: postgres:16, other: c}\n    steps:\n    - task: X@1\n      \
                inputs: {container: blobs}\n  - ${{ if x }}:\n    - job: b\n      container: {image: b:1, env: {}}\n  - job: d\n    \
                container: $(image)\n";
    for name in ["azure-pipelines.yml", "x.yaml"] {
        check(name, text, &["4 tool:v1", "11 postgres:16", "17 b:1"], &[5, 19]);
    }
    check(
        "x.yml",
        "jobs:\n- job: a\n  container: ubuntu\n- job: b\n  container: ubuntu:24.04\n",
        &["5 ubuntu:24.04"],
        &[3],
    );
    check("x.yml", "steps:\n- task: a\njobs:\n- template: b.yml\n  parameters: {image: 'x/y:1', n: 2}\n", &[], &[5]);
}

#[test]
fn bitbucket_pipelines() {
    let text = "image: node:22\ndefinitions:\n  services:\n    db: {image: {name: postgres:16, username: $U}}\npipelines:\n  default:\n  \
                - step:\n      image: {name: $IMAGE}\n      script:\n      - make\n      - pipe: docker://org/pipe:1\n        \
                variables: {image: no:1}\n      - pipe: atlassian/x:1\n  branches:\n    main:\n    - parallel:\n      \
                - step: {image: go:1, script: [x]}\n";
    for name in ["bitbucket-pipelines.yml", "x.yaml"] {
        check(name, text, &["1 node:22", "4 postgres:16", "11 org/pipe:1", "17 go:1"], &[8]);
    }
}

#[test]
fn cloud_build() {
    let text = "steps:\n- name: gcr.io/cloud-builders/docker\n  args: [build]\n- name: golang:${_GO}\n  args: []\n- name: gcr.io/$PROJECT_ID/x\n  \
                script: y\nsubstitutions: {_GO: '1.23'}\nimages: [gcr.io/p/result:1]\n";
    for name in ["cloudbuild.yaml", "x.yml"] {
        check(name, text, &["2 gcr.io/cloud-builders/docker", "4 golang:${_GO}"], &[6]);
    }
    check("cloudbuild.json", "{\"steps\": [{\"name\": \"ubuntu\"}], \"images\": [\"x\"]}", &["1 ubuntu"], &[]);
}

#[test]
fn development_containers() {
    let text = "{\n  // image: \"no:1\"\n  \"image\": \"tool:v1\", /* a\n  \"x\" */\n  \"build\": {\"args\": {\"BASE\": \"b/c:1\", \"V\": \"1.2\"}, \
                \"cacheFrom\": [\"c:1\", \"type=registry,ref=d:1\", \"type=gha\"]},\n  \"features\": {\"ghcr.io/x/y:1\": {},},\n}\n";
    check(".devcontainer/devcontainer.json", text, &["3 tool:v1", "5 c:1", "5 d:1"], &[5]);
    check(".devcontainer.json", "{\"image\": \"x:${localEnv:TAG}\"}", &[], &[1]);
    let found = read_text("devcontainer.json", text).unwrap();
    let spans: Vec<_> = found.images.iter().map(|image| image.span.clone().map(|span| &text[span])).collect();
    assert_eq!(spans, [Some("tool:v1"), Some("c:1"), None]);
}

#[test]
fn bake() {
    let text = "{\"target\": {\"a\": {\"contexts\": {\"base\": \"docker-image://alpine:3.20\", \"src\": \"./x\"},\n\
                \"args\": {\"V\": \"1\", \"I\": \"org/i:2\"}, \"tags\": [\"t:1\"]},\n\
                \"b\": {\"dockerfile-inline\": \"FROM x\", \"cache-from\": [{\"type\": \"registry\", \"ref\": \"c:1\"}, {\"type\": \"gha\"}]}}}\n";
    for name in ["docker-bake.json", "x.json"] {
        check(name, text, &["1 alpine:3.20", "3 c:1"], &[2, 3]);
    }
}

#[test]
fn skaffold() {
    let text = "apiVersion: skaffold/v4beta11\nkind: Config\nbuild:\n  artifacts:\n  - image: app\n    buildpacks: {builder: gcr.io/b:v1}\n\
                verify:\n- name: v\n  container: {name: c, image: curl:8}\ncustomActions:\n- containers: [{image: \"a:1\"}]\nprofiles:\n\
                - name: p\n  build: {artifacts: [{image: app, ko: {fromImage: ko:1}}]}\n  patches: [{op: replace, path: /build/artifacts/0/image}]\n";
    let found = read_text("skaffold.yaml", text).unwrap();
    let images: Vec<_> = found.images.iter().map(|image| image.written.as_str()).collect();
    assert_eq!(images, ["gcr.io/b:v1", "curl:8", "a:1", "ko:1"]);
    assert_eq!((found.excluded.len(), found.excluded[0].what.as_str(), found.left_out.len()), (2, "app", 1));
}

#[test]
fn quadlets() {
    let text = "[Unit]\nImage=no\n[Container]\n# Image=no\nImage=tool:v1\n  Image = docker://b:2 \nImage=app.build\nImage=x:%i\n[Install]\nImage=no\n";
    check("a.container", text, &["5 tool:v1", "6 b:2"], &[8]);
    check("a.volume", "[Volume]\nDriver=image\nImage=v:1\n", &["3 v:1"], &[]);
    check("a.image", "[Image]\r\nImage=v:1\r\n", &["2 v:1"], &[]);
    check("a.container.d/1.conf", "[Container]\nImage=v:2", &["2 v:2"], &[]);
    let found = read_text("a.container", text).unwrap();
    assert_eq!(found.images[1].span.clone().map(|span| &text[span]), Some("b:2"));
}

#[test]
fn kinds_that_are_not_read() {
    for (name, text, line) in [
        ("main.tf", "resource \"docker_image\" \"a\" { name = \"tool:v1\" }\n", 1),
        ("main.tf", "locals {\n  # image = \"a/b:1\"\n  app_image = \"a/b:1\"\n}\n", 3),
        ("ecs.tf", "x = jsonencode([{\n \"image\": \"a/b:1\"\n}])\n", 2),
        ("k8s.tf", "resource \"kubernetes_pod\" \"a\" {\n container {\n  image = var.image\n", 3),
        ("main.tf.json", "{\"image\": \"a/b:1\"}", 1),
        ("job.nomad", "job \"a\" { config { image = \"tool\" } }\n", 1),
        ("job.nomad.hcl", "config {\n  image = \"${var.i}:1\"\n", 2),
        ("docker-bake.hcl", "target \"a\" {\n  contexts = {\n    base = \"docker-image://a\"\n", 3),
        ("docker-bake.hcl", "target \"a\" {\n  args = {\n    BASE = \"alpine:3.20\"\n", 3),
        ("Earthfile", "VERSION 0.8\nFROM alpine:3.20\n", 2),
        ("lib.earth", "x:\n  FROM +base\n  WITH DOCKER --pull a:1\n", 3),
        ("Jenkinsfile", "pipeline {\n  agent { docker 'maven:3' }\n", 2),
        ("ci/Jenkinsfile.prod", "docker.image('a').inside {\n", 1),
        ("Jenkinsfile", "agent {\n docker {\n  image 'node'\n", 3),
        ("fly.toml", "[build]\n  image = \"a/b:1\"\n", 2),
    ] {
        check(name, text, &[], &[line]);
    }
    for (name, text) in [
        ("main.tf", "resource \"aws_instance\" \"a\" {\n  ami = \"ami-1\"\n  image_id = \"x\"\n}\n"),
        ("vm.tf", "image_name = \"Ubuntu 22.04\"\nx = data.image.id\nimage_url = \"https://x/y\"\nimage = null\n"),
        (
            "docker-bake.hcl",
            "target \"a\" {\n  dockerfile = \"Dockerfile\"\n  tags = [\"a/b:1\"]\n  contexts = { b = \"target:b\" }\n  args = { V = \"1.2\" }\n}\n",
        ),
        ("Earthfile", "x:\n  FROM +base\n  FROM DOCKERFILE .\n"),
        ("Jenkinsfile", "sh 'make image'\n"),
        ("terragrunt.hcl", "source = \"git::https://x/y.git?ref=v1\"\n"),
    ] {
        assert!(matches!(refusal(name, text), (1, SourceProblem::NotRead(_))), "{name}: {text}");
    }
}

#[test]
fn unknown_kinds_with_images_are_noted() {
    for (text, line) in [
        ("- hosts: all\n  tasks:\n  - community.docker.docker_container: {name: a, image: '{{ x }}'}\n", 3),
        ("app:\n  image: nginx:1.27\n", 2),
        ("image:\n  repository: a/b\n  tag: v1\n", 2),
        ("app_image: ghcr.io/a/b\n", 1),
        ("dockerImage: ${REGISTRY}/a:$TAG\n", 1),
        ("x:\n- image: postgres\n  command: [x]\n", 2),
        ("x: {containerDefinitions: [{Image: 'a/b:1'}]}\n", 1),
        ("image: \"{{ registry }}/a:{{ tag }}\"\n", 1),
        ("image: a@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79\n", 1),
    ] {
        check("x.yaml", text, &[], &[line]);
    }
    for text in [
        "image: /assets/logo.png\n",
        "image: assets/logo\n",
        "og_image: https://x.example/a.jpg\n",
        "image: Image\nimages: [a, b]\n",
        "image: sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79\n",
        "image: \"{{count}} images\"\n",
        "image: image\n",
        "image: yes\n",
        "image: 12\n",
        "og_image: postgres\n",
        "image: images/app\n",
        "image:\n  alt: x\n  name: y\n",
        "version: 2\nupdates: [{package-ecosystem: docker}]\n",
    ] {
        assert_eq!(refusal("x.yaml", text), (1, SourceProblem::UnknownKind), "{text}");
    }
    // Beside documents that are read.
    let pod = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: a}]}\n---\nx: {image: 'b/c:1'}\n";
    check("x.yaml", pod, &["3 a"], &[5]);
    check("x.json", "{\"x\": {\"image\": \"b/c:1\"}}", &[], &[1]);
    assert_eq!(refusal("package.json", "{\"a\": [1, 2}"), (1, SourceProblem::UnknownKind));
}

#[test]
fn json_is_told_apart_by_its_keys() {
    for text in
        ["{\"image\" : 1}", "[{\"a\": \"\\\"\", \"baseImage\":\n1}]", "{\"apiVersion\": 1}", "{\"\\u0069mage\": 1}"]
    {
        assert!(json::may_name_images(text), "{text}");
    }
    for text in ["{\"a\": \"image\"}", "{\"imagemin\": \"x\", \"b\": [\"image\", 1]}", "[\"image"] {
        assert!(!json::may_name_images(text), "{text}");
    }
}

#[test]
fn files_without_unit_sections_are_not_quadlets() {
    assert_eq!(refusal("disk.image", "\u{0}binary"), (1, SourceProblem::UnknownKind));
    assert_eq!(refusal("app.container", "FROM x\n"), (1, SourceProblem::UnknownKind));
}

#[test]
fn variables_are_substituted() {
    let value = |name: &str| (name == "A").then(|| "1".to_owned());
    for (text, want) in [
        ("a:$A", Some("a:1")),
        ("${A}-$A.x", Some("1-1.x")),
        ("$B", None),
        ("${A", None),
        ("$$", None),
        ("é$A", Some("é1")),
    ] {
        assert_eq!(substitute(text, &value).as_deref(), want, "{text}");
    }
}

#[test]
fn content_decides_before_the_name() {
    let compose = "services:\n  a:\n    image: a/b:1\n    build:\n      context: .\n      additional_contexts: {x: 'docker-image://c/d:1'}\n      \
                   dockerfile_inline: FROM e/f:1\n";
    for name in [
        ".circleci/docker-compose.yml",
        ".woodpecker/docker-compose.yml",
        "azure-pipelines-compose.yml",
        "bitbucket-pipelines-x.yml",
        "cloudbuild.yaml",
        ".drone.yml",
        "docker-compose.values.yaml",
    ] {
        check(name, compose, &["6 c/d:1", "7 e/f:1"], &[]);
    }
    check(".circleci/docker-compose.yml", "services: {a: {image: 'evil/db:1'}}\n", &["1 evil/db:1"], &[]);
    let values = "image:\n  registry: r.example\n  repository: a/b\n  tag: v1\n";
    check(".circleci/values.yaml", values, &["3 r.example/a/b:v1"], &[]);
    let workflow = "on: push\njobs:\n  a:\n    container: a/b:1\n";
    for name in [".circleci/x.yml", "compose.yml", "docker-compose-ci.yml", ".woodpecker/x.yml", "x.gitlab-ci.yml"] {
        check(name, workflow, &["4 a/b:1"], &[]);
    }
    check("docker-compose.ci.yml", "test:\n  image: a/b:1\n  script: [x]\n", &["2 a/b:1"], &[]);
    // Keys of the tool that the name stands for, and of another kind.
    let both = "steps: {a: {image: 'a/b:1'}}\nservices: {c: {image: 'c/d:1'}}\n";
    check(".woodpecker.yml", both, &["1 a/b:1", "2 c/d:1"], &[]);
    check(
        ".circleci/config.yml",
        "jobs: {script: {docker: [{image: 'a:1'}]}}\ncommands: {script: {script: x}}\n",
        &["1 a:1"],
        &[],
    );
}

#[test]
fn a_document_that_its_tool_finds_nothing_in_is_searched() {
    for name in [
        ".circleci/x.yml",
        ".woodpecker/x.yaml",
        "azure-pipelines-x.yml",
        "cloudbuild.yaml",
        ".drone.yml",
        "docker-bake.json",
        "docker-compose.yml",
    ] {
        check(name, "{\"x\": {\"y\": {\"image\": \"a/b:1\"}}}\n", &[], &[1]);
    }
    check(".gitlab-ci.yml", "variables: {IMAGE: 'a/b:1'}\n", &[], &[1]);
    check("x.yml", "version: 2.1\njobs: {a: {x: {image: 'a/b:1'}}}\n", &[], &[2]);
    // Virtual machines, what is built, and files that only have no images.
    check(".circleci/config.yml", "version: 2.1\njobs: {a: {machine: {image: 'ubuntu-2404:current'}}}\n", &[], &[]);
    check(
        "azure-pipelines.yml",
        "pool: {vmImage: $(vm)}\nvariables: {imageRepository: app, tag: '1'}\nsteps: [{task: Docker@2, inputs: {containerImage: 'a/b:1'}}]\n",
        &[],
        &[],
    );
    check(".circleci/other.yml", "a: b\n", &[], &[]);
}

#[test]
fn values_that_only_the_tool_knows_are_noted() {
    for (name, text, images, notes) in [
        ("azure-pipelines.yml", "jobs:\n- job: a\n  container: {alias: c}\n", &[][..], &[3][..]),
        ("azure-pipelines.yml", "jobs:\n- job: a\n  container:\n    ${{ if x }}: a/b:1\n", &[], &[4]),
        (
            "azure-pipelines.yml",
            "jobs:\n- job: a\n  container:\n    image: a/b:1\n    ${{ if x }}: {image: c}\n",
            &["4 a/b:1"],
            &[5],
        ),
        ("azure-pipelines.yml", "jobs:\n- job: a\n  container: {env: {}}\n", &[], &[3]),
        ("azure-pipelines.yml", "jobs:\n- job: a\n  services: ${{ parameters.s }}\n", &[], &[3]),
        ("azure-pipelines.yml", "resources:\n  containers: ${{ parameters.s }}\n", &[], &[2]),
        (
            "azure-pipelines.yml",
            "resources: {containers: [{container: c, image: a}]}\njobs: [{job: a, container: {alias: c}}]\n",
            &["1 a"],
            &[],
        ),
        (".circleci/config.yml", "jobs:\n  a:\n    docker: << parameters.d >>\n", &[], &[3]),
        (".circleci/config.yml", "jobs:\n  a:\n    docker:\n    - << parameters.d >>\n", &[], &[4]),
        (
            ".circleci/config.yml",
            "orbs:\n  o:\n    orbs:\n      p:\n        executors: {e: {docker: [{image: 'a/b:1'}]}}\n",
            &["5 a/b:1"],
            &[],
        ),
        ("bitbucket-pipelines.yml", "image: {username: x}\npipelines: {default: []}\n", &[], &[1]),
        ("x.yaml", "steps:\n- {name: 'build:web', image: 'a/b:1', entrypoint: x}\n", &[], &[2]),
        ("cloudbuild.yaml", "steps:\n- {name: 'build:web', image: 'a/b:1', entrypoint: x}\n", &["2 build:web"], &[2]),
        (
            ".devcontainer.json",
            "{\"build\": {\"options\": [\"--build-context\",\n\"x=docker-image://a/b:1\"]}}",
            &[],
            &[2],
        ),
        (
            ".devcontainer.json",
            "{\"build\": {\"options\":\n[\"--build-arg=BASE=a/b:1\", \"--no-cache\", \"--build-arg=V=1.2\"]}}",
            &[],
            &[2],
        ),
        (
            ".devcontainer.json",
            "{\"runArgs\": [\"--env=A=host:5432\",\n\"--mount=type=image,src=a/b:1,dst=/x\"]}",
            &[],
            &[2],
        ),
    ] {
        check(name, text, images, notes);
    }
}

#[test]
fn skaffold_builds_and_charts() {
    let text = "apiVersion: skaffold/v4beta11\nbuild:\n  googleCloudBuild: {dockerImage: d:1}\n  artifacts:\n  - image: app\n    docker:\n      \
                buildArgs: {BASE: a/b:1, V: '1.2'}\n      cacheFrom: [c:1]\ndeploy:\n  helm:\n    releases:\n    - setValues: {image: 'h:1', n: 2}\n      \
                setValueTemplates:\n        image.repository: '{{.IMAGE_REPO_app}}'\n        image: '{{.X}}'\n        side: {image: s}\n";
    check("skaffold.yaml", text, &["3 d:1", "8 c:1"], &[7, 12, 15, 16]);
}

#[test]
fn keys_of_files_that_are_not_read() {
    for (name, text, line) in [
        ("Jenkinsfile", "yaml '''\n  containers:\n  - name: a\n    image: evil/maven:3\n'''\n", 4),
        ("Jenkinsfile", "x\ncontainerTemplate(name: 'a', image: 'maven')\n", 2),
        ("Jenkinsfile", "x\ncontainerTemplate(name: 'a', image: MAVEN)\n", 2),
        ("Jenkinsfile", "agent {\n  docker {\n    image env.IMAGE\n", 3),
        ("Jenkinsfile", "agent { docker env.IMAGE }\n", 1),
        ("Jenkinsfile", "docker.image(name).inside {\n", 1),
        ("main.tf", "x = 1\nimage = \"nginx\"\n", 2),
        ("main.tf", "y = <<EOF\n- image: evil/app:1\nEOF\n", 2),
        ("main.tf", "x = {\n  \"image\" = local.a\n", 2),
        ("main.tf", "variable \"image\" {\n default = \"nginx\"\n", 1),
        ("main.tf", "set {\n  name = \"image.repository\"\n", 2),
        ("terraform.tfvars", "app_image = \"nginx\"\n", 1),
        ("app.hcl", "image = \"nginx\"\n", 1),
        ("fly.toml", "[build]\nimage = \"nginx\"\n", 2),
        ("fly.toml", "[build]\nimage = 'nginx'\n", 2),
        ("fly.toml", "[build]\nbuilder = \"paketobuildpacks/builder:base\"\n", 2),
        ("job.nomad", "config {\n  image = local.image\n", 2),
        ("job.nomad", "{\"Config\":\n {\"image\": \"redis\"}}", 2),
        ("Earthfile", "VERSION 0.8\nARG BASE_IMAGE=alpine\n", 2),
        ("docker-bake.hcl", "args = {\n BASE_IMAGE = \"alpine\"\n", 2),
        ("docker-bake.hcl", "tags = [\"x\"]\ncache-from = [\"type=registry,ref=a\"]\n", 2),
    ] {
        check(name, text, &[], &[line]);
    }
    for (name, text) in [
        (
            "Jenkinsfile",
            "sh 'docker build -t x .'\nif (image == null) { docker.build('x') }\nimage = docker.build('x')\n",
        ),
        ("Jenkinsfile", "agent { dockerfile true }\nagent {\n docker {\n"),
        (
            "main.tf",
            "container = \"tfstate\"\ncontainer_name = \"x\"\nvariable \"container\" {}\nicon_image = \"a.png\"\n",
        ),
        ("Earthfile", "x:\n  FROM +base\n  SAVE IMAGE app/image:1\n"),
        ("fly.toml", "app = \"x\"\n[build]\ndockerfile = \"Dockerfile\"\n"),
    ] {
        assert!(matches!(refusal(name, text), (1, SourceProblem::NotRead(_))), "{name}: {text}");
    }
}

#[test]
fn unknown_kinds_with_the_key_image() {
    for (name, text, line) in [
        ("ci/base.yml", ".base: {image: alpine}\n", 1),
        ("ci/base.yml", "x: 1\ndefault: {image: ruby}\n", 2),
        ("ci/base.yml", "default:\n  image: {name: ruby, entrypoint: ['']}\n", 2),
        ("ci/base.yml", "default:\n  services: ['a/b:1']\n", 2),
        ("x.yaml", "image: images/app:1\n", 1),
        ("x.yaml", "web: {repository: a/b, tag: v1}\n", 1),
        ("x.json", "{\"web\": {\"repository\": \"a/b\", \"tag\": \"v1\"}}", 1),
    ] {
        check(name, text, &[], &[line]);
    }
    let patch = "[{\"op\":\"replace\",\"path\":\"/spec/containers/0/image\",\"value\":\"evil/app:1\"}]";
    check("p.json", patch, &["1 evil/app:1"], &[]);
    assert_eq!(refusal("package.json", "{\"repository\": \"a/b\", \"x\": [1, 2}"), (1, SourceProblem::UnknownKind));
}

proptest! {
    #[test]
    fn comments_are_blanks(text in r#"([\[\]{},:"\\/* \na1é]|//|/\*|\*/){0,60}"#) {
        let plain = json::without_comments(&text);
        prop_assert_eq!(plain.matches('\n').count(), text.matches('\n').count());
        prop_assert_eq!(plain.len(), text.len());
    }

    #[test]
    fn no_file_of_a_tool_panics(text in crate::tests::pieces::pieces()) {
        for name in ["a.container", "main.tf", "Earthfile", "Jenkinsfile", "devcontainer.json", ".drone.yml", "docker-bake.json",
            "azure-pipelines.yml", "bitbucket-pipelines.yml", ".circleci/config.yml", "cloudbuild.yaml"] {
            let _ = read_text(name, &text);
        }
    }
}
