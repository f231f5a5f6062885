//! devcontainer.json: the image of a development container, and images to take build caches from
//! (containers.dev/implementors/json_reference). A Dockerfile and Compose files that it names are read as such. Features
//! are archives, not images.

use super::{bake::read_cache_source, guess, literal_at};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

const WHO: &str = "the tool that opens the container";

/// Finds the images of a file.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    literal_at(document, "image", WHO, scan)?;
    if let Some(build) = document.get("build") {
        guess::note_build_args(build.get("args"), scan);
        let sources = build.get("cacheFrom").into_iter().flat_map(|sources| sources.items().chain(Some(sources)));
        sources.into_iter().try_for_each(|source| read_cache_source(source, scan))?;
    }
    Ok(())
}
