use crate::{
    SourceProblem,
    tests::{read_text, refusal, summary},
};

const POD: &str = "{containers: [{image: c:1}, {name: n}], initContainers: [{image: i:1}], \
    ephemeralContainers: [{image: e:1}], volumes: [{image: {reference: v:1}}, {emptyDir: {}}]}";

#[test]
fn every_kind_with_pods() {
    for (kind, open, close) in [
        ("Pod", "spec: ", ""),
        ("PodTemplate", "template: {spec: ", "}"),
        ("Deployment", "spec: {template: {spec: ", "}}"),
        ("StatefulSet", "spec: {template: {spec: ", "}}"),
        ("DaemonSet", "spec: {template: {spec: ", "}}"),
        ("ReplicaSet", "spec: {template: {spec: ", "}}"),
        ("ReplicationController", "spec: {template: {spec: ", "}}"),
        ("Job", "spec: {template: {spec: ", "}}"),
        ("CronJob", "spec: {jobTemplate: {spec: {template: {spec: ", "}}}}"),
    ] {
        let object = format!("{{apiVersion: v1, kind: {kind}, {open}{POD}{close}}}");
        let want = ["c", "i", "e", "v"].map(|name| format!("1 docker.io/library/{name}:1"));
        assert_eq!(summary("x.yaml", &object), (want.to_vec(), vec![]), "{kind}");
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {object}\n- {{apiVersion: v1, kind: Secret}}\n");
        assert_eq!(summary("x.yaml", &list).0.len(), 4, "{kind}");
        let typed = format!("apiVersion: apps/v1\nkind: {kind}List\nitems: [{object}]\n");
        assert_eq!(summary("x.yaml", &typed).0.len(), 4, "{kind}");
    }
}

#[test]
fn streams_of_documents() {
    let text = "\
---
# Source: app/config.yaml
---
apiVersion: v1
kind: ConfigMap
data:
  rule: |
    {{ $labels.instance }} is down
  image: not:one
---
apiVersion: v1
kind: Pod
spec:
  containers:
    - name: a
      image: registry.example/a@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79
    - image: $(VAR)
";
    let (images, notes) = summary("x.yaml", text);
    assert_eq!(
        images,
        ["16 registry.example/a@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79"]
    );
    assert!(notes.len() == 1 && notes[0].starts_with("17 "), "{notes:?}");
    assert!(read_text("x.yaml", "apiVersion: v1\nkind: Secret\n").unwrap().images.is_empty());
}

#[test]
fn templates_are_refused_with_their_line() {
    for (line, text) in [
        (3, "apiVersion: v1\nkind: Pod\nspec: {{ toYaml .Values.spec | nindent 2 }}\n"),
        (1, "{{- if .Values.enabled }}\napiVersion: v1\nkind: Pod\n{{- end }}\n"),
        (
            5,
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - image: \"{{ .Values.image }}:{{ .Values.tag }}\"\n",
        ),
        (5, "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - image: a:{{ .Values.tag }}\n"),
        (4, "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {{- include \"x\" . | nindent 4 }}\n"),
    ] {
        assert_eq!(refusal("x.yaml", text), (line, SourceProblem::Template), "{text}");
    }
    assert!(matches!(refusal("x.yaml", "a: '{{ x }}'\nb: [\n"), (2, SourceProblem::SyntaxError(_))));
}

#[test]
fn nested_lists_are_bounded() {
    let item = |level: usize| format!("*l{level}, ").repeat(10);
    let mut text = "x0: &l0 {kind: Pod}\n".to_owned();
    for level in 1..20 {
        text += &format!("x{level}: &l{level} {{kind: List, items: [{}]}}\n", item(level - 1));
    }
    text += "apiVersion: v1\nkind: List\nitems: [*l19]\n";
    assert!(matches!(refusal("x.yaml", &text).1, SourceProblem::SyntaxError(_)));
}

