//! The `build` of a Compose service: additional contexts, a Dockerfile within the file, the frontend and the generator of
//! the SBOM. Caches (`cache_from`, `cache_to`) are left alone: what a cache holds is used under the digests that the build
//! computes, and is never run under its name. A Dockerfile in the context is a file of its own; what only the arguments
//! of this build make of it is found here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Values, WHOLE, written};
use crate::{
    dockerfile,
    model::{FoundImage, Place, SourceError},
    scan::{FileScan, WrittenName},
    yaml::Node,
    yaml_number::scalar_text,
};

/// What marks an image among the sources of a build (docs.docker.com, "Compose Build Specification").
const DOCKER_IMAGE: &str = "docker-image://";
/// The build argument that names the frontend, an image (docs.docker.com, "BuildKit built-in build args").
const SYNTAX: &str = "BUILDKIT_SYNTAX";

/// Finds the images of a build, which is a mapping or the context alone.
pub fn read(build: &Node, values: &Values, scan: &mut FileScan) -> Result<(), SourceError> {
    let context = if build.is_mapping() { build.get("context") } else { Some(build) };
    let inline = written(build, "dockerfile_inline");
    if let Some(context) = context.filter(|_| inline.is_none()) {
        note_remote(context, values, scan);
    }
    for setting in settings(build, "additional_contexts") {
        setting.read_context(values, scan)?;
    }
    if let Some(sbom) = written(build, "sbom") {
        read_generator(sbom, values, scan)?;
    }
    match inline {
        Some(inline) => read_inline(build, inline, values, scan),
        None => {
            read_context(build, context, values, scan);
            settings(build, "args").into_iter().try_for_each(|setting| setting.read_frontend(values, scan))
        }
    }
}

/// The Dockerfile of a context elsewhere is not read, and not in a file that could be given.
fn note_remote(context: &Node, values: &Values, scan: &mut FileScan) {
    let Some(Ok(text)) = context.text().map(|text| values.resolve(text)) else { return };
    if text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/") {
        let reason = "the Dockerfile of this build is not here: check out its source, and verify that";
        scan.leave_out(context.line, reason);
    }
}

/// Adds the images that a Dockerfile in the context names with the arguments of this build, and not without them.
fn read_context(build: &Node, context: Option<&Node>, values: &Values, scan: &mut FileScan) {
    let (args, unknown) = known_args(build, values, scan);
    let Some(list) = written(build, "args").filter(|_| !args.is_empty()) else { return };
    let resolved = |node: Option<&Node>, default: &str| match node.and_then(Node::text) {
        Some(text) => values.resolve(text).ok(),
        None => Some(default.to_owned()),
    };
    let Some(context) = resolved(context, ".") else { return };
    let Some(name) = resolved(written(build, "dockerfile"), "Dockerfile") else { return };
    let line = list.children().first().map_or(list.line, |(_, first)| first.line);
    let text = match values.build_contexts.read(&context, &name) {
        Ok(Some(text)) => text,
        Ok(None) => return,
        Err(reason) => return scan.leave_out(line, &reason),
    };
    let images = |args: &BTreeMap<String, String>| {
        let mut part = scan.part(&text);
        dockerfile::read(&text, args, &mut part).ok().map(|()| part.finish())
    };
    // A file that is broken is an error where it is read itself.
    let (Some(mut with), Some(without)) = (images(&args), images(&BTreeMap::new())) else { return };
    let reference = |image: &FoundImage| format!("{:?}", image.reference);
    let images: HashSet<String> = without.images.iter().map(reference).collect();
    with.images.retain(|image| !images.contains(&reference(image)));
    let notes: HashSet<(usize, &str)> = without.left_out.iter().map(|note| (note.place.line, &*note.reason)).collect();
    with.left_out.retain(|note| !notes.contains(&(note.place.line, &*note.reason)));
    if !unknown.is_empty() && !with.left_out.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
        scan.leave_out(
            line,
            &format!("images of the Dockerfile depend on build arguments without a value here ({names}): {WHOLE}"),
        );
        with.left_out.clear();
    }
    scan.add_part(with, |_| line);
}

/// The arguments of a build, and the names of those without a known value. They get one that no image can have, so that
/// it shows where they are used.
fn known_args(build: &Node, values: &Values, scan: &FileScan) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut args, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    for setting in settings(build, "args") {
        let name = setting.name.to_owned();
        match setting.argument(values, scan) {
            Ok(Some(value)) => drop(args.insert(name, value)),
            Ok(None) => {}
            Err(_) => {
                args.insert(name.clone(), "\u{1}".to_owned());
                unknown.insert(name);
            }
        }
    }
    (args, unknown)
}

/// One of a list of settings: `NAME: VALUE` in a mapping, `NAME=VALUE` in a list, or the name alone.
struct Setting<'a> {
    name: &'a str,
    /// The value, of which the name is a part in a list.
    node: &'a Node,
    /// In a list, `NAME=`.
    prefix: &'a str,
    /// `None` for what has no value here.
    value: Option<&'a str>,
}

