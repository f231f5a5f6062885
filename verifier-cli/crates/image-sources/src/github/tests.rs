use crate::tests::{read_text, summary};

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

fn library(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.replacen(' ', " docker.io/library/", 1)).collect()
}

/// A workflow of one job.
fn job(lines: &str) -> String {
    format!("on: push\njobs:\n  a:\n{lines}")
}

fn lines_of(notes: &[String]) -> Vec<&str> {
    notes.iter().map(|note| note.split_once(' ').unwrap().0).collect()
}

#[test]
fn the_prefix_of_images_is_taken_off() {
    let text = job(
        "    container: docker://a:1\n    services: {b: {image: 'docker://b:2'}}\n    steps: [{uses: 'Docker://c:3'}]\n",
    );
    assert_eq!(summary("w.yml", &text), (library(&["4 a:1", "5 b:2", "6 c:3"]), vec![]));
    let images = read_text("w.yml", &text).unwrap().images;
    assert!(images.iter().all(|image| text[image.span.clone().unwrap()] == image.written), "{images:?}");
}

#[test]
fn a_matrix_in_the_file_gives_all_images() {
    let text = job("    strategy:
      matrix:
        db: [a:1, '', docker://b:2]
        Version: [1, '3.10']
        exclude: [{db: a:1, version: 1}]
        include:
          - {db: b:2, version: 1, variant: -slim}
          - {db: docker://b:2, extra: x:9}
          - {db: e:5}
          - {base: {image: f:6, options: -x}}
    container: ${{ matrix.db }}
    services:
      a: {image: \"c:${{matrix.version}}${{ matrix.variant }}\"}
      b: {image: \"${{ matrix['extra'] || 'd:4' }}\"}
      c: ${{ matrix.base }}
      d: {image: \"${{ matrix.none }}\"}
");
    let (images, notes) = summary("w.yml", &text);
    let want = ["14 a:1", "14 b:2", "14 e:5", "16 c:1", "16 c:1-slim", "16 c:3.10", "17 d:4", "17 x:9", "18 f:6"];
    assert_eq!(images, library(&want));
    // Where neither axis has a value, a name ends in its colon.
    assert_eq!(lines_of(&notes), ["16"], "{notes:?}");
    assert!(read_text("w.yml", &text).unwrap().images.iter().all(|image| image.span.is_none()));
}

#[test]
fn expressions_without_a_value_in_the_file_are_noted() {
    let text = job("    strategy: {matrix: {a: [x:1], v: [3.10], w: \"${{ fromJSON(inputs.w) }}\"}}
    container: ${{ inputs.image }}
    services:
      a: {image: \"a:${{ matrix.v }}\"}
      b: {image: \"b:${{ matrix.w.x }}\"}
      c: {image: \"${{ format('{0}', matrix.a) }}\"}
      d: {image: \"${{ matrix.a && 'c' }}\"}
      e: {image: \"${{ matrix.a\"}
");
    let (images, notes) = summary("w.yml", &text);
    assert_eq!(images, [""; 0]);
    assert_eq!(lines_of(&notes), ["5", "7", "8", "9", "10", "11"], "{notes:?}");
    assert!(notes[1].contains("3.10 is a number"), "{notes:?}");
    for matrix in ["${{ fromJSON(needs.x.outputs.y) }}", "{include: '${{ x }}'}", "{a: [a:1], exclude: '${{ x }}'}"] {
        let text = job(&format!(
            "    strategy: {{matrix: {matrix}}}\n    container: ${{{{ matrix.a }}}}\n    services: ${{{{ x }}}}\n"
        ));
        let text = text
            .replace("matrix: ${{ fromJSON(needs.x.outputs.y) }}}", "matrix: '${{ fromJSON(needs.x.outputs.y) }}'}");
        let (images, notes) = summary("w.yml", &text);
        assert!(images.is_empty(), "{images:?}");
        assert_eq!(lines_of(&notes), ["5", "6"], "{notes:?}");
    }
}

#[test]
fn large_matrices_are_refused() {
    let values = (0..300).map(|n| format!("a:{n}")).collect::<Vec<_>>().join(", ");
    let of = |matrix: &str| {
        summary("w.yml", &job(&format!("    strategy: {{matrix: {matrix}}}\n    container: ${{{{ matrix.a }}}}\n")))
    };
    let (images, notes) = of(&format!("{{a: [{values}]}}"));
    assert!(images.is_empty() && notes.len() == 1 && notes[0].contains("over 256"), "{notes:?}");
    assert_eq!(of("{a: [a:1, b:2], b: [1, 2]}").0.len(), 2);
    // Many jobs that share one matrix.
    let values = (0..256).map(|n| format!("a:{n}")).collect::<Vec<_>>().join(", ");
    let jobs: String =
        (0..1000).map(|n| format!("  j{n}: {{strategy: *s, container: '${{{{ matrix.a }}}}'}}\n")).collect();
    let text = format!("on: push\nx: &s {{matrix: {{a: [{values}]}}}}\njobs:\n{jobs}");
    let (_, notes) = summary("w.yml", &text);
    assert!(notes.last().is_some_and(|note| note.contains("too many jobs")), "{:?}", notes.last());
}

#[test]
fn inputs_of_known_actions_are_images() {
    let text = job("    steps:
      - {uses: Docker/Setup-QEMU-action@v3, with: {image: a:1}}
      - uses: docker/setup-buildx-action@v3
        with:
          driver-opts: |
            network=host
            image=b:2
      - {uses: https://example.com/docker/setup-buildx-action@v3, with: {driver-opts: image=c:3}}
      - uses: docker/build-push-action@v6
        with:
          build-contexts: |
            src=./src
            base=docker-image://d:4
            ${{ inputs.contexts }}
          build-args: BUILDKIT_SYNTAX=e:5
          sbom: generator=f:6
          attests: type=sbom,generator=g:7,x=y
          tags: no:1
      - {uses: PyO3/maturin-action@v1, with: {container: off}}
      - {uses: helm/kind-action@v1, with: {node_image: \"kindest/node:${{ env.V }}\"}}
      - {uses: other/action@v1, with: {image: no:2}}
");
    let (images, notes) = summary("w.yml", &text);
    assert_eq!(images, library(&["5 a:1", "10 b:2", "11 c:3", "16 d:4", "18 e:5", "19 f:6", "20 g:7"]));
    assert_eq!(lines_of(&notes), ["17", "23"], "{notes:?}");
    let composite = "runs:\n  using: composite\n  steps:\n  - {uses: docker/setup-qemu-action@v3, with: {image: '${{ matrix.x }}'}}\n";
    assert_eq!(lines_of(&summary("action.yml", composite).1), ["4"]);
}

#[test]
fn labels_of_runners_may_name_an_image() {
    for labels in ["x:docker://a:1", "[y, 'x:docker://a:1']", "{labels: ['x:docker://a:1']}"] {
        assert_eq!(
            summary("w.yml", &job(&format!("    runs-on: {labels}\n"))),
            (library(&["4 a:1"]), vec![]),
            "{labels}"
        );
    }
}

#[test]
fn a_quoted_value_is_not_the_number_written_like_it() {
    let text = "\
on: push
jobs:
  a:
    strategy:
      matrix:
        v: ['3.9', '3.10']
        exclude: [{v: 3.10}]
    container: python:${{ matrix.v }}
  b:
    strategy: {matrix: {tag: ['0']}}
    container: x:${{ matrix.tag || 'latest' }}
";
    let (images, notes) = summary(".github/workflows/ci.yml", text);
    assert_eq!(images, ["8 docker.io/library/python:3.10", "8 docker.io/library/python:3.9"]);
    assert!(notes.len() == 1 && notes[0].starts_with("11 "), "{notes:?}");
}
