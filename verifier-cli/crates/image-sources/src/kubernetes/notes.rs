//! What in an object may name an image and was not read: each place is noted, with what to do about it.

use std::ptr;

use super::{
    CONTAINERS, ObjectKind, Reader, is_manifest,
    names::{KeyKind, key_kind, may_name_image, text_names_image},
    split,
};
use crate::{crd, model::SourceError, yaml::Node};
use taglog_base::text::line_within;

/// Characters of a value that a note shows.
const MAX_SHOWN: usize = 80;
const TEXT: &str =
    "images that this text names are not read: give it as a file of its own, or what is deployed in the end";
/// Keys of texts and lists that are given to a program, that describe, or that name no image.
const NOT_READ: [&str; 8] =
    ["args", "command", "script", "source", "description", "kind", "apiVersion", "imagePullSecrets"];
/// The same for all that stands below. Variables of the environment and arguments are not read in any kind.
const NOT_READ_BELOW: [&str; 2] = ["env", "openAPIV3Schema"];

/// What to do about a place that was not read.
#[derive(Clone, Copy)]
pub enum Advice<'n> {
    /// Give the `--crd` that reads it.
    Crd(ObjectKind<'n>),
    /// Render the chart: the values mean what its templates make of them.
    Render,
    /// Build the kustomization that the patch is for.
    Kustomize,
}

/// Walks an object with the keys that lead to where it is.
struct Notes<'n> {
    advice: Advice<'n>,
    group: &'n str,
    path: Vec<&'n str>,
}

impl<'n> Reader<'_, 'n, '_> {
    /// Notes what may name an image in an object of a custom kind, and reads the objects that stand in it.
    pub fn note_rest(&mut self, object: &'n Node, own: ObjectKind<'n>) -> Result<(), SourceError> {
        let mut notes = Notes { advice: Advice::Crd(own), group: own.group, path: Vec::new() };
        for (key, child) in object.children() {
            match key {
                Some("status") => {}
                Some("metadata") => {
                    if let Some(annotations) = child.get("annotations") {
                        self.note_annotations(own, annotations, vec!["metadata", "annotations"]);
                    }
                }
                _ => self.note_child(&mut notes, key, child)?,
            }
        }
        Ok(())
    }

    /// Notes what may name an image in the values of a chart.
    pub fn note_values(&mut self, values: &'n Node) -> Result<(), SourceError> {
        let mut notes = Notes { advice: Advice::Render, group: "", path: Vec::new() };
        self.note_below(&mut notes, values)
    }

