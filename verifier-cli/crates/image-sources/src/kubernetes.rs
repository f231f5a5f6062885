//! Kubernetes manifests: the images of every kind that has a pod template.

use taglog_proto::name::Reference;

use super::{crd::CrdPath, model::SourceError, scan::FileScan, yaml::Node};

/// Where a pod lists its containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Whether a document says of itself that it is a Kubernetes object.
pub fn is_manifest(document: &Node) -> bool {
    let says = |key: &str| document.get(key).is_some_and(|node| node.text().is_some());
    says("apiVersion") && says("kind")
}

/// Finds the images of an object, or of each object in a list; in custom kinds where `custom` says.
///
/// # Errors
/// An image with a template in it.
pub fn read(object: &Node, custom: &[CrdPath], scan: &mut FileScan) -> Result<(), SourceError> {
    let kind = object.get("kind").and_then(Node::text).unwrap_or("");
    if kind.ends_with("List") {
        let items = object.get("items").into_iter().flat_map(Node::items);
        return items.into_iter().try_for_each(|item| read(item, custom, scan));
    }
    let group = object.get("apiVersion").and_then(Node::text).and_then(|version| version.split_once('/'));
    let group = group.map_or("", |(group, _)| group);
    let mut known = false;
    for path in custom.iter().filter(|path| path.is_for(group, kind)) {
        known = true;
        path.places(object).into_iter().try_for_each(|place| read_custom(place, scan))?;
    }
    match pod_spec(kind) {
        Some(path) => object.at(path).map_or(Ok(()), |spec| read_pod(spec, scan)),
        None if known => Ok(()),
        None => {
            note_images(group, kind, object, scan);
            Ok(())
        }
    }
}

/// What stands where a [`CrdPath`] ends: a pod, a container, or an image.
fn read_custom(place: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    if CONTAINERS.iter().any(|key| place.get(key).is_some()) {
        read_pod(place, scan)
    } else if let Some(image) = place.get("image") {
        scan.yaml_image(image, |text| Ok(text.to_owned()))
    } else if place.is_mapping() {
        let want = "a pod's specification, a container, or the name of an image";
        scan.leave_out(place.line, &format!("where --crd points there is no image: want {want}"));
        Ok(())
    } else {
        scan.yaml_image(place, |text| Ok(text.to_owned()))
    }
}

/// An object of an unknown kind that has containers, or names an image, is not passed over in silence.
fn note_images(group: &str, kind: &str, object: &Node, scan: &mut FileScan) {
    let mut path = Vec::new();
    let found = containers_below(object, &mut path)
        .or_else(|| is_custom(group).then(|| image_below(object, &mut path)).flatten());
    if let Some((key, line)) = found {
        let slash = if group.is_empty() { "" } else { "/" };
        let at = if path.is_empty() { key.to_owned() } else { path.join(".") };
        let reason =
            format!("the images of kind {kind} are not read: say where they are, --crd {group}{slash}{kind}:{at}");
        scan.leave_out(line, &reason);
    }
}

/// Kubernetes' own groups have no dot, or end like this; what an `image` is in their other kinds is known: none.
fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

fn has_image(container: &Node) -> bool {
    container.children().iter().any(|(key, value)| *key == Some("image") && value.text().is_some())
}

/// The key and the line of the first list of containers, and the path of keys to what holds it.
fn containers_below<'a>(node: &'a Node, path: &mut Vec<&'a str>) -> Option<(&'a str, usize)> {
    let of_containers = |key: &str, child: &Node| CONTAINERS.contains(&key) && child.items().any(has_image);
    first_below(node, &of_containers, path)
}

/// The key and the line of the first name of an image beyond doubt, and the path of keys to what holds it.
fn image_below<'a>(node: &'a Node, path: &mut Vec<&'a str>) -> Option<(&'a str, usize)> {
    let names_one = |key: &str, child: &Node| key == "image" && child.text().is_some_and(is_full_name);
    first_below(node, &names_one, path)
}

/// Whether a text is the name of an image beyond doubt: with a tag or a digest.
fn is_full_name(text: &str) -> bool {
    Reference::parse(text).is_ok_and(|name| name.tag.is_some() || name.digest.is_some())
}

/// The key and the line of the first value that is wanted, and the path of keys to what holds it.
fn first_below<'a>(
    node: &'a Node,
    wanted: &dyn Fn(&str, &Node) -> bool,
    path: &mut Vec<&'a str>,
) -> Option<(&'a str, usize)> {
    for (key, child) in node.children() {
        if let Some(key) = key.filter(|key| wanted(key, child)) {
            return Some((key, child.line));
        }
        let depth = path.len();
        path.extend(key.filter(|key| *key != "<<"));
        let found = first_below(child, wanted, path);
        if found.is_some() {
            return found;
        }
        path.truncate(depth);
    }
    None
}

/// Where a kind has the specification of its pods.
fn pod_spec(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "Pod" => &["spec"],
        "PodTemplate" => &["template", "spec"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            &["spec", "template", "spec"]
        }
        _ => return None,
    })
}

fn read_pod(spec: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let listed = |key: &str| spec.get(key).into_iter().flat_map(Node::items);
    let containers = CONTAINERS.into_iter().flat_map(listed);
    let images = containers.filter_map(|container| container.get("image"));
    let volumes = listed("volumes").filter_map(|volume| volume.at(&["image", "reference"]));
    images.chain(volumes).try_for_each(|image| scan.yaml_image(image, |text| Ok(text.to_owned())))
}

#[cfg(test)]
mod tests {
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
        assert!(matches!(refusal("x.yaml", "a: '{{ x }}'\nb: [\n"), (3, SourceProblem::SyntaxError(_))));
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
}
