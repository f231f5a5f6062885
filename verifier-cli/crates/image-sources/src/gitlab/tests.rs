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
fn circular_variables_are_unknown() {
    let text = "variables: {A: $B, B: $A}\njob:\n  image: a:$A\n  script: x\n";
    let (images, notes) = summary("x.yml", text);
    assert!(images.is_empty() && notes.len() == 1 && notes[0].starts_with("3 "), "{images:?} {notes:?}");
}

fn library(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.replacen(' ', " docker.io/library/", 1)).collect()
}

/// The images of a line come in the order of the jobs.
fn sorted(mut images: Vec<String>) -> Vec<String> {
    images.sort();
    images
}

fn lines_of(notes: &[String]) -> Vec<&str> {
    notes.iter().map(|note| note.split_once(' ').unwrap().0).collect()
}

#[test]
fn each_job_has_its_own_variables() {
    let text = "\
variables: {V: 0, W: x}
.base:
  image: a:$V
  variables: {V: v1}
  services: [\"b:$V-$W\"]
.other: {variables: {V: v3, W: y}}
one: {extends: .base, script: x}
two: {extends: [.base, .other], script: x}
three: {extends: [.other, .base], variables: {W: z}, script: x}
four: {extends: .base, script: x, variables: {V: v4}, services: []}
five: {extends: .base, script: x, image: {entrypoint: ['']}}
";
    let (images, notes) = summary("x.yml", text);
    let want = ["3 a:v1", "3 a:v3", "3 a:v4", "5 b:v1-x", "5 b:v1-z", "5 b:v3-y"];
    assert_eq!((sorted(images), notes), (library(&want), vec![]));
}

#[test]
fn mappings_are_merged_and_references_follow_what_is_extended() {
    let text = "\
.a: {image: {name: 'a:$V', entrypoint: ['']}, variables: {V: 1}}
.b: {extends: .a}
x: {extends: .a, image: {pull_policy: always}, script: x}
y: {image: !reference [.b, image], variables: {V: 2}, script: x}
z: {extends: .a, variables: !reference [.v], script: x}
.v: {V: 3}
w: {extends: .a, image: b, script: x}
";
    let (images, notes) = summary("x.yml", text);
    assert_eq!((images, notes), (library(&["1 a:1", "1 a:2", "1 a:3", "7 b"]), vec![]));
}

#[test]
fn defaults_are_read_in_the_jobs_that_take_them() {
    let text = "\
variables: {V: 1}
default: {image: a:$V, services: [b:$V]}
one: {script: x}
two: {variables: {V: 2}, script: x, inherit: {default: [image]}}
three: {variables: {V: 3}, script: x, inherit: {default: false}}
four: {variables: {V: 4}, trigger: x/y}
five: {variables: {V: 5}, script: x, services: [], image: null}
six: {script: x, image: c:$V, services: [], inherit: {variables: false}}
";
    let (images, notes) = summary("x.yml", text);
    assert_eq!(sorted(images), library(&["2 a:1", "2 a:2", "2 a:5", "2 b:1"]));
    assert!(notes.len() == 1 && notes[0].starts_with("8 variable V has no value"), "{notes:?}");
    let unused = "image: a:1\nservices: [b:$CI_X]\none: {script: x, image: c, services: []}\n";
    let (images, notes) = summary("x.yml", unused);
    assert_eq!((images, lines_of(&notes)), (library(&["1 a:1", "3 c"]), vec!["2"]));
}

#[test]
fn matrices_rules_and_options_are_all_read() {
    let text = "\
variables:
  V: {value: v1, options: [v1, v9]}
  R: r
workflow:
  rules:
    - {if: $A, variables: {R: r2}}
    - {if: $B, when: never, variables: {R: no}}
    - when: always
matrix:
  parallel:
    matrix:
      - {M: [m1, m2], N: n}
      - {M: m3}
  image: a:$M-$R
  script: x
rules:
  image: b:$V
  rules:
    - {if: $A, variables: {V: v2}}
    - !reference [.rules, rules]
  script: x
job:
  image: c:$R
  variables: {R: r3}
  script: x
.rules: {rules: [{if: $B}, {when: never, variables: {V: no}}]}
";
    let (images, notes) = summary("x.yml", text);
    let want = [
        "14 a:m1-r",
        "14 a:m1-r2",
        "14 a:m2-r",
        "14 a:m2-r2",
        "14 a:m3-r",
        "14 a:m3-r2",
        "17 b:v1",
        "17 b:v2",
        "17 b:v9",
        "23 c:r3",
    ];
    assert_eq!((sorted(images), notes), (library(&want), vec![]));
}

#[test]
fn the_number_of_combinations_is_bounded() {
    let values = (0..40).map(|n| format!("v{n}")).collect::<Vec<_>>().join(", ");
    let job = |image: &str| {
        format!("job:\n  parallel: {{matrix: [{{A: [{values}], B: [{values}]}}]}}\n  image: {image}\n  script: x\n")
    };
    assert_eq!(summary("x.yml", &job("a:$A")).0.len(), 40);
    let (images, notes) = summary("x.yml", &job("a:$A-$B"));
    assert!(images.is_empty() && notes.len() == 1 && notes[0].contains("too many combinations"), "{notes:?}");
    let jobs: String = (0..1000).map(|n| format!("j{n}: {{extends: .a, image: \"a:$A-$A\", script: x}}\n")).collect();
    let many = (0..900).map(|n| format!("{{A: v{n}}}")).collect::<Vec<_>>().join(", ");
    let (_, notes) = summary("x.yml", &format!(".a: {{parallel: {{matrix: [{many}]}}}}\n{jobs}"));
    assert!(notes.last().is_some_and(|note| note.contains("too many combinations")), "{:?}", notes.last());
}

#[test]
fn values_of_values_stay_small() {
    let doubling: String = (1..60).map(|n| format!("  A{n}: $A{0}$A{0}\n", n - 1)).collect();
    let text = format!("variables:\n  A0: \"\"\n  B: x\n{doubling}job:\n  image: a:$A59$B\n  script: x\n");
    assert_eq!(summary("x.yml", &text).0, library(&["64 a:x"]));
    let long = text.replace("A0: \"\"", "A0: x");
    assert!(summary("x.yml", &long).1[0].contains("over 1024 bytes"));
    let chain: String = (0..50_000).map(|n| format!("  A{n}: $A{}\n", n + 1)).collect();
    let text = format!("variables:\n{chain}job:\n  image: a:$A0\n  script: x\n");
    assert!(summary("x.yml", &text).1[0].contains("too many others"));
}

#[test]
fn only_forms_that_the_runner_knows_are_variables() {
    let text = "\
variables: {A: 1, B: 3.10, C: {value: 'x$A', expand: 'false'}, D: '3.10'}
job:
  image: a:${A:-2}
  services: ['b:$B', 'c:$C', 'd:$D', 'e:$$A', 'f:${A}']
  script: x
";
    let (images, notes) = summary("x.yml", text);
    assert_eq!(images, library(&["4 d:3.10", "4 f:1"]));
    assert_eq!(lines_of(&notes), ["3", "4", "4", "4"], "{notes:?}");
    assert!(notes[0].contains("${A:-2} is not a variable") && notes[1].contains("3.10 is a number"), "{notes:?}");
}

#[test]
fn inputs_have_their_default_or_options_or_a_note() {
    let text = "\
spec:
  inputs:
    image: {default: 'a:1'}
    tag: {options: [x, y]}
    none:
---
one: {image: '$[[ inputs.image ]]', script: x}
two: {image: 'b:$[[inputs.tag]]', script: x}
three: {image: 'c:$[[ inputs.none ]]', script: x}
four: {image: 'd:$V', variables: {V: '$[[ inputs.tag ]]'}, script: x}
five: {image: 'e:$[[ inputs.tag | truncate(0,1) ]]', script: x}
";
    let (images, notes) = summary("x.yml", text);
    assert_eq!(images, library(&["7 a:1", "8 b:x", "8 b:y", "10 d:x", "10 d:y"]));
    assert_eq!(lines_of(&notes), ["7", "9", "11"], "{notes:?}");
    assert!(notes[0].contains("input image") && notes[1].contains("input none"), "{notes:?}");
}

#[test]
fn what_is_not_in_the_file_is_noted() {
    let (_, notes) = summary("x.yml", "job:\n  extends: .elsewhere\n  script: x\n");
    assert!(notes.len() == 1 && notes[0].starts_with("2 extends what is not in this file"), "{notes:?}");
    let (_, notes) = summary("x.yml", "include: a.yml\njob:\n  extends: .elsewhere\n  script: x\n");
    assert!(notes.len() == 1 && notes[0].starts_with("1 included files"), "{notes:?}");
    let rules = "job:\n  rules: [!reference [.elsewhere, rules]]\n  image: a:$V\n  services: [b:1]\n  variables: {V: 1}\n  script: x\n";
    let (images, notes) = summary("x.yml", rules);
    assert_eq!(images, library(&["3 a:1", "4 b:1"]));
    assert!(notes.len() == 1 && notes[0].starts_with("3 rules that are not in this file"), "{notes:?}");
    let circle = ".a: {extends: .b, image: a:1}\n.b: {extends: .a}\njob: {extends: .a, script: x}\n";
    let (images, notes) = summary("x.yml", circle);
    assert_eq!((images, notes.is_empty()), (library(&["1 a:1"]), false));
    let run = "stages: [a]\njob:\n  stage: a\n  run:\n  - {name: x, step: ./local}\n  - {name: y, step: {oci: {registry: r, repository: s, tag: t}}}\n";
    let (_, notes) = summary("x.yml", run);
    assert_eq!(lines_of(&notes), ["6"], "{notes:?}");
}

#[test]
fn a_job_may_be_called_spec() {
    let (images, notes) = summary(".gitlab-ci.yml", "spec:\n  image: a:1\n  script: rspec\n");
    assert_eq!((images, notes), (vec!["2 docker.io/library/a:1".to_owned()], vec![]));
}

#[test]
fn lists_that_refer_to_lists_many_times_are_bounded() {
    let list = |level: usize| format!("!reference [.l{level}, services], ").repeat(10);
    let mut text: String = (1..10).map(|level| format!(".l{level}:\n  services: [{}]\n", list(level + 1))).collect();
    text += ".l10: {services: [a:1]}\njob:\n  services: !reference [.l1, services]\n  script: x\n";
    let (images, notes) = summary(".gitlab-ci.yml", &text);
    assert!(images.contains(&"19 docker.io/library/a:1".to_owned()) && !notes.is_empty(), "{images:?} {notes:?}");
}