    /// Notes what may name an image in the value that a patch sets at a path of keys.
    pub fn note_patched(&mut self, value: &'n Node, keys: &[&'n str]) -> Result<(), SourceError> {
        let is_last = |key: &str| keys.last().is_some_and(|last| *last == key);
        let is_unread = keys.iter().any(|key| NOT_READ_BELOW.contains(key))
            || (!value.is_mapping() && NOT_READ.into_iter().any(is_last))
            || matches!(keys, ["status" | "metadata"] | ["status", ..])
            || matches!(keys, ["metadata", second, ..] if *second != "annotations");
        if is_unread || self.is_done(value) {
            return Ok(());
        }
        let mut notes = Notes { advice: Advice::Kustomize, group: "", path: keys.to_vec() };
        match value.text() {
            Some(text) if !text.is_empty() && split::is_part(keys) => {
                self.note(&notes, value, text, keys);
                Ok(())
            }
            _ => self.note_below(&mut notes, value),
        }
    }

    /// Notes an operation of a patch that takes an image from another place of the object.
    pub fn note_moved(&mut self, operation: &'n Node, from: &str, keys: &[&'n str]) {
        let mut above = keys.iter().rev().copied();
        let kind = above.next().map_or(KeyKind::Other, |key| key_kind(key, above.next(), ""));
        if matches!(kind, KeyKind::Image | KeyKind::LikeImage) || split::is_part(keys) {
            let notes = Notes { advice: Advice::Kustomize, group: "", path: keys.to_vec() };
            self.note(&notes, operation, from, keys);
        }
    }

    /// Annotations whose key says that they name an image.
    pub fn note_annotations(&mut self, own: ObjectKind<'n>, annotations: &'n Node, path: Vec<&'n str>) {
        let mut notes = Notes { advice: Advice::Crd(own), group: "", path };
        for (key, value) in annotations.entries() {
            let last = key.rsplit('/').next().unwrap_or(key);
            let named = matches!(key_kind(last, None, ""), KeyKind::Image | KeyKind::LikeImage);
            if named
                && !self.is_done(value)
                && value.text().is_some_and(|text| may_name_image(KeyKind::LikeImage, text))
            {
                notes.path.push(key);
                self.note(&notes, value, value.text().unwrap_or(""), &notes.path);
                notes.path.pop();
            }
        }
    }

    fn is_done(&self, node: &Node) -> bool {
        self.done.contains(&ptr::from_ref(node))
    }

    fn note_child(&mut self, notes: &mut Notes<'n>, key: Option<&'n str>, child: &'n Node) -> Result<(), SourceError> {
        let skipped = |key: &str| NOT_READ_BELOW.contains(&key) || (!child.is_mapping() && NOT_READ.contains(&key));
        if key.is_some_and(skipped) {
            return Ok(());
        }
        let depth = notes.path.len();
        // What is merged in is read under the keys of the mapping itself.
        notes.path.extend(key.filter(|key| *key != "<<"));
        let read = self.note_below(notes, child);
        notes.path.truncate(depth);
        read
    }

    fn note_below(&mut self, notes: &mut Notes<'n>, node: &'n Node) -> Result<(), SourceError> {
        if self.is_done(node) {
            return Ok(());
        }
        if let Some(text) = node.text() {
            self.note_text(notes, node, text);
            return Ok(());
        }
        if is_manifest(node) && !notes.path.is_empty() {
            self.mark(node);
            return self.object(node, ObjectKind::default());
        }
        self.note_parts(notes, node);
        node.children().into_iter().try_for_each(|(key, child)| self.note_child(notes, key, child))
    }

    /// A mapping that names an image in parts.
    fn note_parts(&mut self, notes: &Notes<'n>, mapping: &'n Node) {
        let Some(image) = split::parts_of(mapping) else { return };
        let under_image = notes.path.last().is_some_and(|key| key_kind(key, None, notes.group) != KeyKind::Other);
        let is_new = !image.parts.iter().any(|part| self.is_done(part));
        if is_new && (under_image || image.is_certain) && may_name_image(KeyKind::LikeImage, &image.name) {
            self.note(notes, image.repository, &image.name, &notes.path);
            image.parts.iter().for_each(|part| self.mark(part));
        }
    }

    fn note_text(&mut self, notes: &Notes<'n>, node: &'n Node, text: &str) {
        let mut above = notes.path.iter().rev().copied();
        let (key, below) = (above.next(), above.next());
        let own = key.map_or(KeyKind::Other, |key| key_kind(key, below, notes.group));
        // A text in a mapping under `images`: its key is the name of what the image is for.
        let in_images = own == KeyKind::Other && below.is_some_and(|below| below.eq_ignore_ascii_case("images"));
        let kind = if in_images && text.contains([':', '/']) { KeyKind::LikeImage } else { own };
        if text_names_image(text) {
            self.mark(node);
            self.scan.leave_out(node.line, TEXT);
        } else if may_name_image(kind, text) {
            self.note(notes, node, text, suggested_path(&notes.path));
        }
    }

    fn note(&mut self, notes: &Notes<'n>, node: &'n Node, name: &str, path: &[&str]) {
        self.mark(node);
        let name = line_within(name, MAX_SHOWN);
        let reason = match notes.advice {
            Advice::Render => chart_decides(&name),
            Advice::Kustomize => format!(
                "this patch sets {name:?}, which may be an image: check the result, kubectl kustomize DIR | taglog verify -f -"
            ),
            Advice::Crd(ObjectKind { group, kind }) => {
                let unread = format!("the images of kind {} are not read here", line_within(kind, MAX_SHOWN));
                match crd::suggestion(group, kind, path) {
                    Some(option) => format!("{unread}: if {name:?} is one, read it with {option}"),
                    None => format!("{unread}: {name:?} may be one, so check what is deployed in the end"),
                }
            }
        };
        self.scan.leave_out(node.line, &reason);
    }
}

/// The note about a value of a chart.
pub fn chart_decides(name: &str) -> String {
    let name = line_within(name, MAX_SHOWN);
    format!("the chart decides which image {name} is: give the rendered chart, helm template … | taglog verify -f -")
}

/// The path to what holds an image: the pod for a container in a list, else the mapping that has the key `image`.
fn suggested_path<'p, 'n>(path: &'p [&'n str]) -> &'p [&'n str] {
    let Some((&"image", holder)) = path.split_last() else { return path };
    match holder.split_last() {
        Some((list, pod)) if CONTAINERS.contains(list) && !pod.is_empty() => pod,
        Some(_) => holder,
        None => path,
    }
}
