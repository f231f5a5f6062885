//! Kubernetes objects: the images of Kubernetes' own kinds, of well-known custom kinds, and of the kinds that `--crd`
//! names. What may name an image elsewhere in an object is noted.

mod builtin;
mod helm;
mod kustomization;
#[cfg(test)]
mod kustomization_tests;
mod names;
mod notes;
mod parameters;
mod special;
mod split;
mod well_known;

use std::{collections::HashSet, path::Path, ptr};

use self::{builtin::BuiltIn, parameters::Parameters};
pub use self::{
    helm::{is_helm_values, read_values},
    kustomization::{is_json_patch, is_kustomization, read_json_patch, read_kustomization},
};
use super::{
    crd::{self, CrdPath},
    model::{SourceError, SourceProblem},
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// Where a pod lists its containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

const SCHEME: &str = "remove what stands before the registry";
const KO: &str = "ko builds it; check what is deployed, ko resolve -f … | taglog verify -f -";

/// Whether a document says of itself that it is a Kubernetes object.
pub fn is_manifest(document: &Node) -> bool {
    let says = |key: &str| document.get(key).is_some_and(|node| node.text().is_some());
    says("apiVersion") && says("kind")
}

/// Whether JSON without a key for images may name one: in the values for a chart, or in a JSON patch.
pub fn may_name_images(path: &Path, json: &str) -> bool {
    helm::has_name_of_values(path) || json.contains("\"op\"")
}

/// Finds the images of an object, or of each object in a list; in custom kinds also where `custom` says.
///
/// # Errors
/// An image with a template of Helm in it.
pub fn read(object: &Node, custom: &[CrdPath], scan: &mut FileScan) -> Result<(), SourceError> {
    Reader::new(custom, scan).object(object, ObjectKind::default())
}

/// The API group, empty for the core, and the kind of an object. The version does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ObjectKind<'n> {
    group: &'n str,
    kind: &'n str,
}

impl<'n> ObjectKind<'n> {
    /// What an object says of itself; where it says nothing, it is of the kind of the list that it is in.
    fn of(object: &'n Node, in_list: ObjectKind<'n>) -> ObjectKind<'n> {
        let text = |key: &str| object.get(key).and_then(Node::text);
        let group = text("apiVersion").map(|version| version.split_once('/').map_or("", |(group, _)| group));
        ObjectKind { group: group.unwrap_or(in_list.group), kind: text("kind").unwrap_or(in_list.kind) }
    }

    /// Whether it is `List`, or a list of one of Kubernetes' own kinds, which has nothing but its items.
    fn is_builtin_list(self) -> bool {
        let ObjectKind { group, kind } = self.of_items();
        (group.is_empty() && kind.is_empty()) || builtin::find(group, kind).is_some()
    }

    /// The kind of the items of a list that do not say theirs, as those of a `PodList`.
    fn of_items(self) -> ObjectKind<'n> {
        ObjectKind { kind: self.kind.strip_suffix("List").unwrap_or(self.kind), ..self }
    }
}

/// Reads objects of one file.
struct Reader<'r, 'n, 't> {
    custom: &'r [CrdPath],
    scan: &'r mut FileScan<'t>,
    /// The values, by their addresses, that were read or noted, so that they are not noted again.
    done: HashSet<*const Node>,
    /// Those of the templates that the object is in.
    parameters: Parameters<'n>,
    /// Whether the object is of a custom kind, or within one: there `{{…}}` may be meant for the cluster.
    within_custom: bool,
}

