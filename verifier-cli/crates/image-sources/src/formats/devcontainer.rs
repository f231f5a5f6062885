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
        note_arguments(build.get("options"), build_option_names_image, scan);
    }
    for key in ["runArgs", "mounts"] {
        note_arguments(document.get(key), |text| text.contains("type=image"), scan);
    }
    Ok(())
}

/// Notes arguments of a container engine that can name an image.
fn note_arguments(arguments: Option<&Node>, names_image: fn(&str) -> bool, scan: &mut FileScan<'_>) {
    for argument in arguments.into_iter().flat_map(|list| list.items().chain(Some(list))) {
        if let Some(text) = argument.text().filter(|text| names_image(text)) {
            let reason = format!("an argument that can name an image: {text:?}: verify that image by its name");
            scan.leave_out(argument.line, &reason);
        }
    }
}

/// Contexts, caches and build arguments.
fn build_option_names_image(text: &str) -> bool {
    let value = text.rsplit_once('=').map_or("", |(_, value)| value);
    text.contains("docker-image://")
        || text.contains("type=registry")
        || text.starts_with("--cache-from")
        || (value.contains(|c: char| c.is_ascii_alphabetic()) && guess::is_image_name(value))
}