/// The images found, and the lines of the notes.
pub fn found(text: &str) -> (Vec<String>, Vec<usize>) {
    let (images, notes) = summary("x.yaml", text);
    let line = |note: &String| note.split(' ').next().and_then(|line| line.parse().ok());
    (images, notes.iter().filter_map(line).collect())
}

const NO_LINES: [usize; 0] = [];

/// An object that has `image` at a path, in lists where the path says `[]`.
fn object_at(group: &str, kind: &str, path: &str) -> String {
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    let keys: Vec<&str> =
        path.split('.').filter(|key| !key.is_empty()).map(|key| if key == "*" { "any" } else { key }).collect();
    let (last, above) = keys.split_last().unwrap();
    // What is named by one text is at its key; all else is a mapping with an image.
    let value = |key: &str| match key {
        "imageName" | "image" | "package" | "url" | "runtimeImage" => "'registry.example/a:1'",
        "from" => "{kind: DockerImage, name: 'registry.example/a:1'}",
        key if key.ends_with("Image") || key.ends_with("ImageURL") => "'registry.example/a:1'",
        _ => "{image: 'registry.example/a:1'}",
    };
    let open: String = above.iter().map(|key| format!("{key}: {{")).collect();
    format!("{{apiVersion: {version}, kind: {kind}, {open}{last}: {}{}}}", value(last), "}".repeat(above.len()))
}

#[test]
fn every_place_of_the_well_known_kinds_is_read() {
    for known in super::well_known::all() {
        for kind in known.kinds {
            assert!(super::builtin::find(known.group, kind).is_none(), "{kind}");
            for path in known.paths() {
                let text = object_at(known.group, kind, &path);
                assert_eq!(found(&text), (vec!["1 registry.example/a:1".to_owned()], vec![]), "{text}");
            }
        }
    }
}

#[test]
fn kinds_are_told_by_their_group() {
    let pod = |api: &str, kind: &str| {
        format!("{{apiVersion: {api}, kind: {kind}, spec: {{template: {{spec: {{containers: [{{image: a:1}}]}}}}}}}}")
    };
    let image = vec!["1 docker.io/library/a:1".to_owned()];
    for (api, kind) in [
        ("apps/v1", "Deployment"),
        ("extensions/v1beta1", "Deployment"),
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("serving.knative.dev/v1", "Service"),
        ("argoproj.io/v1alpha1", "Rollout"),
    ] {
        assert_eq!(found(&pod(api, kind)), (image.clone(), vec![]), "{api}");
    }
    for (api, kind) in [
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("gateway.networking.k8s.io/v1", "Deployment"),
        ("batch.k8s.io/v1", "Job"),
        ("v1", "Service2"),
        ("app/v1", "Deployment"),
        ("example.com/v1", "Service"),
    ] {
        assert_eq!(found(&pod(api, kind)), (vec![], vec![1]), "{api}");
    }
    assert_eq!(found(&pod("v1", "Service")), (vec![], vec![]));
}

#[test]
fn lists_and_kinds_that_are_called_list() {
    let item = "{spec: {containers: [{image: a:1}]}}";
    let image = vec!["1 docker.io/library/a:1".to_owned()];
    assert_eq!(found(&format!("{{apiVersion: v1, kind: PodList, items: [{item}]}}")), (image.clone(), vec![]));
    let json = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n\t{{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t{}}}]}}",
        "\"spec\": {\"containers\": [{\"image\": \"a:1\"}]}"
    );
    let (images, notes) = summary("x.json", &json);
    assert!(images == ["3 docker.io/library/a:1"] && notes.is_empty(), "{images:?} {notes:?}");
    let named = |rest: &str| format!("{{apiVersion: net.example.com/v1, kind: AllowList, {rest}}}");
    assert_eq!(found(&named("spec: {containers: [{image: a:1}]}")), (vec![], vec![1]));
    assert_eq!(found(&named(&format!("items: [{item}], spec: {{image: 'b:1'}}"))), (vec![], vec![1, 1]));
    assert_eq!(found(&named("items: {a: {image: b}}")), (vec![], vec![1]));
    assert_eq!(found(&format!("{{apiVersion: v1, kind: List, items: {item}}}")), (vec![], vec![1]));
    assert_eq!(found("{apiVersion: v1, kind: List, items: []}"), (vec![], vec![]));
}

