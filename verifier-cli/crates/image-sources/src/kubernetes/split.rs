//! Images whose name is in several values: `registry`, `repository`, `tag` and `digest`, as charts of Helm have them.

use std::ptr;

use super::{
    Reader,
    names::{KeyKind, has_registry, key_kind},
};
use crate::{model::SourceError, scan::WrittenName, yaml::Node};

/// Keys for the name without tag and digest, the most specific first.
const REPOSITORY: [&str; 5] = ["repository", "repo", "newName", "image", "name"];
/// Keys for the tag.
const TAG: [&str; 4] = ["tag", "newTag", "imageTag", "image_tag"];
/// Keys for the digest; `sha` is one without `sha256:` before it.
const DIGEST: [&str; 2] = ["digest", "sha"];

/// Whether a path of keys leads to a part of the name of an image.
pub fn is_part(keys: &[&str]) -> bool {
    let Some((last, above)) = keys.split_last() else { return false };
    let under_image = above.last().is_some_and(|key| key_kind(key, None, "") != KeyKind::Other);
    let is_tag_of_image = TAG.contains(last) && key_kind(last, None, "") != KeyKind::Other;
    let is_part = || *last == "registry" || [&REPOSITORY[..], &TAG, &DIGEST].iter().any(|names| names.contains(last));
    is_tag_of_image || (under_image && is_part())
}

/// The parts of a name.
pub struct SplitImage<'n> {
    /// The value that is the name without tag and digest.
    pub repository: &'n Node,
    /// With what is known of tag and digest.
    pub name: String,
    /// Whether the registry is given.
    pub has_registry: bool,
    /// Whether a tag or a digest is given.
    pub is_complete: bool,
    /// Whether the keys are those of an image wherever the mapping stands.
    pub is_certain: bool,
    /// All values that belong to it.
    pub parts: Vec<&'n Node>,
}

/// The image that a mapping names in parts. A `name` alone is not taken for one.
pub fn parts_of(mapping: &Node) -> Option<SplitImage<'_>> {
    let part = |key: &&str| mapping.get(key).filter(|node| node.text().is_some_and(|text| !text.is_empty()));
    let (registry, image) = (part(&"registry"), part(&"image"));
    // With a repository beside it, `image` is the last part of the name (the CRDs of nvidia.com).
    let last = image.filter(|_| mapping.get("repository").is_some());
    let version = || part(&"version").filter(|_| last.is_some());
    let tag = TAG.iter().find_map(part).or_else(version);
    let digest = DIGEST.iter().find_map(part);
    let is_complete = tag.is_some() || digest.is_some();
    let is_whole = |node: &Node| node.text().is_some_and(has_tag);
    if last.is_none() && image.is_some_and(is_whole) {
        return None;
    }
    let usable = |key: &&&str| is_complete || registry.is_some() || **key == "repository";
    let repository = REPOSITORY.iter().filter(usable).find_map(part)?;
    let text = |node: Option<&Node>| node.and_then(Node::text).map(str::to_owned);
    let with_registry = text(registry).map(|registry| registry.trim_end_matches('/').to_owned());
    let name: Vec<String> = [with_registry, text(Some(repository)), text(last)].into_iter().flatten().collect();
    let mut name = name.join("/");
    let has_registry = has_registry(&name);
    if let Some(tag) = text(tag) {
        name = format!("{name}:{tag}");
    }
    if let Some(digest) = text(digest) {
        name = format!("{name}@{}{digest}", if digest.contains(':') { "" } else { "sha256:" });
    }
    let parts: Vec<&Node> = [Some(repository), registry, last, tag, digest].into_iter().flatten().collect();
    let known = ["repository", "image"].iter().filter_map(part).any(|node| ptr::eq(node, repository));
    let replaced = mapping.get("newTag").is_some() || mapping.get("newName").is_some();
    let is_certain = replaced || (known && (is_complete || has_registry));
    Some(SplitImage { repository, name, has_registry, is_complete, is_certain, parts })
}

impl<'n> Reader<'_, 'n, '_> {
    /// Reads the image that a mapping names in parts; whether it names one.
    pub fn split_image(&mut self, mapping: &'n Node) -> Result<bool, SourceError> {
        let Some(image) = parts_of(mapping) else { return Ok(false) };
        self.image_in_parts(&image, &image.name)?;
        Ok(true)
    }

    /// An image whose name is not one literal of the file.
    pub fn image_in_parts(&mut self, image: &SplitImage<'n>, name: &str) -> Result<(), SourceError> {
        image.parts.iter().for_each(|part| self.mark(part));
        let written = WrittenName { line: image.repository.line, text: name, within: 0..0, prefix: "" };
        let made = self.parameters.substitute(name).map(|made| made.text);
        self.scan.image_of_parameters(&written, made);
        Ok(())
    }
}

/// Whether a name has a tag or a digest already.
fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().unwrap_or(name).contains([':', '@'])
}