fn settings<'a>(build: &'a Node, key: &str) -> Vec<Setting<'a>> {
    let Some(list) = build.get(key) else { return Vec::new() };
    let entry = |(name, node): (&'a str, &'a Node)| Setting { name, node, prefix: "", value: node.text() };
    let item = |node: &'a Node| {
        let text = node.text()?;
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let prefix = value.map_or("", |value| &text[..text.len() - value.len()]);
        Some(Setting { name, node, prefix, value })
    };
    list.entries().map(entry).chain(list.items().filter_map(item)).collect()
}

impl Setting<'_> {
    /// The value as a build argument. One without a value comes from the environment, and is none if that has none.
    fn argument(&self, values: &Values, scan: &FileScan) -> Result<Option<String>, String> {
        match self.value {
            Some(_) if self.prefix.is_empty() => values.resolve(scalar_text(self.node, scan)?).map(Some),
            Some(value) => values.resolve(value).map(Some),
            None if values.dotenv.sets(self.name) => {
                Err(format!("the file .env may set the build argument {}: {WHOLE}", self.name))
            }
            None => Ok(None),
        }
    }

    /// A context that is an image. Others are directories, repositories and services of the project.
    fn read_context(&self, values: &Values, scan: &mut FileScan) -> Result<(), SourceError> {
        let Some(text) = self.value else { return Ok(()) };
        let name = match values.resolve(text).map(|value| value.strip_prefix(DOCKER_IMAGE).map(str::to_owned)) {
            Ok(None) => return Ok(()),
            Ok(Some(name)) => Ok(name),
            Err(reason) => Err(reason),
        };
        let prefix = format!("{}{DOCKER_IMAGE}", self.prefix);
        let (text, prefix) = text.strip_prefix(DOCKER_IMAGE).map_or((text, ""), |name| (name, prefix.as_str()));
        scan.image_or_reason(&WrittenName { line: self.node.line, text, within: self.node.span(), prefix }, name)
    }

    /// The image that reads the Dockerfile, if it is this argument.
    fn read_frontend(&self, values: &Values, scan: &mut FileScan) -> Result<(), SourceError> {
        let Some(text) = self.value.filter(|_| self.name == SYNTAX) else { return Ok(()) };
        // What follows the name is for the frontend; a version of the one that is built in is no image.
        let name = values.resolve(text).map(|value| value.trim().split(' ').next().unwrap_or_default().to_owned());
        if name.as_deref() == Ok("dockerfile.v0") {
            return Ok(());
        }
        let written = WrittenName { line: self.node.line, text, within: self.node.span(), prefix: self.prefix };
        scan.image_or_reason(&written, name)
    }
}

/// `generator=IMAGE` among the properties of the SBOM; the image is run within the build.
fn read_generator(sbom: &Node, values: &Values, scan: &mut FileScan) -> Result<(), SourceError> {
    let Some(text) = sbom.text() else { return Ok(()) };
    let written = WrittenName { line: sbom.line, text, within: 0..0, prefix: "" };
    match values.resolve(text) {
        Err(reason) => scan.image_or_reason(&written, Err(reason)),
        Ok(properties) => {
            let image = properties.split(',').find_map(|property| property.trim().strip_prefix("generator="));
            image.map_or(Ok(()), |image| scan.image_or_reason(&written, Ok(image.to_owned())))
        }
    }
}

/// A Dockerfile as a text in the Compose file. Compose replaces its own variables in it first (`$$` is for the build).
fn read_inline(build: &Node, inline: &Node, values: &Values, scan: &mut FileScan) -> Result<(), SourceError> {
    let Some(text) = inline.text() else {
        scan.leave_out(inline.line, "dockerfile_inline is not a text");
        return Ok(());
    };
    let first = scan.first_line_of(inline, text);
    let line_of = |line: usize| first.map_or(inline.line, |first| first + line.max(1) - 1);
    let dockerfile = text.split_inclusive('\n').enumerate().try_fold(String::new(), |mut all, (index, line)| {
        all.push_str(&values.resolve_line(line).map_err(|reason| (line_of(index + 1), reason))?);
        Ok(all)
    });
    let prepared = dockerfile.and_then(|dockerfile| Ok((dockerfile, build_args(build, values, scan)?)));
    let (dockerfile, build_args) = match prepared {
        Ok(prepared) => prepared,
        Err((line, reason)) => {
            scan.leave_out(line, &reason);
            return Ok(());
        }
    };
    let mut part = scan.part(&dockerfile);
    dockerfile::read(&dockerfile, &build_args, &mut part).map_err(|SourceError { place, problem }| SourceError {
        place: Place { line: line_of(place.line), ..place },
        problem,
    })?;
    scan.add_part(part.finish(), line_of);
    Ok(())
}

impl Values {
    /// Only lines with a variable are expanded: the bound is for names, and a line of a script may be longer.
    fn resolve_line(&self, line: &str) -> Result<String, String> {
        if line.contains('$') { self.resolve(line) } else { Ok(line.to_owned()) }
    }
}

/// The arguments of a build, or the line of the first whose value is not known and why.
fn build_args(build: &Node, values: &Values, scan: &FileScan) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut args = BTreeMap::new();
    for setting in settings(build, "args") {
        if let Some(value) = setting.argument(values, scan).map_err(|reason| (setting.node.line, reason))? {
            args.insert(setting.name.to_owned(), value);
        }
    }
    Ok(args)
}