#[test]
fn keys_and_values_that_may_name_an_image() {
    let of = |spec: &str| found(&format!("apiVersion: x.example/v1\nkind: Tool\nspec:\n  {spec}\n")).1.len();
    for spec in [
        "image: busybox",
        "initImage: busybox",
        "init-image: a/b",
        "imageName: a:1",
        "initImageURL: a",
        "image_web: quay.io/a",
        "nodeImage: a",
        "image_name: a",
        "images: [a]",
        "images: {web: nginx:1}",
        "any: registry.example/a:1",
        "any: [localhost:5000/a@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79]",
        "any: docker://a",
        "any: oci://registry.example/a",
        "image: {name: a}",
        "image: {repository: r.example/a}",
        "any: {repository: a, tag: '1'}",
        "image: {tag: '1', name: a}",
        "any: {repository: nvcr.io/nvidia, image: driver, version: '1'}",
        "any: {image: a, tag: '1'}",
        "imageTag: {name: a, newTag: '1'}",
        "image: {image: 'a:1', tag: '2'}",
        "image: '{{inputs.parameters.image}}'",
        "image: Registry.example/A:1",
        "volumes: [{image: {reference: a:1}}]",
        "text: \"containers:\\n- image: a\\n\"",
        "patch: '[{\"image\": \"a\"}]'",
        "patch: '[{\"op\": \"replace\", \"path\": \"/spec/image\", \"value\": \"a\"}]'",
        "source: {image: a}",
    ] {
        assert_eq!(of(spec), 1, "{spec}");
    }
    for spec in [
        "imagePullPolicy: Always",
        "imageTag: v1",
        "imagePath: /var/lib/a",
        "image: ''",
        "osImage: ubuntu",
        "any: a:1",
        "any: example.com:8080",
        "any: registry.example/a",
        "url: https://registry.example/a:1",
        "volumes: [{rbd: {image: disk}}]",
        "env: [{name: RELATED_IMAGE_A, value: registry.example/a:1}]",
        "args: [registry.example/a:1]",
        "repository: owner/name",
        "enableImage: true",
        "text: \"a\\nb: c\\n\"",
    ] {
        assert_eq!(of(spec), 0, "{spec}");
    }
}

#[test]
fn machines_of_clouds_have_images_too() {
    let of = |image: &str| {
        found(&format!("{{apiVersion: infrastructure.cluster.x-k8s.io/v1, kind: M, spec: {{image: '{image}'}}}}")).1
    };
    assert_eq!(of("ubuntu-22.04"), NO_LINES);
    assert_eq!(of("registry.example/a:1"), [1]);
}

#[test]
fn annotations_that_name_an_image() {
    let pod = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    metadata:
      annotations:
        sidecar.istio.io/proxyImage: registry.example/proxy:1
        example.com/text: registry.example/text:1
    spec: {containers: []}
";
    let (_, notes) = summary("x.yaml", pod);
    assert!(notes.len() == 1 && notes[0].starts_with("7 "), "{notes:?}");
    let option = "Deployment:spec.template.metadata.annotations[\"sidecar.istio.io/proxyImage\"]";
    assert!(notes[0].contains(option), "{notes:?}");
    let crd_paths = vec![option.parse().unwrap()];
    let found =
        crate::tests::read_text_with("x.yaml", pod, &crate::Options { crd_paths, ..Default::default() }).unwrap();
    assert!(found.images.len() == 1 && found.left_out.is_empty(), "{found:?}");
}

