//! Kustomizations and patches.

use super::tests::found;
use crate::tests::summary;

#[test]
fn kustomizations() {
    let kustomization = "\
resources: [deployment.yaml, ../base, 'https://example.com/x']
images:
  - name: app
    newName: registry.example/app
    newTag: v2
  - {name: redis, newTag: '7'}
  - {name: b, newName: registry.example/b}
patches:
  - target: {kind: Deployment}
    patch: |-
      - op: replace
        path: /spec/template/spec/containers/0/image
        value: registry.example/app:v3
  - path: p.yaml
  - patch: |-
      spec:
        replicas: 2
helmCharts: [{name: x}]
replacements:
  - {source: {fieldPath: spec.image}, targets: []}
  - {source: {fieldPath: metadata.name}, targets: []}
";
    for (name, text) in [
        ("a/kustomization.yaml", kustomization.to_owned()),
        ("x.yaml", format!("{kustomization}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n")),
    ] {
        let (images, notes) = summary(name, &text);
        assert_eq!(images, ["4 registry.example/app:v2", "6 docker.io/library/redis:7"], "{name}");
        let lines: Vec<&str> = notes.iter().filter_map(|note| note.split(' ').next()).collect();
        assert_eq!(lines, ["1", "3", "7", "11", "18", "20"], "{notes:?}");
        assert!(notes[0].contains("(and 1 more)"), "{notes:?}");
        assert!(notes.iter().filter(|note| note.contains("kubectl kustomize")).count() == 5, "{notes:?}");
    }
    let plain = "resources: [deployment.yaml, ./base]\nnamespace: a\npatches: [{path: p.yaml}]\n";
    assert_eq!(summary("kustomization.yaml", plain), (vec![], vec![]));
}

#[test]
fn json_patches() {
    let patch = "\
- {op: replace, path: /spec/template/spec/containers/0/image, value: 'a:1'}
- op: add
  path: /spec/template/spec/initContainers
  value: [{name: i, image: b:1}]
- {op: remove, path: /spec/template/spec/containers/1/image}
- {op: add, path: /spec/template/spec, value: {containers: [{image: c:1}]}}
";
    let images = ["1 docker.io/library/a:1", "4 docker.io/library/b:1", "6 docker.io/library/c:1"];
    assert_eq!(summary("p.yaml", patch), (images.map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn json_patches_of_what_may_be_an_image_are_noted() {
    let noted = [
        "path: /spec/imageName, value: 'evil/a:1'",
        "path: /spec/baseImage, value: 'evil/a:1'",
        "path: /spec/images/0, value: 'evil/a:1'",
        "path: /spec/images/-, value: 'evil/a:1'",
        "path: /spec/runtime, value: 'evil.example/a:1'",
        "path: '', value: {spec: {imageName: 'evil/a:1'}}",
        "path: /spec, value: {baseImage: 'evil/a:1'}",
        "path: /spec/list, value: [{initImage: 'evil/a:1'}]",
        "path: /spec, value: {source: {repository: evil/a, tag: '1'}}",
        "path: /spec/image/repository, value: evil/a",
        "path: /spec/image/tag, value: '1.2'",
        "path: /spec/imageTag, value: '1.2'",
        "path: /metadata/annotations/sidecar.istio.io~1proxyImage, value: 'evil/a:1'",
    ];
    for operation in noted {
        let (images, notes) = summary("p.yaml", &format!("- {{op: add, {operation}}}\n"));
        let is_noted = notes.len() == 1 && notes[0].contains("kubectl kustomize");
        assert!(images.is_empty() && is_noted, "{operation}: {images:?} {notes:?}");
    }
    let moved = "[{op: copy, from: /metadata/annotations/x, path: /spec/containers/0/image}]";
    assert_eq!(found(moved), (vec![], vec![1]));
    for operation in [
        "path: /spec/replicas, value: 3",
        "path: /spec/imagePullPolicy, value: Always",
        "path: /metadata/labels/imageName, value: a",
        "path: /spec/containers/0/args/-, value: 'r.example/a:1'",
        "path: /spec/containers/0/env/0/value, value: 'r.example/a:1'",
        "path: /spec/containers/0/resources, value: {limits: {cpu: 1}}",
        "path: /spec/repository, value: team/project",
    ] {
        assert_eq!(found(&format!("- {{op: add, {operation}}}\n")), (vec![], vec![]), "{operation}");
    }
    for image in ["'docker://r.example/a:1'", "{repository: r.example/a, tag: '1'}"] {
        let patch = format!("[{{op: add, path: /spec/image, value: {image}}}]");
        assert_eq!(found(&patch), (vec!["1 r.example/a:1".to_owned()], vec![]), "{image}");
    }
    let json = r#"[{"op": "replace", "path": "/spec/runtime", "value": "r.example/a:1"}]"#;
    assert_eq!(summary("p.json", json).1.len(), 1);
}

#[test]
fn patches_in_a_kustomization_are_noted_where_they_may_set_an_image() {
    let of = |patch: &str| {
        let text = quoted(patch);
        let (images, notes) = summary("kustomization.yaml", &format!("patches:\n- patch: {text}\n"));
        assert_eq!(images, [""; 0]);
        notes.len()
    };
    for patch in [
        "- {op: replace, path: /spec/imageName, value: 'evil/a:1'}\n",
        "- {op: replace, path: /spec/runtime, value: 'evil.example/a:1'}\n",
        "spec:\n  imageName: evil/a:1\n",
        "spec:\n  runtime: evil.example/a:1\n",
        "apiVersion: x.example/v1\nkind: Tool\nspec:\n  runtime: evil.example/a:1\n",
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec: {source: {chart: a}}\n",
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {valuesFrom: [{kind: ConfigMap, name: a}]}\n",
        "spec: [\n",
    ] {
        assert_eq!(of(patch), 1, "{patch}");
    }
    for patch in [
        "- {op: replace, path: /spec/replicas, value: 3}\n",
        "spec:\n  replicas: 2\n",
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {interval: 5m}\n",
        "$patch: delete\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
    ] {
        assert_eq!(of(patch), 0, "{patch}");
    }
}

/// A text in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', "\\n"))
}

#[test]
fn texts_with_patches_are_noted_in_custom_objects() {
    let of = |patch: &str| {
        found(&format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec:\n  patches:\n  - patch: |\n{patch}"
        ))
    };
    for patch in [
        "      - op: replace\n        path: /spec/imageName\n        value: evil/a:1\n",
        "      - {op: add, path: \"/spec/baseImage\", value: 'evil/a:1'}\n",
        "      spec:\n        imageName: evil/a:1\n",
    ] {
        assert_eq!(of(patch), (vec![], vec![6]), "{patch}");
    }
    assert_eq!(of("      - op: replace\n        path: /images/0/replicas\n        value: 1\n"), (vec![], vec![]));
}

#[test]
fn a_kustomization_of_flux_is_none_of_kustomize() {
    let text = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec:\n  images:\n    - {name: a, newName: r.example/b, newTag: '2'}\n";
    assert_eq!(summary("kustomization.yaml", text), summary("flux.yaml", text));
    assert_eq!(summary("kustomization.yaml", text).0, ["5 r.example/b:2"]);
}
