//! docker buildx bake, in JSON: contexts that are images, and caches (docs.docker.com, "Bake file reference"). The
//! Dockerfiles of the targets are read as such. The same in HCL is not read.

use super::{guess, literal};
use crate::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

const WHO: &str = "'docker buildx bake --print'";
/// What marks an image where a context is named.
const DOCKER_IMAGE: &str = "docker-image://";
/// What marks an image in a cache of type registry.
const REF: &str = "ref=";

/// Targets that build something.
pub fn is(document: &Node) -> bool {
    let builds = |target: &Node| {
        ["context", "contexts", "dockerfile", "dockerfile-inline", "inherits", "tags"]
            .iter()
            .any(|key| target.get(key).is_some())
    };
    document.get("target").is_some_and(|targets| targets.values().any(builds))
}

/// Finds the images of every target.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    document.get("target").into_iter().flat_map(Node::values).try_for_each(|target| read_target(target, scan))
}

fn read_target(target: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for context in target.get("contexts").into_iter().flat_map(Node::values) {
        read_context(context, scan)?;
    }
    if let Some(inline) = target.get("dockerfile-inline").filter(|inline| !inline.is_null()) {
        scan.leave_out(inline.line, "a Dockerfile within a bake file is not read: give it a file of its own");
    }
    guess::note_build_args(target.get("args"), scan);
    let sources = target.get("cache-from").into_iter().flat_map(|sources| sources.items().chain(Some(sources)));
    sources.into_iter().try_for_each(|source| read_cache_source(source, scan))
}

fn read_context(context: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    match context.text().map(|text| (text, text.strip_prefix(DOCKER_IMAGE))) {
        Some((text, _)) if guess::has_variable(text) => literal(context, WHO, scan),
        Some((_, Some(name))) => read_after(context, DOCKER_IMAGE, name, scan),
        _ => Ok(()),
    }
}

fn read_after(node: &Node, prefix: &'static str, name: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let written = WrittenName { line: node.line, text: name, within: node.span(), prefix };
    scan.image(&written, Ok(name.to_owned()))
}

/// The name of an image alone, `type=registry,ref=NAME`, or the same as a mapping: what a build takes layers from. Other
/// types of caches are no images.
pub fn read_cache_source(source: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if source.is_mapping() {
        let registry = source.get("type").and_then(Node::text).is_none_or(|kind| kind == "registry");
        return source.get("ref").filter(|_| registry).map_or(Ok(()), |image| literal(image, WHO, scan));
    }
    match source.text() {
        Some(text) if guess::has_variable(text) => literal(source, WHO, scan),
        Some(text) if text.contains('=') => {
            let fields = || text.split(',').map(str::trim);
            let registry = fields().any(|field| field == "type=registry");
            match fields().find_map(|field| field.strip_prefix(REF)).filter(|_| registry) {
                Some(name) => read_after(source, "", name, scan),
                None => Ok(()),
            }
        }
        Some(_) => literal(source, WHO, scan),
        None => Ok(()),
    }
}