#[test]
fn argo_workflows_with_parameters() {
    let workflow = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec:
  arguments:
    parameters:
      - {name: tag, value: '3'}
  templates:
    - container: {image: 'busybox:{{workflow.parameters.tag}}'}
    - script:
        image: '{{ inputs.parameters.image }}'
        source: |
          image: text
    - containerSet: {containers: [{image: a:1}]}
      initContainers: [{image: b:1}]
      sidecars: [{image: c:1}]
    - resource:
        manifest: |
          kind: Job
          image: d:1
  podSpecPatch: '{\"containers\": [{\"image\": \"e\"}]}'
";
    let images = [
        "8 docker.io/library/busybox:3",
        "13 docker.io/library/a:1",
        "14 docker.io/library/b:1",
        "15 docker.io/library/c:1",
    ];
    let (own, notes) = found(workflow);
    assert_eq!(own, images);
    assert_eq!(notes, [10, 18, 20]);
    // A template of Helm is for Helm, not for the cluster.
    let helm = workflow.replace("inputs.parameters.image", ".Values.image");
    assert_eq!(refusal("x.yaml", &helm), (10, SourceProblem::Template));
}

#[test]
fn tekton_with_parameters() {
    let task = "\
apiVersion: tekton.dev/v1
kind: Task
spec:
  params:
    - {name: image, default: 'registry.example/a:1'}
    - {name: tag}
  stepTemplate: {image: ubuntu}
  steps:
    - image: $(params.image)
    - image: b:$(params.tag)
    - image: $(inputs.params.image)
    - ref: {name: other}
";
    let (images, notes) = found(task);
    assert_eq!(images, ["7 docker.io/library/ubuntu", "9 registry.example/a:1", "11 registry.example/a:1"]);
    assert_eq!(notes, [10]);
    let run = "\
apiVersion: tekton.dev/v1
kind: PipelineRun
spec:
  params: [{name: image, value: 'registry.example/b:2'}, {name: own, value: 'c'}]
  pipelineSpec:
    params: [{name: image, default: 'a'}]
    tasks:
      - taskSpec: {params: [{name: own}], steps: [{image: $(params.own)}, {image: $(params.image)}]}
";
    assert_eq!(found(run), (vec!["8 registry.example/b:2".to_owned()], vec![8]));
}

#[test]
fn openshift_templates_and_references() {
    let template = "\
apiVersion: template.openshift.io/v1
kind: Template
parameters:
  - {name: TAG, value: v1}
  - {name: NONE}
objects:
  - apiVersion: apps.openshift.io/v1
    kind: DeploymentConfig
    spec: {template: {spec: {containers: [{image: 'a:${TAG}'}, {image: '${NONE}'}]}}}
  - apiVersion: apps/v1
    kind: Deployment
    spec: {template: {spec: {containers: [{image: 'b:${{TAG}}'}]}}}
  - apiVersion: v1
    kind: BuildConfig
    spec:
      strategy: {sourceStrategy: {from: {kind: DockerImage, name: c:1}}}
      source: {images: [{from: {kind: ImageStreamTag, name: 'd:1'}}]}
      output: {to: {kind: DockerImage, name: registry.example/result:1}}
  - apiVersion: image.openshift.io/v1
    kind: ImageStream
    spec: {tags: [{from: {kind: DockerImage, name: e:1}}, {from: {kind: ImageStreamTag, name: '1'}}]}
";
    let images = [
        "9 docker.io/library/a:v1",
        "12 docker.io/library/b:v1",
        "16 docker.io/library/c:1",
        "21 docker.io/library/e:1",
    ];
    let (own, notes) = found(template);
    assert_eq!(own, images);
    assert_eq!(notes, [9, 17]);
    let excluded = read_text("x.yaml", template).unwrap().excluded;
    assert!(excluded.len() == 1 && excluded[0].place.line == 18, "{excluded:?}");
}

#[test]
fn prometheus_with_the_older_keys() {
    let of = |spec: &str| found(&format!("apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nspec:\n  {spec}\n"));
    assert_eq!(of("{baseImage: quay.io/a, tag: v1}"), (vec![], vec![4]));
    let both = of("{image: 'a:1', baseImage: quay.io/a, thanos: {image: 'b:1'}, initContainers: [{image: 'c:1'}]}");
    assert_eq!(both, (["c", "a", "b"].map(|name| format!("4 docker.io/library/{name}:1")).to_vec(), vec![]));
    assert_eq!(
        found("apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nspec: {image: a}\n"),
        (vec![], vec![])
    );
}