impl<'r, 'n, 't> Reader<'r, 'n, 't> {
    fn new(custom: &'r [CrdPath], scan: &'r mut FileScan<'t>) -> Reader<'r, 'n, 't> {
        Reader { custom, scan, done: HashSet::new(), parameters: Parameters::default(), within_custom: false }
    }

    fn object(&mut self, object: &'n Node, in_list: ObjectKind<'n>) -> Result<(), SourceError> {
        let own = ObjectKind::of(object, in_list);
        let items = list_items(object, own);
        if let Some(items) = items {
            items.items().try_for_each(|item| self.object(item, own.of_items()))?;
            self.mark(items);
        }
        let custom = self.custom;
        for path in custom.iter().filter(|path| path.is_for(own.group, own.kind)) {
            path.places(object).into_iter().try_for_each(|place| self.crd_place(place))?;
        }
        match builtin::find(own.group, own.kind) {
            Some(BuiltIn::Pods(template)) => self.pods(object, own, template),
            Some(BuiltIn::NoImage) => Ok(()),
            None if items.is_some() && own.is_builtin_list() => Ok(()),
            None => self.custom_object(object, own),
        }
    }

    /// The pods of one of Kubernetes' own kinds, and the images in the annotations of the pods, such as
    /// `sidecar.istio.io/proxyImage`.
    fn pods(&mut self, object: &'n Node, own: ObjectKind<'n>, template: &[&'n str]) -> Result<(), SourceError> {
        let Some(holder) = object.at(template) else { return Ok(()) };
        if let Some(spec) = holder.get("spec") {
            self.place(spec)?;
        }
        let path: Vec<&str> = template.iter().copied().chain(["metadata", "annotations"]).collect();
        if let Some(annotations) = holder.at(&["metadata", "annotations"]) {
            self.note_annotations(own, annotations, path);
        }
        Ok(())
    }

    fn custom_object(&mut self, object: &'n Node, own: ObjectKind<'n>) -> Result<(), SourceError> {
        let was_within = std::mem::replace(&mut self.within_custom, true);
        let own_parameters = special::parameters(own, object);
        let has_parameters = own_parameters.is_some();
        let outer = own_parameters.map(|own| std::mem::replace(&mut self.parameters, own));
        let read = self.read_custom_object(object, own);
        if has_parameters {
            self.parameters = outer.unwrap_or_default();
        }
        self.within_custom = was_within;
        read
    }

    fn read_custom_object(&mut self, object: &'n Node, own: ObjectKind<'n>) -> Result<(), SourceError> {
        if well_known::names_none(own.group, own.kind) {
            return Ok(());
        }
        self.special_parts(object, own)?;
        for path in well_known::find(own.group, own.kind).flat_map(well_known::WellKnown::paths) {
            crd::places_at(object, &path).into_iter().try_for_each(|place| self.place(place).map(drop))?;
        }
        self.note_rest(object, own)
    }

    /// What stands where a user says that there is an image.
    fn crd_place(&mut self, place: &'n Node) -> Result<(), SourceError> {
        // With a tag beside it, `image` is only a part of the name.
        let parts = split::parts_of(place);
        let is_part =
            |image: &Node| parts.as_ref().is_some_and(|parts| parts.parts.iter().any(|part| ptr::eq(*part, image)));
        let image = place.get("image").filter(|image| !is_part(image));
        if let Some(parts) = &parts {
            self.image_in_parts(parts, &parts.name)?;
        }
        if self.place_with(place, image)? || parts.is_some() {
            return Ok(());
        }
        let want = "a pod's specification, a container, or the name of an image";
        self.scan.leave_out(place.line, &format!("the path of --crd leads to no image here: correct it to {want}"));
        Ok(())
    }

    /// What stands where there can be a pod, a container, an image, or a reference to one. Whether there was any.
    fn place(&mut self, place: &'n Node) -> Result<bool, SourceError> {
        self.place_with(place, place.get("image"))
    }

    fn place_with(&mut self, place: &'n Node, image: Option<&'n Node>) -> Result<bool, SourceError> {
        if !place.is_mapping() {
            return self.image(place).map(|()| true);
        }
        let listed = |key: &str| place.get(key).into_iter().flat_map(Node::items);
        let containers = CONTAINERS.into_iter().flat_map(listed).filter_map(|container| container.get("image"));
        let volumes = listed("volumes").filter_map(|volume| volume.at(&["image", "reference"]));
        let images: Vec<&'n Node> = containers.chain(volumes).chain(image).collect();
        images.iter().try_for_each(|image| self.image(image))?;
        let lists = CONTAINERS.into_iter().any(|key| place.get(key).is_some());
        Ok(self.object_reference(place)? || lists || !images.is_empty())
    }

    /// The image that a value names: as a text, or as a mapping of its parts.
    fn image(&mut self, node: &'n Node) -> Result<(), SourceError> {
        if node.is_mapping() && self.split_image(node)? {
            return Ok(());
        }
        self.mark(node);
        let Some(text) = node.text() else { return self.scan.yaml_image(node) };
        let (scheme, name) = names::without_scheme(text);
        if name.contains("://") || (!scheme.is_empty() && !self.within_custom) {
            let reason = if name.starts_with("ko://") { KO } else { SCHEME };
            self.scan.leave_out(node.line, &format!("{text:?} is not the name of an image: {reason}"));
            return Ok(());
        }
        // Behind a transport such as docker:// a name may not have both a tag and a digest (containers/image), so that
        // it cannot be pinned in place.
        let within = if scheme.is_empty() { node.span() } else { 0..0 };
        let written = WrittenName { line: node.line, text: name, within, prefix: "" };
        if name.contains("{{") && (!self.within_custom || is_helm_template(name)) {
            return Err(self.scan.error(node.line, SourceProblem::Template));
        }
        let made = self.parameters.substitute(name);
        if let Ok(made) = &made {
            made.from.iter().for_each(|value| self.mark(value));
        }
        self.scan.image_of_parameters(&written, made.map(|made| made.text));
        Ok(())
    }

    fn mark(&mut self, node: &Node) {
        self.done.insert(ptr::from_ref(node));
    }
}

/// The items of a list of objects. kubectl takes every object with `items` for a list, whatever its kind
/// (k8s.io/apimachinery, `unstructuredJSONScheme`); a custom kind may have values of its own there, which say no kind.
fn list_items<'n>(object: &'n Node, own: ObjectKind<'_>) -> Option<&'n Node> {
    let items = object.get("items").filter(|items| items.is_sequence())?;
    let is_list = own.kind.ends_with("List") || builtin::find(own.group, own.kind).is_some();
    let says_kind = |item: &Node| item.get("kind").is_some_and(|kind| kind.text().is_some());
    (is_list || items.items().any(says_kind)).then_some(items)
}

/// Whether `{{…}}` is for Helm, which renders it before anything is deployed, and not for the cluster.
fn is_helm_template(text: &str) -> bool {
    let is_helm = |inner: &str| {
        let inner = inner.split("}}").next().unwrap_or(inner);
        let start = inner.trim_start_matches('-').trim_start();
        [".Values", ".Release", ".Chart", ".Capabilities"].iter().any(|name| inner.contains(name))
            || ["include ", "template ", "tpl "].iter().any(|function| start.starts_with(function))
    };
    text.split("{{").skip(1).any(is_helm)
}

#[cfg(test)]
mod tests;
