//! Kustomize: what a `kustomization.yaml` and its patches do to the images of the manifests that it lists.
//!
//! The manifests are files of their own, and are read as such. What is deployed is what `kubectl kustomize` makes of
//! them: wherever a kustomization changes images, or adds what is not in its directory, that is noted.

use std::path::Path;

use super::{ObjectKind, Reader, is_manifest, names::text_names_image};
use crate::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::{self, Node},
};
use taglog_base::text::line_within;

/// Characters of a value that a note shows.
const MAX_SHOWN: usize = 80;
/// `RecognizedKustomizationFileNames` in kustomize's `api/konfig/general.go`.
const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Fields of `Kustomization` (kustomize's `api/types/kustomization.go`) that list patches.
const PATCHES: [&str; 3] = ["patches", "patchesStrategicMerge", "patchesJson6902"];
/// Fields that list what is deployed besides: files, directories and addresses.
const LISTED: [&str; 3] = ["resources", "bases", "components"];
/// Fields that run something which can name any image.
const GENERATED: [&str; 4] = ["helmCharts", "helmChartInflationGenerator", "generators", "transformers"];
/// Fields that copy values between objects.
const COPIED: [&str; 2] = ["replacements", "vars"];

/// Whether a document of a file is a kustomization. One need not say its kind if the name of the file does.
pub fn is_kustomization(path: &Path, document: &Node) -> bool {
    let text = |key: &str| document.get(key).and_then(Node::text);
    let named = path.file_name().is_some_and(|name| FILE_NAMES.iter().any(|known| name == *known));
    // Flux has a kind of the same name, whose files often have the same name too.
    let says = text("apiVersion").map(|version| version.starts_with("kustomize.config.k8s.io/"));
    let is_unnamed = || text("kind").is_none_or(|kind| kind == "Kustomization");
    document.is_mapping() && says.unwrap_or_else(|| named && is_unnamed())
}

/// Reads the images that a kustomization names, and notes what else changes images.
///
/// # Errors
/// An image with a template in it.
pub fn read_kustomization(path: &Path, document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let directory = path.parent().filter(|_| path != Path::new("-")).map(|parent| parent.display().to_string());
    let directory = directory.map_or("DIR".to_owned(), |name| if name.is_empty() { ".".to_owned() } else { name });
    let render = format!("check what it makes of them, kubectl kustomize {directory} | taglog verify -f -");
    let mut reader = Reader::new(&[], scan);
    reader.within_custom = true;
    let entries = |key: &str| document.get(key).into_iter().flat_map(Node::items);
    for key in ["images", "imageTags"] {
        if entries(key).next().is_some() {
            let line = entries(key).next().map_or(1, |first| first.line);
            reader.scan.leave_out(
                line,
                &format!("other images are put in the place of those of the manifests here: {render}"),
            );
        }
        entries(key).try_for_each(|entry| reader.kustomize_image(entry))?;
    }
    for patch in PATCHES.into_iter().flat_map(entries) {
        reader.note_patch(patch, &render);
    }
    for copied in COPIED.into_iter().flat_map(entries).filter(|copied| mentions_image(copied) || has_path(copied)) {
        reader.scan.leave_out(copied.line, &format!("this may copy the name of an image: {render}"));
    }
    for generated in GENERATED.into_iter().flat_map(entries) {
        reader
            .scan
            .leave_out(generated.line, &format!("this adds or changes objects, whose images are not read: {render}"));
    }
    let listed: Vec<&Node> = LISTED.into_iter().flat_map(entries).collect();
    let elsewhere: Vec<&Node> = listed.into_iter().filter(|listed| listed.text().is_some_and(is_elsewhere)).collect();
    if let Some((first, others)) = elsewhere.split_first() {
        let shown = line_within(first.text().unwrap_or(""), MAX_SHOWN);
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        reader.scan.leave_out(first.line, &format!("{shown:?}{more} is not in this directory: {render}"));
    }
    Ok(())
}

/// Whether a document is a list of JSON patch operations (RFC 6902), as kustomize takes them from files.
pub fn is_json_patch(document: &Node) -> bool {
    let is_operation = |item: &Node| {
        let text = |key: &str| item.get(key).and_then(Node::text);
        // The empty path is the whole object.
        text("op").is_some() && text("path").is_some_and(|path| path.is_empty() || path.starts_with('/'))
    };
    document.items().next().is_some() && document.items().all(is_operation)
}

/// Reads the images that a JSON patch sets, and notes what else in it may be an image.
///
/// # Errors
/// An image with a template in it.
pub fn read_json_patch(document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let mut reader = Reader::new(&[], scan);
    reader.within_custom = true;
    document.items().try_for_each(|operation| reader.patch_operation(operation))
}

/// Whether a patch within a kustomization sets what may be an image. One that cannot be read may.
fn sets_image(text: &str, scan: &FileScan) -> bool {
    let Ok(readings) = yaml::parse(text) else { return true };
    let mut part = scan.part(text);
    let mut documents = readings.iter().flatten();
    let read = documents.try_for_each(|document| {
        if is_json_patch(document) {
            return read_json_patch(document, &mut part);
        }
        if !document.is_mapping() {
            return Ok(());
        }
        let mut reader = Reader::new(&[], &mut part);
        reader.within_custom = true;
        if is_manifest(document) {
            reader.object(document, ObjectKind::default())
        } else {
            reader.patched_value(document, &[])
        }
    });
    let found = part.finish();
    read.is_err() || !found.images.is_empty() || !found.left_out.is_empty()
}

impl<'n> Reader<'_, 'n, '_> {
    /// An entry of `images`: `name` and what takes its place.
    pub fn kustomize_image(&mut self, entry: &'n Node) -> Result<(), SourceError> {
        entry.get("name").into_iter().for_each(|name| self.mark(name));
        let has = |key: &str| entry.get(key).is_some_and(|node| node.text().is_some_and(|text| !text.is_empty()));
        if has("newTag") || has("digest") {
            return self.split_image(entry).map(drop);
        }
        if let Some(name) = entry.get("newName") {
            self.mark(name);
            self.scan.leave_out(name.line, "the tag of this image is in the manifests: write newTag or digest too");
        }
        Ok(())
    }

    /// An entry of `kustomize.images` of Argo CD: `[NAME=]IMAGE`.
    pub fn kustomize_override(&mut self, entry: &'n Node) -> Result<(), SourceError> {
        self.mark(entry);
        let Some(text) = entry.text() else { return Ok(()) };
        let image = text.split_once('=').map_or(text, |(_, image)| image);
        let last = image.rsplit('/').next().unwrap_or(image);
        if !last.contains([':', '@']) {
            self.scan.leave_out(entry.line, "the tag of this image is in the manifests: write it here too");
            return Ok(());
        }
        let written = WrittenName { line: entry.line, text: image, within: 0..0, prefix: "" };
        let made = self.parameters.substitute(image).map(|made| made.text);
        self.scan.image_of_parameters(&written, made);
        Ok(())
    }

    fn note_patch(&mut self, patch: &'n Node, render: &str) {
        // `patches` has the text under a key, `patchesStrategicMerge` is a list of texts or of names of files.
        let inline = patch.get("patch").unwrap_or(patch);
        if inline.text().is_some_and(|text| text_names_image(text) || sets_image(text, self.scan)) {
            self.scan.leave_out(inline.line, &format!("this patch may change images: {render}"));
        }
        if [patch.get("path"), Some(patch)].into_iter().flatten().filter_map(Node::text).any(is_outside) {
            self.scan.leave_out(patch.line, &format!("this patch is not in this directory: {render}"));
        }
    }

    /// An operation of a JSON patch.
    fn patch_operation(&mut self, operation: &'n Node) -> Result<(), SourceError> {
        let text = |key: &str| operation.get(key).and_then(Node::text);
        let Some(path) = text("path") else { return Ok(()) };
        // A list has no keys, and its places are numbers or `-` (RFC 6901).
        let is_key = |part: &&str| !part.is_empty() && *part != "-" && part.parse::<u64>().is_err();
        let keys: Vec<&str> = path.split('/').filter(is_key).collect();
        match (operation.get("value"), text("from")) {
            (Some(value), _) if path.ends_with("/image") && !value.is_null() => self.image(value),
            (Some(value), _) => self.patched_value(value, &keys),
            (None, Some(from)) => {
                self.note_moved(operation, from, &keys);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// What a patch sets at a path of keys.
    fn patched_value(&mut self, value: &'n Node, keys: &[&'n str]) -> Result<(), SourceError> {
        self.images_below(value)?;
        self.note_patched(value, keys)
    }

    fn images_below(&mut self, node: &'n Node) -> Result<(), SourceError> {
        if node.is_mapping() {
            self.place(node)?;
        }
        node.children().into_iter().try_for_each(|(_, child)| self.images_below(child))
    }
}

fn mentions_image(node: &Node) -> bool {
    let own = node.text().is_some_and(|text| text.to_ascii_lowercase().contains("image"));
    own || node.children().into_iter().any(|(_, child)| mentions_image(child))
}

fn has_path(node: &Node) -> bool {
    node.get("path").is_some()
}

fn is_outside(path: &str) -> bool {
    !path.contains('\n') && (path.starts_with("../") || path == "..")
}

/// Whether what a kustomization lists is an address, or not below its directory.
fn is_elsewhere(listed: &str) -> bool {
    let first = listed.split('/').next().unwrap_or("");
    let is_host = first != "." && first != ".." && first.contains('.') && listed.contains('/');
    is_outside(listed) || listed.contains("://") || listed.contains("?ref=") || is_host || listed.starts_with("git@")
}