#[test]
fn values_of_helm_releases() {
    let release = "\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
spec:
  chart: {spec: {chart: app, version: 1.0.0}}
  values:
    image:
      repository: registry.example/a
      tag: v1@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79
    worker:
      image: {registry: registry.example, repository: b, digest: 'sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79'}
    whole: {image: 'registry.example/c:1'}
    hub: {image: {repository: d, tag: '1'}}
    open: {image: {repository: registry.example/e}}
    tagged: {image: {tag: v2}}
    initImage: busybox
  postRenderers:
    - kustomize:
        images:
          - {name: f, newName: registry.example/f, newTag: '1'}
          - {name: g, newName: registry.example/g}
";
    let digest = "sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79";
    let (images, notes) = found(release);
    assert_eq!(
        images,
        [
            format!("7 registry.example/a:v1@{digest}"),
            format!("10 registry.example/b@{digest}"),
            "11 registry.example/c:1".to_owned(),
            "19 registry.example/f:1".to_owned(),
        ]
    );
    assert_eq!(notes, [4, 12, 13, 15, 20]);
    let parts = read_text("x.yaml", release).unwrap();
    assert!(parts.images[0].span.is_none() && parts.images[2].span.is_some());
}

#[test]
fn values_of_charts() {
    let values = "image: {repository: registry.example/a, tag: v1}\nother: {image: nginx}\nservices: {a: 1}\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values-prod.yaml");
    let read = || crate::read_bytes(&path, values.as_bytes(), &crate::Options::default()).unwrap();
    assert_eq!((read().images.len(), read().left_out.len()), (1, 1), "{:?}", read());
    std::fs::write(directory.path().join("Chart.yaml"), "name: a\n").unwrap();
    assert_eq!((read().images.len(), read().left_out.len()), (0, 2), "{:?}", read());
    assert!(read().left_out[0].reason.contains("helm template"), "{:?}", read());
}

#[test]
fn argo_cd_applications() {
    let application = "\
apiVersion: argoproj.io/v1alpha1
kind: Application
spec:
  source:
    chart: app
    helm:
      parameters:
        - {name: image.repository, value: registry.example/a}
        - {name: image.tag, value: v1}
        - {name: other.image.tag, value: v2}
      valuesObject: {image: {repository: registry.example/b, tag: v1}}
      values: |
        image:
          repository: c
  sources:
    - kustomize:
        images: ['d=registry.example/d:1', 'registry.example/e']
";
    let (images, notes) = found(application);
    assert_eq!(images, ["8 registry.example/a:v1", "11 registry.example/b:v1", "17 registry.example/d:1"]);
    assert_eq!(notes, [5, 10, 13, 17]);
}

#[test]
fn artifacts_of_flux() {
    let of = |reference: &str| {
        found(&format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nspec:\n  url: oci://registry.example/a\n{reference}"
        ))
    };
    assert_eq!(of("  ref: {tag: '1'}\n"), (vec!["4 registry.example/a:1".to_owned()], vec![]));
    assert_eq!(of(""), (vec!["4 registry.example/a".to_owned()], vec![]));
    assert_eq!(of("  ref: {semver: '>=1'}\n"), (vec![], vec![5]));
}

#[test]
fn names_with_something_before_the_registry() {
    let pod = |image: &str| format!("{{apiVersion: v1, kind: Pod, spec: {{containers: [{{image: '{image}'}}]}}}}");
    for image in ["docker://r.example/a:1", "https://r.example/a:1"] {
        let (images, notes) = summary("x.yaml", &pod(image));
        assert!(images.is_empty() && notes[0].contains("remove what stands before the registry"), "{notes:?}");
    }
    let (images, notes) = summary("x.yaml", &pod("ko://example.com/cmd/a"));
    assert!(images.is_empty() && notes[0].contains("ko resolve"), "{notes:?}");
    let machine = "\
apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
spec: {source: {registry: {url: 'docker://r.example/a:1'}}}
";
    let found = read_text("x.yaml", machine).unwrap();
    assert!(found.images[0].written == "r.example/a:1" && found.images[0].span.is_none(), "{found:?}");
}

