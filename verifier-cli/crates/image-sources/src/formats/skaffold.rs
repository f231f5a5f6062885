//! skaffold: the images that it runs and builds on (skaffold.dev/docs/references/yaml). What it builds is named in it, and
//! comes from no registry; manifests and Dockerfiles that it uses are read as such.

use super::{bake::read_cache_source, guess, literal};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

const WHO: &str = "skaffold";
const RENDERED: &str = "check what comes of it, skaffold render | taglog verify -f -";
/// Where an artifact names the images that it is built with.
const BUILT_WITH: [&[&str]; 6] = [
    &["buildpacks", "builder"],
    &["buildpacks", "runImage"],
    &["jib", "fromImage"],
    &["ko", "fromImage"],
    &["kaniko", "image"],
    &["kaniko", "initImage"],
];

/// What Google Cloud Build runs to build artifacts.
const CLOUD_BUILDERS: [&str; 6] = ["dockerImage", "kanikoImage", "mavenImage", "gradleImage", "packImage", "koImage"];
/// Where an artifact has arguments for its Dockerfile.
const BUILD_ARGS: [&[&str]; 3] = [&["docker", "buildArgs"], &["kaniko", "buildArgs"], &["custom", "buildArgs"]];
/// What a release of Helm is given.
const SET_VALUES: [&str; 3] = ["setValues", "setValueTemplates", "overrides"];

/// A document with skaffold's own version.
pub fn is(document: &Node) -> bool {
    document.get("apiVersion").and_then(Node::text).is_some_and(|version| version.starts_with("skaffold/"))
}

/// Finds the images of the file and of its profiles.
pub fn read(document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let profiles = document.get("profiles").into_iter().flat_map(Node::items);
    std::iter::once(document).chain(profiles).try_for_each(|pipeline| read_pipeline(pipeline, scan))
}

fn read_pipeline(pipeline: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    for artifact in pipeline.at(&["build", "artifacts"]).into_iter().flat_map(Node::items) {
        read_artifact(artifact, scan)?;
    }
    if let Some(cloud_build) = pipeline.at(&["build", "googleCloudBuild"]) {
        CLOUD_BUILDERS.iter().try_for_each(|key| super::literal_at(cloud_build, key, WHO, scan))?;
    }
    for helm in [["deploy", "helm"], ["manifests", "helm"]].iter().filter_map(|path| pipeline.at(path)) {
        listed(helm, "releases").for_each(|release| note_release(release, scan));
    }
    let verified = listed(pipeline, "verify").filter_map(|test| test.get("container"));
    let actions = listed(pipeline, "customActions").flat_map(|action| listed(action, "containers"));
    for container in verified.chain(actions) {
        super::literal_at(container, "image", WHO, scan)?;
    }
    for patch in
        listed(pipeline, "patches").filter(|patch| patch.get("path").and_then(Node::text).is_some_and(is_image_path))
    {
        scan.leave_out(
            patch.line,
            "a profile that changes an image: give the result of 'skaffold diagnose --yaml-only'",
        );
    }
    Ok(())
}

fn read_artifact(artifact: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if let Some((image, name)) = artifact.get("image").and_then(|image| Some((image, image.text()?))) {
        scan.exclude(image.line, name, "the name that skaffold gives to what it builds");
    }
    BUILD_ARGS.iter().for_each(|path| guess::note_build_args(artifact.at(path), scan));
    for source in artifact.at(&["docker", "cacheFrom"]).into_iter().flat_map(Node::items) {
        read_cache_source(source, scan)?;
    }
    BUILT_WITH.iter().filter_map(|path| artifact.at(path)).try_for_each(|image| literal(image, WHO, scan))
}

/// Values that name an image. Those that skaffold fills in with what it built have a template.
fn note_release(release: &Node, scan: &mut FileScan<'_>) {
    for values in SET_VALUES.iter().filter_map(|key| release.get(key)) {
        for (key, value) in values.entries() {
            let is_built = value.text().is_some_and(|text| text.replace(' ', "").contains("{{.IMAGE_"));
            let names_image = guess::images_below(value, &[]).is_some()
                || (guess::is_image_key(key) && !value.is_null())
                || value.text().is_some_and(guess::is_image_name);
            if names_image && !is_built {
                scan.leave_out(value.line, &format!("a value for a chart, and can be an image: {key}: {RENDERED}"));
            }
        }
    }
}

fn listed<'a>(holder: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    holder.get(key).into_iter().flat_map(Node::items)
}

fn is_image_path(path: &str) -> bool {
    path.to_ascii_lowercase().contains("image") || path.ends_with("/builder")
}
