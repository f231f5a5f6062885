//! Google Cloud Build: the `name` of a step is its image (cloud.google.com/build/docs/build-config-file-schema). `images`
//! are results. A substitution has the value that the file gives it; one of the trigger is not in the file.

use super::{guess, substitute};
use crate::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// What a step has besides its image.
const STEP_KEYS: [&str; 5] = ["args", "entrypoint", "script", "waitFor", "secretEnv"];

/// Steps whose name is an image. Steps of other tools have their image under a key of its own.
pub fn is(document: &Node) -> bool {
    let step = |step: &Node| {
        let name = step.get("name").and_then(Node::text);
        name.is_some_and(|name| name.contains(['/', ':']) && !name.contains(' '))
            && STEP_KEYS.iter().any(|key| step.get(key).is_some())
    };
    let steps = || document.get("steps").into_iter().flat_map(Node::items);
    document.get("apiVersion").is_none() && steps().any(step) && steps().all(|step| step.get("image").is_none())
}

/// Finds the images of the steps.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for step in document.get("steps").into_iter().flat_map(Node::items) {
        if let Some(image) = step.get("image") {
            scan.leave_out(image.line, "a step of Cloud Build has no 'image': this file may be of another kind");
        }
        if let Some(name) = step.get("name") {
            read_name(name, document.get("substitutions"), scan)?;
        }
    }
    Ok(())
}

fn read_name(name: &Node, substitutions: Option<&Node>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let Some(text) = name.text().filter(|text| guess::has_variable(text)) else {
        return scan.yaml_image(name);
    };
    let value_of = |variable: &str| substitutions?.get(variable)?.text().map(str::to_owned);
    match substitute(text, &value_of) {
        Some(resolved) => {
            let written = WrittenName { line: name.line, text, within: name.span(), prefix: "" };
            scan.image(&written, Ok(resolved))
        }
        None => {
            let reason =
                format!("{text:?} has a substitution without a value in this file: only Cloud Build knows the image");
            scan.leave_out(name.line, &reason);
            Ok(())
        }
    }
}