#[test]
fn objects_within_objects() {
    let text = "\
apiVersion: work.example/v1
kind: ManifestWork
spec:
  manifests:
    - {apiVersion: v1, kind: Pod, spec: {containers: [{image: a:1}]}}
    - {apiVersion: x.example/v1, kind: Tool, spec: {image: b:1}}
  target: {apiVersion: apps/v1, kind: Deployment, name: x}
";
    let (images, notes) = summary("x.yaml", text);
    assert_eq!(images, ["5 docker.io/library/a:1"]);
    assert!(notes.len() == 1 && notes[0].ends_with("--crd x.example/Tool:spec"), "{notes:?}");
}

#[test]
fn names_in_parts_where_an_option_points() {
    let of = |parts: &str| {
        let text = format!("{{apiVersion: x.example/v1, kind: Tool, spec: {parts}}}");
        let crd_paths = vec!["Tool:spec".parse().unwrap()];
        let options = crate::Options { crd_paths, ..Default::default() };
        let found = crate::tests::read_text_with("x.yaml", &text, &options).unwrap();
        assert!(found.left_out.is_empty(), "{found:?}");
        found.images.into_iter().map(|image| image.written).collect::<Vec<_>>()
    };
    assert_eq!(of("{repository: nvcr.io/nvidia, image: driver, version: '1'}"), ["nvcr.io/nvidia/driver:1"]);
    assert_eq!(of("{image: a, tag: '1', initContainers: [{image: b}]}"), ["a:1", "b"]);
    assert_eq!(of("{image: 'a:1', tag: '2'}"), ["a:1"]);
}

#[test]
fn an_alias_does_not_hide_an_image() {
    let connect = "\
apiVersion: kafka.strimzi.io/v1
kind: KafkaConnect
spec:
  build: {output: {image: &name 'r.example/a:1'}}
  image: *name
";
    assert_eq!(found(connect).0, ["4 r.example/a:1"]);
    let prometheus = "\
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec: {baseImage: &name 'r.example/a:1', image: *name}
";
    assert_eq!(found(prometheus).0, ["3 r.example/a:1"]);
}

/// As kubectl, which looks for `items` and not at the kind.
#[test]
fn objects_of_any_kind_with_items_are_lists() {
    let pod = "{apiVersion: v1, kind: Pod, spec: {containers: [{image: a:1}]}}";
    for list in [
        format!("apiVersion: v1\nkind: ConfigMap\nitems: [{pod}]\n"),
        format!("apiVersion: x.example/v1\nkind: Bundle\nitems: [{pod}]\n"),
        "apiVersion: apps/v1\nkind: Deployment\nitems: [{spec: {template: {spec: {containers: [{image: a:1}]}}}}]\n"
            .to_owned(),
    ] {
        let line = list.lines().count();
        assert_eq!(summary("x.yaml", &list).0, [format!("{line} docker.io/library/a:1")], "{list}");
    }
}

#[test]
fn values_in_json() {
    let values = r#"{"controller": {"repository": "r.example/a", "tag": "1"}}"#;
    assert_eq!(summary("values.json", values), (vec!["1 r.example/a:1".to_owned()], vec![]));
    let (images, notes) = summary("prod-values.json", r#"{"initImage": "evil/a:1"}"#);
    assert!(images.is_empty() && notes.len() == 1 && notes[0].contains("helm template"), "{notes:?}");
}

#[test]
fn repositories_of_manifests_are_not_noted() {
    let application = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec: {source: {repoURL: 'https://example.com/a.git', path: apps/a}}\n";
    assert_eq!(found(application), (vec![], vec![]));
    let kustomization = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec: {path: ./apps, sourceRef: {kind: GitRepository, name: a}}\n";
    assert_eq!(found(kustomization), (vec![], vec![]));
}
